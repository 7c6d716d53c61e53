//! The terminal that a command may read from.
//!
//! Invariant: whoever gave it away takes it back: a shell would otherwise find it without a
//! foreground. Signals are blocked here: one in the background would be stopped for either.

use std::{io::IsTerminal as _, os::fd::OwnedFd};

use nix::unistd::{Pid, tcgetpgrp, tcsetpgrp};

/// A terminal that was given to a command's process group.
#[derive(Debug)]
pub(super) struct Terminal {
    input: OwnedFd,
    holder: Pid,
}

impl Terminal {
    /// Gives the terminal to a group, if there is one and it is the holder's to give.
    pub(super) fn give_to(group: Pid, holder: Pid, input: OwnedFd) -> Option<Self> {
        if !input.is_terminal() || tcgetpgrp(&input) != Ok(holder) {
            return None;
        }
        tcsetpgrp(&input, group).ok()?;
        Some(Self { input, holder })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _terminal_is_gone = tcsetpgrp(&self.input, self.holder);
    }
}
