//! What programs of this crate tell the person in front of them.
//!
//! Invariant: colour is written to terminals only; a closed pipe is no error.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
};

/// Says one line on stdout.
pub fn say(line: impl fmt::Display) {
    let _closed_pipe = writeln!(io::stdout().lock(), "{line}");
}

/// How a piece of text should stand out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A heading.
    Bold,
    /// Something that holds.
    Good,
    /// Something that does not.
    Bad,
    /// Something less important.
    Dim,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Good => "32",
            Self::Bad => "31",
            Self::Dim => "2",
        }
    }
}

/// The text in this style, if stdout is a terminal.
#[must_use]
pub fn styled(style: Style, text: impl fmt::Display) -> String {
    if io::stdout().is_terminal() {
        format!("\x1b[{}m{text}\x1b[0m", style.code())
    } else {
        text.to_string()
    }
}
