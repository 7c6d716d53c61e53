//! The formats: what is written can be read, damage is noticed, and no byte ever changes its
//! meaning.

use std::fmt::Debug;

use lockstep_model::{
    Answer, Batch, ClusterId, Command, DecodeError, FencingToken, LockCommand, LockName,
    LockRefusal, Machine, MetaCommand, Millis, NodeId, Owner, Party, Priority, Query, Refusal,
    Reply, Serial, SessionCommand, SessionId, ShardId, ShardTime, Timestamp, TouchNumber, Value,
    WaitEpoch,
    codec::FORMAT_VERSION,
    locks::{
        command::{GiveBack, LockSpec},
        deadlock::{Edge, Holds, Waits},
        mode::Mode,
    },
    meta::{Lifecycle, NodeRecord, Placement, Settings},
    request::{AckedRanges, RequestId, Wait},
    session::{EndReason, Touch},
};
use proptest::{collection::vec, prelude::*, sample::Index, test_runner::TestCaseResult};

use crate::{arbitrary, seed};

/// Reading gives what was written; a cut, longer or changed text gives an error or another value,
/// never a panic, and what it gives is again written as it was read.
fn round_trip<T: Debug + PartialEq>(
    value: &T,
    changes: &[(Index, u8)],
    encode: fn(&T) -> Vec<u8>,
    decode: fn(&[u8]) -> Result<T, DecodeError>,
) -> TestCaseResult {
    let mut bytes = encode(value);
    prop_assert_eq!(bytes[0], FORMAT_VERSION);
    let decoded = decode(&bytes);
    prop_assert_eq!(decoded.as_ref(), Ok(value));
    let cut = changes[0].0.index(bytes.len());
    prop_assert!(decode(&bytes[..cut]).is_err());
    bytes.push(0);
    prop_assert_eq!(decode(&bytes), Err(DecodeError::TrailingBytes { count: 1 }));
    bytes.pop();
    for (at, byte) in changes {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
        if let Ok(other) = decode(&bytes) {
            prop_assert_eq!(encode(&other), bytes.clone());
        }
    }
    bytes[0] = FORMAT_VERSION + 1;
    let version = FORMAT_VERSION + 1;
    prop_assert_eq!(decode(&bytes), Err(DecodeError::UnknownVersion { version }));
    Ok(())
}

fn changes() -> impl Strategy<Value = Vec<(Index, u8)>> {
    vec((any::<Index>(), prop_oneof![0..20_u8, any::<u8>()]), 1..8)
}

#[test]
fn batches_round_trip() {
    seed::check(
        2_000,
        &(arbitrary::batch(), changes()),
        |(batch, changes)| round_trip(&batch, &changes, Batch::encode, Batch::decode),
    );
}

#[test]
fn commands_round_trip() {
    seed::check(
        4_000,
        &(arbitrary::command(), changes()),
        |(command, changes)| round_trip(&command, &changes, Command::encode, Command::decode),
    );
}

#[test]
fn replies_round_trip() {
    seed::check(
        4_000,
        &(arbitrary::reply(), changes()),
        |(reply, changes)| round_trip(&reply, &changes, Reply::encode, Reply::decode),
    );
}

#[test]
fn queries_round_trip() {
    seed::check(
        2_000,
        &(arbitrary::query(), changes()),
        |(query, changes)| round_trip(&query, &changes, Query::encode, Query::decode),
    );
}

#[test]
fn answers_round_trip() {
    seed::check(
        2_000,
        &(arbitrary::answer(), changes()),
        |(answer, changes)| round_trip(&answer, &changes, Answer::encode, Answer::decode),
    );
}

/// Any bytes: an error or a value, never a panic. Also as a snapshot whose checksum is right.
#[test]
fn random_bytes_are_survived() {
    seed::check(
        20_000,
        &vec(prop_oneof![0..20_u8, any::<u8>()], 0..200),
        |mut bytes| {
            if let Some(first) = bytes.first_mut() {
                *first = FORMAT_VERSION;
            }
            let _ = Batch::decode(&bytes);
            let _ = Command::decode(&bytes);
            let _ = Reply::decode(&bytes);
            let _ = Query::decode(&bytes);
            let _ = Answer::decode(&bytes);
            let _ = Machine::restore(&with_checksum(bytes));
            Ok(())
        },
    );
}

fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// A machine with something of everything: holders, a queue, an upgrader, a set half taken.
fn busy_machine() -> Machine {
    let mut machine = Machine::new_data(ShardId(1));
    let mut commands: Vec<_> = (1..=4)
        .map(|id| crate::world::open(SessionId(id)))
        .collect();
    commands.push(Command::Session(SessionCommand::TouchShard {
        session: SessionId(4),
        shard: ShardId(2),
    }));
    commands.push(Command::Session(SessionCommand::End {
        session: SessionId(4),
        reason: EndReason::Expired,
    }));
    let mut serial = 0;
    let mut acquire = |session, locks: &[(&str, Mode)], wait| {
        serial += 1;
        commands.push(crate::world::acquire(
            crate::world::request(SessionId(session), serial),
            locks,
            wait,
        ));
    };
    acquire(1, &[("s", Mode::Shared)], Wait::Try);
    acquire(2, &[("s", Mode::Shared)], Wait::Try);
    acquire(2, &[("x", Mode::Exclusive)], Wait::Try);
    acquire(
        3,
        &[("a", Mode::Exclusive), ("x", Mode::Exclusive)],
        Wait::AtMost(Millis(9)),
    );
    acquire(1, &[("x", Mode::Shared)], Wait::Forever);
    commands.push(Command::Lock(LockCommand::Upgrade {
        request: crate::world::request(SessionId(1), 77),
        name: LockName::new("s").unwrap(),
        token: FencingToken(1),
        wait: Wait::Forever,
    }));
    machine.apply(Batch {
        at: ShardTime(1_000),
        wall: Timestamp(2_000_000),
        commands,
    });
    machine
}

/// A damaged snapshot is refused. One with a right checksum over wrong bytes is refused too, or is
/// a state that can be used, ended and written again.
#[test]
fn a_damaged_snapshot_is_refused() {
    let snapshot = busy_machine().snapshot();
    assert_eq!(Machine::restore(&snapshot).unwrap().snapshot(), snapshot);
    seed::check(
        5_000,
        &(changes(), arbitrary::batch()),
        |(changes, batch)| {
            let mut bytes = snapshot.clone();
            let at = changes[0].0.index(bytes.len());
            bytes[at] ^= changes[0].1 | 1;
            prop_assert!(Machine::restore(&bytes).is_err());
            prop_assert!(Machine::restore(&bytes[..at]).is_err());
            let mut bytes = snapshot[..snapshot.len() - 4].to_vec();
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            let bytes = with_checksum(bytes);
            if let Ok(mut machine) = Machine::restore(&bytes) {
                prop_assert_eq!(machine.snapshot(), bytes);
                let ends = (1..=4).map(SessionId);
                let reason = EndReason::Closed;
                machine.apply(batch);
                machine.apply(Batch {
                    at: ShardTime(2_000),
                    wall: Timestamp(2_001_000),
                    commands: ends
                        .map(|session| Command::Session(SessionCommand::End { session, reason }))
                        .collect(),
                });
                let snapshot = machine.snapshot();
                prop_assert_eq!(Machine::restore(&snapshot).unwrap().snapshot(), snapshot);
            }
            Ok(())
        },
    );
}

/// A length that the input cannot hold is refused before anything is made for it.
#[test]
fn a_length_field_alone_claims_no_memory() {
    // An answer about locks: many of them.
    let mut bytes = vec![FORMAT_VERSION, 3, 2];
    bytes.extend([0xff; 7]);
    bytes.push(0x7f);
    assert!(matches!(
        Answer::decode(&bytes),
        Err(DecodeError::Truncated { .. })
    ));
}

/// Bounds are checked when reading, so no decoded command is outside them.
#[test]
fn bounds_are_checked_when_reading() {
    let acquire = |count: usize, prefix: &str| {
        Command::Lock(LockCommand::Acquire {
            request: crate::world::request(SessionId(1), 1),
            owner: Owner::default(),
            locks: (0..count)
                .map(|at| spec(&format!("{prefix}{}", at % 64)))
                .collect(),
            wait: Wait::Try,
            value: Value::EMPTY,
        })
    };
    let open = |ttl, key: usize, value: usize, labels: usize| {
        Command::Session(SessionCommand::Open {
            session: SessionId(1),
            ttl: Millis(ttl),
            priority: Priority(0),
            labels: (0..labels)
                .map(|at| (format!("{at:0key$}"), "v".repeat(value)))
                .collect(),
        })
    };
    let upgrade = |wait| {
        Command::Lock(LockCommand::Upgrade {
            request: crate::world::request(SessionId(1), 1),
            name: LockName::new("l").unwrap(),
            token: FencingToken(1),
            wait,
        })
    };
    for good in [
        acquire(64, "l"),
        open(1_000, 64, 256, 16),
        upgrade(Wait::AtMost(Millis(1))),
    ] {
        assert_eq!(Command::decode(&good.encode()), Ok(good));
    }
    let bad = [
        acquire(0, "l"),
        acquire(65, "l"),
        open(999, 1, 1, 1),
        open(3_600_001, 1, 1, 1),
        open(1_000, 65, 1, 1),
        open(1_000, 1, 257, 1),
        open(1_000, 2, 1, 17),
        upgrade(Wait::AtMost(Millis(0))),
        upgrade(Wait::AtMost(Millis(86_400_001))),
    ];
    for bad in bad {
        let error = Command::decode(&bad.encode()).unwrap_err();
        assert!(matches!(error, DecodeError::OutOfBounds { .. }), "{error}");
    }
    let twice = Command::Lock(LockCommand::Acquire {
        request: crate::world::request(SessionId(1), 1),
        owner: Owner::default(),
        locks: vec![spec("l"), spec("m"), spec("l")],
        wait: Wait::Try,
        value: Value::EMPTY,
    });
    assert!(Command::decode(&twice.encode()).is_err());
    let batch = Batch {
        at: ShardTime(0),
        wall: Timestamp(0),
        commands: vec![Command::Expire; 4_097],
    };
    assert!(Batch::decode(&batch.encode()).is_err());
}

fn spec(name: &str) -> LockSpec {
    LockSpec {
        name: LockName::new(name).unwrap(),
        mode: Mode::Exclusive,
    }
}

/// One of every command.
fn every_command() -> Batch {
    let session = SessionId(0x0102_0304_0506_0708);
    let request = RequestId {
        session,
        serial: Serial(300),
        acked_below: Serial(299),
        acked: AckedRanges::NONE,
    };
    let name = || LockName::new("l").unwrap();
    let token = FencingToken(5);
    let reason = EndReason::Closed;
    let (priority, shard) = (Priority(-2), ShardId(3));
    let node = NodeRecord {
        node: NodeId(1),
        name: "n".to_owned(),
        client_address: "c:1".to_owned(),
        peer_address: "p:2".to_owned(),
        zone: "z".to_owned(),
        version: "v".to_owned(),
    };
    let commands = vec![
        Command::Session(SessionCommand::Open {
            session,
            ttl: Millis(10_000),
            priority,
            labels: [("k".to_owned(), "v".to_owned())].into(),
        }),
        Command::Session(SessionCommand::Resume { session }),
        Command::Session(SessionCommand::TouchShard { session, shard }),
        Command::Session(SessionCommand::Checkpoint {
            remaining: vec![(session, Millis(7))],
        }),
        Command::Session(SessionCommand::Revive { session }),
        Command::Session(SessionCommand::Revoke { session }),
        Command::Session(SessionCommand::End { session, reason }),
        Command::Session(SessionCommand::ShardReleased { session, shard }),
        Command::Session(SessionCommand::Attach {
            session,
            priority,
            opened: Timestamp(8),
            touch: Touch {
                home: shard,
                number: TouchNumber(9),
            },
        }),
        Command::Session(SessionCommand::Detach {
            session,
            reason: EndReason::Expired,
            touch: Touch {
                home: shard,
                number: TouchNumber(300),
            },
        }),
        Command::Lock(LockCommand::Acquire {
            request,
            owner: Owner::new("o").unwrap(),
            locks: vec![
                LockSpec {
                    name: name(),
                    mode: Mode::Shared,
                },
                spec("m"),
            ],
            wait: Wait::AtMost(Millis(50)),
            value: Value::new(b"v").unwrap(),
        }),
        Command::Lock(LockCommand::CancelWait {
            session,
            serial: Serial(300),
        }),
        Command::Lock(LockCommand::Release {
            request,
            name: name(),
            token,
        }),
        Command::Lock(LockCommand::UndoAcquire {
            session,
            serial: Serial(300),
            grants: vec![GiveBack {
                name: name(),
                token,
            }],
            refusal: Refusal::Lock(LockRefusal::Unavailable {
                name: "m".to_owned(),
            }),
        }),
        Command::Lock(LockCommand::Upgrade {
            request,
            name: name(),
            token,
            wait: Wait::Forever,
        }),
        Command::Lock(LockCommand::Downgrade {
            request,
            name: name(),
            token,
        }),
        Command::Expire,
        Command::Meta(MetaCommand::Found {
            cluster: ClusterId([9; 16]),
            settings: Settings {
                shards: 8,
                replication_factor: 3,
                ring_version: 1,
            },
            nodes: vec![node.clone()],
            placement: Placement {
                revision: 1,
                shards: [(shard, vec![NodeId(1)])].into(),
                learners: [(shard, vec![NodeId(2)])].into(),
            },
        }),
        Command::Meta(MetaCommand::DescribeNode { node: node.clone() }),
        Command::Meta(MetaCommand::JoinNode {
            node: NodeRecord {
                node: NodeId(0),
                ..node
            },
            nonce: 300,
        }),
        Command::Meta(MetaCommand::SetLifecycle {
            node: NodeId(1),
            lifecycle: Lifecycle::Draining,
            expected: Some(2),
        }),
        Command::Meta(MetaCommand::RemoveNode {
            node: NodeId(1),
            expected: None,
        }),
        Command::Meta(MetaCommand::SetReplicas {
            shard,
            voters: vec![NodeId(1)],
            learners: vec![NodeId(2)],
            as_of: 300,
        }),
    ];
    Batch {
        at: ShardTime(1_000),
        wall: Timestamp(2_000_000),
        commands,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of version 4. If this fails, logs that were written cannot be read any more: raise
/// the version, do not change the text alone.
#[test]
fn the_format_of_batches_is_pinned() {
    let pinned = include_str!("format/batch.hex")
        .split_whitespace()
        .collect::<String>();
    assert_eq!(hex(&every_command().encode()), pinned);
}

/// The same for the commands that came later.
#[test]
fn the_format_of_later_commands_is_pinned() {
    let above = FencingToken(300);
    let raise = Command::Lock(LockCommand::RaiseTokens { above });
    assert_eq!(hex(&raise.encode()), "040209ac02");
    let shard = ShardId(3);
    let refused = Reply::Refused(Refusal::Lock(LockRefusal::NotEmpty { shard }));
    assert_eq!(hex(&refused.encode()), "0402041003");
    let party = |session| Party {
        session: SessionId(session),
        owner: Owner::new("o").unwrap(),
    };
    let name = || LockName::new("l").unwrap();
    let abort = Command::Lock(LockCommand::AbortWait {
        session: SessionId(1),
        serial: Serial(2),
        epoch: WaitEpoch(3),
        cycle: vec![Edge {
            wait: Waits {
                party: party(1),
                priority: Priority(-1),
                opened: Timestamp(4),
                shard,
                serial: Serial(2),
                epoch: WaitEpoch(3),
                name: name(),
            },
            holder: Holds {
                party: party(5),
                token: FencingToken(6),
            },
        }],
    });
    assert_eq!(
        hex(&abort.encode()),
        "04020701000000000000000203010100000000000000016f01040302030\
         16c0500000000000000016f06"
    );
    let proclaim = Command::Lock(LockCommand::Proclaim {
        request: crate::world::request(SessionId(1), 2),
        name: name(),
        token: FencingToken(3),
        value: Value::new(b"v").unwrap(),
    });
    assert_eq!(
        hex(&proclaim.encode()),
        "0402050100000000000000020000016c030176"
    );
    let modes = [
        (Mode::Permits { count: 2, of: 300 }, "0302ac02"),
        (Mode::Meet { parties: 3 }, "0403"),
    ];
    for (mode, pinned) in modes {
        let mut bytes = Vec::new();
        lockstep_model::codec::Encode::encode_into(&mode, &mut bytes);
        assert_eq!(hex(&bytes), pinned);
    }
    let endless = Command::Lock(LockCommand::RaiseTokens {
        above: FencingToken(u64::MAX),
    });
    assert!(Command::decode(&endless.encode()).is_err());
}

/// The same for snapshots.
#[test]
fn the_format_of_snapshots_is_pinned() {
    let pinned = include_str!("format/snapshot.hex")
        .split_whitespace()
        .collect::<String>();
    assert_eq!(hex(&busy_machine().snapshot()), pinned);
}
