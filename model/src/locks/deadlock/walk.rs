//! Following waits over all shards until they end or come round.
//!
//! A walk begins with holders for whom somebody waits, and asks for all of them at once where they
//! wait and for whom; then for those; level by level. Every circle has such a holder in it, so it
//! need not begin with the many who wait. What is learned may be old, or of different times: a
//! circle that a walk finds is a suspicion, to be confirmed edge by edge.
//!
//! Invariant: each party is asked for once, so a walk ends after at most [`MAX_PARTIES`] of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Blocked, Edge, MAX_CYCLE, Waits};
use crate::id::{Party, WaitEpoch};

/// Most parties that one walk looks at: what is left out is met again by the next.
pub const MAX_PARTIES: usize = 4_096;
/// Most levels: a longer chain cannot be a circle that is broken.
pub const MAX_LEVELS: usize = MAX_CYCLE;

/// What a walk knows so far.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// To be asked for next.
    frontier: BTreeSet<Party>,
    seen: BTreeSet<Party>,
    waits: BTreeMap<Party, Vec<Blocked>>,
    levels: usize,
}

impl Walk {
    /// Begins with some holders.
    pub fn new(suspects: impl IntoIterator<Item = Party>) -> Self {
        let frontier: BTreeSet<Party> = suspects.into_iter().take(MAX_PARTIES).collect();
        Self {
            seen: frontier.clone(),
            frontier,
            ..Self::default()
        }
    }

    /// Whom to ask for next; empty when the walk is done.
    #[must_use]
    pub const fn frontier(&self) -> &BTreeSet<Party> {
        &self.frontier
    }

    /// Takes what was learned of the frontier, and goes on to the next.
    pub fn learn(&mut self, blocked: impl IntoIterator<Item = Blocked>) {
        self.frontier.clear();
        self.levels += 1;
        for blocked in blocked {
            let may_go_on = self.levels < MAX_LEVELS;
            for holder in &blocked.holders {
                if may_go_on
                    && self.seen.len() < MAX_PARTIES
                    && self.seen.insert(holder.party.clone())
                {
                    self.frontier.insert(holder.party.clone());
                }
            }
            let waits = self.waits.entry(blocked.wait.party.clone()).or_default();
            waits.push(blocked);
        }
    }

    /// A circle among the waits, of at most [`MAX_CYCLE`] edges.
    #[must_use]
    pub fn cycle(&self) -> Option<Vec<Edge>> {
        let mut done = BTreeSet::new();
        self.waits
            .keys()
            .find_map(|start| self.cycle_from(start, &mut done))
    }

    /// Depth first, without recursion. `done` are parties from which no circle can be reached.
    fn cycle_from<'a>(
        &'a self,
        start: &'a Party,
        done: &mut BTreeSet<&'a Party>,
    ) -> Option<Vec<Edge>> {
        let mut path: Vec<(&'a Party, std::vec::IntoIter<Edge>)> = Vec::new();
        let mut taken: Vec<Edge> = Vec::new();
        if !done.contains(start) {
            path.push((start, self.edges(start).into_iter()));
        }
        while let Some((party, edges)) = path.last_mut() {
            let Some(edge) = edges.next() else {
                done.insert(party);
                path.pop();
                taken.pop();
                continue;
            };
            let next = &edge.holder.party;
            if let Some(first) = path.iter().position(|(on_path, _)| *on_path == next) {
                taken.push(edge);
                let cycle: Vec<Edge> = taken.drain(..).skip(first).collect();
                return (cycle.len() <= MAX_CYCLE).then_some(cycle);
            }
            if let Some((next, _)) = self.waits.get_key_value(next)
                && !done.contains(next)
            {
                taken.push(edge);
                path.push((next, self.edges(next).into_iter()));
            }
        }
        None
    }

    fn edges(&self, party: &Party) -> Vec<Edge> {
        let waits = self.waits.get(party).into_iter().flatten();
        waits
            .flat_map(|Blocked { wait, holders }| {
                holders.iter().map(|holder| Edge {
                    wait: wait.clone(),
                    holder: holder.clone(),
                })
            })
            .collect()
    }

    /// Forgets a wait: it is over, or it turned out not to be there.
    pub fn forget(&mut self, wait: &Waits) {
        if let Some(waits) = self.waits.get_mut(&wait.party) {
            let is_it = |epoch: WaitEpoch, blocked: &Blocked| {
                blocked.wait.epoch == epoch && blocked.wait.shard == wait.shard
            };
            waits.retain(|blocked| !is_it(wait.epoch, blocked));
        }
    }
}
