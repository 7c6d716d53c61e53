//! A bar that shows how far something is that takes long.
//!
//! Invariant: it is drawn only where somebody looks at standard error, in one line, and leaves
//! nothing behind.

use std::io::{self, IsTerminal as _, Write as _};

/// Cells of the bar.
const CELLS: u32 = 24;
/// Longest words beside it: a line that wraps could not be drawn over.
const MAX_WORDS: usize = 48;

/// How much is left of something, as far as it was seen.
#[derive(Debug)]
pub(crate) struct Progress {
    terminal: bool,
    /// The most that was ever left.
    total: u32,
    drawn: bool,
}

impl Progress {
    /// Nothing is known yet.
    pub(crate) fn new() -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            total: 0,
            drawn: false,
        }
    }

    /// So much is left.
    pub(crate) fn left(&mut self, left: u32, words: &str) {
        self.total = self.total.max(left);
        if self.terminal {
            self.drawn = true;
            self.draw(&line(self.total - left, self.total, words));
        }
    }

    fn draw(&self, text: &str) {
        // From the line's start, over what was there.
        let mut error = io::stderr().lock();
        // Nothing can be done about a standard error that is closed.
        let _unwritten = write!(error, "\r\x1b[2K{text}").and_then(|()| error.flush());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn {
            self.draw("");
        }
    }
}

fn line(done: u32, total: u32, words: &str) -> String {
    let filled = (u64::from(done) * u64::from(CELLS))
        .checked_div(u64::from(total))
        .unwrap_or(0);
    let bar: String = (0..u64::from(CELLS))
        .map(|cell| if cell < filled { '#' } else { '.' })
        .collect();
    let words: String = words.chars().take(MAX_WORDS).collect();
    format!("[{bar}] {done}/{total} {words}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_with_what_is_done() {
        assert_eq!(line(0, 0, "x"), "[........................] 0/0 x");
        assert_eq!(line(6, 12, "x"), "[############............] 6/12 x");
        assert_eq!(line(12, 12, "x"), "[########################] 12/12 x");
        assert_eq!(line(1, u32::MAX, "x").find('#'), None);
        let long = line(1, 2, &"é".repeat(100));
        assert!(long.chars().count() <= 80, "{long}");
    }
}
