//! The processes of etcd.
//!
//! Invariant: only processes that were started here are ended, by their own handles, and all of
//! them are, however the benchmark ends.

use std::{
    env,
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, ensure};
use lockstep_drill::{
    cluster::{NodeAddresses, PortBlock, Ports, get},
    poll::until,
};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint};

use super::rpc;
use crate::usage::ProcessId;

/// As many as Lockstep has nodes.
const MEMBERS: usize = 3;
/// How long they may take to agree on a leader: some elections of a second each.
const LEADER_LIMIT: Duration = Duration::from_secs(30);
/// How long a killed member may take to be gone; one that waits for its disk can take a while.
const END_LIMIT: Duration = Duration::from_secs(5);
/// How often that is looked at.
const END_POLL: Duration = Duration::from_millis(1);

/// The program: what `LOCKSTEP_ETCD` names, or else `etcd` in the `PATH`; none if there is none.
#[must_use]
pub fn program() -> Option<PathBuf> {
    if let Some(named) = env::var_os("LOCKSTEP_ETCD").filter(|named| !named.is_empty()) {
        return Some(PathBuf::from(named));
    }
    let path = env::var_os("PATH")?;
    let found = env::split_paths(&path).map(|dir| dir.join("etcd"));
    found.into_iter().find(|program| program.is_file())
}

/// What the program says of its version: `3.4.23`.
///
/// # Errors
/// If it cannot be run, or says nothing of the kind.
pub async fn version(program: &Path) -> anyhow::Result<String> {
    let ran = Command::new(program).arg("--version").output().await;
    let ran = ran.with_context(|| format!("starting {}", program.display()))?;
    let said = String::from_utf8_lossy(&ran.stdout);
    let version = said
        .lines()
        .find_map(|line| line.strip_prefix("etcd Version: "));
    let version = version.with_context(|| format!("{} is no etcd: {said}", program.display()))?;
    Ok(version.trim().to_owned())
}

/// A member's process.
struct Member {
    child: Child,
    client: SocketAddr,
}

/// Where a member takes calls.
pub(super) struct Entrance(SocketAddr);

impl Entrance {
    pub(super) async fn connect(&self) -> anyhow::Result<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.0))?;
        Ok(endpoint.connect().await?)
    }
}

/// All processes, and where their data is.
pub(super) struct Members {
    members: Vec<Member>,
    /// Which of them leads.
    leader: usize,
    dir: Option<TempDir>,
    _ports: PortBlock,
}

impl Members {
    /// Starts them and waits until they agree on who leads.
    pub(super) async fn start(program: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("lockstep-etcd-")
            .tempdir()?;
        let ports = PortBlock::reserve(Ports::Free, MEMBERS)?;
        let addresses: Vec<_> = (0..MEMBERS).map(|at| ports.node(at)).collect();
        let mut members = Self {
            members: Vec::with_capacity(MEMBERS),
            leader: 0,
            dir: Some(dir),
            _ports: ports,
        };
        match members.spawn_all(program, &addresses).await {
            Ok(()) => Ok(members),
            Err(error) => Err(members.explain(error)),
        }
    }

    async fn spawn_all(
        &mut self,
        program: &Path,
        addresses: &[NodeAddresses],
    ) -> anyhow::Result<()> {
        let dir = self.dir.as_ref().context("the directory is gone")?.path();
        for (at, own) in addresses.iter().enumerate() {
            let child = command(program, dir, at, addresses, *own)?.spawn();
            let child = child.with_context(|| format!("starting {}", program.display()))?;
            self.members.push(Member {
                child,
                client: own.client,
            });
        }
        let what = "the members of etcd agree on who leads";
        self.leader = until(what, LEADER_LIMIT, || self.agreed_leader()).await?;
        Ok(())
    }

    async fn agreed_leader(&self) -> Result<usize, String> {
        let mut leaders = Vec::with_capacity(self.members.len());
        let mut ids = Vec::with_capacity(self.members.len());
        for member in &self.members {
            let channel = Entrance(member.client).connect().await;
            let channel = channel.map_err(|error| format!("{}: {error:#}", member.client))?;
            let status = rpc::status(&channel).await;
            let status = status.map_err(|error| format!("{}: {error}", member.client))?;
            leaders.push(status.leader);
            ids.push(status.header.unwrap_or_default().member_id);
        }
        let leader = leaders.first().copied().unwrap_or_default();
        if leader == 0 || leaders.iter().any(|other| *other != leader) {
            return Err(format!("leaders {leaders:x?}"));
        }
        let at = ids.iter().position(|id| *id == leader);
        at.ok_or_else(|| format!("leader {leader:x} is none of {ids:x?}"))
    }

    pub(super) fn leader(&self) -> anyhow::Result<Entrance> {
        let member = self.members.get(self.leader).context("no member leads")?;
        Ok(Entrance(member.client))
    }

    pub(super) fn processes(&self) -> anyhow::Result<Vec<ProcessId>> {
        let ids = self.members.iter().map(|member| member.child.id());
        let ids: Option<Vec<u32>> = ids.collect();
        let ids = ids.context("a member of etcd has ended")?;
        Ok(ids.into_iter().map(ProcessId).collect())
    }

    /// What each says of itself to Prometheus.
    pub(super) async fn metrics(&self) -> anyhow::Result<Vec<String>> {
        let mut texts = Vec::with_capacity(self.members.len());
        for member in &self.members {
            let answer = get(member.client, "/metrics").await;
            let answer = answer.with_context(|| format!("metrics of {}", member.client))?;
            ensure!(answer.status == 200, "/metrics says {}", answer.status);
            texts.push(answer.body);
        }
        Ok(texts)
    }

    /// Adds to an error where data and logs are, and keeps them.
    pub(super) fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        match self.dir.take() {
            Some(dir) => anyhow!("{error:#}\netcd's logs are in {}", dir.keep().display()),
            None => error,
        }
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ended_before = member.child.start_kill();
        }
        // Seen to their end, so that they no longer write into a directory that is removed.
        let give_up = Instant::now() + END_LIMIT;
        for member in &mut self.members {
            while matches!(member.child.try_wait(), Ok(None)) && Instant::now() < give_up {
                thread::sleep(END_POLL);
            }
        }
    }
}

/// With etcd's defaults but for addresses and directories, and less said in its log.
fn command(
    program: &Path,
    dir: &Path,
    at: usize,
    addresses: &[NodeAddresses],
    own: NodeAddresses,
) -> anyhow::Result<Command> {
    let name = |at: usize| format!("member-{}", at + 1);
    let url = |address: SocketAddr| format!("http://{address}");
    let all = addresses.iter().enumerate();
    let all: Vec<String> = all
        .map(|(at, other)| format!("{}={}", name(at), url(other.peer)))
        .collect();
    let log = dir.join(format!("{}.log", name(at)));
    let log = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
    let mut command = Command::new(program);
    command
        .args(["--name", &name(at)])
        .arg("--data-dir")
        .arg(dir.join(name(at)))
        .args(["--listen-client-urls", &url(own.client)])
        .args(["--advertise-client-urls", &url(own.client)])
        .args(["--listen-peer-urls", &url(own.peer)])
        .args(["--initial-advertise-peer-urls", &url(own.peer)])
        .args(["--initial-cluster", &all.join(",")])
        .args(["--initial-cluster-state", "new"])
        .args(["--initial-cluster-token", "lockstep-bench"])
        .args(["--logger", "zap", "--log-level", "warn"])
        // Nothing that is set for another etcd changes this one.
        .env_clear()
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C reaches the benchmark alone, which then ends them.
        .process_group(0)
        .kill_on_drop(true);
    Ok(command)
}
