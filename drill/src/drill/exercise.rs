//! What all drills share: a cluster, a load in rounds, and the judging of each round.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufWriter, Write},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::{DrillOptions, Outcome};
use crate::{
    checker::{Expectations, Judge, Verdict, Violation},
    cluster::{Cluster, ClusterOptions},
    console::say,
    figure::{Figures, Goal, quantile},
    history::{History, LockId, Moment},
    load::{Arena, Load, LoadOptions},
    poll::until,
};

/// Locks of the load on each shard: with 64 clients and 8 shards, one a client.
pub(super) const LOCKS_PER_SHARD: usize = 8;
/// Cycles between two judgements: about a minute of load, a few hundred thousand operations.
const CYCLES_PER_ROUND: u32 = 10;
/// How long a shard may take to grant again before the cluster counts as broken: ten elections.
pub const SERVE_LIMIT: Duration = Duration::from_secs(30);

/// Whether a drill can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Going {
    /// The cluster serves.
    On,
    /// It does not: that is reported, and there is no use in going on.
    Stuck,
}

/// A cluster under load, and what was found so far.
pub struct Exercise {
    /// The cluster.
    pub cluster: Cluster,
    /// What the clients share.
    pub arena: Arc<Arena>,
    /// For all that the drill draws at random.
    pub rng: StdRng,
    figures: Figures,
    options: DrillOptions,
    judge: Judge,
    verdict: Verdict,
    load: Option<Load>,
    rounds: u32,
}

impl Exercise {
    /// Starts a cluster and, on it, the first round of load.
    ///
    /// # Errors
    /// If the cluster does not start.
    pub async fn start(
        name: &str,
        options: DrillOptions,
        cluster: ClusterOptions,
        expectations: Expectations,
    ) -> anyhow::Result<Self> {
        say(format_args!("{name}: seed {}, {options:?}", options.seed));
        let mut figures = Figures::new(name);
        figures.set("seed", options.seed);
        figures.set("cycles", options.cycles);
        figures.set("clients", options.clients);
        figures.set("shards", options.shards);
        figures.set("nodes", cluster.nodes);
        let cluster = Cluster::start(cluster.with_shards(options.shards)).await?;
        say(format_args!(
            "{} nodes serve; data and logs are in {}",
            cluster.size(),
            cluster.dir().display()
        ));
        let arena = Arc::new(Arena::spread(&cluster, LOCKS_PER_SHARD).await?);
        let mut exercise = Self {
            rng: StdRng::seed_from_u64(options.seed),
            cluster,
            arena,
            figures,
            options,
            judge: Judge::new(expectations),
            verdict: Verdict::default(),
            load: None,
            rounds: 0,
        };
        exercise.begin_round();
        exercise
            .serving("before the first fault", Moment(0))
            .await?;
        Ok(exercise)
    }

    fn begin_round(&mut self) {
        let options = LoadOptions::new(self.options.clients, self.rng.random());
        let endpoints = self.cluster.endpoints();
        self.load = Some(Load::start(&self.arena, &endpoints, &options));
        self.rounds += 1;
    }

    /// Now, on the history's clock.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.arena.recorder.now()
    }

    /// Waits until every shard has granted something that was asked for after `since`.
    ///
    /// # Errors
    /// None of the cluster's: that it does not serve is reported as a violation.
    pub async fn serving(&mut self, when: &str, since: Moment) -> anyhow::Result<Going> {
        let what = format!("every shard grants {when}");
        let arena = Arc::clone(&self.arena);
        let served = until(what, SERVE_LIMIT, || async {
            match arena.grants.silent_since(since) {
                silent if silent.is_empty() => Ok(()),
                silent => Err(format!("shards {silent:?} have granted nothing")),
            }
        });
        match served.await {
            Ok(()) => Ok(Going::On),
            Err(timed_out) => {
                self.report(Violation::Unmet {
                    what: timed_out.to_string(),
                });
                Ok(Going::Stuck)
            }
        }
    }

    /// The longest time without a grant on each of these shards since `from`, in seconds.
    #[must_use]
    pub fn gaps(&self, shards: &[u32], from: Moment) -> Vec<f64> {
        let now = self.now();
        let gap = |shard: &u32| self.arena.grants.longest_gap(*shard, from, now);
        shards
            .iter()
            .map(gap)
            .map(|gap| gap.as_secs_f64())
            .collect()
    }

    /// Waits until so many grants were answered since `from`.
    ///
    /// # Errors
    /// If the cluster grants nothing.
    pub async fn granted(&self, count: usize, from: Moment) -> anyhow::Result<()> {
        let what = format!("{count} grants");
        until(what, SERVE_LIMIT, || async {
            match self.latencies(from, self.now()).len() {
                enough if enough >= count => Ok(()),
                few => Err(format!("{few} so far")),
            }
        })
        .await?;
        Ok(())
    }

    /// How long the acquisitions that were granted between `from` and `to` took, in seconds.
    #[must_use]
    pub fn latencies(&self, from: Moment, to: Moment) -> Vec<f64> {
        self.arena.grants.latencies(from, to)
    }

    /// A node that leads data shards, and which; any node if none leads one.
    ///
    /// # Errors
    /// If the shards have no leaders.
    pub async fn draw_leader(&mut self) -> anyhow::Result<(usize, Vec<u32>)> {
        let leadership = self
            .cluster
            .wait_leaders("every shard has a leader", |_| true);
        let leadership = leadership.await?;
        let nodes = 0..self.cluster.size();
        let led = nodes.map(|node| (node, leadership.led_by(node)));
        let leading: Vec<_> = led.filter(|(_, shards)| !shards.is_empty()).collect();
        let chosen = leading.choose(&mut self.rng).cloned();
        chosen.context("no node leads a data shard")
    }

    /// Adds a violation that is not one of the history alone.
    pub fn report(&mut self, violation: Violation) {
        say(format_args!("violation: {violation}"));
        self.verdict.report(violation);
    }

    /// After each cycle: at the end of a round, judges it and begins the next.
    ///
    /// # Errors
    /// If the cluster cannot be asked what is still held.
    pub async fn cycle_done(&mut self, cycle: u32) -> anyhow::Result<()> {
        if cycle.is_multiple_of(CYCLES_PER_ROUND) && cycle < self.options.cycles {
            self.end_round().await?;
            self.begin_round();
        }
        Ok(())
    }

    /// Ends the load and judges what it did, so that the cluster is idle.
    ///
    /// # Errors
    /// If the cluster cannot be asked what is still held.
    pub async fn pause_load(&mut self) -> anyhow::Result<()> {
        self.end_round().await
    }

    /// Begins the load again.
    pub fn resume_load(&mut self) {
        self.begin_round();
    }

    async fn end_round(&mut self) -> anyhow::Result<()> {
        let Some(load) = self.load.take() else {
            return Ok(());
        };
        let finished = load.finish().await;
        if let Some(failure) = finished.failure {
            self.report(Violation::Unmet {
                what: format!("every client can go on: {failure:#}"),
            });
        }
        let verdict = self.judge.judge(&finished.history);
        say(format_args!(
            "round {}: {} operations, {} grants, {} violations",
            self.rounds, verdict.counts.operations, verdict.counts.grants, verdict.violation_count
        ));
        if !verdict.is_clean() {
            self.keep_history(&finished.history, &verdict)?;
        }
        self.verdict.merge(verdict);
        if let Some(left_over) = self.arena.wait_empty(&self.cluster).await? {
            self.report(left_over);
        }
        Ok(())
    }

    /// Writes down all that was done with the locks of the violations.
    fn keep_history(&self, history: &History, verdict: &Verdict) -> anyhow::Result<()> {
        let locks: BTreeSet<LockId> = verdict
            .violations
            .iter()
            .filter_map(Violation::lock)
            .collect();
        let name = format!("history-{}.jsonl", self.rounds);
        let mut file = BufWriter::new(File::create(self.cluster.dir().join(name))?);
        for operation in &history.operations {
            if locks.contains(&operation.lock) {
                serde_json::to_writer(&mut file, operation)?;
                writeln!(file)?;
            }
        }
        for ended in &history.ended_sessions {
            serde_json::to_writer(&mut file, ended)?;
            writeln!(file)?;
        }
        Ok(file.flush()?)
    }

    /// Median and 99th percentile of some times in seconds, as figures with goals.
    pub fn figure_spread(&mut self, name: &str, samples: &[f64], goals: [f64; 2]) {
        for (q, percent, goal) in [(0.5, "p50", goals[0]), (0.99, "p99", goals[1])] {
            let name = format!("{name}_{percent}");
            let value = quantile(samples, q);
            self.figures.judge(&name, value, "s", Goal::at_most(goal));
        }
    }

    /// What is measured besides.
    pub const fn figures(&mut self) -> &mut Figures {
        &mut self.figures
    }

    /// Judges the last round, waits until all replicas are equal, stops the cluster in an orderly
    /// way, and sums up.
    ///
    /// # Errors
    /// If the cluster cannot be asked.
    pub async fn finish(mut self) -> anyhow::Result<Outcome> {
        self.end_round().await?;
        if let Err(timed_out) = self.cluster.wait_converged().await {
            self.report(Violation::Unmet {
                what: timed_out.to_string(),
            });
        }
        if let Err(error) = self.cluster.terminate_all().await {
            self.report(Violation::Unmet {
                what: format!("every node stops in an orderly way: {error:#}"),
            });
        }
        let verdict = self.verdict;
        let counts = verdict.counts;
        let violations = verdict.violation_count as f64;
        let figures = &mut self.figures;
        figures.judge("violations", violations, "count", Goal::exactly(0.0));
        figures.note("operations", counts.operations as f64, "count");
        figures.note("grants", counts.grants as f64, "count");
        figures.note("unknown_outcomes", counts.unknown as f64, "count");
        figures.note("refused", counts.refused as f64, "count");
        figures.note("lost_sessions", counts.lost_sessions as f64, "count");
        let kept = (!verdict.is_clean()).then(|| {
            self.cluster.keep();
            self.cluster.dir().to_owned()
        });
        Ok(Outcome {
            figures: self.figures,
            verdict,
            kept,
        })
    }
}
