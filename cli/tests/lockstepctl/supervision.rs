//! A command does not outlive its lock, whatever becomes of the program that holds it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Lines},
    path::Path,
    process::{Child, ChildStdout, Command},
    time::{Duration, Instant},
};

use lockstep_client::fake::FakeCluster;
use nix::{
    sys::{prctl::set_child_subreaper, signal::Signal},
    unistd::Pid,
};

use super::{all_ended, end, kill, lockstepctl, text};

/// How long anything may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Says its process id and that of a child of its own group, and goes on.
const TWO: &str = "sleep 600 & echo $$ $!; wait; wait; wait";

fn is_there(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// As in the third field of proc(5)'s `stat`.
fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| rest.starts_with(" Z"))
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::yield_now();
    }
}

/// Starts `lock run a` with options and a script; the process ids that its first line says.
fn start(
    fake: &FakeCluster,
    options: &[&str],
    script: &str,
) -> (Child, Lines<BufReader<ChildStdout>>, Vec<i32>) {
    let args = [&["lock", "run", "a"], options, &["--", "sh", "-c", script]].concat();
    begin(lockstepctl(fake, &args))
}

fn begin(mut command: Command) -> (Child, Lines<BufReader<ChildStdout>>, Vec<i32>) {
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ids = lines.next().unwrap().unwrap();
    let ids = ids.split_whitespace().map(|id| id.parse().unwrap());
    (child, lines, ids.collect())
}

/// Waits until all are gone. The lock must not be free before.
fn gone_before_it_is_free(fake: &FakeCluster, ids: &[i32], because: &str) {
    until(because, || {
        let free = fake.state().table.holders("a").is_empty();
        // A zombie does nothing any more; whoever waits for it is not asked here.
        let there = ids.iter().any(|id| is_there(*id) && !is_zombie(*id));
        assert!(!(free && there), "{because}: the command outlives its lock");
        !there
    });
}

/// The supervisor of a lockstepctl: its only child.
fn supervisor(child: &Child) -> i32 {
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let children = fs::read_to_string(children).unwrap();
    let mut children = children.split_whitespace();
    let only = children.next().unwrap().parse().unwrap();
    assert_eq!(children.next(), None);
    only
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_can_be_caught_ends_the_command_before_the_lock_is_free() {
    let fake = FakeCluster::start(1).await;
    let named = [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGALRM,
        Signal::SIGVTALRM,
        Signal::SIGPROF,
        Signal::SIGXCPU,
        Signal::SIGXFSZ,
        Signal::SIGIO,
        Signal::SIGPWR,
        Signal::SIGSTKFLT,
    ];
    let real_time = [34, 35, 50, 64].map(|number| (number, Signal::SIGTERM as i32));
    let named = named.map(|signal| (signal as i32, signal as i32));
    for (number, ended_by) in named.into_iter().chain(real_time) {
        // Children in the background ignore SIGINT and SIGQUIT, and end because the command has.
        let (child, _lines, ids) = start(&fake, &[], TWO);
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{number} {}", child.id())])
            .status();
        assert!(sent.unwrap().success());
        gone_before_it_is_free(&fake, &ids, &format!("signal {number}"));
        let output = end(child).await;
        let words = text(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(128 + ended_by),
            "{number}: {words}"
        );
        assert!(all_ended(&fake.state()), "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kills_the_holder_kills_the_command() {
    let signals = [
        Signal::SIGKILL,
        Signal::SIGABRT,
        Signal::SIGTRAP,
        Signal::SIGSYS,
    ];
    for signal in signals {
        let fake = FakeCluster::start(1).await;
        // One that ignores what it can, and one that has left its group.
        let script =
            "trap '' TERM INT HUP; setsid sleep 600 & echo $$ $!; while :; do sleep 1; done";
        let (child, _lines, ids) = start(&fake, &[], script);
        kill(&child, signal);
        gone_before_it_is_free(&fake, &ids, signal.as_str());
        assert_eq!(end(child).await.status.code(), None, "{signal}");
        assert_eq!(
            fake.state().table.holders("a").len(),
            1,
            "until its TTL is over"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_supervisor_is_killed_is_killed_too() {
    let fake = FakeCluster::start(1).await;
    let (child, _lines, ids) = start(&fake, &[], TWO);
    let supervisor = Pid::from_raw(supervisor(&child));
    nix::sys::signal::kill(supervisor, Signal::SIGKILL).unwrap();
    gone_before_it_is_free(&fake, &ids, "supervisor killed");
    let output = end(child).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(all_ended(&fake.state()));
}

#[tokio::test(flavor = "multi_thread")]
async fn if_holder_and_supervisor_are_killed_at_once_the_system_kills_the_command() {
    let fake = FakeCluster::start(1).await;
    let (child, _lines, ids) = start(&fake, &[], "echo $$; exec sleep 600");
    let both = format!("kill -9 {} {}", child.id(), supervisor(&child));
    let killed = Command::new("sh").args(["-c", &both]).status();
    assert!(killed.unwrap().success());
    gone_before_it_is_free(&fake, &ids, "both killed");
    end(child).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_is_stopped_does_not_keep_the_command_beyond_its_lease() {
    let fake = FakeCluster::start(1).await;
    let (child, _lines, ids) = start(&fake, &["--ttl", "2s"], TWO);
    kill(&child, Signal::SIGSTOP);
    gone_before_it_is_free(&fake, &ids, "the holder is stopped");
    kill(&child, Signal::SIGCONT);
    let output = end(child).await;
    assert_eq!(output.status.code(), Some(74), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_told_before_its_lock_is_lost_and_killed_when_it_is() {
    let fake = FakeCluster::start(1).await;
    let script = "trap 'echo told' TERM; echo $$; while :; do sleep 0.05; done";
    let (child, mut lines, ids) = start(&fake, &["--ttl", "4s"], script);
    fake.down(1, true);
    let started = Instant::now();
    assert_eq!(lines.next().unwrap().unwrap(), "told");
    // The lease began before it was cut off.
    let told = started.elapsed();
    gone_before_it_is_free(&fake, &ids, "no node answers");
    assert!(told < started.elapsed());
    let output = end(child).await;
    let words = text(&output.stderr);
    assert_eq!(output.status.code(), Some(74), "{words}");
    assert!(
        words.contains("was not confirmed and will be lost"),
        "{words}"
    );
    assert!(words.contains("killing it"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_ignored_stays_ignored_as_under_nohup() {
    let fake = FakeCluster::start(1).await;
    let program = env!("CARGO_BIN_EXE_lockstepctl");
    let script = format!("trap '' HUP; exec {program} lock run a -- sh -c '{TWO}'");
    let mut command = Command::new("sh");
    command
        .args(["-c", &script])
        .env("LOCKSTEP_ENDPOINTS", fake.endpoints().join(","))
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let (child, _lines, ids) = begin(command);
    kill(&child, Signal::SIGHUP);
    // Whatever it does for that is done when it does the next.
    kill(&child, Signal::SIGTERM);
    gone_before_it_is_free(&fake, &ids, "SIGTERM");
    assert_eq!(end(child).await.status.code(), Some(128 + 15));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_leaves_running_is_ended_before_the_lock_is_free() {
    let fake = FakeCluster::start(1).await;
    // One in its group, one in a session of its own, and one that does not end when told to.
    let script = "sleep 600 & a=$!; setsid sleep 600 & b=$!; \
                  sh -c 'trap \"\" TERM; while :; do sleep 1; done' & echo $a $b $!; exit 7";
    let (child, _lines, ids) = start(&fake, &["--ttl", "2s"], script);
    gone_before_it_is_free(&fake, &ids, "the command has ended");
    let output = end(child).await;
    let words = text(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{words}");
    assert!(words.contains("has left running"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_of_a_command_leave_no_zombies() {
    // Whoever is not waited for there comes here, and is a zombie for good.
    set_child_subreaper(true).unwrap();
    let fake = FakeCluster::start(1).await;
    let script = "sh -c 'sleep 0.01 & echo $!'; exec sleep 600";
    let (child, _lines, ids) = start(&fake, &[], script);
    until("the orphan is waited for", || !is_there(ids[0]));
    kill(&child, Signal::SIGTERM);
    assert_eq!(end(child).await.status.code(), Some(128 + 15));
}
