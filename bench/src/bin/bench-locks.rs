//! `bench-locks`: locks of Lockstep and of etcd on this machine, side by side, as fast as they go.
//!
//! Exits with 0 when it ran to its end, whether or not the goals are met.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use lockstep_bench::{
    bench::{self, Book, Plan},
    herd::{self, Part},
    load::Span,
    peer::{Etcd, Lockstep, Peer as _, etcd},
    picture,
    report::{self, Agreed, Comparison},
    scenario::Scenario,
};
use lockstep_drill::{
    console::say,
    figure::{Figures, Goal, workspace_root},
};
use tokio::signal::unix::{SignalKind, signal};

/// Who is compared with whom.
const COMPARISON: Comparison = Comparison {
    peer: "lockstep",
    over: "etcd",
};
/// What was agreed.
const GOALS: [Agreed; 8] = [
    agreed("lockstep_1_pair_p50", Goal::at_most(1.5)),
    agreed("lockstep_256_pairs", Goal::at_least(10_000.0)),
    agreed("lockstep_256_pairs_over_etcd", Goal::at_least(8.0)),
    agreed("lockstep_256_pair_p99_over_etcd", Goal::at_most(0.25)),
    agreed("lockstep_1_pair_p50_over_etcd", Goal::at_most(0.6)),
    agreed("lockstep_hot_16_handovers_over_etcd", Goal::at_least(5.0)),
    // No herd: what a release costs does not depend on how many wait. Messages are exact; processor
    // time is counted in hundredths of a second and disturbed by caches.
    agreed("herd_messages_first_over_last", Goal::exactly(1.0)),
    agreed("herd_node_cpu_first_over_last", Goal::at_most(1.25)),
];

const fn agreed(name: &'static str, goal: Goal) -> Agreed {
    Agreed { name, goal }
}

/// Starts three nodes of etcd and three of Lockstep in turn, and measures how fast clients lock and
/// unlock, from a process of its own, with the same load.
///
/// Without etcd (the program that LOCKSTEP_ETCD names, or `etcd` in the PATH) measures Lockstep alone.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// What to measure: distinct:CLIENTS, hot:CLIENTS (one lock) or rw:CLIENTS (one lock, nine of
    /// ten only read).
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "distinct:1,distinct:64,distinct:256,distinct:1024,hot:16,hot:256,rw:64"
    )]
    scenarios: Vec<Scenario>,
    /// How many sessions wait for the lock that is released from one to the next, with Lockstep
    /// alone; 0 leaves that out.
    #[arg(long, default_value_t = 10_000)]
    herd: usize,
    /// Which to measure.
    #[arg(long, value_delimiter = ',', default_value = "etcd,lockstep")]
    peers: Vec<PeerName>,
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How often each is made; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long the load runs before each, in seconds.
    #[arg(long, default_value_t = 2)]
    warmup: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PeerName {
    Etcd,
    Lockstep,
}

impl Cli {
    fn plan(&self) -> anyhow::Result<Plan> {
        ensure!(self.rounds > 0, "--rounds must be 1 or more");
        ensure!(self.seconds > 0, "--seconds must be 1 or more");
        Ok(Plan {
            scenarios: self.scenarios.clone(),
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
    // Whatever is measured ends its servers when it is dropped.
    let ran = tokio::select! {
        ran = run(&cli) => ran,
        stopped = stopped() => stopped,
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

async fn stopped() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    tokio::select! {
        stopped = tokio::signal::ctrl_c() => stopped.context("waiting for Ctrl-C")?,
        _ = terminate.recv() => {}
    }
    anyhow::bail!("stopped by a signal")
}

async fn run(cli: &Cli) -> anyhow::Result<()> {
    let plan = cli.plan()?;
    let etcd = Other::find(cli).await?;
    let mut figures = Figures::new("locks");
    figures.set("seconds", cli.seconds);
    figures.set("rounds", cli.rounds);
    figures.set("warmup", cli.warmup);
    figures.set("nodes", 3);
    figures.set("lockstep", env!("CARGO_PKG_VERSION"));
    if let Some(etcd) = &etcd {
        figures.set("etcd", &etcd.version);
    }
    let mut book = Book::default();
    if !plan.scenarios.is_empty() {
        measure(cli, &plan, etcd.as_ref(), &mut book).await?;
        say(format_args!(
            "\nmedians of {} rounds of {} s; CPU in seconds for 1,000 pairs; etcd's lock service has no \
             shared mode, so its readers exclude each other\n",
            plan.rounds, cli.seconds
        ));
        say(report::table(&book, COMPARISON));
        report::add_figures(&mut figures, &book, COMPARISON, &GOALS);
    }
    if cli.herd > 0 && cli.peers.contains(&PeerName::Lockstep) {
        let parts = herd(cli.herd).await?;
        figures.set("herd", cli.herd);
        add_herd(&mut figures, &parts);
    }
    figures.publish()?;
    if !book.all().is_empty() {
        let etcd = etcd.map(|etcd| format!(", etcd {}", etcd.version));
        let note = format!(
            "three nodes each on one machine, every write synced; medians of {} rounds of {} s; \
             Lockstep {}{}",
            plan.rounds,
            cli.seconds,
            env!("CARGO_PKG_VERSION"),
            etcd.unwrap_or_default(),
        );
        let picture = save_picture(&book, &note)?;
        say(format_args!("drawn in {}", picture.display()));
    }
    Ok(())
}

/// What Lockstep is compared with.
struct Other {
    program: PathBuf,
    version: String,
}

impl Other {
    /// None if it is not asked for, or not there, which is said.
    async fn find(cli: &Cli) -> anyhow::Result<Option<Self>> {
        if !cli.peers.contains(&PeerName::Etcd) {
            return Ok(None);
        }
        let Some(program) = etcd::program() else {
            say("there is no etcd here: Lockstep is measured alone");
            return Ok(None);
        };
        let version = etcd::version(&program).await?;
        say(format_args!("etcd {version}: {}", program.display()));
        Ok(Some(Self { program, version }))
    }
}

async fn measure(
    cli: &Cli,
    plan: &Plan,
    etcd: Option<&Other>,
    book: &mut Book,
) -> anyhow::Result<()> {
    for round in 1..=plan.rounds {
        let done = |peer: &'static str, scenario, run: &_| {
            say(report::progress(round, peer, scenario, run));
        };
        let mut order = cli.peers.clone();
        if round.is_multiple_of(2) {
            order.reverse();
        }
        for peer in order {
            match (peer, etcd) {
                (PeerName::Lockstep, _) => {
                    let lockstep = Lockstep::start(plan.most_clients()).await?;
                    say(format_args!(
                        "data shards led by each node: {:?}",
                        lockstep.leaders_per_node().await
                    ));
                    bench::round(lockstep, plan, book, done).await?;
                }
                (PeerName::Etcd, Some(other)) => {
                    let etcd = Etcd::start(&other.program, plan.most_clients()).await?;
                    bench::round(etcd, plan, book, done).await?;
                }
                (PeerName::Etcd, None) => {}
            }
        }
    }
    Ok(())
}

/// On a cluster of its own.
async fn herd(sessions: usize) -> anyhow::Result<Vec<Part>> {
    say(format_args!(
        "\n{sessions} sessions wait for one lock, which is released from one to the next"
    ));
    let mut lockstep = Lockstep::start(0).await?;
    let ran = herd::run(&lockstep, sessions).await;
    let parts = ran.map_err(|error| lockstep.explain(error.context("the herd")))?;
    say(herd::table(&parts));
    Ok(parts)
}

fn add_herd(figures: &mut Figures, parts: &[Part]) {
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else {
        return;
    };
    for quantity in herd::QUANTITIES {
        let values = [first, last].map(quantity.of);
        for (which, value) in ["first", "last"].into_iter().zip(values) {
            let name = format!("herd_{}_{which}_tenth", quantity.figure);
            report::add(figures, &name, value, quantity.unit, &GOALS);
        }
        let [first, last] = values;
        let name = format!("herd_{}_first_over_last", quantity.figure);
        report::add(figures, &name, first / last, "ratio", &GOALS);
    }
}

fn save_picture(book: &Book, note: &str) -> anyhow::Result<PathBuf> {
    let peers = [COMPARISON.peer, COMPARISON.over];
    let picture = picture::draw(book, &peers, note);
    let dir = workspace_root().join("bench").join("results");
    let path = dir.join("locks.svg");
    let written = fs::create_dir_all(&dir).and_then(|()| fs::write(&path, picture));
    written.with_context(|| format!("writing {}", Path::new(&path).display()))?;
    Ok(path)
}
