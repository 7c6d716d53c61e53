//! Locks as JSON.
//!
//! Invariant: see the module above.

use lockstep_client::{Holder, LockInfo, Mode, Waiter};
use serde::Serialize;

use super::unix_ms;

/// `lock ls`.
#[derive(Debug, Serialize)]
pub(crate) struct LockList {
    pub(crate) locks: Vec<Lock>,
    /// True if there are more than were asked for.
    pub(crate) truncated: bool,
}

/// `lock show`, and one of `lock ls`.
#[derive(Debug, Serialize)]
pub(crate) struct Lock {
    pub(crate) name: String,
    pub(crate) shard: u32,
    pub(crate) holders: Vec<LockHolder>,
    pub(crate) holder_count: u32,
    pub(crate) waiters: Vec<LockWaiter>,
    pub(crate) waiter_count: u32,
}

/// Who holds a lock.
#[derive(Debug, Serialize)]
pub(crate) struct LockHolder {
    pub(crate) session: String,
    pub(crate) owner: String,
    #[serde(flatten)]
    pub(crate) mode: LockMode,
    pub(crate) token: u64,
    pub(crate) holds: u32,
    pub(crate) since_ms: u64,
    #[serde(flatten)]
    pub(crate) value: Value,
}

/// Who waits for a lock.
#[derive(Debug, Serialize)]
pub(crate) struct LockWaiter {
    pub(crate) session: String,
    pub(crate) owner: String,
    #[serde(flatten)]
    pub(crate) mode: LockMode,
    pub(crate) upgrade: bool,
    pub(crate) since_ms: u64,
    /// 1 goes next.
    pub(crate) position: u32,
}

/// How it is held or wanted.
#[derive(Debug, Serialize)]
pub(crate) struct LockMode {
    pub(crate) mode: Option<&'static str>,
    /// Of a semaphore: how many permits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) permits: Option<u32>,
    /// Of a semaphore: how many permits there are; of a barrier: how many are to meet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u32>,
}

/// What a holder says.
#[derive(Debug, Serialize)]
pub(crate) struct Value {
    /// As text: bytes that are none are replaced.
    pub(crate) value: String,
    /// The bytes, only where they are no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value_hex: Option<String>,
}

/// `lock validate`.
#[derive(Debug, Serialize)]
pub(crate) struct Validated {
    pub(crate) name: String,
    pub(crate) token: u64,
    pub(crate) valid: bool,
}

/// `barrier wait`.
#[derive(Debug, Serialize)]
pub(crate) struct Passed {
    pub(crate) name: String,
    pub(crate) generation: u64,
}

/// A mode as it is written everywhere.
pub(crate) const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Shared => "shared",
        Mode::Exclusive => "exclusive",
        Mode::Permits { .. } => "semaphore",
        Mode::Meet { .. } => "barrier",
    }
}

impl From<Option<Mode>> for LockMode {
    fn from(of: Option<Mode>) -> Self {
        let (permits, size) = match of {
            None | Some(Mode::Shared | Mode::Exclusive) => (None, None),
            Some(Mode::Permits { count, of }) => (Some(count), Some(of)),
            Some(Mode::Meet { parties }) => (None, Some(parties)),
        };
        Self {
            mode: of.map(mode),
            permits,
            size,
        }
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        let hex = || bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            value: String::from_utf8_lossy(bytes).into_owned(),
            value_hex: std::str::from_utf8(bytes).is_err().then(hex),
        }
    }
}

impl From<&LockInfo> for Lock {
    fn from(lock: &LockInfo) -> Self {
        Self {
            name: lock.name.clone(),
            shard: lock.shard.0,
            holders: lock.holders.iter().map(Into::into).collect(),
            holder_count: lock.holder_count,
            waiters: lock.waiters.iter().map(Into::into).collect(),
            waiter_count: lock.waiter_count,
        }
    }
}

impl From<&Holder> for LockHolder {
    fn from(holder: &Holder) -> Self {
        Self {
            session: holder.session.to_string(),
            owner: holder.owner.clone(),
            mode: holder.mode.into(),
            token: holder.token.0,
            holds: holder.holds,
            since_ms: unix_ms(holder.since),
            value: holder.value.as_slice().into(),
        }
    }
}

impl From<&Waiter> for LockWaiter {
    fn from(waiter: &Waiter) -> Self {
        Self {
            session: waiter.session.to_string(),
            owner: waiter.owner.clone(),
            mode: waiter.mode.into(),
            upgrade: waiter.upgrade,
            since_ms: unix_ms(waiter.since),
            position: waiter.position,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_text_and_what_is_none_is_not_lost() {
        let json = |bytes: &[u8]| serde_json::to_value(Value::from(bytes)).unwrap();
        assert_eq!(
            json("web-1/ä".as_bytes()),
            serde_json::json!({ "value": "web-1/ä" })
        );
        let broken = serde_json::json!({ "value": "a\u{fffd}", "value_hex": "61ff" });
        assert_eq!(json(b"a\xff"), broken);
    }
}
