//! For how long a snapshot keeps a shard from applying: `cargo run --release -p lockstep-node
//! --example snapshot_stall`.
//!
//! A shard with 200,000 locks applies one small batch after another while a snapshot is taken, encoded
//! and written. What counts is the longest time that one batch took, and beside it the longest of a
//! time without a snapshot; of several rounds the median.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::stream;
use lockstep_model::{
    Batch, Command, Effect, LockCommand, LockName, Millis, Owner, Priority, Serial, SessionCommand,
    SessionId, ShardId, ShardTime, Timestamp, Value,
    command::MAX_COMMANDS_PER_BATCH,
    locks::{command::LockSpec, mode::Mode},
    request::{AckedRanges, RequestId, Wait},
};
use lockstep_node::{
    raft::types::{BatchBytes, Entry, LeaderId, LogId, Payload},
    storage::{EffectSink, MachineStore, Storage},
};
use openraft::storage::{RaftSnapshotBuilder as _, RaftStateMachine as _};

/// Locks that are held.
const LOCKS: u64 = 200_000;
/// Rounds, of which the median counts.
const ROUNDS: usize = 5;
/// Batches are applied for so long to see what is usual.
const CALM: Duration = Duration::from_millis(500);
/// Batches are applied for so long after the snapshot, which may leave work behind.
const AFTER: Duration = Duration::from_millis(200);
/// Lock and unlock in a batch.
const PAIRS: u64 = 4;

struct Nobody;

impl EffectSink for Nobody {
    fn effects(&self, _effects: Vec<Effect>) {}
}

struct World {
    machine: MachineStore,
    index: u64,
    serial: u64,
    token: u64,
    sessions: u64,
}

fn name(text: &str) -> io::Result<LockName> {
    LockName::new(text).map_err(io::Error::other)
}

impl World {
    async fn new(storage: &Storage, shard: ShardId, sessions: u64) -> anyhow::Result<Self> {
        let machine = MachineStore::open(storage, shard, Arc::new(Nobody)).await?;
        let mut world = Self {
            machine,
            index: 0,
            serial: 0,
            token: 0,
            sessions,
        };
        let open = |session| {
            Command::Session(SessionCommand::Open {
                session: SessionId(session),
                ttl: Millis(10_000),
                priority: Priority(0),
                labels: BTreeMap::from([("host".to_owned(), "node.example".to_owned())]),
            })
        };
        let mut commands: Vec<_> = (1..=sessions).map(open).collect();
        for at in 0..LOCKS {
            commands.push(world.acquire(at % sessions + 1, &format!("held/{at}"))?);
        }
        for batch in commands.chunks(MAX_COMMANDS_PER_BATCH) {
            world.apply(batch.to_vec()).await?;
        }
        Ok(world)
    }

    fn request(&mut self, session: u64) -> RequestId {
        self.serial += 1;
        RequestId {
            session: SessionId(session),
            serial: Serial(self.serial),
            acked_below: Serial(self.serial),
            acked: AckedRanges::NONE,
        }
    }

    fn acquire(&mut self, session: u64, lock: &str) -> io::Result<Command> {
        self.token += 1;
        let (name, mode) = (name(lock)?, Mode::Exclusive);
        Ok(Command::Lock(LockCommand::Acquire {
            request: self.request(session),
            owner: Owner::default(),
            locks: vec![LockSpec { name, mode }],
            wait: Wait::Try,
            value: Value::EMPTY,
        }))
    }

    /// Takes free locks and gives them back.
    fn pairs(&mut self) -> io::Result<Vec<Command>> {
        let mut commands = Vec::new();
        for _ in 0..PAIRS {
            let session = self.serial * 7_919 % self.sessions + 1;
            let lock = format!("taken/{}", self.serial);
            commands.push(self.acquire(session, &lock)?);
            commands.push(Command::Lock(LockCommand::Release {
                request: self.request(session),
                name: name(&lock)?,
                token: lockstep_model::FencingToken(self.token),
            }));
        }
        Ok(commands)
    }

    async fn apply(&mut self, commands: Vec<Command>) -> io::Result<Duration> {
        self.index += 1;
        let at = ShardTime(1_000 + self.index);
        let wall = Timestamp(1_000);
        let log_id = LogId {
            leader_id: LeaderId {
                term: 1,
                node_id: 1,
            },
            index: self.index,
        };
        let batch = BatchBytes(Batch { at, wall, commands }.encode().into());
        let payload = Payload::Normal(batch);
        let entry = Ok((Entry { log_id, payload }, None));
        let begin = Instant::now();
        self.machine.apply(stream::iter([entry])).await?;
        Ok(begin.elapsed())
    }

    /// The longest that a batch takes until `over`.
    async fn longest(&mut self, mut over: impl FnMut() -> bool) -> io::Result<Duration> {
        let mut longest = Duration::ZERO;
        while !over() {
            let commands = self.pairs()?;
            longest = longest.max(self.apply(commands).await?);
        }
        Ok(longest)
    }
}

fn passed(span: Duration) -> impl FnMut() -> bool {
    let begin = Instant::now();
    move || begin.elapsed() > span
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let storage = Storage::open(dir.path())?;
    let mut out = io::stdout();
    for (shard, sessions) in [(1, 10_000), (2, 1)] {
        let mut world = World::new(&storage, ShardId(shard), sessions).await?;
        let mut rounds: [Vec<Duration>; 4] = Default::default();
        for _ in 0..ROUNDS {
            let calm = world.longest(passed(CALM)).await?;
            let mut builder = world.machine.get_snapshot_builder().await;
            let begin = Instant::now();
            let build = tokio::spawn(async move { builder.build_snapshot().await });
            let during = world.longest(|| build.is_finished()).await?;
            build.await??;
            let took = begin.elapsed();
            let after = world.longest(passed(AFTER)).await?;
            for (samples, sample) in rounds.iter_mut().zip([calm, during, after, took]) {
                samples.push(sample);
            }
        }
        let names = ["stall_calm", "stall_during", "stall_after", "took"];
        for (name, mut samples) in names.into_iter().zip(rounds) {
            samples.sort_unstable();
            let median = samples.get(ROUNDS / 2).copied().unwrap_or_default();
            let ms = median.as_secs_f64() * 1e3;
            writeln!(out, "figure snapshot_{name}_{sessions}_sessions {ms:.3} ms")?;
        }
    }
    Ok(())
}
