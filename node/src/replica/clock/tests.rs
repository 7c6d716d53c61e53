//! Life is never shortened by elections or pauses, and never endless.

use std::time::{Duration, Instant};

use lockstep_model::{Millis, SessionId};

use super::{Due, KeepAlive, SessionClock, Start};

const TTL: Millis = Millis(8_000);
const A: SessionId = SessionId(1);

fn started(left: Option<Millis>) -> (SessionClock, Instant) {
    let clock = SessionClock::default();
    let now = Instant::now();
    clock.start(
        [Start {
            session: A,
            ttl: TTL,
            left,
        }]
        .into_iter(),
        now,
    );
    (clock, now)
}

/// Ticks every 200 ms for so long; what came due, with the time in milliseconds.
fn run(clock: &SessionClock, from: Instant, millis: u64) -> Vec<(u64, Due)> {
    (1..=millis / 200)
        .map(|tick| {
            (
                tick * 200,
                clock.tick(from + Duration::from_millis(tick * 200)),
            )
        })
        .filter(|(_, due)| *due != Due::default())
        .collect()
}

#[test]
fn a_silent_session_expires_after_its_ttl_and_is_written_down_before() {
    let (clock, now) = started(None);
    let due = run(&clock, now, 8_000);
    let (at, last) = due.last().unwrap();
    assert_eq!((*at, last.expired.as_slice()), (8_000, &[A][..]));
    let written: Vec<_> = due
        .iter()
        .flat_map(|(_, due)| due.checkpoint.iter().map(|(_, left)| left.0))
        .collect();
    assert_eq!(written, [3_800, 2_800, 1_800, 800]);
    assert_eq!(clock.keep_alive(A), KeepAlive::Gone);
    clock.not_expired(&[A]);
    assert_eq!(clock.keep_alive(A), KeepAlive::Revived(TTL));
    clock.revived(A);
    assert_eq!(clock.keep_alive(A), KeepAlive::Alive(TTL));
}

#[test]
fn a_new_leader_goes_on_from_what_was_written_down() {
    let (clock, now) = started(Some(Millis(1_000)));
    assert_eq!(run(&clock, now, 1_000).last().unwrap().1.expired, [A]);
}

#[test]
fn time_in_which_the_process_did_not_run_does_not_count() {
    let (clock, now) = started(None);
    assert_eq!(clock.tick(now + Duration::from_secs(60)), Due::default());
    let later = now + Duration::from_secs(60);
    assert_eq!(run(&clock, later, 8_000).last().unwrap().0, 8_000);
}

#[test]
fn who_does_not_lead_says_so() {
    let (clock, _) = started(None);
    clock.stop();
    assert_eq!(clock.keep_alive(A), KeepAlive::NotReady);
}
