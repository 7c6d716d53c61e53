//! The locks of a shard as bytes.
//!
//! Invariants: only what cannot be derived is written, each fact once: the queues, the indexes and
//! what waiting acquisitions have taken are rebuilt from the waits and the holds. A state that is
//! restored keeps every invariant of [`Locks`], or it is refused.

mod records;

use std::collections::BTreeMap;

use super::{
    Locks,
    deadlock::{Deadlock, MAX_REMEMBERED},
    lock::{Held, Hold, Lock, Upgrader, Waiter},
    mode::Mode,
    wait::{Goal, WaitingRequest},
};
use crate::{
    codec::{Decode, DecodeError, Encode, Reader, bounded_list, check_bounds, put_count},
    id::{FencingToken, LockName, Serial, SessionId},
    kernel::{Kernel, LAST_COUNT},
};

impl Encode for Locks {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.last_token.encode_into(out);
        self.last_wait.encode_into(out);
        self.revision.encode_into(out);
        self.deadlock_count.encode_into(out);
        let deadlocks: Vec<_> = self.deadlocks.iter().cloned().collect();
        deadlocks.encode_into(out);
        // A lock that is waited for is also held; a barrier is only waited for.
        let held = || self.table.iter().filter(|(_, lock)| !lock.held.is_free());
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
        self.waits.encode_into(out);
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

impl Locks {
    /// Reads the locks of sessions that were read before.
    pub(crate) fn decode_from(
        kernel: &Kernel,
        input: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        let mut locks = Self::new();
        locks.last_token = Decode::decode_from(input)?;
        check_bounds("last token", locks.last_token.0, 0, LAST_COUNT)?;
        locks.last_wait = Decode::decode_from(input)?;
        check_bounds("last wait", locks.last_wait.0, 0, LAST_COUNT)?;
        locks.revision = Decode::decode_from(input)?;
        check_bounds("revision", locks.revision.0, 0, LAST_COUNT)?;
        locks.deadlock_count = Decode::decode_from(input)?;
        let deadlocks: Vec<Deadlock> =
            bounded_list(input, "number of deadlocks", 0, MAX_REMEMBERED)?;
        locks.deadlocks = deadlocks.into();
        let table: BTreeMap<LockName, Holds> = Decode::decode_from(input)?;
        for (name, Holds { mode, holds }) in table {
            for (token, hold) in holds {
                locks.restore_hold(kernel, &name, mode, token, hold)?;
            }
        }
        locks.waits = Decode::decode_from(input)?;
        // A copy: what is rebuilt from them lies beside them.
        let waits = locks.waits.iter();
        let waits: Vec<_> = waits.map(|(key, wait)| (*key, wait.clone())).collect();
        for ((session, serial), wait) in waits {
            locks.restore_wait(kernel, session, serial, wait)?;
        }
        let is_unused = |lock: &Lock| lock.held.iter().any(|(_, hold)| hold.is_unused());
        if locks.table.values().any(is_unused) {
            return Err(DecodeError::Inconsistent {
                what: "a hold that nobody has",
            });
        }
        Ok(locks)
    }

    fn restore_hold(
        &mut self,
        kernel: &Kernel,
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
        if !kernel.is_open(hold.session) {
            return Err(DecodeError::Inconsistent {
                what: "a hold of no open session",
            });
        }
        let holdings = self.holdings.entry(hold.session).or_default();
        let key = (name.clone(), hold.owner.clone());
        if holdings.insert(key, token).is_some() {
            return Err(DecodeError::Inconsistent {
                what: "two holds of one owner",
            });
        }
        let lock = self.table.get_or_default(name);
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

    fn restore_wait(
        &mut self,
        kernel: &Kernel,
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
        if !kernel.is_pending(session, serial) {
            return Err(DecodeError::Inconsistent {
                what: "a wait of no pending request",
            });
        }
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
                    self.table.get_or_default(&spec.name);
                }
                let Some(lock) = self.table.get_mut(&spec.name) else {
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
                let Some(lock) = self.table.get_mut(&name) else {
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
