//! The cluster grows from three nodes to five and shrinks again, under load.

use super::{DrillOptions, Exercise, Going, Outcome};
use crate::{
    checker::Expectations,
    cluster::ClusterOptions,
    console::say,
    figure::{Goal, quantile},
};

/// Nodes that found the cluster.
const FOUNDERS: usize = 3;
/// Nodes at its largest.
const NODES: usize = 5;
/// Grants to wait for, to see how fast the cluster is when nothing moves: a few seconds of load.
const CALM_GRANTS: usize = 4_000;
/// How much longer an acquisition may take while replicas move: 99th percentiles, moving to calm.
const SLOWDOWN_GOAL: f64 = 5.0;

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
        ..cluster
    };
    let expectations = Expectations {
        sessions_survive: true,
    };
    let mut exercise = Exercise::start("scale", options, cluster, expectations).await?;
    let (mut grown, mut shrunk) = (vec![], vec![]);
    let (mut calm, mut moving) = (vec![], vec![]);
    for cycle in 1..=cycles {
        let begin = exercise.now();
        exercise.granted(CALM_GRANTS, begin).await?;
        let change = exercise.now();
        calm.extend(exercise.latencies(begin, change));

        for at in FOUNDERS..NODES {
            exercise.cluster.spawn(at)?;
        }
        exercise
            .cluster
            .wait_settled("five nodes have their share", NODES)
            .await?;
        let grow = exercise.now();
        for at in FOUNDERS..NODES {
            exercise.cluster.drain(at).await?;
        }
        for at in FOUNDERS..NODES {
            exercise.cluster.wait_empty(at).await?;
            exercise.cluster.remove(at).await?;
        }
        let shrink = exercise.now();
        moving.extend(exercise.latencies(change, shrink));
        for at in FOUNDERS..NODES {
            exercise.cluster.terminate(at).await?;
            exercise.cluster.wipe(at)?;
        }
        let stopped = exercise.now();
        let when = format!("with three nodes again (cycle {cycle})");
        if exercise.serving(&when, stopped).await? == Going::Stuck {
            break;
        }
        let (grow, shrink) = (
            grow.since(change).as_secs_f64(),
            shrink.since(grow).as_secs_f64(),
        );
        say(format_args!(
            "cycle {cycle}/{cycles}: five nodes after {grow:.1} s, three again after {shrink:.1} s"
        ));
        grown.push(grow);
        shrunk.push(shrink);
        exercise.cycle_done(cycle).await?;
    }
    let slowdown = quantile(&moving, 0.99) / quantile(&calm, 0.99).max(f64::MIN_POSITIVE);
    let figures = exercise.figures();
    figures.note("grow_p50", quantile(&grown, 0.5), "s");
    figures.note("shrink_p50", quantile(&shrunk, 0.5), "s");
    figures.note("calm_acquire_p99", quantile(&calm, 0.99) * 1e3, "ms");
    figures.note("moving_acquire_p99", quantile(&moving, 0.99) * 1e3, "ms");
    figures.judge("slowdown_p99", slowdown, "x", Goal::at_most(SLOWDOWN_GOAL));
    exercise.finish().await
}
