//! The home leader's clock over its sessions.
//!
//! Keep-alives are not Raft entries: the leader keeps deadlines in memory, and only expiry is
//! proposed. Invariant: no session is given up before its TTL has passed since its last confirmed
//! keep-alive, not counting time in which this process did not run or nobody led; and none lives
//! for ever through elections, because what the silent ones have left is written to the log now
//! and then (etcd issues 9395 and 15247 are what happens otherwise).
//!
//! What is written down and what is taken back are proposed in the order in which the clock decided them,
//! under its lock: so the log's last word on a session is the clock's. A look costs what is due and not what
//! is watched: each session stands once on the agenda, for the moment at which something of it may be due;
//! a keep-alive leaves it there, and it is put off when that moment has come.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use lockstep_model::{Millis, SessionId};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::boot_time::BootTime;

/// A session's remaining life is written down again when it has shrunk by an eighth of its TTL, within
/// these bounds.
const CHECKPOINT_STEP: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A session that was silent for half its TTL, or for so long if that is less, is written down: clients send
/// a keep-alive every ten seconds at least, and one that does not costs some entries.
const SILENCE: Duration = Duration::from_secs(30);
/// Most sessions that expire, or are written down, in one step of the clock.
pub const MAX_PER_TICK: usize = 1_000;
/// A gap between two looks longer than this means that the process did not run: sessions get it back.
const OUTAGE: Duration = Duration::from_millis(1_000);

/// What became of a keep-alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive<T> {
    /// The session lives for this long from now.
    Alive(Millis),
    /// The same, but the log says that it has less: that must be put right before it is confirmed,
    /// because the next leader goes by the log. [`SessionClock::revived`] has to follow.
    Revived {
        /// How long.
        ttl: Millis,
        /// What the proposal gave.
        proposed: T,
    },
    /// There is no such session, or it is being ended.
    Gone,
    /// This replica does not lead, or has only just begun to.
    NotReady,
}

/// A session that the leader starts to watch.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Which.
    pub session: SessionId,
    /// Its TTL.
    pub ttl: Millis,
    /// What it had left when that was last written down.
    pub left: Option<Millis>,
    /// True if it gets no more time.
    pub revoked: bool,
}

struct Watched {
    ttl: Duration,
    deadline: BootTime,
    /// What is left by the log's last word, of what is proposed too; the TTL if it never was written.
    written: Duration,
    /// Proposals under way that take a checkpoint back.
    revivals: usize,
    /// It gets no more time.
    revoked: bool,
    /// Its expiry is under way.
    ending: bool,
    /// Its place on the agenda; none while it is being ended.
    look: Option<BootTime>,
}

impl Watched {
    fn new(ttl: Duration, left: Duration, now: BootTime) -> Self {
        Self {
            ttl,
            deadline: now + left,
            written: left,
            revivals: 0,
            revoked: false,
            ending: false,
            look: None,
        }
    }

    /// The life that is left when it is next written down; none if it will not be.
    fn next_checkpoint(&self) -> Option<Duration> {
        let (least, most) = CHECKPOINT_STEP;
        let below = self
            .written
            .checked_sub((self.ttl / 8).clamp(least, most))?;
        let silent = self.ttl - (self.ttl / 2).min(SILENCE);
        Some(below.min(silent)).filter(|left| !left.is_zero())
    }

    /// When something of it is next due.
    fn due(&self) -> BootTime {
        let left = self.next_checkpoint().unwrap_or_default();
        self.deadline - left
    }
}

struct Watch {
    sessions: HashMap<SessionId, Watched>,
    agenda: BTreeSet<(BootTime, SessionId)>,
    last_look: BootTime,
}

impl Watch {
    /// Gives sessions back the time in which nobody looked. To be done before any deadline is set or
    /// compared: one that was set after the gap must not get it.
    fn look(&mut self, now: BootTime) {
        let gap = now - self.last_look;
        self.last_look = self.last_look.max(now);
        if gap > OUTAGE {
            for watched in self.sessions.values_mut() {
                watched.deadline += gap;
            }
        }
    }

    /// Puts a session on the agenda, in place of where it stood.
    fn schedule(&mut self, session: SessionId) {
        if let Some(watched) = self.sessions.get_mut(&session) {
            let at = watched.due();
            if let Some(before) = watched.look.replace(at) {
                self.agenda.remove(&(before, session));
            }
            self.agenda.insert((at, session));
        }
    }

    fn watch(&mut self, session: SessionId, watched: Watched) {
        self.forget(session);
        self.sessions.insert(session, watched);
        self.schedule(session);
    }

    fn forget(&mut self, session: SessionId) {
        let before = self.sessions.remove(&session);
        if let Some(at) = before.and_then(|watched| watched.look) {
            self.agenda.remove(&(at, session));
        }
    }
}

/// Deadlines of the sessions whose home this shard is; empty unless it leads.
#[derive(Default)]
pub struct SessionClock {
    watch: Mutex<Option<Watch>>,
    /// Woken when the earliest deadline of a wait changes or a session ends.
    pub changed: Notify,
}

impl SessionClock {
    /// Begins to watch: this replica leads, and these are its sessions.
    pub fn start(&self, sessions: impl Iterator<Item = Start>, now: BootTime) {
        let mut watch = Watch {
            sessions: HashMap::new(),
            agenda: BTreeSet::new(),
            last_look: now,
        };
        for start in sessions {
            let ttl = Duration::from_millis(start.ttl.0);
            let left = start.left.map(|left| Duration::from_millis(left.0));
            let mut watched = Watched::new(ttl, left.map_or(ttl, |left| left.min(ttl)), now);
            watched.revoked = start.revoked;
            watch.watch(start.session, watched);
        }
        *self.watch.lock() = Some(watch);
    }

    /// Stops watching: the lead is lost.
    pub fn stop(&self) {
        *self.watch.lock() = None;
    }

    /// True while sessions are watched: this replica leads, and has what earlier leaders committed.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.watch.lock().is_some()
    }

    /// Extends a session. `revive` proposes that the log gives it its whole TTL again; it must not wait.
    pub fn keep_alive<T>(
        &self,
        session: SessionId,
        now: BootTime,
        revive: impl FnOnce() -> T,
    ) -> KeepAlive<T> {
        let mut watch = self.watch.lock();
        let Some(watch) = watch.as_mut() else {
            return KeepAlive::NotReady;
        };
        watch.look(now);
        match watch.sessions.get_mut(&session) {
            Some(watched) if !watched.revoked && !watched.ending => {
                watched.deadline = now + watched.ttl;
                let ttl = millis(watched.ttl);
                if watched.written < watched.ttl || watched.revivals > 0 {
                    watched.written = watched.ttl;
                    watched.revivals += 1;
                    let proposed = revive();
                    KeepAlive::Revived { ttl, proposed }
                } else {
                    KeepAlive::Alive(ttl)
                }
            }
            Some(_) | None => KeepAlive::Gone,
        }
    }

    /// The proposal of a [`KeepAlive::Revived`] is over; `done` if the log has it. If it may not have it,
    /// the next keep-alive proposes it again.
    pub fn revived(&self, session: SessionId, done: bool) {
        if let Some(watch) = self.watch.lock().as_mut()
            && let Some(watched) = watch.sessions.get_mut(&session)
        {
            watched.revivals = watched.revivals.saturating_sub(1);
            if !done {
                watched.written = Duration::ZERO;
            }
        }
    }

    /// A session was opened or resumed.
    pub fn alive(&self, session: SessionId, ttl: Millis, now: BootTime) {
        if let Some(watch) = self.watch.lock().as_mut() {
            watch.look(now);
            let ttl = Duration::from_millis(ttl.0);
            let mut watched = Watched::new(ttl, ttl, now);
            // A checkpoint may be on its way behind what made it so.
            if let Some(before) = watch.sessions.get(&session) {
                watched.written = before.written.min(ttl);
                watched.revivals = before.revivals;
            }
            watch.watch(session, watched);
        }
    }

    /// A session gets no more time.
    pub fn revoke(&self, session: SessionId) {
        if let Some(watch) = self.watch.lock().as_mut()
            && let Some(watched) = watch.sessions.get_mut(&session)
        {
            watched.revoked = true;
        }
    }

    /// A session has ended.
    pub fn ended(&self, session: SessionId) {
        if let Some(watch) = self.watch.lock().as_mut() {
            watch.forget(session);
        }
        self.changed.notify_one();
    }

    /// The expiry of these was not committed: they may be tried again.
    pub fn not_expired(&self, sessions: &[SessionId]) {
        if let Some(watch) = self.watch.lock().as_mut() {
            for session in sessions {
                if let Some(watched) = watch.sessions.get_mut(session)
                    && std::mem::take(&mut watched.ending)
                {
                    watch.schedule(*session);
                }
            }
        }
    }

    /// Looks what is due at `now`: returns the sessions whose time is over, which accept no keep-alive any
    /// more, and has `write_down` propose what silent ones have left, if any do; it must not wait.
    pub fn tick(
        &self,
        now: BootTime,
        write_down: impl FnOnce(Vec<(SessionId, Millis)>),
    ) -> Vec<SessionId> {
        let mut watch = self.watch.lock();
        let Some(watch) = watch.as_mut() else {
            return Vec::new();
        };
        watch.look(now);
        let (mut expired, mut silent) = (Vec::new(), Vec::new());
        while expired.len() < MAX_PER_TICK
            && silent.len() < MAX_PER_TICK
            && let Some(&(at, session)) = watch.agenda.first()
            && at <= now
        {
            watch.agenda.pop_first();
            let Some(watched) = watch.sessions.get_mut(&session) else {
                continue;
            };
            watched.look = None;
            let left = watched.deadline - now;
            if left.is_zero() {
                watched.ending = true;
                expired.push(session);
                continue;
            }
            if watched.next_checkpoint().is_some_and(|due| left <= due) {
                watched.written = left;
                silent.push((session, millis(left)));
            }
            watch.schedule(session);
        }
        if !silent.is_empty() {
            write_down(silent);
        }
        expired
    }
}

fn millis(duration: Duration) -> Millis {
    Millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
