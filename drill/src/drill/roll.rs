//! Every node is stopped in an orderly way and started again, one after another, under load.

use super::{DrillOptions, Exercise, Going, Outcome};
use crate::{
    checker::Expectations,
    cluster::ClusterOptions,
    console::say,
    figure::{Goal, quantile},
};

/// How long a shard may go without a grant in a step, in seconds, nearly always.
const GAP_GOAL: f64 = 0.2;

/// Each cycle restarts each node: it hands its leads over, stops, starts, and is ready before the
/// next one's turn.
///
/// # Errors
/// If the harness itself fails.
pub async fn roll(options: DrillOptions, cluster: ClusterOptions) -> anyhow::Result<Outcome> {
    let (cycles, shards) = (options.cycles, options.shards);
    let expectations = Expectations {
        sessions_survive: true,
    };
    let mut exercise = Exercise::start("roll", options, cluster, expectations).await?;
    let all: Vec<u32> = (1..=shards).collect();
    let mut gaps = vec![];
    'cycles: for cycle in 1..=cycles {
        for at in 0..exercise.cluster.size() {
            let begin = exercise.now();
            exercise.cluster.terminate(at).await?;
            exercise.cluster.restart(at).await?;
            let back = exercise.now();
            let when = format!("after the restart of node-{} (cycle {cycle})", at + 1);
            if exercise.serving(&when, back).await? == Going::Stuck {
                break 'cycles;
            }
            let here = exercise.gaps(&all, begin);
            let longest = here.iter().copied().fold(0.0, f64::max);
            say(format_args!(
                "cycle {cycle}/{cycles}: node-{} restarted in {:.2} s; longest gap {:.0} ms",
                at + 1,
                back.since(begin).as_secs_f64(),
                longest * 1e3
            ));
            gaps.push(longest);
        }
        exercise.cycle_done(cycle).await?;
    }
    let figures = exercise.figures();
    figures.note("steps", gaps.len() as f64, "count");
    figures.note("longest_gap_p50", quantile(&gaps, 0.5), "s");
    let p99 = quantile(&gaps, 0.99);
    figures.judge("longest_gap_p99", p99, "s", Goal::at_most(GAP_GOAL));
    exercise.finish().await
}
