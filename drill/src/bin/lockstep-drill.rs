//! `lockstep-drill NAME`: a fault exercise under load on real processes, with a checker's verdict.
//!
//! Exits with 0 when the drill ran to its end and nothing was violated, 1 when something was, and 2
//! when the drill itself could not be carried out.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use lockstep_drill::{
    cluster::ClusterOptions,
    console::say,
    drill::{
        DrillOptions, ForeignOptions, Outcome, clock, deadlock, descriptors, disk_full,
        driver_kill, kill, load, lose_disk, partition, pause, recover, restore, roll, scale,
    },
};

/// Breaks a cluster on purpose, again and again, and judges what its clients saw.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    drill: Drill,
}

#[derive(Subcommand)]
enum Drill {
    /// Kills nodes that lead with -9, at most one at a time.
    Kill(Asked),
    /// Stops nodes that lead, without their noticing, for longer than an election takes.
    Pause(Asked),
    /// Sets the wall clock of a node that leads an hour ahead, for five seconds.
    Clock(Asked),
    /// Fills the disks of all nodes, and relieves them. Skipped where no file system can be mounted.
    DiskFull(Asked),
    /// Cuts links between nodes, in one direction or both.
    Partition(Asked),
    /// Grows the cluster from three nodes to five, and shrinks it again.
    Scale(Asked),
    /// Restarts every node in an orderly way, one after another.
    Roll(Asked),
    /// Kills nodes and deletes their data; they come back empty.
    LoseDisk(Asked),
    /// Kills the node that drives the placement, at each step of a move.
    DriverKill(Asked),
    /// Closes circles of waits, on a calm cluster and while leaders are killed.
    Deadlock(Asked),
    /// Fills a node that may have few open files with silent connections.
    Descriptors(Asked),
    /// Loses two of three nodes for good, and makes a new cluster of the third.
    Recover(Asked),
    /// Loses the whole cluster, and restores a backup into a new one.
    Restore(Asked),
    /// Breaks nothing: puts load on a cluster that is there, and judges what came of it, whatever
    /// happened to the cluster meanwhile. SIGTERM ends it early, with its verdict.
    Load(AskedLoad),
}

#[derive(Args)]
struct Asked {
    /// How often the fault happens.
    #[arg(long, default_value_t = 100)]
    cycles: u32,
    /// How many clients lock and unlock meanwhile.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// How many data shards the cluster has.
    #[arg(long, default_value_t = 8)]
    shards: u32,
    /// Repeats the random choices of an earlier run [default: random].
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Args)]
struct AskedLoad {
    /// Nodes to start from, host:port, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:7400")]
    endpoints: Vec<String>,
    /// For how long, at most.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many clients lock and unlock.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// A lost session is a violation: say so where every fault is shorter than their TTL of 10 s.
    #[arg(long)]
    sessions_survive: bool,
    /// Repeats the random choices of an earlier run [default: random].
    #[arg(long)]
    seed: Option<u64>,
}

impl Asked {
    fn options(&self) -> DrillOptions {
        DrillOptions {
            cycles: self.cycles,
            clients: self.clients,
            seed: self.seed.unwrap_or_else(rand::random),
            shards: self.shards,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let ran = tokio::select! {
        ran = run(&cli.drill) => ran,
        stopped = tokio::signal::ctrl_c() => {
            stopped.context("waiting for Ctrl-C").and(Err(anyhow::anyhow!("stopped by Ctrl-C")))
        }
    };
    match ran.and_then(|outcome| conclude(&cli.drill, &outcome)) {
        Ok(code) => code,
        Err(error) => {
            say(format_args!(
                "the drill could not be carried out: {error:#}"
            ));
            ExitCode::from(2)
        }
    }
}

async fn run(drill: &Drill) -> anyhow::Result<Outcome> {
    let cluster = |name: &str| ClusterOptions {
        own_group: true,
        ..ClusterOptions::new(name)
    };
    match drill {
        Drill::Kill(asked) => kill(asked.options(), cluster("kill")).await,
        Drill::Pause(asked) => pause(asked.options(), cluster("pause")).await,
        Drill::Clock(asked) => clock(asked.options(), cluster("clock")).await,
        Drill::DiskFull(asked) => disk_full(asked.options(), cluster("disk-full")).await,
        Drill::Partition(asked) => partition(asked.options(), cluster("partition")).await,
        Drill::Scale(asked) => scale(asked.options(), cluster("scale")).await,
        Drill::Roll(asked) => roll(asked.options(), cluster("roll")).await,
        Drill::LoseDisk(asked) => lose_disk(asked.options(), cluster("lose-disk")).await,
        Drill::DriverKill(asked) => driver_kill(asked.options(), cluster("driver-kill")).await,
        Drill::Deadlock(asked) => deadlock(asked.options(), cluster("deadlock")).await,
        Drill::Descriptors(asked) => descriptors(asked.options(), cluster("descriptors")).await,
        Drill::Recover(asked) => recover(asked.options(), cluster("recover")).await,
        Drill::Restore(asked) => restore(asked.options(), cluster("restore")).await,
        Drill::Load(asked) => {
            load(ForeignOptions {
                endpoints: asked.endpoints.clone(),
                clients: asked.clients,
                limit: Duration::from_secs(asked.seconds),
                sessions_survive: asked.sessions_survive,
                seed: asked.seed.unwrap_or_else(rand::random),
            })
            .await
        }
    }
}

fn conclude(drill: &Drill, outcome: &Outcome) -> anyhow::Result<ExitCode> {
    say(outcome.to_string().trim_end());
    match drill {
        Drill::Kill(_)
        | Drill::Pause(_)
        | Drill::Clock(_)
        | Drill::DiskFull(_)
        | Drill::Partition(_)
        | Drill::Scale(_)
        | Drill::Roll(_)
        | Drill::LoseDisk(_)
        | Drill::DriverKill(_)
        | Drill::Descriptors(_)
        | Drill::Recover(_)
        | Drill::Deadlock(_)
        | Drill::Restore(_) => outcome.figures.publish()?,
        // It runs where the cluster is, which may be a container that cannot write.
        Drill::Load(_) => outcome.figures.print()?,
    }
    if outcome.verdict.is_clean() {
        Ok(ExitCode::SUCCESS)
    } else {
        Ok(ExitCode::FAILURE)
    }
}
