//! The fake's lock table.
//!
//! Invariant: requests for a lock are granted in the order in which they came, and an operation
//! is carried out once, however often its serial comes.

use std::collections::{BTreeMap, HashMap, HashSet};

use lockstep_proto::lock::v1::{
    Downgraded, Grant, Grants, Holder, LockInfo, LockMode, OperationError, OperationResult,
    Released, Renewed, Waiter, operation::Operation as Work, operation_result::Result as Answer,
    wait::Wait,
};
use tonic::Code;

/// A hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Whose.
    pub session: u64,
    /// Which of its owners.
    pub owner: String,
    /// How.
    pub mode: LockMode,
    /// Under which token.
    pub token: u64,
    /// How often.
    pub holds: u32,
}

/// A request that waits.
#[derive(Clone, Debug)]
struct Waiting {
    session: u64,
    serial: u64,
    owner: String,
    locks: Vec<(String, LockMode)>,
    /// The shared hold's token.
    upgrade: Option<u64>,
}

/// An answer, and the stream to send it on.
pub(super) struct Push {
    pub(super) stream: u64,
    pub(super) result: OperationResult,
}

/// All locks.
#[derive(Default)]
pub struct Table {
    holds: BTreeMap<String, Vec<Hold>>,
    /// Of all locks, in the order in which they came.
    waiting: Vec<Waiting>,
    last_token: u64,
    answers: HashMap<(u64, u64), Answer>,
    /// The stream that an operation came on last.
    origins: HashMap<(u64, u64), u64>,
    pushes: Vec<Push>,
}

impl Table {
    /// Who holds a lock.
    #[must_use]
    pub fn holders(&self, name: &str) -> &[Hold] {
        self.holds.get(name).map_or(&[], Vec::as_slice)
    }

    /// How many wait for a lock.
    #[must_use]
    pub fn waiters(&self, name: &str) -> usize {
        self.waiting.iter().filter(|w| w.wants(name)).count()
    }

    /// A lock as it is shown.
    #[must_use]
    pub fn show(&self, name: &str) -> LockInfo {
        let waiters: Vec<Waiter> = self
            .waiting
            .iter()
            .filter(|waiting| waiting.wants(name))
            .map(|waiting| Waiter {
                session_id: waiting.session,
                owner: waiting.owner.clone(),
                mode: LockMode::Exclusive.into(),
                upgrade: waiting.upgrade.is_some(),
                since_ms: 1_700_000_001_000,
            })
            .collect();
        let holders = self.holders(name).iter().map(|hold| Holder {
            session_id: hold.session,
            owner: hold.owner.clone(),
            mode: hold.mode.into(),
            token: hold.token,
            holds: hold.holds,
            since_ms: 1_700_000_000_000,
        });
        LockInfo {
            name: name.to_owned(),
            shard: 1,
            holders: holders.collect(),
            waiter_count: u32::try_from(waiters.len()).unwrap_or(u32::MAX),
            waiters,
        }
    }

    /// The names of the locks that are held.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.holds.keys().cloned().collect()
    }

    /// Makes somebody else hold a lock exclusively.
    pub fn occupy(&mut self, name: &str, session: u64) {
        self.grant(name, session, "", LockMode::Exclusive, None);
    }

    /// Makes that somebody give it back; the next are granted.
    pub(super) fn vacate(&mut self, name: &str) -> Vec<Push> {
        self.holds.remove(name);
        self.settle();
        std::mem::take(&mut self.pushes)
    }

    /// Carries an operation out. What it and others are answered now.
    pub(super) fn operate(
        &mut self,
        stream: u64,
        session: u64,
        serial: u64,
        work: &Work,
    ) -> Vec<Push> {
        self.origins.insert((session, serial), stream);
        let is_waiting = |w: &Waiting| (w.session, w.serial) == (session, serial);
        if let Some(first) = self.answers.get(&(session, serial)).cloned() {
            self.answer(session, serial, first);
        } else if !self.waiting.iter().any(is_waiting) {
            self.carry_out(session, serial, work);
        }
        std::mem::take(&mut self.pushes)
    }

    /// Ends a wait with a reason.
    pub(super) fn give_up(&mut self, session: u64, serial: u64, reason: &str) -> Vec<Push> {
        let before = self.waiting.len();
        self.waiting
            .retain(|w| (w.session, w.serial) != (session, serial));
        if self.waiting.len() < before {
            self.refuse(session, serial, Code::Aborted, reason);
            self.settle();
        }
        std::mem::take(&mut self.pushes)
    }

    /// Releases all that a session holds and wants.
    pub(super) fn end_session(&mut self, session: u64) -> Vec<Push> {
        self.waiting.retain(|waiting| waiting.session != session);
        for holds in self.holds.values_mut() {
            holds.retain(|hold| hold.session != session);
        }
        self.settle();
        std::mem::take(&mut self.pushes)
    }

    fn carry_out(&mut self, session: u64, serial: u64, work: &Work) {
        match work {
            Work::Acquire(acquire) => {
                let locks = acquire
                    .locks
                    .iter()
                    .map(|lock| (lock.name.clone(), lock.mode()))
                    .collect();
                self.wait(
                    Waiting {
                        session,
                        serial,
                        owner: acquire.owner.clone(),
                        locks,
                        upgrade: None,
                    },
                    matches!(&acquire.wait, Some(wait) if matches!(wait.wait, Some(Wait::NoWait(_)))),
                );
            }
            Work::Upgrade(upgrade) => {
                let Some(hold) = self.find(session, &upgrade.name, upgrade.token) else {
                    return self.refuse(session, serial, Code::FailedPrecondition, "STALE_TOKEN");
                };
                let waiting = Waiting {
                    session,
                    serial,
                    owner: hold.owner.clone(),
                    locks: vec![(upgrade.name.clone(), LockMode::Exclusive)],
                    upgrade: Some(upgrade.token),
                };
                let second = |w: &Waiting| w.upgrade.is_some() && w.wants(&upgrade.name);
                if self.waiting.iter().any(second) {
                    return self.refuse(session, serial, Code::Aborted, "UPGRADE_DEADLOCK");
                }
                let no_wait = matches!(&upgrade.wait, Some(wait) if matches!(wait.wait, Some(Wait::NoWait(_))));
                self.wait(waiting, no_wait);
            }
            Work::Release(release) => {
                let holds = self.holds.entry(release.name.clone()).or_default();
                let Some(hold) = holds
                    .iter_mut()
                    .find(|h| (h.session, h.token) == (session, release.token))
                else {
                    return self.refuse(session, serial, Code::FailedPrecondition, "STALE_TOKEN");
                };
                hold.holds -= 1;
                let left = hold.holds;
                holds.retain(|hold| hold.holds > 0);
                self.answer(session, serial, Answer::Released(Released { holds: left }));
                self.settle();
            }
            Work::Renew(renew) => match self.find(session, &renew.name, renew.token) {
                Some(_) => {
                    self.answer(session, serial, Answer::Renewed(Renewed { ttl_ms: 10_000 }));
                }
                None => self.refuse(session, serial, Code::FailedPrecondition, "STALE_TOKEN"),
            },
            Work::Downgrade(downgrade) => {
                match self.find(session, &downgrade.name, downgrade.token) {
                    Some(hold) => {
                        hold.mode = LockMode::Shared;
                        let token = hold.token;
                        self.answer(session, serial, Answer::Downgraded(Downgraded { token }));
                        self.settle();
                    }
                    None => self.refuse(session, serial, Code::FailedPrecondition, "STALE_TOKEN"),
                }
            }
        }
    }

    fn wait(&mut self, waiting: Waiting, no_wait: bool) {
        let (session, serial) = (waiting.session, waiting.serial);
        self.waiting.push(waiting);
        self.settle();
        let still = self
            .waiting
            .iter()
            .position(|w| (w.session, w.serial) == (session, serial));
        if let (true, Some(at)) = (no_wait, still) {
            self.waiting.remove(at);
            self.refuse(
                session,
                serial,
                Code::FailedPrecondition,
                "LOCK_UNAVAILABLE",
            );
        }
    }

    /// Grants all that can be granted, in order.
    fn settle(&mut self) {
        let mut blocked = HashSet::new();
        let mut left = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            let free = waiting.locks.iter().all(|(name, mode)| {
                // An upgrade goes before those that wait for its own hold.
                (waiting.upgrade.is_some() || !blocked.contains(name))
                    && self.holders(name).iter().all(|hold| {
                        let own = hold.session == waiting.session && hold.owner == waiting.owner;
                        own || (hold.mode, *mode) == (LockMode::Shared, LockMode::Shared)
                    })
            });
            if !free {
                blocked.extend(waiting.locks.iter().map(|(name, _)| name.clone()));
                left.push(waiting);
                continue;
            }
            let grants = waiting
                .locks
                .iter()
                .map(|(name, mode)| {
                    self.grant(
                        name,
                        waiting.session,
                        &waiting.owner,
                        *mode,
                        waiting.upgrade,
                    )
                })
                .collect();
            let answer = Answer::Granted(Grants { grants });
            self.answer(waiting.session, waiting.serial, answer);
        }
        self.waiting = left;
        self.holds.retain(|_, holds| !holds.is_empty());
    }

    fn grant(
        &mut self,
        name: &str,
        session: u64,
        owner: &str,
        mode: LockMode,
        upgrade: Option<u64>,
    ) -> Grant {
        let holds = self.holds.entry(name.to_owned()).or_default();
        let own = holds
            .iter_mut()
            .find(|hold| hold.session == session && hold.owner == owner);
        let hold = match (own, upgrade) {
            (Some(hold), None) => {
                hold.holds += 1;
                hold.clone()
            }
            (own, _) => {
                self.last_token += 1;
                let hold = Hold {
                    session,
                    owner: owner.to_owned(),
                    mode,
                    token: self.last_token,
                    holds: own.as_ref().map_or(1, |hold| hold.holds),
                };
                match own {
                    Some(own) => *own = hold.clone(),
                    None => holds.push(hold.clone()),
                }
                hold
            }
        };
        Grant {
            name: name.to_owned(),
            mode: hold.mode.into(),
            token: hold.token,
            holds: hold.holds,
        }
    }

    fn find(&mut self, session: u64, name: &str, token: u64) -> Option<&mut Hold> {
        let holds = self.holds.get_mut(name)?;
        holds
            .iter_mut()
            .find(|hold| (hold.session, hold.token) == (session, token))
    }

    fn refuse(&mut self, session: u64, serial: u64, code: Code, reason: &str) {
        self.answer(session, serial, refusal(code, reason));
    }

    fn answer(&mut self, session: u64, serial: u64, answer: Answer) {
        self.answers.insert((session, serial), answer.clone());
        self.pushes.push(Push {
            stream: self.origins.get(&(session, serial)).copied().unwrap_or(0),
            result: OperationResult {
                serial,
                result: Some(answer),
            },
        });
    }
}

impl Waiting {
    fn wants(&self, name: &str) -> bool {
        self.locks.iter().any(|(wanted, _)| wanted == name)
    }
}

/// An error in a stream.
pub(super) fn refusal(code: Code, reason: &str) -> Answer {
    Answer::Error(OperationError {
        code: code.into(),
        reason: reason.to_owned(),
        message: format!("the fake says {reason}"),
        ..OperationError::default()
    })
}
