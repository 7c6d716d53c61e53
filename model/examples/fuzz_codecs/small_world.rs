//! A data shard in which a few sessions contend for a few locks: where snapshots come from, and
//! what decoded batches are tried on.
//!
//! Invariant: only its own batches are ever applied to it, and it begins anew before it grows large.

use std::collections::BTreeMap;

use lockstep_model::{
    Applied, Batch, ClusterId, Command, Effect, LockCommand, LockName, LockRefusal, LockReply,
    Machine, MetaCommand, Millis, NodeId, Outcome, Owner, Priority, Refusal, Reply, Serial,
    SessionCommand, SessionId, ShardId, ShardTime, Timestamp, TouchNumber, Value,
    locks::{
        command::{GiveBack, LockSpec},
        mode::Mode,
        reply::Grant,
    },
    meta::{NodeRecord, Settings},
    placement::place,
    request::{AckedRanges, RequestId, Wait},
    ring::RING_VERSION,
    session::{EndReason, Touch},
};
use proptest::{prelude::*, test_runner::TestRng};

const SESSIONS: u64 = 5;
const LOCKS: u8 = 5;
/// Most commands in one of its batches.
const MAX_COMMANDS: usize = 4;
/// Batches after which it begins anew.
const MAX_BATCHES: u32 = 400;
/// Grants that are remembered, for releasing them.
const MAX_GRANTS: usize = 64;

pub(crate) struct SmallWorld {
    machine: Machine,
    at: ShardTime,
    last_serial: u64,
    grants: Vec<(SessionId, Grant)>,
    batches: u32,
}

impl SmallWorld {
    pub(crate) fn new() -> Self {
        Self {
            machine: Machine::new_data(ShardId(1)),
            at: ShardTime(1_000_000),
            last_serial: 0,
            grants: Vec::new(),
            batches: 0,
        }
    }

    pub(crate) const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Applies a batch of its own.
    pub(crate) fn step(&mut self, rng: &mut TestRng) {
        if self.batches >= MAX_BATCHES {
            *self = Self::new();
        }
        self.batches += 1;
        let batch = self.batch(rng);
        let sessions: Vec<Option<SessionId>> = batch.commands.iter().map(asker).collect();
        let Applied {
            outcomes, effects, ..
        } = self.machine.apply(batch);
        for (outcome, session) in outcomes.into_iter().zip(sessions) {
            if let (Outcome::Done(reply), Some(session)) = (outcome, session) {
                self.learn(session, reply);
            }
        }
        for effect in effects {
            if let Effect::Complete { session, reply, .. } = effect {
                self.learn(session, reply);
            }
        }
    }

    /// A batch that fits: most of its commands do something.
    pub(crate) fn batch(&mut self, rng: &mut TestRng) -> Batch {
        self.at = self.at.plus(Millis(rng.random_range(0..2_000)));
        let count = rng.random_range(1..=MAX_COMMANDS);
        Batch {
            at: self.at,
            wall: wall(self.at),
            commands: (0..count).map(|_| self.command(rng)).collect(),
        }
    }

    fn learn(&mut self, session: SessionId, reply: Reply) {
        if let Reply::Lock(LockReply::Granted(grants)) = reply {
            let grants = grants.into_iter().map(|grant| (session, grant));
            self.grants.extend(grants);
            let over = self.grants.len().saturating_sub(MAX_GRANTS);
            self.grants.drain(..over);
        }
    }

    fn command(&mut self, rng: &mut TestRng) -> Command {
        let session = SessionId(rng.random_range(1..=SESSIONS));
        match rng.random_range(0..16_u8) {
            0 => Command::Session(SessionCommand::Open {
                session,
                ttl: Millis(rng.random_range(1_000..60_000)),
                priority: Priority(rng.random_range(-2..3)),
                labels: BTreeMap::from([("host".to_owned(), "a".to_owned())]),
            }),
            1 => Command::Session(SessionCommand::Attach {
                session,
                priority: Priority(rng.random_range(-2..3)),
                opened: wall(self.at),
                touch: touch(rng),
            }),
            2 => self.session_command(session, rng),
            3..=8 => Command::Lock(LockCommand::Acquire {
                request: self.request(session, rng),
                owner: owner(rng),
                locks: locks(rng),
                wait: wait(rng),
                value: Value::new(&vec![7; rng.random_range(0..9)]).unwrap_or_default(),
            }),
            9 => Command::Lock(LockCommand::CancelWait {
                session,
                serial: Serial(rng.random_range(0..=self.last_serial)),
            }),
            10 => Command::Expire,
            11 => Command::Lock(LockCommand::RaiseTokens {
                above: lockstep_model::FencingToken(rng.random_range(0..9)),
            }),
            _ => self.with_grant(rng),
        }
    }

    fn session_command(&self, session: SessionId, rng: &mut TestRng) -> Command {
        let shard = ShardId(rng.random_range(1..6));
        let reason = if rng.random() {
            EndReason::Closed
        } else {
            EndReason::Expired
        };
        match rng.random_range(0..6_u8) {
            0 => Command::Session(SessionCommand::Resume { session }),
            1 => Command::Session(SessionCommand::TouchShard { session, shard }),
            2 => Command::Session(SessionCommand::ShardReleased { session, shard }),
            3 => Command::Session(SessionCommand::Checkpoint {
                remaining: vec![(session, Millis(rng.random_range(0..9_000)))],
            }),
            4 => Command::Session(SessionCommand::End { session, reason }),
            _ => Command::Session(SessionCommand::Detach {
                session,
                reason,
                touch: touch(rng),
            }),
        }
    }

    /// Something with a lock that was granted, perhaps long ago.
    fn with_grant(&mut self, rng: &mut TestRng) -> Command {
        let at = rng.random_range(0..self.grants.len().max(1));
        let Some((session, grant)) = self.grants.get(at).cloned() else {
            return Command::Expire;
        };
        let request = self.request(session, rng);
        let Grant { name, token, .. } = grant;
        match rng.random_range(0..7_u8) {
            0..3 => Command::Lock(LockCommand::Release {
                request,
                name,
                token,
            }),
            3 | 4 => Command::Lock(LockCommand::Upgrade {
                request,
                name,
                token,
                wait: wait(rng),
            }),
            5 => Command::Lock(LockCommand::Downgrade {
                request,
                name,
                token,
            }),
            _ => Command::Lock(LockCommand::UndoAcquire {
                session,
                serial: request.serial,
                grants: vec![GiveBack { name, token }],
                refusal: Refusal::Lock(LockRefusal::NoSuchWait),
            }),
        }
    }

    fn request(&mut self, session: SessionId, rng: &mut TestRng) -> RequestId {
        self.last_serial += 1;
        let serial = match rng.random_range(0..8_u8) {
            0 => rng.random_range(0..=self.last_serial),
            1 => Serial::FIRST_EPHEMERAL.0 + self.last_serial,
            _ => self.last_serial,
        };
        let acked_below =
            rng.random_range(0..=self.last_serial) * u64::from(rng.random_ratio(1, 9));
        RequestId {
            session,
            serial: Serial(serial),
            acked_below: Serial(acked_below),
            acked: AckedRanges::NONE,
        }
    }
}

/// The session that gets what a command is granted.
const fn asker(command: &Command) -> Option<SessionId> {
    match command {
        Command::Lock(LockCommand::Acquire { request, .. })
        | Command::Lock(LockCommand::Upgrade { request, .. }) => Some(request.session),
        Command::Session(SessionCommand::Open { .. })
        | Command::Session(SessionCommand::Resume { .. })
        | Command::Session(SessionCommand::TouchShard { .. })
        | Command::Session(SessionCommand::Checkpoint { .. })
        | Command::Session(SessionCommand::Revive { .. })
        | Command::Session(SessionCommand::Revoke { .. })
        | Command::Session(SessionCommand::End { .. })
        | Command::Session(SessionCommand::ShardReleased { .. })
        | Command::Session(SessionCommand::Attach { .. })
        | Command::Session(SessionCommand::Detach { .. })
        | Command::Lock(LockCommand::CancelWait { .. })
        | Command::Lock(LockCommand::Proclaim { .. })
        | Command::Lock(LockCommand::AbortWait { .. })
        | Command::Lock(LockCommand::Release { .. })
        | Command::Lock(LockCommand::UndoAcquire { .. })
        | Command::Lock(LockCommand::Downgrade { .. })
        | Command::Expire
        | Command::Lock(LockCommand::RaiseTokens { .. })
        | Command::Meta(_) => None,
    }
}

const fn wall(at: ShardTime) -> Timestamp {
    Timestamp(1_700_000_000_000 + at.0)
}

fn touch(rng: &mut TestRng) -> Touch {
    Touch {
        home: ShardId(rng.random_range(2..4)),
        number: TouchNumber(rng.random_range(1..100)),
    }
}

fn owner(rng: &mut TestRng) -> Owner {
    let text = if rng.random() { "" } else { "t" };
    Owner::new(text).unwrap_or_default()
}

fn locks(rng: &mut TestRng) -> Vec<LockSpec> {
    let first = rng.random_range(0..LOCKS);
    let count = 1 + rng.random_range(0..3) * u8::from(rng.random_ratio(1, 3));
    (first..first + count)
        .filter_map(|number| {
            let letter = char::from(b'a' + number % LOCKS);
            let mode = match rng.random_range(0..7) {
                0..3 => Mode::Shared,
                3 => Mode::Permits { count: 1, of: 2 },
                4 => Mode::Meet { parties: 2 },
                _ => Mode::Exclusive,
            };
            let name = LockName::new(&letter.to_string()).ok()?;
            Some(LockSpec { name, mode })
        })
        .collect()
}

fn wait(rng: &mut TestRng) -> Wait {
    match rng.random_range(0..4_u8) {
        0 => Wait::Try,
        1 => Wait::AtMost(Millis(rng.random_range(1..20_000))),
        _ => Wait::Forever,
    }
}

/// A meta shard of a cluster of one to nine nodes.
pub(crate) fn founded(rng: &mut TestRng) -> Machine {
    let count = rng.random_range(1..10_u64);
    let nodes: Vec<NodeRecord> = (1..=count)
        .map(|number| NodeRecord {
            node: NodeId(number * rng.random_range(1..3)),
            name: format!("node-{number}"),
            client_address: format!("10.0.0.{number}:7400"),
            peer_address: format!("10.0.0.{number}:7401"),
            zone: format!("zone-{}", number % 3),
            version: "0.1.0".to_owned(),
        })
        .collect();
    let settings = Settings {
        shards: rng.random_range(1..12),
        replication_factor: if count < 3 { 1 } else { 3 },
        ring_version: RING_VERSION,
    };
    let mut machine = Machine::new_meta();
    if let Ok(placement) = place(&settings, &nodes) {
        let found = MetaCommand::Found {
            cluster: ClusterId(rng.random()),
            settings,
            nodes,
            placement,
        };
        machine.apply(Batch {
            at: ShardTime(1),
            wall: Timestamp(1),
            commands: vec![Command::Meta(found)],
        });
    }
    machine
}
