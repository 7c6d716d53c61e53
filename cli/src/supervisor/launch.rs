//! The last step before a command: this program once more, which becomes the command.
//!
//! Invariant: no command begins whose supervisor is gone, and the system kills one whose supervisor
//! is killed.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use nix::{
    sys::{
        prctl::set_pdeathsig,
        signal::{SigSet, Signal},
    },
    unistd::{Pid, getppid},
};

use crate::{args::Format, exit::Failure, output::Output};

/// The name that this program is called by to be this.
pub(crate) const NAME: &str = "lockstep-exec";

/// What makes this program a command whose supervisor is this process.
pub(super) fn command(command: &[OsString]) -> Command {
    let mut launch = super::own_program(NAME);
    launch
        .arg(std::process::id().to_string())
        .args(command)
        .process_group(0);
    launch
}

/// Becomes the command that is named after the supervisor's process id. Returns only if it cannot.
pub(crate) fn run(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let supervisor = args.next().and_then(|id| id.to_str()?.parse().ok());
    let program = args.next().unwrap_or_default();
    let failure = match become_it(supervisor, &program, args) {
        Ok(never) => match never {},
        Err(error) => Failure::CannotStart {
            program: program.to_string_lossy().into_owned(),
            error,
        },
    };
    Output::new(Format::Table).error(&failure.to_string());
    ExitCode::from(failure.code())
}

fn become_it(
    supervisor: Option<i32>,
    program: &OsStr,
    args: impl Iterator<Item = OsString>,
) -> io::Result<std::convert::Infallible> {
    set_pdeathsig(Signal::SIGKILL)?;
    // Killed before it would have been noticed, it has left this process to another parent.
    if supervisor.map(Pid::from_raw) != Some(getppid()) {
        return Err(io::Error::other("its supervisor is gone"));
    }
    // A mask is inherited, and the supervisor blocks all.
    SigSet::all().thread_unblock()?;
    Err(Command::new(program).args(args).exec())
}
