//! Two of three nodes are gone for good, and the third is made a cluster of its own.

use anyhow::Context;
use rand::Rng as _;

use super::{DrillOptions, Exercise, Going, Outcome};
use crate::{
    checker::{Expectations, Violation},
    cluster::ClusterOptions,
    console::say,
    figure::quantile,
};

/// Each cycle kills two random nodes and deletes the data of one of them, stops the third, and
/// recovers from its directory, under load: the checker's history goes on from before to after. The
/// other killed node is started on its old directory and must not get in; then both come back empty,
/// join, and the replicas are whole again.
///
/// # Errors
/// If the harness itself fails.
pub async fn recover(options: DrillOptions, cluster: ClusterOptions) -> anyhow::Result<Outcome> {
    let cycles = options.cycles;
    let expectations = Expectations {
        sessions_survive: false,
    };
    let mut exercise = Exercise::start("recover", options, cluster, expectations).await?;
    let nodes = exercise.cluster.size();
    let mut serving_again = vec![];
    for cycle in 1..=cycles {
        let survivor = exercise.rng.random_range(0..nodes);
        let lost: Vec<usize> = (0..nodes).filter(|node| *node != survivor).collect();
        for node in &lost {
            exercise.cluster.kill(*node).await?;
        }
        let stranger = *lost.first().context("the cluster has one node")?;
        for node in lost.iter().filter(|node| **node != stranger) {
            exercise.cluster.wipe(*node)?;
        }
        let running = exercise.cluster.recover(&[survivor]).await;
        if running.is_ok() {
            exercise.report(Violation::Unmet {
                what: "the directory of a node that runs is not recovered".to_owned(),
            });
        }
        exercise.cluster.kill(survivor).await?;
        let begin = exercise.now();
        let said = exercise.cluster.recover(&[survivor]).await?;
        exercise.cluster.restart(survivor).await?;
        let when = format!(
            "when node-{} alone was recovered (cycle {cycle})",
            survivor + 1
        );
        if exercise.serving(&when, begin).await? == Going::Stuck {
            break;
        }
        serving_again.push(exercise.now().since(begin).as_secs_f64());
        meet_stranger(&mut exercise, stranger).await?;
        for node in lost {
            exercise.cluster.restart(node).await?;
        }
        exercise
            .cluster
            .wait_settled("the replicas are whole again", nodes)
            .await?;
        let last = said.trim_end().lines().last().unwrap_or_default();
        say(format_args!(
            "cycle {cycle}/{cycles}: node-{} survived. {last}",
            survivor + 1
        ));
        exercise.cycle_done(cycle).await?;
    }
    let figures = exercise.figures();
    figures.note("majorities_lost", serving_again.len() as f64, "count");
    figures.note("serving_again_p50", quantile(&serving_again, 0.5), "s");
    figures.note("serving_again_max", quantile(&serving_again, 1.0), "s");
    exercise.finish().await
}

/// A lost node that comes back on its old directory ends by itself, and says why.
async fn meet_stranger(exercise: &mut Exercise, node: usize) -> anyhow::Result<()> {
    exercise.cluster.spawn(node)?;
    let ended = exercise.cluster.wait_exit(node, super::SERVE_LIMIT).await;
    if !ended.is_ok_and(|status| !status.success()) {
        exercise.report(Violation::Unmet {
            what: format!("node-{} with its old directory stays out", node + 1),
        });
        exercise.cluster.kill(node).await?;
    }
    exercise.cluster.wipe(node)
}
