//! What clients did and what they saw: the evidence that [`crate::checker`] judges.
//!
//! Invariant: all times are of one monotonic clock in one process, so "before" means before. An
//! operation took effect, if at all, between its `invoked` and its `returned`; one whose outcome is
//! unknown may take effect at any time after `invoked`, or never.

use std::{
    fmt,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::Serialize;

/// Most operations kept at once: about 2 GiB. A run that goes on longer is judged round by round.
pub const MAX_OPERATIONS: usize = 24_000_000;

/// A client of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ClientId(pub u32);

/// A lock of the load: its index among the locks used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct LockId(pub u32);

/// A session, by the id that the server gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Session(pub u64);

/// A fencing token. 0 is below every real one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Token(pub u64);

/// Nanoseconds since the run began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Moment(pub u64);

impl Moment {
    /// After all others.
    pub const NEVER: Self = Self(u64::MAX);

    /// This moment plus a span.
    #[must_use]
    pub const fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.as_nanos() as u64))
    }

    /// The span from `earlier` to this moment; zero if it is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NEVER => f.write_str("never"),
            Self(ns) => write!(f, "{:.6} s", ns as f64 / 1e9),
        }
    }
}

/// Whom a hold excludes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Mode {
    /// Exclusive holds.
    Shared,
    /// All other holds.
    Exclusive,
}

/// How long an acquisition would wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Wait {
    /// Not at all.
    Try,
    /// So long after the server took it.
    AtMost(Duration),
    /// Without limit.
    Forever,
}

/// How an acquisition ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Acquired {
    /// Granted under this token.
    Granted(Token),
    /// Not free, and it would not wait.
    Unavailable,
    /// Not free in time.
    TimedOut,
    /// Refused for another reason; nothing was done.
    Refused,
    /// The session had ended.
    SessionGone,
    /// It may or may not have been, or yet be, granted.
    Unknown,
    /// No answer at all within the harness's patience: the cluster or the client has forgotten it.
    Unanswered,
}

/// How a release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Released {
    /// The lock is given back.
    Done,
    /// The server said that the token was not that of a present hold.
    Stale,
    /// Refused for another reason; nothing was done.
    Refused,
    /// The session had ended.
    SessionGone,
    /// It may or may not have been done.
    Unknown,
    /// No answer at all within the harness's patience.
    Unanswered,
}

/// What was done, and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Action {
    /// Asked for the lock.
    Acquire {
        /// How.
        mode: Mode,
        /// With what patience.
        wait: Wait,
        /// When another client had seen it in the lock's queue, where one looked.
        seen_waiting: Option<Moment>,
        /// The end of it.
        outcome: Acquired,
    },
    /// Gave a hold back.
    Release {
        /// Under which it was granted.
        token: Token,
        /// The end of it.
        outcome: Released,
    },
    /// Asked the server whether the token was that of a present holder. Failed attempts to ask
    /// are not recorded.
    Validate {
        /// Which.
        token: Token,
        /// What it said.
        valid: bool,
    },
    /// Used the guarded resource. Its client was sure of the lock when this was invoked; one that
    /// knows that it has lost the lock does not use the resource.
    Access {
        /// Under which token.
        token: Token,
        /// Whether the resource took it.
        accepted: bool,
    },
}

/// One thing that a client did with a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Operation {
    /// Who.
    pub client: ClientId,
    /// In which session.
    pub session: Session,
    /// With which lock.
    pub lock: LockId,
    /// Just before it was asked for.
    pub invoked: Moment,
    /// Just after the answer came, or was given up.
    pub returned: Moment,
    /// What.
    pub action: Action,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum SessionEnd {
    /// Its client closed it.
    Closed,
    /// Its client learned that it had expired, or that it can no longer be sure of it.
    Lost,
}

/// The end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct EndedSession {
    /// Whose.
    pub client: ClientId,
    /// Which.
    pub session: Session,
    /// Just before the client closed it, or when it learned of the loss.
    pub at: Moment,
    /// How.
    pub end: SessionEnd,
}

/// All that was recorded in one round of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// In the order in which they returned.
    pub operations: Vec<Operation>,
    /// In the order in which clients learned of them.
    pub ended_sessions: Vec<EndedSession>,
}

/// Records from many clients at once.
#[derive(Debug)]
pub struct Recorder {
    start: Instant,
    history: Mutex<History>,
}

/// The recorder is full: judge what it has before going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{MAX_OPERATIONS} operations are recorded: judge them, with shorter rounds, before going on"
)]
pub struct RecorderFull;

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// Begins a run: its moment 0 is now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            history: Mutex::default(),
        }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment::default().plus(self.start.elapsed())
    }

    /// Adds an operation that has returned.
    ///
    /// # Errors
    /// At [`MAX_OPERATIONS`].
    pub fn record(&self, operation: Operation) -> Result<(), RecorderFull> {
        let mut history = self.history.lock();
        if history.operations.len() >= MAX_OPERATIONS {
            return Err(RecorderFull);
        }
        history.operations.push(operation);
        Ok(())
    }

    /// Adds the end of a session.
    pub fn session_ended(&self, ended: EndedSession) {
        self.history.lock().ended_sessions.push(ended);
    }

    /// Takes what was recorded so far; the clock runs on.
    #[must_use]
    pub fn take(&self) -> History {
        std::mem::take(&mut self.history.lock())
    }
}
