//! What is given back, or given up, is told until the cluster has answered.

use super::*;

#[test]
fn an_abandoned_acquisition_is_undone_until_every_shard_has_confirmed() {
    let mut rig = Rig::new(1);
    let (serial, mut answer) = rig.submit(acquire(), None);
    rig.sent();
    rig.core.abandon(serial, &mut answer, rig.now);
    let abandoned = vec![(serial, vec!["a".to_owned()])];
    assert_eq!(abandons(&rig.sent()), abandoned, "at once");
    // A shard has no leader: what it is asked again, and nothing else.
    rig.abandoned(serial, Some("NO_LEADER"));
    rig.pass(MAX_RETRY_PAUSE);
    let sent = rig.sent();
    assert_eq!(
        (abandons(&sent), operations(&sent)),
        (abandoned.clone(), vec![])
    );
    // The operation itself may be answered by then; that says nothing any more, and nothing is
    // released twice.
    rig.answer(serial, granted(5));
    rig.answer(serial, refused(tonic::Code::Unavailable, "NO_LEADER", 0));
    assert_eq!(releases(&rig.sent()), [] as [u64; 0]);
    let link = rig.latest().id;
    rig.core.link_ended(link, None, rig.now);
    rig.pass(MAX_RETRY_PAUSE);
    assert_eq!(abandons(&rig.sent()), abandoned, "on the next stream too");
    rig.abandoned(serial, None);
    rig.pass(MAX_RETRY_PAUSE);
    assert_eq!(abandons(&rig.sent()), []);
    // From now on it is acknowledged.
    rig.submit(acquire(), None);
    assert_eq!(operations(&rig.sent()), [(serial + 1, serial + 1)]);

    // The grant is in the caller's hands, who goes without having looked at it.
    let (serial, mut answer) = rig.submit(acquire(), None);
    rig.sent();
    rig.answer(serial, granted(6));
    rig.core.abandon(serial, &mut answer, rig.now);
    assert_eq!(releases(&rig.sent()), [6]);
}

#[test]
fn a_guard_that_goes_during_a_change_of_mode_releases_what_it_became() {
    let upgrade = || {
        Work::Upgrade(UpgradeOperation {
            name: "a".to_owned(),
            token: 3,
            wait: None,
        })
    };
    let hold = Hold {
        name: LockName::new("a").unwrap(),
        token: FencingToken(3),
    };
    let aborted = refused(tonic::Code::Aborted, "CANCELLED", 0);
    let downgraded = Answer::Downgraded(Downgraded { token: 4 });
    for (change, token) in [(granted(8), 8), (aborted, 3), (downgraded, 4)] {
        let mut rig = Rig::new(1);
        let (serial, mut answer) = rig.submit(upgrade(), None);
        rig.core
            .release_after(serial, &mut answer, hold.clone(), rig.now);
        assert_eq!(cancels(&rig.sent()), [serial]);
        rig.answer(serial, change);
        assert_eq!(releases(&rig.sent()), [token]);
    }
}

#[test]
fn an_unacknowledged_release_goes_on_until_it_is_answered() {
    let mut rig = Rig::new(2);
    let hold = Hold {
        name: LockName::new("a").unwrap(),
        token: FencingToken(3),
    };
    rig.core.release_hold(hold, rig.now);
    for _ in 0..5 {
        assert_eq!(releases(&rig.sent()), [3]);
        let link = rig.latest().id;
        rig.core.link_ended(link, None, rig.now);
        rig.pass(MAX_RETRY_PAUSE);
    }
    let sent = rig.sent();
    assert_eq!(operations(&sent), [(1, 1)]);
    rig.answer(1, Answer::Released(Released { holds: 0 }));
    let link = rig.latest().id;
    rig.core.link_ended(link, None, rig.now);
    rig.pass(MAX_RETRY_PAUSE);
    assert_eq!(releases(&rig.sent()), [] as [u64; 0]);
}

#[test]
fn releases_wait_for_room_and_go_before_anything_new() {
    let mut rig = Rig::new(1);
    let hold = |token| Hold {
        name: LockName::new("a").unwrap(),
        token: FencingToken(token),
    };
    let many: Vec<_> = (0..MAX_IN_FLIGHT)
        .map(|_| rig.submit(acquire(), None))
        .collect();
    rig.sent();
    rig.core.release_hold(hold(1), rig.now);
    rig.core.release_hold(hold(2), rig.now);
    assert_eq!(releases(&rig.sent()), [] as [u64; 0], "the bound is kept");
    for (serial, _) in many.iter().take(3) {
        rig.answer(*serial, refused(tonic::Code::Aborted, "WAIT_TIMEOUT", 0));
    }
    assert_eq!(releases(&rig.sent()), [1, 2]);
    assert_eq!(rig.core.permits.available_permits(), 1);
}
