//! Cut links: between pairs of nodes or around one, in one direction or both.

use rand::{Rng, rngs::StdRng};

use super::{DrillOptions, Exercise, Going, MinorityRequest, Outcome};
use crate::{
    checker::{Expectations, Violation},
    cluster::ClusterOptions,
    console::say,
    figure::{Goal, quantile},
    link::Links,
};

/// How long a client that asks a node in the minority may wait for a refusal, in seconds.
const REFUSAL_GOAL: f64 = 10.0;
/// A majority that had no leader on its side elects one, as after a death; a one-way cut needs its
/// leader to notice by itself that it leads nobody.
const GAP_GOALS: [f64; 2] = [1.5, 6.0];

/// What is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Between two nodes; each still talks to the others.
    Pair(usize, usize),
    /// What the first sends to the second.
    OneWay(usize, usize),
    /// Between one node and all others.
    Isolate(usize),
    /// What one node sends: it hears the others, they do not hear it.
    Mute(usize),
    /// What the others send: they hear the node, it does not hear them.
    Deafen(usize),
}

impl Cut {
    /// Draws one among `nodes` nodes.
    #[must_use]
    pub fn draw(rng: &mut StdRng, nodes: usize) -> Self {
        let one = rng.random_range(0..nodes);
        let other = (one + rng.random_range(1..nodes.max(2))) % nodes;
        match rng.random_range(0..5) {
            0 => Self::Pair(one, other),
            1 => Self::OneWay(one, other),
            2 => Self::Isolate(one),
            3 => Self::Mute(one),
            _ => Self::Deafen(one),
        }
    }

    /// Cuts.
    pub fn apply(self, links: &Links) {
        match self {
            Self::Pair(a, b) => links.cut(a, b),
            Self::OneWay(from, to) => links.cut_one_way(from, to),
            Self::Isolate(node) => links.isolate(node),
            Self::Mute(node) => links.mute(node),
            Self::Deafen(node) => links.deafen(node),
        }
    }

    /// The node that has no majority on its side, if one has none.
    #[must_use]
    pub const fn minority(self) -> Option<usize> {
        match self {
            Self::Pair(..) | Self::OneWay(..) => None,
            Self::Isolate(node) | Self::Mute(node) | Self::Deafen(node) => Some(node),
        }
    }
}

/// Each cycle cuts something; waits until every shard grants; where a node is in the minority, asks
/// it for a lock, which it must refuse within a bounded time; heals; and waits until all nodes are
/// ready and every shard grants.
///
/// # Errors
/// If the harness itself fails.
pub async fn partition(options: DrillOptions, cluster: ClusterOptions) -> anyhow::Result<Outcome> {
    let cycles = options.cycles;
    let expectations = Expectations {
        // A cut lasts as long as it takes to be judged, which may be longer than a session lives.
        sessions_survive: false,
    };
    let cluster = cluster.with_links();
    let mut exercise = Exercise::start("partition", options, cluster, expectations).await?;
    let shards: Vec<u32> = (1..=exercise.cluster.options().shards).collect();
    let (mut gaps, mut refusals) = (vec![], vec![]);
    for cycle in 1..=cycles {
        let size = exercise.cluster.size();
        let cut = Cut::draw(&mut exercise.rng, size);
        let request = MinorityRequest::prepare(&exercise.cluster, cycle).await?;
        let begin = exercise.now();
        cut.apply(exercise.cluster.links()?);
        let when = format!("during {cut:?} (cycle {cycle})");
        let mut going = exercise.serving(&when, begin).await?;
        gaps.extend(exercise.gaps(&shards, begin));
        if let Some(node) = cut.minority() {
            match request.refused_by(&exercise.cluster, node).await? {
                Ok(took) => refusals.push(took.as_secs_f64()),
                Err(what) => exercise.report(Violation::Unmet {
                    what: format!("a minority refuses ({when}): {what}"),
                }),
            }
        }
        let lasted = exercise.now().since(begin).as_secs_f64();
        exercise.cluster.links()?.heal();
        let healed = exercise.now();
        if going == Going::On {
            exercise.cluster.wait_all_ready().await?;
            let when = format!("after {cut:?} was healed (cycle {cycle})");
            going = exercise.serving(&when, healed).await?;
        }
        if going == Going::Stuck {
            break;
        }
        say(format_args!(
            "cycle {cycle}/{cycles}: {cut:?} for {lasted:.2} s"
        ));
        exercise.cycle_done(cycle).await?;
    }
    exercise.figure_spread("gap_after_cut", &gaps, GAP_GOALS);
    let goal = Goal::at_most(REFUSAL_GOAL);
    let slowest = quantile(&refusals, 1.0);
    if refusals.is_empty() {
        exercise.figures().note("minorities", 0.0, "count");
    } else {
        exercise
            .figures()
            .judge("minority_refusal_max", slowest, "s", goal);
    }
    exercise.finish().await
}
