//! The load: clients that take a lock, give it back, and at once take the next, in a closed loop.
//!
//! Invariants: only what ends within the measured time is counted, and a client that gets an error
//! ends the run, so that no figure hides one.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    counters::Counters,
    peer::{Lock, Peer, PeerClient},
    usage::Usage,
};

/// The shortest time that is told apart, in nanoseconds: far below a fsync.
const FINEST: u64 = 1_000;
/// The longest, in nanoseconds: a minute. A lock that takes longer is broken.
const LONGEST: u64 = 60_000_000_000;
/// Significant digits of what is kept.
const DIGITS: u8 = 3;

/// Who wants what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// So many clients, each with locks that no other wants.
    Distinct(usize),
    /// So many clients that all want the same lock.
    Hot(usize),
}

impl Scenario {
    /// How many clients it has.
    #[must_use]
    pub const fn clients(self) -> usize {
        match self {
            Self::Distinct(clients) | Self::Hot(clients) => clients,
        }
    }

    const fn lock(self, turn: u64) -> Lock {
        match self {
            Self::Distinct(_) => Lock::Own(turn),
            Self::Hot(_) => Lock::Hot,
        }
    }
}

/// How long a scenario runs.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// Not measured: connections open, sessions become known to the shards, caches fill.
    pub warmup: Duration,
    /// Measured.
    pub measured: Duration,
}

/// Times in nanoseconds.
pub type Times = Histogram<u64>;

/// What one run of one scenario gave.
#[derive(Clone, Debug)]
pub struct Measured {
    /// For how long it was measured, in seconds.
    pub seconds: f64,
    /// From asking for a lock to having given it back.
    pub pairs: Times,
    /// From asking for a lock to having it.
    pub waits: Times,
    /// Processor time.
    pub usage: Usage,
    /// What the servers counted.
    pub counters: Counters,
}

/// What the clients of one run share.
struct Shared {
    scenario: Scenario,
    begin: Instant,
    end: Instant,
    /// Pairs and waits.
    times: Mutex<(Times, Times)>,
}

/// Runs one scenario against one peer.
///
/// # Errors
/// If a client gets an error, or what it cost cannot be read.
pub async fn run<P: Peer>(peer: &P, scenario: Scenario, span: Span) -> anyhow::Result<Measured> {
    let mut ready = Vec::with_capacity(scenario.clients());
    for number in 0..scenario.clients() {
        let client = peer.connect(number).await;
        ready.push(client.with_context(|| format!("client {number} connects"))?);
    }
    let begin = Instant::now() + span.warmup;
    let shared = Arc::new(Shared {
        scenario,
        begin,
        end: begin + span.measured,
        times: Mutex::new((times()?, times()?)),
    });
    let mut clients = JoinSet::new();
    for client in ready {
        clients.spawn(work(Arc::clone(&shared), client));
    }
    undisturbed(&mut clients, shared.begin).await?;
    let before = (
        Instant::now(),
        Usage::now(peer.servers())?,
        peer.counters().await?,
    );
    undisturbed(&mut clients, shared.end).await?;
    let usage = Usage::now(peer.servers())?.since(before.1);
    let counters = peer.counters().await?.since(before.2);
    let seconds = (shared.end - before.0).as_secs_f64();
    while let Some(ended) = clients.join_next().await {
        ended.context("a client panicked")??;
    }
    let (pairs, waits) = shared.times.lock().clone();
    ensure!(
        !pairs.is_empty(),
        "no lock was given back in {seconds:.1} s"
    );
    Ok(Measured {
        seconds,
        pairs,
        waits,
        usage,
        counters,
    })
}

/// Waits until then. No client ends before by itself.
async fn undisturbed(
    clients: &mut JoinSet<anyhow::Result<()>>,
    until: Instant,
) -> anyhow::Result<()> {
    tokio::select! {
        () = sleep_until(until) => Ok(()),
        Some(ended) = clients.join_next() => {
            ended.context("a client panicked")??;
            bail!("a client ended before its time")
        }
    }
}

fn times() -> anyhow::Result<Times> {
    Ok(Histogram::new_with_bounds(FINEST, LONGEST, DIGITS)?)
}

async fn work<C: PeerClient>(shared: Arc<Shared>, mut client: C) -> anyhow::Result<()> {
    for turn in 0.. {
        let asked = Instant::now();
        if asked >= shared.end {
            break;
        }
        let held = client.lock(shared.scenario.lock(turn)).await?;
        let granted = Instant::now();
        client.unlock(held).await?;
        shared.count(asked, granted);
    }
    client.close().await
}

impl Shared {
    fn count(&self, asked: Instant, granted: Instant) {
        let now = Instant::now();
        if now < self.begin || now >= self.end {
            return;
        }
        let mut times = self.times.lock();
        times.0.saturating_record(nanos(now - asked));
        times.1.saturating_record(nanos(granted - asked));
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
