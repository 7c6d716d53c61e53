//! Where results and hints are written.
//!
//! Invariant: this is the only place that writes to standard output or standard error, apart from
//! the command line's own errors. A reader that goes away is the end, not an error.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
};

use serde::Serialize;

use crate::{args::Format, exit::Failure};

/// The standard streams.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    terminal: bool,
    colour: bool,
}

/// How a piece of text looks on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// As everything.
    Plain,
    /// The head of a table.
    Head,
    /// Something is wrong.
    Bad,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        let terminal = io::stdout().is_terminal();
        // https://no-color.org: any value but an empty one.
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            format,
            terminal,
            colour: terminal && !unwanted,
        }
    }

    pub(crate) const fn format(&self) -> Format {
        self.format
    }

    /// True if people look at it as it is written.
    pub(crate) const fn is_terminal(&self) -> bool {
        self.terminal
    }

    pub(crate) const fn has_colour(&self) -> bool {
        self.colour
    }

    /// Writes text, as it is.
    pub(crate) fn write(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        written.map_err(|error| {
            if error.kind() == io::ErrorKind::BrokenPipe {
                Failure::OutputClosed
            } else {
                Failure::Other(format!("cannot write the output: {error}"))
            }
        })
    }

    /// Writes a JSON document, on lines of its own.
    pub(crate) fn json(&self, document: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(document)
            .map_err(|error| Failure::Other(format!("cannot write JSON: {error}")))?;
        self.write(&(text + "\n"))
    }

    /// Writes a JSON document on one line, so that a stream of them can be read line by line.
    pub(crate) fn json_line(&self, document: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(document)
            .map_err(|error| Failure::Other(format!("cannot write JSON: {error}")))?;
        self.write(&(text + "\n"))
    }

    /// Tells something by the way.
    pub(crate) fn hint(&self, words: impl Display) {
        // Nothing can be done about a standard error that is closed.
        let _unwritten = writeln!(io::stderr().lock(), "lockstepctl: {words}");
    }

    /// Tells something by the way, if there is somebody at a terminal.
    pub(crate) fn progress(&self, words: impl Display) {
        if io::stderr().is_terminal() {
            self.hint(words);
        }
    }

    /// Tells why there is no result.
    pub(crate) fn error(&self, words: &str) {
        let _unwritten = writeln!(io::stderr().lock(), "lockstepctl: error: {words}");
    }
}

impl Style {
    /// The text with the codes of this style around it.
    pub(crate) fn paint(self, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Head => format!("\x1b[1m{text}\x1b[0m"),
            Self::Bad => format!("\x1b[31m{text}\x1b[0m"),
        }
    }
}
