//! `recover`: hands over to `lockstep-node recover`, because only the server reads its directories.
//!
//! Invariant: what is shown, asked, and exited with is the server's own; nothing is done here.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{args::Format, exit::Failure, output::Output};

/// The server's program.
const PROGRAM: &str = "lockstep-node";

/// Becomes the server's program. Returns only if that fails.
pub(crate) fn hand_over(
    data_dirs: &[PathBuf],
    lost: &[u64],
    yes: bool,
    program: Option<PathBuf>,
    output: &Output,
) -> Failure {
    let program = program.or_else(beside).unwrap_or_else(|| PROGRAM.into());
    let mut command = Command::new(&program);
    command.arg("recover");
    for dir in data_dirs {
        command.arg("--data-dir").arg(dir);
    }
    for node in lost {
        command.arg("--lost").arg(node.to_string());
    }
    if yes {
        command.arg("--yes");
    }
    if output.format() == Format::Json {
        command.args(["--output", "json"]);
    }
    let error = command.exec();
    output.hint(
        "name the server's program with --node-program, or run `lockstep-node recover` with the same arguments \
         where it is, such as in the node's container image; as the user who owns the directories",
    );
    Failure::CannotStart {
        program: program.display().to_string(),
        error,
    }
}

/// The one that was installed together with this program.
fn beside() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let program = own.parent().unwrap_or(Path::new("")).join(PROGRAM);
    program.is_file().then_some(program)
}
