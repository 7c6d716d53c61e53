//! How sessions ended, and whether they and their operations should have.

use std::collections::HashMap;

use super::{Expectations, Verdict, Violation, Witness};
use crate::history::{Acquired, Action, History, Moment, Released, Session, SessionEnd};

/// When and how each ended session ended. A loss outweighs a close: after it nothing is certain.
pub(super) type Ends = HashMap<Session, (Moment, SessionEnd)>;

pub(super) fn ends(history: &History) -> Ends {
    let mut ends = Ends::new();
    for ended in &history.ended_sessions {
        let new = (ended.at, ended.end);
        let kept = ends.entry(ended.session).or_insert(new);
        if ended.end == SessionEnd::Lost {
            *kept = new;
        }
    }
    ends
}

pub(super) fn check(history: &History, expectations: Expectations, verdict: &mut Verdict) {
    for ended in &history.ended_sessions {
        match ended.end {
            SessionEnd::Closed => continue,
            SessionEnd::Lost => verdict.counts.lost_sessions += 1,
        }
        if expectations.sessions_survive {
            verdict.report(Violation::SessionLost {
                client: ended.client,
                session: ended.session,
                at: ended.at,
            });
        }
    }
    for operation in &history.operations {
        let unanswered = match operation.action {
            Action::Acquire { outcome, .. } => outcome == Acquired::Unanswered,
            Action::Release { outcome, .. } => outcome == Released::Unanswered,
            Action::Validate { .. } | Action::Access { .. } => false,
        };
        if unanswered {
            verdict.report(Violation::Forgotten {
                lock: operation.lock,
                operation: Witness(*operation),
            });
        }
    }
}
