//! The course of a watch: what its messages mean, and where to go on.
//!
//! Invariant: a shard has a position only once all its present holders have been told, and it never
//! goes back but with an event that says so. There is no I/O here.

use std::collections::BTreeMap;

use lockstep_model::{
    id::{ClusterId, FencingToken, Revision, SessionId, ShardId},
    locks::change::ChangeKind,
};
use lockstep_proto::lock::v1 as wire;

use super::{Change, Position, WatchEvent};
use crate::{mode::mode_of, view::time};

/// What is handed to the one who watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// An event, and how far one is after it, if that changes.
    Tell {
        event: WatchEvent,
        position: Option<Position>,
    },
    /// Nothing but that one is further.
    Reach(Position),
}

/// How far the telling of a shard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It begins, perhaps again, with the present holders.
    Awaited { history_lost: bool },
    /// The present holders are being told.
    Telling { history_lost: bool },
    /// All changes up to here were told.
    At(Revision),
}

/// What a watch has heard, by shard.
#[derive(Debug)]
pub(super) struct Course {
    /// Whose numbers the positions are; none before anything was heard.
    cluster: Option<ClusterId>,
    shards: BTreeMap<ShardId, Standing>,
}

impl Course {
    /// Goes on at these positions. Where they are not all of one cluster, those of the others are as
    /// good as lost.
    pub(super) fn new(positions: impl IntoIterator<Item = Position>) -> Self {
        let mut cluster = None;
        let shards = positions.into_iter().map(|at| {
            let standing = if *cluster.get_or_insert(at.cluster) == at.cluster {
                Standing::At(at.revision)
            } else {
                Standing::Awaited { history_lost: true }
            };
            (at.shard, standing)
        });
        let shards = shards.collect();
        Self { cluster, shards }
    }

    /// Where to go on.
    pub(super) fn after(&self) -> Vec<wire::Position> {
        let shards = self.shards.iter();
        shards
            .filter_map(|(shard, standing)| match standing {
                Standing::At(revision) => Some(wire::Position {
                    shard: shard.0,
                    revision: revision.0,
                    cluster_id: self.cluster?.to_string(),
                }),
                Standing::Awaited { .. } | Standing::Telling { .. } => None,
            })
            .collect()
    }

    /// The stream has ended: present holders that were being told will be told from the start.
    pub(super) fn broken_off(&mut self) {
        for standing in self.shards.values_mut() {
            if let Standing::Telling { history_lost } = *standing {
                *standing = Standing::Awaited { history_lost };
            }
        }
    }

    /// The changes after where a shard is told are lost; without a shard, so they are everywhere.
    pub(super) fn lose(&mut self, shard: Option<ShardId>) {
        for (of, standing) in &mut self.shards {
            if shard.is_none_or(|shard| shard == *of) {
                *standing = Standing::Awaited { history_lost: true };
            }
        }
    }

    /// Whose message it is. Of the shards of another cluster nothing is known yet.
    fn hear_of(&mut self, cluster: ClusterId, steps: &mut Vec<Step>) {
        let before = self.cluster.replace(cluster);
        if before.is_some_and(|before| before != cluster) {
            self.shards.clear();
            steps.push(Step::Tell {
                event: WatchEvent::OtherCluster { cluster },
                position: None,
            });
        }
    }

    /// What a message means. One that does not say whose it is means nothing.
    pub(super) fn take(&mut self, message: wire::WatchResponse) -> Vec<Step> {
        let mut steps = Vec::with_capacity(message.changes.len() + 2);
        let Ok(cluster) = message.cluster_id.parse() else {
            return steps;
        };
        self.hear_of(cluster, &mut steps);
        let shard = ShardId(message.shard);
        // A message without changes tells how far one is, even if that is 0: nothing happened yet.
        let reached = (message.revision > 0 || message.changes.is_empty())
            .then_some(Revision(message.revision));
        let present = wire::ChangeKind::Present;
        let begins = reached.is_none() || message.changes.iter().any(|c| c.kind() == present);
        let from = match self.shards.get(&shard) {
            Some(Standing::At(revision)) if !begins => *revision,
            // A server that begins again without being asked has nothing else to tell.
            Some(Standing::At(_)) => self.begin(shard, true, &mut steps),
            Some(Standing::Awaited { history_lost }) => {
                let history_lost = *history_lost;
                self.begin(shard, history_lost, &mut steps)
            }
            None => self.begin(shard, false, &mut steps),
            Some(Standing::Telling { .. }) => Revision(0),
        };
        let is_told = matches!(self.shards.get(&shard), Some(Standing::At(_)));
        for change in message.changes {
            let revision = Revision(change.revision);
            if is_told && revision <= from {
                continue;
            }
            steps.push(Step::Tell {
                event: WatchEvent::Changed(read(shard, change)),
                position: is_told.then_some(Position {
                    cluster,
                    shard,
                    revision,
                }),
            });
        }
        if let Some(revision) = reached.map(|revision| revision.max(from)) {
            let position = Position {
                cluster,
                shard,
                revision,
            };
            steps.push(if is_told {
                Step::Reach(position)
            } else {
                Step::Tell {
                    event: WatchEvent::Current { shard },
                    position: Some(position),
                }
            });
            self.shards.insert(shard, Standing::At(revision));
        }
        steps
    }

    /// Begins with the present holders; before any change.
    fn begin(&mut self, shard: ShardId, history_lost: bool, steps: &mut Vec<Step>) -> Revision {
        self.shards
            .insert(shard, Standing::Telling { history_lost });
        steps.push(Step::Tell {
            event: WatchEvent::Began {
                shard,
                history_lost,
            },
            position: None,
        });
        Revision(0)
    }
}

fn read(shard: ShardId, change: wire::Change) -> Change {
    let kind = match change.kind() {
        wire::ChangeKind::Unspecified => None,
        wire::ChangeKind::Present => Some(ChangeKind::Present),
        wire::ChangeKind::Acquired => Some(ChangeKind::Acquired),
        wire::ChangeKind::Converted => Some(ChangeKind::Converted),
        wire::ChangeKind::Proclaimed => Some(ChangeKind::Proclaimed),
        wire::ChangeKind::Released => Some(ChangeKind::Released),
    };
    Change {
        shard,
        revision: Revision(change.revision),
        at: time(change.at_ms),
        mode: mode_of(change.mode(), change.permits, change.size),
        name: change.name,
        kind,
        session: SessionId(change.session_id),
        owner: change.owner,
        token: FencingToken(change.token),
        value: change.value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(3);
    const CLUSTER: ClusterId = ClusterId([7; 16]);

    fn at(shard: ShardId, revision: u64) -> Position {
        Position {
            cluster: CLUSTER,
            shard,
            revision: Revision(revision),
        }
    }

    fn message(revision: u64, kind: wire::ChangeKind, changes: &[u64]) -> wire::WatchResponse {
        let change = |revision: &u64| wire::Change {
            revision: *revision,
            kind: kind.into(),
            ..wire::Change::default()
        };
        wire::WatchResponse {
            shard: SHARD.0,
            revision,
            changes: changes.iter().map(change).collect(),
            cluster_id: CLUSTER.to_string(),
        }
    }

    fn present(revision: u64, changes: &[u64]) -> wire::WatchResponse {
        message(revision, wire::ChangeKind::Present, changes)
    }

    fn acquired(revision: u64, changes: &[u64]) -> wire::WatchResponse {
        message(revision, wire::ChangeKind::Acquired, changes)
    }

    /// The steps in short: O(ther cluster), B(egan), L(ost history and began), revision, C(urrent), and after each
    /// where one is then.
    fn told(course: &mut Course, message: wire::WatchResponse) -> String {
        let steps = course.take(message).into_iter().map(|step| {
            let (what, position) = match step {
                Step::Reach(position) => (String::new(), Some(position)),
                Step::Tell { event, position } => {
                    let what = match event {
                        WatchEvent::Began { history_lost, .. } => {
                            if history_lost { "L" } else { "B" }.to_owned()
                        }
                        WatchEvent::Changed(change) => change.revision.to_string(),
                        WatchEvent::Current { .. } => "C".to_owned(),
                        WatchEvent::OtherCluster { .. } => "O".to_owned(),
                        WatchEvent::Interrupted { .. } | WatchEvent::Resumed => unreachable!(),
                    };
                    (what, position)
                }
            };
            match position {
                Some(position) => format!("{what}@{}", position.revision),
                None => what,
            }
        });
        steps.collect::<Vec<_>>().join(" ")
    }

    fn after(course: &Course) -> Vec<u64> {
        course.after().iter().map(|at| at.revision).collect()
    }

    #[test]
    fn a_shard_has_a_position_once_its_present_holders_are_told() {
        let mut course = Course::new([]);
        assert_eq!(told(&mut course, present(0, &[7, 7])), "B 7 7");
        assert_eq!(after(&course), [] as [u64; 0]);
        course.broken_off();
        assert_eq!(told(&mut course, present(0, &[8])), "B 8", "from the start");
        assert_eq!(told(&mut course, present(9, &[9])), "9 C@9");
        assert_eq!(
            told(&mut course, acquired(11, &[10, 11])),
            "10@10 11@11 @11"
        );
        assert_eq!(told(&mut course, acquired(1_040, &[])), "@1040");
        course.broken_off();
        assert_eq!(after(&course), [1_040]);
        assert_eq!(
            told(&mut course, acquired(1_041, &[1_041])),
            "1041@1041 @1041"
        );
    }

    #[test]
    fn a_shard_in_which_nothing_ever_happened_is_current_at_zero() {
        let mut course = Course::new([]);
        assert_eq!(told(&mut course, present(0, &[])), "B C@0");
        assert_eq!(after(&course), [0]);
        assert_eq!(told(&mut course, acquired(1, &[1])), "1@1 @1");
    }

    #[test]
    fn lost_history_is_told_until_the_present_holders_are() {
        let mut course = Course::new([at(SHARD, 5), at(ShardId(4), 6)]);
        course.lose(Some(SHARD));
        assert_eq!(after(&course), [6], "of the other shard");
        assert_eq!(told(&mut course, present(0, &[9])), "L 9");
        course.broken_off();
        assert_eq!(told(&mut course, present(0, &[9])), "L 9", "again");
        assert_eq!(told(&mut course, present(9, &[])), "C@9");
        course.lose(None);
        assert_eq!(after(&course), [] as [u64; 0]);
    }

    #[test]
    fn nothing_is_told_twice_and_no_new_beginning_is_missed() {
        let mut course = Course::new([at(SHARD, 5)]);
        assert_eq!(told(&mut course, acquired(7, &[4, 5, 6, 7])), "6@6 7@7 @7");
        assert_eq!(told(&mut course, acquired(6, &[6])), "@7", "late");
        assert_eq!(
            told(&mut course, present(2, &[2])),
            "L 2 C@2",
            "another life"
        );
        assert_eq!(after(&course), [2]);
    }

    /// Its revision 6 is not the one that comes after revision 5 of the cluster before.
    #[test]
    fn another_cluster_counts_anew() {
        let other = ClusterId([8; 16]);
        let of_other = |message: wire::WatchResponse| wire::WatchResponse {
            cluster_id: other.to_string(),
            ..message
        };
        let mut course = Course::new([at(SHARD, 5), at(ShardId(4), 6)]);
        assert!(
            course
                .after()
                .iter()
                .all(|at| at.cluster_id == CLUSTER.to_string())
        );
        // The node has said that these positions are not its own.
        course.lose(None);
        assert_eq!(
            told(&mut course, of_other(present(6, &[6]))),
            "O B 6 C@6",
            "which forgets shard 4 as well"
        );
        let after = course.after();
        assert_eq!(after.len(), 1);
        assert_eq!(after[0].cluster_id, other.to_string());
        assert_eq!(told(&mut course, of_other(acquired(7, &[7]))), "7@7 @7");
    }

    #[test]
    fn positions_of_several_clusters_are_those_of_the_first() {
        let stranger = Position {
            cluster: ClusterId([8; 16]),
            ..at(ShardId(4), 6)
        };
        let course = Course::new([at(SHARD, 5), stranger]);
        assert_eq!(after(&course), [5]);
    }
}
