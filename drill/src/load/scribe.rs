//! Does what a client does through the SDK, and records it.
//!
//! Invariant: what is done through a scribe is in the record, with the answer that the client saw.

use std::sync::OnceLock;

use lockstep_client::{AcquireError, Client, CloseError, FencingToken, LockGuard, ReleaseError};
use tokio::time::timeout;

use super::{Arena, ArenaLock, PATIENCE};
use crate::history::{
    Acquired, Action, ClientId, EndedSession, Mode, Moment, Operation, RecorderFull, Released,
    Session, SessionEnd, Token, Wait,
};

/// Records what one client does in one session.
pub(crate) struct Scribe<'a> {
    arena: &'a Arena,
    client: ClientId,
    session: &'a lockstep_client::Session,
}

/// What an acquisition came to.
pub(crate) enum Taken {
    /// Guards of all the locks.
    Held(Vec<LockGuard>),
    /// None of them.
    Not(Acquired),
}

impl<'a> Scribe<'a> {
    pub(crate) const fn new(
        arena: &'a Arena,
        client: ClientId,
        session: &'a lockstep_client::Session,
    ) -> Self {
        Self {
            arena,
            client,
            session,
        }
    }

    fn session_id(&self) -> Session {
        Session(self.session.id().0)
    }

    fn record(
        &self,
        lock: &ArenaLock,
        invoked: Moment,
        returned: Moment,
        action: Action,
    ) -> Result<(), RecorderFull> {
        self.arena.recorder.record(Operation {
            client: self.client,
            session: self.session_id(),
            lock: lock.id,
            invoked,
            returned,
            action,
        })
    }

    /// Takes locks, all or none. `seen` is set by whoever sees it wait meanwhile.
    pub(crate) async fn acquire(
        &self,
        locks: &[&ArenaLock],
        mode: Mode,
        wait: Wait,
        seen: &OnceLock<Moment>,
    ) -> Result<Taken, RecorderFull> {
        let named = locks
            .iter()
            .map(|lock| (lock.name.as_str(), sdk_mode(mode)));
        let request = self.session.lock_many(named).wait(sdk_wait(wait));
        let invoked = self.arena.recorder.now();
        let answer = timeout(PATIENCE, request.acquire()).await;
        let returned = self.arena.recorder.now();
        let (guards, failed) = match answer {
            Ok(Ok(guards)) => (guards, None),
            Ok(Err(error)) => (vec![], Some(acquired(&error))),
            Err(_elapsed) => (vec![], Some(Acquired::Unanswered)),
        };
        for (nth, lock) in locks.iter().enumerate() {
            let granted = guards.get(nth).map(|guard| {
                self.arena.grants.note(lock.shard, invoked, returned);
                Acquired::Granted(token(guard))
            });
            let action = Action::Acquire {
                mode,
                wait,
                seen_waiting: seen.get().copied(),
                outcome: granted.or(failed).unwrap_or(Acquired::Unknown),
            };
            self.record(lock, invoked, returned, action)?;
        }
        Ok(failed.map_or(Taken::Held(guards), Taken::Not))
    }

    /// Uses what the lock guards, unless its holder knows that it has lost it.
    pub(crate) fn access(
        &self,
        lock: &ArenaLock,
        mode: Mode,
        guard: &LockGuard,
    ) -> Result<(), RecorderFull> {
        let invoked = self.arena.recorder.now();
        if !guard.is_held() {
            return Ok(());
        }
        let token = token(guard);
        let accepted = self.arena.resource.access(lock.id, mode, token);
        let returned = self.arena.recorder.now();
        self.record(lock, invoked, returned, Action::Access { token, accepted })
    }

    /// Asks the cluster whether a token is valid. If nobody answers, that says nothing.
    pub(crate) async fn validate(
        &self,
        client: &Client,
        lock: &ArenaLock,
        token: Token,
    ) -> Result<Option<bool>, RecorderFull> {
        let invoked = self.arena.recorder.now();
        let answer = client.validate(&lock.name, FencingToken(token.0)).await;
        let returned = self.arena.recorder.now();
        let Ok(valid) = answer else { return Ok(None) };
        self.record(lock, invoked, returned, Action::Validate { token, valid })?;
        Ok(Some(valid))
    }

    /// Gives a hold back.
    pub(crate) async fn release(
        &self,
        lock: &ArenaLock,
        guard: LockGuard,
    ) -> Result<Released, RecorderFull> {
        let token = token(&guard);
        let invoked = self.arena.recorder.now();
        let answer = timeout(PATIENCE, guard.release()).await;
        let returned = self.arena.recorder.now();
        let outcome = match answer {
            Ok(Ok(_holds)) => Released::Done,
            Ok(Err(error)) => released(&error),
            Err(_elapsed) => Released::Unanswered,
        };
        self.record(lock, invoked, returned, Action::Release { token, outcome })?;
        Ok(outcome)
    }

    /// Closes the session, which may be known to be lost.
    pub(crate) async fn close(&self, known_lost: bool) {
        let at = self.arena.recorder.now();
        let closed = timeout(PATIENCE, self.session.close()).await;
        let found_lost = matches!(closed, Ok(Err(CloseError::SessionLost(_))));
        let end = if known_lost || found_lost {
            SessionEnd::Lost
        } else {
            SessionEnd::Closed
        };
        self.arena.recorder.session_ended(EndedSession {
            client: self.client,
            session: self.session_id(),
            at,
            end,
        });
    }
}

/// The token of a guard, as the history has it.
pub(crate) fn token(guard: &LockGuard) -> Token {
    Token(guard.token().0)
}

const fn sdk_mode(mode: Mode) -> lockstep_client::Mode {
    match mode {
        Mode::Shared => lockstep_client::Mode::Shared,
        Mode::Exclusive => lockstep_client::Mode::Exclusive,
    }
}

const fn sdk_wait(wait: Wait) -> lockstep_client::Wait {
    match wait {
        Wait::Try => lockstep_client::Wait::Try,
        Wait::AtMost(limit) => lockstep_client::Wait::AtMost(limit),
        Wait::Forever => lockstep_client::Wait::Forever,
    }
}

const fn acquired(error: &AcquireError) -> Acquired {
    match error {
        AcquireError::SessionLost(_) => Acquired::SessionGone,
        AcquireError::Unavailable { .. } => Acquired::Unavailable,
        AcquireError::WaitTimeout { .. } => Acquired::TimedOut,
        AcquireError::NoAnswer { .. } => Acquired::Unknown,
        AcquireError::InvalidName(_)
        | AcquireError::InvalidArgument { .. }
        | AcquireError::Deadlock { .. }
        | AcquireError::OtherUsage { .. }
        | AcquireError::OtherPermits { .. }
        | AcquireError::UpgradePending { .. }
        | AcquireError::UpgradeRequired { .. }
        | AcquireError::TooManyWaiters { .. }
        | AcquireError::TooManyHolds { .. }
        | AcquireError::Cancelled { .. }
        | AcquireError::Other(_) => Acquired::Refused,
    }
}

const fn released(error: &ReleaseError) -> Released {
    match error {
        ReleaseError::SessionLost(_) => Released::SessionGone,
        ReleaseError::StaleToken { .. } => Released::Stale,
        ReleaseError::NoAnswer { .. } => Released::Unknown,
        ReleaseError::Other(_) => Released::Refused,
    }
}
