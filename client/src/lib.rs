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
//!   [`PermitGuard`] and [`Leadership`] are the same for semaphores and elections;
//!   [`Session::barrier`] lets parties wait for each other.
//! - [`Client::watch`] tells who holds what as it changes, [`Client::observe`] who leads.
//!
//! # Deadlocks
//!
//! A circle of waits is broken by the cluster: one of its waits fails with
//! [`AcquireError::Deadlock`], and its session lives on. Circles are looked for between *owners*. An
//! owner stands for one thread of control in a session, so give all locks that one thread of control
//! takes one after another the same [`LockRequest::owner`]:
//!
//! ```no_run
//! # async fn example(session: lockstep_client::Session) -> Result<(), lockstep_client::AcquireError> {
//! let from = session.lock("account/1").owner("transfer-7").acquire().await?;
//! let to = session.lock("account/2").owner("transfer-7").acquire().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Locks that are taken together, with [`Session::lock_many`], need no owner for that.
//!
//! Invariant of the whole: a lock is shown as held only while the cluster cannot have given it to
//! anybody else, and an operation takes place at most once however often it had to be sent.

mod acquire;
mod address;
mod backoff;
mod backup;
mod barrier;
mod channels;
mod client;
pub mod config;
mod deadlock;
mod election;
mod error;
#[cfg(feature = "fake")]
#[doc(hidden)]
pub mod fake;
mod grip;
mod guard;
mod lease_time;
mod lock;
mod mode;
mod placement;
mod semaphore;
mod session;
mod status;
mod view;
mod watch;

pub use lockstep_model::{
    id::{
        ClusterId, FencingToken, NameError, NodeId, Priority, Revision, SessionEpoch, SessionId,
        ShardId,
    },
    locks::{change::ChangeKind, mode::Mode},
};

pub use self::{
    acquire::Wait,
    address::AddressError,
    backup::{Backup, BackupError, BackupOrder, BackupPart, BackupPartKind, Restored},
    barrier::BarrierRequest,
    client::{Client, Release},
    config::ClientConfig,
    deadlock::{Deadlock, Deadlocks, WaitFor},
    election::{ElectionRequest, Leader, Leadership, Observer},
    error::{
        AcquireError, CloseError, ConnectError, DowngradeError, ProclaimError, Reason,
        ReleaseError, RenewError, RequestError, ServerError, UpgradeError,
    },
    guard::LockGuard,
    lock::{LockManyRequest, LockRequest},
    semaphore::{PermitGuard, SemaphoreRequest},
    session::{Loss, Session, SessionOptions, SessionState},
    status::{ClusterStatus, Lifecycle, NodeStatus, ReplicaStatus, ShardStatus, Transferred},
    view::{Holder, LockInfo, Page, SessionInfo, Waiter},
    watch::{Change, Position, Target, Watch, WatchEvent},
};
