//! A command that runs in a process group of its own.
//!
//! Invariant: the whole group gets each signal, so that what the command started ends with it; and
//! the terminal, where there is one, belongs to the group while it runs and to this program after.

pub(crate) mod signals;
mod terminal;

use std::{
    ffi::OsStr, io, os::unix::process::ExitStatusExt as _, process::ExitStatus, time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    unistd::Pid,
};
use tokio::{
    process,
    signal::unix::{Signal as SignalStream, SignalKind, signal},
    time::{interval, timeout},
};

use self::terminal::Terminal;
use crate::output::Output;

/// How long the group may take to end after SIGTERM: longer would keep two holders at work.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// How often a group that is ending is looked at.
const GROUP_CHECK: Duration = Duration::from_millis(50);

/// A running command.
#[derive(Debug)]
pub(crate) struct Child {
    process: process::Child,
    group: Pid,
    /// Given to the group; taken back when this is dropped.
    _terminal: Option<Terminal>,
    /// Tells of children that stopped.
    changes: SignalStream,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself, with this code.
    Exited(u8),
    /// By this signal.
    Killed(u8),
}

impl Child {
    /// Starts a command.
    pub(crate) fn start(
        program: &OsStr,
        args: &[impl AsRef<OsStr>],
        environment: impl IntoIterator<Item = (&'static str, String)>,
    ) -> io::Result<Self> {
        let changes = signal(SignalKind::child())?;
        let process = process::Command::new(program)
            .args(args)
            .envs(environment)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let id = process.id().and_then(|id| i32::try_from(id).ok());
        // The leader of a group gives it its own id.
        let group = Pid::from_raw(id.ok_or_else(|| io::Error::other("it ended at once"))?);
        let terminal = Terminal::give_to(group);
        if terminal.is_some() {
            // It may have been stopped for reading before the terminal was its own.
            let _ended_already = killpg(group, Signal::SIGCONT);
        }
        Ok(Self {
            process,
            group,
            _terminal: terminal,
            changes,
        })
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> io::Result<Ended> {
        loop {
            tokio::select! {
                status = self.process.wait() => return status.map(Ended::from),
                // Ctrl-Z. Nobody would be there to continue it, and it would keep the lock.
                _ = self.changes.recv() => if self.was_suspended() {
                    let _ended_already = killpg(self.group, Signal::SIGCONT);
                }
            }
        }
    }

    /// Passes a signal on to the group.
    pub(crate) fn forward(&self, signal: Signal, output: &Output) {
        if signal == Signal::SIGTSTP {
            output.hint("not suspended: a suspended holder would lose its lock");
            return;
        }
        // It may have ended already.
        let _ended_already = killpg(self.group, signal);
    }

    /// Ends the group: SIGTERM, and after [`GRACE`] SIGKILL.
    pub(crate) async fn end(mut self, output: &Output) {
        // What the command leaves behind becomes this program's to wait for; elsewhere it is left
        // to whatever process the system gives it to.
        #[cfg(target_os = "linux")]
        let _never_fails = nix::sys::prctl::set_child_subreaper(true);
        let _ended_already = killpg(self.group, Signal::SIGTERM);
        let _ended_already = killpg(self.group, Signal::SIGCONT);
        if timeout(GRACE, self.all_ended()).await.is_err() {
            output.hint(format_args!("not ended within {GRACE:?}: killing it"));
        }
        let _ended_already = killpg(self.group, Signal::SIGKILL);
        // A killed process ends.
        let _status = self.process.wait().await;
    }

    /// Waits until nobody is left in the group.
    async fn all_ended(&mut self) {
        // Once it has ended, waiting fails or gives the same again.
        let _status = self.process.wait().await;
        let rest = Pid::from_raw(-self.group.as_raw());
        let mut ticks = interval(GROUP_CHECK);
        loop {
            // Whoever has ended counts as there until it was waited for.
            while let Ok(status) = waitpid(rest, Some(WaitPidFlag::WNOHANG)) {
                if status == WaitStatus::StillAlive {
                    break;
                }
            }
            if killpg(self.group, None).is_err() {
                return;
            }
            ticks.tick().await;
        }
    }

    fn was_suspended(&self) -> bool {
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
        let Some(id) = self.process.id().and_then(|id| i32::try_from(id).ok()) else {
            return false;
        };
        matches!(
            waitid(Id::Pid(Pid::from_raw(id)), flags),
            Ok(WaitStatus::Stopped(_, Signal::SIGTSTP))
        )
    }
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        let signal = status.signal().and_then(|signal| u8::try_from(signal).ok());
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        match (code, signal) {
            (Some(code), _) => Self::Exited(code),
            (None, Some(signal)) => Self::Killed(signal),
            // Neither happens: a process that is over has one or the other.
            (None, None) => Self::Exited(u8::MAX),
        }
    }
}
