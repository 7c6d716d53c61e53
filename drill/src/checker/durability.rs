//! What was acknowledged stays: a grant until its release or its session's end, a release for ever.

use std::collections::HashMap;

use super::{Hold, LockCase, Verdict, Violation, Witness, sessions::Ends};
use crate::history::{Action, Moment, Operation, Released, SessionEnd, Token};

pub(super) fn check(case: &LockCase<'_>, ends: &Ends, verdict: &mut Verdict) {
    let holds: HashMap<Token, &Hold> = case.holds.iter().map(|hold| (hold.token, hold)).collect();
    let sound = |hold: &Hold| {
        ends.get(&hold.session)
            .is_none_or(|(_, end)| *end != SessionEnd::Lost)
    };
    for operation in &case.operations {
        let Some(hold) = token_of(operation).and_then(|token| holds.get(&token)) else {
            continue;
        };
        let found = match operation.action {
            Action::Acquire { .. } => None,
            Action::Release { outcome, .. } => match outcome {
                Released::Stale if sound(hold) => Some(Found::GrantUndone),
                Released::Stale
                | Released::Done
                | Released::Refused
                | Released::SessionGone
                | Released::Unknown
                | Released::Unanswered => None,
            },
            Action::Validate { valid: false, .. } => {
                within(hold, operation).then_some(Found::GrantUndone)
            }
            Action::Validate { valid: true, .. } => {
                let released = hold.released.unwrap_or(Moment::NEVER);
                (operation.invoked > released).then_some(Found::ReleaseUndone)
            }
            Action::Access { accepted, .. } => {
                (!accepted && within(hold, operation)).then_some(Found::HolderRefused)
            }
        };
        if let Some(found) = found {
            verdict.report(found.violation(case, hold, operation));
        }
    }
}

enum Found {
    GrantUndone,
    ReleaseUndone,
    HolderRefused,
}

impl Found {
    fn violation(self, case: &LockCase<'_>, hold: &Hold, operation: &Operation) -> Violation {
        let (lock, hold, seen) = (case.lock, *hold, Witness(*operation));
        match self {
            Self::GrantUndone => Violation::GrantUndone { lock, hold, seen },
            Self::ReleaseUndone => Violation::ReleaseUndone { lock, hold, seen },
            Self::HolderRefused => Violation::HolderRefused {
                lock,
                hold,
                access: seen,
            },
        }
    }
}

const fn token_of(operation: &Operation) -> Option<Token> {
    match operation.action {
        Action::Acquire { .. } => None,
        Action::Release { token, .. }
        | Action::Validate { token, .. }
        | Action::Access { token, .. } => Some(token),
    }
}

/// Whether all of the operation lies in the span in which the hold was certainly in force.
fn within(hold: &Hold, operation: &Operation) -> bool {
    operation.invoked >= hold.from && operation.returned <= hold.until
}
