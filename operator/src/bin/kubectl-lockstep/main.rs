//! `kubectl lockstep`: lockstepctl on a cluster that is found by its SyncCluster.
//!
//! Connections go through the API server, by port-forward, to a pod that is ready; so no port of the
//! cluster has to be reachable from here. Invariant: the exit code is lockstepctl's own, and so is all
//! that is written to standard output.

mod arguments;
mod find;
mod program;
mod tunnel;

use std::{io::Write as _, process::ExitCode};

use anyhow::Context as _;
use clap::Parser as _;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::net::TcpListener;

use arguments::Arguments;
use tunnel::Tunnel;

/// As lockstepctl's, for what it was not even asked: something else failed.
const FAILED: u8 = 1;

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(run(Arguments::parse())).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

/// Tells people something.
fn say(words: &str) {
    // Nowhere is left to report a failure of this write.
    let _ = writeln!(std::io::stderr(), "kubectl-lockstep: {words}");
}

async fn run(arguments: Arguments) -> anyhow::Result<u8> {
    let program = program::find(arguments.lockstepctl.as_deref())?;
    let config = Box::pin(configuration(&arguments)).await?;
    let namespace = arguments.namespace.as_deref();
    let namespace = namespace.unwrap_or(&config.default_namespace).to_owned();
    let client = Client::try_from(config).context("the Kubernetes API cannot be reached")?;
    let clusters = Api::namespaced(client.clone(), &namespace);
    let cluster = find::cluster(&clusters, &namespace, arguments.cluster.as_deref()).await?;
    let tunnel = Tunnel::new(Api::namespaced(client, &namespace), cluster);
    // Says what is wrong before lockstepctl could only say that nobody answers.
    tunnel.pod().await?;
    let listener = TcpListener::bind(("127.0.0.1", 0))
        .await
        .context("no port of this machine can be listened at")?;
    let endpoint = listener.local_addr()?.to_string();
    let serving = tokio::spawn(tunnel.serve(listener));
    let ended = program::run(&program, &endpoint, &arguments.command).await;
    serving.abort();
    ended
}

async fn configuration(arguments: &Arguments) -> anyhow::Result<Config> {
    let nowhere = "no Kubernetes is configured: set KUBECONFIG, or give --kubeconfig";
    if arguments.kubeconfig.is_none() && arguments.context.is_none() {
        return Config::infer().await.context(nowhere);
    }
    let file = match &arguments.kubeconfig {
        Some(path) => Kubeconfig::read_from(path)
            .with_context(|| format!("{} is no kubeconfig", path.display()))?,
        None => Kubeconfig::read().context(nowhere)?,
    };
    let options = KubeConfigOptions {
        context: arguments.context.clone(),
        ..KubeConfigOptions::default()
    };
    Ok(Config::from_custom_kubeconfig(file, &options).await?)
}
