//! The configuration as it is written: every key, its default, and its flag.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

use super::host::{HostError, stem};

/// Every key that the environment may set, lower case, without the prefix.
pub(super) const KEYS: &[&str] = &[
    "name",
    "data_dir",
    "client_listen",
    "peer_listen",
    "http_listen",
    "client_advertise",
    "peer_advertise",
    "initial_nodes",
    "zone",
    "dial",
    "shards",
    "replication_factor",
    "election_timeout_ms",
    "heartbeat_ms",
    "snapshot_entries",
    "log_budget_mib",
    "snapshot_mib_per_second",
    "replace_lost_after_seconds",
    "log",
    "log_format",
];

/// The configuration before it is checked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    /// The node's name.
    pub name: String,
    /// Where its data is kept.
    pub data_dir: PathBuf,
    /// Listens here for clients.
    pub client_listen: String,
    /// Listens here for peers.
    pub peer_listen: String,
    /// Listens here for health checks and metrics.
    pub http_listen: String,
    /// Where clients reach it.
    pub client_advertise: Option<String>,
    /// Where peers reach it.
    pub peer_advertise: Option<String>,
    /// The founders' peer addresses.
    #[serde(deserialize_with = "list")]
    pub initial_nodes: Vec<String>,
    /// The failure domain.
    pub zone: String,
    /// `ADVERTISED=ACTUAL` pairs.
    #[serde(deserialize_with = "list")]
    pub dial: Vec<String>,
    /// Data shards of a new cluster.
    pub shards: u32,
    /// Replicas a shard of a new cluster.
    pub replication_factor: u32,
    /// See [`super::Timing`].
    pub election_timeout_ms: u64,
    /// See [`super::Timing`].
    pub heartbeat_ms: u64,
    /// Log entries between snapshots.
    pub snapshot_entries: u64,
    /// All shards' logs on disk; 0: what is usual for the volume.
    pub log_budget_mib: u64,
    /// Snapshots sent, to all peers together.
    pub snapshot_mib_per_second: u64,
    /// 0: never.
    pub replace_lost_after_seconds: u64,
    /// A tracing filter.
    pub log: String,
    /// `text` or `json`.
    pub log_format: String,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            name: "node-1".to_owned(),
            data_dir: PathBuf::from("data"),
            client_listen: "127.0.0.1:7400".to_owned(),
            peer_listen: "127.0.0.1:7401".to_owned(),
            http_listen: "127.0.0.1:7402".to_owned(),
            client_advertise: None,
            peer_advertise: None,
            initial_nodes: Vec::new(),
            zone: String::new(),
            dial: Vec::new(),
            shards: 8,
            replication_factor: 3,
            election_timeout_ms: 1_500,
            heartbeat_ms: 250,
            snapshot_entries: 20_000,
            log_budget_mib: 0,
            // Half of what a network of 1 Gbit/s carries.
            snapshot_mib_per_second: 64,
            replace_lost_after_seconds: 0,
            log: "info,openraft=warn".to_owned(),
            log_format: "text".to_owned(),
        }
    }
}

/// Stands for this machine's name by DNS, in the values that name a node.
const HOST: &str = "{host}";
/// Stands for that name without the number at its end.
const HOST_STEM: &str = "{host-stem}";

impl Raw {
    /// Puts this machine's name in the place of `{host}`, and the name without the number at its end
    /// in the place of `{host-stem}`. Asks for it only where one of them is there.
    ///
    /// # Errors
    /// If the name is not known.
    pub(super) fn name_host(
        mut self,
        ask: impl FnOnce() -> Result<String, HostError>,
    ) -> Result<Self, HostError> {
        let mut data_dir = self.data_dir.to_str().map(str::to_owned);
        let mut values: Vec<&mut String> =
            [&mut self.name].into_iter().chain(&mut data_dir).collect();
        values.extend(&mut self.client_advertise);
        values.extend(&mut self.peer_advertise);
        values.extend(&mut self.initial_nodes);
        values.retain(|value| value.contains(HOST) || value.contains(HOST_STEM));
        if values.is_empty() {
            return Ok(self);
        }
        let host = ask()?;
        for value in values {
            *value = value.replace(HOST_STEM, stem(&host)).replace(HOST, &host);
        }
        if let Some(data_dir) = data_dir {
            self.data_dir = PathBuf::from(data_dir);
        }
        Ok(self)
    }
}

/// The same as flags. What is not given is not set here.
#[derive(Clone, Debug, Default, Serialize, clap::Args)]
pub struct Flags {
    /// A TOML file with the keys below (with underscores). Every key can also be set in the
    /// environment as `LOCKSTEP_<KEY>`, and as a flag, which is the strongest.
    #[arg(long, value_name = "FILE", env = "LOCKSTEP_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// The node's name: unique in the cluster.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where its data is kept [default: data]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Where to listen for clients [default: 127.0.0.1:7400]
    #[arg(long, value_name = "IP:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_listen: Option<String>,
    /// Where to listen for peers [default: 127.0.0.1:7401]
    #[arg(long, value_name = "IP:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_listen: Option<String>,
    /// Where to listen for health checks and metrics [default: 127.0.0.1:7402]
    #[arg(long, value_name = "IP:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_listen: Option<String>,
    /// Where clients reach this node [default: client-listen]
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_advertise: Option<String>,
    /// Where peers reach this node [default: peer-listen]
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_advertise: Option<String>,
    /// The peer addresses of all founding nodes, comma-separated. The same on each: the cluster is
    /// founded when all of them are reachable and empty. A node that is not among them, or is empty
    /// when the others have a cluster, joins it through them [default: this node alone]
    #[arg(long, value_name = "HOST:PORT,...")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_nodes: Option<String>,
    /// The failure domain that this node is in.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Dial ACTUAL for a peer that advertises ADVERTISED, comma-separated: for address translation
    /// and for putting links under test.
    #[arg(long, value_name = "ADVERTISED=ACTUAL,...")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dial: Option<String>,
    /// Data shards of a cluster that this node founds; fixed for ever [default: 8]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shards: Option<u32>,
    /// Replicas of each shard of a cluster that this node founds: 1, 3 or 5 [default: 3]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication_factor: Option<u32>,
    /// A follower that hears nothing for 0.7 to 1 times this stands for election [default: 1500]
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub election_timeout_ms: Option<u64>,
    /// How often an idle leader is heard [default: 250]
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_ms: Option<u64>,
    /// Log entries between two snapshots of a shard [default: 20000]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_entries: Option<u64>,
    /// Most that the logs of all of this node's shards may have on disk, at most a quarter of the volume; 0:
    /// a quarter, at most 1024 [default: 0]
    #[arg(long, value_name = "MIB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_budget_mib: Option<u64>,
    /// A node that has not answered for so long is declared lost and its replicas are replaced; 0: only
    /// on an operator's word [default: 0]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace_lost_after_seconds: Option<u64>,
    /// What to log: a filter such as info,lockstep_node=debug [default: info,openraft=warn]
    #[arg(long, value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// How to log: text or json [default: text]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<String>,
}

/// A list, or a text with commas.
fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        List(Vec<String>),
    }
    let items = match Either::deserialize(from)? {
        Either::Text(text) => text.split(',').map(str::to_owned).collect(),
        Either::List(items) => items,
    };
    Ok(items
        .into_iter()
        .map(|item| item.trim().to_owned())
        .filter(|item| !item.is_empty())
        .collect())
}
