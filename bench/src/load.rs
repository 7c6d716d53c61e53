//! The load: clients that take a lock, give it back, and at once take the next, in a closed loop.
//!
//! Invariants: only what ends within the measured time is counted, and a client that gets an error
//! ends the run, so that no figure hides one.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    counters::Counters,
    peer::{Peer, PeerClient},
    scenario::Scenario,
    usage::Usage,
};

/// The shortest time that is told apart, in nanoseconds: far below a fsync.
const FINEST: u64 = 1_000;
/// The longest, in nanoseconds: a minute. A lock that takes longer is broken.
const LONGEST: u64 = 60_000_000_000;
/// Significant digits of what is kept.
const DIGITS: u8 = 3;
/// Clients that connect at a time: enough for the servers to batch, and few enough for none of
/// them to be refused.
const CONNECTING: usize = 64;
/// How long the clients may take to end after their time. Each has one pair to finish and a session
/// to close, and behind all others of the largest scenario that takes seconds.
const END_LIMIT: Duration = Duration::from_secs(60);

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
    let connecting = stream::iter(0..scenario.clients()).map(|number| async move {
        let client = peer.connect(number).await;
        client.with_context(|| format!("client {number} connects"))
    });
    let ready: Vec<_> = connecting.buffered(CONNECTING).try_collect().await?;
    let begin = Instant::now() + span.warmup;
    let shared = Arc::new(Shared {
        scenario,
        begin,
        end: begin + span.measured,
        times: Mutex::new((times()?, times()?)),
    });
    let mut clients = JoinSet::new();
    for (number, client) in ready.into_iter().enumerate() {
        clients.spawn(work(Arc::clone(&shared), number, client));
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
    let give_up = shared.end + END_LIMIT;
    while let Some(ended) = timeout_at(give_up, clients.join_next())
        .await
        .with_context(|| format!("a client did not end {END_LIMIT:?} after its time"))?
    {
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

async fn work<C: PeerClient>(
    shared: Arc<Shared>,
    number: usize,
    mut client: C,
) -> anyhow::Result<()> {
    for turn in 0.. {
        let asked = Instant::now();
        if asked >= shared.end {
            break;
        }
        let (lock, access) = shared.scenario.wanted(number, turn);
        let held = client.lock(lock, access).await?;
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
