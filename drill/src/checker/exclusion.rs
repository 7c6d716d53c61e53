//! An exclusive hold overlaps no other hold, and conflicting holds, which therefore have an order
//! in time, have tokens in the same order.
//!
//! Why the order is certain: of two conflicting holds that do not overlap, the one whose certain
//! span begins first was granted first; had it been granted second, the other would have been
//! released before, yet that one's release was asked for only after its own span began.

use super::{Hold, LockCase, Verdict, Violation, tokens::higher};
use crate::history::Mode;

/// What the sweep remembers of the holds that began earlier: one whose span ends last and one whose
/// token is highest. A client's own holds never overlap: it does one thing at a time.
#[derive(Clone, Copy, Default)]
struct Earlier<'a> {
    longest: Option<&'a Hold>,
    highest: Option<&'a Hold>,
}

impl<'a> Earlier<'a> {
    fn add(&mut self, hold: &'a Hold) {
        let longer = |best: &'a Hold| if hold.until > best.until { hold } else { best };
        self.longest = Some(self.longest.map_or(hold, longer));
        self.highest = Some(self.highest.map_or(hold, |best| higher(best, hold)));
    }
}

pub(super) fn check(case: &LockCase<'_>, verdict: &mut Verdict) {
    let lock = case.lock;
    let mut all = Earlier::default();
    let mut exclusive = Earlier::default();
    for hold in case.holds.iter().filter(|hold| hold.from < hold.until) {
        let conflicting = match hold.mode {
            Mode::Exclusive => all,
            Mode::Shared => exclusive,
        };
        let overlapping = conflicting
            .longest
            .filter(|first| first.until > hold.from && first.session != hold.session);
        let ahead = conflicting
            .highest
            .filter(|earlier| earlier.token > hold.token);
        if let Some(first) = overlapping {
            verdict.report(Violation::Overlap {
                lock,
                at: hold.from,
                first: *first,
                second: *hold,
            });
        } else if let Some(earlier) = ahead {
            verdict.report(Violation::TokenWentBack {
                lock,
                earlier: *earlier,
                later: *hold,
            });
        }
        all.add(hold);
        match hold.mode {
            Mode::Exclusive => exclusive.add(hold),
            Mode::Shared => {}
        }
    }
}
