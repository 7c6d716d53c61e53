//! The program as its users see it: output, exit codes, signals; against a cluster in memory.

#![expect(clippy::unwrap_used, reason = "a test ends there")]

mod coordination;
mod supervision;

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Output, Stdio},
};

use lockstep_client::{
    Client, ClientConfig, SessionOptions,
    fake::{FakeCluster, State},
};

/// The program, pointed at the fake.
fn lockstepctl(fake: &FakeCluster, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstepctl"));
    command
        .args(args)
        .env("LOCKSTEP_ENDPOINTS", fake.endpoints().join(","))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs it to its end, off the runtime that serves the fake.
async fn run(fake: &FakeCluster, args: &[&str]) -> Output {
    let mut command = lockstepctl(fake, args);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

async fn end(child: Child) -> Output {
    tokio::task::spawn_blocking(move || child.wait_with_output().unwrap())
        .await
        .unwrap()
}

fn kill(child: &Child, signal: nix::sys::signal::Signal) {
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(id, signal).unwrap();
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn all_ended(state: &State) -> bool {
    state
        .sessions
        .values()
        .all(|session| session.ended.is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_under_the_lock_and_finds_its_token() {
    let fake = FakeCluster::start(1).await;
    let script = "echo $LOCKSTEP_LOCK $LOCKSTEP_TOKEN $LOCKSTEP_SESSION; exit 7";
    let output = run(&fake, &["lock", "run", "a", "--", "sh", "-c", script]).await;
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "a 1 000000005e550001\n");
    let state = fake.state();
    assert!(all_ended(&state) && state.table.holders("a").is_empty());
    assert_eq!(state.sessions[&0x5e55_0001].labels["client"], "lockstepctl");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_not_obtained_is_told_by_73_and_nothing_runs() {
    let fake = FakeCluster::start(1).await;
    fake.state().table.occupy("a", 1);
    for wait in [&["--try"][..], &["--timeout", "50ms"]] {
        let args = [&["lock", "run", "a"], wait, &["--", "echo", "ran"]].concat();
        let output = run(&fake, &args).await;
        assert_eq!(output.status.code(), Some(73), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "");
        assert!(
            text(&output.stderr).contains("lock show a"),
            "{}",
            text(&output.stderr)
        );
    }
    assert!(all_ended(&fake.state()));
    let shared = run(&fake, &["lock", "run", "b", "--shared", "--", "true"]).await;
    assert_eq!(shared.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lock_ends_the_whole_group_and_is_told_by_74() {
    let fake = FakeCluster::start(1).await;
    // The shell waits for its own child: only a signal to the group reaches that.
    let script = "trap 'echo told; exit 0' TERM; echo started; sleep 60 & wait";
    let mut child = lockstepctl(&fake, &["lock", "run", "a", "--", "sh", "-c", script])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "started");
    fake.end_session(0x5e55_0001, "SESSION_EXPIRED");
    // The end of the output means that `sleep`, which has it open too, has ended.
    let rest: Vec<String> = lines.map(|line| line.unwrap()).collect();
    assert_eq!(rest, ["told"]);
    let output = end(child).await;
    assert_eq!(output.status.code(), Some(74), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("was lost"),
        "{}",
        text(&output.stderr)
    );
    assert!(!text(&output.stderr).contains("killing it"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_ignores_sigterm_is_killed() {
    let fake = FakeCluster::start(1).await;
    let script = "trap '' TERM; echo started; while :; do sleep 1; done";
    let mut child = lockstepctl(&fake, &["lock", "run", "a", "--", "sh", "-c", script])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "started");
    fake.end_session(0x5e55_0001, "SESSION_EXPIRED");
    assert_eq!(lines.count(), 0);
    let output = end(child).await;
    assert_eq!(output.status.code(), Some(74));
    assert!(
        text(&output.stderr).contains("killing it"),
        "{}",
        text(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_reach_the_command_and_its_end_by_one_is_told() {
    let fake = FakeCluster::start(1).await;
    let script = "trap 'echo usr1; kill -9 $$' USR1; echo started; while :; do sleep 0.05; done";
    let mut child = lockstepctl(&fake, &["lock", "run", "a", "--", "sh", "-c", script])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "started");
    kill(&child, nix::sys::signal::Signal::SIGUSR1);
    assert_eq!(lines.next().unwrap().unwrap(), "usr1");
    let output = end(child).await;
    assert_eq!(
        output.status.code(),
        Some(128 + 9),
        "{}",
        text(&output.stderr)
    );
    assert!(all_ended(&fake.state()));
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_gives_a_wait_up() {
    let fake = FakeCluster::start(1).await;
    fake.state().table.occupy("a", 1);
    let child = lockstepctl(&fake, &["lock", "run", "a", "--", "true"])
        .spawn()
        .unwrap();
    fake.until("it waits", |state| state.table.waiters("a") == 1)
        .await;
    kill(&child, nix::sys::signal::Signal::SIGINT);
    let output = end(child).await;
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    let state = fake.state();
    assert!(all_ended(&state) && state.table.waiters("a") == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_is_told_as_env_does() {
    let fake = FakeCluster::start(1).await;
    let missing = run(&fake, &["lock", "run", "a", "--", "/no/such/program"]).await;
    assert_eq!(
        missing.status.code(),
        Some(127),
        "{}",
        text(&missing.stderr)
    );
    let no_program = run(&fake, &["lock", "run", "a", "--", "/etc/passwd"]).await;
    assert_eq!(
        no_program.status.code(),
        Some(126),
        "{}",
        text(&no_program.stderr)
    );
    assert!(fake.state().table.holders("a").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_told_by_64_and_an_absent_cluster_by_69() {
    let fake = FakeCluster::start(1).await;
    for args in [
        &["lock", "run", "a"][..],
        &["lock", "run", "a", "--timeout", "soon", "--", "true"],
        &["lock", "run", "a", "--try", "--timeout", "1s", "--", "true"],
        &["lock", "run", "", "--", "true"],
        &["lock", "validate", "a", "x"],
        &["semaphore", "run", "a", "--", "true"],
        &[
            "semaphore",
            "run",
            "a",
            "--size",
            "2",
            "--permits",
            "3",
            "--",
            "true",
        ],
        &["barrier", "wait", "a", "--parties", "0"],
        &["watch", "a", "--prefix", "b"],
        &["session", "close", "nobody"],
        &["status", "--endpoints", "not an address"],
        &["frobnicate"],
    ] {
        let output = run(&fake, args).await;
        assert_eq!(
            output.status.code(),
            Some(64),
            "{args:?}: {}",
            text(&output.stderr)
        );
        assert_eq!(text(&output.stdout), "", "{args:?}");
    }
    let output = run(&fake, &["status", "--endpoints", "127.0.0.1:1"]).await;
    assert_eq!(output.status.code(), Some(69));
    assert!(
        text(&output.stderr).contains("127.0.0.1:1"),
        "{}",
        text(&output.stderr)
    );
    let help = run(&fake, &["lock", "run", "--help"]).await;
    assert_eq!(help.status.code(), Some(0));
    assert!(
        text(&help.stdout).contains("74 "),
        "exit codes are documented"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_are_listed_and_shown() {
    let fake = FakeCluster::start(1).await;
    fake.state().table.occupy("jobs/nightly", 0xabc);
    fake.state().table.occupy("other", 0xabc);
    let client = Client::connect(ClientConfig::new(fake.endpoints()))
        .await
        .unwrap();
    let session = client
        .open_session(SessionOptions::default())
        .await
        .unwrap();
    let waiting = tokio::spawn(session.lock("jobs/nightly").owner("me").acquire());
    fake.until("it waits", |state| state.table.waiters("jobs/nightly") == 1)
        .await;

    let listed = run(&fake, &["lock", "ls", "jobs/", "-o", "json"]).await;
    let shown = run(&fake, &["lock", "show", "jobs/nightly", "-o", "json"]).await;
    let want = serde_json::json!({
        "name": "jobs/nightly",
        "shard": fake.state().table.history.shard_of("jobs/nightly"),
        "holders": [{
            "session": "0000000000000abc", "owner": "", "mode": "exclusive", "token": 1,
            "holds": 1, "since_ms": 1_700_000_000_000_u64, "value": "",
        }],
        "waiters": [{
            "session": "000000005e550001", "owner": "me", "mode": "exclusive", "upgrade": false,
            "since_ms": 1_700_000_001_000_u64, "position": 1,
        }],
        "waiter_count": 1,
        "holder_count": 1,
    });
    assert_eq!(json(&shown), want);
    assert_eq!(
        json(&listed),
        serde_json::json!({ "locks": [want], "truncated": false })
    );

    let table = text(&run(&fake, &["lock", "ls"]).await.stdout);
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        ["NAME", "MODE", "TOKEN", "WAITING", "FOR", "SESSION"]
    );
    assert_eq!(lines[1][..4], ["jobs/nightly", "exclusive", "1", "1"]);
    assert_eq!(lines[2][..4], ["other", "exclusive", "2", "0"]);
    assert!(!table.contains('\x1b'), "no colour in a pipe");
    waiting.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_page_by_page_and_closed() {
    let fake = FakeCluster::start(1).await;
    let client = Client::connect(ClientConfig::new(fake.endpoints()))
        .await
        .unwrap();
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(
            client
                .open_session(SessionOptions::default())
                .await
                .unwrap(),
        );
    }
    let all = json(&run(&fake, &["session", "ls", "-o", "json"]).await);
    assert_eq!(all["truncated"], false);
    assert_eq!(all["sessions"].as_array().unwrap().len(), 3);
    assert_eq!(
        all["sessions"][0],
        serde_json::json!({
            "session": "000000005e550001", "ttl_ms": 10_000, "epoch": 1, "priority": 0,
            "labels": {}, "opened_at_ms": 1_700_000_000_000_u64, "shards": [1], "ending": false,
        })
    );
    let some = run(&fake, &["session", "ls", "--limit", "2", "-o", "json"]).await;
    assert_eq!(json(&some)["truncated"], true);
    assert_eq!(json(&some)["sessions"].as_array().unwrap().len(), 2);
    assert!(text(&some.stderr).contains("--limit"));

    let id = open[1].id().to_string();
    let closed = run(&fake, &["session", "close", &id, "-o", "json"]).await;
    assert_eq!(
        json(&closed),
        serde_json::json!({ "session": id, "closed": true, "lease_ms": 0 })
    );
    open[1].lost().await;
    let again = run(&fake, &["session", "close", &id]).await;
    assert_eq!(again.status.code(), Some(1));
    assert!(
        text(&again.stderr).contains("SESSION_NOT_FOUND"),
        "{}",
        text(&again.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_is_shown_once_or_again_and_again() {
    let fake = FakeCluster::start(3).await;
    fake.lead_shards(|shard| u64::from(shard % 3));
    let status = json(&run(&fake, &["status", "-o", "json"]).await);
    assert_eq!(status["cluster_id"], "0123456789abcdef0123456789abcdef");
    assert_eq!(status["nodes"][0]["name"], "node-1");
    assert_eq!(status["nodes"].as_array().unwrap().len(), 3);
    assert_eq!(status["shards"][0]["leader"], serde_json::Value::Null);
    assert_eq!(
        status["shards"][1],
        serde_json::json!({
            "shard": 1, "leader": 1, "term": 3, "last_index": 42, "committed_index": 42,
            "replicas": (1..=3).map(|node_id| serde_json::json!({
                "node_id": node_id, "voter": true, "matched_index": 42, "lag": 0,
            })).collect::<Vec<_>>(),
        })
    );
    let table = text(&run(&fake, &["status"]).await.stdout);
    assert!(table.contains("meta   none"), "{table}");
    assert!(table.contains("node-1, node-2, node-3"), "{table}");

    let mut watch = lockstepctl(&fake, &["status", "--watch", "-o", "json"])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let line = lines.next().unwrap().unwrap();
        let status: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(status["nodes"].as_array().unwrap().len(), 3);
    }
    // A reader that goes away ends it, and is no error.
    drop(lines);
    assert_eq!(end(watch).await.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_no_cluster_works_without() {
    let fake = FakeCluster::start(1).await;
    fake.down(1, true);
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&fake, &["completions", shell]).await;
        assert_eq!(script.status.code(), Some(0), "{shell}");
        assert!(text(&script.stdout).contains("lockstepctl"), "{shell}");
    }
    let version = run(&fake, &["version", "-o", "json"]).await;
    assert_eq!(
        json(&version),
        serde_json::json!({ "version": env!("CARGO_PKG_VERSION") })
    );
}
