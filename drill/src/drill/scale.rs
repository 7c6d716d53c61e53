//! The cluster grows from three nodes to five and shrinks again, under load.

use super::{
    DrillOptions, Exercise, Going, Outcome,
    moved::{self, Moved},
};
use crate::{
    checker::Expectations,
    cluster::ClusterOptions,
    console::say,
    figure::{Goal, quantile},
    load::ballast,
};

/// Nodes that found the cluster.
const FOUNDERS: usize = 3;
/// Nodes at its largest.
const NODES: usize = 5;
/// Grants to wait for, to see how fast the cluster is when nothing moves: a few seconds of load.
const CALM_GRANTS: usize = 4_000;
/// How much longer an acquisition may take while replicas move: 99th percentiles, moving to calm.
const SLOWDOWN_GOAL: f64 = 5.0;

/// State of each shard besides what the load holds: enough that it decides what a move costs.
const BALLAST_BYTES: usize = 1 << 20;
/// Log entries between snapshots: few, so that soon nobody can be brought up by the log alone.
const SNAPSHOT_ENTRIES: u64 = 500;
/// How much more may be sent than the replicas that move are large.
const SENT_OVER_IDEAL_GOAL: f64 = 1.5;

/// Each cycle starts two nodes with empty directories, waits until each has its share, empties them
/// again, takes them out, and stops them.
///
/// # Errors
/// If the harness itself fails.
pub async fn scale(options: DrillOptions, cluster: ClusterOptions) -> anyhow::Result<Outcome> {
    let cycles = options.cycles;
    let cluster = ClusterOptions {
        nodes: NODES,
        founders: FOUNDERS,
        ..cluster.with_env("LOCKSTEP_SNAPSHOT_ENTRIES", SNAPSHOT_ENTRIES)
    };
    let expectations = Expectations {
        sessions_survive: true,
    };
    let mut exercise = Exercise::start("scale", options, cluster, expectations).await?;
    let shards = exercise.cluster.options().shards as usize;
    ballast::place(exercise.cluster.locks(0)?, BALLAST_BYTES * shards).await?;
    let mut moved = Moved::default();
    let (mut grown, mut shrunk) = (vec![], vec![]);
    let (mut calm, mut moving) = (vec![], vec![]);
    for cycle in 1..=cycles {
        // The ring spreads the ballast only nearly evenly.
        moved::wait_snapshots(&exercise.cluster, BALLAST_BYTES / 2).await?;
        let begin = exercise.now();
        exercise.granted(CALM_GRANTS, begin).await?;
        let change = exercise.now();
        calm.extend(exercise.latencies(begin, change));
        let three = moved::look(&exercise.cluster).await?;

        grow(&mut exercise).await?;
        let grew = exercise.now();
        moved.count(&three, &exercise.cluster).await?;
        let five = moved::look(&exercise.cluster).await?;
        shrink(&mut exercise).await?;
        let shrunk_at = exercise.now();
        moving.extend(exercise.latencies(change, shrunk_at));
        moved.count(&five, &exercise.cluster).await?;
        for at in FOUNDERS..NODES {
            exercise.cluster.terminate(at).await?;
            exercise.cluster.wipe(at)?;
        }
        let stopped = exercise.now();
        let when = format!("with three nodes again (cycle {cycle})");
        if exercise.serving(&when, stopped).await? == Going::Stuck {
            break;
        }
        let five_after = grew.since(change).as_secs_f64();
        let three_after = shrunk_at.since(grew).as_secs_f64();
        say(format_args!(
            "cycle {cycle}/{cycles}: five nodes after {five_after:.1} s, three again after {three_after:.1} s"
        ));
        grown.push(five_after);
        shrunk.push(three_after);
        exercise.cycle_done(cycle).await?;
    }
    let slowdown = quantile(&moving, 0.99) / quantile(&calm, 0.99).max(f64::MIN_POSITIVE);
    let figures = exercise.figures();
    figures.note("grow_p50", quantile(&grown, 0.5), "s");
    figures.note("shrink_p50", quantile(&shrunk, 0.5), "s");
    figures.note("calm_acquire_p99", quantile(&calm, 0.99) * 1e3, "ms");
    figures.note("moving_acquire_p99", quantile(&moving, 0.99) * 1e3, "ms");
    figures.note("replicas_moved", moved.replicas as f64, "count");
    figures.note("snapshots_sent", moved.snapshots, "count");
    figures.note("snapshot_bytes_sent", moved.sent / 1e6, "MB");
    let over = moved.sent / moved.ideal.max(f64::MIN_POSITIVE);
    let goal = Goal::at_most(SENT_OVER_IDEAL_GOAL);
    figures.judge("bytes_moved_over_ideal", over, "x", goal);
    figures.judge("slowdown_p99", slowdown, "x", Goal::at_most(SLOWDOWN_GOAL));
    exercise.finish().await
}

/// Starts the nodes that are not founders, and waits until each has its share.
async fn grow(exercise: &mut Exercise) -> anyhow::Result<()> {
    for at in FOUNDERS..NODES {
        exercise.cluster.spawn(at)?;
    }
    exercise
        .cluster
        .wait_settled("five nodes have their share", NODES)
        .await?;
    Ok(())
}

/// Empties those nodes, and takes them out of the cluster.
async fn shrink(exercise: &mut Exercise) -> anyhow::Result<()> {
    for at in FOUNDERS..NODES {
        exercise.cluster.drain(at).await?;
    }
    for at in FOUNDERS..NODES {
        exercise.cluster.wait_empty(at).await?;
        exercise.cluster.remove(at).await?;
    }
    Ok(())
}
