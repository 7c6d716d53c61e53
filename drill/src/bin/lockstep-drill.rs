//! `lockstep-drill NAME`: a fault exercise under load on real processes, with a checker's verdict.
//!
//! Exits with 0 when the drill ran to its end and nothing was violated, 1 when something was, and 2
//! when the drill itself could not be carried out.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use lockstep_drill::{
    cluster::ClusterOptions,
    console::say,
    drill::{DrillOptions, Outcome, kill, partition, pause},
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
    /// Cuts links between nodes, in one direction or both.
    Partition(Asked),
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
    match ran.and_then(|outcome| conclude(&outcome)) {
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
        Drill::Partition(asked) => partition(asked.options(), cluster("partition")).await,
    }
}

fn conclude(outcome: &Outcome) -> anyhow::Result<ExitCode> {
    say(outcome.to_string().trim_end());
    outcome.figures.publish()?;
    if outcome.verdict.is_clean() {
        Ok(ExitCode::SUCCESS)
    } else {
        Ok(ExitCode::FAILURE)
    }
}
