//! The node's configuration: defaults < file < environment (`LOCKSTEP_...`) < flags.
//!
//! Invariant: a [`Config`] is valid. It is checked once, and every problem is reported together,
//! each with its key and what would be right.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use figment::{
    Figment,
    providers::{Format as _, Serialized, Toml},
};

mod environment;
mod host;
mod raw;

pub use environment::Environment;
pub use host::HostError;
pub use raw::{Flags, Raw};

/// Shortest election timeout: below it, a busy machine holds elections all day.
const MIN_ELECTION_TIMEOUT_MS: u64 = 300;
/// Longest election timeout: nobody wants to wait longer for a leader.
const MAX_ELECTION_TIMEOUT_MS: u64 = 60_000;
/// Shortest time after which a silent node is declared lost: a restart takes less.
const MIN_REPLACE_LOST_AFTER_SECONDS: u64 = 10;
/// Longest time after which a silent node is declared lost: a week; who wants longer means never.
const MAX_REPLACE_LOST_AFTER_SECONDS: u64 = 604_800;
/// Fastest that snapshots may be sent: as good as without a limit.
const MAX_SNAPSHOT_MIB_PER_SECOND: u64 = 65_536;
/// Least room for logs: a few of the largest batches for each of some shards.
const MIN_LOG_BUDGET_MIB: u64 = 16;
/// Most room for logs: a tebibyte, which takes hours to apply again.
const MAX_LOG_BUDGET_MIB: u64 = 1 << 20;
/// Most data shards: each costs memory and heartbeats on every node that holds it.
const MAX_SHARDS: u32 = 1_024;

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name: unique in the cluster, for people.
    pub name: String,
    /// Where its data is kept.
    pub data_dir: PathBuf,
    /// Listens here for clients (gRPC).
    pub client_listen: SocketAddr,
    /// Listens here for peers (gRPC).
    pub peer_listen: SocketAddr,
    /// Listens here for health checks and metrics (HTTP).
    pub http_listen: SocketAddr,
    /// Where clients reach it.
    pub client_advertise: String,
    /// Where peers reach it.
    pub peer_advertise: String,
    /// The founders' peer addresses, sorted. A node whose own is not among them joins through them.
    pub initial_nodes: Vec<String>,
    /// The failure domain that it is in.
    pub zone: String,
    /// Peer addresses to dial in place of advertised ones.
    pub dial: BTreeMap<String, String>,
    /// Data shards of a cluster that this node founds.
    pub shards: u32,
    /// Replicas a shard of a cluster that this node founds.
    pub replication_factor: u32,
    /// Raft timing.
    pub timing: Timing,
    /// Log entries between two snapshots of a shard.
    pub snapshot_entries: u64,
    /// Most bytes that the logs of all of its shards may have on disk; none: what is usual for the volume.
    pub log_budget: Option<u64>,
    /// Most bytes of snapshots that this node sends in a second, to all peers together.
    pub snapshot_bytes_per_second: u64,
    /// A node that has not answered for so long is declared lost; none: only an operator does that.
    pub replace_lost_after: Option<Duration>,
    /// What to log: a tracing filter.
    pub log: String,
    /// How to log.
    pub log_format: LogFormat,
}

/// Raft timing. One knob each, from which openraft's are derived.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// A follower that has heard nothing for 0.7 to 1 times this stands for election.
    pub election_timeout: Duration,
    /// How often a leader that has nothing to say is heard.
    pub heartbeat: Duration,
}

impl Timing {
    /// How long an acknowledged leader is safe from being replaced: half the election timeout.
    /// openraft adds its randomised timer (0.4 to 1 times the lease) to this before a follower
    /// stands, which gives the 0.7 to 1 promised above.
    #[must_use]
    pub fn leader_lease(&self) -> Duration {
        self.election_timeout / 2
    }

    /// How much of its lease a leader relies on: a twentieth less than its followers grant, so that
    /// clocks whose rates differ by 5 % do no harm.
    #[must_use]
    pub fn relied_lease(&self) -> Duration {
        self.leader_lease() * 19 / 20
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A source could not be read or has a value of the wrong type.
    #[error("the configuration cannot be read: {0}")]
    Unreadable(#[from] Box<figment::Error>),
    /// A value names this machine by a placeholder, and its name is not known.
    #[error("{{host}} in the configuration cannot be replaced: {0}")]
    Host(#[from] HostError),
    /// Values are out of bounds; all of them.
    #[error("the configuration is not valid:\n{}", .0.iter().map(|p| format!("  {}: {}", p.key, p.remedy)).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Problem>),
}

/// One value that is not right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, as in the file; `LOCKSTEP_` and upper case in the environment.
    pub key: &'static str,
    /// What is wrong and what would be right.
    pub remedy: String,
}

/// Reads and checks the configuration. If it has placeholders, asks DNS for this machine's name.
///
/// # Errors
/// If a source cannot be read, or with every value that is not right.
pub fn load(flags: &Flags) -> Result<Config, ConfigError> {
    Checker::default().check(read(flags)?.name_host(host::name)?)
}

/// Where the node with this configuration listens for health checks. Nothing else of it is looked at,
/// so that this works without DNS.
///
/// # Errors
/// If a source cannot be read, or the address is none.
pub fn http_listen(flags: &Flags) -> Result<SocketAddr, ConfigError> {
    let mut checker = Checker::default();
    let address = checker.listen("http_listen", &read(flags)?.http_listen);
    if checker.problems.is_empty() {
        Ok(address)
    } else {
        Err(ConfigError::Invalid(checker.problems))
    }
}

fn read(flags: &Flags) -> Result<Raw, ConfigError> {
    let mut figment = Figment::from(Serialized::defaults(Raw::default()));
    if let Some(file) = &flags.config {
        figment = figment.merge(Toml::file_exact(file));
    }
    figment
        .merge(Environment::of_process())
        .merge(Serialized::defaults(flags))
        .extract()
        .map_err(|error| ConfigError::Unreadable(Box::new(error)))
}

/// Collects problems while it converts.
#[derive(Default)]
struct Checker {
    problems: Vec<Problem>,
}

impl Checker {
    fn check(mut self, raw: Raw) -> Result<Config, ConfigError> {
        self.bounds(&raw);
        let client_listen = self.listen("client_listen", &raw.client_listen);
        let peer_listen = self.listen("peer_listen", &raw.peer_listen);
        let http_listen = self.listen("http_listen", &raw.http_listen);
        let client_advertise =
            self.advertise("client_advertise", raw.client_advertise, client_listen);
        let peer_advertise = self.advertise("peer_advertise", raw.peer_advertise, peer_listen);
        let initial_nodes =
            self.initial_nodes(raw.initial_nodes, &peer_advertise, raw.replication_factor);
        let dial = self.dial(&raw.dial);
        let log_format = match raw.log_format.as_str() {
            "json" => LogFormat::Json,
            "text" => LogFormat::Text,
            other => {
                self.problem("log_format", format!("is {other:?}; must be text or json"));
                LogFormat::Text
            }
        };
        if !self.problems.is_empty() {
            return Err(ConfigError::Invalid(self.problems));
        }
        Ok(Config {
            name: raw.name,
            data_dir: raw.data_dir,
            client_listen,
            peer_listen,
            http_listen,
            client_advertise,
            peer_advertise,
            initial_nodes,
            zone: raw.zone,
            dial,
            shards: raw.shards,
            replication_factor: raw.replication_factor,
            timing: Timing {
                election_timeout: Duration::from_millis(raw.election_timeout_ms),
                heartbeat: Duration::from_millis(raw.heartbeat_ms),
            },
            snapshot_entries: raw.snapshot_entries,
            log_budget: Some(raw.log_budget_mib << 20).filter(|bytes| *bytes != 0),
            snapshot_bytes_per_second: raw.snapshot_mib_per_second << 20,
            replace_lost_after: Some(raw.replace_lost_after_seconds)
                .filter(|seconds| *seconds != 0)
                .map(Duration::from_secs),
            log: raw.log,
            log_format,
        })
    }

    fn bounds(&mut self, raw: &Raw) {
        self.bound("shards", u64::from(raw.shards), 1, u64::from(MAX_SHARDS));
        if ![1, 3, 5].contains(&raw.replication_factor) {
            self.problem("replication_factor", "must be 1, 3 or 5".to_owned());
        }
        self.bound(
            "election_timeout_ms",
            raw.election_timeout_ms,
            MIN_ELECTION_TIMEOUT_MS,
            MAX_ELECTION_TIMEOUT_MS,
        );
        self.bound(
            "heartbeat_ms",
            raw.heartbeat_ms,
            10,
            (raw.election_timeout_ms / 5).max(10),
        );
        self.bound("snapshot_entries", raw.snapshot_entries, 10, 10_000_000);
        if raw.log_budget_mib != 0 {
            self.bound(
                "log_budget_mib",
                raw.log_budget_mib,
                MIN_LOG_BUDGET_MIB,
                MAX_LOG_BUDGET_MIB,
            );
        }
        self.bound(
            "snapshot_mib_per_second",
            raw.snapshot_mib_per_second,
            1,
            MAX_SNAPSHOT_MIB_PER_SECOND,
        );
        if raw.replace_lost_after_seconds != 0 {
            self.bound(
                "replace_lost_after_seconds",
                raw.replace_lost_after_seconds,
                MIN_REPLACE_LOST_AFTER_SECONDS,
                MAX_REPLACE_LOST_AFTER_SECONDS,
            );
        }
        self.length("name", &raw.name, 1, 253);
        self.length("zone", &raw.zone, 0, 64);
    }

    fn problem(&mut self, key: &'static str, remedy: String) {
        self.problems.push(Problem { key, remedy });
    }

    fn bound(&mut self, key: &'static str, value: u64, least: u64, most: u64) {
        if !(least..=most).contains(&value) {
            self.problem(key, format!("is {value}; must be {least} to {most}"));
        }
    }

    fn length(&mut self, key: &'static str, value: &str, least: usize, most: usize) {
        if !(least..=most).contains(&value.len()) {
            self.problem(
                key,
                format!("has {} bytes; must have {least} to {most}", value.len()),
            );
        }
    }

    fn listen(&mut self, key: &'static str, value: &str) -> SocketAddr {
        value.parse().unwrap_or_else(|_| {
            self.problem(
                key,
                format!("is {value:?}; must be IP:PORT, such as 0.0.0.0:7400"),
            );
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }

    fn advertise(
        &mut self,
        key: &'static str,
        value: Option<String>,
        listen: SocketAddr,
    ) -> String {
        let Some(value) = value else {
            if listen.ip().is_unspecified() {
                self.problem(
                    key,
                    format!(
                        "must be set to HOST:PORT, because {listen} is no address to be reached at"
                    ),
                );
            }
            return listen.to_string();
        };
        self.address(key, &value);
        value
    }

    fn address(&mut self, key: &'static str, value: &str) {
        let good = value.len() <= 512
            && value.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
            });
        if !good {
            self.problem(key, format!("has {value:?}; must be HOST:PORT"));
        }
    }

    fn initial_nodes(&mut self, mut nodes: Vec<String>, own: &str, factor: u32) -> Vec<String> {
        const KEY: &str = "initial_nodes";
        if nodes.is_empty() {
            nodes.push(own.to_owned());
        }
        nodes.sort();
        nodes.dedup();
        for node in &nodes {
            self.address(KEY, node);
        }
        if nodes.len() < usize::try_from(factor).unwrap_or(usize::MAX) {
            self.problem(
                KEY,
                format!(
                    "names {} nodes; replication_factor {factor} needs at least as many",
                    nodes.len()
                ),
            );
        }
        nodes
    }

    fn dial(&mut self, pairs: &[String]) -> BTreeMap<String, String> {
        let mut dial = BTreeMap::new();
        for pair in pairs {
            match pair.split_once('=') {
                Some((advertised, actual)) => {
                    self.address("dial", advertised);
                    self.address("dial", actual);
                    dial.insert(advertised.to_owned(), actual.to_owned());
                }
                None => self.problem(
                    "dial",
                    format!("has {pair:?}; must be ADVERTISED=ACTUAL pairs"),
                ),
            }
        }
        dial
    }
}

#[cfg(test)]
mod tests;
