//! `lock run`, `semaphore run` and `elect run`: a command under what is held.
//!
//! Invariant: the command never starts without what it is to run under, and nothing of it outlives
//! that: its [supervisor](crate::supervisor) ends it in time, and what is held is given back after.

use std::time::Duration;

use lockstep_client::{
    AcquireError, Client, FencingToken, Leadership, LockGuard, PermitGuard, Session, SessionState,
    Wait,
};

use tokio::time::{Instant, interval, sleep_until};

use super::wait::{close, host, open, until};
use crate::{
    args::{ElectRun, LockRun, RunTerms, SemaphoreRun},
    boot_time::BootTime,
    child::{Child, Outcome, signals::Signals},
    exit::{Failure, SIGNAL_BASE},
    output::Output,
    span,
    supervisor::{Ended, GRACE, Lease},
};

/// The longest time between two looks at the lease.
const MAX_LOOK: Duration = Duration::from_secs(1);
/// How long after its time a supervisor that has not ended the command is given up.
const SUPERVISOR_PATIENCE: Duration = Duration::from_secs(1);

/// What a command is to run under, and how long that is waited for.
pub(crate) struct Run {
    name: String,
    wanted: Wanted,
    terms: RunTerms,
}

/// What a command is to run under.
enum Wanted {
    Lock { shared: bool },
    Permits { count: u32, of: u32 },
    Lead { value: String },
}

/// What it runs under; given back with its session.
enum Held {
    Lock(LockGuard),
    Permits(PermitGuard),
    Lead(Leadership),
}

impl Held {
    fn token(&self) -> FencingToken {
        match self {
            Self::Lock(guard) => guard.token(),
            Self::Permits(guard) => guard.token(),
            Self::Lead(guard) => guard.token(),
        }
    }
}

impl From<LockRun> for Run {
    fn from(options: LockRun) -> Self {
        Self {
            name: options.name,
            wanted: Wanted::Lock {
                shared: options.shared,
            },
            terms: options.terms,
        }
    }
}

impl From<SemaphoreRun> for Run {
    fn from(options: SemaphoreRun) -> Self {
        Self {
            name: options.name,
            wanted: Wanted::Permits {
                count: options.permits,
                of: options.size,
            },
            terms: options.terms,
        }
    }
}

impl From<ElectRun> for Run {
    fn from(options: ElectRun) -> Self {
        let host_and_process = || format!("{}/{}", host(), std::process::id());
        Self {
            name: options.name,
            wanted: Wanted::Lead {
                value: options.value.unwrap_or_else(host_and_process),
            },
            terms: options.terms,
        }
    }
}

/// Runs the command; its exit code.
pub(crate) async fn run(
    client: &Client,
    run: impl Into<Run>,
    output: &Output,
) -> Result<u8, Failure> {
    let run: Run = run.into();
    let Some(program) = run.terms.command.first() else {
        return Err(Failure::Usage("no command is given".to_owned()));
    };
    let mut signals = Signals::listen()?;
    let session = open(client, run.terms.ttl, program).await?;
    let held = until(
        &session,
        run.acquire(&session),
        &run.what(),
        |error| run.explain(error),
        &mut signals,
        output,
    )
    .await?;
    let ended = run.carry_out(&held, &session, &mut signals).await;
    if let SessionState::Alive { .. } = session.state() {
        close(&session, output).await;
    }
    ended
}

impl Run {
    async fn acquire(&self, session: &Session) -> Result<Held, AcquireError> {
        let name = self.name.as_str();
        let wait = match (self.terms.try_, self.terms.timeout) {
            (true, _) => Wait::Try,
            (false, Some(limit)) => Wait::AtMost(limit),
            (false, None) => Wait::Forever,
        };
        match &self.wanted {
            Wanted::Lock { shared } => {
                let request = session.lock(name).wait(wait);
                let request = if *shared { request.shared() } else { request };
                request.acquire().await.map(Held::Lock)
            }
            Wanted::Permits { count, of } => {
                let request = session.semaphore(name, *of).permits(*count).wait(wait);
                request.acquire().await.map(Held::Permits)
            }
            Wanted::Lead { value } => {
                let request = session.election(name).wait(wait);
                request.campaign(value.as_str()).await.map(Held::Lead)
            }
        }
    }

    /// Which variable tells the command under what it runs.
    const fn variable(&self) -> &'static str {
        match self.wanted {
            Wanted::Lock { .. } => "LOCKSTEP_LOCK",
            Wanted::Permits { .. } => "LOCKSTEP_SEMAPHORE",
            Wanted::Lead { .. } => "LOCKSTEP_ELECTION",
        }
    }

    /// What it runs under, in words.
    fn what(&self) -> String {
        let name = &self.name;
        match self.wanted {
            Wanted::Lock { .. } => format!("lock {name:?}"),
            Wanted::Permits { .. } => format!("semaphore {name:?}"),
            Wanted::Lead { .. } => format!("the lead of {name:?}"),
        }
    }

    /// The error, with what to do in this command's words.
    fn explain(&self, error: AcquireError) -> Failure {
        let what = self.what();
        let look = match self.wanted {
            Wanted::Lock { .. } | Wanted::Permits { .. } => format!("lock show {}", self.name),
            Wanted::Lead { .. } => format!("elect show {}", self.name),
        };
        match &error {
            AcquireError::Unavailable { .. } => Failure::NotObtained(format!(
                "{what} is not free: `{look}` says who holds it; without --try it is waited for"
            )),
            AcquireError::WaitTimeout { .. } => {
                let limit = self.terms.timeout.map(span::show).unwrap_or_default();
                Failure::NotObtained(format!(
                    "{what} did not become free within {limit}: `{look}` says who holds it"
                ))
            }
            AcquireError::SessionLost(_)
            | AcquireError::InvalidName(_)
            | AcquireError::InvalidArgument { .. }
            | AcquireError::Deadlock { .. }
            | AcquireError::OtherUsage { .. }
            | AcquireError::OtherPermits { .. }
            | AcquireError::UpgradePending { .. }
            | AcquireError::UpgradeRequired { .. }
            | AcquireError::TooManyWaiters { .. }
            | AcquireError::TooManyHolds { .. }
            | AcquireError::Cancelled { .. }
            | AcquireError::NoAnswer { .. }
            | AcquireError::Other(_) => error.into(),
        }
    }

    /// Runs the command to its end.
    async fn carry_out(
        &self,
        held: &Held,
        session: &Session,
        signals: &mut Signals,
    ) -> Result<u8, Failure> {
        let lease = self.lease(session)?;
        let environment = [
            (self.variable(), self.name.clone()),
            ("LOCKSTEP_TOKEN", held.token().to_string()),
            ("LOCKSTEP_SESSION", session.id().to_string()),
        ];
        let child = Child::start(&self.terms.command, environment, self.what(), lease);
        let child = child.map_err(|error| {
            Failure::Other(format!("cannot start a supervisor of the command: {error}"))
        })?;
        let ended = self.guard(child, session, signals).await;
        let what = self.what();
        match (ended, session.state()) {
            (Outcome::NotStarted(words), _) => Err(Failure::Other(format!(
                "the command was not started: {words}"
            ))),
            (_, SessionState::Lost(loss)) => {
                Err(Failure::LockLost(format!("{what} was lost: {loss}")))
            }
            (Outcome::EndedForLoss, SessionState::Alive { .. }) => Err(Failure::LockLost(format!(
                "{what} would have been lost: no node confirmed it in time, so the command was ended before"
            ))),
            (Outcome::Unsupervised, SessionState::Alive { .. }) => Err(Failure::Other(
                "the command's supervisor was killed, and so was the command".to_owned(),
            )),
            (Outcome::Ended(ended), SessionState::Alive { .. }) => Ok(code(ended)),
        }
    }

    /// Until when it is known to be held.
    fn lease(&self, session: &Session) -> Result<Lease, Failure> {
        // In this order, so that what happens in between makes it shorter.
        let now = BootTime::now()
            .map_err(|error| Failure::Other(format!("cannot tell the time: {error}")))?;
        match session.state() {
            SessionState::Alive { remaining } => Ok(Lease::new(now, remaining, self.terms.ttl)),
            SessionState::Lost(loss) => Err(Failure::LockLost(format!(
                "{} was lost before the command was started: {loss}",
                self.what()
            ))),
        }
    }

    /// Tells the supervisor what it has to know, until the command has ended.
    async fn guard(&self, mut child: Child, session: &Session, signals: &mut Signals) -> Outcome {
        let lost = session.lost();
        tokio::pin!(lost);
        let mut look = interval((self.terms.ttl / 10).clamp(Duration::from_millis(10), MAX_LOOK));
        let mut overdue = None;
        loop {
            tokio::select! {
                biased;
                _ = &mut lost, if overdue.is_none() => {
                    child.lost();
                    overdue = Some(Instant::now() + GRACE + SUPERVISOR_PATIENCE);
                }
                () = sleep_until(overdue.unwrap_or_else(Instant::now)), if overdue.is_some() => {
                    child.give_supervisor_up();
                    overdue = Some(Instant::now() + SUPERVISOR_PATIENCE);
                }
                ended = child.ended() => return ended,
                number = signals.any() => child.signal(number),
                _ = look.tick(), if overdue.is_none() => if let Ok(lease) = self.lease(session) {
                    child.renewed(lease);
                }
            }
        }
    }
}

fn code(ended: Ended) -> u8 {
    match ended {
        Ended::Exited(code) => code,
        Ended::Killed(signal) => SIGNAL_BASE.saturating_add(signal),
    }
}
