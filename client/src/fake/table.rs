//! The fake's lock table.
//!
//! Invariant: requests for a lock are granted in the order in which they came, and an operation
//! is carried out once, however often its serial comes.

mod queue;

use std::collections::{BTreeMap, HashMap};

use lockstep_proto::lock::v1::{
    AcquireOperation, ChangeKind, Downgraded, Holder, LockInfo, LockMode, LockSpec, OperationError,
    OperationResult, Proclaimed, Released, Renewed, UpgradeOperation, Waiter,
    operation::Operation as Work, operation_result::Result as Answer, wait::Wait,
};
use tonic::Code;

use self::queue::{Waiting, usage};
use super::history::History;

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
    /// Of a semaphore: how many permits it has.
    pub permits: u32,
    /// Of a semaphore: how many there are.
    pub size: u32,
    /// What it says.
    pub value: Vec<u8>,
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
    /// Of the holds.
    pub history: History,
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
        let waiting = self.waiting.iter().filter(|waiting| waiting.wants(name));
        let waiters: Vec<Waiter> = (1..)
            .zip(waiting)
            .map(|(position, waiting)| {
                let spec = waiting.locks.iter().find(|spec| spec.name == name);
                let spec = spec.cloned().unwrap_or_default();
                Waiter {
                    session_id: waiting.session,
                    owner: waiting.owner.clone(),
                    mode: spec.mode,
                    upgrade: waiting.upgrade.is_some(),
                    since_ms: 1_700_000_001_000,
                    position,
                    permits: spec.permits,
                    size: spec.size,
                }
            })
            .collect();
        let holders = self.holders(name).iter().map(|hold| Holder {
            session_id: hold.session,
            owner: hold.owner.clone(),
            mode: hold.mode.into(),
            token: hold.token,
            holds: hold.holds,
            since_ms: 1_700_000_000_000,
            value: hold.value.clone(),
            permits: hold.permits,
            size: hold.size,
        });
        LockInfo {
            name: name.to_owned(),
            shard: self.history.shard_of(name),
            holder_count: u32::try_from(self.holders(name).len()).unwrap_or(u32::MAX),
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
        self.occupy_saying(name, session, b"");
    }

    /// As [`Self::occupy`], and say something.
    pub fn occupy_saying(&mut self, name: &str, session: u64, value: &[u8]) {
        let spec = LockSpec {
            name: name.to_owned(),
            mode: LockMode::Exclusive.into(),
            ..LockSpec::default()
        };
        self.grant(&spec, session, "", value, None);
    }

    /// Makes that somebody give it back; the next are granted.
    pub(super) fn vacate(&mut self, name: &str) -> Vec<Push> {
        self.remove_holds(|of, _| of == name);
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

    /// Undoes an acquisition, however far it came.
    pub(super) fn abandon(&mut self, session: u64, serial: u64) -> Vec<Push> {
        let abandoned = refusal(Code::Cancelled, "CANCELLED");
        let before = self.answers.insert((session, serial), abandoned);
        if let Some(Answer::Granted(granted)) = before {
            for grant in granted.grants.iter().filter(|grant| grant.holds > 0) {
                if let Some(hold) = self.find(session, &grant.name, grant.token) {
                    hold.holds -= 1;
                }
            }
            self.remove_holds(|_, hold| hold.holds == 0);
        }
        self.waiting
            .retain(|w| (w.session, w.serial) != (session, serial));
        self.settle();
        std::mem::take(&mut self.pushes)
    }

    /// Releases all that a session holds and wants.
    pub(super) fn end_session(&mut self, session: u64) -> Vec<Push> {
        self.waiting.retain(|waiting| waiting.session != session);
        self.remove_holds(|_, hold| hold.session == session);
        self.settle();
        std::mem::take(&mut self.pushes)
    }

    fn carry_out(&mut self, session: u64, serial: u64, work: &Work) {
        match work {
            Work::Acquire(acquire) => self.acquire(session, serial, acquire),
            Work::Upgrade(upgrade) => self.upgrade(session, serial, upgrade),
            Work::Release(release) => {
                let Some(hold) = self.find(session, &release.name, release.token) else {
                    return self.refuse(session, serial, Code::FailedPrecondition, "STALE_TOKEN");
                };
                hold.holds -= 1;
                let left = hold.holds;
                self.answer(session, serial, Answer::Released(Released { holds: left }));
                self.remove_holds(|_, hold| hold.holds == 0);
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
                    Some(hold) if hold.holds > 1 => {
                        self.refuse(session, serial, Code::FailedPrecondition, "HELD_AGAIN");
                    }
                    Some(hold) => {
                        hold.mode = LockMode::Shared;
                        let (token, hold) = (hold.token, hold.clone());
                        self.history
                            .note(ChangeKind::Converted, &downgrade.name, &hold);
                        self.answer(session, serial, Answer::Downgraded(Downgraded { token }));
                        self.settle();
                    }
                    None => self.refuse(session, serial, Code::FailedPrecondition, "STALE_TOKEN"),
                }
            }
            Work::Proclaim(proclaim) => match self.find(session, &proclaim.name, proclaim.token) {
                Some(hold) => {
                    hold.value.clone_from(&proclaim.value);
                    let hold = hold.clone();
                    self.history
                        .note(ChangeKind::Proclaimed, &proclaim.name, &hold);
                    self.answer(session, serial, Answer::Proclaimed(Proclaimed {}));
                }
                None => self.refuse(session, serial, Code::FailedPrecondition, "STALE_TOKEN"),
            },
        }
    }

    fn upgrade(&mut self, session: u64, serial: u64, upgrade: &UpgradeOperation) {
        let Some(hold) = self.find(session, &upgrade.name, upgrade.token) else {
            return self.refuse(session, serial, Code::FailedPrecondition, "STALE_TOKEN");
        };
        if hold.holds > 1 {
            return self.refuse(session, serial, Code::FailedPrecondition, "HELD_AGAIN");
        }
        let waiting = Waiting {
            session,
            serial,
            owner: hold.owner.clone(),
            locks: vec![LockSpec {
                name: upgrade.name.clone(),
                mode: LockMode::Exclusive.into(),
                ..LockSpec::default()
            }],
            value: hold.value.clone(),
            upgrade: Some(upgrade.token),
        };
        let second = |w: &Waiting| w.upgrade.is_some() && w.wants(&upgrade.name);
        if self.waiting.iter().any(second) {
            return self.refuse(session, serial, Code::Aborted, "UPGRADE_DEADLOCK");
        }
        self.wait(waiting, is_no_wait(upgrade.wait.as_ref()));
    }

    fn acquire(&mut self, session: u64, serial: u64, acquire: &AcquireOperation) {
        let mut locks = acquire.locks.clone();
        for spec in &mut locks {
            if spec.mode() == LockMode::Semaphore {
                spec.permits = spec.permits.max(1);
            }
        }
        if locks.iter().any(|spec| self.is_used_otherwise(spec)) {
            return self.refuse(session, serial, Code::FailedPrecondition, "OTHER_USAGE");
        }
        let waiting = Waiting {
            session,
            serial,
            owner: match acquire.owner.as_str() {
                "" => format!("~{serial}"),
                named => named.to_owned(),
            },
            locks,
            value: acquire.value.clone(),
            upgrade: None,
        };
        self.wait(waiting, is_no_wait(acquire.wait.as_ref()));
    }

    fn is_used_otherwise(&self, spec: &LockSpec) -> bool {
        let wanted = usage(spec.mode(), spec.size);
        let held = self.holders(&spec.name).iter();
        let waited = self.waiting.iter().flat_map(|waiting| &waiting.locks);
        let waited = waited.filter(|other| other.name == spec.name);
        held.map(|hold| usage(hold.mode, hold.size))
            .chain(waited.map(|other| usage(other.mode(), other.size)))
            .any(|present| present != wanted)
    }

    fn remove_holds(&mut self, which: impl Fn(&str, &Hold) -> bool) {
        for (name, holds) in &mut self.holds {
            for hold in holds.extract_if(.., |hold| which(name, hold)) {
                self.history.note(ChangeKind::Released, name, &hold);
            }
        }
        self.holds.retain(|_, holds| !holds.is_empty());
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

fn is_no_wait(wait: Option<&lockstep_proto::lock::v1::Wait>) -> bool {
    wait.is_some_and(|wait| matches!(wait.wait, Some(Wait::NoWait(_))))
}

/// An error in a stream.
pub(super) fn refusal(code: Code, reason: &str) -> Answer {
    let facts: &[(&str, &str)] = match reason {
        "DEADLOCK" => &[("lock", "a"), ("cycle", "one waits for the other")],
        _ => &[],
    };
    let facts = facts.iter();
    Answer::Error(OperationError {
        code: code.into(),
        reason: reason.to_owned(),
        message: format!("the fake says {reason}"),
        metadata: facts
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        retry_after_ms: 0,
    })
}
