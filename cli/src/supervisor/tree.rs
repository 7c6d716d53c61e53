//! A command and all that it has started.
//!
//! Invariant: this process is the one that orphans below it are given to (a *subreaper*), and nobody
//! else waits for its children; so while it has a child something of the command is left, and the id
//! of a child stays that child's until it was waited for here.

use std::{collections::BTreeSet, fs, io};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use rustix::process::{WaitOptions, WaitStatus};

use super::order::Ended;

/// What runs below this process.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The command, and its process group; none if there is none any more.
    command: Option<Pid>,
    ended: Option<Ended>,
    /// Who was told to end.
    told: BTreeSet<Pid>,
}

impl Tree {
    /// Orphans below this process become its children from now on.
    pub(crate) fn adopt_orphans() -> io::Result<()> {
        Ok(nix::sys::prctl::set_child_subreaper(true)?)
    }

    /// A command that was just started, as the leader of a process group.
    pub(crate) const fn of(command: Pid) -> Self {
        Self {
            command: Some(command),
            ended: None,
            told: BTreeSet::new(),
        }
    }

    /// What is left below this process of a command that others had started.
    pub(crate) const fn remains() -> Self {
        Self {
            command: None,
            ended: None,
            told: BTreeSet::new(),
        }
    }

    /// How the command ended, if it has.
    pub(crate) const fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// Waits for all that have ended, without blocking. True if there are others.
    pub(crate) fn reap(&mut self) -> bool {
        loop {
            // nix cannot tell who was ended by a real-time signal.
            match rustix::process::wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                Ok(Some((pid, status))) => {
                    self.changed(Pid::from_raw(pid.as_raw_nonzero().get()), status);
                }
                Ok(None) => return true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    fn changed(&mut self, pid: Pid, status: WaitStatus) {
        if let Some(signal) = status.stopping_signal() {
            // Ctrl-Z. Nobody would be there to continue it, and it would keep the lock.
            if self.command == Some(pid) && signal == Signal::SIGTSTP as i32 {
                self.group(Signal::SIGCONT);
            }
            return;
        }
        self.told.remove(&pid);
        if self.command == Some(pid) {
            // From now on the id may come to be somebody else's.
            self.command = None;
            self.ended = Some(how(status));
        }
    }

    /// Sends a signal to the command's process group, while the command runs.
    pub(crate) fn group(&self, signal: Signal) {
        if let Some(command) = self.command {
            let _ended_already = killpg(command, signal);
        }
    }

    /// Tells the command's group to end, or, after the command, each that it has left.
    pub(crate) fn terminate(&mut self) {
        if self.command.is_some() {
            self.group(Signal::SIGTERM);
            self.group(Signal::SIGCONT);
            return;
        }
        for child in children() {
            if self.told.insert(child) {
                let _ended_already = kill(child, Signal::SIGTERM);
                let _ended_already = kill(child, Signal::SIGCONT);
            }
        }
    }

    /// Kills the command's group and all children. Theirs become children then: to be repeated.
    pub(crate) fn kill(&self) {
        self.group(Signal::SIGKILL);
        for child in children() {
            let _ended_already = kill(child, Signal::SIGKILL);
        }
    }
}

/// The present children of this process; none where the system does not tell.
pub(crate) fn children() -> Vec<Pid> {
    let own = std::process::id();
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbers = processes
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_child = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| parent(&stat) == Some(own))
    };
    numbers.filter(is_child).map(Pid::from_raw).collect()
}

/// The parent's id in `/proc/PID/stat`: the second field after the name, which may have anything
/// in it but ends at the last bracket. See proc(5).
fn parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

fn how(status: WaitStatus) -> Ended {
    let number = |number: Option<i32>| number.and_then(|number| u8::try_from(number).ok());
    match (
        number(status.exit_status()),
        number(status.terminating_signal()),
    ) {
        (Some(code), _) => Ended::Exited(code),
        (None, Some(signal)) => Ended::Killed(signal),
        // Neither happens: a process that is over has one or the other.
        (None, None) => Ended::Exited(u8::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_read_whatever_a_process_is_called() {
        assert_eq!(parent("12 (sh) S 7 12 12 0"), Some(7));
        assert_eq!(parent("12 (a) S 1 (b\nc) R 34 12 12 0"), Some(34));
        assert_eq!(parent("12"), None);
    }
}
