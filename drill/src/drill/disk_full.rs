//! All nodes' disks fill up at once, under load, and are relieved.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::Rng as _;
use tokio::time::sleep;

use super::{DrillOptions, Exercise, Going, Outcome};
use crate::{
    checker::{Expectations, Verdict},
    cluster::{Cluster, ClusterOptions, volume_obstacle},
    console::say,
    figure::{Figures, Goal},
    history::Moment,
    load::ballast,
    poll::until,
};

/// The size of each node's volume.
const VOLUME_MIB: u64 = 300;
/// How long it may take until every node notices, while what is freed is taken at once.
const FULL_LIMIT: Duration = Duration::from_secs(60);
/// What is written in large pieces while the disks fill up, so that writes find no room before nodes notice
/// that there is little, and take on no more.
const BURST_BYTES: usize = 8 << 20;
/// How long all disks then stay full.
const FULL_FOR: Duration = Duration::from_secs(3);
/// Between two looks at nodes.
const POLL: Duration = Duration::from_millis(50);
/// Seconds in which a relieved cluster has to serve.
const RECOVERY_GOAL: f64 = 10.0;

const LEVEL: &str = "lockstep_disk_level";
const LOG_BYTES: &str = "lockstep_raft_log_size_bytes";
const LOG_BUDGET: &str = "lockstep_raft_log_budget_bytes";

/// Each cycle fills the volumes of all nodes to the last block, has one of them killed and started on its
/// full disk, and then relieves them. They have to serve again by themselves within ten seconds, and what
/// was acknowledged has to be there.
///
/// # Errors
/// If the harness itself fails.
pub async fn disk_full(options: DrillOptions, cluster: ClusterOptions) -> anyhow::Result<Outcome> {
    if let Some(obstacle) = volume_obstacle() {
        say(format_args!("disk-full: skipped: {obstacle}"));
        let mut figures = Figures::new("disk-full");
        figures.set("skipped", obstacle);
        return Ok(Outcome {
            figures,
            verdict: Verdict::default(),
            kept: None,
        });
    }
    let cycles = options.cycles;
    let expectations = Expectations {
        // While no node can write nobody's operation is answered, and clients may give up.
        sessions_survive: false,
    };
    let cluster = cluster.with_volumes(VOLUME_MIB);
    let mut exercise = Exercise::start("disk-full", options, cluster, expectations).await?;
    let (mut recoveries, mut logs, mut full) = (Vec::new(), 0.0_f64, 0);
    for cycle in 1..=cycles {
        let begin = exercise.now();
        exercise.granted(100, begin).await?;
        full = full.max(fill(&exercise.cluster).await?);
        let restarted = restart_one(&mut exercise).await?;
        sleep(FULL_FOR).await;
        answers(&exercise.cluster, restarted).await?;
        logs = logs.max(log_use(&exercise.cluster, restarted).await?);
        let (relieved, since) = (Instant::now(), exercise.now());
        for at in 0..exercise.cluster.size() {
            exercise.cluster.relieve(at)?;
        }
        let when = format!("after all disks were relieved (cycle {cycle})");
        if serves(&mut exercise, &when, since).await? == Going::Stuck {
            break;
        }
        let took = relieved.elapsed().as_secs_f64();
        recoveries.push(took);
        say(format_args!(
            "cycle {cycle}/{cycles}: all disks were full; node-{} was killed and started meanwhile; {took:.1} s after relief every shard granted",
            restarted + 1
        ));
        exercise.cycle_done(cycle).await?;
    }
    let slowest = recoveries.iter().copied().fold(0.0, f64::max);
    let figures = exercise.figures();
    figures.note("nodes_out_of_room", f64::from(full), "count");
    figures.judge(
        "serves_after_relief",
        slowest,
        "s",
        Goal::at_most(RECOVERY_GOAL),
    );
    figures.judge("log_of_budget", logs, "ratio", Goal::at_most(1.0));
    exercise.finish().await
}

/// Takes what is free on all volumes, and what is freed, until every node has noticed. How many of them found
/// no room for a write; the others took on nothing that needed any.
async fn fill(cluster: &Cluster) -> anyhow::Result<u32> {
    // It is refused in the end, and has to be.
    let burst = tokio::spawn(ballast::place(cluster.locks(0)?, BURST_BYTES));
    let begin = Instant::now();
    let full = loop {
        let (mut noticed, mut full) = (0, 0);
        for at in 0..cluster.size() {
            cluster.fill(at)?;
            let level = cluster.metrics(at).await?.sum(LEVEL);
            noticed += usize::from(level > 0.5);
            full += u32::from(level > 1.5);
        }
        if noticed == cluster.size() {
            break full;
        }
        ensure!(
            begin.elapsed() < FULL_LIMIT,
            "{noticed} nodes say that their disks are full"
        );
        sleep(POLL).await;
    };
    burst.abort();
    Ok(full)
}

/// Kills a random node, and starts it on its full disk.
async fn restart_one(exercise: &mut Exercise) -> anyhow::Result<usize> {
    let at = exercise.rng.random_range(0..exercise.cluster.size());
    exercise.cluster.kill(at).await?;
    exercise.cluster.fill(at)?;
    exercise.cluster.spawn(at)?;
    let cluster = &exercise.cluster;
    let what = format!("node-{} answers on its full disk", at + 1);
    until(what, FULL_LIMIT, || async {
        // It may find room in what it had reserved, which is taken then.
        cluster.fill(at).map_err(|error| error.to_string())?;
        match cluster.http(at, "/healthz").await {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(format!("{answer:?}")),
            Err(error) => Err(format!("{error:#}")),
        }
    })
    .await?;
    Ok(at)
}

/// All processes live and answer, and one that did not restart is ready, or says why it does not write.
async fn answers(cluster: &Cluster, restarted: usize) -> anyhow::Result<()> {
    for at in 0..cluster.size() {
        let alive = cluster.http(at, "/healthz").await?;
        ensure!(
            alive.status == 200,
            "node-{} is not alive: {alive:?}",
            at + 1
        );
        if at != restarted {
            let level = cluster.metrics(at).await?.sum(LEVEL);
            let ready = cluster.http(at, "/readyz").await?;
            ensure!(
                level < 1.5 || ready.body.starts_with("disk full"),
                "node-{} is out of room and says {ready:?}",
                at + 1
            );
        }
    }
    Ok(())
}

/// The largest share of its budget that a node's logs take.
async fn log_use(cluster: &Cluster, restarted: usize) -> anyhow::Result<f64> {
    let mut most = 0.0_f64;
    for at in (0..cluster.size()).filter(|at| *at != restarted) {
        let samples = cluster.metrics(at).await?;
        let budget = samples.sum(LOG_BUDGET);
        ensure!(budget > 0.0, "node-{} has no budget for logs", at + 1);
        most = most.max(samples.sum(LOG_BYTES) / budget);
    }
    Ok(most)
}

/// Waits until all nodes are ready and all shards grant.
async fn serves(exercise: &mut Exercise, when: &str, since: Moment) -> anyhow::Result<Going> {
    let going = exercise.serving(when, since).await?;
    let ready = exercise.cluster.wait_all_ready().await;
    ready.with_context(|| format!("every node is ready {when}"))?;
    Ok(going)
}
