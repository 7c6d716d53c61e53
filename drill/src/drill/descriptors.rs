//! Silent connections, more than a node may have open files: locks must go on, and other nodes get in.

use std::net::SocketAddr;

use anyhow::Context as _;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::TcpStream;

use super::{DrillOptions, Exercise, Going, Outcome};
use crate::{
    checker::{Expectations, Violation},
    cluster::ClusterOptions,
    console::say,
};

/// What a shell gives a program by default on many systems.
const DESCRIPTORS: u64 = 1_024;
/// Connections to each listener of the node: more than it may have files.
const SILENT: usize = 1_100;

/// Each cycle opens 1,100 connections to each listener of a node that leads, which has 1,024
/// descriptors, and says nothing on them; sees that every shard grants and that the node is ready;
/// kills another node and starts it again meanwhile, which the first must let in; and sees that all
/// goes on when the connections are gone.
///
/// # Errors
/// If the harness itself fails.
pub async fn descriptors(
    options: DrillOptions,
    cluster: ClusterOptions,
) -> anyhow::Result<Outcome> {
    let cycles = options.cycles;
    let expectations = Expectations {
        sessions_survive: true,
    };
    allow_many()?;
    let cluster = cluster.with_descriptors(DESCRIPTORS);
    let mut exercise = Exercise::start("descriptors", options, cluster, expectations).await?;
    let nodes = exercise.cluster.size();
    let mut opened = 0;
    for cycle in 1..=cycles {
        let (victim, _) = exercise.draw_leader().await?;
        let silent = fill(&exercise, victim).await?;
        opened += silent.len();
        let filled = exercise.now();
        let name = format!("node-{}", victim + 1);
        let when = format!("while {name} has {} silent connections", silent.len());
        let mut going = exercise.serving(&when, filled).await?;
        if going == Going::On {
            exercise.cluster.wait_ready(victim).await?;
            let other = (victim + 1) % nodes;
            exercise.cluster.kill(other).await?;
            exercise.cluster.restart(other).await?;
            let back = exercise.now();
            going = exercise.serving(&when, back).await?;
        }
        let left = silent.len();
        drop(silent);
        let gone = exercise.now();
        if going == Going::On {
            exercise.cluster.wait_all_ready().await?;
            let when = format!("after the silent connections of {name} are gone");
            going = exercise.serving(&when, gone).await?;
        }
        if going == Going::Stuck {
            break;
        }
        say(format_args!(
            "cycle {cycle}/{cycles}: {left} silent connections to {name} came and went"
        ));
        exercise.cycle_done(cycle).await?;
    }
    if opened < SILENT {
        exercise.report(Violation::Unmet {
            what: format!("silent connections are opened: {opened}"),
        });
    }
    let figures = exercise.figures();
    figures.note("silent_connections", opened as f64, "count");
    exercise.finish().await
}

/// Opens the connections. A node may close them again, and may turn them away once it is full.
async fn fill(exercise: &Exercise, node: usize) -> anyhow::Result<Vec<TcpStream>> {
    let addresses = exercise.cluster.addresses(node)?;
    let mut open = Vec::new();
    for address in [addresses.client, addresses.peer, addresses.http] {
        for _ in 0..SILENT {
            open.push(connect(address).await?);
        }
    }
    Ok(open)
}

async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let connected = TcpStream::connect(address).await;
    connected.with_context(|| format!("a silent connection to {address}"))
}

/// This program needs a descriptor for each connection too.
fn allow_many() -> anyhow::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("raising this program's limit of open files")
}
