//! `lock ls` and `lock show`: who holds and who waits.

use lockstep_client::{Client, Holder, LockInfo, Mode};

use crate::{
    args::Format,
    command::collect,
    exit::Failure,
    output::Output,
    row::{Lock, LockList, mode},
    span::show_age,
    table::{Table, printable},
};

/// Lists the locks that are held or waited for.
pub(crate) async fn list(
    client: &Client,
    prefix: &str,
    limit: u32,
    output: &Output,
) -> Result<(), Failure> {
    let page = |rows, token: String| async move { client.list_locks(prefix, rows, &token).await };
    let (locks, truncated) = collect(limit, page).await?;
    match output.format() {
        Format::Json => {
            let locks = locks.iter().map(Lock::from).collect();
            output.json(&LockList { locks, truncated })?;
        }
        Format::Table => {
            let mut table = Table::new(["NAME", "MODE", "TOKEN", "WAITING", "FOR", "SESSION"]);
            for lock in &locks {
                // The oldest holder stands for all.
                let first = lock.holders.iter().min_by_key(|holder| holder.since);
                table.row([
                    lock.name.as_str().into(),
                    first
                        .and_then(|holder| holder.mode)
                        .map_or("-", mode)
                        .into(),
                    latest_token(lock).into(),
                    lock.waiter_count.into(),
                    first
                        .map_or("-".to_owned(), |holder| show_age(holder.since))
                        .into(),
                    sessions(first, lock.holders.len()).into(),
                ]);
            }
            output.write(&table.render(output.has_colour()))?;
            if locks.is_empty() {
                output.progress("no lock with such a name is held or waited for");
            }
        }
    }
    if truncated {
        output.hint(format_args!(
            "only the first {limit} are shown: name a prefix, or raise --limit"
        ));
    }
    Ok(())
}

/// Shows one lock.
pub(crate) async fn show(client: &Client, name: &str, output: &Output) -> Result<(), Failure> {
    let lock = client.get_lock(name).await?;
    match output.format() {
        Format::Json => output.json(&Lock::from(&lock)),
        Format::Table => output.write(&in_words(&lock, output.has_colour())),
    }
}

fn in_words(lock: &LockInfo, colour: bool) -> String {
    let mut text = format!("{}, in shard {}\n", printable(&lock.name), lock.shard);
    if lock.holders.is_empty() {
        text += "free\n";
    } else {
        let mut table = Table::new(["HELD BY", "OWNER", "MODE", "TOKEN", "HOLDS", "FOR"]);
        for holder in &lock.holders {
            table.row([
                holder.session.to_string().into(),
                holder.owner.as_str().into(),
                mode_or_dash(holder.mode).into(),
                holder.token.0.into(),
                holder.holds.into(),
                show_age(holder.since).into(),
            ]);
        }
        text += "\n";
        text += &table.render(colour);
    }
    if !lock.waiters.is_empty() {
        let mut table = Table::new(["WAITING", "OWNER", "MODE", "PLACE", "FOR"]);
        for (place, waiter) in (1_usize..).zip(&lock.waiters) {
            let what = mode_or_dash(waiter.mode);
            table.row([
                waiter.session.to_string().into(),
                waiter.owner.as_str().into(),
                if waiter.upgrade { "upgrade" } else { what }.into(),
                place.into(),
                show_age(waiter.since).into(),
            ]);
        }
        text += "\n";
        text += &table.render(colour);
    }
    let listed = u32::try_from(lock.waiters.len()).unwrap_or(u32::MAX);
    if lock.waiter_count > listed {
        text += &format!("and {} more\n", lock.waiter_count - listed);
    }
    text
}

fn mode_or_dash(of: Option<Mode>) -> &'static str {
    of.map_or("-", mode)
}

fn latest_token(lock: &LockInfo) -> String {
    let tokens = lock.holders.iter().map(|holder| holder.token);
    tokens
        .max()
        .map_or("-".to_owned(), |token| token.to_string())
}

fn sessions(first: Option<&Holder>, count: usize) -> String {
    match (first, count) {
        (None, _) => "-".to_owned(),
        (Some(holder), 0 | 1) => holder.session.to_string(),
        (Some(holder), more) => format!("{} and {} more", holder.session, more - 1),
    }
}
