//! What is to be done to a command, and when.
//!
//! Invariant: it is told to end before its lease ends, and killed when that ends at the latest. There is
//! no clock here: time is an argument.

use super::order::{GRACE, Lease};
use crate::boot_time::BootTime;

/// Where a command stands.
#[derive(Debug)]
pub(super) struct Course {
    lease: Lease,
    state: State,
    /// True if it was ended for its lease.
    for_loss: bool,
}

#[derive(Debug)]
enum State {
    Running,
    Ending { kill_at: BootTime },
    Killing,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Wait,
    /// Tell it to end.
    Terminate,
    /// End it.
    Kill,
}

impl Course {
    pub(super) const fn new(lease: Lease) -> Self {
        Self {
            lease,
            state: State::Running,
            for_loss: false,
        }
    }

    /// The lease is confirmed for longer. What has been told to end ends all the same.
    pub(super) fn renewed(&mut self, lease: Lease) {
        if lease.end > self.lease.end {
            self.lease = lease;
        }
    }

    /// The lease is lost, as far as the holder was told.
    pub(super) fn lost(&mut self, now: BootTime) -> Step {
        let step = self.end(now);
        self.for_loss |= step != Step::Wait;
        step
    }

    /// Nobody keeps the lease any longer.
    pub(super) const fn abandoned(&mut self) -> Step {
        self.state = State::Killing;
        Step::Kill
    }

    /// The command has ended: so shall what it has left.
    pub(super) fn command_ended(&mut self, now: BootTime) -> Step {
        self.end(now)
    }

    /// What is due.
    pub(super) fn due(&mut self, now: BootTime) -> Step {
        match self.state {
            State::Running if now >= self.lease.warn => self.lost(now),
            State::Ending { kill_at } if now >= kill_at => self.abandoned(),
            State::Running | State::Ending { .. } | State::Killing => Step::Wait,
        }
    }

    /// When to look at the clock again.
    pub(super) const fn next(&self) -> BootTime {
        match self.state {
            State::Running => self.lease.warn,
            State::Ending { kill_at } => kill_at,
            State::Killing => self.lease.end,
        }
    }

    /// True if it is running and nobody wants it to end.
    pub(super) const fn is_running(&self) -> bool {
        matches!(self.state, State::Running)
    }

    /// True once it is to be killed.
    pub(super) const fn is_killing(&self) -> bool {
        matches!(self.state, State::Killing)
    }

    /// True if it was ended for its lease.
    pub(super) const fn for_loss(&self) -> bool {
        self.for_loss
    }

    fn end(&mut self, now: BootTime) -> Step {
        match self.state {
            State::Running if now >= self.lease.end => self.abandoned(),
            State::Running => {
                let kill_at = now.after(GRACE).min(self.lease.end);
                self.state = State::Ending { kill_at };
                Step::Terminate
            }
            State::Ending { .. } | State::Killing => Step::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TTL: Duration = Duration::from_secs(8);

    fn at(seconds: u64) -> BootTime {
        // Not at the start: earlier must not be the same.
        let start = BootTime::now().unwrap().before(Duration::from_secs(1));
        let start = START.get_or_init(|| start);
        start.after(Duration::from_secs(seconds))
    }

    static START: std::sync::OnceLock<BootTime> = std::sync::OnceLock::new();

    fn lease(from: u64) -> Lease {
        Lease::new(at(from), TTL, TTL)
    }

    #[test]
    fn it_is_told_to_end_before_its_lease_ends_and_killed_when_that_ends() {
        let mut course = Course::new(lease(0));
        assert_eq!(course.due(at(5)), Step::Wait);
        assert_eq!(course.next(), at(6));
        assert_eq!(course.due(at(6)), Step::Terminate);
        assert!(course.for_loss());
        assert_eq!(course.due(at(7)), Step::Wait);
        assert_eq!(course.next(), at(8));
        assert_eq!(course.due(at(8)), Step::Kill);
        assert_eq!(course.due(at(9)), Step::Wait);
    }

    #[test]
    fn a_confirmed_lease_runs_on_and_a_late_message_shortens_none() {
        let mut course = Course::new(lease(0));
        course.renewed(lease(5));
        course.renewed(lease(2));
        assert_eq!(course.next(), at(11));
        assert_eq!(course.due(at(10)), Step::Wait);
        assert_eq!(course.due(at(11)), Step::Terminate);
        // Too late: it is ending.
        course.renewed(lease(11));
        assert_eq!(course.due(at(13)), Step::Kill);
    }

    #[test]
    fn what_is_lost_early_has_the_grace_and_no_more_than_the_lease() {
        let mut course = Course::new(lease(0));
        assert_eq!(course.lost(at(1)), Step::Terminate);
        assert_eq!(course.lost(at(2)), Step::Wait);
        assert_eq!(course.next(), at(6));
        let mut course = Course::new(lease(0));
        assert_eq!(course.lost(at(5)), Step::Terminate);
        assert_eq!(course.next(), at(8));
        // After a sleep of the machine.
        let mut course = Course::new(lease(0));
        assert_eq!(course.due(at(100)), Step::Kill);
        assert!(course.for_loss());
    }

    #[test]
    fn what_a_command_leaves_is_ended_and_that_is_no_loss() {
        let mut course = Course::new(lease(0));
        assert_eq!(course.command_ended(at(1)), Step::Terminate);
        assert_eq!(course.due(at(6)), Step::Kill);
        assert!(!course.for_loss() && course.is_killing());
        assert_eq!(Course::new(lease(0)).abandoned(), Step::Kill);
    }
}
