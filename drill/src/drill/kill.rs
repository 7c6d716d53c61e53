//! Kill -9 of a node that leads, again and again, at most one down at a time.

use rand::seq::IndexedRandom;

use super::{DrillOptions, Exercise, Going, Outcome, QueueProbe};
use crate::{checker::Expectations, cluster::ClusterOptions, console::say};

/// How long a shard may be without a leader, in seconds: half the time, and nearly always.
const GAP_GOALS: [f64; 2] = [1.5, 3.0];

/// Each cycle kills a random node that leads something, while on one of its shards a lock is held
/// and waited for; waits until every shard grants again; starts the node; waits until it has caught
/// up; and lets the queue go through.
///
/// # Errors
/// If the harness itself fails.
pub async fn kill(options: DrillOptions, cluster: ClusterOptions) -> anyhow::Result<Outcome> {
    let cycles = options.cycles;
    let expectations = Expectations {
        // A death is over in seconds; sessions live for ten without their leader.
        sessions_survive: true,
    };
    let mut exercise = Exercise::start("kill", options, cluster, expectations).await?;
    let mut gaps = vec![];
    let mut restarts = vec![];
    for cycle in 1..=cycles {
        let (victim, led) = exercise.draw_leader().await?;
        let probed = led.choose(&mut exercise.rng).copied().unwrap_or(1);
        let endpoints = exercise.cluster.endpoints();
        let probe = QueueProbe::build(&exercise.arena, &endpoints, probed).await?;

        let death = exercise.now();
        exercise.cluster.kill(victim).await?;
        let dead = exercise.now();
        let when = format!("after the death of node-{} (cycle {cycle})", victim + 1);
        if exercise.serving(&when, dead).await? == Going::Stuck {
            break;
        }
        let here = exercise.gaps(&led, death);
        let start = exercise.now();
        exercise.cluster.restart(victim).await?;
        let restart = exercise.now().since(start).as_secs_f64();
        probe.finish().await?;
        let longest = here.iter().copied().fold(0.0, f64::max);
        say(format_args!(
            "cycle {cycle}/{cycles}: killed node-{}, which led {} shards; without a grant for \
             {longest:.2} s; ready {restart:.2} s after its start",
            victim + 1,
            led.len()
        ));
        gaps.extend(here);
        restarts.push(restart);
        exercise.cycle_done(cycle).await?;
    }
    exercise.figure_spread("gap_after_leader_death", &gaps, GAP_GOALS);
    let figures = exercise.figures();
    figures.note("kills", restarts.len() as f64, "count");
    figures.note("restart_p50", crate::figure::quantile(&restarts, 0.5), "s");
    exercise.finish().await
}
