//! The command line.
//!
//! Invariant: every option says its default and its unit.

mod lock;
mod run;

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use lockstep_client::SessionId;

pub(crate) use self::{
    lock::{BarrierAction, ElectAction, LockAction, SemaphoreAction},
    run::{ElectRun, LockRun, RunTerms, SemaphoreRun},
};
use crate::{exit, span};

/// Most rows of a listing without `--limit`: a screenful is far less, a script asks for more.
const DEFAULT_ROWS: u32 = 1_000;

/// Locks on a Lockstep cluster: run commands under a lock, and see who holds what.
#[derive(Debug, Parser)]
#[command(name = "lockstepctl", version, after_long_help = exit::HELP)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Args {
    /// Nodes to start from, host:port, separated by commas; one that answers is enough
    #[arg(
        long,
        global = true,
        env = "LOCKSTEP_ENDPOINTS",
        value_name = "HOST:PORT,...",
        value_delimiter = ',',
        default_value = "127.0.0.1:7400"
    )]
    pub(crate) endpoints: Vec<String>,

    /// Connect to no other nodes than these, as through a tunnel
    #[arg(
        long,
        global = true,
        env = "LOCKSTEP_ONLY_ENDPOINTS",
        value_parser = clap::builder::FalseyValueParser::new()
    )]
    pub(crate) only_endpoints: bool,

    /// How results are written; the names of JSON fields are stable
    #[arg(
        long,
        short,
        global = true,
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub(crate) output: Format,

    /// What to do
    #[command(subcommand)]
    pub(crate) action: Action,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Run commands under locks, and look at locks
    Lock {
        /// What to do with them
        #[command(subcommand)]
        action: LockAction,
    },
    /// Run commands under a number of permits
    Semaphore {
        /// What to do with them
        #[command(subcommand)]
        action: SemaphoreAction,
    },
    /// Run commands as the leader, and see who leads
    Elect {
        /// What to do with them
        #[command(subcommand)]
        action: ElectAction,
    },
    /// Wait for others
    Barrier {
        /// What to do with them
        #[command(subcommand)]
        action: BarrierAction,
    },
    /// Tell who holds what as it changes, one line a change, until interrupted
    ///
    /// The present holders come first. It goes on by itself when nodes are lost; where changes were
    /// missed it says so, and begins again with the present holders.
    Watch {
        /// Only this lock; all otherwise
        name: Option<String>,
        /// Only names that begin so
        #[arg(long, conflicts_with = "name")]
        prefix: Option<String>,
    },
    /// Show the deadlocks that were broken last, at most 100, the newest first
    Deadlocks,
    /// Look at sessions and end them
    Session {
        /// What to do with them
        #[command(subcommand)]
        action: SessionAction,
    },
    /// Look at nodes, empty them, replace them
    Node {
        /// What to do with them
        #[command(subcommand)]
        action: NodeAction,
    },
    /// Look at shards
    Shard {
        /// What to do with them
        #[command(subcommand)]
        action: ShardAction,
    },
    /// Move leads
    Leader {
        /// What to do with them
        #[command(subcommand)]
        action: LeaderAction,
    },
    /// Keep the state of a cluster in a file, and make a new cluster go on from it
    Backup {
        /// What to do
        #[command(subcommand)]
        action: BackupAction,
    },
    /// Make a new cluster of what is left of one that has lost its majority
    ///
    /// Runs `lockstep-node recover`, which can read data directories, with the same arguments: on
    /// the machine where the directories are, as the user who owns them, while their nodes are
    /// stopped. It shows what each holds, takes for every shard the replica that is furthest, and asks
    /// before it changes anything.
    Recover {
        /// The data directory of a stopped node; once for each node that is left
        #[arg(long = "data-dir", value_name = "DIR", required = true)]
        data_dirs: Vec<PathBuf>,
        /// A node of a recovery that was interrupted, whose directory is gone since: makes another
        /// cluster without it; once for each
        #[arg(long, value_name = "NODE_ID")]
        lost: Vec<u64>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// The server's program; otherwise the one beside this program, or in PATH
        #[arg(long, value_name = "PROGRAM")]
        node_program: Option<PathBuf>,
    },
    /// Show nodes and shards, leaders and lag
    Status {
        /// Show it again every second until interrupted
        #[arg(long, short)]
        watch: bool,
    },
    /// Print a completion script for a shell
    Completions {
        /// bash: source <(lockstepctl completions bash)
        shell: Shell,
    },
    /// Print the version of this program
    Version,
}

/// What to do with sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionAction {
    /// List the open sessions
    Ls {
        /// Most rows
        #[arg(long, default_value_t = DEFAULT_ROWS, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// End a session: its client is told at once, and what it holds is released when its lease is over
    Close {
        /// Its id, as listed: 16 hexadecimal digits
        #[arg(value_parser = session_id)]
        id: SessionId,
        /// Release what it holds at once: its client may believe in its locks until it hears of it
        #[arg(long)]
        now: bool,
    },
}

/// What to do with nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeAction {
    /// List the nodes
    Ls,
    /// Move all replicas and leads away from a node, and wait until it is empty
    ///
    /// The node serves meanwhile. Afterwards it can be stopped and removed. `node activate` cancels.
    Drain(NodeChange),
    /// Take a node that was drained or replaced out of the cluster
    Remove(NodeChange),
    /// Declare a node lost, and wait until its replicas are replaced
    ///
    /// Refused where a shard would keep no majority. A node that comes back with its data is active
    /// again; one whose place was taken is not.
    Replace(NodeChange),
    /// Make a draining or lost node active again
    Activate(NodeChange),
}

/// A change of one node.
#[derive(Debug, clap::Args)]
pub(crate) struct NodeChange {
    /// The node's id or name
    pub(crate) node: String,
    /// Refuse if the cluster's tables are not at this revision (see `status --output json`)
    #[arg(long, value_name = "N")]
    pub(crate) expected_revision: Option<u64>,
    /// Do not wait until replicas have moved
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Wait at most so long (30s, 5m, 1h)
    #[arg(long, value_name = "SPAN", default_value = "10m", value_parser = span::parse)]
    pub(crate) timeout: Duration,
}

/// What to do with shards.
#[derive(Debug, Subcommand)]
pub(crate) enum ShardAction {
    /// List the shards: leaders, replicas, lag
    Ls,
}

/// What to do with leads.
#[derive(Debug, Subcommand)]
pub(crate) enum LeaderAction {
    /// Have a node hand its leads over, now
    ///
    /// They are spread again after a while, unless the node is drained or stopped.
    Transfer {
        /// The node's id or name
        node: String,
        /// Only this shard's
        #[arg(long)]
        shard: Option<u32>,
        /// To this node (id or name); to the one whose log is furthest otherwise
        #[arg(long, value_name = "NODE")]
        to: Option<String>,
    },
}

/// What to do with backups.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupAction {
    /// Write the state of all data shards to a file
    ///
    /// Each shard is read from its leader as of one moment, while the cluster serves. The file is
    /// compressed, every part of it has a checksum, and only its owner can read it. It must not exist yet.
    Save {
        /// Where to
        file: PathBuf,
    },
    /// Make a new, unused cluster go on from a backup
    ///
    /// All tokens that the cluster will ever give are greater than those of the one that was backed
    /// up. Sessions are leases and do not come back; their locks are free. The number of shards may
    /// differ. Refused where the cluster is in use; repeating it is harmless.
    Restore {
        /// Where from
        file: PathBuf,
    },
}

fn session_id(text: &str) -> Result<SessionId, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let is_hex = (1..=16).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16)
        .ok()
        .filter(|_| is_hex)
        .map(SessionId)
        .ok_or_else(|| format!("{text:?} is not a session's id: copy it from `session ls`"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn session_ids_are_read_as_they_are_shown() {
        let id = SessionId(0x00ab_cdef);
        assert_eq!(session_id(&id.to_string()), Ok(id));
        for text in ["", "+1", "xyz", "00000000000000001"] {
            assert!(session_id(text).is_err(), "{text:?}");
        }
    }
}
