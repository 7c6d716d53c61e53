//! The way into a running node for its front doors, which open before there is a cluster.
//!
//! Invariant: until the node serves, every call is refused with what it is waiting for.

use std::sync::{Arc, OnceLock};

use crate::{api::error::Fault, formation::Lobby, router::Router, status};

/// The way in. Cheap to clone.
#[derive(Clone)]
pub struct Entry {
    lobby: Arc<Lobby>,
    router: Arc<OnceLock<Arc<Router>>>,
}

impl Entry {
    /// Closed until [`Entry::open`].
    #[must_use]
    pub fn new(lobby: Arc<Lobby>) -> Self {
        Self {
            lobby,
            router: Arc::default(),
        }
    }

    /// There is a cluster now.
    pub fn open(&self, router: Arc<Router>) {
        // A second call would be a mistake in start-up; the first wins.
        let _ = self.router.set(router);
    }

    /// The router.
    ///
    /// # Errors
    /// While there is none, with what is being waited for.
    pub fn router(&self) -> Result<Arc<Router>, Fault> {
        self.router.get().cloned().ok_or_else(|| {
            Fault::unavailable(
                "NOT_IN_CLUSTER",
                format!(
                    "this node is not part of a cluster yet: it waits for {}",
                    self.lobby.waiting_for()
                ),
            )
        })
    }

    /// Whether this node is ready to serve.
    ///
    /// # Errors
    /// With what is missing.
    pub fn ready(&self) -> Result<(), status::NotReady> {
        match self.router.get() {
            Some(router) => status::ready(router),
            None => Err(self
                .lobby
                .storage()
                .not_writing()
                .unwrap_or_else(|| format!("waiting for {}", self.lobby.waiting_for()))),
        }
    }
}
