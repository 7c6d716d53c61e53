//! `lock ls`, `lock show` and `lock validate`: who holds and who waits.
//!
//! Invariant: what is shown of a lock is what the cluster says of it, and nothing else.

use lockstep_client::{Client, FencingToken, Holder, LockInfo, Mode};

use crate::{
    args::Format,
    command::collect,
    exit,
    exit::Failure,
    output::Output,
    row::{Lock, LockList, Validated, mode},
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
                    used_as(lock).into(),
                    latest_token(lock).into(),
                    lock.waiter_count.into(),
                    first
                        .map_or("-".to_owned(), |holder| show_age(holder.since))
                        .into(),
                    sessions(first, lock.holder_count as usize).into(),
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
        let head = ["HELD BY", "OWNER", "MODE", "TOKEN", "HOLDS", "FOR", "SAYS"];
        let mut table = Table::new(head);
        for holder in &lock.holders {
            table.row([
                holder.session.to_string().into(),
                holder.owner.as_str().into(),
                mode_in_words(holder.mode).into(),
                holder.token.0.into(),
                holder.holds.into(),
                show_age(holder.since).into(),
                String::from_utf8_lossy(&holder.value).into_owned().into(),
            ]);
        }
        text += "\n";
        text += &table.render(colour);
        text += &more(lock.holder_count, lock.holders.len());
    }
    if !lock.waiters.is_empty() {
        let mut table = Table::new(["WAITING", "OWNER", "MODE", "PLACE", "FOR"]);
        for waiter in &lock.waiters {
            let what = match waiter.upgrade {
                true => "upgrade".to_owned(),
                false => mode_in_words(waiter.mode),
            };
            table.row([
                waiter.session.to_string().into(),
                waiter.owner.as_str().into(),
                what.into(),
                waiter.position.into(),
                show_age(waiter.since).into(),
            ]);
        }
        text += "\n";
        text += &table.render(colour);
    }
    text += &more(lock.waiter_count, lock.waiters.len());
    text
}

/// Says how many there are beside those listed.
fn more(count: u32, listed: usize) -> String {
    let listed = u32::try_from(listed).unwrap_or(u32::MAX);
    match count.saturating_sub(listed) {
        0 => String::new(),
        more => format!("and {more} more\n"),
    }
}

/// Tells whether a token is that of a present holder; the exit code.
pub(crate) async fn validate(
    client: &Client,
    name: &str,
    token: FencingToken,
    output: &Output,
) -> Result<u8, Failure> {
    let valid = client.validate(name, token).await?;
    match output.format() {
        Format::Json => output.json(&Validated {
            name: name.to_owned(),
            token: token.0,
            valid,
        })?,
        Format::Table => output.write(if valid { "valid\n" } else { "stale\n" })?,
    }
    Ok(if valid { exit::OK } else { exit::FAILED })
}

/// A mode with its numbers.
pub(crate) fn mode_in_words(of: Option<Mode>) -> String {
    match of {
        None => "-".to_owned(),
        Some(of @ (Mode::Shared | Mode::Exclusive)) => mode(of).to_owned(),
        Some(of @ Mode::Permits { count, of: size }) => format!("{} {count}/{size}", mode(of)),
        Some(of @ Mode::Meet { parties }) => format!("{} of {parties}", mode(of)),
    }
}

/// How a lock is held by all its holders together, or wanted by its first waiter.
fn used_as(lock: &LockInfo) -> String {
    let mut held: Option<Mode> = None;
    for mode in lock.holders.iter().filter_map(|holder| holder.mode) {
        held = match (held, mode) {
            (Some(Mode::Permits { count: before, .. }), Mode::Permits { count, of }) => {
                let count = before.saturating_add(count);
                Some(Mode::Permits { count, of })
            }
            _ => Some(mode),
        };
    }
    let at_barrier = lock.waiters.first().and_then(|waiter| waiter.mode);
    mode_in_words(held.or(at_barrier))
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
