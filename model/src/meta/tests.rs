use std::collections::BTreeSet;

use super::*;
use crate::{
    codec::{decode_versioned, encode_versioned},
    id::{Millis, ShardTime, Timestamp},
    locks::command::LockCommand,
    meta::{
        query::{MetaAnswer, MetaQuery},
        reply::{MetaRefusal, MetaReply},
    },
    placement::place,
    session::{SessionCommand, SessionQuery},
};

const CLUSTER: ClusterId = ClusterId([7; 16]);

fn settings() -> Settings {
    Settings {
        shards: 4,
        replication_factor: 3,
        ring_version: 1,
    }
}

fn node(id: u64) -> NodeRecord {
    NodeRecord {
        node: NodeId(id),
        name: format!("node-{id}"),
        client_address: format!("node-{id}:7400"),
        peer_address: format!("node-{id}:7401"),
        zone: String::new(),
        version: "0.1.0".to_owned(),
    }
}

fn nodes() -> Vec<NodeRecord> {
    (1..=3).map(node).collect()
}

fn founding(cluster: ClusterId) -> MetaCommand {
    MetaCommand::Found {
        cluster,
        settings: settings(),
        nodes: nodes(),
        placement: place(&settings(), &nodes()).unwrap(),
    }
}

fn founded() -> Meta {
    let mut meta = Meta::new();
    assert_eq!(run(&mut meta, founding(CLUSTER)), Reply::Done);
    meta
}

fn run(meta: &mut Meta, command: MetaCommand) -> Reply {
    let applied = meta.apply(Batch {
        at: ShardTime(1),
        wall: Timestamp(1),
        commands: vec![Command::Meta(command)],
    });
    assert_eq!(applied.effects, []);
    match applied.outcomes.as_slice() {
        [Outcome::Done(reply)] => reply.clone(),
        outcomes => panic!("one command gave {outcomes:?}"),
    }
}

fn refuses_as_malformed(meta: &mut Meta, command: MetaCommand) {
    let before = meta.clone();
    let reply = run(meta, command);
    assert!(
        matches!(reply, Reply::Refused(Refusal::Malformed { .. })),
        "{reply:?}"
    );
    assert_eq!(*meta, before);
}

#[test]
fn the_first_founding_counts_and_a_second_changes_nothing() {
    let mut meta = Meta::new();
    assert_eq!(
        meta.query(&Query::Meta(MetaQuery::Cluster)),
        Answer::Meta(MetaAnswer::Cluster(None))
    );
    assert_eq!(run(&mut meta, founding(CLUSTER)), Reply::Done);
    let Answer::Meta(MetaAnswer::Cluster(Some(view))) =
        meta.query(&Query::Meta(MetaQuery::Cluster))
    else {
        panic!("founded, but without tables");
    };
    assert_eq!(view.cluster, CLUSTER);
    assert_eq!(view.settings, settings());
    assert_eq!(view.nodes, nodes());
    assert_eq!(view.last_node, NodeId(3));
    assert_eq!(view.placement, place(&settings(), &nodes()).unwrap());

    let before = meta.clone();
    assert_eq!(run(&mut meta, founding(CLUSTER)), Reply::Done);
    assert_eq!(meta, before);
    refuses_as_malformed(&mut meta, founding(ClusterId([8; 16])));
}

#[test]
fn a_founding_that_contradicts_itself_is_refused() {
    type Damage = fn(&mut Settings, &mut Vec<NodeRecord>, &mut Placement);
    let damages: [Damage; 9] = [
        |settings, _, _| settings.shards = 0,
        |settings, _, _| settings.shards = 5,
        |settings, _, _| settings.replication_factor = 2,
        |_, nodes, _| nodes[1] = node(1),
        |_, nodes, _| nodes[1] = node(0),
        |_, nodes, _| nodes.truncate(2),
        |_, nodes, _| nodes[0].name.clear(),
        |_, _, placement| placement.shards.values_mut().for_each(Vec::clear),
        |_, _, placement| {
            let voters = vec![NodeId(1), NodeId(1), NodeId(2)];
            placement.shards.insert(ShardId(1), voters);
        },
    ];
    for damage in damages {
        let (mut settings, mut nodes) = (settings(), nodes());
        let mut placement = place(&settings, &nodes).unwrap();
        damage(&mut settings, &mut nodes, &mut placement);
        let command = MetaCommand::Found {
            cluster: CLUSTER,
            settings,
            nodes,
            placement,
        };
        refuses_as_malformed(&mut Meta::new(), command);
    }
}

#[test]
fn a_known_node_describes_itself_and_an_unknown_one_is_refused() {
    let mut meta = founded();
    let moved = NodeRecord {
        client_address: "elsewhere:7400".to_owned(),
        zone: "b".to_owned(),
        ..node(2)
    };
    let describe = MetaCommand::DescribeNode {
        node: moved.clone(),
    };
    assert_eq!(run(&mut meta, describe), Reply::Done);
    assert_eq!(meta.cluster().unwrap().nodes, vec![node(1), moved, node(3)]);

    let before = meta.clone();
    let refused = Reply::Refused(Refusal::Meta(MetaRefusal::NoSuchNode { node: NodeId(9) }));
    let unknown = || MetaCommand::DescribeNode { node: node(9) };
    assert_eq!(run(&mut meta, unknown()), refused);
    assert_eq!(meta, before);
    refuses_as_malformed(&mut Meta::new(), unknown());

    let endless = NodeRecord {
        zone: "z".repeat(MAX_ZONE_BYTES + 1),
        ..node(2)
    };
    refuses_as_malformed(&mut meta, MetaCommand::DescribeNode { node: endless });
}

#[test]
fn commands_and_questions_of_data_shards_are_refused_one_by_one() {
    let mut meta = founded();
    let applied = meta.apply(Batch {
        at: ShardTime(1),
        wall: Timestamp(1),
        commands: vec![
            Command::Lock(LockCommand::RaiseTokens {
                above: crate::FencingToken(1),
            }),
            Command::Meta(MetaCommand::DescribeNode { node: node(1) }),
            Command::Session(SessionCommand::Open {
                session: crate::SessionId(1),
                ttl: Millis(10_000),
                priority: crate::Priority(0),
                labels: BTreeMap::new(),
            }),
        ],
    });
    let wrong = Outcome::Done(Reply::Refused(Refusal::WrongShard));
    let expected = vec![wrong.clone(), Outcome::Done(Reply::Done), wrong];
    assert_eq!(applied.outcomes, expected);
    let question = Query::Session(SessionQuery::Sessions {
        after: None,
        limit: 1,
    });
    assert_eq!(meta.query(&question), Answer::WrongShard);
}

#[test]
fn a_snapshot_gives_the_same_state_and_damage_is_found() {
    for meta in [Meta::new(), founded()] {
        let bytes = encode_versioned(&meta);
        assert_eq!(decode_versioned::<Meta>(&bytes), Ok(meta));
        for length in 0..bytes.len() {
            assert!(decode_versioned::<Meta>(&bytes[..length]).is_err());
        }
        // Any one byte changed: an error or another state, never a panic.
        for index in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[index] ^= 1 << bit;
                if let Ok(other) = decode_versioned::<Meta>(&damaged) {
                    assert_eq!(encode_versioned(&other), damaged);
                }
            }
        }
    }
}

#[test]
fn the_encodings_of_the_tables_are_pinned() {
    let placement = Placement {
        revision: 300,
        shards: BTreeMap::from([(ShardId(0), vec![NodeId(1), NodeId(2)])]),
        learners: BTreeMap::from([(ShardId(0), vec![NodeId(3)])]),
    };
    let pinned = [4, 0xac, 2, 1, 0, 2, 1, 2, 1, 0, 1, 3];
    assert_eq!(encode_versioned(&placement), pinned);
    assert_eq!(encode_versioned(&settings()), [4, 4, 3, 1]);
    let mut record = vec![4, 1, 6];
    record.extend(b"node-1");
    record.push(11);
    record.extend(b"node-1:7400");
    record.push(11);
    record.extend(b"node-1:7401");
    record.extend([0, 5]);
    record.extend(b"0.1.0");
    assert_eq!(encode_versioned(&node(1)), record);
}

fn join(meta: &mut Meta, name: &str, nonce: u64) -> Reply {
    let node = NodeRecord {
        node: NodeId(0),
        name: name.to_owned(),
        ..node(9)
    };
    run(meta, MetaCommand::JoinNode { node, nonce })
}

fn set(meta: &mut Meta, node: u64, lifecycle: Lifecycle) -> Reply {
    let command = MetaCommand::SetLifecycle {
        node: NodeId(node),
        lifecycle,
        expected: None,
    };
    run(meta, command)
}

fn remove(meta: &mut Meta, node: u64) -> Reply {
    let command = MetaCommand::RemoveNode {
        node: NodeId(node),
        expected: None,
    };
    run(meta, command)
}

fn joined(node: u64) -> Reply {
    Reply::Meta(MetaReply::Joined { node: NodeId(node) })
}

#[test]
fn a_join_gives_one_new_id_however_often_it_is_asked() {
    let mut meta = founded();
    assert_eq!(join(&mut meta, "new", 5), joined(4));
    assert_eq!(join(&mut meta, "new", 5), joined(4));
    assert_eq!(join(&mut meta, "newer", 6), joined(5));
    let view = meta.cluster().unwrap();
    assert_eq!((view.nodes.len(), view.revision), (5, 3));
    assert_eq!(view.lifecycles, BTreeMap::new());
}

#[test]
fn an_id_is_not_given_again_after_its_node_was_removed() {
    let mut meta = founded();
    join(&mut meta, "new", 5);
    assert!(matches!(
        set(&mut meta, 4, Lifecycle::Draining),
        Reply::Meta(MetaReply::Changed { .. })
    ));
    assert!(matches!(
        remove(&mut meta, 4),
        Reply::Meta(MetaReply::Changed { .. })
    ));
    // Removed is removed, also when asked again.
    assert!(matches!(
        remove(&mut meta, 4),
        Reply::Meta(MetaReply::Changed { .. })
    ));
    assert_eq!(join(&mut meta, "new", 6), joined(5));
}

#[test]
fn an_empty_node_under_an_old_name_replaces_the_old_one() {
    let mut meta = founded();
    assert_eq!(join(&mut meta, "node-2", 5), joined(4));
    let view = meta.cluster().unwrap();
    assert_eq!(view.lifecycle(NodeId(2)), Lifecycle::Lost);
    let replaced = Refusal::Meta(MetaRefusal::NodeReplaced {
        node: NodeId(2),
        by: NodeId(4),
    });
    let refused = Reply::Refused(replaced);
    assert_eq!(set(&mut meta, 2, Lifecycle::Active), refused);
    assert_eq!(
        run(&mut meta, MetaCommand::DescribeNode { node: node(2) }),
        refused
    );
}

#[test]
fn a_lost_node_that_is_back_is_active() {
    let mut meta = founded();
    assert_eq!(
        set(&mut meta, 2, Lifecycle::Lost),
        Reply::Meta(MetaReply::Changed { revision: 2 })
    );
    // Two of three: no other may be lost beside it.
    let both = set(&mut meta, 3, Lifecycle::Lost);
    assert!(matches!(
        both,
        Reply::Refused(Refusal::Meta(MetaRefusal::NoMajorityWithout { .. }))
    ));
    run(&mut meta, MetaCommand::DescribeNode { node: node(2) });
    assert_eq!(
        meta.cluster().unwrap().lifecycle(NodeId(2)),
        Lifecycle::Active
    );
}

#[test]
fn what_would_leave_too_little_is_refused() {
    let mut meta = founded();
    let too_few = set(&mut meta, 1, Lifecycle::Draining);
    assert!(matches!(
        too_few,
        Reply::Refused(Refusal::Meta(MetaRefusal::TooFewNodes {
            left: 2,
            needed: 3,
            ..
        }))
    ));
    join(&mut meta, "new", 5);
    assert!(matches!(
        remove(&mut meta, 1),
        Reply::Refused(Refusal::Meta(MetaRefusal::NodeActive { .. }))
    ));
    assert!(matches!(
        set(&mut meta, 1, Lifecycle::Draining),
        Reply::Meta(MetaReply::Changed { .. })
    ));
    assert!(matches!(
        remove(&mut meta, 1),
        Reply::Refused(Refusal::Meta(MetaRefusal::NodeNotEmpty { replicas: 5, .. }))
    ));
    assert!(matches!(
        set(&mut meta, 9, Lifecycle::Draining),
        Reply::Refused(Refusal::Meta(MetaRefusal::NoSuchNode { .. }))
    ));
}

#[test]
fn who_decided_by_older_tables_is_refused() {
    let mut meta = founded();
    join(&mut meta, "new", 5);
    let drain = |expected| MetaCommand::SetLifecycle {
        node: NodeId(1),
        lifecycle: Lifecycle::Draining,
        expected,
    };
    let other = Refusal::Meta(MetaRefusal::OtherRevision {
        expected: 1,
        actual: 2,
    });
    assert_eq!(run(&mut meta, drain(Some(1))), Reply::Refused(other));
    assert_eq!(
        run(&mut meta, drain(Some(2))),
        Reply::Meta(MetaReply::Changed { revision: 3 })
    );
    // It is as asked for: a repetition is no second decision.
    assert_eq!(
        run(&mut meta, drain(Some(2))),
        Reply::Meta(MetaReply::Changed { revision: 3 })
    );
}

#[test]
fn replicas_are_recorded_where_nodes_are_known() {
    let mut meta = founded();
    join(&mut meta, "new", 5);
    let replicas_as_of = |as_of, voters: &[u64], learners: &[u64]| MetaCommand::SetReplicas {
        as_of,
        shard: ShardId(1),
        voters: voters.iter().copied().map(NodeId).collect(),
        learners: learners.iter().copied().map(NodeId).collect(),
    };
    let replicas = |voters: &[u64], learners: &[u64]| replicas_as_of(10, voters, learners);
    let moved = run(&mut meta, replicas(&[1, 2, 3], &[4]));
    assert_eq!(moved, Reply::Meta(MetaReply::Changed { revision: 3 }));
    assert_eq!(run(&mut meta, replicas(&[1, 2, 3], &[4])), moved);
    let view = meta.cluster().unwrap();
    assert_eq!(view.placement.replicas_on(NodeId(4)), 1);
    assert_eq!(view.placement.revision, 2);
    refuses_as_malformed(&mut meta, replicas(&[1, 2, 3], &[3]));
    refuses_as_malformed(&mut meta, replicas(&[], &[]));
    let unknown = run(&mut meta, replicas(&[1, 2, 9], &[]));
    assert_eq!(
        unknown,
        Reply::Refused(Refusal::Meta(MetaRefusal::NoSuchNode { node: NodeId(9) }))
    );
    // A leader that was deposed meanwhile may still report what was.
    let older = run(&mut meta, replicas_as_of(9, &[1, 2, 3], &[]));
    assert!(matches!(
        older,
        Reply::Refused(Refusal::Meta(MetaRefusal::OtherRevision { .. }))
    ));
    let bytes = encode_versioned(&meta);
    assert_eq!(decode_versioned::<Meta>(&bytes), Ok(meta));
}

#[test]
fn the_tables_of_survivors_name_nobody_else() {
    const NEW: ClusterId = ClusterId([8; 16]);
    let mut meta = founded();
    join(&mut meta, "new", 5);
    let shards = || (0..=settings().shards).map(ShardId);
    // As of an index that the survivors' logs may never have reached.
    run(
        &mut meta,
        MetaCommand::SetReplicas {
            shard: ShardId(1),
            voters: vec![NodeId(1), NodeId(2)],
            learners: vec![NodeId(4)],
            as_of: 1_000,
        },
    );
    let before = meta.cluster().unwrap();
    let only = |nodes: &[u64]| -> BTreeMap<_, Vec<_>> {
        let nodes: Vec<_> = nodes.iter().copied().map(NodeId).collect();
        shards().map(|shard| (shard, nodes.clone())).collect()
    };
    let nodes = |nodes: &[u64]| nodes.iter().copied().map(NodeId).collect::<BTreeSet<_>>();
    // Node 1 is left, but has no replica.
    let mut recovered = meta
        .recovered(NEW, &nodes(&[1, 2, 4]), only(&[2, 4]))
        .unwrap();
    let view = recovered.cluster().unwrap();
    assert_eq!((view.cluster, view.settings), (NEW, before.settings));
    let left: Vec<_> = view.nodes.iter().map(|node| node.node.0).collect();
    assert_eq!(left, [1, 2, 4]);
    assert!(view.revision > before.revision && view.placement.revision > 1);
    assert_eq!(view.placement.shards, only(&[2, 4]));
    assert_eq!(view.placement.learners, BTreeMap::new());
    assert_eq!(
        Meta::new().recovered(NEW, &nodes(&[1]), only(&[1])),
        Err(RecoverError::NotFounded)
    );
    let node = NodeId(9);
    assert_eq!(
        meta.recovered(NEW, &nodes(&[9]), only(&[9])),
        Err(RecoverError::NoSuchNode { node })
    );
    let mut missing = only(&[2]);
    missing.remove(&ShardId(1));
    assert!(meta.recovered(NEW, &nodes(&[2]), missing).is_err());
    assert!(meta.recovered(NEW, &nodes(&[1]), only(&[2])).is_err());
    // It goes on as any: who asked for an id before has it, others get later ones, and what the
    // shards' new leaders report is newer than all before.
    assert_eq!(join(&mut recovered, "new", 5), joined(4));
    assert_eq!(join(&mut recovered, "node-1", 6), joined(5));
    let reported = MetaCommand::SetReplicas {
        shard: ShardId(1),
        voters: vec![NodeId(2), NodeId(4), NodeId(5)],
        learners: vec![],
        as_of: 10,
    };
    assert!(matches!(
        run(&mut recovered, reported),
        Reply::Meta(MetaReply::Changed { .. })
    ));
}
