//! `lockstep-node`: runs a node, or asks one for its health.

use std::{io::Write as _, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use lockstep_node::{
    config::{self, Flags, LogFormat},
    log_filter::Thinned,
    recover::Asked,
    signals,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::FilterExt as _, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Requests are many small allocations on one thread that are freed on another, which is what the
/// system's allocator is slowest at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long the health subcommand waits for an answer.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// The Lockstep server.
#[derive(Parser)]
#[command(name = "lockstep-node", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a node until SIGTERM or SIGINT.
    Serve(Box<Flags>),
    /// Ask the node with this configuration whether it is ready; exit code 0 if so.
    Health(Box<Flags>),
    /// Make a new cluster of what is left of one that has lost its majority.
    ///
    /// Works on the data directories of all nodes that are left, which must be stopped, as the user
    /// who owns them. Shows what each holds, takes for every shard the replica that is furthest, and
    /// asks before it changes anything. The new cluster has another id: nodes that were lost can never
    /// take part in it, and join as new ones with empty directories. What only they had acknowledged is
    /// lost; all sessions are over, and all tokens greater than before. Interrupted, it is finished by
    /// repeating it with the same directories; until then none of them starts.
    #[command(verbatim_doc_comment)]
    Recover(Asked),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Serve(flags) => serve(&flags),
        Command::Health(flags) => health(&flags),
        Command::Recover(asked) => recover(&asked),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nowhere is left to report a failure of this write.
            let _ = writeln!(std::io::stderr(), "lockstep-node: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve(flags: &Flags) -> anyhow::Result<()> {
    let config = config::load(flags)?;
    let filter = EnvFilter::try_new(&config.log)
        .with_context(|| format!("log: {:?} is no tracing filter", config.log))?;
    let filter = filter.and(Thinned::default());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match config.log_format {
        LogFormat::Text => lines
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .with_filter(filter)
            .boxed(),
        LogFormat::Json => lines.json().with_filter(filter).boxed(),
    };
    tracing_subscriber::registry().with(lines).init();
    let stop = CancellationToken::new();
    for variable in config::Environment::of_process().unknown() {
        tracing::warn!(
            variable,
            "this is no setting of a node, and sets nothing: is it misspelt?"
        );
    }
    signals::stop_on_signals(&stop)?;
    lockstep_node::node::run(config, stop).await
}

#[tokio::main]
async fn recover(asked: &Asked) -> anyhow::Result<()> {
    lockstep_node::recover::run(asked).await
}

#[tokio::main(flavor = "current_thread")]
async fn health(flags: &Flags) -> anyhow::Result<()> {
    let mut address = config::http_listen(flags)?;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(HEALTH_TIMEOUT, ask)
        .await
        .context("no answer in time")?
        .with_context(|| format!("no node answers on {address}"))?;
    let status = answer.split_whitespace().nth(1).unwrap_or("no status");
    anyhow::ensure!(
        status == "200",
        "not ready: {}",
        answer.lines().last().unwrap_or_default()
    );
    Ok(())
}
