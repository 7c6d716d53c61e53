//! Watching and observing, against a cluster in memory, over real sockets.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends there")]

use std::time::Duration;

use lockstep_client::{
    ChangeKind, Client, ClientConfig, Mode, Position, Reason, RequestError, Revision, SessionId,
    Target, Watch, WatchEvent,
    fake::{FakeCluster, SHARDS},
};
use lockstep_proto::lock::v1 as wire;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

async fn next(watch: &mut Watch) -> WatchEvent {
    timeout(PATIENCE, watch.next()).await.unwrap().unwrap()
}

async fn change(watch: &mut Watch) -> (ChangeKind, String, u64) {
    let event = next(watch).await;
    let WatchEvent::Changed(change) = event else {
        panic!("no change: {event:?}");
    };
    (change.kind.unwrap(), change.name, change.session.0)
}

fn all() -> Target {
    Target::Prefix(String::new())
}

fn name(name: &str) -> Target {
    Target::Name(name.to_owned())
}

/// Takes the beginning of a watch; the present holders.
async fn beginning(watch: &mut Watch, shards: u32) -> Vec<(String, u64)> {
    let mut present = Vec::new();
    let (mut began, mut current) = (0, 0);
    while current < shards {
        match next(watch).await {
            WatchEvent::Began { history_lost, .. } => {
                assert!(!history_lost);
                began += 1;
            }
            WatchEvent::Changed(change) => {
                assert_eq!(change.kind, Some(ChangeKind::Present));
                present.push((change.name, change.session.0));
            }
            WatchEvent::Current { .. } => current += 1,
            other @ (WatchEvent::OtherCluster { .. }
            | WatchEvent::Interrupted { .. }
            | WatchEvent::Resumed) => {
                panic!("not at the beginning: {other:?}")
            }
        }
    }
    assert_eq!(began, shards);
    present.sort_unstable();
    present
}

#[tokio::test]
async fn the_present_holders_are_told_and_then_every_change_once() {
    let fake = FakeCluster::start(1).await;
    fake.occupy("jobs/1", 1, b"one");
    fake.occupy("jobs/2", 2, b"");
    fake.occupy("other", 3, b"");
    let client = fake.client().await.unwrap();
    let target = Target::Prefix("jobs/".to_owned());
    let mut watch = client.watch(target, []).unwrap();
    let present = beginning(&mut watch, SHARDS).await;
    assert_eq!(
        present,
        [("jobs/1".to_owned(), 1), ("jobs/2".to_owned(), 2)]
    );
    assert_eq!(watch.positions().len(), SHARDS as usize);

    fake.occupy("unseen", 4, b"");
    fake.vacate("jobs/1");
    let released = (ChangeKind::Released, "jobs/1".to_owned(), 1);
    assert_eq!(change(&mut watch).await, released);
    fake.occupy("jobs/1", 5, b"five");
    let WatchEvent::Changed(acquired) = next(&mut watch).await else {
        panic!("it was acquired");
    };
    assert_eq!(acquired.kind, Some(ChangeKind::Acquired));
    assert_eq!(acquired.mode, Some(Mode::Exclusive));
    assert_eq!(
        (acquired.session, &acquired.value[..]),
        (SessionId(5), &b"five"[..])
    );
}

#[tokio::test]
async fn present_holders_that_were_told_in_part_are_told_again() {
    let fake = FakeCluster::start(1).await;
    fake.occupy("a", 1, b"");
    fake.state().cut_tellings = 1;
    let client = fake.client().await.unwrap();
    let mut watch = client.watch(name("a"), []).unwrap();
    for _ in 0..2 {
        assert!(matches!(next(&mut watch).await, WatchEvent::Began { .. }));
        let present = (ChangeKind::Present, "a".to_owned(), 1);
        assert_eq!(change(&mut watch).await, present);
    }
    assert!(matches!(next(&mut watch).await, WatchEvent::Current { .. }));
}

#[tokio::test]
async fn a_watch_goes_on_at_another_node_where_it_was() {
    let fake = FakeCluster::start(2).await;
    let client = fake.client().await.unwrap();
    let mut watch = client.watch(name("a"), []).unwrap();
    beginning(&mut watch, 1).await;
    fake.occupy("a", 1, b"");
    assert_eq!(change(&mut watch).await.0, ChangeKind::Acquired);

    // All at once: what the first node told late, and what only the second could tell.
    fake.down(1, true);
    fake.vacate("a");
    fake.occupy("a", 2, b"");
    assert_eq!(
        change(&mut watch).await,
        (ChangeKind::Released, "a".to_owned(), 1)
    );
    assert_eq!(
        change(&mut watch).await,
        (ChangeKind::Acquired, "a".to_owned(), 2)
    );
    let state = fake.state();
    let (node, request) = state.watches.last().unwrap();
    let at: Vec<u64> = request.after.iter().map(|at| at.revision).collect();
    assert_eq!((*node, at), (2, vec![1]));
}

#[tokio::test]
async fn positions_are_those_of_what_was_taken_and_can_be_resumed_from() {
    let fake = FakeCluster::start(1).await;
    let client = fake.client().await.unwrap();
    let mut first = client.watch(name("a"), []).unwrap();
    assert_eq!(first.positions(), []);
    beginning(&mut first, 1).await;
    for session in 1..=3 {
        fake.occupy("a", session, b"");
        fake.vacate("a");
    }
    change(&mut first).await;
    let position = first.positions();
    assert_eq!(
        position,
        [Position {
            revision: Revision(1),
            ..position[0]
        }],
        "though more was told"
    );
    drop(first);

    let mut second = client.watch(name("a"), position).unwrap();
    for session in 1..=3 {
        if session > 1 {
            let acquired = (ChangeKind::Acquired, "a".to_owned(), session);
            assert_eq!(change(&mut second).await, acquired);
        }
        let released = (ChangeKind::Released, "a".to_owned(), session);
        assert_eq!(change(&mut second).await, released);
    }
}

#[tokio::test]
async fn lost_history_is_told_and_the_watch_begins_again() {
    let fake = FakeCluster::start(1).await;
    let client = fake.client().await.unwrap();
    let mut watch = client.watch(name("a"), []).unwrap();
    beginning(&mut watch, 1).await;
    {
        // While nobody listens.
        let mut state = fake.state();
        state.table.occupy_saying("a", 1, b"");
        state.table.history.forget();
    }
    fake.drop_streams(1);
    let WatchEvent::Began { history_lost, .. } = next(&mut watch).await else {
        panic!("it must begin again");
    };
    assert!(history_lost);
    assert_eq!(watch.positions(), [], "until the present holders are told");
    assert_eq!(
        change(&mut watch).await,
        (ChangeKind::Present, "a".to_owned(), 1)
    );
    assert!(matches!(next(&mut watch).await, WatchEvent::Current { .. }));
}

/// The same addresses, another history: what is revision 1 there is news here.
#[tokio::test]
async fn a_cluster_in_the_place_of_another_is_told_from_the_start() {
    let fake = FakeCluster::start(1).await;
    let client = fake.client().await.unwrap();
    fake.occupy("e", 1, b"one");
    let mut observer = client.observe("e").unwrap();
    let mut watch = client.watch(name("e"), []).unwrap();
    assert_eq!(beginning(&mut watch, 1).await.len(), 1);
    let first = timeout(PATIENCE, observer.next()).await.unwrap().unwrap();
    assert_eq!(first.unwrap().value, b"one");
    // It has as many changes in its history, but others.
    let restored = fake.become_another_cluster(|table| table.occupy_saying("e", 9, b"nine"));
    let second = timeout(PATIENCE, observer.next()).await.unwrap().unwrap();
    assert_eq!(second.unwrap().value, b"nine", "the old one is dead");
    assert_eq!(
        next(&mut watch).await,
        WatchEvent::OtherCluster { cluster: restored }
    );
    assert_eq!(watch.positions(), []);
    assert!(matches!(next(&mut watch).await, WatchEvent::Began { .. }));
    let present = (ChangeKind::Present, "e".to_owned(), 9);
    assert_eq!(change(&mut watch).await, present);
    assert!(matches!(next(&mut watch).await, WatchEvent::Current { .. }));
    assert_eq!(watch.positions()[0].cluster, restored);
}

#[tokio::test]
async fn an_interruption_is_told_once_and_its_end_too() {
    let fake = FakeCluster::start(2).await;
    let client = fake.client().await.unwrap();
    let mut watch = client.watch(all(), []).unwrap();
    beginning(&mut watch, SHARDS).await;
    fake.down(1, true);
    fake.down(2, true);
    let WatchEvent::Interrupted { cause } = next(&mut watch).await else {
        panic!("nobody serves it");
    };
    assert!(cause.contains("the node is down"), "{cause}");
    // Whoever is impatient misses nothing.
    for _ in 0..20 {
        let more = timeout(Duration::from_millis(20), watch.next()).await;
        assert!(more.is_err(), "{more:?}");
    }
    fake.down(2, false);
    assert_eq!(next(&mut watch).await, WatchEvent::Resumed);
    fake.occupy("a", 1, b"");
    assert_eq!(change(&mut watch).await.0, ChangeKind::Acquired);
}

#[tokio::test]
async fn a_node_that_has_no_news_for_long_is_not_trusted_to_have_none() {
    let fake = FakeCluster::start(2).await;
    let config = ClientConfig {
        request_timeout: Duration::from_millis(600),
        ..ClientConfig::new(fake.endpoints())
    };
    let client = Client::connect(config).await.unwrap();
    let mut watch = client.watch(name("a"), []).unwrap();
    beginning(&mut watch, 1).await;
    fake.until("the other node is asked", |state| {
        let nodes: Vec<u64> = state.watches.iter().map(|(node, _)| *node).collect();
        nodes.starts_with(&[1, 2])
    })
    .await;
    fake.occupy("a", 1, b"");
    assert_eq!(change(&mut watch).await.0, ChangeKind::Acquired);
}

#[tokio::test]
async fn what_cannot_be_watched_is_told_and_is_the_end() {
    let fake = FakeCluster::start(1).await;
    let client = fake.client().await.unwrap();
    let wrong = client.watch(name(""), []);
    assert!(matches!(wrong, Err(RequestError::InvalidName(_))));
    fake.refuse_watches(tonic::Code::InvalidArgument, "INVALID_ARGUMENT");
    let mut watch = client.watch(all(), []).unwrap();
    for _ in 0..2 {
        let refused = timeout(PATIENCE, watch.next()).await.unwrap();
        let Err(RequestError::Refused(error)) = refused else {
            panic!("not refused: {refused:?}");
        };
        assert_eq!(error.reason, Reason::InvalidArgument);
    }
}

#[tokio::test]
async fn an_observer_is_told_who_leads_each_time_that_it_changes() {
    let fake = FakeCluster::start(2).await;
    let client = fake.client().await.unwrap();
    let session = client.open_session(Default::default()).await.unwrap();
    let mut observer = client.observe("e").unwrap();
    let mut leader = async || {
        let leader = timeout(PATIENCE, observer.next()).await.unwrap().unwrap();
        leader.map(|leader| String::from_utf8(leader.value).unwrap())
    };
    assert_eq!(leader().await, None);
    let mut leadership = session.election("e").campaign("one").await.unwrap();
    assert_eq!(leader().await.as_deref(), Some("one"));
    leadership.proclaim("two").await.unwrap();
    assert_eq!(leader().await.as_deref(), Some("two"));

    // The watch misses what happened to another lock of the shard, and begins again. That the
    // leader is told anew is no news.
    {
        let mut state = fake.state();
        let history = &state.table.history;
        let shard = history.shard_of("e");
        let mut names = (0..1_000).map(|n| format!("lock-{n}"));
        let other = names.find(|name| history.shard_of(name) == shard).unwrap();
        state.table.occupy(&other, 7);
        state.table.history.forget();
    }
    fake.down(1, true);
    fake.until("it is watched from the start", |state| {
        let afresh = |(_, request): &(u64, wire::WatchRequest)| request.after.is_empty();
        state.watches.iter().filter(|watch| afresh(watch)).count() == 2
    })
    .await;
    leadership.resign().await.unwrap();
    assert_eq!(leader().await, None);
    fake.occupy("e", 9, b"nine");
    assert_eq!(leader().await.as_deref(), Some("nine"));
}

#[tokio::test]
async fn deadlocks_are_listed() {
    let fake = FakeCluster::start(1).await;
    let client = fake.client().await.unwrap();
    fake.state().deadlocks = vec![wire::Deadlock {
        at_ms: 1_000,
        victim_session_id: 7,
        victim_owner: "me".to_owned(),
        name: "a".to_owned(),
        words: "one waits for the other".to_owned(),
        cycle: vec![wire::WaitFor {
            session_id: 7,
            shard: 3,
            holder_session_id: 8,
            token: 9,
            ..wire::WaitFor::default()
        }],
    }];
    let deadlocks = client.deadlocks().await.unwrap();
    assert_eq!((deadlocks.count, deadlocks.last.len()), (1, 1));
    let deadlock = &deadlocks.last[0];
    assert_eq!(
        (deadlock.victim, deadlock.victim_owner.as_str()),
        (SessionId(7), "me")
    );
    assert_eq!(deadlock.cycle[0].holder, SessionId(8));
}
