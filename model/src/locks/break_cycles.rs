//! Breaking circles of waits.
//!
//! Invariant: when a command is done, no circle lies within this shard. A circle closes where a wait
//! begins, or where a party that waits elsewhere too is granted what others stand in line for: it is
//! enough to look from there. A wait that is aborted is exactly the one that was meant.

use super::Locks;
use crate::{
    id::{Owner, Party, Serial, SessionId, ShardTime, WaitEpoch},
    kernel::Kernel,
    locks::{
        deadlock::{
            self, Blocked, Deadlock, Edge, Holds, MAX_HOLDERS, MAX_REMEMBERED, Waits, Walk, words,
        },
        lock::{Hold, Lock},
        mode::Usage,
        reply::LockRefusal,
        wait::{Goal, WaitingRequest},
    },
    reply::{Refusal, Reply},
};

impl Locks {
    /// Breaks all circles that a new wait has closed.
    pub(super) fn break_cycles_of_wait(
        &mut self,
        kernel: &mut Kernel,
        session: SessionId,
        serial: Serial,
    ) {
        if let Some(party) = self.party_of(session, serial) {
            self.break_cycles(kernel, &party);
        }
    }

    /// Breaks all circles that a grant has closed.
    pub(super) fn break_cycles_of_grant(
        &mut self,
        kernel: &mut Kernel,
        session: SessionId,
        owner: &Owner,
    ) {
        if self.waits_of(session).next().is_some() {
            let owner = owner.clone();
            self.break_cycles(kernel, &Party { session, owner });
        }
    }

    fn break_cycles(&mut self, kernel: &mut Kernel, party: &Party) {
        if !self.is_waited_for(party) {
            return;
        }
        // Each turn ends a wait.
        while let Some(cycle) = self.local_cycle(kernel, party) {
            let Some(Waits { party, serial, .. }) = deadlock::victim(&cycle) else {
                return;
            };
            let (victim, serial) = (party.session, *serial);
            self.abort(kernel, victim, serial, cycle);
        }
    }

    pub(super) fn abort_wait(
        &mut self,
        kernel: &mut Kernel,
        session: SessionId,
        serial: Serial,
        epoch: WaitEpoch,
        cycle: Vec<Edge>,
    ) -> Reply {
        if self.waiting.get(&epoch) != Some(&(session, serial)) {
            return Reply::Refused(Refusal::Lock(LockRefusal::NoSuchWait));
        }
        self.abort(kernel, session, serial, cycle);
        Reply::Done
    }

    fn abort(&mut self, kernel: &mut Kernel, session: SessionId, serial: Serial, cycle: Vec<Edge>) {
        let Some(victim) = self.party_of(session, serial) else {
            return;
        };
        let Some(name) = self.withdraw(kernel, session, serial) else {
            return;
        };
        let refusal = Refusal::Lock(LockRefusal::Deadlock {
            name: name.to_string(),
            cycle: words(&cycle),
        });
        kernel.complete(session, serial, Reply::Refused(refusal));
        self.deadlock_count = self.deadlock_count.saturating_add(1);
        if self.deadlocks.len() >= MAX_REMEMBERED {
            self.deadlocks.pop_front();
        }
        self.deadlocks.push_back(Deadlock {
            at: kernel.wall(),
            victim,
            name,
            cycle,
        });
    }

    /// A circle through a party, all of whose waits are in this shard.
    fn local_cycle(&self, kernel: &Kernel, party: &Party) -> Option<Vec<Edge>> {
        let mut walk = Walk::new([party.clone()]);
        while !walk.frontier().is_empty() {
            let frontier = walk.frontier().clone();
            walk.learn(
                frontier
                    .iter()
                    .flat_map(|party| self.blocked(kernel, party)),
            );
        }
        walk.cycle()
    }

    /// True if somebody waits for what a party holds here: else no circle can go through it.
    fn is_waited_for(&self, party: &Party) -> bool {
        let Some(holdings) = self.holdings.get(&party.session) else {
            return false;
        };
        let own = holdings.keys().filter(|(_, owner)| *owner == party.owner);
        let mut locks = own.filter_map(|(name, _)| self.table.get(name));
        locks.any(|lock| lock.queued() > 0 || lock.upgrader.is_some())
    }

    /// What a party waits for here, and for whom.
    pub(super) fn blocked(&self, kernel: &Kernel, party: &Party) -> Vec<Blocked> {
        self.waits_of(party.session)
            .filter(|(_, wait)| self.owner_of(wait) == Some(&party.owner))
            .filter_map(|((_, serial), wait)| self.blocked_by(kernel, party, *serial, wait))
            .collect()
    }

    fn blocked_by(
        &self,
        kernel: &Kernel,
        party: &Party,
        serial: Serial,
        wait: &WaitingRequest,
    ) -> Option<Blocked> {
        let name = wait.goal.lock()?;
        let lock = self.table.get(name)?;
        let (priority, opened) = kernel.rank(party.session)?;
        let wait = Waits {
            party: party.clone(),
            priority,
            opened,
            shard: kernel.id(),
            serial,
            epoch: wait.epoch,
            name: name.clone(),
        };
        let holders = holders(lock).filter(|holder| holder.party != *party);
        Some(Blocked {
            wait,
            holders: holders.take(MAX_HOLDERS).collect(),
        })
    }

    /// True if this wait and this hold of the same lock are there.
    pub(super) fn stands(&self, edge: &Edge) -> bool {
        let Edge { wait, holder } = edge;
        let is_there = self.waiting.get(&wait.epoch) == Some(&(wait.party.session, wait.serial));
        let held = self.table.get(&wait.name).and_then(|lock| {
            lock.held
                .get(holder.token)
                .filter(|hold| hold.party() == holder.party)
        });
        let waits_there = self
            .wait(wait.party.session, wait.serial)
            .is_some_and(|waiting| waiting.goal.lock() == Some(&wait.name));
        is_there && waits_there && held.is_some()
    }

    /// The holders of the locks in which waits have begun after `after` and until `until`, and the
    /// last of these waits: where a walk begins. At most `limit` waits are looked at.
    pub(crate) fn suspects(
        &self,
        after: WaitEpoch,
        until: ShardTime,
        limit: usize,
    ) -> (Vec<Party>, WaitEpoch) {
        let mut last = after;
        let mut names = std::collections::BTreeSet::new();
        for (epoch, (session, serial)) in self.waiting.range(after.next()..).take(limit) {
            let Some(wait) = self.wait(*session, *serial) else {
                continue;
            };
            if wait.began > until {
                break;
            }
            last = *epoch;
            names.extend(wait.goal.lock());
        }
        let locks = names.into_iter().filter_map(|name| self.table.get(name));
        let parties = locks.flat_map(|lock| holders(lock).take(MAX_HOLDERS));
        (parties.map(|holder| holder.party).collect(), last)
    }

    /// True if somebody waits for something that can be part of a circle.
    pub(crate) fn has_waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn wait(&self, session: SessionId, serial: Serial) -> Option<&WaitingRequest> {
        self.waits.get(&(session, serial))
    }

    fn party_of(&self, session: SessionId, serial: Serial) -> Option<Party> {
        let owner = self.owner_of(self.wait(session, serial)?)?.clone();
        Some(Party { session, owner })
    }

    /// Whose wait it is.
    fn owner_of<'a>(&'a self, wait: &'a WaitingRequest) -> Option<&'a Owner> {
        match &wait.goal {
            Goal::Acquire { acquisition, .. } => Some(&acquisition.owner),
            Goal::Upgrade { name, token } => {
                let hold: &Hold = self.table.get(name)?.held.get(*token)?;
                Some(&hold.owner)
            }
        }
    }
}

/// Those for whom all wait who wait for the lock.
fn holders(lock: &Lock) -> impl Iterator<Item = Holds> + '_ {
    let is_lock = lock.held.usage() == Some(Usage::Lock);
    lock.held
        .iter()
        .filter(move |_| is_lock)
        .map(|(token, hold)| Holds {
            party: hold.party(),
            token,
        })
}
