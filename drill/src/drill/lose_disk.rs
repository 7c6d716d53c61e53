//! A node dies and its disk with it; it comes back empty, under its old name.

use rand::Rng as _;

use super::{DrillOptions, Exercise, Going, Outcome};
use crate::{
    checker::{Expectations, Violation},
    cluster::ClusterOptions,
    console::say,
    figure::quantile,
};

/// Each cycle kills a random node, deletes its data, declares it lost, sees that a second loss
/// beside it is refused, and starts it again: it joins as a new node, takes the old one's replicas,
/// and the old one is forgotten.
///
/// # Errors
/// If the harness itself fails.
pub async fn lose_disk(options: DrillOptions, cluster: ClusterOptions) -> anyhow::Result<Outcome> {
    let cycles = options.cycles;
    let expectations = Expectations {
        sessions_survive: true,
    };
    let mut exercise = Exercise::start("lose-disk", options, cluster, expectations).await?;
    let nodes = exercise.cluster.size();
    let mut redundant = vec![];
    for cycle in 1..=cycles {
        let victim = exercise.rng.random_range(0..nodes);
        exercise.cluster.kill(victim).await?;
        exercise.cluster.wipe(victim)?;
        let lost = exercise.now();
        let when = format!(
            "after node-{} and its disk are gone (cycle {cycle})",
            victim + 1
        );
        if exercise.serving(&when, lost).await? == Going::Stuck {
            break;
        }
        exercise.cluster.replace(victim).await?;
        let other = (victim + 1) % nodes;
        if exercise.cluster.replace(other).await.is_ok() {
            exercise.report(Violation::Unmet {
                what: format!("losing node-{} beside it is refused", other + 1),
            });
        }
        let start = exercise.now();
        exercise.cluster.restart(victim).await?;
        exercise
            .cluster
            .wait_settled("the replicas are replaced", nodes)
            .await?;
        let took = exercise.now().since(start).as_secs_f64();
        say(format_args!(
            "cycle {cycle}/{cycles}: node-{} came back empty; whole again {took:.1} s after its start",
            victim + 1
        ));
        redundant.push(took);
        exercise.cycle_done(cycle).await?;
    }
    let figures = exercise.figures();
    figures.note("disks_lost", redundant.len() as f64, "count");
    figures.note("redundant_again_p50", quantile(&redundant, 0.5), "s");
    figures.note("redundant_again_max", quantile(&redundant, 1.0), "s");
    exercise.finish().await
}
