//! The node that drives the placement dies at each step of a move.

use super::{DrillOptions, Exercise, Going, Outcome};
use crate::{
    checker::Expectations,
    cluster::{ClusterOptions, SETTLE_LIMIT},
    console::say,
};

/// Nodes that found the cluster.
const FOUNDERS: usize = 3;
/// Nodes at its largest.
const NODES: usize = 5;

/// Where the driver dies: while the cluster grows, or while it shrinks.
const POINTS: [(&str, Phase); 10] = [
    ("steps-planned", Phase::Grows),
    ("learner-announced", Phase::Grows),
    ("learner-added", Phase::Grows),
    ("promoted", Phase::Grows),
    ("swapped", Phase::Grows),
    ("members-recorded", Phase::Grows),
    ("lead-transferred", Phase::Grows),
    ("steps-planned", Phase::Shrinks),
    ("swapped", Phase::Shrinks),
    ("replica-removed", Phase::Shrinks),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Grows,
    Shrinks,
}

/// Each cycle takes the next point: two nodes join and leave again, and the driver dies at that
/// point on the way, comes back, and everything ends where it should.
///
/// # Errors
/// If the harness itself fails.
pub async fn driver_kill(
    options: DrillOptions,
    cluster: ClusterOptions,
) -> anyhow::Result<Outcome> {
    let cycles = options.cycles;
    let cluster = ClusterOptions {
        nodes: NODES,
        founders: FOUNDERS,
        ..cluster
    };
    let expectations = Expectations {
        sessions_survive: true,
    };
    let mut exercise = Exercise::start("driver-kill", options, cluster, expectations).await?;
    let mut deaths = 0_u32;
    for (cycle, (point, phase)) in (1..=cycles).zip(POINTS.into_iter().cycle()) {
        if phase == Phase::Grows {
            arm(&mut exercise, point).await?;
        }
        for at in FOUNDERS..NODES {
            exercise.cluster.spawn(at)?;
        }
        if phase == Phase::Grows {
            die(&mut exercise).await?;
        }
        let grown = exercise
            .cluster
            .wait_settled("five nodes have their share", NODES);
        grown.await?;
        if phase == Phase::Shrinks {
            arm(&mut exercise, point).await?;
        }
        for at in FOUNDERS..NODES {
            exercise.cluster.drain(at).await?;
        }
        if phase == Phase::Shrinks {
            die(&mut exercise).await?;
        }
        for at in FOUNDERS..NODES {
            exercise.cluster.wait_empty(at).await?;
            exercise.cluster.remove(at).await?;
            exercise.cluster.terminate(at).await?;
            exercise.cluster.wipe(at)?;
        }
        let again = exercise
            .cluster
            .wait_settled("three nodes have all", FOUNDERS);
        again.await?;
        deaths += 1;
        say(format_args!(
            "cycle {cycle}/{cycles}: the driver died at {point:?}, and all went on"
        ));
        let now = exercise.now();
        let when = format!("after the driver's death at {point:?} (cycle {cycle})");
        if exercise.serving(&when, now).await? == Going::Stuck {
            break;
        }
        exercise.cycle_done(cycle).await?;
    }
    exercise
        .figures()
        .note("driver_deaths", f64::from(deaths), "count");
    exercise.finish().await
}

/// The founder that is to die.
const VICTIM: usize = 1;

/// Has the victim drive, in a process that dies at the point.
async fn arm(exercise: &mut Exercise, point: &str) -> anyhow::Result<()> {
    exercise.cluster.terminate(VICTIM).await?;
    let env = [("LOCKSTEP_CRASH_AT", point)];
    exercise.cluster.spawn_with(VICTIM, &env)?;
    exercise.cluster.wait_ready(VICTIM).await?;
    exercise.cluster.make_driver(VICTIM).await
}

/// Waits for its death, and starts it again.
async fn die(exercise: &mut Exercise) -> anyhow::Result<()> {
    exercise.cluster.wait_exit(VICTIM, SETTLE_LIMIT).await?;
    exercise.cluster.restart(VICTIM).await
}
