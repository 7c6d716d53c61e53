//! The SDK against a cluster in memory, over real sockets.

#![expect(clippy::unwrap_used, reason = "a test ends there")]

use std::{collections::HashSet, time::Duration};

use lockstep_client::{
    AcquireError, Client, ClientConfig, CloseError, ConnectError, Loss, Mode, ReleaseError,
    RequestError, Session, SessionOptions, SessionState, UpgradeError, Wait,
    fake::{FakeCluster, Fault, State},
};
use lockstep_model::{id::LockName, ring::Ring};
use tokio::time::{Instant, timeout};
use tonic::Code;

async fn connect(fake: &FakeCluster) -> Client {
    let config = ClientConfig {
        request_timeout: Duration::from_secs(3),
        ..ClientConfig::new(fake.endpoints())
    };
    Client::connect(config).await.unwrap()
}

async fn session(client: &Client) -> Session {
    client
        .open_session(SessionOptions::default())
        .await
        .unwrap()
}

/// The nodes that saw operations of this kind, in order.
fn nodes(state: &State, kind: &str) -> Vec<u64> {
    let of_kind = state.seen.iter().filter(|seen| seen.kind == kind);
    of_kind.map(|seen| seen.node).collect()
}

#[tokio::test]
async fn a_lock_is_acquired_renewed_and_released() {
    let fake = FakeCluster::start(1).await;
    let client = connect(&fake).await;
    let session = session(&client).await;
    let mut guard = session.lock("a").acquire().await.unwrap();
    assert_eq!((guard.name(), guard.mode()), ("a", Mode::Exclusive));
    assert!(guard.is_held());
    guard.renew().await.unwrap();
    assert!(client.validate("a", guard.token()).await.unwrap());
    let info = client.get_lock("a").await.unwrap();
    assert_eq!(info.holders[0].session, session.id());
    let token = guard.token();
    assert_eq!(guard.release().await.unwrap(), 0);
    assert!(!client.validate("a", token).await.unwrap());
    let again = session.lock("a").acquire().await.unwrap();
    assert!(again.token() > token);
}

#[tokio::test]
async fn without_an_owner_two_acquisitions_of_one_session_exclude_each_other() {
    let fake = FakeCluster::start(1).await;
    let session = session(&connect(&fake).await).await;
    let _held = session.lock("a").acquire().await.unwrap();
    let second = session.lock("a").try_().acquire().await;
    assert!(matches!(second, Err(AcquireError::Unavailable { .. })));

    let one = session.lock("b").owner("me").acquire().await.unwrap();
    let two = session.lock("b").owner("me").acquire().await.unwrap();
    assert_eq!(one.token(), two.token());
    assert_eq!(one.release().await.unwrap(), 1);
    assert_eq!(two.release().await.unwrap(), 0);
}

#[tokio::test]
async fn operations_go_to_the_leader_of_their_shard() {
    let fake = FakeCluster::start(3).await;
    fake.lead_shards(|shard| u64::from(shard % 3) + 1);
    let client = connect(&fake).await;
    let session = session(&client).await;
    let ring = Ring::new(lockstep_client::fake::SHARDS);
    let leader = |name: &str| {
        let shard = ring.shard_of_lock(&LockName::new(name).unwrap());
        u64::from(shard.0 % 3) + 1
    };
    let names: Vec<String> = (0..20).map(|n| format!("lock-{n}")).collect();
    let leaders: HashSet<u64> = names.iter().map(|name| leader(name)).collect();
    assert_eq!(leaders.len(), 3, "the names spread over all nodes");
    // While a stream is being opened, others serve.
    let streams_are_open = async {
        for name in &names {
            while fake.state().seen.last().map(|seen| seen.node) != Some(leader(name)) {
                let guard = session.lock(name).acquire().await.unwrap();
                guard.release().await.unwrap();
            }
        }
    };
    let limit = Duration::from_secs(10);
    timeout(limit, streams_are_open).await.expect("in the end");
    fake.state().seen.clear();
    for name in &names {
        let guard = session.lock(name).acquire().await.unwrap();
        guard.release().await.unwrap();
    }
    for seen in &fake.state().seen {
        assert_eq!(seen.node, leader(&seen.name), "{seen:?}");
    }
    assert!(fake.state().stream_count() <= 3, "one stream a node");
}

/// As through a tunnel, where the other nodes' addresses mean nothing.
#[tokio::test]
async fn a_client_that_is_told_so_keeps_to_its_endpoints() {
    let fake = FakeCluster::start(3).await;
    fake.lead(2);
    let config = ClientConfig {
        only_endpoints: true,
        ..ClientConfig::new(fake.endpoints().into_iter().take(1))
    };
    let session = session(&Client::connect(config).await.unwrap()).await;
    for _ in 0..20 {
        let guard = session.lock("a").acquire().await.unwrap();
        guard.release().await.unwrap();
    }
    assert!(fake.state().seen.iter().all(|seen| seen.node == 1));
}

#[tokio::test]
async fn a_waiting_acquisition_follows_its_shard_to_the_new_leader() {
    let fake = FakeCluster::start(2).await;
    let session = session(&connect(&fake).await).await;
    fake.state().table.occupy("a", 1);
    let waiting = tokio::spawn(session.lock("a").acquire());
    fake.until("it waits", |state| state.table.waiters("a") == 1)
        .await;
    fake.lead(2);
    fake.until("it is sent again", |state| {
        nodes(state, "acquire") == [1, 2]
    })
    .await;
    fake.vacate("a");
    waiting.await.unwrap().unwrap().release().await.unwrap();
    let state = fake.state();
    let serials: HashSet<u64> = state
        .seen
        .iter()
        .filter(|seen| seen.kind == "acquire")
        .map(|seen| seen.serial)
        .collect();
    assert_eq!(serials.len(), 1, "under the same serial");
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_and_nothing_happens_twice() {
    let fake = FakeCluster::start(2).await;
    let session = session(&connect(&fake).await).await;
    fake.fault([Fault::LoseAnswer, Fault::LoseRequest]);
    let guard = session.lock("a").acquire().await.unwrap();
    {
        let state = fake.state();
        assert!(state.seen.len() >= 3, "{:?}", state.seen);
        assert!(
            state
                .seen
                .iter()
                .all(|seen| (seen.serial, seen.acked_below) == (1, 1))
        );
        assert_eq!(state.table.holders("a")[0].holds, 1);
    }
    fake.fault([Fault::LoseAnswer]);
    assert_eq!(guard.release().await.unwrap(), 0, "the first answer, again");
    assert!(fake.state().table.holders("a").is_empty());
    assert!(matches!(session.state(), SessionState::Alive { .. }));
}

#[tokio::test]
async fn refusals_that_pass_are_not_the_callers_business() {
    let fake = FakeCluster::start(1).await;
    let session = session(&connect(&fake).await).await;
    fake.fault([
        Fault::Refuse(Code::Unavailable, "NO_LEADER"),
        Fault::Refuse(Code::Unavailable, "UNKNOWN_OUTCOME"),
        Fault::Refuse(Code::ResourceExhausted, "OVERLOADED"),
    ]);
    let _a = session.lock("a").acquire().await.unwrap();
    fake.fault([Fault::Refuse(Code::ResourceExhausted, "TOO_MANY_WAITERS")]);
    let refused = session.lock("b").acquire().await;
    assert!(matches!(refused, Err(AcquireError::TooManyWaiters { .. })));
    fake.fault([Fault::Refuse(Code::Unavailable, "SOMETHING_NEW")]);
    let _c = session
        .lock("c")
        .acquire()
        .await
        .expect("what is unavailable is asked for again");
    fake.fault([Fault::Refuse(Code::FailedPrecondition, "SOMETHING_NEW")]);
    let Err(AcquireError::Other(error)) = session.lock("d").acquire().await else {
        panic!("an unknown reason is told as it is");
    };
    assert_eq!(error.reason.as_str(), "SOMETHING_NEW");
}

#[tokio::test]
async fn the_loss_of_a_node_is_survived_by_going_to_another() {
    let fake = FakeCluster::start(3).await;
    let session = session(&connect(&fake).await).await;
    let guard = session.lock("a").acquire().await.unwrap();
    fake.down(1, true);
    fake.until("it resumes elsewhere", |state| {
        state
            .attaches
            .iter()
            .any(|(node, _, resume)| *node != 1 && *resume)
    })
    .await;
    assert!(guard.is_held());
    guard.release().await.unwrap();
    let id = session.id().0;
    assert!(fake.state().sessions[&id].epoch > 1);
}

#[tokio::test]
async fn a_leader_that_is_cut_off_is_gone_round() {
    let fake = FakeCluster::start(2).await;
    let session = session(&connect(&fake).await).await;
    // The placement still says that it leads, as its own view of the cluster would.
    fake.cut_off(1);
    session.lock("a").try_().acquire().await.unwrap();
    assert_eq!(nodes(&fake.state(), "acquire"), [1, 1, 1, 2]);
}

#[tokio::test]
async fn a_session_without_confirmed_keep_alives_is_lost_at_its_ttl() {
    let fake = FakeCluster::start(1).await;
    let client = connect(&fake).await;
    fake.mute(1, true);
    let ttl = Duration::from_secs(1);
    let options = SessionOptions {
        ttl,
        ..SessionOptions::default()
    };
    let before = Instant::now();
    let session = client.open_session(options).await.unwrap();
    let after = Instant::now();
    let guard = session.lock("a").acquire().await.unwrap();
    let loss = guard.lost().await;
    assert_eq!(loss, Loss::Silence { ttl });
    assert!(before.elapsed() >= ttl - ttl / 20, "not before");
    assert!(
        after.elapsed() < ttl + Duration::from_secs(3),
        "not much after"
    );
    assert!(!guard.is_held());
    assert_eq!(session.state(), SessionState::Lost(loss.clone()));
    let released = guard.release().await;
    assert_eq!(released, Err(ReleaseError::SessionLost(loss.clone())));
    let acquired = session.lock("a").acquire().await.map(|_| ());
    assert_eq!(acquired, Err(AcquireError::SessionLost(loss.clone())));
    assert_eq!(session.close().await, Err(CloseError::SessionLost(loss)));
}

#[tokio::test]
async fn an_end_by_the_server_is_a_loss_at_once() {
    let fake = FakeCluster::start(1).await;
    let session = session(&connect(&fake).await).await;
    let guard = session.lock("a").acquire().await.unwrap();
    let lost = guard.lost();
    fake.end_session(session.id().0, "SESSION_EXPIRED");
    let loss = timeout(Duration::from_secs(5), lost).await.unwrap();
    assert!(matches!(loss, Loss::Ended { .. }), "{loss:?}");
    assert!(!guard.is_held());
}

#[tokio::test]
async fn a_dropped_acquisition_leaves_no_wait_and_no_hold() {
    let fake = FakeCluster::start(1).await;
    let session = session(&connect(&fake).await).await;
    fake.state().table.occupy("a", 1);
    let waiting = tokio::spawn(session.lock("a").acquire());
    fake.until("it waits", |state| state.table.waiters("a") == 1)
        .await;
    waiting.abort();
    fake.until("it is cancelled", |state| state.table.waiters("a") == 0)
        .await;
    fake.vacate("a");

    // The grant is on its way when the caller goes: it is given back.
    fake.fault([Fault::Ignore]);
    let unanswered = tokio::spawn(session.lock("a").acquire());
    fake.until("it came", |state| nodes(state, "acquire").len() == 2)
        .await;
    unanswered.abort();
    fake.until("it is undone", |state| nodes(state, "abandon").len() >= 2)
        .await;
    assert!(fake.state().table.holders("a").is_empty());
    session
        .lock("a")
        .try_()
        .acquire()
        .await
        .expect("nobody holds it");
}

#[tokio::test]
async fn a_dropped_guard_is_released_in_the_background() {
    let fake = FakeCluster::start(1).await;
    let session = session(&connect(&fake).await).await;
    let guard = session.lock("a").acquire().await.unwrap();
    // Also outside of the runtime.
    std::thread::spawn(move || drop(guard)).join().unwrap();
    fake.until("it is free", |state| state.table.holders("a").is_empty())
        .await;
    assert_eq!(fake.state().seen.last().unwrap().kind, "release");
}

#[tokio::test]
async fn the_last_handle_closes_the_session() {
    let fake = FakeCluster::start(1).await;
    let session = session(&connect(&fake).await).await;
    let id = session.id().0;
    let guard = session.lock("a").acquire().await.unwrap();
    drop(session);
    assert!(guard.is_held(), "a guard keeps its session");
    drop(guard);
    fake.until("it is closed", |state| state.sessions[&id].ended.is_some())
        .await;
    fake.until("its streams are gone", |state| state.stream_count() == 0)
        .await;
}

#[tokio::test]
async fn closing_loses_the_guards_and_releases_what_they_held() {
    let fake = FakeCluster::start(1).await;
    let session = session(&connect(&fake).await).await;
    let guard = session.lock("a").acquire().await.unwrap();
    session.close().await.unwrap();
    assert_eq!(guard.lost().await, Loss::Closed);
    assert!(fake.state().table.holders("a").is_empty());
    assert_eq!(
        session.close().await,
        Err(CloseError::SessionLost(Loss::Closed))
    );
}

#[tokio::test]
async fn several_locks_are_taken_together_and_released_apart() {
    let fake = FakeCluster::start(1).await;
    let session = session(&connect(&fake).await).await;
    let wanted = [("b", Mode::Exclusive), ("a", Mode::Shared)];
    let guards = session.lock_many(wanted).acquire().await.unwrap();
    let names: Vec<&str> = guards.iter().map(|guard| guard.name()).collect();
    assert_eq!(names, ["b", "a"], "in the order asked for");
    let refused = session.lock_many(wanted).try_().acquire().await;
    assert!(matches!(refused, Err(AcquireError::Unavailable { .. })));
    for guard in guards {
        guard.release().await.unwrap();
    }
    let twice = session.lock_many([("a", Mode::Shared), ("a", Mode::Exclusive)]);
    let refused = twice.acquire().await;
    assert!(matches!(refused, Err(AcquireError::InvalidArgument { .. })));
    let unnamed = session.lock("").acquire().await;
    assert!(matches!(unnamed, Err(AcquireError::InvalidName(_))));
}

#[tokio::test]
async fn modes_change_with_their_tokens() {
    let fake = FakeCluster::start(1).await;
    let session = session(&connect(&fake).await).await;
    let mut guard = session.lock("a").shared().acquire().await.unwrap();
    let other = session.lock("a").shared().acquire().await.unwrap();
    let shared = guard.token();
    let refused = guard.upgrade(Wait::Try).await;
    assert!(matches!(refused, Err(UpgradeError::Unavailable { .. })));
    assert_eq!((guard.mode(), guard.token()), (Mode::Shared, shared));

    // Given up half-way: the hold stays shared, and can be used.
    let upgrade = timeout(Duration::from_millis(100), guard.upgrade(Wait::Forever)).await;
    assert!(upgrade.is_err());
    guard.renew().await.unwrap();
    assert!(!nodes(&fake.state(), "cancel").is_empty());
    other.release().await.unwrap();
    let exclusive = guard.upgrade(Wait::Forever).await.unwrap();
    assert!(exclusive > shared);
    assert_eq!((guard.mode(), guard.token()), (Mode::Exclusive, exclusive));
    guard.downgrade().await.unwrap();
    assert_eq!(guard.mode(), Mode::Shared);
    guard.release().await.unwrap();
}

#[tokio::test]
async fn waits_end_at_their_time() {
    let fake = FakeCluster::start(1).await;
    let session = session(&connect(&fake).await).await;
    fake.state().table.occupy("a", 1);
    let request = session.lock("a").timeout(Duration::from_millis(50));
    assert!(matches!(
        request.acquire().await,
        Err(AcquireError::WaitTimeout { .. })
    ));
    fake.fault([Fault::Ignore]);
    let unanswered = session.lock("b").try_().acquire().await;
    assert!(matches!(unanswered, Err(AcquireError::NoAnswer { .. })));
}

#[tokio::test]
async fn many_operations_are_pipelined_and_their_number_is_bounded() {
    let fake = FakeCluster::start(1).await;
    let options = SessionOptions {
        // A busy machine takes long for so many.
        ttl: Duration::from_secs(600),
        ..SessionOptions::default()
    };
    let client = connect(&fake).await;
    let session = client.open_session(options).await.unwrap();
    fake.state().table.occupy("a", 1);
    let over = lockstep_client::config::MAX_IN_FLIGHT + 10;
    let waiting: Vec<_> = (0..over)
        .map(|_| tokio::spawn(session.lock("a").shared().acquire()))
        .collect();
    let bound = lockstep_client::config::MAX_IN_FLIGHT;
    fake.until("the bound is reached", |state| {
        state.table.waiters("a") == bound
    })
    .await;
    fake.vacate("a");
    for acquired in waiting {
        acquired.await.unwrap().unwrap();
    }
    let state = fake.state();
    let most = state
        .seen
        .iter()
        .map(|seen| seen.serial - seen.acked_below + 1)
        .max();
    assert!(
        most.unwrap() >= bound as u64,
        "they were under way together"
    );
}

#[tokio::test]
async fn a_cluster_that_cannot_be_reached_is_told_apart_from_a_wrong_address() {
    let nobody = Client::connect(ClientConfig::new(["127.0.0.1:1"])).await;
    assert!(
        matches!(nobody, Err(ConnectError::Unreachable { .. })),
        "{nobody:?}"
    );
    let wrong = Client::connect(ClientConfig::new(["not an address"])).await;
    assert!(matches!(wrong, Err(ConnectError::Endpoint(_))), "{wrong:?}");
    let none = Client::connect(ClientConfig::new([] as [&str; 0])).await;
    assert!(matches!(none, Err(ConnectError::NoEndpoints)), "{none:?}");
}

#[tokio::test]
async fn requests_go_round_a_node_that_is_down_and_end_when_all_are() {
    let fake = FakeCluster::start(2).await;
    let client = connect(&fake).await;
    fake.down(1, true);
    for _ in 0..5 {
        client
            .open_session(SessionOptions::default())
            .await
            .unwrap();
    }
    fake.down(2, true);
    let before = Instant::now();
    let refused = client.status().await;
    assert!(
        matches!(refused, Err(RequestError::Unreachable { .. })),
        "{refused:?}"
    );
    assert!(
        before.elapsed() < Duration::from_secs(4),
        "within the request timeout"
    );
}
