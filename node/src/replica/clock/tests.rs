//! Life is never shortened by elections or pauses, and never endless.

use std::time::Duration;

use lockstep_model::{Millis, SessionId};

use super::{BootTime, KeepAlive, SessionClock, Start};

const TTL: Millis = Millis(8_000);
const A: SessionId = SessionId(1);

fn started(left: Option<Millis>) -> (SessionClock, BootTime) {
    let clock = SessionClock::default();
    let now = BootTime::now();
    clock.start(
        [Start {
            session: A,
            ttl: TTL,
            left,
            revoked: false,
        }]
        .into_iter(),
        now,
    );
    (clock, now)
}

/// What came due: sessions that expired, and what others had left.
#[derive(Debug, Default, PartialEq, Eq)]
struct Due {
    expired: Vec<SessionId>,
    silent: Vec<(SessionId, Millis)>,
}

fn tick(clock: &SessionClock, now: BootTime) -> Due {
    let mut silent = Vec::new();
    let expired = clock.tick(now, |left| silent = left);
    Due { expired, silent }
}

/// Ticks every 200 ms for so long; what came due, with the time in milliseconds.
fn run(clock: &SessionClock, from: BootTime, millis: u64) -> Vec<(u64, Due)> {
    (1..=millis / 200)
        .map(|tick_at| {
            let at = tick_at * 200;
            (at, tick(clock, from + Duration::from_millis(at)))
        })
        .filter(|(_, due)| *due != Due::default())
        .collect()
}

fn keep_alive(clock: &SessionClock, now: BootTime) -> KeepAlive<()> {
    clock.keep_alive(A, now, || ())
}

const REVIVED: KeepAlive<()> = KeepAlive::Revived {
    ttl: TTL,
    proposed: (),
};

#[test]
fn a_silent_session_expires_after_its_ttl_and_is_written_down_before() {
    let (clock, now) = started(None);
    let due = run(&clock, now, 8_000);
    let (at, last) = due.last().unwrap();
    assert_eq!((*at, last.expired.as_slice()), (8_000, &[A][..]));
    let written: Vec<_> = due
        .iter()
        .flat_map(|(_, due)| due.silent.iter().map(|(_, left)| left.0))
        .collect();
    assert_eq!(written, [4_000, 3_000, 2_000, 1_000]);
    let now = now + Duration::from_secs(8);
    assert_eq!(keep_alive(&clock, now), KeepAlive::Gone);
    clock.not_expired(&[A]);
    assert_eq!(keep_alive(&clock, now), REVIVED);
    clock.revived(A, true);
    assert_eq!(keep_alive(&clock, now), KeepAlive::Alive(TTL));
}

/// What takes a checkpoint back is proposed where it was decided, and until the log has it every keep-alive
/// waits for it; what is written down afterwards is not forgotten when it has.
#[test]
fn revivals_and_checkpoints_keep_their_order() {
    let (clock, begin) = started(None);
    run(&clock, begin, 5_000);
    let now = begin + Duration::from_secs(5);
    assert_eq!(keep_alive(&clock, now), REVIVED);
    assert_eq!(keep_alive(&clock, now), REVIVED, "the first is under way");
    clock.revived(A, true);
    assert_eq!(keep_alive(&clock, now), REVIVED, "the second is under way");
    let later = run(&clock, now, 4_000);
    assert_eq!(later.last().unwrap().1.silent, [(A, Millis(4_000))]);
    clock.revived(A, true);
    clock.revived(A, true);
    let now = now + Duration::from_secs(4);
    assert_eq!(keep_alive(&clock, now), REVIVED, "written down since");
    clock.revived(A, false);
    assert_eq!(
        keep_alive(&clock, now),
        REVIVED,
        "nobody knows what it says"
    );
}

#[test]
fn a_new_leader_goes_on_from_what_was_written_down() {
    let (clock, now) = started(Some(Millis(1_000)));
    assert_eq!(run(&clock, now, 1_000).last().unwrap().1.expired, [A]);
}

/// Whatever the TTL, and however often the lead changes.
#[test]
fn a_dead_session_of_an_hour_ends_although_leaders_change() {
    let hour = Millis(3_600_000);
    for reign in [60, 600, 1_800] {
        let mut left = None;
        let mut passed = 0;
        let ended = loop {
            let clock = SessionClock::default();
            let begin = BootTime::now();
            let start = Start {
                session: A,
                ttl: hour,
                left,
                revoked: false,
            };
            clock.start([start].into_iter(), begin);
            let due = run(&clock, begin, reign * 1_000);
            passed += reign;
            if due.iter().any(|(_, due)| due.expired == [A]) {
                break passed;
            }
            let last = due.iter().rev().find_map(|(_, due)| due.silent.last());
            left = last.map(|(_, left)| *left).or(left);
            assert!(passed < 4 * 3_600, "it lives on under leaders of {reign} s");
        };
        assert!(ended >= 3_600, "it ended early under leaders of {reign} s");
    }
}

#[test]
fn time_in_which_the_process_did_not_run_does_not_count() {
    let (clock, now) = started(None);
    let later = now + Duration::from_secs(60);
    assert_eq!(tick(&clock, later), Due::default());
    assert_eq!(run(&clock, later, 8_000).last().unwrap().0, 8_000);
}

/// A revoked session lives until its deadline, under the next leader too.
#[test]
fn a_revoked_session_gets_no_more_time() {
    let (clock, now) = started(None);
    clock.revoke(A);
    assert_eq!(keep_alive(&clock, now), KeepAlive::Gone);
    let due = run(&clock, now, 8_000);
    let (at, last) = due.last().unwrap();
    assert_eq!((*at, last.expired.as_slice()), (8_000, &[A][..]));
    clock.not_expired(&[A]);
    assert_eq!(keep_alive(&clock, now), KeepAlive::Gone);
    let start = Start {
        session: A,
        ttl: TTL,
        left: None,
        revoked: true,
    };
    clock.start([start].into_iter(), now);
    assert_eq!(keep_alive(&clock, now), KeepAlive::Gone);
}

/// A look costs what is due.
#[test]
fn sessions_of_which_nothing_is_due_are_not_looked_at() {
    let clock = SessionClock::default();
    let begin = BootTime::now();
    let start = |session| Start {
        session: SessionId(session),
        ttl: TTL,
        left: None,
        revoked: false,
    };
    clock.start((1..=1_000).map(start), begin);
    for tenth in 1..600 {
        let now = begin + Duration::from_millis(100 * tenth);
        for session in 1..=1_000 {
            clock.keep_alive(SessionId(session), now, || ());
        }
        assert_eq!(tick(&clock, now), Due::default());
        let watch = clock.watch.lock();
        assert_eq!(watch.as_ref().unwrap().agenda.len(), 1_000);
    }
}

#[test]
fn who_does_not_lead_says_so() {
    let (clock, now) = started(None);
    assert!(clock.runs());
    clock.stop();
    assert!(!clock.runs());
    assert_eq!(keep_alive(&clock, now), KeepAlive::NotReady);
}
