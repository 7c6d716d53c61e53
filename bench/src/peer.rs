//! A lock service under test, as the load sees it.
//!
//! Invariant: nothing here is particular to one service, so that all get the same load.

pub mod etcd;
pub mod lockstep;

use std::future::Future;

pub use self::{etcd::Etcd, lockstep::Lockstep};
use crate::{counters::Counters, usage::ProcessId};

/// Clients that share connections, as the sessions of one busy program do. The same for all peers.
pub const CLIENTS_PER_CONNECTION: usize = 64;
/// Locks that each client has to itself and takes in turn. The same for all peers.
pub const OWN_LOCKS: u32 = 8;

/// Which lock is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// One of the few that this client alone uses; they take turns, by this number.
    Own(u64),
    /// The one that all clients want.
    Hot,
}

/// Whom it is to exclude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only those that exclude everybody.
    Shared,
    /// Everybody.
    Exclusive,
}

/// A lock service that runs on this machine.
pub trait Peer {
    /// One of its clients.
    type Client: PeerClient;

    /// Its name in tables and figures: lower case, one word.
    fn name(&self) -> &'static str;

    /// A client with a session or lease of its own. Equal numbers have equal locks.
    ///
    /// # Errors
    /// If the service does not give it one.
    fn connect(&self, number: usize) -> impl Future<Output = anyhow::Result<Self::Client>>;

    /// The processes of its servers.
    fn servers(&self) -> &[ProcessId];

    /// What its servers have counted since they were started.
    ///
    /// # Errors
    /// If one of them does not say.
    fn counters(&self) -> impl Future<Output = anyhow::Result<Counters>>;

    /// Adds to an error where the servers' logs are, and keeps them.
    fn explain(&mut self, error: anyhow::Error) -> anyhow::Error;
}

/// A client of a lock service.
pub trait PeerClient: Send + 'static {
    /// A lock that is held.
    type Held: Send;

    /// Takes a lock, waiting for it as long as it takes.
    ///
    /// # Errors
    /// If it is not granted.
    fn lock(
        &mut self,
        lock: Lock,
        access: Access,
    ) -> impl Future<Output = anyhow::Result<Self::Held>> + Send;

    /// Gives it back, and returns when the service has confirmed that.
    ///
    /// # Errors
    /// If it was lost.
    fn unlock(&mut self, held: Self::Held) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Ends the session or lease.
    ///
    /// # Errors
    /// If the service does not confirm it.
    fn close(self) -> impl Future<Output = anyhow::Result<()>> + Send;
}
