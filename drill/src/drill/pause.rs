//! SIGSTOP of a node that leads, for longer than an election: when it goes on it believes that it
//! still leads.

use super::{DrillOptions, Exercise, Going, Outcome};
use crate::{checker::Expectations, cluster::ClusterOptions, console::say};

/// As after a death: to the others it is one.
const GAP_GOALS: [f64; 2] = [1.5, 3.0];

/// Each cycle pauses a random node that leads something; waits until others lead its shards and
/// every shard grants; lets it go on; and waits until it is ready and every shard still grants.
///
/// # Errors
/// If the harness itself fails.
pub async fn pause(options: DrillOptions, cluster: ClusterOptions) -> anyhow::Result<Outcome> {
    let cycles = options.cycles;
    let expectations = Expectations {
        // A pause is over in seconds; sessions live for ten without their leader.
        sessions_survive: true,
    };
    let mut exercise = Exercise::start("pause", options, cluster, expectations).await?;
    let mut gaps = vec![];
    for cycle in 1..=cycles {
        let (victim, led) = exercise.draw_leader().await?;
        let begin = exercise.now();
        exercise.cluster.pause(victim)?;
        let paused = exercise.now();
        let when = format!("while node-{} is paused (cycle {cycle})", victim + 1);
        let mut going = exercise.serving(&when, paused).await?;
        if going == Going::On {
            let replaced = exercise
                .cluster
                .wait_leaders(&when, |leader| leader != victim);
            replaced.await?;
            gaps.extend(exercise.gaps(&led, begin));
        }
        let lasted = exercise.now().since(paused);
        exercise.cluster.resume(victim)?;
        let resumed = exercise.now();
        if going == Going::On {
            exercise.cluster.wait_ready(victim).await?;
            let when = format!("after the pause of node-{} (cycle {cycle})", victim + 1);
            going = exercise.serving(&when, resumed).await?;
        }
        if going == Going::Stuck {
            break;
        }
        say(format_args!(
            "cycle {cycle}/{cycles}: node-{}, which led {} shards, was paused for {:.2} s",
            victim + 1,
            led.len(),
            lasted.as_secs_f64()
        ));
        exercise.cycle_done(cycle).await?;
    }
    exercise.figure_spread("gap_after_leader_pause", &gaps, GAP_GOALS);
    exercise.finish().await
}
