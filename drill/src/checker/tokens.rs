//! Fencing tokens only grow, in the order in which grants certainly happened.

use std::collections::HashMap;

use super::{Hold, LockCase, Verdict, Violation};
use crate::history::Token;

/// `floor` is the highest token of earlier rounds.
pub(super) fn check(case: &LockCase<'_>, floor: Token, verdict: &mut Verdict) {
    let lock = case.lock;
    let mut seen: HashMap<Token, &Hold> = HashMap::new();
    for hold in &case.holds {
        if hold.token <= floor {
            verdict.report(Violation::TokenBelowFloor {
                lock,
                floor,
                later: *hold,
            });
        }
        let first = seen.insert(hold.token, hold);
        // One owner that takes a lock again keeps its token.
        if let Some(first) = first.filter(|first| first.session != hold.session) {
            verdict.report(Violation::TokenReused {
                lock,
                first: *first,
                second: *hold,
            });
        }
    }
    // A grant that was answered before another was asked for happened before it.
    let mut asked: Vec<&Hold> = case.holds.iter().collect();
    asked.sort_by_key(|hold| hold.invoked);
    let mut answered = case.holds.iter().peekable();
    let mut highest: Option<&Hold> = None;
    for later in asked {
        while let Some(hold) = answered.next_if(|hold| hold.from < later.invoked) {
            highest = Some(highest.map_or(hold, |best| higher(best, hold)));
        }
        if let Some(earlier) = highest.filter(|earlier| earlier.token > later.token) {
            verdict.report(Violation::TokenWentBack {
                lock,
                earlier: *earlier,
                later: *later,
            });
        }
    }
}

pub(super) fn higher<'a>(one: &'a Hold, other: &'a Hold) -> &'a Hold {
    if other.token > one.token { other } else { one }
}
