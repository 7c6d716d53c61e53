//! Every RPC with missing, oversized, malformed and unknown fields: a clear code and a reason, and a
//! node that lives on.

mod nodes;
mod raw;
mod shapes;

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, ensure};
use lockstep_drill::cluster::{Cluster, ClusterOptions, with_cluster};
use lockstep_proto::lock::v1::{
    AcquireOperation, AcquireRequest, AttachStream, CloseSessionRequest, DowngradeOperation,
    DowngradeRequest, GetLockRequest, KeepAliveRequest, ListLocksRequest, ListSessionsRequest,
    LockMode, LockSpec, OpenSessionRequest, Operation, ReleaseOperation, ReleaseRequest,
    RenewOperation, RenewRequest, SessionRequest, UpgradeOperation, UpgradeRequest,
    ValidateRequest, Wait, lock_service_client::LockServiceClient, operation,
    session_request::Request as Say, session_response::Response as Heard, wait,
};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

const LIMIT: Duration = Duration::from_secs(60);
const INVALID: Expected = Expected(Code::InvalidArgument, "INVALID_ARGUMENT");
const NO_SESSION: Expected = Expected(Code::NotFound, "SESSION_NOT_FOUND");
const STALE: Expected = Expected(Code::FailedPrecondition, "STALE_TOKEN");
/// No session has this id.
const UNKNOWN_SESSION: u64 = 0xdead_beef;

#[derive(Clone, Copy, Debug)]
struct Expected(Code, &'static str);

/// What was wrong with the answers so far: all of it is reported at once.
#[derive(Default)]
struct Findings {
    wrong: Vec<String>,
    checked: usize,
}

impl Findings {
    fn check<T: std::fmt::Debug>(
        &mut self,
        what: &str,
        answer: Result<T, Status>,
        expected: Expected,
    ) {
        self.checked += 1;
        let status = match answer {
            Ok(answer) => return self.wrong.push(format!("{what}: accepted: {answer:?}")),
            Err(status) => status,
        };
        let info = status.get_details_error_info();
        let seen = info.map(|info| (info.domain, info.reason));
        let reason = ("lockstep.dev".to_owned(), expected.1.to_owned());
        if status.code() != expected.0 || seen.as_ref() != Some(&reason) {
            let (code, words) = (status.code(), status.message());
            self.wrong.push(format!(
                "{what}: expected {expected:?}, got {code:?} {seen:?} {words:?}"
            ));
        }
        if status.message().is_empty() {
            self.wrong.push(format!("{what}: no words"));
        }
    }

    fn conclude(self) -> anyhow::Result<()> {
        let Self { wrong, checked } = self;
        ensure!(
            wrong.is_empty(),
            "{} of {checked} answers are wrong:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
        Ok(())
    }
}

fn bad_names() -> [(&'static str, String); 2] {
    [
        ("no name", String::new()),
        ("a name of 513 bytes", "n".repeat(513)),
    ]
}

fn exclusive(name: &str) -> AcquireOperation {
    AcquireOperation {
        locks: vec![spec(name, LockMode::Exclusive.into())],
        owner: String::new(),
        wait: Some(Wait {
            wait: Some(wait::Wait::TimeoutMs(1_000)),
        }),
        ..AcquireOperation::default()
    }
}

fn spec(name: &str, mode: i32) -> LockSpec {
    LockSpec {
        name: name.to_owned(),
        mode,
        ..LockSpec::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_refuses_bad_input_in_words() -> anyhow::Result<()> {
    let options = ClusterOptions {
        nodes: 1,
        founders: 1,
        ..ClusterOptions::new("test-bad-input").with_shards(2)
    };
    with_cluster(options, LIMIT, async |cluster| {
        let mut client = cluster.locks(0)?;
        let opened = client.open_session(OpenSessionRequest::default()).await?;
        let session = opened.into_inner().session_id;
        let mut findings = Findings::default();
        sessions(&mut client, &mut findings).await;
        acquisitions(&mut client, session, &mut findings).await;
        holds(&mut client, session, &mut findings).await?;
        questions(&mut client, &mut findings).await;
        shapes::check(&mut client, session, &mut findings).await;
        nodes::check(cluster, &mut findings).await?;
        streams(&mut client, session, &mut findings).await?;
        wire(cluster, &mut findings).await?;
        still_well(cluster, session).await?;
        findings.conclude()
    })
    .await
}

async fn sessions(client: &mut LockServiceClient<Channel>, findings: &mut Findings) {
    let labels = |pairs: Vec<(String, String)>| OpenSessionRequest {
        labels: pairs.into_iter().collect(),
        ..OpenSessionRequest::default()
    };
    let ttl = |ttl_ms| OpenSessionRequest {
        ttl_ms,
        ..OpenSessionRequest::default()
    };
    let many = (0..17).map(|key| (format!("key-{key}"), String::new()));
    for (what, request) in [
        ("a TTL of 999 ms", ttl(999)),
        ("a TTL over an hour", ttl(3_600_001)),
        ("the longest TTL that fits", ttl(u64::MAX)),
        ("17 labels", labels(many.collect())),
        (
            "an empty label key",
            labels(vec![(String::new(), "v".into())]),
        ),
        (
            "a label key of 65 bytes",
            labels(vec![("k".repeat(65), "v".into())]),
        ),
        (
            "a label value of 257 bytes",
            labels(vec![("k".into(), "v".repeat(257))]),
        ),
    ] {
        let what = format!("OpenSession with {what}");
        findings.check(&what, client.open_session(request).await, INVALID);
    }
    for (session_id, expected) in [(0, INVALID), (UNKNOWN_SESSION, NO_SESSION)] {
        let request = KeepAliveRequest { session_id };
        let what = format!("KeepAlive of session {session_id}");
        findings.check(&what, client.keep_alive(request).await, expected);
        let request = CloseSessionRequest {
            session_id,
            at_once: true,
        };
        let what = format!("CloseSession of session {session_id}");
        findings.check(&what, client.close_session(request).await, expected);
    }
    for (page_size, page_token) in [(1_001, ""), (u32::MAX, ""), (10, "no token"), (10, "ffff")] {
        let request = ListSessionsRequest {
            page_size,
            page_token: page_token.to_owned(),
        };
        let what = format!("ListSessions with {request:?}");
        let answer = client.list_sessions(request).await;
        // A token that looks like one begins a page somewhere.
        if page_token != "ffff" || answer.is_err() {
            findings.check(&what, answer, INVALID);
        }
    }
}

async fn acquisitions(
    client: &mut LockServiceClient<Channel>,
    session_id: u64,
    findings: &mut Findings,
) {
    let locks = |locks| AcquireOperation {
        locks,
        ..exclusive("a")
    };
    let waits = |wait| AcquireOperation {
        wait: Some(Wait { wait: Some(wait) }),
        ..exclusive("a")
    };
    let named = |count: usize| (0..count).map(|n| spec(&format!("n{n}"), 2)).collect();
    let owner = AcquireOperation {
        owner: "o".repeat(129),
        ..exclusive("a")
    };
    let reserved = AcquireOperation {
        owner: "~1".to_owned(),
        ..exclusive("a")
    };
    let mut cases = vec![
        ("no operation".to_owned(), None),
        ("no locks".to_owned(), Some(locks(vec![]))),
        ("65 locks".to_owned(), Some(locks(named(65)))),
        ("no mode".to_owned(), Some(locks(vec![spec("a", 0)]))),
        (
            "an unknown mode".to_owned(),
            Some(locks(vec![spec("a", 99)])),
        ),
        (
            "one lock twice".to_owned(),
            Some(locks(vec![spec("a", 1), spec("a", 2)])),
        ),
        ("an owner of 129 bytes".to_owned(), Some(owner)),
        ("an owner of unnamed ones".to_owned(), Some(reserved)),
        (
            "a wait of 0 ms".to_owned(),
            Some(waits(wait::Wait::TimeoutMs(0))),
        ),
        (
            "a wait over a day".to_owned(),
            Some(waits(wait::Wait::TimeoutMs(86_400_001))),
        ),
    ];
    for (what, name) in bad_names() {
        cases.push((what.to_owned(), Some(exclusive(&name))));
    }
    for (what, operation) in cases {
        let request = AcquireRequest {
            acked_below: 0,
            acked: Vec::new(),
            session_id,
            serial: 0,
            operation,
        };
        findings.check(
            &format!("Acquire with {what}"),
            client.acquire(request).await,
            INVALID,
        );
    }
    for (session_id, serial, expected) in [
        (0, 0, INVALID),
        (UNKNOWN_SESSION, 0, NO_SESSION),
        (session_id, 1 << 63, INVALID),
    ] {
        let request = AcquireRequest {
            acked_below: 0,
            acked: Vec::new(),
            session_id,
            serial,
            operation: Some(exclusive("a")),
        };
        let what = format!("Acquire of session {session_id} with serial {serial}");
        findings.check(&what, client.acquire(request).await, expected);
    }
}

/// Release, Renew, Upgrade and Downgrade, which all name a hold.
async fn holds(
    client: &mut LockServiceClient<Channel>,
    session_id: u64,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let mut cases = vec![
        ("no operation", session_id, None, INVALID),
        ("token 0", session_id, Some(("a".to_owned(), 0)), INVALID),
        (
            "a token of no grant",
            session_id,
            Some(("a".to_owned(), 77)),
            STALE,
        ),
        ("session 0", 0, Some(("a".to_owned(), 1)), INVALID),
        (
            "an unknown session",
            UNKNOWN_SESSION,
            Some(("a".to_owned(), 1)),
            NO_SESSION,
        ),
    ];
    for (what, name) in bad_names() {
        cases.push((what, session_id, Some((name, 1)), INVALID));
    }
    for (what, session_id, hold, expected) in cases {
        let serial = 0;
        let operation = hold
            .clone()
            .map(|(name, token)| ReleaseOperation { name, token });
        let request = ReleaseRequest {
            acked_below: 0,
            acked: Vec::new(),
            session_id,
            serial,
            operation,
        };
        findings.check(
            &format!("Release with {what}"),
            client.release(request).await,
            expected,
        );
        let operation = hold
            .clone()
            .map(|(name, token)| RenewOperation { name, token });
        let request = RenewRequest {
            session_id,
            operation,
        };
        findings.check(
            &format!("Renew with {what}"),
            client.renew(request).await,
            expected,
        );
        let operation = hold.clone().map(|(name, token)| UpgradeOperation {
            name,
            token,
            wait: None,
        });
        let request = UpgradeRequest {
            acked_below: 0,
            acked: Vec::new(),
            session_id,
            serial,
            operation,
        };
        findings.check(
            &format!("Upgrade with {what}"),
            client.upgrade(request).await,
            expected,
        );
        let operation = hold.map(|(name, token)| DowngradeOperation { name, token });
        let request = DowngradeRequest {
            acked_below: 0,
            acked: Vec::new(),
            session_id,
            serial,
            operation,
        };
        let answer = client.downgrade(request).await;
        findings.check(&format!("Downgrade with {what}"), answer, expected);
    }
    Ok(())
}

async fn questions(client: &mut LockServiceClient<Channel>, findings: &mut Findings) {
    for (what, name) in bad_names() {
        let request = GetLockRequest { name: name.clone() };
        findings.check(
            &format!("GetLock with {what}"),
            client.get_lock(request).await,
            INVALID,
        );
        let request = ValidateRequest { name, token: 1 };
        findings.check(
            &format!("Validate with {what}"),
            client.validate(request).await,
            INVALID,
        );
    }
    let request = ValidateRequest {
        name: "a".to_owned(),
        token: 0,
    };
    findings.check(
        "Validate with token 0",
        client.validate(request).await,
        INVALID,
    );
    for (prefix, page_size, page_token) in [
        (String::new(), 1_001, String::new()),
        (String::new(), 10, "t".repeat(2_000)),
        ("p".repeat(513), 10, String::new()),
    ] {
        let what = format!(
            "ListLocks with a prefix of {} bytes, {page_size} rows, a token of {} bytes",
            prefix.len(),
            page_token.len()
        );
        let request = ListLocksRequest {
            prefix,
            page_size,
            page_token,
        };
        findings.check(&what, client.list_locks(request).await, INVALID);
    }
}

async fn streams(
    client: &mut LockServiceClient<Channel>,
    session_id: u64,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let attach = |session_id| {
        Some(Say::Attach(AttachStream {
            session_id,
            resume: false,
        }))
    };
    let operate = |serial, operation| {
        Some(Say::Operation(Operation {
            serial,
            acked_below: 0,
            acked: Vec::new(),
            operation,
        }))
    };
    let acquire = |name: &str| Some(operation::Operation::Acquire(exclusive(name)));
    let attached = || attach(session_id);
    for (what, said, expected) in [
        ("no request", vec![None], INVALID),
        (
            "an operation first",
            vec![operate(1, acquire("s"))],
            INVALID,
        ),
        ("session 0", vec![attach(0)], INVALID),
        (
            "an unknown session",
            vec![attach(UNKNOWN_SESSION)],
            NO_SESSION,
        ),
        ("a second attach", vec![attached(), attached()], INVALID),
        ("an empty message", vec![attached(), None], INVALID),
        (
            "serial 0",
            vec![attached(), operate(0, acquire("s"))],
            INVALID,
        ),
        (
            "a node's serial",
            vec![attached(), operate(1 << 63, acquire("s"))],
            INVALID,
        ),
    ] {
        let what = format!("Session with {what}");
        findings.check(&what, converse(client, said).await, expected);
    }
    // Inside the stream the same facts are the answers of operations.
    let said = vec![
        attached(),
        operate(1, acquire("s")),
        operate(
            1,
            Some(operation::Operation::Release(ReleaseOperation {
                name: "s".to_owned(),
                token: 1,
            })),
        ),
        operate(2, None),
        operate(3, acquire("")),
    ];
    let heard = converse(client, said).await;
    let heard = heard.context("a stream with bad operations should go on")?;
    let errors: HashMap<u64, String> = heard.into_iter().collect();
    for (serial, reason) in [
        (1, "SERIAL_REUSED"),
        (2, "INVALID_ARGUMENT"),
        (3, "INVALID_ARGUMENT"),
    ] {
        findings.checked += 1;
        let seen = errors.get(&serial);
        if seen.map(String::as_str) != Some(reason) {
            let wrong = format!("operation {serial} in a stream: expected {reason}, got {seen:?}");
            findings.wrong.push(wrong);
        }
    }
    Ok(())
}

/// Says all of it on a new stream, half-closes, and hears all answers: serial and reason of each
/// operation that was refused.
async fn converse(
    client: &mut LockServiceClient<Channel>,
    said: Vec<Option<Say>>,
) -> Result<Vec<(u64, String)>, Status> {
    let messages = said.into_iter().map(|request| SessionRequest { request });
    let messages: Vec<_> = messages.collect();
    let mut answers = client
        .session(futures::stream::iter(messages))
        .await?
        .into_inner();
    let mut errors = vec![];
    while let Some(answer) = answers.message().await? {
        match answer.response {
            Some(Heard::Result(result)) => {
                if let Some(lockstep_proto::lock::v1::operation_result::Result::Error(error)) =
                    result.result
                {
                    errors.push((result.serial, error.reason));
                }
            }
            // As a status would say it.
            Some(Heard::Ended(ended)) => {
                let mut details = tonic_types::ErrorDetails::new();
                details.set_error_info(ended.reason, "lockstep.dev", HashMap::new());
                return Err(Status::with_error_details(
                    Code::NotFound,
                    ended.message,
                    details,
                ));
            }
            Some(Heard::Attached(_) | Heard::KeptAlive(_) | Heard::Abandoned(_)) | None => {}
        }
    }
    Ok(errors)
}

/// Bytes that are no message of the method, and more of them than are allowed.
async fn wire(cluster: &Cluster, findings: &mut Findings) -> anyhow::Result<()> {
    let client = cluster.endpoints().into_iter().next().context("no node")?;
    let peer = cluster.peer_endpoint(0)?;
    for method in raw::CLIENT_METHODS {
        for (what, bytes) in raw::malformed() {
            let answer = raw::call(&client, method, bytes).await?;
            findings.check(&format!("{method} with {what}"), answer, INVALID);
        }
        let answer = raw::call(&client, method, vec![b'x'; 8 << 20]).await?;
        let status = answer.err().context("8 MiB were accepted")?;
        let bounded = matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted);
        findings.checked += 1;
        if !bounded {
            findings
                .wrong
                .push(format!("{method} with 8 MiB: {status:?}"));
        }
    }
    // Peers are not to be trusted with bytes either: whatever they are told, the node lives on.
    for method in raw::PEER_METHODS {
        for (_, bytes) in raw::malformed() {
            let _refused = raw::call(&peer, method, bytes).await?;
        }
    }
    Ok(())
}

async fn still_well(cluster: &mut Cluster, session_id: u64) -> anyhow::Result<()> {
    ensure!(cluster.is_running(0), "the node has ended");
    cluster.wait_ready(0).await?;
    let request = AcquireRequest {
        acked_below: 0,
        acked: Vec::new(),
        session_id,
        serial: 0,
        operation: Some(exclusive("well")),
    };
    cluster
        .locks(0)?
        .acquire(request)
        .await
        .context("a good request")?;
    let log = std::fs::read_to_string(cluster.dir().join("node-1.log"))?;
    let panic = log.lines().find(|line| line.contains("panicked"));
    ensure!(panic.is_none(), "a panic: {panic:?}");
    Ok(())
}
