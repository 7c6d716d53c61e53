//! Semaphores, barriers, elections and deadlocks, against a cluster in memory, over real sockets.

#![expect(clippy::unwrap_used, reason = "a test ends there")]

use std::time::Duration;

use lockstep_client::{
    AcquireError, Mode, ProclaimError, Session, SessionOptions, UpgradeError, Wait,
    fake::{FakeCluster, Fault},
};
use tokio::time::timeout;
use tonic::Code;

async fn session(fake: &FakeCluster) -> Session {
    let client = fake.client().await.unwrap();
    client
        .open_session(SessionOptions::default())
        .await
        .unwrap()
}

#[tokio::test]
async fn permits_are_taken_and_given_back() {
    let fake = FakeCluster::start(1).await;
    let client = fake.client().await.unwrap();
    let session = client
        .open_session(SessionOptions::default())
        .await
        .unwrap();
    let pool = |permits| session.semaphore("pool", 3).permits(permits);
    let mut two = pool(2).acquire().await.unwrap();
    assert_eq!((two.name(), two.permits()), ("pool", 2));
    two.renew().await.unwrap();
    assert!(client.validate("pool", two.token()).await.unwrap());
    let none_left = pool(2).try_().acquire().await;
    assert!(matches!(none_left, Err(AcquireError::Unavailable { .. })));
    let one = session.semaphore("pool", 3).acquire().await.unwrap();
    let info = client.get_lock("pool").await.unwrap();
    let modes: Vec<_> = info.holders.iter().map(|holder| holder.mode).collect();
    let permits = |count| Some(Mode::Permits { count, of: 3 });
    assert_eq!(modes, [permits(2), permits(1)]);

    let waiting = tokio::spawn(pool(3).acquire());
    fake.until("it waits", |state| state.table.waiters("pool") == 1)
        .await;
    drop(one);
    two.release().await.unwrap();
    let three = waiting.await.unwrap().unwrap();
    assert!(three.is_held());
    three.release().await.unwrap();
    fake.until("all are back", |state| {
        state.table.holders("pool").is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_name_is_used_in_one_way_at_a_time() {
    let fake = FakeCluster::start(1).await;
    let session = session(&fake).await;
    let _permit = session.semaphore("a", 3).acquire().await.unwrap();
    let refused = [
        session.lock("a").try_().acquire().await.map(|_| ()),
        session.semaphore("a", 4).acquire().await.map(|_| ()),
        session.barrier("a", 3).wait().await.map(|_| ()),
    ];
    for refused in refused {
        assert!(
            matches!(refused, Err(AcquireError::OtherUsage { .. })),
            "{refused:?}"
        );
    }
    fake.fault([Fault::Refuse(Code::FailedPrecondition, "OTHER_PERMITS")]);
    let other = session.semaphore("a", 3).acquire().await;
    assert!(matches!(other, Err(AcquireError::OtherPermits { .. })));

    // What cannot be right is not even sent.
    let seen = fake.state().seen.len();
    let wrong = [
        session.semaphore("b", 0).acquire().await.map(|_| ()),
        session
            .semaphore("b", 2)
            .permits(3)
            .acquire()
            .await
            .map(|_| ()),
        session
            .semaphore("b", 2)
            .permits(0)
            .acquire()
            .await
            .map(|_| ()),
        session.barrier("b", 65_537).wait().await.map(|_| ()),
        session
            .lock("b")
            .mode(Mode::Meet { parties: 2 })
            .acquire()
            .await
            .map(|_| ()),
        session.election("b").campaign([0; 4_097]).await.map(|_| ()),
    ];
    for wrong in wrong {
        assert!(
            matches!(wrong, Err(AcquireError::InvalidArgument { .. })),
            "{wrong:?}"
        );
    }
    assert_eq!(fake.state().seen.len(), seen);
}

#[tokio::test]
async fn a_barrier_is_passed_by_all_at_once_again_and_again() {
    let fake = FakeCluster::start(1).await;
    let one = session(&fake).await;
    let other = session(&fake).await;
    let mut last = None;
    for _ in 0..3 {
        let waiting = [
            tokio::spawn(one.barrier("b", 3).wait()),
            tokio::spawn(other.barrier("b", 3).wait()),
        ];
        fake.until("two wait", |state| state.table.waiters("b") == 2)
            .await;
        let third = one.barrier("b", 3).wait().await.unwrap();
        for passed in waiting {
            assert_eq!(passed.await.unwrap().unwrap(), third);
        }
        assert!(last.replace(third) < Some(third), "it grows");
    }
    let alone = one.barrier("b", 2).timeout(Duration::from_millis(50));
    assert!(matches!(
        alone.wait().await,
        Err(AcquireError::WaitTimeout { .. })
    ));

    // Nothing was held, so nothing is given back, not even by one who has gone.
    let gone = tokio::spawn(one.barrier("b", 2).wait());
    fake.until("it waits", |state| state.table.waiters("b") == 1)
        .await;
    gone.abort();
    fake.until("it is cancelled", |state| state.table.waiters("b") == 0)
        .await;
    assert!(fake.state().seen.iter().all(|seen| seen.kind != "release"));
}

#[tokio::test]
async fn a_passage_that_comes_too_late_leaves_nothing_to_release() {
    let fake = FakeCluster::start(1).await;
    let session = session(&fake).await;
    fake.fault([Fault::Ignore]);
    let gone = tokio::spawn(session.barrier("b", 1).wait());
    fake.until("it came", |state| !state.seen.is_empty()).await;
    gone.abort();
    fake.until("it is undone", |state| {
        state.seen.iter().any(|seen| seen.kind == "abandon")
    })
    .await;
    // What comes after it on the stream comes after what would follow from it.
    session
        .lock("z")
        .acquire()
        .await
        .unwrap()
        .renew()
        .await
        .unwrap();
    assert!(
        fake.state()
            .seen
            .iter()
            .all(|seen| seen.name != "b" || seen.kind != "release")
    );
}

#[tokio::test]
async fn candidates_lead_one_after_another_and_say_who_they_are() {
    let fake = FakeCluster::start(1).await;
    let client = fake.client().await.unwrap();
    let (one, other) = (session(&fake).await, session(&fake).await);
    let mut first = one.election("e").campaign("one").await.unwrap();
    let second = tokio::spawn(other.election("e").campaign("other"));
    fake.until("it waits", |state| state.table.waiters("e") == 1)
        .await;
    let said = async || {
        let info = client.get_lock("e").await.unwrap();
        (
            info.holders[0].value.clone(),
            info.waiters.first().map(|waiter| waiter.position),
        )
    };
    assert_eq!(said().await, (b"one".to_vec(), Some(1)));
    first.proclaim("uno").await.unwrap();
    assert_eq!(said().await, (b"uno".to_vec(), Some(1)));
    let too_long = first.proclaim([0; 4_097]).await;
    assert!(matches!(
        too_long,
        Err(ProclaimError::InvalidArgument { .. })
    ));
    let before = first.token();
    first.resign().await.unwrap();
    let mut second = second.await.unwrap().unwrap();
    assert!(second.token() > before);
    assert_eq!(said().await, (b"other".to_vec(), None));

    // It was replaced, and learns so from what it says.
    fake.vacate("e");
    let stale = second.proclaim("still me").await;
    assert!(
        matches!(stale, Err(ProclaimError::StaleToken { .. })),
        "{stale:?}"
    );
    assert!(!second.is_held());
    fake.end_session(other.id().0, "SESSION_EXPIRED");
    second.lost().await;
}

#[tokio::test]
async fn proclamations_keep_their_order_also_when_one_was_not_awaited() {
    let fake = FakeCluster::start(1).await;
    let session = session(&fake).await;
    let mut leader = session.election("e").campaign("one").await.unwrap();
    fake.fault([Fault::Ignore]);
    let given_up = timeout(Duration::from_millis(100), leader.proclaim("two")).await;
    assert!(given_up.is_err());
    let proclaimed = |state: &lockstep_client::fake::State| {
        state
            .seen
            .iter()
            .filter(|seen| seen.kind == "proclaim")
            .count()
    };
    fake.until("it came", |state| proclaimed(state) == 1).await;
    let third = async {
        let third = leader.proclaim("three");
        tokio::pin!(third);
        // Not sent before the other is answered.
        assert!(
            timeout(Duration::from_millis(200), &mut third)
                .await
                .is_err()
        );
        assert_eq!(proclaimed(&fake.state()), 1);
        fake.drop_streams(1);
        third.await
    };
    third.await.unwrap();
    assert_eq!(fake.state().table.holders("e")[0].value, b"three");
    assert_eq!(proclaimed(&fake.state()), 3);
}

#[tokio::test]
async fn deadlocks_are_told_with_their_circle() {
    let fake = FakeCluster::start(1).await;
    let session = session(&fake).await;
    let deadlock = Fault::Refuse(Code::Aborted, "DEADLOCK");
    fake.fault([deadlock]);
    let Err(AcquireError::Deadlock { lock, cycle }) = session.lock("a").acquire().await else {
        panic!("the wait was not given up");
    };
    assert_eq!(
        (lock.as_str(), cycle.as_str()),
        ("a", "one waits for the other")
    );

    let mut one = session.lock("a").shared().acquire().await.unwrap();
    let mut other = session.lock("a").shared().acquire().await.unwrap();
    fake.fault([deadlock]);
    let refused = one.upgrade(Wait::Forever).await;
    assert!(matches!(refused, Err(UpgradeError::Deadlock { ref lock, .. }) if lock == "a"));
    assert!(one.is_held(), "it is shared still");
    let waiting = tokio::spawn(async move { one.upgrade(Wait::Forever).await.map(|_| one) });
    fake.until("it waits", |state| state.table.waiters("a") == 1)
        .await;
    let second = other.upgrade(Wait::Forever).await;
    assert!(matches!(second, Err(UpgradeError::SecondUpgrade { .. })));
    other.release().await.unwrap();
    waiting.await.unwrap().unwrap();
}

/// Whoever stops waiting for a close does not stop the close.
#[tokio::test]
async fn a_close_that_is_cancelled_goes_on() {
    let fake = FakeCluster::start(1).await;
    let session = session(&fake).await;
    let id = session.id().0;
    tokio::select! {
        biased;
        closed = session.close() => panic!("closed without a round trip: {closed:?}"),
        () = std::future::ready(()) => {}
    }
    fake.until("it is closed", |state| state.sessions[&id].ended.is_some())
        .await;
}
