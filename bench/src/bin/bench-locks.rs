//! `bench-locks`: locking and unlocking against real nodes on this machine, as fast as they go.
//!
//! Exits with 0 when it ran to its end, whether or not the goals are met.

use std::{process::ExitCode, time::Duration};

use anyhow::ensure;
use clap::Parser;
use lockstep_bench::{
    bench::{self, Plan, Runs},
    load::{Scenario, Span},
    peer::{Lockstep, Peer as _},
    report::{self, Agreed},
};
use lockstep_drill::{
    console::say,
    figure::{Figures, Goal},
};

/// Clients that all want one lock: enough that one always waits, and few enough that all of them
/// fit into one round of a queue that is easily watched.
const HOT_CLIENTS: usize = 16;
/// What was agreed.
const GOALS: [Agreed; 2] = [
    Agreed {
        name: "lockstep_1_pair_p50",
        goal: Goal::at_most(1.5),
    },
    Agreed {
        name: "lockstep_256_pairs",
        goal: Goal::at_least(10_000.0),
    },
];

/// Starts three nodes and measures how fast clients lock and unlock: each its own locks, and all of
/// them one.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// How many clients lock distinct locks, one measurement each.
    #[arg(long, value_delimiter = ',', default_value = "1,64,256")]
    clients: Vec<usize>,
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How often each is made; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long the load runs before each, in seconds.
    #[arg(long, default_value_t = 2)]
    warmup: u64,
}

impl Cli {
    fn plan(&self) -> anyhow::Result<Plan> {
        ensure!(self.rounds > 0, "--rounds must be 1 or more");
        ensure!(self.seconds > 0, "--seconds must be 1 or more");
        ensure!(!self.clients.contains(&0), "--clients must be 1 or more");
        let distinct = self.clients.iter().copied().map(Scenario::Distinct);
        Ok(Plan {
            scenarios: distinct.chain([Scenario::Hot(HOT_CLIENTS)]).collect(),
            span: Span {
                warmup: Duration::from_secs(self.warmup),
                measured: Duration::from_secs(self.seconds),
            },
            rounds: self.rounds,
        })
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let ran = tokio::select! {
        ran = run(&cli) => ran,
        stopped = tokio::signal::ctrl_c() => {
            stopped.map_err(Into::into).and(Err(anyhow::anyhow!("stopped by Ctrl-C")))
        }
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!(
                "the benchmark could not be carried out: {error:#}"
            ));
            ExitCode::from(2)
        }
    }
}

async fn run(cli: &Cli) -> anyhow::Result<()> {
    let plan = cli.plan()?;
    let mut lockstep = Lockstep::start(plan.most_clients()).await?;
    let all = match measure(&lockstep, &plan).await {
        Ok(all) => all,
        Err(error) => return Err(lockstep.explain(error)),
    };
    say(format_args!(
        "\nmedians of {} rounds of {} s; CPU in seconds for 1,000 pairs\n",
        plan.rounds, cli.seconds
    ));
    say(report::table(&all));
    let mut figures = Figures::new("locks");
    figures.set("seconds", cli.seconds);
    figures.set("rounds", cli.rounds);
    figures.set("warmup", cli.warmup);
    figures.set("nodes", lockstep.servers().len());
    report::add_figures(&mut figures, &all, &GOALS);
    Ok(figures.publish()?)
}

async fn measure(lockstep: &Lockstep, plan: &Plan) -> anyhow::Result<Vec<Runs>> {
    say(format_args!(
        "data shards led by each node: {:?}",
        lockstep.leaders_per_node().await
    ));
    let all = bench::run(lockstep, plan, |round, scenario, run| {
        say(report::progress(round, lockstep.name(), scenario, run));
    });
    let all = all.await?;
    say(format_args!(
        "data shards led by each node: {:?}",
        lockstep.leaders_per_node().await
    ));
    Ok(all)
}
