//! What `make run` shows: a cluster of three nodes on this machine, and what its locks promise, one
//! step after another.
//!
//! Invariant: each step checks what it says. A sentence that does not hold ends the demo.

mod contention;
mod leader_death;
mod readers;
mod stage;

use std::{fs, io, path::PathBuf};

use anyhow::Context;
use lockstep_client::{Client, ClientConfig};

use self::stage::Stage;
use crate::{
    cluster::{Cluster, ClusterOptions, Ports},
    console::{Style, say, styled},
};

/// What the demo is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoOptions {
    /// Where the nodes keep data and logs.
    pub dir: PathBuf,
    /// Whether data of an earlier run is used again, instead of being removed.
    pub keep: bool,
}

/// A cluster that has shown what it can.
pub struct Demo {
    cluster: Cluster,
}

impl Demo {
    /// Starts the nodes and walks through the steps.
    ///
    /// # Errors
    /// If the nodes do not start, or something that is said does not hold; with the ends of the
    /// logs.
    pub async fn run(options: &DemoOptions) -> anyhow::Result<Self> {
        let mut cluster = start(options).await?;
        match walk(&mut cluster).await {
            Ok(()) => Ok(Self { cluster }),
            Err(error) => Err(cluster.explain(error)),
        }
    }

    /// Says what can be done with the cluster now.
    pub fn invite(&self) {
        let endpoints = self.cluster.endpoints();
        say(styled(Style::Bold, "\nThe cluster is yours until Ctrl-C."));
        say(format_args!(
            "  clients connect to {}",
            endpoints.join(", ")
        ));
        say("  in another terminal:");
        // The first node has the port that lockstepctl asks by default, unless that was taken.
        let first = endpoints.first().map_or("127.0.0.1:7400", String::as_str);
        let to = match first {
            "127.0.0.1:7400" => String::new(),
            other => format!(" --endpoints {other}"),
        };
        for command in [
            "status --watch",
            "lock run my-job -- sh -c 'echo working under token $LOCKSTEP_TOKEN; sleep 30'",
            "lock ls",
            "session ls",
        ] {
            say(format_args!("    lockstepctl{to} {command}"));
        }
    }

    /// Stops the nodes in an orderly way.
    ///
    /// # Errors
    /// If one does not stop so.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let stopped = self.cluster.terminate_all().await;
        stopped.map_err(|error| self.cluster.explain(error))
    }
}

async fn start(options: &DemoOptions) -> anyhow::Result<Cluster> {
    let mut cluster = ClusterOptions {
        dir: Some(options.dir.clone()),
        ports: Ports::Friendly,
        own_group: true,
        ..ClusterOptions::new("demo")
    };
    if !options.keep {
        for node in 1..=cluster.nodes {
            let name = format!("node-{node}");
            remove(fs::remove_dir_all(options.dir.join(&name)))?;
            remove(fs::remove_file(options.dir.join(format!("{name}.log"))))?;
        }
    }
    cluster
        .env
        .insert("LOCKSTEP_LOG".to_owned(), "info".to_owned());
    say(format_args!(
        "Starting three nodes. Data and logs: {}",
        options.dir.display()
    ));
    let cluster = Cluster::start(cluster).await?;
    say(format_args!(
        "They are up: {}.",
        cluster.endpoints().join(", ")
    ));
    Ok(cluster)
}

fn remove(removed: io::Result<()>) -> anyhow::Result<()> {
    match removed {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).context("removing the data of an earlier run"),
    }
}

async fn walk(cluster: &mut Cluster) -> anyhow::Result<()> {
    let client = Client::connect(ClientConfig::new(cluster.endpoints())).await?;
    let stage = Stage::new(client);
    contention::show(&stage).await?;
    readers::show(&stage).await?;
    leader_death::show(&stage, cluster).await
}
