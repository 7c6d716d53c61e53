//! `completions`: what a shell needs to complete this program's command line.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{args::Args, exit::Failure, output::Output};

/// Prints the script.
pub(crate) fn print(shell: Shell, output: &Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "lockstepctl", &mut script);
    output.write(&String::from_utf8_lossy(&script))
}
