//! Those who wait in the fake, and how they are granted what they wait for.
//!
//! Invariant: nobody is granted a lock past somebody who waits for it, but who upgrades it.

use std::collections::{HashMap, HashSet};

use lockstep_proto::lock::v1::{
    ChangeKind, Grant, Grants, LockMode, LockSpec, operation_result::Result as Answer,
};
use tonic::Code;

use super::{Hold, Table};

/// A request that waits.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) session: u64,
    pub(super) serial: u64,
    pub(super) owner: String,
    pub(super) locks: Vec<LockSpec>,
    pub(super) value: Vec<u8>,
    /// The shared hold's token.
    pub(super) upgrade: Option<u64>,
}

impl Waiting {
    pub(super) fn wants(&self, name: &str) -> bool {
        self.locks.iter().any(|wanted| wanted.name == name)
    }
}

/// What a name is used as, with its size.
pub(super) const fn usage(mode: LockMode, size: u32) -> (LockMode, u32) {
    match mode {
        LockMode::Unspecified | LockMode::Shared | LockMode::Exclusive => (LockMode::Exclusive, 0),
        LockMode::Semaphore | LockMode::Barrier => (mode, size),
    }
}

impl Table {
    pub(super) fn wait(&mut self, waiting: Waiting, no_wait: bool) {
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
    pub(super) fn settle(&mut self) {
        self.let_pass();
        let mut blocked = HashSet::new();
        let mut left = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            let free = waiting.locks.iter().all(|spec| {
                // An upgrade goes before those that wait for its own hold.
                (waiting.upgrade.is_some() || !blocked.contains(&spec.name))
                    && self.admits(&waiting, spec)
            });
            if !free {
                blocked.extend(waiting.locks.iter().map(|spec| spec.name.clone()));
                left.push(waiting);
                continue;
            }
            let grants = waiting
                .locks
                .iter()
                .map(|spec| {
                    let Waiting { owner, value, .. } = &waiting;
                    self.grant(spec, waiting.session, owner, value, waiting.upgrade)
                })
                .collect();
            let answer = Answer::Granted(Grants { grants });
            self.answer(waiting.session, waiting.serial, answer);
        }
        self.waiting = left;
    }

    /// Lets those pass who have met at barriers.
    fn let_pass(&mut self) {
        let mut come: HashMap<String, u32> = HashMap::new();
        let at_barriers = |waiting: &Waiting| {
            let first = waiting.locks.first()?;
            (first.mode() == LockMode::Barrier).then(|| (first.name.clone(), first.size))
        };
        for (name, _) in self.waiting.iter().filter_map(at_barriers) {
            *come.entry(name).or_default() += 1;
        }
        let mut tokens: HashMap<String, u64> = HashMap::new();
        for waiting in std::mem::take(&mut self.waiting) {
            match at_barriers(&waiting) {
                Some((name, size)) if come.get(&name).is_some_and(|come| *come >= size) => {
                    let token = *tokens.entry(name.clone()).or_insert_with(|| {
                        self.last_token += 1;
                        self.last_token
                    });
                    let grant = Grant {
                        name,
                        mode: LockMode::Barrier.into(),
                        token,
                        holds: 0,
                    };
                    let grants = vec![grant];
                    let answer = Answer::Granted(Grants { grants });
                    self.answer(waiting.session, waiting.serial, answer);
                }
                _ => self.waiting.push(waiting),
            }
        }
    }

    fn admits(&self, waiting: &Waiting, spec: &LockSpec) -> bool {
        let mut others = self.holders(&spec.name).iter().filter(|hold| {
            (hold.session, hold.owner.as_str()) != (waiting.session, waiting.owner.as_str())
        });
        match spec.mode() {
            LockMode::Barrier => false,
            LockMode::Semaphore => {
                others.map(|hold| hold.permits).sum::<u32>() + spec.permits <= spec.size
            }
            LockMode::Shared => others.all(|hold| hold.mode == LockMode::Shared),
            LockMode::Exclusive | LockMode::Unspecified => others.next().is_none(),
        }
    }

    pub(super) fn grant(
        &mut self,
        spec: &LockSpec,
        session: u64,
        owner: &str,
        value: &[u8],
        upgrade: Option<u64>,
    ) -> Grant {
        let holds = self.holds.entry(spec.name.clone()).or_default();
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
                    mode: spec.mode(),
                    token: self.last_token,
                    holds: own.as_ref().map_or(1, |hold| hold.holds),
                    permits: spec.permits,
                    size: spec.size,
                    value: value.to_owned(),
                };
                let kind = match own {
                    Some(own) => {
                        *own = hold.clone();
                        ChangeKind::Converted
                    }
                    None => {
                        holds.push(hold.clone());
                        ChangeKind::Acquired
                    }
                };
                self.history.note(kind, &spec.name, &hold);
                hold
            }
        };
        Grant {
            name: spec.name.clone(),
            mode: hold.mode.into(),
            token: hold.token,
            holds: hold.holds,
        }
    }
}
