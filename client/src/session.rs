//! Sessions: the leased identity that holds locks.
//!
//! Invariant: a session is taken for alive only while a keep-alive that the cluster has confirmed
//! was sent less than a TTL ago, by this process's monotonic clock. The cluster counts the TTL
//! from when it received that keep-alive, which is later; so the holder of a lock knows that it
//! is lost before anybody else can get it (Gray and Cheriton, "Leases", SOSP 1989).

mod acks;
mod core;
mod keeper;
mod lease;
mod link;
mod links;
mod pending;
mod reply;
mod shared;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use lockstep_model::{
    id::{Priority, SessionId},
    locks::mode::Mode,
};

pub(crate) use self::{
    pending::{Hold, Outcome, Work, changed_token},
    reply::Reply,
    shared::Handle,
};
use crate::{
    barrier::BarrierRequest,
    client::{Client, Release},
    election::ElectionRequest,
    error::{CloseError, Reason, RequestError},
    lease_time::LeaseTime,
    lock::{LockManyRequest, LockRequest},
    semaphore::SemaphoreRequest,
};

/// What a session is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// How long the session outlives the loss of its client: 1 s to 1 h, in whole milliseconds.
    /// Default 10 s.
    pub ttl: Duration,
    /// Free text shown by `lockstepctl session ls`: at most 16 labels, 64 bytes a key, 256 a value.
    pub labels: BTreeMap<String, String>,
    /// In a deadlock the wait of the lowest priority is given up. Default 0.
    pub priority: Priority,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(10),
            labels: BTreeMap::new(),
            priority: Priority(0),
        }
    }
}

/// How a session stands, as far as this process can know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// It lives.
    Alive {
        /// It is lost unless the cluster confirms a keep-alive within this time.
        remaining: Duration,
    },
    /// It is over, with all that it held.
    Lost(Loss),
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// No keep-alive was confirmed within the TTL. The cluster may see it as alive a little longer.
    Silence {
        /// The TTL.
        ttl: Duration,
    },
    /// The cluster said so.
    Ended {
        /// [`Reason::SessionNotFound`], [`Reason::SessionExpired`] or [`Reason::SessionClosed`].
        reason: Reason,
        /// The same in words.
        message: String,
    },
    /// It was closed here: by [`Session::close`], or by dropping its last handle and guard.
    Closed,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silence { ttl } => {
                write!(f, "the cluster confirmed no keep-alive within {ttl:?}")
            }
            Self::Ended { reason, message } => write!(f, "{message} ({})", reason.as_str()),
            Self::Closed => f.write_str("it was closed"),
        }
    }
}

/// An open session. Clones are handles of the same one. It keeps itself alive in the background;
/// when the last handle and the last guard are dropped, it is closed.
#[derive(Clone)]
pub struct Session {
    handle: Arc<Handle>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id())
            .field("state", &self.state())
            .finish()
    }
}

impl Session {
    pub(crate) fn start(client: Client, id: SessionId, ttl: Duration, opened: LeaseTime) -> Self {
        Self {
            handle: Handle::start(client, id, ttl, opened),
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.handle.id()
    }

    /// How it stands now.
    #[must_use]
    pub fn state(&self) -> SessionState {
        self.handle.state()
    }

    /// Resolves when the session is over. Independent of this handle's life.
    pub fn lost(&self) -> impl Future<Output = Loss> + Send + 'static + use<> {
        self.handle.lost()
    }

    /// Asks for one lock; see [`LockRequest`].
    pub fn lock(&self, name: impl Into<String>) -> LockRequest {
        LockRequest::new(Arc::clone(&self.handle), name.into())
    }

    /// Asks for several different locks, 1 to 64, all or nothing; see [`LockManyRequest`].
    pub fn lock_many<N: Into<String>>(
        &self,
        locks: impl IntoIterator<Item = (N, Mode)>,
    ) -> LockManyRequest {
        let locks = locks
            .into_iter()
            .map(|(name, mode)| (name.into(), mode))
            .collect();
        LockManyRequest::new(Arc::clone(&self.handle), locks)
    }

    /// Asks for permits of a semaphore that has `of` in all: 1 to 65,536, and the same for all who
    /// use the name; see [`SemaphoreRequest`].
    pub fn semaphore(&self, name: impl Into<String>, of: u32) -> SemaphoreRequest {
        SemaphoreRequest::new(Arc::clone(&self.handle), name.into(), of)
    }

    /// Comes to a barrier at which `parties` meet: 1 to 65,536, and the same for all who use the
    /// name; see [`BarrierRequest`].
    pub fn barrier(&self, name: impl Into<String>, parties: u32) -> BarrierRequest {
        BarrierRequest::new(Arc::clone(&self.handle), name.into(), parties)
    }

    /// Stands for election; see [`ElectionRequest`].
    pub fn election(&self, name: impl Into<String>) -> ElectionRequest {
        ElectionRequest::new(Arc::clone(&self.handle), name.into())
    }

    /// Ends the session: every guard of it is lost at once, operations under way fail, and the
    /// cluster releases all that it held. Once begun it goes on in the background, also where this future
    /// is dropped before it is done.
    ///
    /// # Errors
    /// If it was lost before, or if the cluster could not be told within the request timeout; the
    /// session then ends by its TTL.
    pub async fn close(&self) -> Result<(), CloseError> {
        if let Some(loss) = self.handle.end(Loss::Closed) {
            return Err(CloseError::SessionLost(loss));
        }
        let (client, id) = (self.handle.client().clone(), self.id());
        let closing = async move { client.close_session(id, Release::Now).await };
        let Some(closed) = self.handle.in_background(closing).await else {
            return Err(CloseError::SessionLost(Loss::Closed));
        };
        match closed {
            Ok(_) => Ok(()),
            // A close that had to be repeated finds what it did before.
            Err(RequestError::Refused(error))
                if matches!(
                    error.reason,
                    Reason::SessionClosed | Reason::SessionNotFound
                ) =>
            {
                Ok(())
            }
            Err(RequestError::Refused(error)) if error.reason == Reason::SessionExpired => {
                Err(CloseError::SessionLost(Loss::Ended {
                    reason: error.reason,
                    message: error.message,
                }))
            }
            Err(error) => Err(error.into()),
        }
    }
}
