//! Circles of waits, closed on purpose: each is broken by ending exactly one wait, that of the one
//! who gives way by the rule, soon; and where there is no circle nobody gives way.
//!
//! Three parts: circles on a calm cluster, timed; many acquisitions without a circle; and circles
//! while leaders are killed.

mod circle;
mod ordered;
mod parties;

use std::time::Duration;

use rand::{SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use self::{
    circle::Broken,
    ordered::ordered,
    parties::{MAX_PARTIES, Parties},
};
use super::{DrillOptions, Exercise, Going, Outcome};
use crate::{
    checker::{Expectations, Violation},
    cluster::ClusterOptions,
    console::say,
    figure::{Goal, quantile},
};

/// What breaking a circle may take beside [`PER_EDGE`], in milliseconds.
const BASE_GOAL: f64 = 100.0;
/// What each edge may add, in milliseconds.
const PER_EDGE: f64 = 20.0;
/// How long after the cluster serves again a circle may stand.
const AFTER_OUTAGE: Duration = Duration::from_secs(3);
/// From one death to the next.
const BETWEEN_DEATHS: Duration = Duration::from_secs(5);
/// Acquisitions without a circle for each cycle that is asked for: a million for a hundred.
const ORDERED_PER_CYCLE: u64 = 10_000;

/// Closes `cycles` circles on a calm cluster, then makes [`ORDERED_PER_CYCLE`] times as many
/// acquisitions without one, then closes circles while `cycles` tenths of leaders are killed.
///
/// # Errors
/// If the harness itself fails.
pub async fn deadlock(options: DrillOptions, cluster: ClusterOptions) -> anyhow::Result<Outcome> {
    let DrillOptions {
        cycles, clients, ..
    } = options;
    let mut rng = StdRng::seed_from_u64(options.seed);
    let expectations = Expectations {
        sessions_survive: true,
    };
    let mut exercise = Exercise::start("deadlock", options, cluster, expectations).await?;
    exercise.pause_load().await?;
    let parties = Parties::gather(&exercise.cluster.endpoints(), &mut rng).await?;

    calm(&mut exercise, &parties, &mut rng, cycles).await?;

    let wanted = u64::from(cycles) * ORDERED_PER_CYCLE;
    let endpoints = exercise.cluster.endpoints();
    let went = ordered(&endpoints, clients, wanted, &mut rng).await?;
    say(format_args!(
        "{} acquisitions without a circle: {} victims",
        went.granted, went.victims
    ));
    let figures = exercise.figures();
    figures.note("acquisitions_without_circle", went.granted as f64, "count");
    let none = Goal::exactly(0.0);
    figures.judge("false_victims", went.victims as f64, "count", none);

    exercise.resume_load();
    disturbed(&mut exercise, parties, rng, cycles.div_ceil(10)).await?;
    exercise.finish().await
}

/// Circles on a calm cluster.
async fn calm(
    exercise: &mut Exercise,
    parties: &Parties,
    rng: &mut StdRng,
    cycles: u32,
) -> anyhow::Result<()> {
    let mut took = Vec::new();
    let mut beyond = Vec::new();
    for cycle in 1..=cycles {
        // Every length comes, the shortest and the longest too.
        let length = 2 + (cycle as usize - 1) % (MAX_PARTIES - 1);
        let circle = parties.draw(length, rng);
        let broken = circle.close(parties).await?;
        say(format_args!("circle {cycle}/{cycles}: {broken}"));
        for what in broken.wrong() {
            exercise.report(Violation::Unmet { what });
        }
        if let Some(ms) = broken.first_ms() {
            took.push(ms);
            beyond.push(ms - PER_EDGE * length as f64);
        }
    }
    let figures = exercise.figures();
    figures.note("circles", f64::from(cycles), "count");
    figures.note("deadlock_p50", quantile(&took, 0.5), "ms");
    figures.note("deadlock_p99", quantile(&took, 0.99), "ms");
    let goal = || Goal::at_most(BASE_GOAL);
    let name = "deadlock_without_20ms_an_edge";
    figures.judge(&format!("{name}_p50"), quantile(&beyond, 0.5), "ms", goal());
    figures.judge(
        &format!("{name}_p99"),
        quantile(&beyond, 0.99),
        "ms",
        goal(),
    );
    Ok(())
}

/// When the cluster did not serve.
struct Outage {
    began: Instant,
    served: Instant,
}

/// Circles while leaders die.
async fn disturbed(
    exercise: &mut Exercise,
    parties: Parties,
    mut rng: StdRng,
    deaths: u32,
) -> anyhow::Result<()> {
    let (over, mut is_over) = watch::channel(false);
    let circles = tokio::spawn(async move {
        let mut all = Vec::new();
        while !*is_over.borrow_and_update() {
            let length = rand::Rng::random_range(&mut rng, 2..=MAX_PARTIES);
            all.push(parties.draw(length, &mut rng).close(&parties).await?);
        }
        anyhow::Ok((parties, all))
    });
    let mut outages = Vec::new();
    for death in 1..=deaths {
        let next = Instant::now() + BETWEEN_DEATHS;
        let (victim, _) = exercise.draw_leader().await?;
        let began = Instant::now();
        exercise.cluster.kill(victim).await?;
        let dead = exercise.now();
        let when = format!("after the death of node-{} ({death})", victim + 1);
        if exercise.serving(&when, dead).await? == Going::Stuck {
            break;
        }
        let served = Instant::now();
        outages.push(Outage { began, served });
        exercise.cluster.restart(victim).await?;
        sleep_until(next).await;
    }
    over.send_replace(true);
    let (parties, circles) = circles.await??;
    let mut late = 0;
    for broken in &circles {
        for what in broken.wrong() {
            exercise.report(Violation::Unmet { what });
        }
        if is_late(broken, &outages) {
            late += 1;
            say(format_args!("late: {broken}"));
        }
    }
    say(format_args!(
        "{} circles during {} deaths of leaders, {late} late",
        circles.len(),
        outages.len()
    ));
    let figures = exercise.figures();
    figures.note("deaths", outages.len() as f64, "count");
    figures.note("circles_during_deaths", circles.len() as f64, "count");
    let none = Goal::exactly(0.0);
    figures.judge(
        "circles_beyond_3s_of_serving",
        f64::from(late),
        "count",
        none,
    );
    parties.part().await;
    Ok(())
}

/// True if a circle stood for longer than [`AFTER_OUTAGE`] while the cluster served.
fn is_late(broken: &Broken, outages: &[Outage]) -> bool {
    let mut limit = broken.closed + AFTER_OUTAGE;
    for outage in outages {
        if outage.served >= broken.closed && outage.began <= limit {
            limit = limit.max(outage.served + AFTER_OUTAGE);
        }
    }
    broken.first.is_none_or(|first| first > limit)
}
