//! The Rust SDK of Lockstep: safe locks on a cluster.
//!
//! ```no_run
//! use lockstep_client::{Client, ClientConfig, SessionOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(ClientConfig::new(["10.0.0.1:7400", "10.0.0.2:7400"])).await?;
//! let session = client.open_session(SessionOptions::default()).await?;
//! let guard = session.lock("orders/42").acquire().await?;
//! tokio::select! {
//!     _ = work_with(guard.token()) => {}
//!     loss = guard.lost() => eprintln!("stopped: {loss}"),
//! }
//! guard.release().await?;
//! # Ok(())
//! # }
//! # async fn work_with(_: lockstep_client::FencingToken) {}
//! ```
//!
//! - [`Client`] knows the cluster: nodes, shards, leaders; it asks the right node and, if that
//!   fails, another.
//! - [`Session`] is a leased identity. It keeps itself alive, survives the loss of nodes, and
//!   knows when it is over.
//! - [`LockGuard`] is a held lock: its fencing token, and a future that resolves when it is lost.
//!
//! Invariant of the whole: a lock is shown as held only while the cluster cannot have given it to
//! anybody else, and an operation takes place at most once however often it had to be sent.

mod address;
mod backoff;
mod backup;
mod channels;
mod client;
pub mod config;
mod error;
#[cfg(feature = "fake")]
#[doc(hidden)]
pub mod fake;
mod guard;
mod lock;
mod placement;
mod session;
mod status;
mod view;

pub use lockstep_model::{
    command::Mode,
    id::{FencingToken, NameError, NodeId, Priority, SessionEpoch, SessionId, ShardId},
};

pub use self::{
    address::AddressError,
    backup::{Backup, BackupError, BackupOrder, BackupPart, BackupPartKind, Restored},
    client::Client,
    config::ClientConfig,
    error::{
        AcquireError, CloseError, ConnectError, DowngradeError, Reason, ReleaseError, RenewError,
        RequestError, ServerError, UpgradeError,
    },
    guard::LockGuard,
    lock::{LockManyRequest, LockRequest, Wait},
    session::{Loss, Session, SessionOptions, SessionState},
    status::{ClusterStatus, Lifecycle, NodeStatus, ReplicaStatus, ShardStatus, Transferred},
    view::{Holder, LockInfo, Page, SessionInfo, Waiter},
};
