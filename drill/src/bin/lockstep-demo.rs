//! `lockstep-demo`: what `make run` starts. Three nodes on this machine, a walk through what they
//! promise, and then a cluster to play with until Ctrl-C.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use lockstep_drill::{
    console::{Style, say, styled},
    demo::{Demo, DemoOptions},
};

/// Starts three nodes and shows what their locks promise, with one node killed on the way.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Stops after the walk instead of waiting for Ctrl-C; exits with 0 only if all of it held.
    #[arg(long)]
    check: bool,
    /// Where the nodes keep data and logs.
    #[arg(long, default_value = "data/demo")]
    dir: PathBuf,
    /// Uses the data of an earlier run again, instead of removing it.
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("{} {error:#}", styled(Style::Bad, "failed:")));
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: &Cli) -> anyhow::Result<()> {
    let options = DemoOptions {
        dir: cli.dir.clone(),
        keep: cli.keep,
    };
    let demo = tokio::select! {
        shown = Demo::run(&options) => shown?,
        stopped = tokio::signal::ctrl_c() => {
            stopped?;
            anyhow::bail!("stopped by Ctrl-C");
        }
    };
    if cli.check {
        demo.stop().await?;
        say(styled(Style::Good, "\nAll of it held."));
        return Ok(());
    }
    demo.invite();
    tokio::signal::ctrl_c().await?;
    say("\nStopping the nodes, one after another.");
    demo.stop().await
}
