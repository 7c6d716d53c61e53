//! `session ls` and `session close`.

use lockstep_client::{Client, Release, SessionId, SessionInfo};

use crate::{
    args::Format,
    command::collect,
    exit::Failure,
    output::Output,
    row::{Closed, Session, SessionList},
    span::{show, show_age},
    table::{Cell, Table},
};

/// Lists the open sessions.
pub(crate) async fn list(client: &Client, limit: u32, output: &Output) -> Result<(), Failure> {
    let page = |rows, token: String| async move { client.list_sessions(rows, &token).await };
    let (sessions, truncated) = collect(limit, page).await?;
    match output.format() {
        Format::Json => {
            let sessions = sessions.iter().map(Session::from).collect();
            output.json(&SessionList {
                sessions,
                truncated,
            })?;
        }
        Format::Table => {
            let head = [
                "SESSION", "STATE", "TTL", "AGE", "EPOCH", "PRIORITY", "SHARDS", "LABELS",
            ];
            let mut table = Table::new(head);
            for session in &sessions {
                table.row(cells(session));
            }
            output.write(&table.render(output.has_colour()))?;
            if sessions.is_empty() {
                output.progress("no session is open");
            }
        }
    }
    if truncated {
        output.hint(format_args!(
            "only the first {limit} are shown: raise --limit"
        ));
    }
    Ok(())
}

fn cells(session: &SessionInfo) -> [Cell; 8] {
    let labels: Vec<String> = session
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    [
        session.id.to_string().into(),
        if session.ending { "ending" } else { "open" }.into(),
        show(session.ttl).into(),
        show_age(session.opened).into(),
        session.epoch.0.into(),
        session.priority.0.into(),
        session.shards.len().into(),
        labels.join(" ").into(),
    ]
}

/// Ends a session.
pub(crate) async fn close(
    client: &Client,
    id: SessionId,
    release: Release,
    output: &Output,
) -> Result<(), Failure> {
    let lease = client.close_session(id, release).await?;
    match output.format() {
        Format::Json => output.json(&Closed {
            session: id.to_string(),
            closed: true,
            lease_ms: u64::try_from(lease.as_millis()).unwrap_or(u64::MAX),
        }),
        Format::Table if !lease.is_zero() => output.write(&format!(
            "session {id} is closed; what it holds is released when its lease is over, in at most {}\n",
            show(lease)
        )),
        Format::Table => output.write(&format!(
            "session {id} is closed; what it held is released\n"
        )),
    }
}
