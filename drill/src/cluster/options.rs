//! What a cluster should be like, and how a node process is told.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use super::ports::NodeAddresses;
use crate::link::Links;

/// Which ports the nodes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Any that are free.
    Free,
    /// 7400, 7410, ... for clients, if all are free; else any.
    Friendly,
}

/// What to start.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Part of the temporary directory's name.
    pub name: String,
    /// 1 to 10.
    pub nodes: usize,
    /// How many of them found the cluster, and are started with it; the others join when they are
    /// started.
    pub founders: usize,
    /// Data shards.
    pub shards: u32,
    /// Whether a proxy lies on each peer link, so that it can be cut.
    pub links: bool,
    /// Whether each node has a wall clock of its own, which can be set wrong.
    pub own_clocks: bool,
    /// Whether each node's data is on a small file system of its own, of so many mebibytes, which can be
    /// filled; that takes the right to mount one.
    pub volume_mib: Option<u64>,
    /// Where data and logs go and stay. None: a temporary directory, kept only if something fails.
    pub dir: Option<PathBuf>,
    /// Which ports.
    pub ports: Ports,
    /// Whether the nodes are a process group of their own, so that Ctrl-C reaches this program alone,
    /// which must then end them.
    pub own_group: bool,
    /// How many files each node may have open; none: as this program.
    pub descriptors: Option<u64>,
    /// More variables for all nodes; they win over those that the harness sets.
    pub env: BTreeMap<String, String>,
}

impl ClusterOptions {
    /// Three nodes with eight shards, as a new cluster has by default.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            nodes: 3,
            founders: 3,
            shards: 8,
            links: false,
            own_clocks: false,
            volume_mib: None,
            dir: None,
            ports: Ports::Free,
            own_group: false,
            descriptors: None,
            env: BTreeMap::new(),
        }
    }

    /// With a proxy on each peer link.
    #[must_use]
    pub fn with_links(mut self) -> Self {
        self.links = true;
        self
    }

    /// With a wall clock for each node.
    #[must_use]
    pub fn with_own_clocks(mut self) -> Self {
        self.own_clocks = true;
        self
    }

    /// With a file system of so many mebibytes for each node.
    #[must_use]
    pub fn with_volumes(mut self, mib: u64) -> Self {
        self.volume_mib = Some(mib);
        self
    }

    /// With so many data shards.
    #[must_use]
    pub fn with_shards(mut self, shards: u32) -> Self {
        self.shards = shards;
        self
    }

    /// With nodes that may have so many files open.
    #[must_use]
    pub const fn with_descriptors(mut self, descriptors: u64) -> Self {
        self.descriptors = Some(descriptors);
        self
    }

    /// With one more variable for all nodes.
    #[must_use]
    pub fn with_env(mut self, key: &str, value: impl ToString) -> Self {
        self.env.insert(key.to_owned(), value.to_string());
        self
    }
}

/// The name of a node.
pub(super) fn node_name(at: usize) -> String {
    format!("node-{}", at + 1)
}

/// The variables of one node, without its data directory.
pub(super) fn node_env(
    options: &ClusterOptions,
    at: usize,
    peers: &[SocketAddr],
    own: NodeAddresses,
    links: Option<&Links>,
) -> BTreeMap<String, String> {
    let founders = peers.iter().take(options.founders);
    let founders: Vec<String> = founders.map(ToString::to_string).collect();
    let mut env = BTreeMap::new();
    let mut set = |key: &str, value: String| env.insert(format!("LOCKSTEP_{key}"), value);
    set("NAME", node_name(at));
    set("CLIENT_LISTEN", own.client.to_string());
    set("PEER_LISTEN", own.peer.to_string());
    set("HTTP_LISTEN", own.http.to_string());
    set("INITIAL_NODES", founders.join(","));
    set("SHARDS", options.shards.to_string());
    set("REPLICATION_FACTOR", founders.len().min(3).to_string());
    set("LOG", "info".to_owned());
    let dialled = peers.iter().enumerate().filter_map(|(to, peer)| {
        let link = links?.get(at, to)?;
        Some(format!("{peer}={}", link.address()))
    });
    let dialled: Vec<String> = dialled.collect();
    if !dialled.is_empty() {
        set("DIAL", dialled.join(","));
    }
    env.extend(options.env.clone());
    env
}
