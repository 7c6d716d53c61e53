//! Any value of every type that has a format.

use std::collections::BTreeMap;

use lockstep_model::{
    Answer, Batch, ClusterId, Command, FencingToken, LockAnswer, LockCommand, LockName, LockQuery,
    LockRefusal, LockReply, MetaAnswer, MetaCommand, MetaQuery, MetaRefusal, MetaReply, Millis,
    NodeId, Owner, Party, Priority, Query, Refusal, Reply, Serial, SessionAnswer, SessionCommand,
    SessionEpoch, SessionId, SessionQuery, SessionRefusal, SessionReply, ShardId, ShardTime,
    Timestamp, TouchNumber, WaitEpoch,
    locks::{
        command::{GiveBack, LockSpec},
        deadlock::{Blocked, Deadlock, Edge, Holds, Waits},
        mode::{MAX_PERMITS, Mode},
        query::{HolderView, LockView, WaiterView},
        reply::Grant,
    },
    meta::{ClusterView, Lifecycle, NodeRecord, Placement, Settings},
    page::Page,
    request::{AckedRanges, RequestId, SerialRange, Wait},
    session::{EndReason, Labels, SessionView, Touch},
};
use proptest::{
    collection::{btree_map, btree_set, vec},
    option,
    prelude::*,
};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..300_u64, any::<u64>(), Just(u64::MAX)]
}

fn session() -> impl Strategy<Value = SessionId> {
    any::<u64>().prop_map(SessionId)
}

fn shard() -> impl Strategy<Value = ShardId> {
    any::<u32>().prop_map(ShardId)
}

fn token() -> impl Strategy<Value = FencingToken> {
    number().prop_map(FencingToken)
}

fn serial() -> impl Strategy<Value = Serial> {
    number().prop_map(Serial)
}

fn touch() -> impl Strategy<Value = Touch> {
    (shard(), number()).prop_map(|(home, number)| Touch {
        home,
        number: TouchNumber(number),
    })
}

fn time() -> impl Strategy<Value = Timestamp> {
    number().prop_map(Timestamp)
}

fn span() -> impl Strategy<Value = Millis> {
    number().prop_map(Millis)
}

fn priority() -> impl Strategy<Value = Priority> {
    any::<i32>().prop_map(Priority)
}

fn epoch() -> impl Strategy<Value = SessionEpoch> {
    number().prop_map(SessionEpoch)
}

fn name() -> impl Strategy<Value = LockName> {
    let text = prop_oneof!["[a-z/]{1,12}", "\\PC{1,40}", Just("x".repeat(512))];
    text.prop_map(|text| LockName::new(&text).unwrap())
}

fn owner() -> impl Strategy<Value = Owner> {
    prop_oneof!["\\PC{0,20}", Just("x".repeat(128))].prop_map(|text| Owner::new(&text).unwrap())
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,20}"
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        Just(Mode::Shared),
        Just(Mode::Exclusive),
        (1..=9_u32, 9..=MAX_PERMITS).prop_map(|(count, of)| Mode::Permits { count, of }),
        (1..=MAX_PERMITS).prop_map(|parties| Mode::Meet { parties }),
    ]
}

fn value() -> impl Strategy<Value = lockstep_model::Value> {
    vec(any::<u8>(), 0..20).prop_map(|bytes| lockstep_model::Value::new(&bytes).unwrap())
}

fn party() -> impl Strategy<Value = Party> {
    (session(), owner()).prop_map(|(session, owner)| Party { session, owner })
}

fn blocked() -> impl Strategy<Value = Blocked> {
    (waits(), vec(holds(), 0..4)).prop_map(|(wait, holders)| Blocked { wait, holders })
}

fn waits() -> impl Strategy<Value = Waits> {
    let rank = (priority(), time());
    (party(), rank, shard(), serial(), number(), name()).prop_map(
        |(party, (priority, opened), shard, serial, epoch, name)| Waits {
            party,
            priority,
            opened,
            shard,
            serial,
            epoch: WaitEpoch(epoch),
            name,
        },
    )
}

fn holds() -> impl Strategy<Value = Holds> {
    (party(), token()).prop_map(|(party, token)| Holds { party, token })
}

fn edge() -> impl Strategy<Value = Edge> {
    (waits(), holds()).prop_map(|(wait, holder)| Edge { wait, holder })
}

fn deadlock() -> impl Strategy<Value = Deadlock> {
    (time(), party(), name(), vec(edge(), 0..4)).prop_map(|(at, victim, name, cycle)| Deadlock {
        at,
        victim,
        name,
        cycle,
    })
}

fn reason() -> impl Strategy<Value = EndReason> {
    prop_oneof![Just(EndReason::Closed), Just(EndReason::Expired)]
}

fn give_back() -> impl Strategy<Value = GiveBack> {
    (name(), token()).prop_map(|(name, token)| GiveBack { name, token })
}

fn wait() -> impl Strategy<Value = Wait> {
    let at_most = (1..=86_400_000_u64).prop_map(|span| Wait::AtMost(Millis(span)));
    prop_oneof![Just(Wait::Try), at_most, Just(Wait::Forever)]
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map("\\PC{0,16}", "\\PC{0,64}", 0..=16)
}

fn request() -> impl Strategy<Value = RequestId> {
    (session(), serial(), 0..=Serial::FIRST_EPHEMERAL.0).prop_map(|(session, serial, acked)| {
        RequestId {
            session,
            serial,
            acked_below: Serial(acked),
            acked: acked_ranges(acked % 1_000),
        }
    })
}

fn acked_ranges(seed: u64) -> AckedRanges {
    let ranges = (1..=seed % 5).map(|at| SerialRange {
        from: Serial(at * 1_000 + seed),
        below: Serial(at * 1_000 + seed + at),
    });
    AckedRanges::new(ranges).unwrap()
}

fn locks() -> impl Strategy<Value = Vec<LockSpec>> {
    btree_map(name(), mode(), 1..=64)
        .prop_map(|locks| {
            locks
                .into_iter()
                .map(|(name, mode)| LockSpec { name, mode })
                .collect()
        })
        .prop_shuffle()
}

fn settings() -> impl Strategy<Value = Settings> {
    let factor = prop_oneof![Just(1), Just(3), Just(5)];
    (1..=1_024_u32, factor, any::<u32>()).prop_map(|(shards, replication_factor, ring_version)| {
        Settings {
            shards,
            replication_factor,
            ring_version,
        }
    })
}

fn node() -> impl Strategy<Value = NodeRecord> {
    (
        1..u64::MAX,
        "[a-z]{1,9}",
        "[a-z:]{1,9}",
        "[a-z:]{1,9}",
        "[a-z]{0,9}",
        "[0-9.]{0,9}",
    )
        .prop_map(
            |(node, name, client_address, peer_address, zone, version)| NodeRecord {
                node: NodeId(node),
                name,
                client_address,
                peer_address,
                zone,
                version,
            },
        )
}

fn placement() -> impl Strategy<Value = Placement> {
    let shard = (0..=1_024_u32).prop_map(ShardId);
    let voters = btree_set((1..u64::MAX).prop_map(NodeId), 1..=5);
    let voters = voters.prop_map(|voters| voters.into_iter().collect());
    (number(), btree_map(shard, voters, 0..9)).prop_map(|(revision, shards)| Placement {
        revision,
        learners: learners(&shards),
        shards,
    })
}

/// Some shards have a learner that is not among their voters.
fn learners(shards: &BTreeMap<ShardId, Vec<NodeId>>) -> BTreeMap<ShardId, Vec<NodeId>> {
    let some = shards.iter().filter(|(shard, _)| shard.0 % 2 == 0);
    let other = |voters: &Vec<NodeId>| (1..).map(NodeId).find(|node| !voters.contains(node));
    some.filter_map(|(shard, voters)| Some((*shard, vec![other(voters)?])))
        .collect()
}

fn lifecycle() -> impl Strategy<Value = Lifecycle> {
    prop_oneof![
        Just(Lifecycle::Active),
        Just(Lifecycle::Draining),
        Just(Lifecycle::Lost)
    ]
}

fn node_ids(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<NodeId>> {
    vec((1..u64::MAX).prop_map(NodeId), count)
}

fn meta_command() -> impl Strategy<Value = MetaCommand> {
    prop_oneof![
        (
            any::<[u8; 16]>(),
            settings(),
            vec(node(), 0..4),
            placement()
        )
            .prop_map(|(cluster, settings, nodes, placement)| {
                MetaCommand::Found {
                    cluster: ClusterId(cluster),
                    settings,
                    nodes,
                    placement,
                }
            }),
        node().prop_map(|node| MetaCommand::DescribeNode { node }),
        (node(), number()).prop_map(|(node, nonce)| MetaCommand::JoinNode {
            node: NodeRecord {
                node: NodeId(0),
                ..node
            },
            nonce,
        }),
        (number(), lifecycle(), option::of(number())).prop_map(|(node, lifecycle, expected)| {
            MetaCommand::SetLifecycle {
                node: NodeId(node),
                lifecycle,
                expected,
            }
        }),
        (number(), option::of(number())).prop_map(|(node, expected)| MetaCommand::RemoveNode {
            node: NodeId(node),
            expected,
        }),
        (shard(), node_ids(1..6), node_ids(0..6), number()).prop_map(
            |(shard, voters, learners, as_of)| MetaCommand::SetReplicas {
                shard,
                voters,
                learners,
                as_of,
            }
        ),
    ]
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    let sessions = prop_oneof![
        (session(), 1_000..=3_600_000_u64, priority(), labels()).prop_map(
            |(session, ttl, priority, labels)| {
                Command::Session(SessionCommand::Open {
                    session,
                    ttl: Millis(ttl),
                    priority,
                    labels,
                })
            }
        ),
        session().prop_map(|session| Command::Session(SessionCommand::Resume { session })),
        (session(), shard()).prop_map(|(session, shard)| Command::Session(
            SessionCommand::TouchShard { session, shard }
        )),
        vec((session(), span()), 0..9)
            .prop_map(|remaining| Command::Session(SessionCommand::Checkpoint { remaining })),
        session().prop_map(|session| Command::Session(SessionCommand::Revive { session })),
        session().prop_map(|session| Command::Session(SessionCommand::Revoke { session })),
        (session(), reason()).prop_map(|(session, reason)| Command::Session(SessionCommand::End {
            session,
            reason
        })),
        (session(), shard()).prop_map(|(session, shard)| Command::Session(
            SessionCommand::ShardReleased { session, shard }
        )),
        (session(), priority(), time(), touch()).prop_map(|(session, priority, opened, touch)| {
            Command::Session(SessionCommand::Attach {
                session,
                priority,
                opened,
                touch,
            })
        }),
        (session(), reason(), touch()).prop_map(|(session, reason, touch)| {
            Command::Session(SessionCommand::Detach {
                session,
                reason,
                touch,
            })
        }),
    ];
    let locks = prop_oneof![
        (request(), owner(), locks(), wait(), value()).prop_map(
            |(request, owner, locks, wait, value)| {
                Command::Lock(LockCommand::Acquire {
                    request,
                    owner,
                    locks,
                    wait,
                    value,
                })
            }
        ),
        (request(), name(), token(), value()).prop_map(|(request, name, token, value)| {
            Command::Lock(LockCommand::Proclaim {
                request,
                name,
                token,
                value,
            })
        }),
        (session(), serial(), number(), vec(edge(), 1..4)).prop_map(
            |(session, serial, epoch, cycle)| Command::Lock(LockCommand::AbortWait {
                session,
                serial,
                epoch: WaitEpoch(epoch),
                cycle,
            })
        ),
        (session(), serial()).prop_map(|(session, serial)| Command::Lock(
            LockCommand::CancelWait { session, serial }
        )),
        (request(), name(), token()).prop_map(|(request, name, token)| Command::Lock(
            LockCommand::Release {
                request,
                name,
                token
            }
        )),
        (session(), serial(), vec(give_back(), 0..9), refusal()).prop_map(
            |(session, serial, grants, refusal)| Command::Lock(LockCommand::UndoAcquire {
                session,
                serial,
                grants,
                refusal,
            })
        ),
        (request(), name(), token(), wait()).prop_map(|(request, name, token, wait)| {
            Command::Lock(LockCommand::Upgrade {
                request,
                name,
                token,
                wait,
            })
        }),
        (request(), name(), token()).prop_map(|(request, name, token)| Command::Lock(
            LockCommand::Downgrade {
                request,
                name,
                token
            }
        )),
        Just(Command::Expire),
        (0..=lockstep_model::locks::LAST_START).prop_map(|above| Command::Lock(
            LockCommand::RaiseTokens {
                above: FencingToken(above)
            }
        )),
    ];
    prop_oneof![sessions, locks, meta_command().prop_map(Command::Meta)]
}

pub(crate) fn batch() -> impl Strategy<Value = Batch> {
    (number(), time(), vec(command(), 0..5)).prop_map(|(at, wall, commands)| Batch {
        at: ShardTime(at),
        wall,
        commands,
    })
}

fn refusal() -> impl Strategy<Value = Refusal> {
    let sessions = prop_oneof![
        session().prop_map(|session| Refusal::Session(SessionRefusal::NotAttached { session })),
        session().prop_map(|session| Refusal::Session(SessionRefusal::AttachTooOld { session })),
        session().prop_map(|session| Refusal::Session(SessionRefusal::NoSession { session })),
        (session(), reason()).prop_map(|(session, reason)| Refusal::Session(
            SessionRefusal::SessionEnded { session, reason }
        )),
        session().prop_map(|session| Refusal::Session(SessionRefusal::SessionExists { session })),
        (number(), number()).prop_map(|(serial, acked_below)| {
            Refusal::Session(SessionRefusal::SerialForgotten {
                serial,
                acked_below,
            })
        }),
        number().prop_map(|serial| Refusal::Session(SessionRefusal::SerialReused { serial })),
        any::<usize>()
            .prop_map(|limit| Refusal::Session(SessionRefusal::TooManyInFlight { limit })),
    ];
    let locks = prop_oneof![
        text().prop_map(|name| Refusal::Lock(LockRefusal::Unavailable { name })),
        text().prop_map(|name| Refusal::Lock(LockRefusal::WaitTimedOut { name })),
        text().prop_map(|name| Refusal::Lock(LockRefusal::WaitCancelled { name })),
        Just(Refusal::Lock(LockRefusal::NoSuchWait)),
        (text(), any::<usize>())
            .prop_map(|(name, limit)| Refusal::Lock(LockRefusal::TooManyWaiters { name, limit })),
        text().prop_map(|name| Refusal::Lock(LockRefusal::UpgradeDeadlock { name })),
        (text(), text())
            .prop_map(|(name, cycle)| Refusal::Lock(LockRefusal::Deadlock { name, cycle })),
        (text(), mode()).prop_map(|(name, mode)| Refusal::Lock(LockRefusal::OtherUsage {
            name,
            present: mode.usage()
        })),
        text().prop_map(|name| Refusal::Lock(LockRefusal::OtherPermits { name })),
        text().prop_map(|name| Refusal::Lock(LockRefusal::UpgradeRequired { name })),
        (text(), any::<u32>())
            .prop_map(|(name, holds)| Refusal::Lock(LockRefusal::HeldAgain { name, holds })),
        text().prop_map(|name| Refusal::Lock(LockRefusal::UpgradePending { name })),
        number().prop_map(|serial| Refusal::Session(SessionRefusal::Abandoned { serial })),
        (text(), token())
            .prop_map(|(name, token)| Refusal::Lock(LockRefusal::StaleToken { name, token })),
        (text(), mode())
            .prop_map(|(name, mode)| Refusal::Lock(LockRefusal::WrongMode { name, mode })),
        (text(), any::<u32>())
            .prop_map(|(name, limit)| Refusal::Lock(LockRefusal::TooManyHolds { name, limit })),
    ];
    let others = prop_oneof![
        text().prop_map(|what| Refusal::Malformed { what }),
        Just(Refusal::WrongShard),
        number().prop_map(|node| Refusal::Meta(MetaRefusal::NoSuchNode { node: NodeId(node) })),
        (number(), number()).prop_map(|(expected, actual)| Refusal::Meta(
            MetaRefusal::OtherRevision { expected, actual }
        )),
        any::<usize>().prop_map(|limit| Refusal::Meta(MetaRefusal::TooManyNodes { limit })),
        (number(), any::<usize>(), any::<usize>()).prop_map(|(node, left, needed)| {
            Refusal::Meta(MetaRefusal::TooFewNodes {
                node: NodeId(node),
                left,
                needed,
            })
        }),
        (number(), shard()).prop_map(|(node, shard)| Refusal::Meta(
            MetaRefusal::NoMajorityWithout {
                node: NodeId(node),
                shard,
            }
        )),
        (number(), any::<usize>()).prop_map(|(node, replicas)| Refusal::Meta(
            MetaRefusal::NodeNotEmpty {
                node: NodeId(node),
                replicas,
            }
        )),
        number().prop_map(|node| Refusal::Meta(MetaRefusal::NodeActive { node: NodeId(node) })),
        shard().prop_map(|shard| Refusal::Lock(LockRefusal::NotEmpty { shard })),
        (number(), number()).prop_map(|(node, by)| Refusal::Meta(MetaRefusal::NodeReplaced {
            node: NodeId(node),
            by: NodeId(by),
        })),
    ];
    prop_oneof![sessions, locks, others]
}

pub(crate) fn reply() -> impl Strategy<Value = Reply> {
    let grant =
        (name(), mode(), token(), any::<u32>()).prop_map(|(name, mode, token, holds)| Grant {
            name,
            mode,
            token,
            holds,
        });
    prop_oneof![
        Just(Reply::Done),
        (session(), span(), epoch()).prop_map(|(session, ttl, epoch)| Reply::Session(
            SessionReply::Opened {
                session,
                ttl,
                epoch
            }
        )),
        span().prop_map(|lease| Reply::Session(SessionReply::Revoked { lease })),
        (touch(), priority(), time()).prop_map(|(touch, priority, opened)| Reply::Session(
            SessionReply::Touched {
                touch,
                priority,
                opened,
            }
        )),
        vec(grant, 0..5).prop_map(|inner| Reply::Lock(LockReply::Granted(inner))),
        any::<u32>().prop_map(|holds| Reply::Lock(LockReply::Released { holds })),
        token().prop_map(|token| Reply::Lock(LockReply::Downgraded { token })),
        refusal().prop_map(Reply::Refused),
        number().prop_map(|node| Reply::Meta(MetaReply::Joined { node: NodeId(node) })),
        number().prop_map(|revision| Reply::Meta(MetaReply::Changed { revision })),
    ]
}

pub(crate) fn query() -> impl Strategy<Value = Query> {
    prop_oneof![
        name().prop_map(|name| Query::Lock(LockQuery::Lock { name })),
        (text(), option::of(name()), 1..=1_000_u32).prop_map(|(prefix, after, limit)| {
            Query::Lock(LockQuery::Locks {
                prefix,
                after,
                limit,
            })
        }),
        (name(), token(), option::of(session())).prop_map(|(name, token, session)| {
            Query::Lock(LockQuery::Validate {
                name,
                token,
                session,
            })
        }),
        (option::of(session()), 1..=1_000_u32)
            .prop_map(|(after, limit)| Query::Session(SessionQuery::Sessions { after, limit })),
        Just(Query::Meta(MetaQuery::Cluster)),
        vec(session(), 0..5)
            .prop_map(|sessions| Query::Session(SessionQuery::Touched { sessions })),
        vec(party(), 0..5).prop_map(|parties| Query::Lock(LockQuery::Waits { parties })),
        vec(edge(), 0..5).prop_map(|edges| Query::Lock(LockQuery::Stand { edges })),
        Just(Query::Lock(LockQuery::Deadlocks)),
        Just(Query::Lock(LockQuery::Revision)),
    ]
}

fn lock_view() -> impl Strategy<Value = LockView> {
    let of = (session(), owner(), mode(), token(), any::<u32>());
    let holder =
        (of, time(), value()).prop_map(|((session, owner, mode, token, holds), since, value)| {
            HolderView {
                session,
                owner,
                mode,
                token,
                holds,
                since,
                value,
            }
        });
    let waiter = (session(), owner(), mode(), any::<bool>(), time()).prop_map(
        |(session, owner, mode, upgrade, since)| WaiterView {
            session,
            owner,
            mode,
            upgrade,
            since,
        },
    );
    (name(), vec(holder, 0..4), vec(waiter, 0..4), any::<u32>()).prop_map(
        |(name, holders, waiters, waiter_count)| LockView {
            name,
            holder_count: waiter_count / 2,
            holders,
            waiters,
            waiter_count,
        },
    )
}

fn session_view() -> impl Strategy<Value = SessionView> {
    let fixed = (session(), span(), epoch(), priority());
    (fixed, labels(), time(), vec(shard(), 0..4), any::<bool>()).prop_map(
        |((session, ttl, epoch, priority), labels, opened, touched, ending)| SessionView {
            session,
            ttl,
            epoch,
            priority,
            labels,
            opened,
            touched,
            ending,
        },
    )
}

fn page<T: std::fmt::Debug>(row: impl Strategy<Value = T>) -> impl Strategy<Value = Page<T>> {
    (vec(row, 0..4), any::<bool>()).prop_map(|(rows, more)| Page { rows, more })
}

pub(crate) fn answer() -> impl Strategy<Value = Answer> {
    let cluster = (
        any::<[u8; 16]>(),
        settings(),
        vec(node(), 0..4),
        placement(),
        number(),
        number(),
        btree_map(number().prop_map(NodeId), lifecycle(), 0..4),
    )
        .prop_map(
            |(cluster, settings, nodes, placement, last_node, revision, lifecycles)| ClusterView {
                revision,
                lifecycles,
                cluster: ClusterId(cluster),
                settings,
                nodes,
                placement,
                last_node: NodeId(last_node),
            },
        );
    prop_oneof![
        lock_view().prop_map(|inner| Answer::Lock(LockAnswer::Lock(inner))),
        page(lock_view()).prop_map(|inner| Answer::Lock(LockAnswer::Locks(inner))),
        any::<bool>().prop_map(|inner| Answer::Lock(LockAnswer::Valid(inner))),
        page(session_view()).prop_map(|inner| Answer::Session(SessionAnswer::Sessions(inner))),
        option::of(cluster).prop_map(|inner| Answer::Meta(MetaAnswer::Cluster(inner))),
        Just(Answer::WrongShard),
        vec((session(), vec(shard(), 0..4)), 0..4)
            .prop_map(|inner| Answer::Session(SessionAnswer::Touched(inner))),
        vec(blocked(), 0..4).prop_map(|inner| Answer::Lock(LockAnswer::Waits(inner))),
        any::<bool>().prop_map(|inner| Answer::Lock(LockAnswer::Stand(inner))),
        (number(), vec(deadlock(), 0..4))
            .prop_map(|(count, last)| Answer::Lock(LockAnswer::Deadlocks { count, last })),
    ]
}
