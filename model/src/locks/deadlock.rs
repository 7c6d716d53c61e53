//! Circles of waits: what they are made of, who gives way, and how they are told.
//!
//! Who waits for a lock waits for all of its holders: those that exclude it keep it out themselves,
//! and the others keep out the writer, or the reader that wants to become one, behind whom it stands.
//! So an edge goes from a [`Party`] over the lock that it waits for to each holder of that lock (as
//! in TiKV's detector with key nodes), and no edge goes between those who only wait. Semaphores have
//! no edges: who waits for a permit can be served by any of the holders. Nor have barriers, which
//! nobody holds.
//!
//! Circles within a shard are found where they close, in `apply` (see the shard). Those that span
//! shards are found by a [`Walk`] along the edges from one session home to the next (Chandy, Misra,
//! Haas, "Distributed deadlock detection", 1983, with the walk in the place of probes); a [`Chase`](super::chase::Chase)
//! says what to ask on the way, and what to do about a circle.
//!
//! Invariants: every edge names its wait by a [`WaitEpoch`] and its hold by a token, neither of which
//! is ever given twice. So an edge that is seen twice stood all the time between, and a circle whose
//! edges were all seen, and then all seen again, was closed at the moment between: nobody gives way
//! without one. And whoever finds a circle chooses the same victim.

mod codec;
mod walk;

use std::{cmp::Reverse, fmt::Write as _};

pub use walk::{MAX_LEVELS, MAX_PARTIES, Walk};

use crate::id::{FencingToken, LockName, Party, Priority, Serial, ShardId, Timestamp, WaitEpoch};

/// Most waits in a circle that is broken. Longer ones are left to their time-outs: at 20 ms an edge
/// they would take longer to find than most of those.
pub const MAX_CYCLE: usize = 64;
/// Holders that are named of a lock that somebody waits for. A circle through one of the others is
/// found from there: it holds something that is waited for too.
pub const MAX_HOLDERS: usize = 256;
/// Parties that one question may ask for.
pub const MAX_ASKED: usize = 256;
/// Deadlocks that each shard remembers.
pub const MAX_REMEMBERED: usize = 100;

/// A wait, and who keeps it waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The wait.
    pub wait: Waits,
    /// The lock's holders, at most [`MAX_HOLDERS`], without the one who waits.
    pub holders: Vec<Holds>,
}

/// Who waits for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Who.
    pub party: Party,
    /// Of its session.
    pub priority: Priority,
    /// When its session was opened.
    pub opened: Timestamp,
    /// Where.
    pub shard: ShardId,
    /// The acquisition's or upgrade's serial.
    pub serial: Serial,
    /// This wait and no other.
    pub epoch: WaitEpoch,
    /// For which lock.
    pub name: LockName,
}

/// Who holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holds {
    /// Who.
    pub party: Party,
    /// This hold and no other.
    pub token: FencingToken,
}

/// A part of a circle: a wait, and one of the holders for whom it waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The wait.
    pub wait: Waits,
    /// Who waits next.
    pub holder: Holds,
}

/// A circle that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadlock {
    /// When.
    pub at: Timestamp,
    /// Whose wait was ended.
    pub victim: Party,
    /// For which lock it waited.
    pub name: LockName,
    /// The circle.
    pub cycle: Vec<Edge>,
}

/// Who gives way: the lowest priority, then the youngest session, then the greatest id. Everybody
/// who finds the circle chooses the same.
#[must_use]
pub fn victim(cycle: &[Edge]) -> Option<&Waits> {
    let rank = |wait: &Waits| {
        let Waits {
            priority,
            opened,
            party,
            ..
        } = wait;
        (
            *priority,
            Reverse(*opened),
            Reverse(party.clone()),
            Reverse(wait.epoch),
        )
    };
    cycle
        .iter()
        .map(|edge| &edge.wait)
        .min_by_key(|wait| rank(wait))
}

/// Most edges that are told in words: they go into a message's header.
const MAX_TOLD: usize = 16;
/// Most characters of a name that are told.
const MAX_NAME_TOLD: usize = 64;

/// The circle in words; a very long one in part.
#[must_use]
pub fn words(cycle: &[Edge]) -> String {
    let mut words = String::new();
    for (at, Edge { wait, holder }) in cycle.iter().enumerate().take(MAX_TOLD) {
        let separator = if at == 0 { "" } else { "; " };
        let name: String = wait.name.as_str().chars().take(MAX_NAME_TOLD).collect();
        // Writing to a string cannot fail.
        let _ = write!(
            words,
            "{separator}{} waits for {name:?}, which {} holds",
            wait.party, holder.party
        );
    }
    if let Some(more @ 1..) = cycle.len().checked_sub(MAX_TOLD) {
        let _ = write!(words, "; and {more} more");
    }
    words
}
