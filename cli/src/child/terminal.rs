//! The terminal that a command may read from.
//!
//! Invariant: whoever gave it away takes it back: a shell would otherwise find it without a
//! foreground.

use std::io::{self, IsTerminal as _};

use nix::{
    sys::signal::{SigSet, Signal},
    unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp},
};

/// Standard input's terminal, given to another process group.
#[derive(Debug)]
pub(super) struct Terminal {
    own: Pid,
}

impl Terminal {
    /// Gives the terminal to a group, if there is one and it is this program's to give.
    pub(super) fn give_to(group: Pid) -> Option<Self> {
        let input = io::stdin();
        let own = getpgrp();
        if !input.is_terminal() || tcgetpgrp(&input) != Ok(own) {
            return None;
        }
        tcsetpgrp(&input, group).ok()?;
        Some(Self { own })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // In the background now, this program would be stopped for it.
        let mut stops = SigSet::empty();
        stops.add(Signal::SIGTTOU);
        let blocked = stops.thread_block();
        let _terminal_is_gone = tcsetpgrp(io::stdin(), self.own);
        if blocked.is_ok() {
            let _same_call_worked = stops.thread_unblock();
        }
    }
}
