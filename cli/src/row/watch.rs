//! What a watch tells, as JSON.
//!
//! Invariant: see the module above; `event` says which fields there are.

use lockstep_client::{Change, ChangeKind, WatchEvent};
use serde::Serialize;

use super::{
    lock::{LockMode, Value},
    unix_ms,
};

/// One line of `watch`.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Event {
    /// Another cluster is in the place of the one before; all is told from the start.
    OtherCluster {
        event: &'static str,
        cluster_id: String,
    },
    /// Present holders follow.
    Began {
        event: &'static str,
        shard: u32,
        history_lost: bool,
    },
    /// The present holders have been told.
    Current { event: &'static str, shard: u32 },
    /// A change.
    Changed(HoldChange),
    /// The watch is away.
    Interrupted { event: &'static str, cause: String },
    /// It is back.
    Resumed { event: &'static str },
}

/// A change.
#[derive(Debug, Serialize)]
pub(crate) struct HoldChange {
    pub(crate) event: &'static str,
    pub(crate) shard: u32,
    pub(crate) revision: u64,
    pub(crate) at_ms: u64,
    pub(crate) name: String,
    pub(crate) session: String,
    pub(crate) owner: String,
    #[serde(flatten)]
    pub(crate) mode: LockMode,
    pub(crate) token: u64,
    #[serde(flatten)]
    pub(crate) value: Value,
}

/// What happened, as it is written everywhere.
pub(crate) const fn kind(kind: Option<ChangeKind>) -> &'static str {
    match kind {
        None => "changed",
        Some(ChangeKind::Present) => "present",
        Some(ChangeKind::Acquired) => "acquired",
        Some(ChangeKind::Converted) => "converted",
        Some(ChangeKind::Proclaimed) => "proclaimed",
        Some(ChangeKind::Released) => "released",
    }
}

impl From<&WatchEvent> for Event {
    fn from(event: &WatchEvent) -> Self {
        match event {
            WatchEvent::OtherCluster { cluster } => Self::OtherCluster {
                event: "other_cluster",
                cluster_id: cluster.to_string(),
            },
            WatchEvent::Began {
                shard,
                history_lost,
            } => Self::Began {
                event: "began",
                shard: shard.0,
                history_lost: *history_lost,
            },
            WatchEvent::Current { shard } => Self::Current {
                event: "current",
                shard: shard.0,
            },
            WatchEvent::Changed(change) => Self::Changed(change.into()),
            WatchEvent::Interrupted { cause } => Self::Interrupted {
                event: "interrupted",
                cause: cause.clone(),
            },
            WatchEvent::Resumed => Self::Resumed { event: "resumed" },
        }
    }
}

impl From<&Change> for HoldChange {
    fn from(change: &Change) -> Self {
        Self {
            event: kind(change.kind),
            shard: change.shard.0,
            revision: change.revision.0,
            at_ms: unix_ms(change.at),
            name: change.name.clone(),
            session: change.session.to_string(),
            owner: change.owner.clone(),
            mode: change.mode.into(),
            token: change.token.0,
            value: change.value.as_slice().into(),
        }
    }
}
