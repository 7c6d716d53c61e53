//! What is made of locks, asked for in the wrong way.

use lockstep_proto::lock::v1::{
    AcquireOperation, AcquireRequest, LockMode, LockSpec, Position, ProclaimOperation,
    ProclaimRequest, WatchRequest, lock_service_client::LockServiceClient, watch_request::Target,
};
use tonic::transport::Channel;

use super::{Findings, INVALID, NO_SESSION, STALE, UNKNOWN_SESSION, bad_names, exclusive, spec};

pub(crate) async fn check(
    client: &mut LockServiceClient<Channel>,
    session_id: u64,
    findings: &mut Findings,
) {
    modes(client, session_id, findings).await;
    proclaims(client, session_id, findings).await;
    watches(client, findings).await;
}

fn sized(mode: LockMode, permits: u32, size: u32) -> LockSpec {
    LockSpec {
        permits,
        size,
        ..spec("s", mode.into())
    }
}

async fn modes(client: &mut LockServiceClient<Channel>, session_id: u64, findings: &mut Findings) {
    let value = AcquireOperation {
        value: vec![7; 4_097],
        ..exclusive("s")
    };
    let mut cases = vec![("a value of 4,097 bytes".to_owned(), value)];
    for (mode, permits, size) in [
        (LockMode::Semaphore, 1, 0),
        (LockMode::Semaphore, 4, 3),
        (LockMode::Semaphore, 1, 65_537),
        (LockMode::Barrier, 0, 0),
        (LockMode::Barrier, 1, 3),
        (LockMode::Barrier, 0, 65_537),
        (LockMode::Exclusive, 1, 0),
        (LockMode::Shared, 0, 2),
    ] {
        let operation = AcquireOperation {
            locks: vec![sized(mode, permits, size)],
            ..exclusive("s")
        };
        cases.push((format!("{mode:?}, {permits} of {size}"), operation));
    }
    let among = AcquireOperation {
        locks: vec![sized(LockMode::Barrier, 0, 2), spec("t", 2)],
        ..exclusive("s")
    };
    cases.push(("a barrier among others".to_owned(), among));
    for (what, operation) in cases {
        let request = AcquireRequest {
            session_id,
            operation: Some(operation),
            ..AcquireRequest::default()
        };
        let answer = client.acquire(request).await;
        findings.check(&format!("Acquire with {what}"), answer, INVALID);
    }
}

async fn proclaims(
    client: &mut LockServiceClient<Channel>,
    session_id: u64,
    findings: &mut Findings,
) {
    let said = |name: &str, token, value: usize| {
        Some(ProclaimOperation {
            name: name.to_owned(),
            token,
            value: vec![7; value],
        })
    };
    let mut cases = vec![
        ("no operation", session_id, None, INVALID),
        ("token 0", session_id, said("a", 0, 1), INVALID),
        ("4,097 bytes", session_id, said("a", 1, 4_097), INVALID),
        ("a token of no grant", session_id, said("a", 77, 1), STALE),
        ("session 0", 0, said("a", 1, 1), INVALID),
        (
            "an unknown session",
            UNKNOWN_SESSION,
            said("a", 1, 1),
            NO_SESSION,
        ),
    ];
    for (what, name) in bad_names() {
        cases.push((what, session_id, said(&name, 1, 1), INVALID));
    }
    for (what, session_id, operation, expected) in cases {
        let request = ProclaimRequest {
            session_id,
            operation,
            ..ProclaimRequest::default()
        };
        let answer = client.proclaim(request).await;
        findings.check(&format!("Proclaim with {what}"), answer, expected);
    }
}

async fn watches(client: &mut LockServiceClient<Channel>, findings: &mut Findings) {
    let name = |name: String| Some(Target::Name(name));
    let all = || Some(Target::Prefix(String::new()));
    let cluster_id = cluster_id(client, all()).await;
    let position = |shard| Position {
        shard,
        revision: 0,
        cluster_id: cluster_id.clone(),
    };
    let of_no_cluster = Position {
        cluster_id: String::new(),
        ..position(1)
    };
    let mut cases = vec![
        ("no target", None, vec![]),
        ("a shard that is not there", all(), vec![position(99)]),
        ("a position of no cluster", all(), vec![of_no_cluster]),
        ("a shard twice", all(), vec![position(1), position(1)]),
        (
            "a prefix of 513 bytes",
            Some(Target::Prefix("p".repeat(513))),
            vec![],
        ),
    ];
    for (what, bad) in bad_names() {
        cases.push((what, name(bad), vec![]));
    }
    for (what, target, after) in cases {
        let request = WatchRequest { target, after };
        let answer = client.watch(request).await.map(|_| "a stream");
        findings.check(&format!("Watch with {what}"), answer, INVALID);
    }
}

/// As a good watch tells it; empty, and so refused for another reason, if there is none.
async fn cluster_id(client: &mut LockServiceClient<Channel>, target: Option<Target>) -> String {
    let request = WatchRequest {
        target,
        after: vec![],
    };
    let Ok(answer) = client.watch(request).await else {
        return String::new();
    };
    let first = answer.into_inner().message().await.ok().flatten();
    first.map(|told| told.cluster_id).unwrap_or_default()
}
