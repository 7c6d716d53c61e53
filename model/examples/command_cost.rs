//! What a command costs the model: `cargo run --release -p lockstep-model --example command_cost`.
//!
//! Pairs of acquire and release by random sessions, on locks that nobody holds, in a shard that holds
//! few or many others. Time is the thread's own on the processor, so that other work on the machine
//! does not count; of several rounds the median is given.

use std::{
    fs,
    io::{self, Write},
    time::Duration,
};

use lockstep_model::{
    Batch, Command, LockCommand, LockName, LockReply, Machine, Millis, Outcome, Owner, Priority,
    Reply, Serial, SessionCommand, SessionId, ShardId, ShardTime, Timestamp, Value,
    locks::{command::LockSpec, mode::Mode},
    request::{AckedRanges, RequestId, Wait},
};

/// Rounds, of which the median counts.
const ROUNDS: usize = 9;
/// Pairs in a round: about half a second.
const PAIRS: u64 = 100_000;
/// Commands in a batch, as under load.
const BATCH: u64 = 32;

struct World {
    machine: Machine,
    sessions: u64,
    serial: u64,
    random: u64,
}

fn name(text: &str) -> io::Result<LockName> {
    LockName::new(text).map_err(io::Error::other)
}

impl World {
    /// So many sessions, each with so many locks.
    fn new(sessions: u64, locks_each: u64) -> io::Result<Self> {
        let mut world = Self {
            machine: Machine::new_data(ShardId(1)),
            sessions,
            serial: 0,
            random: 0x9e37_79b9_7f4a_7c15,
        };
        let open = |session| {
            Command::Session(SessionCommand::Open {
                session: SessionId(session),
                ttl: Millis(10_000),
                priority: Priority(0),
                labels: std::collections::BTreeMap::new(),
            })
        };
        world.apply((1..=sessions).map(open).collect());
        for session in 1..=sessions {
            let locks = (0..locks_each).map(|at| format!("held/{session}/{at}"));
            let commands: Vec<_> = locks
                .map(|lock| world.acquire(session, &lock))
                .collect::<Result<_, _>>()?;
            world.apply(commands);
        }
        Ok(world)
    }

    fn apply(&mut self, commands: Vec<Command>) -> Vec<Outcome> {
        let (at, wall) = (ShardTime(1_000), Timestamp(1_000));
        self.machine.apply(Batch { at, wall, commands }).outcomes
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
        let (name, mode) = (name(lock)?, Mode::Exclusive);
        Ok(Command::Lock(LockCommand::Acquire {
            request: self.request(session),
            owner: Owner::default(),
            locks: vec![LockSpec { name, mode }],
            wait: Wait::Try,
            value: Value::EMPTY,
        }))
    }

    fn draw(&mut self) -> u64 {
        // xorshift64 (Marsaglia, 2003).
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Time on the processor for each command.
    fn round(&mut self) -> io::Result<Duration> {
        let mut spent = Duration::ZERO;
        for _ in 0..PAIRS / BATCH {
            let pairs: Vec<_> = (0..BATCH)
                .map(|_| {
                    let drawn = self.draw();
                    (drawn % self.sessions + 1, format!("taken/{}", drawn >> 32))
                })
                .collect();
            let takes: Vec<_> = pairs
                .iter()
                .map(|(session, lock)| self.acquire(*session, lock))
                .collect::<Result<_, _>>()?;
            let before = on_processor()?;
            let outcomes = self.apply(takes);
            spent += on_processor()? - before;
            let mut releases = Vec::new();
            for ((session, lock), outcome) in pairs.iter().zip(outcomes) {
                let Outcome::Done(Reply::Lock(LockReply::Granted(grants))) = outcome else {
                    return Err(io::Error::other("a lock that nobody holds was not granted"));
                };
                let request = self.request(*session);
                let name = name(lock)?;
                releases.extend(grants.first().map(|grant| {
                    Command::Lock(LockCommand::Release {
                        request,
                        name,
                        token: grant.token,
                    })
                }));
            }
            let before = on_processor()?;
            self.apply(releases);
            spent += on_processor()? - before;
        }
        let commands = PAIRS / BATCH * BATCH * 2;
        Ok(spent / u32::try_from(commands).unwrap_or(u32::MAX))
    }
}

/// This thread's time on the processor.
fn on_processor() -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split(' ').next().and_then(|first| first.parse().ok());
    nanos
        .map(Duration::from_nanos)
        .ok_or_else(|| io::Error::other("schedstat has no time"))
}

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (what, sessions, locks_each) in [("small", 64, 1), ("large", 10_000, 20)] {
        let mut world = World::new(sessions, locks_each)?;
        world.round()?;
        let mut rounds = (0..ROUNDS)
            .map(|_| world.round())
            .collect::<io::Result<Vec<_>>>()?;
        rounds.sort_unstable();
        for (figure, at) in [("least", 0), ("p50", ROUNDS / 2)] {
            let cost = rounds.get(at).copied().unwrap_or_default().as_nanos();
            writeln!(out, "figure {what}_command_{figure} {cost} ns")?;
        }
    }
    Ok(())
}
