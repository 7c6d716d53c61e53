//! Clients that lock, use what the lock guards, and unlock, while everything they see is recorded.
//!
//! Invariant: a client does one thing at a time and records each before it does the next, so a
//! history of it is complete up to the operation under way.

mod arena;
pub mod ballast;
mod client;
mod grants;
mod mix;
mod scribe;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) use self::scribe::{Scribe, Taken, token};
pub use self::{
    arena::{Arena, ArenaLock, Door, PREFIX},
    grants::GrantTimes,
    mix::Mix,
};
use crate::history::History;

/// How long any one operation may take before it counts as forgotten. Every fault of a drill is
/// over in less, and so is every queue.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What the load is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// How many clients, each with a session and connections of its own.
    pub clients: usize,
    /// How they behave.
    pub mix: Mix,
    /// Their sessions' TTL.
    pub ttl: Duration,
    /// From which all that they do at random is drawn.
    pub seed: u64,
}

impl LoadOptions {
    /// So many clients that behave as usual.
    #[must_use]
    pub fn new(clients: usize, seed: u64) -> Self {
        Self {
            clients,
            mix: Mix::default(),
            ttl: Duration::from_secs(10),
            seed,
        }
    }
}

/// Clients at work.
pub struct Load {
    arena: Arc<Arena>,
    stop: CancellationToken,
    clients: JoinSet<anyhow::Result<()>>,
}

impl Load {
    /// Starts the clients; they know these nodes, `host:port`. Ends them when dropped.
    #[must_use]
    pub fn start(arena: &Arc<Arena>, endpoints: &[String], options: &LoadOptions) -> Self {
        let stop = CancellationToken::new();
        let mut rng = StdRng::seed_from_u64(options.seed);
        let mut clients = JoinSet::new();
        for number in 0..options.clients {
            let client = client::LoadClient {
                number: number as u32,
                arena: Arc::clone(arena),
                endpoints: endpoints.to_vec(),
                options: options.clone(),
                rng: StdRng::seed_from_u64(rng.random()),
                stop: stop.clone(),
            };
            clients.spawn(client.run());
        }
        Self {
            arena: Arc::clone(arena),
            stop,
            clients,
        }
    }

    /// What the clients share.
    #[must_use]
    pub const fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// Lets every client finish what it does and close its session, and takes what was recorded.
    pub async fn finish(mut self) -> Finished {
        self.stop.cancel();
        let mut failure = None;
        while let Some(ended) = self.clients.join_next().await {
            if let Err(error) = ended.context("a client panicked").flatten() {
                failure.get_or_insert(error);
            }
        }
        self.arena.grants.forget();
        let history = self.arena.recorder.take();
        Finished { history, failure }
    }
}

/// What a load leaves behind.
#[derive(Debug)]
pub struct Finished {
    /// What was recorded.
    pub history: History,
    /// Why a client could not go on, if one could not.
    pub failure: Option<anyhow::Error>,
}
