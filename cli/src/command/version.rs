//! `version`: this program's own.

use crate::{args::Format, exit::Failure, output::Output, row::Version};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Prints it.
pub(crate) fn print(output: &Output) -> Result<(), Failure> {
    match output.format() {
        Format::Table => output.write(&format!("lockstepctl {VERSION}\n")),
        Format::Json => output.json(&Version { version: VERSION }),
    }
}
