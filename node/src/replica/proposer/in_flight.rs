//! The batches under way, oldest first.
//!
//! Invariant: a batch's callers are taken out once, by whoever comes first: Raft with the result, or
//! the proposer when it has waited for long enough.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::Callers;

/// At most [`super::MAX_IN_FLIGHT`], by number.
#[derive(Default)]
pub(super) struct InFlight {
    batches: Mutex<Batches>,
}

#[derive(Default)]
struct Batches {
    next: u64,
    callers: BTreeMap<u64, (Instant, Callers)>,
}

impl InFlight {
    /// Adds a batch, and gives its number.
    pub(super) fn add(&self, callers: Callers) -> u64 {
        let mut batches = self.batches.lock();
        let number = batches.next;
        batches.next += 1;
        batches.callers.insert(number, (Instant::now(), callers));
        number
    }

    /// Takes a batch out, if it is still there.
    pub(super) fn take(&self, number: u64) -> Option<Callers> {
        let taken = self.batches.lock().callers.remove(&number);
        taken.map(|(_, callers)| callers)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.lock().callers.is_empty()
    }

    /// Takes out what has been under way for longer.
    pub(super) fn older_than(&self, limit: Duration) -> Vec<Callers> {
        let mut batches = self.batches.lock();
        let mut old = Vec::new();
        while let Some(first) = batches.callers.first_entry()
            && first.get().0.elapsed() > limit
        {
            old.push(first.remove().1);
        }
        old
    }
}
