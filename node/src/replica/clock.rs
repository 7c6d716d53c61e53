//! The home leader's clock over its sessions.
//!
//! Keep-alives are not Raft entries: the leader keeps deadlines in memory, and only expiry is
//! proposed. Invariant: no session is given up before its TTL has passed since its last confirmed
//! keep-alive, not counting time in which this process did not run or nobody led; and none lives
//! for ever through elections, because what the silent ones have left is written to the log now
//! and then (etcd issues 9395 and 15247 are what happens otherwise).

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use lockstep_model::{Millis, SessionId};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// A session's remaining life is written down again when it has shrunk by this much, or by an
/// eighth of its TTL if that is more.
const CHECKPOINT_STEP: Duration = Duration::from_secs(1);
/// Most sessions that expire, or are written down, in one step of the clock.
pub const MAX_PER_TICK: usize = 1_000;
/// A gap between two ticks longer than this means that the process did not run: sessions get it back.
const OUTAGE: Duration = Duration::from_millis(1_000);

/// What became of a keep-alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// The session lives for this long from now.
    Alive(Millis),
    /// The same, but the log says that it has less: that must be put right before it is confirmed,
    /// because the next leader goes by the log.
    Revived(Millis),
    /// There is no such session, or it is being ended.
    Gone,
    /// This replica does not lead, or has only just begun to.
    NotReady,
}

/// What is due.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Sessions whose time is over. They accept no keep-alive any more.
    pub expired: Vec<SessionId>,
    /// Silent sessions and what they have left.
    pub checkpoint: Vec<(SessionId, Millis)>,
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
}

struct Watched {
    ttl: Duration,
    deadline: Instant,
    /// What was left when it was last written down; the TTL if it never was.
    written: Duration,
    ending: bool,
}

struct Watch {
    sessions: HashMap<SessionId, Watched>,
    last_tick: Instant,
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
    pub fn start(&self, sessions: impl Iterator<Item = Start>, now: Instant) {
        let sessions = sessions
            .map(|start| {
                let ttl = Duration::from_millis(start.ttl.0);
                let left = start
                    .left
                    .map_or(ttl, |left| Duration::from_millis(left.0).min(ttl));
                let watched = Watched {
                    ttl,
                    deadline: now + left,
                    written: left,
                    ending: false,
                };
                (start.session, watched)
            })
            .collect();
        *self.watch.lock() = Some(Watch {
            sessions,
            last_tick: now,
        });
    }

    /// Stops watching: the lead is lost.
    pub fn stop(&self) {
        *self.watch.lock() = None;
    }

    /// Extends a session.
    pub fn keep_alive(&self, session: SessionId) -> KeepAlive {
        let mut watch = self.watch.lock();
        let Some(watch) = watch.as_mut() else {
            return KeepAlive::NotReady;
        };
        match watch.sessions.get_mut(&session) {
            Some(watched) if !watched.ending => {
                watched.deadline = Instant::now() + watched.ttl;
                let ttl = millis(watched.ttl);
                if watched.written < watched.ttl {
                    KeepAlive::Revived(ttl)
                } else {
                    KeepAlive::Alive(ttl)
                }
            }
            Some(_) | None => KeepAlive::Gone,
        }
    }

    /// The log says now that the session has its whole TTL.
    pub fn revived(&self, session: SessionId) {
        if let Some(watch) = self.watch.lock().as_mut()
            && let Some(watched) = watch.sessions.get_mut(&session)
        {
            watched.written = watched.ttl;
        }
    }

    /// A session was opened or resumed.
    pub fn alive(&self, session: SessionId, ttl: Millis) {
        if let Some(watch) = self.watch.lock().as_mut() {
            let ttl = Duration::from_millis(ttl.0);
            let watched = Watched {
                ttl,
                deadline: Instant::now() + ttl,
                written: ttl,
                ending: false,
            };
            watch.sessions.insert(session, watched);
        }
    }

    /// A session has ended.
    pub fn ended(&self, session: SessionId) {
        if let Some(watch) = self.watch.lock().as_mut() {
            watch.sessions.remove(&session);
        }
        self.changed.notify_one();
    }

    /// The expiry of these was not committed: they may be tried again.
    pub fn not_expired(&self, sessions: &[SessionId]) {
        if let Some(watch) = self.watch.lock().as_mut() {
            for session in sessions {
                if let Some(watched) = watch.sessions.get_mut(session) {
                    watched.ending = false;
                }
            }
        }
    }

    /// Looks what is due at `now`.
    pub fn tick(&self, now: Instant) -> Due {
        let mut watch = self.watch.lock();
        let Some(watch) = watch.as_mut() else {
            return Due::default();
        };
        let gap = now.saturating_duration_since(watch.last_tick);
        watch.last_tick = now;
        let outage = if gap > OUTAGE { gap } else { Duration::ZERO };
        let mut due = Due::default();
        for (session, watched) in &mut watch.sessions {
            watched.deadline += outage;
            if watched.ending {
                continue;
            }
            let left = watched.deadline.saturating_duration_since(now);
            let step = CHECKPOINT_STEP.max(watched.ttl / 8);
            if left.is_zero() {
                if due.expired.len() < MAX_PER_TICK {
                    watched.ending = true;
                    due.expired.push(*session);
                }
            } else if watched.written.saturating_sub(left) >= step
                && left < watched.ttl / 2
                && due.checkpoint.len() < MAX_PER_TICK
            {
                watched.written = left;
                due.checkpoint.push((*session, millis(left)));
            }
        }
        due
    }
}

fn millis(duration: Duration) -> Millis {
    Millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
