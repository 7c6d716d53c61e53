//! Every kind of violation, planted, is found; and what is allowed is not called one.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;
use crate::history::{ClientId, EndedSession, Mode, Moment, Session, SessionEnd, Wait};

const SURVIVE: Expectations = Expectations {
    sessions_survive: true,
};
const MAY_BE_LOST: Expectations = Expectations {
    sessions_survive: false,
};

/// Writes histories by hand: times in seconds, one lock, client n in session n.
#[derive(Default)]
struct Story(History);

impl Story {
    fn tell(&mut self, client: u32, invoked: u64, returned: u64, action: Action) -> &mut Self {
        let seconds = |s: u64| Moment::default().plus(Duration::from_secs(s));
        self.0.operations.push(Operation {
            client: ClientId(client),
            session: Session(client.into()),
            lock: LockId(0),
            invoked: seconds(invoked),
            returned: seconds(returned),
            action,
        });
        self
    }

    fn ask(
        &mut self,
        client: u32,
        invoked: u64,
        returned: u64,
        mode: Mode,
        outcome: Acquired,
    ) -> &mut Self {
        let action = Action::Acquire {
            mode,
            wait: Wait::Forever,
            seen_waiting: None,
            outcome,
        };
        self.tell(client, invoked, returned, action)
    }

    fn grant(&mut self, client: u32, invoked: u64, returned: u64, token: u64) -> &mut Self {
        let outcome = Acquired::Granted(Token(token));
        self.ask(client, invoked, returned, Mode::Exclusive, outcome)
    }

    fn grant_shared(&mut self, client: u32, invoked: u64, returned: u64, token: u64) -> &mut Self {
        let outcome = Acquired::Granted(Token(token));
        self.ask(client, invoked, returned, Mode::Shared, outcome)
    }

    fn queued(
        &mut self,
        client: u32,
        (invoked, seen, returned): (u64, u64, u64),
        wait: Wait,
        outcome: Acquired,
    ) -> &mut Self {
        let action = Action::Acquire {
            mode: Mode::Exclusive,
            wait,
            seen_waiting: Some(Moment::default().plus(Duration::from_secs(seen))),
            outcome,
        };
        self.tell(client, invoked, returned, action)
    }

    fn release(&mut self, client: u32, invoked: u64, returned: u64, token: u64) -> &mut Self {
        self.release_as(client, (invoked, returned), token, Released::Done)
    }

    fn release_as(
        &mut self,
        client: u32,
        (invoked, returned): (u64, u64),
        token: u64,
        outcome: Released,
    ) -> &mut Self {
        let token = Token(token);
        self.tell(
            client,
            invoked,
            returned,
            Action::Release { token, outcome },
        )
    }

    fn validate(&mut self, at: u64, token: u64, valid: bool) -> &mut Self {
        let token = Token(token);
        self.tell(99, at, at, Action::Validate { token, valid })
    }

    fn end(&mut self, client: u32, at: u64, end: SessionEnd) -> &mut Self {
        self.0.ended_sessions.push(EndedSession {
            client: ClientId(client),
            session: Session(client.into()),
            at: Moment::default().plus(Duration::from_secs(at)),
            end,
        });
        self
    }

    fn verdict(&self, expectations: Expectations) -> Verdict {
        Judge::new(expectations).judge(&self.0)
    }

    fn violation(&self, expectations: Expectations) -> Violation {
        let verdict = self.verdict(expectations);
        let found = &verdict.violations;
        assert_eq!(found.len(), 1, "{found:#?}");
        found[0].clone()
    }

    fn is_clean(&self, expectations: Expectations) {
        let verdict = self.verdict(expectations);
        assert!(verdict.is_clean(), "{:#?}", verdict.violations);
    }
}

macro_rules! assert_is {
    ($violation:expr, $kind:ident) => {
        let violation = $violation;
        assert!(
            matches!(violation, Violation::$kind { .. }),
            "not {}: {violation}",
            stringify!($kind)
        );
    };
}

#[test]
fn two_exclusive_holders() {
    let mut story = Story::default();
    story.grant(1, 0, 1, 1).grant(2, 0, 3, 2);
    story.release(1, 4, 5, 1).release(2, 6, 7, 2);
    assert_is!(story.violation(SURVIVE), Overlap);
}

#[test]
fn a_reader_beside_a_writer_either_way() {
    let mut story = Story::default();
    story.grant_shared(1, 0, 1, 1).grant(2, 0, 3, 2);
    story.release(1, 4, 5, 1).release(2, 6, 7, 2);
    assert_is!(story.violation(SURVIVE), Overlap);

    let mut story = Story::default();
    story.grant(1, 0, 1, 1).grant_shared(2, 0, 3, 2);
    story.release(1, 4, 5, 1).release(2, 6, 7, 2);
    assert_is!(story.violation(SURVIVE), Overlap);
}

#[test]
fn a_holder_hidden_behind_a_longer_reader() {
    // The second reader is short; the writer overlaps only the first, which began earlier.
    let mut story = Story::default();
    story.grant_shared(1, 0, 1, 1).grant_shared(2, 1, 2, 2);
    story.release(2, 3, 4, 2).grant(3, 4, 5, 3);
    story.release(3, 6, 7, 3).release(1, 8, 9, 1);
    assert_is!(story.violation(SURVIVE), Overlap);
}

#[test]
fn readers_together_and_hand_overs_are_allowed() {
    let mut story = Story::default();
    story.grant_shared(1, 0, 1, 1).grant_shared(2, 0, 2, 2);
    story.release(1, 3, 6, 1).release(2, 4, 5, 2);
    // Granted while the first release is not answered yet: it was applied in between.
    story.grant(3, 2, 5, 3).release(3, 7, 8, 3);
    story.is_clean(SURVIVE);
}

#[test]
fn a_lost_session_holds_only_what_was_confirmed() {
    let mut story = Story::default();
    story.grant(1, 0, 1, 1).end(1, 20, SessionEnd::Lost);
    story.grant(2, 0, 10, 2).release(2, 11, 12, 2);
    story.is_clean(MAY_BE_LOST);
    assert_is!(story.violation(SURVIVE), SessionLost);

    story.tell(
        1,
        13,
        14,
        Action::Validate {
            token: Token(1),
            valid: true,
        },
    );
    assert_is!(story.violation(MAY_BE_LOST), Overlap);
}

#[test]
fn a_hold_that_is_never_released_lasts() {
    let mut story = Story::default();
    story.grant(1, 0, 1, 1).grant(2, 4, 5, 2);
    assert_is!(story.violation(SURVIVE), Overlap);
    // ... unless its client closed the session first.
    story.end(1, 4, SessionEnd::Closed);
    story.is_clean(SURVIVE);
}

#[test]
fn tokens_that_go_back_or_repeat() {
    let mut story = Story::default();
    story.grant_shared(1, 0, 1, 5).grant_shared(2, 2, 3, 4);
    assert_is!(story.violation(SURVIVE), TokenWentBack);

    let mut story = Story::default();
    story.grant_shared(1, 0, 2, 5).grant_shared(2, 1, 3, 5);
    assert_is!(story.violation(SURVIVE), TokenReused);

    // Readers that asked at one time may be served in any order.
    let mut story = Story::default();
    story.grant_shared(1, 0, 2, 5).grant_shared(2, 1, 3, 4);
    story.is_clean(SURVIVE);
}

#[test]
fn a_waiting_holder_with_too_low_a_token() {
    // The second asked before the first was answered, yet it held after it.
    let mut story = Story::default();
    story.grant(1, 0, 1, 5).release(1, 2, 3, 5);
    story.grant(2, 0, 4, 4).release(2, 5, 6, 4);
    assert_is!(story.violation(SURVIVE), TokenWentBack);
}

#[test]
fn tokens_of_an_earlier_round() {
    let mut judge = Judge::new(SURVIVE);
    let mut first = Story::default();
    first.grant(1, 0, 1, 7).release(1, 2, 3, 7);
    assert!(judge.judge(&first.0).is_clean());
    let mut second = Story::default();
    second.grant(1, 4, 5, 7).release(1, 6, 7, 7);
    let verdict = judge.judge(&second.0);
    assert_is!(verdict.violations[0].clone(), TokenBelowFloor);
}

#[test]
fn an_overtaken_waiter() {
    let mut story = Story::default();
    story.queued(1, (0, 2, 10), Wait::Forever, Acquired::Granted(Token(9)));
    story.grant(2, 3, 5, 8).release(2, 6, 7, 8);
    assert_is!(story.violation(SURVIVE), Overtaken);

    // One that had asked before the waiter was seen may be before it in the queue.
    let mut story = Story::default();
    story.queued(1, (0, 2, 10), Wait::Forever, Acquired::Granted(Token(9)));
    story.grant(2, 1, 5, 8).release(2, 6, 7, 8);
    story.is_clean(SURVIVE);
}

#[test]
fn a_waiter_that_was_passed_by_until_its_time_was_over() {
    let wait = Wait::AtMost(Duration::from_secs(9));
    let mut story = Story::default();
    story.queued(1, (0, 2, 10), wait, Acquired::TimedOut);
    story.grant(2, 3, 5, 8);
    assert_is!(story.violation(SURVIVE), Overtaken);

    // Served when the wait may have been over already.
    let mut story = Story::default();
    story.queued(1, (0, 2, 10), wait, Acquired::TimedOut);
    story.grant(2, 3, 9, 8);
    story.is_clean(SURVIVE);
}

#[test]
fn a_grant_undone() {
    let mut story = Story::default();
    story.grant(1, 0, 1, 1).validate(2, 1, false);
    assert_is!(story.violation(SURVIVE), GrantUndone);

    let mut story = Story::default();
    story.grant(1, 0, 1, 1);
    story.release_as(1, (2, 3), 1, Released::Stale);
    assert_is!(story.violation(SURVIVE), GrantUndone);
    // ... which is how a client may learn that its session is lost.
    story.end(1, 4, SessionEnd::Lost);
    story.is_clean(MAY_BE_LOST);
}

#[test]
fn a_release_undone() {
    let mut story = Story::default();
    story.grant(1, 0, 1, 1).release(1, 2, 3, 1);
    story.validate(3, 1, true);
    story.is_clean(SURVIVE);
    story.validate(4, 1, true);
    assert_is!(story.violation(SURVIVE), ReleaseUndone);
}

#[test]
fn a_holder_refused_by_the_resource() {
    let refused = Action::Access {
        token: Token(1),
        accepted: false,
    };
    let mut story = Story::default();
    story.grant(1, 0, 1, 1).tell(1, 2, 2, refused);
    story.release(1, 3, 4, 1);
    assert_is!(story.violation(SURVIVE), HolderRefused);

    let mut story = Story::default();
    story.grant(1, 0, 1, 1).tell(1, 2, 3, refused);
    story.end(1, 4, SessionEnd::Lost);
    story.is_clean(MAY_BE_LOST);
    // ... but nobody else may have held it when the client was still sure.
    story.grant_shared(2, 0, 1, 2).release(2, 3, 4, 2);
    assert_is!(story.violation(MAY_BE_LOST), Overlap);
}

#[test]
fn an_operation_that_was_never_answered() {
    let mut story = Story::default();
    story.ask(1, 0, 60, Mode::Exclusive, Acquired::Unanswered);
    assert_is!(story.violation(SURVIVE), Forgotten);
}

#[test]
fn honest_histories_are_clean() {
    for seed in 0..50 {
        let history = honest::history(seed, 12, 3, 2_000);
        let verdict = Judge::new(SURVIVE).judge(&history);
        assert!(verdict.is_clean(), "seed {seed}: {}", verdict.violations[0]);
        assert!(verdict.counts.grants > 300, "{:?}", verdict.counts);
        let seen = history.operations.iter().filter(|operation| {
            matches!(
                operation.action,
                Action::Acquire {
                    seen_waiting: Some(_),
                    ..
                }
            )
        });
        assert!(seen.count() > 50);
    }
}

fn token_of(action: &mut Action) -> Option<&mut Token> {
    match action {
        Action::Acquire {
            outcome: Acquired::Granted(token),
            ..
        }
        | Action::Release { token, .. }
        | Action::Validate { token, .. }
        | Action::Access { token, .. } => Some(token),
        Action::Acquire { .. } => None,
    }
}

/// An honest history in which one exclusive grant has an earlier token must not be found clean.
#[test]
fn one_changed_grant_in_an_honest_history_is_found() {
    for seed in 0..200 {
        let mut history = honest::history(seed, 8, 1, 400);
        let mut rng = StdRng::seed_from_u64(seed);
        let mut granted = history.operations.iter_mut().filter_map(|operation| {
            let exclusive = matches!(
                operation.action,
                Action::Acquire {
                    mode: Mode::Exclusive,
                    ..
                }
            );
            let is_grant = matches!(operation.action, Action::Acquire { .. });
            let token = token_of(&mut operation.action)?;
            (is_grant && exclusive).then_some(*token)
        });
        let victim = granted.nth(rng.random_range(1..30)).unwrap();
        let stolen = Token(rng.random_range(0..victim.0));
        let tokens = history.operations.iter_mut();
        tokens
            .filter_map(|operation| token_of(&mut operation.action))
            .filter(|token| **token == victim)
            .for_each(|token| *token = stolen);
        let verdict = Judge::new(SURVIVE).judge(&history);
        assert!(
            !verdict.is_clean(),
            "seed {seed}: token {victim:?} as {stolen:?} was not noticed"
        );
    }
}

#[test]
fn a_million_operations_are_judged_in_seconds() {
    let history = honest::history(1, 64, 64, 1_000_000);
    assert!(history.operations.len() >= 1_000_000);
    let begin = Instant::now();
    let verdict = Judge::new(SURVIVE).judge(&history);
    let took = begin.elapsed();
    assert!(verdict.is_clean(), "{}", verdict.violations[0]);
    // About half a second on one core of a small machine.
    assert!(took < Duration::from_secs(10), "took {took:?}");
}

#[test]
fn rounds_add_up_and_details_are_bounded() {
    let mut verdict = Verdict::default();
    for _ in 0..3 {
        let mut round = Verdict::default();
        round.counts.grants = 2;
        for _ in 0..MAX_KEPT_VIOLATIONS {
            round.report(Violation::Unmet {
                what: String::new(),
            });
        }
        verdict.merge(round);
    }
    assert_eq!(verdict.counts.grants, 6);
    assert_eq!(verdict.violations.len(), MAX_KEPT_VIOLATIONS);
    assert_eq!(verdict.violation_count, 300);
}
