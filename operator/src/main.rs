//! `lockstep-operator`: runs the operator, or prints the definition of `SyncCluster`.

use std::{io::Write as _, process::ExitCode};

use clap::{Parser, Subcommand};
use lockstep_operator::{
    crd, run,
    telemetry::{self, Telemetry},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Keeps clusters of Lockstep as their SyncCluster says.
#[derive(Parser)]
#[command(name = "lockstep-operator", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run until SIGTERM or SIGINT.
    Run {
        #[command(flatten)]
        options: Box<run::Options>,
        #[command(flatten)]
        telemetry: telemetry::Options,
    },
    /// Print the definition of SyncCluster as YAML.
    Crd {
        /// As a template of the chart lockstep-crds.
        #[arg(long)]
        chart: bool,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run { options, telemetry } => serve(*options, &telemetry),
        Command::Crd { chart } => print(chart),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nowhere is left to report a failure of this write.
            let _ = writeln!(std::io::stderr(), "lockstep-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print(chart: bool) -> anyhow::Result<()> {
    let text = if chart {
        crd::chart_template()?
    } else {
        crd::manifest()?
    };
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

#[tokio::main]
async fn serve(options: run::Options, told: &telemetry::Options) -> anyhow::Result<()> {
    let telemetry = Telemetry::start(told)?;
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let cancel = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        cancel.cancel();
    });
    let ended = run::run(options, stop).await;
    telemetry.stop().await;
    ended
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_are_sound() {
        super::Arguments::command().debug_assert();
    }
}
