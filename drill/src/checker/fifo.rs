//! First in, first out: who was seen in a lock's queue before another asked is served before it.

use super::{LockCase, Verdict, Violation, Witness};
use crate::history::{Acquired, Action, Moment, Operation, Token, Wait};

/// An acquisition that was seen in the queue.
#[derive(Clone, Copy)]
struct Waiting<'a> {
    operation: &'a Operation,
    seen: Moment,
    /// When it was granted, in the order of tokens; the highest if it never was.
    token: Token,
    /// Up to when it was certainly in the queue, unless it was granted.
    until: Moment,
}

impl<'a> Waiting<'a> {
    fn of(operation: &'a Operation) -> Option<Self> {
        let Action::Acquire {
            seen_waiting: Some(seen),
            wait,
            outcome,
            ..
        } = operation.action
        else {
            return None;
        };
        let (token, until) = match (outcome, wait) {
            (Acquired::Granted(token), _) => (token, operation.returned),
            // The server's clock for it began after it was asked for.
            (Acquired::TimedOut, Wait::AtMost(limit)) => {
                (Token(u64::MAX), operation.invoked.plus(limit))
            }
            (Acquired::TimedOut, Wait::Try | Wait::Forever) => (Token(u64::MAX), seen),
            // When these left the queue is not known.
            (
                Acquired::Unavailable
                | Acquired::Refused
                | Acquired::SessionGone
                | Acquired::Unknown
                | Acquired::Unanswered,
                _,
            ) => return None,
        };
        Some(Self {
            operation,
            seen,
            token,
            until,
        })
    }
}

pub(super) fn check(case: &LockCase<'_>, verdict: &mut Verdict) {
    let acquisitions = case.operations.iter().copied();
    let mut waiting: Vec<Waiting<'_>> = acquisitions.filter_map(Waiting::of).collect();
    waiting.sort_by_key(|waiting| waiting.seen);
    let mut seen = waiting.iter().peekable();
    // Of those seen so far: the one served last, and the one that certainly waited longest.
    let mut last_served: Option<&Waiting<'_>> = None;
    let mut never_served: Option<&Waiting<'_>> = None;
    for served in &case.operations {
        let Action::Acquire { outcome, .. } = served.action else {
            continue;
        };
        let Acquired::Granted(token) = outcome else {
            continue;
        };
        while let Some(next) = seen.next_if(|waiting| waiting.seen < served.invoked) {
            let (slot, later) = if next.token == Token(u64::MAX) {
                let later = never_served.is_none_or(|best| next.until > best.until);
                (&mut never_served, later)
            } else {
                let later = last_served.is_none_or(|best| next.token > best.token);
                (&mut last_served, later)
            };
            if later {
                *slot = Some(next);
            }
        }
        let overtaken = last_served.filter(|waiting| waiting.token > token);
        let passed_by = never_served.filter(|waiting| waiting.until > served.returned);
        for waiting in overtaken.into_iter().chain(passed_by) {
            verdict.report(Violation::Overtaken {
                lock: case.lock,
                waiting: Witness(*waiting.operation),
                served: Witness(**served),
            });
        }
    }
}
