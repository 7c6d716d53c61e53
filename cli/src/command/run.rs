//! `lock run`, `semaphore run` and `elect run`: a command under what is held.
//!
//! Invariant: the command never outlives what is held by more than [`crate::child::GRACE`], and
//! never starts without it.

use lockstep_client::{
    AcquireError, Client, FencingToken, Leadership, LockGuard, PermitGuard, Session, SessionState,
    Wait,
};

use super::wait::{close, host, open, until};
use crate::{
    args::{ElectRun, LockRun, RunTerms, SemaphoreRun},
    child::{Child, Ended, signals::Signals},
    exit::{Failure, SIGNAL_BASE},
    output::Output,
    span,
};

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
    let Some((program, args)) = run.terms.command.split_first() else {
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
    let started = Child::start(
        program,
        args,
        [
            (run.variable(), run.name.clone()),
            ("LOCKSTEP_TOKEN", held.token().to_string()),
            ("LOCKSTEP_SESSION", session.id().to_string()),
        ],
    );
    let child = match started {
        Ok(child) => child,
        Err(error) => {
            close(&session, output).await;
            return Err(Failure::CannotStart {
                program: program.to_string_lossy().into_owned(),
                error,
            });
        }
    };
    let ended = run.guard(child, &session, &mut signals, output).await;
    if ended.is_ok() {
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

    /// Lets the command run until it ends, or what is held is lost.
    async fn guard(
        &self,
        mut child: Child,
        session: &Session,
        signals: &mut Signals,
        output: &Output,
    ) -> Result<u8, Failure> {
        let lost = session.lost();
        tokio::pin!(lost);
        let loss = loop {
            tokio::select! {
                biased;
                loss = &mut lost => break loss,
                signal = signals.any() => child.forward(signal, output),
                ended = child.ended() => {
                    let ended = ended.map_err(|error| {
                        Failure::Other(format!("cannot wait for the command: {error}"))
                    })?;
                    match session.state() {
                        SessionState::Alive { .. } => return Ok(code(ended)),
                        SessionState::Lost(loss) => break loss,
                    }
                }
            }
        };
        let what = self.what();
        output.hint(format_args!("{what} is lost: ending the command"));
        child.end(output).await;
        Err(Failure::LockLost(format!(
            "{what} was lost: {loss}; others may have had it while the command was ending"
        )))
    }
}

fn code(ended: Ended) -> u8 {
    match ended {
        Ended::Exited(code) => code,
        Ended::Killed(signal) => SIGNAL_BASE.saturating_add(signal),
    }
}
