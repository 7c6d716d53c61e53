//! The order of the runs: every scenario of every peer once a round, and several rounds.
//!
//! Invariant: rounds interleave scenarios and peers, and every other round has the peers in reverse
//! order, so that what the machine does besides hits all of them alike; servers of one peer alone
//! run at a time, and are new in each round; a figure is the median over the rounds.

use lockstep_drill::figure::quantile;

use crate::{
    load::{self, Measured, Span, Times},
    peer::Peer,
    scenario::Scenario,
};

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In this order in each round.
    pub scenarios: Vec<Scenario>,
    /// How long each.
    pub span: Span,
    /// How often each.
    pub rounds: usize,
}

impl Plan {
    /// The most clients that any scenario has.
    #[must_use]
    pub fn most_clients(&self) -> usize {
        let clients = self.scenarios.iter().map(|scenario| scenario.clients());
        clients.max().unwrap_or_default()
    }
}

/// All runs of one scenario against one peer.
#[derive(Clone, Debug)]
pub struct Runs {
    /// Which peer.
    pub peer: &'static str,
    /// Which scenario.
    pub scenario: Scenario,
    /// Round after round.
    pub runs: Vec<Measured>,
}

impl Runs {
    /// The median over the rounds of something that each has.
    #[must_use]
    pub fn median(&self, of: impl Fn(&Measured) -> f64) -> f64 {
        let each: Vec<f64> = self.runs.iter().map(of).collect();
        quantile(&each, 0.5)
    }
}

/// The runs of all peers, in the order in which their scenarios were first run.
#[derive(Clone, Debug, Default)]
pub struct Book {
    all: Vec<Runs>,
}

impl Book {
    /// All runs.
    #[must_use]
    pub fn all(&self) -> &[Runs] {
        &self.all
    }

    /// The runs of one scenario against one peer.
    #[must_use]
    pub fn of(&self, peer: &str, scenario: Scenario) -> Option<&Runs> {
        let mut all = self.all.iter();
        all.find(|runs| runs.peer == peer && runs.scenario == scenario)
    }

    /// True if that peer was measured.
    #[must_use]
    pub fn has(&self, peer: &str) -> bool {
        self.all.iter().any(|runs| runs.peer == peer)
    }

    /// Adds a run.
    pub fn record(&mut self, peer: &'static str, scenario: Scenario, measured: Measured) {
        let mut all = self.all.iter_mut();
        match all.find(|runs| runs.peer == peer && runs.scenario == scenario) {
            Some(runs) => runs.runs.push(measured),
            None => self.all.push(Runs {
                peer,
                scenario,
                runs: vec![measured],
            }),
        }
    }
}

/// Runs every scenario once against one peer, and ends the peer. `done` hears of each run as it
/// ends.
///
/// # Errors
/// As [`load::run`]; the first error ends all.
pub async fn round<P: Peer>(
    mut peer: P,
    plan: &Plan,
    book: &mut Book,
    mut done: impl FnMut(&'static str, Scenario, &Measured),
) -> anyhow::Result<()> {
    let name = peer.name();
    for scenario in &plan.scenarios {
        match load::run(&peer, *scenario, plan.span).await {
            Ok(measured) => {
                done(name, *scenario, &measured);
                book.record(name, *scenario, measured);
            }
            Err(error) => {
                let error = error.context(format!("{name}, {scenario}"));
                return Err(peer.explain(error));
            }
        }
    }
    Ok(())
}

impl Measured {
    /// Locks taken and given back, a second.
    #[must_use]
    pub fn pairs_per_second(&self) -> f64 {
        self.count() / self.seconds
    }

    /// Synced writes of all servers, for each pair.
    #[must_use]
    pub fn syncs_per_pair(&self) -> f64 {
        self.counters.syncs / self.count()
    }

    /// How long a synced write takes, in milliseconds.
    #[must_use]
    pub fn sync_ms(&self) -> f64 {
        self.counters.sync_seconds * 1e3 / self.counters.syncs
    }

    /// Commands in a batch: one entry of one shard's log.
    #[must_use]
    pub fn commands_per_batch(&self) -> f64 {
        self.counters.commands / self.counters.batches
    }

    /// Log entries of all shards in one synced write.
    #[must_use]
    pub fn entries_per_sync(&self) -> f64 {
        self.counters.entries / self.counters.syncs
    }

    /// Processor seconds of all servers for 1,000 pairs.
    #[must_use]
    pub fn server_seconds(&self) -> f64 {
        self.usage.servers * 1e3 / self.count()
    }

    /// Processor seconds of the load for 1,000 pairs.
    #[must_use]
    pub fn load_seconds(&self) -> f64 {
        self.usage.load * 1e3 / self.count()
    }

    /// How many processors other programs kept busy meanwhile: what disturbed the measurement.
    #[must_use]
    pub fn disturbance(&self) -> f64 {
        self.usage.others() / self.seconds
    }

    /// The longest wait over the median one: 1 if all wait alike.
    #[must_use]
    pub fn unfairness(&self) -> f64 {
        ms(&self.waits, 1.0) / ms(&self.waits, 0.5)
    }

    fn count(&self) -> f64 {
        self.pairs.len() as f64
    }
}

/// A quantile in milliseconds.
#[must_use]
pub fn ms(times: &Times, q: f64) -> f64 {
    times.value_at_quantile(q) as f64 / 1e6
}
