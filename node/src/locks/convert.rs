//! Between the client's messages and the model's types, with every bound checked.
//!
//! Invariant: what comes out is within its bounds; what is refused names its field.

use std::collections::{BTreeSet, HashMap};

use lockstep_model::{
    FencingToken, LockName, Millis, Owner, Usage, Value,
    locks::{
        change::{Change, ChangeKind},
        command::{LockSpec, MAX_LOCKS_PER_ACQUIRE},
        deadlock::{Deadlock, words},
        mode::{MAX_PERMITS, Mode},
        query::LockView,
        reply::Grant,
    },
    page::MAX_PAGE,
    request::{MAX_WAIT, Wait},
    session::{
        DEFAULT_SESSION_TTL, Labels, MAX_LABEL_KEY_BYTES, MAX_LABEL_VALUE_BYTES, MAX_LABELS,
        MAX_SESSION_TTL, MIN_SESSION_TTL, SessionView,
    },
};
use lockstep_proto::lock::v1 as pb;

use crate::api::error::Fault;

/// Rows in a page where the client does not say.
const DEFAULT_PAGE: u32 = 100;

/// A lock's name.
///
/// # Errors
/// If it is out of bounds.
pub fn name(field: &str, text: &str) -> Result<LockName, Fault> {
    LockName::new(text).map_err(|error| Fault::invalid(field, error.to_string()))
}

/// A token.
///
/// # Errors
/// If it is 0, which no grant has.
pub fn token(field: &str, token: u64) -> Result<FencingToken, Fault> {
    match token {
        0 => Err(Fault::invalid(
            field,
            "must be the token of a grant, which is never 0",
        )),
        token => Ok(FencingToken(token)),
    }
}

/// A session's TTL.
///
/// # Errors
/// If it is out of bounds.
pub fn ttl(ms: u64) -> Result<Millis, Fault> {
    match Millis(ms) {
        Millis(0) => Ok(DEFAULT_SESSION_TTL),
        ttl if (MIN_SESSION_TTL..=MAX_SESSION_TTL).contains(&ttl) => Ok(ttl),
        Millis(ms) => Err(Fault::invalid(
            "ttl_ms",
            format!(
                "is {ms}; must be {MIN_SESSION_TTL} to {MAX_SESSION_TTL}, or 0 for {DEFAULT_SESSION_TTL}"
            ),
        )),
    }
}

/// A session's labels.
///
/// # Errors
/// If they are out of bounds.
pub fn labels(labels: HashMap<String, String>) -> Result<Labels, Fault> {
    if labels.len() > MAX_LABELS {
        return Err(Fault::invalid(
            "labels",
            format!(
                "has {} entries; at most {MAX_LABELS} are allowed",
                labels.len()
            ),
        ));
    }
    for (key, value) in &labels {
        if key.is_empty() || key.len() > MAX_LABEL_KEY_BYTES {
            return Err(Fault::invalid(
                "labels",
                format!(
                    "a key of {} bytes; must have 1 to {MAX_LABEL_KEY_BYTES}",
                    key.len()
                ),
            ));
        }
        if value.len() > MAX_LABEL_VALUE_BYTES {
            return Err(Fault::invalid(
                format!("labels[{key}]"),
                format!(
                    "has {} bytes; at most {MAX_LABEL_VALUE_BYTES} are allowed",
                    value.len()
                ),
            ));
        }
    }
    Ok(labels.into_iter().collect())
}

/// The locks of an acquisition.
///
/// # Errors
/// If there are none, too many, one twice, or one without a valid name or mode.
pub fn lock_specs(specs: &[pb::LockSpec]) -> Result<Vec<LockSpec>, Fault> {
    if specs.is_empty() || specs.len() > MAX_LOCKS_PER_ACQUIRE {
        return Err(Fault::invalid(
            "locks",
            format!(
                "has {} entries; must have 1 to {MAX_LOCKS_PER_ACQUIRE}",
                specs.len()
            ),
        ));
    }
    let mut seen = BTreeSet::new();
    specs
        .iter()
        .enumerate()
        .map(|(at, spec)| {
            let name = name(&format!("locks[{at}].name"), &spec.name)?;
            let mode = lock_mode(at, spec)?;
            if matches!(mode, Mode::Meet { .. }) && specs.len() > 1 {
                return Err(Fault::invalid(
                    format!("locks[{at}].mode"),
                    "is LOCK_MODE_BARRIER: a barrier must be the only lock of its acquisition",
                ));
            }
            if !seen.insert(name.clone()) {
                return Err(Fault::invalid(
                    format!("locks[{at}].name"),
                    format!("{name:?} is there twice; name each lock once"),
                ));
            }
            Ok(LockSpec { name, mode })
        })
        .collect()
}

/// How a lock is wanted.
fn lock_mode(at: usize, spec: &pb::LockSpec) -> Result<Mode, Fault> {
    let field = |name: &str| format!("locks[{at}].{name}");
    let size = || match spec.size {
        size @ 1..=MAX_PERMITS => Ok(size),
        size => Err(Fault::invalid(
            field("size"),
            format!("is {size}; must be 1 to {MAX_PERMITS}, the same for all who use it"),
        )),
    };
    let mode = match spec.mode() {
        pb::LockMode::Shared => Mode::Shared,
        pb::LockMode::Exclusive => Mode::Exclusive,
        pb::LockMode::Semaphore => {
            let of = size()?;
            let count = spec.permits.max(1);
            if count > of {
                let words = format!("is {count}; must be at most the semaphore's size, {of}");
                return Err(Fault::invalid(field("permits"), words));
            }
            return Ok(Mode::Permits { count, of });
        }
        pb::LockMode::Barrier => Mode::Meet { parties: size()? },
        pb::LockMode::Unspecified => {
            return Err(Fault::invalid(
                field("mode"),
                "must be LOCK_MODE_SHARED, _EXCLUSIVE, _SEMAPHORE or _BARRIER",
            ));
        }
    };
    if spec.permits != 0 {
        return Err(Fault::invalid(
            field("permits"),
            "must be 0: only a semaphore has permits",
        ));
    }
    if spec.size != 0 && mode.usage() == Usage::Lock {
        return Err(Fault::invalid(
            field("size"),
            "must be 0: only semaphores and barriers have a size",
        ));
    }
    Ok(mode)
}

/// What a holder says.
///
/// # Errors
/// If it is too long.
pub fn value(bytes: &[u8]) -> Result<Value, Fault> {
    Value::new(bytes).map_err(|error| Fault::invalid("value", error.to_string()))
}

/// An owner tag.
///
/// # Errors
/// If it is too long.
pub fn owner(text: &str) -> Result<Owner, Fault> {
    Owner::named(text).map_err(|error| Fault::invalid("owner", error.to_string()))
}

/// How long to wait.
///
/// # Errors
/// If the time is out of bounds.
pub fn wait(wait: Option<pb::Wait>) -> Result<Wait, Fault> {
    match wait.and_then(|wait| wait.wait) {
        None => Ok(Wait::Forever),
        Some(pb::wait::Wait::NoWait(pb::NoWait {})) => Ok(Wait::Try),
        Some(pb::wait::Wait::TimeoutMs(ms)) if (1..=MAX_WAIT.0).contains(&ms) => {
            Ok(Wait::AtMost(Millis(ms)))
        }
        Some(pb::wait::Wait::TimeoutMs(ms)) => Err(Fault::invalid(
            "wait.timeout_ms",
            format!("is {ms}; must be 1 to {MAX_WAIT}; leave wait unset to wait without limit"),
        )),
    }
}

/// How many rows a page has.
///
/// # Errors
/// If it is out of bounds.
pub fn page_size(size: u32) -> Result<u32, Fault> {
    match size {
        0 => Ok(DEFAULT_PAGE),
        size if size <= MAX_PAGE => Ok(size),
        size => Err(Fault::invalid(
            "page_size",
            format!("is {size}; must be 1 to {MAX_PAGE}, or 0 for {DEFAULT_PAGE}"),
        )),
    }
}

/// A mode.
#[must_use]
pub fn mode(mode: Mode) -> pb::LockMode {
    match mode {
        Mode::Shared => pb::LockMode::Shared,
        Mode::Exclusive => pb::LockMode::Exclusive,
        Mode::Permits { .. } => pb::LockMode::Semaphore,
        Mode::Meet { .. } => pb::LockMode::Barrier,
    }
}

/// How many permits a semaphore's user has or wants, and the size of the semaphore or barrier; 0
/// where there is no such thing.
const fn sizes(mode: Mode) -> (u32, u32) {
    match mode {
        Mode::Shared | Mode::Exclusive => (0, 0),
        Mode::Permits { count, of } => (count, of),
        Mode::Meet { parties } => (0, parties),
    }
}

/// A change of a holder.
#[must_use]
pub fn change(change: Change) -> pb::Change {
    let (permits, size) = sizes(change.mode);
    pb::Change {
        revision: change.revision.0,
        at_ms: change.at.0,
        name: change.name.as_str().to_owned(),
        kind: match change.kind {
            ChangeKind::Present => pb::ChangeKind::Present,
            ChangeKind::Acquired => pb::ChangeKind::Acquired,
            ChangeKind::Converted => pb::ChangeKind::Converted,
            ChangeKind::Proclaimed => pb::ChangeKind::Proclaimed,
            ChangeKind::Released => pb::ChangeKind::Released,
        }
        .into(),
        session_id: change.session.0,
        owner: change.owner.as_str().to_owned(),
        mode: mode(change.mode).into(),
        token: change.token.0,
        value: change.value.as_bytes().to_vec(),
        permits,
        size,
    }
}

/// A deadlock that was broken.
#[must_use]
pub fn deadlock(deadlock: &Deadlock) -> pb::Deadlock {
    pb::Deadlock {
        at_ms: deadlock.at.0,
        victim_session_id: deadlock.victim.session.0,
        victim_owner: deadlock.victim.owner.as_str().to_owned(),
        name: deadlock.name.as_str().to_owned(),
        words: words(&deadlock.cycle),
        cycle: deadlock
            .cycle
            .iter()
            .map(|edge| pb::WaitFor {
                session_id: edge.wait.party.session.0,
                owner: edge.wait.party.owner.as_str().to_owned(),
                name: edge.wait.name.as_str().to_owned(),
                shard: edge.wait.shard.0,
                holder_session_id: edge.holder.party.session.0,
                holder_owner: edge.holder.party.owner.as_str().to_owned(),
                token: edge.holder.token.0,
            })
            .collect(),
    }
}

/// A grant.
#[must_use]
pub fn grant(grant: &Grant) -> pb::Grant {
    pb::Grant {
        name: grant.name.as_str().to_owned(),
        mode: mode(grant.mode).into(),
        token: grant.token.0,
        holds: grant.holds,
    }
}

/// A lock as listed.
#[must_use]
pub fn lock_info(shard: u32, view: LockView) -> pb::LockInfo {
    pb::LockInfo {
        name: view.name.as_str().to_owned(),
        shard,
        holders: view
            .holders
            .into_iter()
            .map(|holder| {
                let (permits, size) = sizes(holder.mode);
                pb::Holder {
                    session_id: holder.session.0,
                    owner: holder.owner.as_str().to_owned(),
                    mode: mode(holder.mode).into(),
                    token: holder.token.0,
                    holds: holder.holds,
                    since_ms: holder.since.0,
                    value: holder.value.as_bytes().to_vec(),
                    permits,
                    size,
                }
            })
            .collect(),
        waiters: view
            .waiters
            .into_iter()
            .zip(1..)
            .map(|(waiter, position)| {
                let (permits, size) = sizes(waiter.mode);
                pb::Waiter {
                    session_id: waiter.session.0,
                    owner: waiter.owner.as_str().to_owned(),
                    mode: mode(waiter.mode).into(),
                    upgrade: waiter.upgrade,
                    since_ms: waiter.since.0,
                    position,
                    permits,
                    size,
                }
            })
            .collect(),
        waiter_count: view.waiter_count,
        holder_count: view.holder_count,
    }
}

/// A session as listed.
#[must_use]
pub fn session_info(view: SessionView) -> pb::SessionInfo {
    pb::SessionInfo {
        session_id: view.session.0,
        ttl_ms: view.ttl.0,
        epoch: view.epoch.0,
        priority: view.priority.0,
        labels: view.labels.into_iter().collect(),
        opened_at_ms: view.opened.0,
        shards: view.touched.into_iter().map(|shard| shard.0).collect(),
        ending: view.ending,
    }
}
