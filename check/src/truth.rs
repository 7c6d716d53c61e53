//! Who waits for whom, over all shards, at one moment that no node ever sees.
//!
//! It is read from the lists of holders and waiters alone, by a rule of its own: who waits for a lock
//! waits for the holders that exclude it, and, since queues are first come, first served, for all who
//! wait before it. The model knows only edges to holders; that both see the same circles is part of
//! what is checked.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::{
    Mode, Party,
    locks::{
        deadlock::{Edge, Waits},
        query::{HolderView, LockView, WaiterView},
    },
};

use crate::{
    cluster::{Cluster, Site},
    replica::Replica,
};

/// The waits of one moment.
pub struct Truth {
    /// From who waits to those who keep it waiting.
    waits_for: BTreeMap<Party, BTreeSet<Party>>,
}

impl Truth {
    /// As it is now, in all shards.
    #[must_use]
    pub fn of(cluster: &Cluster) -> Self {
        Self::of_sites(cluster.sites.values())
    }

    /// As it is now, in some shards.
    pub fn of_sites<'a>(sites: impl IntoIterator<Item = &'a Site>) -> Self {
        let mut waits_for: BTreeMap<Party, BTreeSet<Party>> = BTreeMap::new();
        let locks = sites.into_iter().flat_map(|site| site.replica.locks());
        for lock in locks {
            for (at, waiter) in lock.waiters.iter().enumerate() {
                let party = of_waiter(waiter);
                let holders = lock.holders.iter();
                let holders = holders.filter(|holder| excludes(holder, waiter));
                let before = lock.waiters.iter().take(at);
                let keepers = holders.map(of_holder).chain(before.map(of_waiter));
                let keepers = keepers.filter(|keeper| *keeper != party);
                waits_for.entry(party.clone()).or_default().extend(keepers);
            }
        }
        Self { waits_for }
    }

    /// True if some circle is closed.
    #[must_use]
    pub fn has_circle(&self) -> bool {
        self.waits_for.keys().any(|party| self.is_stuck(party))
    }

    /// True if a party waits, in the end, for itself.
    #[must_use]
    pub fn is_stuck(&self, party: &Party) -> bool {
        let mut seen = BTreeSet::new();
        let mut next: Vec<&Party> = self.waits_for.get(party).into_iter().flatten().collect();
        while let Some(keeper) = next.pop() {
            if keeper == party {
                return true;
            }
            if seen.insert(keeper) {
                next.extend(self.waits_for.get(keeper).into_iter().flatten());
            }
        }
        false
    }
}

/// True if every wait and every hold of a circle is there now, and its parties wait for themselves.
#[must_use]
pub fn is_closed(cluster: &Cluster, circle: &[Edge]) -> bool {
    let truth = Truth::of(cluster);
    let stands = |edge: &Edge| {
        let site = cluster.sites.get(&edge.wait.shard);
        site.is_some_and(|site| {
            let lock = site.replica.lock(&edge.wait.name);
            has_wait(&site.replica, &edge.wait) && lock.is_some_and(|lock| is_held(lock, edge))
        })
    };
    is_ring(circle)
        && circle
            .iter()
            .all(|edge| stands(edge) && truth.is_stuck(&edge.wait.party))
}

/// True if this wait is there.
#[must_use]
pub fn has_wait(replica: &Replica, wait: &Waits) -> bool {
    let waits = replica.waits(wait.party.session);
    waits.iter().any(|blocked| blocked.wait == *wait)
}

/// True if each edge ends where the next one begins, and the last where the first does.
#[must_use]
pub fn is_ring(circle: &[Edge]) -> bool {
    let next = circle.iter().cycle().skip(1);
    !circle.is_empty()
        && circle
            .iter()
            .zip(next)
            .all(|(edge, next)| edge.holder.party == next.wait.party)
}

/// True if the holder that an edge names holds the lock.
#[must_use]
pub fn is_held(lock: &LockView, edge: &Edge) -> bool {
    lock.holders
        .iter()
        .any(|holder| holder.token == edge.holder.token && of_holder(holder) == edge.holder.party)
}

fn excludes(holder: &HolderView, waiter: &WaiterView) -> bool {
    holder.mode == Mode::Exclusive || waiter.mode == Mode::Exclusive
}

/// Who holds.
#[must_use]
pub fn of_holder(holder: &HolderView) -> Party {
    Party {
        session: holder.session,
        owner: holder.owner.clone(),
    }
}

/// Who waits.
#[must_use]
pub fn of_waiter(waiter: &WaiterView) -> Party {
    Party {
        session: waiter.session,
        owner: waiter.owner.clone(),
    }
}
