//! What of a shard's snapshots is on its way to followers.
//!
//! Invariants: a snapshot that is being sent is not removed. And while one is on its way, and for
//! [`GRACE`] afterwards, no new one is made, for at most [`LONGEST`] and unless the log has grown beyond
//! its bytes ([`Sending::overrule`]): the log is purged only when a
//! snapshot was made, so the follower finds the entries after its own still there, and a transfer
//! that breaks off goes on with the same snapshot.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::snapshot_record::Generation;

/// How long after the last chunk no new snapshot is made. Longer than a transfer that broke off takes
/// until it goes on, and than a follower takes until it has installed and reads the log again.
const GRACE: Duration = Duration::from_secs(60);
/// How long transfers may keep a shard from making a new snapshot: the log grows meanwhile. At the
/// default rate, long enough for ten times the largest snapshot.
const LONGEST: Duration = Duration::from_secs(600);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Sending(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How often each generation is being sent.
    pinned: BTreeMap<Generation, usize>,
    /// Since when new snapshots are put off, and when a chunk was last sent.
    held: Option<Held>,
    /// The next one is not put off.
    overruled: bool,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    since: Instant,
    last: Instant,
}

impl Sending {
    /// Finds a generation and keeps it from being removed; nothing is removed in between.
    pub(crate) fn pin<T, E>(
        self: &Arc<Self>,
        find: impl FnOnce() -> Result<Option<T>, E>,
        generation: impl FnOnce(&T) -> Generation,
    ) -> Result<Option<(T, Pin)>, E> {
        let mut state = self.0.lock();
        let Some(found) = find()? else {
            return Ok(None);
        };
        let generation = generation(&found);
        *state.pinned.entry(generation).or_default() += 1;
        let pin = Pin {
            sending: Arc::clone(self),
            generation,
        };
        Ok(Some((found, pin)))
    }

    /// Up to where generations may be removed, if those before `generation` are not needed any
    /// more.
    pub(crate) fn removable(&self, generation: Generation) -> Generation {
        let state = self.0.lock();
        let oldest = state.pinned.keys().next().copied();
        oldest.map_or(generation, |oldest| oldest.min(generation))
    }

    /// True while no new snapshot should be made.
    pub(crate) fn holds(&self) -> bool {
        self.holds_at(Instant::now())
    }

    fn holds_at(&self, now: Instant) -> bool {
        let state = self.0.lock();
        let held = state.held.filter(|_| !state.overruled);
        held.is_some_and(|held| now < held.last + GRACE && now < held.since + LONGEST)
    }

    /// A new snapshot was made all the same: from here on, others may be put off again.
    pub(crate) fn made(&self) {
        let mut state = self.0.lock();
        state.held = None;
        state.overruled = false;
    }

    /// The next snapshot is made whatever is being sent.
    pub(crate) fn overrule(&self) {
        self.0.lock().overruled = true;
    }
}

/// Keeps a generation from being removed, until it is dropped.
#[derive(Debug)]
pub(crate) struct Pin {
    sending: Arc<Sending>,
    generation: Generation,
}

impl Pin {
    /// Some of it was sent, or its follower has it now.
    pub(crate) fn progressed(&self) {
        self.progressed_at(Instant::now());
    }

    fn progressed_at(&self, now: Instant) {
        let held = &mut self.sending.0.lock().held;
        match held {
            Some(held) if now < held.last + GRACE => held.last = now,
            Some(_) | None => {
                *held = Some(Held {
                    since: now,
                    last: now,
                });
            }
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.sending.0.lock();
        if let Some(count) = state.pinned.get_mut(&self.generation) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.pinned.remove(&self.generation);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn pin(sending: &Arc<Sending>, generation: u64) -> Pin {
        let find = || Ok::<_, Infallible>(Some(Generation(generation)));
        sending.pin(find, |found| *found).unwrap().unwrap().1
    }

    #[test]
    fn what_is_being_sent_is_not_removed() {
        let sending = Arc::<Sending>::default();
        assert_eq!(sending.removable(Generation(9)), Generation(9));
        let (older, twice, newer) = (pin(&sending, 5), pin(&sending, 5), pin(&sending, 7));
        assert_eq!(sending.removable(Generation(9)), Generation(5));
        drop(older);
        assert_eq!(sending.removable(Generation(9)), Generation(5));
        drop(twice);
        assert_eq!(sending.removable(Generation(9)), Generation(7));
        assert_eq!(sending.removable(Generation(6)), Generation(6));
        drop(newer);
        assert_eq!(sending.removable(Generation(9)), Generation(9));
    }

    #[test]
    fn snapshots_are_put_off_while_one_is_on_its_way_but_not_for_ever() {
        let sending = Arc::<Sending>::default();
        let pinned = pin(&sending, 1);
        let begin = Instant::now();
        assert!(!sending.holds_at(begin), "nothing was sent yet");
        pinned.progressed_at(begin);
        assert!(sending.holds_at(begin + GRACE - Duration::from_secs(1)));
        assert!(!sending.holds_at(begin + GRACE), "it does not go on");

        let begin = begin + GRACE * 2;
        let mut now = begin;
        pinned.progressed_at(now);
        while sending.holds_at(now) {
            assert!(now <= begin + LONGEST);
            now += GRACE / 2;
            pinned.progressed_at(now);
        }
        assert!(now >= begin + LONGEST);
        sending.made();
        pinned.progressed_at(now);
        assert!(sending.holds_at(now));
        sending.overrule();
        pinned.progressed_at(now);
        assert!(!sending.holds_at(now));
        sending.made();
        pinned.progressed_at(now);
        assert!(sending.holds_at(now), "only one was let through");
    }
}
