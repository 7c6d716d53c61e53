//! Waiting in a session that is this program's own.
//!
//! Invariant: the session is closed when the wait has failed, so nothing waits for a program that
//! has gone.

use std::{collections::BTreeMap, ffi::OsStr, time::Duration};

use lockstep_client::{AcquireError, Client, Session, SessionOptions};
use tokio::time::sleep;

use crate::{child::signals::Signals, exit::Failure, output::Output};

/// How long a wait is silent.
const SILENT_WAIT: Duration = Duration::from_secs(1);
/// Longest label that the cluster takes.
const MAX_LABEL_BYTES: usize = 256;

/// Opens the session; `doing` is for `session ls`.
pub(crate) async fn open(
    client: &Client,
    ttl: Duration,
    doing: &OsStr,
) -> Result<Session, Failure> {
    let options = SessionOptions {
        ttl,
        labels: labels(doing),
        ..SessionOptions::default()
    };
    Ok(client.open_session(options).await?)
}

/// Waits for `what`; a signal gives it up. `explain` puts an error into the command's words.
pub(crate) async fn until<T>(
    session: &Session,
    attempt: impl Future<Output = Result<T, AcquireError>>,
    what: &str,
    explain: impl FnOnce(AcquireError) -> Failure,
    signals: &mut Signals,
    output: &Output,
) -> Result<T, Failure> {
    let progress = async {
        sleep(SILENT_WAIT).await;
        output.progress(format_args!("waiting for {what}; Ctrl-C gives up"));
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        acquired = attempt => acquired.map_err(explain),
        signal = signals.ending() => Err(Failure::Interrupted { signal }),
        () = progress => Err(Failure::Other("a wait ended without a reason".to_owned())),
    };
    if outcome.is_err() {
        close(session, output).await;
    }
    outcome
}

/// Ends the session, and with it the wait or the hold. The TTL does it where this fails.
pub(crate) async fn close(session: &Session, output: &Output) {
    if let Err(error) = session.close().await {
        output.hint(format_args!(
            "what was held could not be released ({error}): it becomes free when its TTL is over"
        ));
    }
}

/// The name of this machine.
pub(crate) fn host() -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    host.to_string_lossy().into_owned()
}

/// What `session ls` shows of this.
fn labels(doing: &OsStr) -> BTreeMap<String, String> {
    [
        ("client", "lockstepctl".to_owned()),
        ("command", doing.to_string_lossy().into_owned()),
        ("host", host()),
        ("pid", std::process::id().to_string()),
    ]
    .into_iter()
    .map(|(key, mut value)| {
        while value.len() > MAX_LABEL_BYTES {
            value.pop();
        }
        (key.to_owned(), value)
    })
    .collect()
}
