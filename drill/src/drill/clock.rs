//! One node's wall clock jumps an hour ahead for some seconds, and back.
//!
//! The nodes run with Debian's libfaketime, which shifts what they read of the wall clock, and nothing else,
//! by what a file says.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use futures::future::join_all;
use lockstep_client::{Client, ClientConfig, SessionOptions};
use tokio::time::sleep;

use super::{DrillOptions, Exercise, Going, Outcome};
use crate::{
    checker::{Expectations, Violation},
    cluster::ClusterOptions,
    console::say,
    figure::Goal,
};

/// By how much the clock is wrong.
const AHEAD: Duration = Duration::from_secs(3_600);
/// For how long, while the load goes on.
const WRONG: Duration = Duration::from_secs(5);
/// How long a node may take to look at its clock's file again.
const NOTICED: Duration = Duration::from_secs(2);
/// Locks that each of them takes: with eight shards, one misses a shard in fewer than one of ten sessions.
const NAMES: usize = 36;
/// Sessions that are opened while the clock is wrong, to see that it is; and afterwards, to see that none is
/// refused anything. Each has one shard as its home and uses all others.
const SESSIONS: usize = 48;

/// Each cycle sets the clock of a random node that leads something an hour ahead, sees that sessions are
/// opened in the future, sets it back, and has new sessions lock in every shard: none may be refused.
///
/// # Errors
/// If the harness itself fails, or there is no libfaketime.
pub async fn clock(options: DrillOptions, cluster: ClusterOptions) -> anyhow::Result<Outcome> {
    let cycles = options.cycles;
    let expectations = Expectations {
        // A wrong clock costs nobody anything.
        sessions_survive: true,
    };
    let cluster = cluster.with_own_clocks();
    let mut exercise = Exercise::start("clock", options, cluster, expectations).await?;
    let mut refused = 0;
    for cycle in 1..=cycles {
        let (victim, led) = exercise.draw_leader().await?;
        exercise.cluster.set_clock(victim, AHEAD)?;
        sleep(NOTICED).await;
        let ahead = opened_ahead(&exercise).await?;
        ensure!(
            ahead > 0,
            "the clock of node-{} was not shifted: no session was opened in the future",
            victim + 1
        );
        sleep(WRONG.saturating_sub(NOTICED)).await;
        exercise.cluster.set_clock(victim, Duration::ZERO)?;
        sleep(NOTICED).await;
        let back = exercise.now();
        let when = format!(
            "after the clock of node-{} was put right (cycle {cycle})",
            victim + 1
        );
        if exercise.serving(&when, back).await? == Going::Stuck {
            break;
        }
        refused += refusals(&mut exercise, &when).await?;
        say(format_args!(
            "cycle {cycle}/{cycles}: node-{}, which led {} shards, was an hour ahead; {ahead} of {SESSIONS} sessions were opened in the future",
            victim + 1,
            led.len(),
        ));
        exercise.cycle_done(cycle).await?;
    }
    let goal = Goal::exactly(0.0);
    let refused = f64::from(refused);
    exercise
        .figures()
        .judge("refused_after_clock_step", refused, "count", goal);
    exercise.finish().await
}

async fn connect(exercise: &Exercise) -> anyhow::Result<Client> {
    let endpoints = exercise.cluster.endpoints();
    Ok(Client::connect(ClientConfig::new(endpoints)).await?)
}

/// How many of some new sessions were opened in the future, by their listing.
async fn opened_ahead(exercise: &Exercise) -> anyhow::Result<usize> {
    let client = connect(exercise).await?;
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(client.open_session(SessionOptions::default()).await?);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let listed = client.list_sessions(1_000, "").await?.items;
    let mut ahead = 0;
    for session in &listed {
        let is_ours = sessions.iter().any(|own| own.id() == session.id);
        let opened = session.opened.duration_since(UNIX_EPOCH)?;
        ahead += usize::from(is_ours && opened > now + AHEAD / 2);
    }
    for session in sessions {
        session.close().await.context("closing a session")?;
    }
    Ok(ahead)
}

/// New sessions lock in every shard. How many of those requests were refused.
async fn refusals(exercise: &mut Exercise, when: &str) -> anyhow::Result<u32> {
    let client = connect(exercise).await?;
    let mut refused = 0;
    for at in 0..SESSIONS {
        let session = client.open_session(SessionOptions::default()).await?;
        let locks = (0..NAMES).map(|name| session.lock(format!("clock/{at}/{name}")).acquire());
        for lock in join_all(locks).await {
            if let Err(error) = lock {
                refused += 1;
                exercise.report(Violation::Unmet {
                    what: format!("no request is refused {when}: {error}"),
                });
            }
        }
        session.close().await.context("closing a session")?;
    }
    Ok(refused)
}
