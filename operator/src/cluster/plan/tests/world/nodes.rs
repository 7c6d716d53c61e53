//! The members: they found the cluster, join, catch up and move replicas.

use std::collections::BTreeSet;

use super::{Lifecycle, REPLICATION_FACTOR, SHARDS, World, WorldMember};

impl World {
    /// What the nodes do: found, join, catch up, move replicas.
    pub(super) fn nodes(&mut self) {
        let empty: Vec<u32> = self
            .pods
            .iter()
            .filter(|(ordinal, _)| self.runs(**ordinal))
            .filter(|(ordinal, _)| {
                let claim = &self.claims[ordinal];
                claim.disk.is_none() && !claim.is_foreign
            })
            .map(|(ordinal, _)| *ordinal)
            .collect();
        let can_found = self.members.is_empty()
            && (0..REPLICATION_FACTOR).all(|ordinal| empty.contains(&ordinal));
        let has_quorum = !self.members.is_empty()
            && self
                .shards
                .iter()
                .all(|shard| shard.keys().filter(|id| self.serves(**id)).count() > shard.len() / 2);
        if can_found || has_quorum {
            for ordinal in empty {
                let id = self.number();
                self.members.insert(
                    id,
                    WorldMember {
                        ordinal,
                        lifecycle: Lifecycle::Active,
                    },
                );
                self.claims.get_mut(&ordinal).unwrap().disk = Some(id);
            }
        }
        if can_found {
            let founders: Vec<u64> = self
                .members
                .iter()
                .filter(|(_, member)| member.ordinal < REPLICATION_FACTOR)
                .map(|(id, _)| *id)
                .collect();
            self.shards = (0..SHARDS)
                .map(|_| founders.iter().map(|id| (*id, 0)).collect())
                .collect();
        }
        if has_quorum {
            self.move_one_replica();
        }
        let serving: BTreeSet<u64> = self
            .members
            .keys()
            .copied()
            .filter(|id| self.serves(*id))
            .collect();
        for shard in &mut self.shards {
            for (id, lag) in shard.iter_mut().filter(|(id, _)| serving.contains(id)) {
                let _ = id;
                *lag = 0;
            }
        }
    }

    fn move_one_replica(&mut self) {
        let may = |id: &u64| {
            self.members
                .get(id)
                .is_some_and(|member| member.lifecycle == Lifecycle::Active)
                && self.serves(*id)
        };
        for at in 0..self.shards.len() {
            let shard = &self.shards[at];
            let Some(from) = shard
                .keys()
                .find(|id| self.members[id].lifecycle != Lifecycle::Active)
                .copied()
            else {
                continue;
            };
            let others_fine = shard
                .iter()
                .filter(|(id, lag)| **id != from && self.serves(**id) && **lag == 0)
                .count()
                > shard.len() / 2;
            let free = self
                .members
                .keys()
                .filter(|id| may(id) && !shard.contains_key(id));
            let Some(to) = free.min_by_key(|id| self.placed(**id)).copied() else {
                continue;
            };
            if others_fine || self.serves(from) {
                self.shards[at].remove(&from);
                self.shards[at].insert(to, 0);
                return;
            }
        }
    }
}
