//! The core of a session, step by step: its streams are read here, and time is what a test says.

mod giving_back;

use lockstep_model::{
    id::{FencingToken, LockName},
    ring::RING_VERSION,
};
use lockstep_proto::cluster::v1::{NodeEndpoint, ShardPlacement, WatchPlacementResponse};
use lockstep_proto::lock::v1::{
    AcquireOperation, Downgraded, Grant, Grants, LockMode, LockSpec, Operation, OperationAbandoned,
    OperationError, OperationResult, Released, SerialRange, StreamAttached, StreamKeptAlive,
    UpgradeOperation, session_request::Request,
};

use super::*;
use crate::config::MAX_RETRY_PAUSE;

const TTL: Duration = Duration::from_secs(10);

struct Rig {
    core: Core,
    now: LeaseTime,
    opened: Vec<Opening>,
}

impl Rig {
    /// A session of [`TTL`] in a cluster of `nodes` nodes whose placement is unknown.
    fn new(nodes: u16) -> Self {
        let endpoints: Vec<Address> = (1..=nodes)
            .map(|node| Address::parse(&format!("node-{node}:7400")).unwrap())
            .collect();
        let now = LeaseTime::now();
        let placement = Arc::new(Placement::unknown(&endpoints));
        Self {
            core: Core::new(SessionId(7), TTL, now, placement),
            now,
            opened: Vec::new(),
        }
    }

    fn tick(&mut self) -> Option<LeaseTime> {
        let wake = self.core.tick(self.now);
        self.opened.extend(self.core.take_openings());
        wake
    }

    /// Lets time pass, doing all that becomes due.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(wake) = self.tick() {
            if wake > until {
                break;
            }
            self.now = wake.max(self.now + Duration::from_millis(1));
        }
        self.now = until;
        self.tick();
    }

    /// What was sent on the latest stream since one last looked.
    fn sent(&mut self) -> Vec<Request> {
        let mut sent = Vec::new();
        while let Ok(message) = self.latest().outbound.try_recv() {
            sent.extend(message.request);
        }
        sent
    }

    fn latest(&mut self) -> &mut Opening {
        self.opened.extend(self.core.take_openings());
        self.opened.last_mut().expect("a stream")
    }

    fn receive(&mut self, response: Response) {
        let link = self.latest().id;
        let message = SessionResponse {
            response: Some(response),
        };
        self.core.receive(link, message, self.now);
    }

    fn attach(&mut self) {
        self.receive(Response::Attached(StreamAttached::default()));
    }

    fn answer(&mut self, serial: u64, answer: Answer) {
        self.receive(Response::Result(OperationResult {
            serial,
            result: Some(answer),
        }));
    }

    /// Answers the keep-alives among these.
    fn confirm(&mut self, sent: &[Request]) {
        for request in sent {
            if let Request::KeepAlive(keep_alive) = request {
                self.receive(Response::KeptAlive(StreamKeptAlive {
                    nonce: keep_alive.nonce,
                    ttl_ms: u64::try_from(TTL.as_millis()).unwrap(),
                }));
            }
        }
    }

    fn submit(
        &mut self,
        work: Work,
        deadline: Option<LeaseTime>,
    ) -> (u64, oneshot::Receiver<Outcome>) {
        let (caller, answer) = oneshot::channel();
        let submission = Submission {
            work,
            key: Key::Lock(LockName::new("a").unwrap()),
            deadline,
            sink: Sink::Caller(caller),
        };
        self.core.permits.try_acquire().unwrap().forget();
        let serial = self.core.submit(submission, self.now).unwrap();
        (serial, answer)
    }

    fn abandoned(&mut self, serial: u64, reason: Option<&str>) {
        let error = reason.map(|reason| OperationError {
            code: tonic::Code::Unavailable.into(),
            reason: reason.to_owned(),
            ..OperationError::default()
        });
        self.receive(Response::Abandoned(OperationAbandoned { serial, error }));
    }

    fn loss(&mut self) -> Option<Loss> {
        self.core.standing(self.now).err()
    }
}

fn acquire() -> Work {
    Work::Acquire(AcquireOperation {
        locks: vec![LockSpec {
            name: "a".to_owned(),
            mode: LockMode::Exclusive.into(),
            ..LockSpec::default()
        }],
        ..AcquireOperation::default()
    })
}

fn granted(token: u64) -> Answer {
    Answer::Granted(Grants {
        grants: vec![Grant {
            name: "a".to_owned(),
            mode: LockMode::Exclusive.into(),
            token,
            holds: 1,
        }],
    })
}

fn refused(code: tonic::Code, reason: &str, retry_after_ms: u64) -> Answer {
    Answer::Error(OperationError {
        code: code.into(),
        reason: reason.to_owned(),
        retry_after_ms,
        ..OperationError::default()
    })
}

fn operations(sent: &[Request]) -> Vec<(u64, u64)> {
    sent.iter()
        .filter_map(|request| match request {
            Request::Operation(operation) => Some((operation.serial, operation.acked_below)),
            Request::Attach(_)
            | Request::KeepAlive(_)
            | Request::Cancel(_)
            | Request::Abandon(_) => None,
        })
        .collect()
}

fn releases(sent: &[Request]) -> Vec<u64> {
    sent.iter()
        .filter_map(|request| match request {
            Request::Operation(Operation {
                operation: Some(Work::Release(release)),
                ..
            }) => Some(release.token),
            Request::Operation(_)
            | Request::Attach(_)
            | Request::KeepAlive(_)
            | Request::Abandon(_)
            | Request::Cancel(_) => None,
        })
        .collect()
}

fn abandons(sent: &[Request]) -> Vec<(u64, Vec<String>)> {
    sent.iter()
        .filter_map(|request| match request {
            Request::Abandon(abandon) => Some((abandon.serial, abandon.names.clone())),
            Request::Attach(_)
            | Request::KeepAlive(_)
            | Request::Operation(_)
            | Request::Cancel(_) => None,
        })
        .collect()
}

fn cancels(sent: &[Request]) -> Vec<u64> {
    sent.iter()
        .filter_map(|request| match request {
            Request::Cancel(cancel) => Some(cancel.serial),
            Request::Attach(_)
            | Request::KeepAlive(_)
            | Request::Operation(_)
            | Request::Abandon(_) => None,
        })
        .collect()
}

#[test]
fn a_silent_cluster_loses_the_session_a_twentieth_before_its_ttl_after_the_last_confirmed_send() {
    let mut rig = Rig::new(3);
    rig.tick();
    let first = rig.sent();
    assert!(matches!(first[0], Request::Attach(attach) if !attach.resume));
    assert!(
        matches!(first[1], Request::KeepAlive(_)),
        "a keep-alive at once"
    );
    rig.attach();
    rig.pass(Duration::from_secs(1));
    // Sent at 0 s, confirmed at 1 s: the lease counts from the sending.
    rig.confirm(&first);
    // Less a twentieth of the TTL.
    rig.pass(Duration::from_millis(8_499));
    assert_eq!(rig.loss(), None);
    rig.now = rig.now + Duration::from_millis(1);
    assert_eq!(rig.loss(), Some(Loss::Silence { ttl: TTL }));
    assert_eq!(rig.tick(), None);
}

#[test]
fn confirmed_keep_alives_carry_the_session_on_three_times_a_ttl() {
    let mut rig = Rig::new(1);
    let mut keep_alives = 0;
    for _ in 0..1_000 {
        rig.tick();
        let sent = rig.sent();
        keep_alives += sent
            .iter()
            .filter(|r| matches!(r, Request::KeepAlive(_)))
            .count();
        rig.attach();
        rig.confirm(&sent);
        rig.now = rig.now + Duration::from_millis(100);
    }
    assert_eq!(rig.loss(), None);
    assert_eq!(rig.opened.len(), 1, "one stream serves throughout");
    // 100 s of a TTL of 10 s, checked every 100 ms.
    assert!((28..=31).contains(&keep_alives), "{keep_alives}");
}

#[test]
fn a_silent_node_is_left_for_another_before_the_session_is_lost() {
    let mut rig = Rig::new(3);
    rig.pass(Duration::from_secs(9));
    assert_eq!(rig.loss(), None);
    let asked: BTreeSet<&Address> = rig.opened.iter().map(|opening| &opening.address).collect();
    assert_eq!(asked.len(), 3, "every node was tried: {asked:?}");
    let sent = rig.sent();
    assert!(
        matches!(sent[0], Request::Attach(attach) if attach.resume),
        "a stream that replaces a lost one resumes"
    );
    assert!(
        !rig.core.take_lost_nodes().is_empty(),
        "the placement is not learnt from them"
    );
}

#[test]
fn an_operation_is_sent_again_with_its_serial_when_its_stream_breaks() {
    let mut rig = Rig::new(2);
    let (first, _first) = rig.submit(acquire(), None);
    let (second, mut answer) = rig.submit(acquire(), None);
    assert_eq!(operations(&rig.sent()), [(1, 1), (2, 1)]);
    rig.answer(first, granted(1));
    let link = rig.latest().id;
    rig.core.link_ended(link, None, rig.now);
    let sent = rig.sent();
    assert_eq!(
        operations(&sent),
        [(second, 2)],
        "the answered one is acknowledged"
    );
    rig.answer(second, granted(2));
    assert_eq!(answer.try_recv().unwrap(), Ok(granted(2)));
    // A second answer, from the stream before, is nobody's.
    rig.answer(second, granted(2));
    assert_eq!(releases(&rig.sent()), [] as [u64; 0]);
}

#[test]
fn a_refusal_that_asks_for_it_is_repeated_after_its_pause() {
    for (reason, retry_after_ms) in [
        ("NO_LEADER", 0),
        ("UNKNOWN_OUTCOME", 0),
        ("OVERLOADED", 3_000),
        ("", 0),
    ] {
        let mut rig = Rig::new(1);
        let (serial, mut answer) = rig.submit(acquire(), None);
        rig.sent();
        rig.answer(
            serial,
            refused(tonic::Code::Unavailable, reason, retry_after_ms),
        );
        rig.pass(Duration::from_millis(retry_after_ms / 2));
        assert_eq!(operations(&rig.sent()), [], "{reason}: not at once");
        rig.pass(Duration::from_millis(retry_after_ms).max(MAX_RETRY_PAUSE));
        assert_eq!(operations(&rig.sent()), [(serial, serial)], "{reason}");
        assert!(
            answer.try_recv().is_err(),
            "{reason}: the caller does not see it"
        );
    }
}

#[test]
fn retries_are_bounded_in_number_when_every_node_is_away() {
    let mut rig = Rig::new(3);
    let (_, mut answer) = rig.submit(acquire(), None);
    let mut opened = 0;
    while rig.loss().is_none() {
        let Some(wake) = rig.tick() else { break };
        let refused = std::mem::take(&mut rig.opened);
        opened += refused.len();
        for opening in &refused {
            rig.core.link_ended(opening.id, None, rig.now);
        }
        if refused.is_empty() {
            rig.now = wake;
        }
    }
    // Three nodes, at most two attempts a second each once the pauses have grown, for 10 s.
    assert!((30..120).contains(&opened), "{opened} attempts");
    let lost = Failure::Lost(Loss::Silence { ttl: TTL });
    assert_eq!(
        answer.try_recv().unwrap(),
        Err(lost),
        "the session bounds them"
    );
}

#[test]
fn a_deadline_tells_the_caller_and_gives_the_wait_up() {
    let mut rig = Rig::new(1);
    let deadline = rig.now + Duration::from_secs(2);
    let (serial, mut answer) = rig.submit(acquire(), Some(deadline));
    rig.sent();
    rig.pass(Duration::from_millis(1_600));
    assert!(answer.try_recv().is_err());
    rig.pass(Duration::from_millis(400));
    let after = Duration::from_secs(2);
    assert_eq!(answer.try_recv().unwrap(), Err(Failure::NoAnswer { after }));
    assert_eq!(abandons(&rig.sent()).len(), 1);
    rig.answer(serial, granted(9));
    assert_eq!(releases(&rig.sent()), [], "a late grant is undone");
    rig.abandoned(serial, None);
}

#[test]
fn the_end_of_the_session_ends_everything() {
    let mut rig = Rig::new(1);
    let (_, mut answer) = rig.submit(acquire(), None);
    rig.receive(Response::Ended(SessionEnded {
        reason: "SESSION_EXPIRED".to_owned(),
        message: "gone".to_owned(),
    }));
    let loss = Loss::Ended {
        reason: Reason::SessionExpired,
        message: "gone".to_owned(),
    };
    assert_eq!(answer.try_recv().unwrap(), Err(Failure::Lost(loss.clone())));
    assert_eq!(rig.loss(), Some(loss));
    assert!(
        rig.latest().unwanted.try_recv().is_err(),
        "its streams are let go"
    );
    assert_eq!(rig.tick(), None);
}

/// Two nodes, one of which leads all shards; 0 for none.
fn led_by(leader: u64) -> Arc<Placement> {
    let news = WatchPlacementResponse {
        cluster_id: String::new(),
        nodes: (1..=2)
            .map(|node_id| NodeEndpoint {
                node_id,
                client_address: format!("node-{node_id}:7400"),
            })
            .collect(),
        shards: (0..=8)
            .map(|shard| ShardPlacement {
                shard,
                leader,
                replicas: Vec::new(),
            })
            .collect(),
        ring_version: RING_VERSION,
    };
    Arc::new(Placement::unknown(&[]).learnt(&news, &[]))
}

#[test]
fn an_operation_without_a_leader_is_sent_as_soon_as_there_is_one() {
    let mut rig = Rig::new(1);
    rig.core.follow(led_by(0), rig.now);
    let (serial, _answer) = rig.submit(acquire(), None);
    rig.sent();
    rig.answer(
        serial,
        refused(tonic::Code::Unavailable, "NO_LEADER", 60_000),
    );
    rig.core.follow(led_by(2), rig.now);
    let sent = rig.sent();
    assert_eq!(operations(&sent), [(serial, serial)]);
    assert_eq!(rig.latest().address, Address::parse("node-2:7400").unwrap());
}

/// The leader's address may lead nowhere, and be dialled for seconds.
#[test]
fn nothing_waits_for_a_stream_to_the_leader_while_another_is_open() {
    let mut rig = Rig::new(1);
    rig.core.follow(led_by(1), rig.now);
    rig.submit(acquire(), None);
    rig.attach();
    rig.sent();
    rig.core.follow(led_by(2), rig.now);
    rig.opened.extend(rig.core.take_openings());
    assert_eq!(rig.opened.len(), 2, "that to the leader is being opened");
    let leader = rig.opened.pop().unwrap();
    rig.submit(acquire(), None);
    assert_eq!(
        operations(&rig.sent()),
        [(2, 1)],
        "what is new does not wait"
    );
    rig.opened.push(leader);
    assert_eq!(operations(&rig.sent()), []);
    rig.attach();
    assert_eq!(
        operations(&rig.sent()),
        [(1, 1), (2, 1)],
        "once it is open, what is pending follows"
    );
    let (third, _answer) = rig.submit(acquire(), None);
    assert_eq!(operations(&rig.sent()), [(third, 1)]);
}

#[test]
fn a_grant_that_comes_after_the_lease_is_no_grant() {
    let mut rig = Rig::new(1);
    let (serial, mut answer) = rig.submit(acquire(), None);
    let sent = rig.sent();
    // The process was stopped; all this was waiting in its sockets.
    rig.now = rig.now + TTL;
    rig.confirm(&sent);
    rig.answer(serial, granted(1));
    let lost = Failure::Lost(Loss::Silence { ttl: TTL });
    assert_eq!(answer.try_recv().unwrap(), Err(lost));
}

/// An election is waited for while the session goes on with its other locks: the answers that a shard
/// would have to keep stay few.
#[test]
fn one_long_wait_does_not_hold_the_acknowledgements_back() {
    let mut rig = Rig::new(1);
    let (lead, _waits) = rig.submit(acquire(), None);
    rig.sent();
    let mut kept: BTreeSet<u64> = BTreeSet::new();
    for _ in 0..5_000 {
        let (serial, _answer) = rig.submit(acquire(), None);
        for request in rig.sent() {
            if let Request::Operation(operation) = request {
                let acked = |serial: &u64| {
                    let within = |r: &SerialRange| (r.first..=r.last).contains(serial);
                    *serial < operation.acked_below || operation.acked.iter().any(within)
                };
                assert!(!acked(&lead) && !acked(&serial), "{operation:?}");
                kept.retain(|serial| !acked(serial));
                kept.insert(operation.serial);
            }
        }
        rig.answer(serial, refused(tonic::Code::Aborted, "LOCK_UNAVAILABLE", 0));
        assert!(kept.len() < 1_000, "{} answers are kept", kept.len());
    }
}
