//! `lockstep-operator`: runs the operator, or prints the definition of `SyncCluster`.

use std::{io::Write as _, process::ExitCode};

use clap::{Parser, Subcommand};
use lockstep_operator::{crd, run};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

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
        options: run::Options,
        /// What to log: a filter such as info,lockstep_operator=debug.
        #[arg(long, env = "LOCKSTEP_OPERATOR_LOG", default_value = "info")]
        log: String,
        /// How to log: one JSON object a line, instead of text.
        #[arg(long, env = "LOCKSTEP_OPERATOR_LOG_JSON")]
        log_json: bool,
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
        Command::Run {
            options,
            log,
            log_json,
        } => serve(options, &log, log_json),
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
async fn serve(options: run::Options, log: &str, log_json: bool) -> anyhow::Result<()> {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(log)?)
        .with_writer(std::io::stderr);
    if log_json {
        lines
            .json()
            .with_current_span(false)
            .with_span_list(false)
            .init();
    } else {
        lines
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .init();
    }
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
    run::run(options, stop).await
}
