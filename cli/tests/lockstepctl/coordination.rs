//! Elections, semaphores, barriers, watches and deadlocks on the command line.

use std::{
    io::{BufRead as _, BufReader, Lines},
    process::{Child, ChildStdout},
};

use lockstep_client::fake::{FakeCluster, Fault};
use lockstep_proto::lock::v1::{Deadlock, WaitFor};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tonic::Code;

use super::{all_ended, end, json as parsed, kill, lockstepctl, run, text};

type Out = Lines<BufReader<ChildStdout>>;

fn start(fake: &FakeCluster, args: &[&str]) -> (Child, Out) {
    let mut child = lockstepctl(fake, args).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

fn line(lines: &mut Out) -> String {
    lines.next().unwrap().unwrap()
}

fn json_line(lines: &mut Out) -> Value {
    serde_json::from_str(&line(lines)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_and_the_next_takes_over_when_it_is_lost() {
    let fake = FakeCluster::start(1).await;
    let script = "echo $LOCKSTEP_ELECTION $LOCKSTEP_TOKEN $LOCKSTEP_SESSION; exec sleep 60";
    let args = [
        "elect", "run", "e", "--value", "one", "--", "sh", "-c", script,
    ];
    let (active, mut lines) = start(&fake, &args);
    assert_eq!(line(&mut lines), "e 1 000000005e550001");
    let script = "echo $LOCKSTEP_TOKEN; exit 7";
    let (standby, mut second) = start(&fake, &["elect", "run", "e", "--", "sh", "-c", script]);
    fake.until("it stands by", |state| state.table.waiters("e") == 1)
        .await;
    let tried = run(&fake, &["elect", "run", "e", "--try", "--", "true"]).await;
    assert_eq!(tried.status.code(), Some(73));
    let words = text(&tried.stderr);
    assert!(words.contains("elect show e"), "{words}");

    let shown = run(&fake, &["elect", "show", "e", "-o", "json"]).await;
    let want = json!({
        "name": "e",
        "leader": {
            "session": "000000005e550001", "owner": "~1", "token": 1, "value": "one",
            "since_ms": 1_700_000_000_000_u64,
        },
        "candidates": [{
            "session": "000000005e550002", "owner": "~1", "mode": "exclusive", "upgrade": false,
            "since_ms": 1_700_000_001_000_u64, "position": 1,
        }],
        "candidate_count": 1,
    });
    assert_eq!(parsed(&shown), want);
    let shown = text(&run(&fake, &["elect", "show", "e"]).await.stdout);
    assert!(
        shown.starts_with("e is led by session 000000005e550001 under token 1 "),
        "{shown}"
    );
    assert!(
        shown.contains(": one\n") && shown.contains("STANDS BY"),
        "{shown}"
    );

    fake.end_session(0x5e55_0001, "SESSION_EXPIRED");
    assert_eq!(line(&mut second), "2");
    assert_eq!(end(standby).await.status.code(), Some(7));
    let lost = end(active).await;
    assert_eq!(lost.status.code(), Some(74), "{}", text(&lost.stderr));
    let nobody = run(&fake, &["elect", "show", "e"]).await;
    assert_eq!(text(&nobody.stdout), "nobody leads e\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leads_is_observed() {
    let fake = FakeCluster::start(2).await;
    let (observer, mut lines) = start(&fake, &["elect", "observe", "e", "-o", "json"]);
    assert_eq!(
        json_line(&mut lines),
        json!({ "name": "e", "leader": null })
    );
    fake.occupy("e", 0xabc, b"one");
    let leader = json!({ "session": "0000000000000abc", "owner": "", "token": 1, "value": "one" });
    assert_eq!(
        json_line(&mut lines),
        json!({ "name": "e", "leader": leader })
    );
    fake.down(1, true);
    fake.vacate("e");
    assert_eq!(json_line(&mut lines)["leader"], Value::Null);
    kill(&observer, Signal::SIGINT);
    assert_eq!(
        end(observer).await.status.code(),
        None,
        "as any program that is interrupted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_under_permits() {
    let fake = FakeCluster::start(1).await;
    let semaphore = ["semaphore", "run", "pool", "--size", "3"];
    let script = "echo $LOCKSTEP_SEMAPHORE $LOCKSTEP_TOKEN; exec sleep 60";
    let args = [
        &semaphore[..],
        &["--permits", "2", "--", "sh", "-c", script],
    ]
    .concat();
    let (two, mut lines) = start(&fake, &args);
    assert_eq!(line(&mut lines), "pool 1");
    let args = [&semaphore[..], &["--try", "--permits", "2", "--", "true"]].concat();
    let refused = run(&fake, &args).await;
    assert_eq!(refused.status.code(), Some(73));
    let words = text(&refused.stderr);
    assert!(words.contains("lock show pool"), "{words}");

    let script = "lockstepctl=$0; $lockstepctl lock ls; $lockstepctl lock show pool -o json";
    let program = env!("CARGO_BIN_EXE_lockstepctl");
    let args = [&semaphore[..], &["--", "sh", "-c", script, program]].concat();
    let one = run(&fake, &args).await;
    assert_eq!(one.status.code(), Some(0), "{}", text(&one.stderr));
    let out = text(&one.stdout);
    let (list, shown) = out.split_once('{').unwrap();
    assert!(list.contains("pool  semaphore 3/3  2 "), "{list}");
    let shown: Value = serde_json::from_str(&format!("{{{shown}")).unwrap();
    let holder = &shown["holders"][0];
    let facts = [&holder["mode"], &holder["permits"], &holder["size"]];
    assert_eq!(facts, [&json!("semaphore"), &json!(2), &json!(3)]);

    let other = ["semaphore", "run", "pool", "--size", "4", "--", "true"];
    let other = run(&fake, &other).await;
    assert_eq!(other.status.code(), Some(1));
    assert!(
        text(&other.stderr).contains("OTHER_USAGE"),
        "{}",
        text(&other.stderr)
    );
    kill(&two, Signal::SIGTERM);
    assert_eq!(end(two).await.status.code(), Some(128 + 15));
    assert!(all_ended(&fake.state()));
}

#[tokio::test(flavor = "multi_thread")]
async fn parties_meet_at_a_barrier() {
    let fake = FakeCluster::start(1).await;
    let args = ["barrier", "wait", "b", "--parties", "2"];
    for generation in 1..=2 {
        let (first, mut lines) = start(&fake, &args);
        fake.until("it waits", |state| state.table.waiters("b") == 1)
            .await;
        let second = run(&fake, &[&args[..], &["-o", "json"]].concat()).await;
        assert_eq!(
            parsed(&second),
            json!({ "name": "b", "generation": generation })
        );
        assert_eq!(line(&mut lines), generation.to_string());
        assert_eq!(end(first).await.status.code(), Some(0));
    }
    let late = run(&fake, &[&args[..], &["--timeout", "50ms"]].concat()).await;
    assert_eq!(late.status.code(), Some(73));
    assert!(
        text(&late.stderr).contains("lock show b"),
        "{}",
        text(&late.stderr)
    );
    let (waiting, _lines) = start(&fake, &args);
    fake.until("it waits", |state| state.table.waiters("b") == 1)
        .await;
    kill(&waiting, Signal::SIGINT);
    assert_eq!(end(waiting).await.status.code(), Some(130));
    assert!(all_ended(&fake.state()));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_told_a_line_each_also_from_another_node() {
    let fake = FakeCluster::start(2).await;
    fake.occupy("jobs/1", 0xabc, b"one");
    let args = ["watch", "--prefix", "jobs/", "-o", "json"];
    let (watch, mut lines) = start(&fake, &args);
    let shard = fake.state().table.history.shard_of("jobs/1");
    let mut present = Vec::new();
    let mut current = 0;
    while current < lockstep_client::fake::SHARDS {
        let event = json_line(&mut lines);
        current += u32::from(event["event"] == "current");
        present.extend((event["event"] == "present").then_some(event));
    }
    let want = json!({
        "event": "present", "shard": shard, "revision": 1, "at_ms": 1_700_000_002_000_u64,
        "name": "jobs/1", "session": "0000000000000abc", "owner": "", "mode": "exclusive",
        "token": 1, "value": "one",
    });
    assert_eq!(present, [want]);

    let (mut plain, mut words) = start(&fake, &["watch", "jobs/1"]);
    let want = "  jobs/1  exclusive  token 1  session 0000000000000abc  says one";
    assert_eq!(line(&mut words), format!("present   {want}"));
    fake.down(1, true);
    fake.vacate("jobs/1");
    assert_eq!(line(&mut words), format!("released  {want}"));
    let released = json_line(&mut lines);
    assert_eq!(
        (&released["event"], &released["revision"]),
        (&json!("released"), &json!(2))
    );

    // What nobody knows any more is said to be missing.
    {
        let mut state = fake.state();
        state.table.occupy("jobs/1", 0xdef);
        state.table.history.forget();
    }
    fake.down(1, false);
    fake.drop_streams(2);
    assert!(line(&mut words).starts_with("present     jobs/1"));
    kill(&plain, Signal::SIGTERM);
    let mut hints = String::new();
    std::io::Read::read_to_string(plain.stderr.as_mut().unwrap(), &mut hints).unwrap();
    assert!(hints.contains("were missed"), "{hints}");
    assert!(plain.wait().unwrap().code().is_none());
    let began = json_line(&mut lines);
    assert_eq!(
        began,
        json!({ "event": "began", "shard": shard, "history_lost": true })
    );
    // A reader that goes away ends it, and is no error.
    drop(lines);
    fake.vacate("jobs/1");
    assert_eq!(end(watch).await.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlocks_are_told_by_73_and_listed() {
    let fake = FakeCluster::start(1).await;
    fake.fault([Fault::Refuse(Code::Aborted, "DEADLOCK")]);
    let refused = run(&fake, &["lock", "run", "a", "--", "echo", "ran"]).await;
    assert_eq!(refused.status.code(), Some(73));
    assert_eq!(text(&refused.stdout), "");
    let words = text(&refused.stderr);
    assert!(words.contains("one waits for the other"), "{words}");

    fake.state().deadlocks = vec![Deadlock {
        at_ms: 1_000,
        victim_session_id: 7,
        victim_owner: "me".to_owned(),
        name: "a".to_owned(),
        words: "one waits for the other".to_owned(),
        cycle: vec![WaitFor {
            session_id: 7,
            owner: "me".to_owned(),
            name: "a".to_owned(),
            shard: 3,
            holder_session_id: 8,
            holder_owner: String::new(),
            token: 9,
        }],
    }];
    let want = json!({
        "count": 1,
        "deadlocks": [{
            "at_ms": 1_000, "victim_session": "0000000000000007", "victim_owner": "me",
            "name": "a", "words": "one waits for the other",
            "cycle": [{
                "session": "0000000000000007", "owner": "me", "name": "a", "shard": 3,
                "holder_session": "0000000000000008", "holder_owner": "", "token": 9,
            }],
        }],
    });
    assert_eq!(
        parsed(&run(&fake, &["deadlocks", "-o", "json"]).await),
        want
    );
    let table = text(&run(&fake, &["deadlocks"]).await.stdout);
    assert!(
        table.contains("0000000000000007  me     a        one waits for the other"),
        "{table}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_valid_or_stale() {
    let fake = FakeCluster::start(1).await;
    fake.occupy("a", 1, b"");
    let valid = run(&fake, &["lock", "validate", "a", "1"]).await;
    assert_eq!(
        (valid.status.code(), text(&valid.stdout).as_str()),
        (Some(0), "valid\n")
    );
    let stale = run(&fake, &["lock", "validate", "a", "2", "-o", "json"]).await;
    assert_eq!(stale.status.code(), Some(1));
    assert_eq!(
        parsed(&stale),
        json!({ "name": "a", "token": 2, "valid": false })
    );
    assert_eq!(text(&stale.stderr), "", "that is no error");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_shown_with_what_its_holder_says_and_who_goes_next() {
    let fake = FakeCluster::start(1).await;
    fake.occupy("a", 0xabc, b"I am\x1b[2J here");
    let (waiting, _lines) = start(&fake, &["lock", "run", "a", "--shared", "--", "true"]);
    fake.until("it waits", |state| state.table.waiters("a") == 1)
        .await;
    let shown = text(&run(&fake, &["lock", "show", "a"]).await.stdout);
    assert!(shown.contains("I am\\u{1b}[2J here\n"), "{shown}");
    let next: Vec<&str> = shown.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(
        next[..4],
        ["000000005e550001", "~1", "shared", "1"],
        "{shown}"
    );
    kill(&waiting, Signal::SIGTERM);
    assert_eq!(end(waiting).await.status.code(), Some(128 + 15));
}
