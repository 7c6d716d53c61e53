//! A cluster of real `lockstep-node` processes on this machine.
//!
//! Invariant: it ends only processes that it started, by their own handles, and it ends all of
//! them. Whatever fails, the directory with data and logs is kept and named.

mod binary;
mod clock;
mod http;
mod members;
mod metrics;
mod node;
mod options;
mod ports;
mod report;
mod status;
mod tools;
mod volume;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitStatus,
    thread,
    time::Duration,
};

use anyhow::{Context, anyhow, bail, ensure};
use tempfile::TempDir;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::timeout,
};

pub use self::{
    http::{HttpAnswer, get},
    members::SETTLE_LIMIT,
    metrics::Samples,
    options::{ClusterOptions, Ports},
    ports::{NodeAddresses, PortBlock},
    status::Leadership,
    volume::obstacle as volume_obstacle,
};
use self::{node::Node, volume::Volume};
use crate::{link::Links, poll::until};

/// How long a node may take from its start until it is ready: it starts in about a second; the
/// rest is for busy machines and long logs.
pub const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long an orderly stop may take: it hands its leaders over, which takes less than a second each.
pub const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How long the nodes may take to agree on who leads what: a few elections.
pub const LEADER_LIMIT: Duration = Duration::from_secs(30);

/// One cluster at a time in one process: three nodes and their load are enough for two cores, and
/// a test's deadlines are its own.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// The processes, what lies between them, and where their data is.
pub struct Cluster {
    options: ClusterOptions,
    dir: PathBuf,
    nodes: Vec<Node>,
    /// One for each node, or none at all. Gone after the nodes, and before the directory.
    volumes: Vec<Volume>,
    /// Removes `dir` in the end, where the harness has chosen it.
    temporary: Option<TempDir>,
    links: Option<Links>,
    _ports: PortBlock,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Starts the founders and waits until each is ready.
    ///
    /// # Errors
    /// If there is no node program or no port, or if a node does not become ready in
    /// [`READY_LIMIT`]; with the ends of the logs.
    pub async fn start(options: ClusterOptions) -> anyhow::Result<Self> {
        let mut cluster = Self::prepare(options).await?;
        let ready = async {
            for at in 0..cluster.options.founders {
                cluster.spawn(at)?;
            }
            cluster.wait_all_ready().await
        };
        match ready.await {
            Ok(()) => Ok(cluster),
            Err(error) => Err(cluster.explain(error)),
        }
    }

    /// Finds ports and makes the directories and links; starts nothing. Waits while this process has
    /// another cluster.
    ///
    /// # Errors
    /// If there is no node program, no port, or no directory.
    pub async fn prepare(options: ClusterOptions) -> anyhow::Result<Self> {
        let program = binary::node_program()?;
        let turn = ONE_AT_A_TIME.lock().await;
        let (dir, temporary) = match &options.dir {
            Some(dir) => (std::path::absolute(dir)?, None),
            None => {
                let prefix = format!("lockstep-{}-", options.name);
                let dir = tempfile::Builder::new().prefix(&prefix).tempdir()?;
                (dir.path().to_owned(), Some(dir))
            }
        };
        let ports = PortBlock::reserve(options.ports, options.nodes)?;
        let addresses: Vec<_> = (0..options.nodes).map(|at| ports.node(at)).collect();
        let peers: Vec<_> = addresses.iter().map(|node| node.peer).collect();
        let links = if options.links {
            Some(Links::start(&peers).await?)
        } else {
            None
        };
        let mut nodes = Vec::with_capacity(options.nodes);
        let mut volumes = Vec::new();
        for (at, addresses) in addresses.into_iter().enumerate() {
            let mut env = options::node_env(&options, at, &peers, addresses, links.as_ref());
            if options.own_clocks {
                env.extend(clock::env(&dir, at)?);
            }
            let node = Node::new(
                &program,
                &dir,
                at,
                addresses,
                env,
                options.own_group,
                options.descriptors,
            )?;
            if let Some(mib) = options.volume_mib {
                volumes.push(Volume::mount(node.data(), mib)?);
            }
            nodes.push(node);
        }
        Ok(Self {
            options,
            dir,
            temporary,
            nodes,
            volumes,
            links,
            _ports: ports,
            _turn: turn,
        })
    }

    /// Sets a node's wall clock so far ahead, if it has one of its own; the node notices within a second.
    ///
    /// # Errors
    /// If the file that says so cannot be written.
    pub fn set_clock(&self, at: usize, ahead: Duration) -> anyhow::Result<()> {
        clock::set(&self.dir, at, ahead)
    }

    /// Takes all that is free on a node's volume, if it has one of its own.
    ///
    /// # Errors
    /// If it has none, or its file system fails.
    pub fn fill(&self, at: usize) -> anyhow::Result<()> {
        Ok(self.volume(at)?.fill()?)
    }

    /// Gives back what [`Cluster::fill`] has taken.
    ///
    /// # Errors
    /// If nothing was taken.
    pub fn relieve(&self, at: usize) -> anyhow::Result<()> {
        Ok(self.volume(at)?.relieve()?)
    }

    fn volume(&self, at: usize) -> anyhow::Result<&Volume> {
        let volume = self.volumes.get(at);
        volume.with_context(|| format!("node-{} has no volume of its own", at + 1))
    }

    /// How many nodes there are, running or not. They are numbered from 0; node 0 is `node-1`.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.nodes.len()
    }

    /// What it was started with.
    #[must_use]
    pub const fn options(&self) -> &ClusterOptions {
        &self.options
    }

    /// Where data and logs are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where clients reach the nodes: `host:port`, in the order of the nodes.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        let addresses = self.nodes.iter().map(|node| node.addresses().client);
        addresses.map(|address| address.to_string()).collect()
    }

    /// Where peers reach a node, past all links.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn peer_endpoint(&self, at: usize) -> anyhow::Result<String> {
        Ok(self.node(at)?.addresses().peer.to_string())
    }

    /// Where a node listens.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn addresses(&self, at: usize) -> anyhow::Result<NodeAddresses> {
        Ok(self.node(at)?.addresses())
    }

    /// What lies between the nodes.
    ///
    /// # Errors
    /// If it was started without links.
    pub fn links(&self) -> anyhow::Result<&Links> {
        let links = self.links.as_ref();
        links.context("the cluster was started without links: set ClusterOptions::links")
    }

    fn node(&self, at: usize) -> anyhow::Result<&Node> {
        let size = self.nodes.len();
        let node = self.nodes.get(at);
        node.with_context(|| format!("there is no node {at}: the cluster has {size}"))
    }

    fn node_mut(&mut self, at: usize) -> anyhow::Result<&mut Node> {
        let size = self.nodes.len();
        let node = self.nodes.get_mut(at);
        node.with_context(|| format!("there is no node {at}: the cluster has {size}"))
    }

    /// Starts the process of a node that does not run; does not wait for it.
    ///
    /// # Errors
    /// If it runs already or cannot be started.
    pub fn spawn(&mut self, at: usize) -> anyhow::Result<()> {
        self.node_mut(at)?.spawn(&[])
    }

    /// Like [`Self::spawn`], with these variables for this one run.
    ///
    /// # Errors
    /// As [`Self::spawn`].
    pub fn spawn_with(&mut self, at: usize, env: &[(&str, &str)]) -> anyhow::Result<()> {
        self.node_mut(at)?.spawn(env)
    }

    /// Starts all nodes that do not run; does not wait for them.
    ///
    /// # Errors
    /// As [`Self::spawn`].
    pub fn spawn_all(&mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            if !node.is_running() {
                node.spawn(&[])?;
            }
        }
        Ok(())
    }

    /// Starts a node and waits until it is ready.
    ///
    /// # Errors
    /// As [`Self::spawn`] and [`Self::wait_ready`].
    pub async fn restart(&mut self, at: usize) -> anyhow::Result<()> {
        self.spawn(at)?;
        self.wait_ready(at).await
    }

    /// True while the process of a node lives, even if it is paused.
    #[must_use]
    pub fn is_running(&mut self, at: usize) -> bool {
        self.nodes.get_mut(at).is_some_and(Node::is_running)
    }

    /// Ends a node as a crash would (SIGKILL), and waits until its process is gone.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn kill(&mut self, at: usize) -> anyhow::Result<()> {
        self.node_mut(at)?.kill().await
    }

    /// Ends all nodes as a power failure would, each before the next has noticed.
    ///
    /// # Errors
    /// If one does not run.
    pub async fn kill_all(&mut self) -> anyhow::Result<()> {
        self.nodes.iter_mut().try_for_each(Node::start_kill)?;
        for node in &mut self.nodes {
            node.kill().await?;
        }
        Ok(())
    }

    /// Stops a node's process without its noticing (SIGSTOP).
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&self, at: usize) -> anyhow::Result<()> {
        self.node(at)?.pause()
    }

    /// Lets a paused node go on (SIGCONT).
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&self, at: usize) -> anyhow::Result<()> {
        self.node(at)?.resume()
    }

    /// Asks a node to stop in an orderly way (SIGTERM), and waits until it has.
    ///
    /// # Errors
    /// If it does not run, does not stop in [`STOP_LIMIT`], or says that it failed.
    pub async fn terminate(&mut self, at: usize) -> anyhow::Result<()> {
        self.node(at)?.ask_to_stop()?;
        let status = self.wait_exit(at, STOP_LIMIT).await?;
        ensure!(
            status.success(),
            "node-{} ended its orderly stop with {status}",
            at + 1
        );
        Ok(())
    }

    /// Stops all nodes in an orderly way, one after another, as an upgrade would.
    ///
    /// # Errors
    /// As [`Self::terminate`].
    pub async fn terminate_all(&mut self) -> anyhow::Result<()> {
        for at in 0..self.nodes.len() {
            if self.is_running(at) {
                self.terminate(at).await?;
            }
        }
        Ok(())
    }

    /// Waits until a node's process ends by itself.
    ///
    /// # Errors
    /// If it does not in time.
    pub async fn wait_exit(&mut self, at: usize, limit: Duration) -> anyhow::Result<ExitStatus> {
        let exit = timeout(limit, self.node_mut(at)?.wait()).await;
        exit.with_context(|| format!("node-{} did not end within {limit:?}", at + 1))?
    }

    /// Empties the data directory of a node that does not run.
    ///
    /// # Errors
    /// If it runs, or the directory cannot be emptied.
    pub fn wipe(&mut self, at: usize) -> anyhow::Result<()> {
        self.node_mut(at)?.wipe()
    }

    /// Asks a node's HTTP port.
    ///
    /// # Errors
    /// If it does not answer within a second.
    pub async fn http(&self, at: usize, path: &str) -> anyhow::Result<HttpAnswer> {
        Ok(get(self.node(at)?.addresses().http, path).await?)
    }

    /// Waits until a node says that it is ready.
    ///
    /// # Errors
    /// If it does not in [`READY_LIMIT`], or ends before.
    pub async fn wait_ready(&mut self, at: usize) -> anyhow::Result<()> {
        let http = self.node(at)?.addresses().http;
        let what = format!("node-{} is ready", at + 1);
        let node = self.node_mut(at)?;
        let ended = until(what, READY_LIMIT, || {
            let exit = node.try_wait();
            async move {
                match exit {
                    Ok(None) => http::is_ok(http, "/readyz").await.map(|()| None),
                    ended => Ok(Some(ended)),
                }
            }
        })
        .await?;
        match ended {
            None => Ok(()),
            Some(status) => bail!("node-{} ended before it was ready: {status:?}", at + 1),
        }
    }

    /// Waits until all nodes that run are ready.
    ///
    /// # Errors
    /// As [`Self::wait_ready`].
    pub async fn wait_all_ready(&mut self) -> anyhow::Result<()> {
        for at in 0..self.nodes.len() {
            if self.is_running(at) {
                self.wait_ready(at).await?;
            }
        }
        Ok(())
    }

    /// Adds to an error where data and logs are and how the logs end, and keeps the directory.
    #[must_use]
    pub fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        let report = self.keep_and_report();
        anyhow!("{error:#}\n{report}")
    }

    /// Keeps the directory when the cluster is dropped.
    pub fn keep(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            self.dir = temporary.keep();
        }
    }

    fn keep_and_report(&mut self) -> String {
        self.keep();
        report::logs(&self.dir, &self.nodes)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            let report = self.keep_and_report();
            let _unwritable = writeln!(io::stderr().lock(), "{report}");
        }
        self.nodes.iter_mut().for_each(Node::end);
        self.nodes.iter_mut().for_each(Node::see_end);
    }
}

/// Starts a cluster, runs `scenario` on it, and ends it. An error comes with the place and the ends
/// of the logs.
///
/// # Errors
/// If the cluster does not start, the scenario fails, or it takes longer than `limit`.
pub async fn with_cluster<T>(
    options: ClusterOptions,
    limit: Duration,
    scenario: impl AsyncFnOnce(&mut Cluster) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut cluster = Cluster::start(options).await?;
    let outcome = match timeout(limit, scenario(&mut cluster)).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Err(anyhow!("the scenario did not end within {limit:?}")),
    };
    outcome.map_err(|error| cluster.explain(error))
}
