//! `lock run`: a command under a lock.
//!
//! Invariant: the command never outlives the lock by more than [`crate::child::GRACE`], and never
//! starts without it.

use std::{collections::BTreeMap, ffi::OsStr, time::Duration};

use lockstep_client::{AcquireError, Client, LockGuard, Session, SessionOptions, Wait};
use tokio::time::sleep;

use crate::{
    args::RunOptions,
    child::{Child, Ended, signals::Signals},
    exit::{Failure, SIGNAL_BASE},
    output::Output,
    span,
};

/// How long a wait is silent.
const SILENT_WAIT: Duration = Duration::from_secs(1);
/// Longest label that the cluster takes.
const MAX_LABEL_BYTES: usize = 256;

/// Runs the command; its exit code.
pub(crate) async fn run(
    client: &Client,
    options: RunOptions,
    output: &Output,
) -> Result<u8, Failure> {
    let Some((program, args)) = options.command.split_first() else {
        return Err(Failure::Usage("no command is given".to_owned()));
    };
    let mut signals = Signals::listen()?;
    let session = client
        .open_session(SessionOptions {
            ttl: options.ttl,
            labels: labels(program),
            ..SessionOptions::default()
        })
        .await?;
    let acquired = acquire(&session, &options, &mut signals, output).await;
    let guard = match acquired {
        Ok(guard) => guard,
        Err(failure) => {
            close(&session, output).await;
            return Err(failure);
        }
    };
    let started = Child::start(
        program,
        args,
        [
            ("LOCKSTEP_LOCK", guard.name().to_owned()),
            ("LOCKSTEP_TOKEN", guard.token().to_string()),
            ("LOCKSTEP_SESSION", guard.session_id().to_string()),
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
    let ended = guarded(child, &guard, &mut signals, output).await;
    if ended.is_ok() {
        close(&session, output).await;
    }
    ended
}

/// Waits for the lock; a signal gives it up.
async fn acquire(
    session: &Session,
    options: &RunOptions,
    signals: &mut Signals,
    output: &Output,
) -> Result<LockGuard, Failure> {
    let wait = match (options.try_, options.timeout) {
        (true, _) => Wait::Try,
        (false, Some(limit)) => Wait::AtMost(limit),
        (false, None) => Wait::Forever,
    };
    let mut request = session.lock(options.name.as_str()).wait(wait);
    if options.shared {
        request = request.shared();
    }
    let attempt = request.acquire();
    let progress = async {
        sleep(SILENT_WAIT).await;
        output.progress(format_args!(
            "waiting for lock {:?}; Ctrl-C gives up",
            options.name
        ));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        acquired = attempt => acquired.map_err(|error| explain(error, options)),
        signal = signals.ending() => Err(Failure::Interrupted { signal }),
        () = progress => Err(Failure::Other("a wait ended without a reason".to_owned())),
    }
}

/// The error, with what to do in this command's words.
fn explain(error: AcquireError, options: &RunOptions) -> Failure {
    let name = &options.name;
    match &error {
        AcquireError::Unavailable { .. } => Failure::NotObtained(format!(
            "lock {name:?} is not free: `lock show {name}` says who holds it; without --try it is waited for"
        )),
        AcquireError::WaitTimeout { .. } => {
            let limit = options.timeout.map(span::show).unwrap_or_default();
            Failure::NotObtained(format!(
                "lock {name:?} did not become free within {limit}: `lock show {name}` says who holds it"
            ))
        }
        AcquireError::SessionLost(_)
        | AcquireError::InvalidName(_)
        | AcquireError::InvalidArgument { .. }
        | AcquireError::Deadlock { .. }
        | AcquireError::UpgradeRequired { .. }
        | AcquireError::TooManyWaiters { .. }
        | AcquireError::TooManyHolds { .. }
        | AcquireError::Cancelled { .. }
        | AcquireError::NoAnswer { .. }
        | AcquireError::Other(_) => error.into(),
    }
}

/// Lets the command run until it ends, or the lock is lost.
async fn guarded(
    mut child: Child,
    guard: &LockGuard,
    signals: &mut Signals,
    output: &Output,
) -> Result<u8, Failure> {
    let lost = guard.lost();
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
                if guard.is_held() {
                    return Ok(code(ended));
                }
                break (&mut lost).await;
            }
        }
    };
    output.hint(format_args!("the lock is lost: ending the command"));
    child.end(output).await;
    Err(Failure::LockLost(format!(
        "lock {:?} was lost: {loss}; others may have had it while the command was ending",
        guard.name()
    )))
}

fn code(ended: Ended) -> u8 {
    match ended {
        Ended::Exited(code) => code,
        Ended::Killed(signal) => SIGNAL_BASE.saturating_add(signal),
    }
}

/// Ends the session, and with it the wait or the hold. The TTL does it where this fails.
async fn close(session: &Session, output: &Output) {
    if let Err(error) = session.close().await {
        output.hint(format_args!(
            "the lock could not be released ({error}): it becomes free when its TTL is over"
        ));
    }
}

/// What `session ls` shows of this.
fn labels(program: &OsStr) -> BTreeMap<String, String> {
    let host = nix::unistd::gethostname().unwrap_or_default();
    [
        ("client", "lockstepctl".to_owned()),
        ("command", program.to_string_lossy().into_owned()),
        ("host", host.to_string_lossy().into_owned()),
        ("pid", std::process::id().to_string()),
    ]
    .into_iter()
    .map(|(key, mut value)| {
        while value.len() > MAX_LABEL_BYTES {
            value.pop();
        }
        (key.to_owned(), value)
    })
    .collect()
}
