//! One lock: who holds it, who waits for it, and which of them may go next.
//!
//! Invariants: an exclusive hold is alone (the type of [`Held`] has no room for another); waiters
//! go in the order of their arrival; and while one holder waits to upgrade, nobody else is let in.
//! A lock knows nothing of sessions' other affairs: the shard keeps both sides in step.

mod held;

use std::collections::BTreeMap;

pub(crate) use held::{Held, Hold, ReentryError};

use crate::{
    id::{FencingToken, Owner, Serial, SessionId, Timestamp},
    locks::mode::{Mode, Usage},
};

/// Most waiters in the queue of one lock: beyond it a lock is a bottleneck that no queue cures,
/// and the queue would dominate the shard's snapshot.
pub const MAX_WAITERS: usize = 65_536;
/// Most holds of one lock by one owner: far above any sane recursion.
pub const MAX_HOLDS: u32 = 65_535;

/// A place in a lock's queue: lower ones go first. Taken after the last place that is in use, so
/// the numbers follow from the queue alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrival(pub(crate) u64);

/// A lock that is held or waited for. Nothing is kept of others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lock {
    pub(crate) held: Held,
    pub(crate) upgrader: Option<Upgrader>,
    queue: BTreeMap<Arrival, Waiter>,
}

/// A request that waits to get a hold.
#[derive(Clone, Debug)]
pub(crate) struct Waiter {
    pub(crate) session: SessionId,
    pub(crate) serial: Serial,
    pub(crate) owner: Owner,
    pub(crate) mode: Mode,
    pub(crate) since: Timestamp,
}

/// A request that waits to make its shared hold exclusive.
#[derive(Clone, Debug)]
pub(crate) struct Upgrader {
    pub(crate) session: SessionId,
    pub(crate) serial: Serial,
    /// Of the shared hold, which it keeps.
    pub(crate) token: FencingToken,
    pub(crate) since: Timestamp,
}

impl Lock {
    /// True if somebody who arrives now may have it at once. One who would fit beside the holders
    /// still queues behind those who wait, or a stream of readers would starve a writer.
    pub(crate) fn is_open_to(&self, mode: Mode) -> bool {
        self.queue.is_empty() && self.upgrader.is_none() && self.held.admits(mode)
    }

    /// Takes an owner's hold once more, for an acquisition under way.
    pub(crate) fn reenter(&mut self, token: FencingToken, mode: Mode) -> Result<(), ReentryError> {
        self.check_reentry(token, mode)?;
        if let Some(hold) = self.held.get_mut(token) {
            hold.pending = hold.pending.saturating_add(1);
        }
        Ok(())
    }

    /// Tells what [`Lock::reenter`] would. A hold whose conversion is pending is not taken again: its
    /// token is about to change.
    pub(crate) fn check_reentry(
        &self,
        token: FencingToken,
        mode: Mode,
    ) -> Result<(), ReentryError> {
        let upgrader = self.upgrader.as_ref();
        if upgrader.is_some_and(|upgrader| upgrader.token == token) {
            return Err(ReentryError::Upgrading);
        }
        self.held.check_reentry(token, mode)
    }

    /// What it is used as; none if it is idle.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.held
            .usage()
            .or_else(|| self.head().map(|(_, waiter)| waiter.mode.usage()))
    }

    /// True if nobody holds it or waits for it.
    pub(crate) fn is_idle(&self) -> bool {
        self.held.is_free() && self.queue.is_empty() && self.upgrader.is_none()
    }

    /// Appends to the queue and gives the place, or none if the queue is full.
    pub(crate) fn enqueue(&mut self, waiter: Waiter) -> Option<Arrival> {
        if self.queue.len() >= MAX_WAITERS {
            return None;
        }
        let last = self.queue.last_key_value();
        let arrival = last.map_or(Arrival(0), |(last, _)| Arrival(last.0.saturating_add(1)));
        self.queue.insert(arrival, waiter);
        Some(arrival)
    }

    /// Puts a waiter back in its place when state is restored. False if the place is taken.
    pub(crate) fn restore_waiter(&mut self, arrival: Arrival, waiter: Waiter) -> bool {
        self.queue.insert(arrival, waiter).is_none()
    }

    /// Takes a waiter out, wherever it stands.
    pub(crate) fn dequeue(&mut self, arrival: Arrival) -> Option<Waiter> {
        self.queue.remove(&arrival)
    }

    /// Takes the head of the queue out.
    pub(crate) fn pop(&mut self) -> Option<Waiter> {
        self.queue.pop_first().map(|(_, waiter)| waiter)
    }

    /// The head of the queue.
    pub(crate) fn head(&self) -> Option<(Arrival, &Waiter)> {
        self.queue
            .first_key_value()
            .map(|(arrival, waiter)| (*arrival, waiter))
    }

    /// The queue, from its head.
    pub(crate) fn queue(&self) -> impl Iterator<Item = &Waiter> {
        self.queue.values()
    }

    /// The queue's length.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }
}
