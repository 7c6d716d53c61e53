//! A shard's state as bytes.
//!
//! Invariants: only what cannot be derived is written, each fact once: the queues, the indexes and
//! what waiting acquisitions have taken are rebuilt from the sessions and the holds. A state that is
//! restored keeps every invariant of [`Shard`], or it is refused.

mod records;

use std::collections::BTreeMap;

use super::Shard;
use crate::{
    codec::{Decode, DecodeError, Encode, Reader, bounded_list, check_bounds, put_count},
    id::{FencingToken, LockName, Serial, SessionId},
    locks::{
        deadlock::{Deadlock, MAX_REMEMBERED},
        lock::{Held, Hold, Lock, Upgrader, Waiter},
        mode::Mode,
    },
    session::{Goal, Holdings, Presence, WaitingRequest},
};

/// No counter gets as far: at a million steps a second this takes 146,000 years. What claims to be
/// beyond was not written by a shard, and could not count on without giving a value twice.
const LAST_COUNT: u64 = u64::MAX >> 2;

impl Encode for Shard {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.id.encode_into(out);
        self.now.encode_into(out);
        self.last_touch.encode_into(out);
        self.floors.encode_into(out);
        self.last_token.encode_into(out);
        self.last_wait.encode_into(out);
        self.revision.encode_into(out);
        self.deadlock_count.encode_into(out);
        let deadlocks: Vec<_> = self.deadlocks.iter().cloned().collect();
        deadlocks.encode_into(out);
        self.sessions.encode_into(out);
        // A lock that is waited for is also held; a barrier is only waited for.
        let held = || self.locks.iter().filter(|(_, lock)| !lock.held.is_free());
        put_count(out, held().count());
        for (name, lock) in held() {
            name.encode_into(out);
            mode_of_first(lock).encode_into(out);
            let holds: Vec<_> = lock.held.iter().collect();
            put_count(out, holds.len());
            for (token, hold) in holds {
                token.encode_into(out);
                hold.encode_into(out);
            }
        }
    }
}

impl Decode for Shard {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut shard = Self::new(Decode::decode_from(input)?);
        shard.now = Decode::decode_from(input)?;
        shard.last_touch = Decode::decode_from(input)?;
        check_bounds("last touch", shard.last_touch.0, 0, LAST_COUNT)?;
        shard.floors = Decode::decode_from(input)?;
        shard.last_token = Decode::decode_from(input)?;
        check_bounds("last token", shard.last_token.0, 0, LAST_COUNT)?;
        shard.last_wait = Decode::decode_from(input)?;
        check_bounds("last wait", shard.last_wait.0, 0, LAST_COUNT)?;
        shard.revision = Decode::decode_from(input)?;
        check_bounds("revision", shard.revision.0, 0, LAST_COUNT)?;
        shard.deadlock_count = Decode::decode_from(input)?;
        let deadlocks: Vec<Deadlock> =
            bounded_list(input, "number of deadlocks", 0, MAX_REMEMBERED)?;
        shard.deadlocks = deadlocks.into();
        shard.sessions = Decode::decode_from(input)?;
        for (session, presence) in &shard.sessions {
            match presence {
                Presence::Open(_) => {
                    shard.holdings.insert(*session, Holdings::new());
                }
                Presence::Ended { until, .. } => {
                    shard.tombstones.insert((*until, *session));
                }
                Presence::Ending { home, .. } => {
                    let shards = home.touched.iter();
                    shard
                        .releases
                        .extend(shards.map(|touched| (*touched, *session)));
                }
            }
        }
        let locks: BTreeMap<LockName, Holds> = Decode::decode_from(input)?;
        for (name, Holds { mode, holds }) in locks {
            for (token, hold) in holds {
                shard.restore_hold(&name, mode, token, hold)?;
            }
        }
        for (session, serial, wait) in shard.waits() {
            shard.restore_wait(session, serial, wait)?;
        }
        let is_unused = |lock: &Lock| lock.held.iter().any(|(_, hold)| hold.is_unused());
        if shard.locks.values().any(is_unused) {
            return Err(DecodeError::Inconsistent {
                what: "a hold that nobody has",
            });
        }
        Ok(shard)
    }
}

/// The holders of a lock as they are written.
struct Holds {
    mode: Mode,
    holds: BTreeMap<FencingToken, Hold>,
}

impl Decode for Holds {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let Some(mode) = Decode::decode_from(input)? else {
            return Err(DecodeError::Inconsistent {
                what: "a lock without holders",
            });
        };
        let holds: BTreeMap<_, _> = Decode::decode_from(input)?;
        if holds.is_empty() {
            return Err(DecodeError::Inconsistent {
                what: "a lock without holders",
            });
        }
        Ok(Self { mode, holds })
    }
}

impl Shard {
    /// What there is now of all that is written, apart from the shard: its encoding is that of
    /// the shard at this moment. Takes the same time however large the shard is; the next change of
    /// a session or a lock copies that one.
    pub(crate) fn point(&mut self) -> Self {
        Self {
            now: self.now,
            last_touch: self.last_touch,
            floors: self.floors.clone(),
            last_token: self.last_token,
            last_wait: self.last_wait,
            revision: self.revision,
            deadlock_count: self.deadlock_count,
            deadlocks: self.deadlocks.clone(),
            sessions: self.sessions.freeze(),
            locks: self.locks.freeze(),
            ..Self::new(self.id)
        }
    }

    fn restore_hold(
        &mut self,
        name: &LockName,
        mode: Mode,
        token: FencingToken,
        hold: Hold,
    ) -> Result<(), DecodeError> {
        if token > self.last_token {
            return Err(DecodeError::Inconsistent {
                what: "a token that was never given",
            });
        }
        let Some(holdings) = self.holdings.get_mut(&hold.session) else {
            return Err(DecodeError::Inconsistent {
                what: "a hold of no open session",
            });
        };
        let key = (name.clone(), hold.owner.clone());
        if holdings.insert(key, token).is_some() {
            return Err(DecodeError::Inconsistent {
                what: "two holds of one owner",
            });
        }
        let lock = self.locks.get_or_default(name);
        let mode = match mode {
            Mode::Permits { of, .. } => Mode::Permits {
                count: hold.permits,
                of,
            },
            Mode::Shared | Mode::Exclusive | Mode::Meet { .. } => mode,
        };
        if lock.held.add(mode, token, hold) {
            Ok(())
        } else {
            Err(DecodeError::Inconsistent {
                what: "holds that exclude each other",
            })
        }
    }

    /// A copy of all waits: what is rebuilt from them lies in the same shard.
    fn waits(&self) -> Vec<(SessionId, Serial, WaitingRequest)> {
        let members = self
            .sessions
            .iter()
            .filter_map(|(session, presence)| match presence {
                Presence::Open(member) => Some((session, member)),
                Presence::Ending { .. } | Presence::Ended { .. } => None,
            });
        let waits = members.flat_map(|(session, member)| {
            let waits = member.requests.waits.iter();
            waits.map(|(serial, wait)| (*session, *serial, wait.clone()))
        });
        waits.collect()
    }

    fn restore_wait(
        &mut self,
        session: SessionId,
        serial: Serial,
        wait: WaitingRequest,
    ) -> Result<(), DecodeError> {
        const NOT_HELD: DecodeError = DecodeError::Inconsistent {
            what: "a wait in a free lock",
        };
        let WaitingRequest {
            deadline,
            since,
            epoch,
            goal,
            ..
        } = wait;
        check_bounds("number of a wait", epoch.0, 0, self.last_wait.0)?;
        if self.waiting.insert(epoch, (session, serial)).is_some() {
            return Err(DecodeError::Inconsistent {
                what: "two waits of one number",
            });
        }
        self.deadlines
            .extend(deadline.map(|deadline| (deadline, session, serial)));
        match goal {
            Goal::Acquire {
                acquisition,
                arrival,
            } => {
                for spec in acquisition.taken() {
                    let held = self.own_hold(session, &acquisition.owner, &spec.name);
                    let hold = held.and_then(|(lock, token)| lock.held.get_mut(token));
                    let Some(hold) = hold else {
                        return Err(NOT_HELD);
                    };
                    hold.pending = hold.pending.saturating_add(1);
                }
                let Some(spec) = acquisition.next() else {
                    return Err(DecodeError::Inconsistent {
                        what: "a wait for nothing",
                    });
                };
                if matches!(spec.mode, Mode::Meet { .. }) {
                    self.locks.get_or_default(&spec.name);
                }
                let Some(lock) = self.locks.get_mut(&spec.name) else {
                    return Err(NOT_HELD);
                };
                if lock.usage().is_some_and(|usage| usage != spec.mode.usage()) {
                    return Err(DecodeError::Inconsistent {
                        what: "a wait for another use of a lock",
                    });
                }
                check_bounds("place in a queue", arrival.0, 0, LAST_COUNT)?;
                let mode = spec.mode;
                let owner = acquisition.owner;
                let waiter = Waiter {
                    session,
                    serial,
                    owner,
                    mode,
                    since,
                };
                if !lock.restore_waiter(arrival, waiter) {
                    return Err(DecodeError::Inconsistent {
                        what: "two waits in one place",
                    });
                }
            }
            Goal::Upgrade { name, token } => {
                let Some(lock) = self.locks.get_mut(&name) else {
                    return Err(NOT_HELD);
                };
                let is_own = is_upgradable(lock, session, token);
                let upgrader = Upgrader {
                    session,
                    serial,
                    token,
                    since,
                };
                if !is_own || lock.upgrader.replace(upgrader).is_some() {
                    return Err(DecodeError::Inconsistent {
                        what: "an upgrade out of place",
                    });
                }
            }
        }
        Ok(())
    }
}

/// How the first of a lock's holders holds it; the others hold it so too, but for the number of
/// permits.
fn mode_of_first(lock: &Lock) -> Option<Mode> {
    let (_, hold) = lock.held.iter().next()?;
    lock.held.mode_of(hold)
}

fn is_upgradable(lock: &Lock, session: SessionId, token: FencingToken) -> bool {
    let hold = lock.held.get(token);
    hold.is_some_and(|hold| hold.session == session && hold.granted > 0)
        && matches!(lock.held, Held::Shared(_))
}
