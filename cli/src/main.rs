//! `lockstepctl`: Lockstep on the command line, and as the kubectl plugin `kubectl-lockstep`.
//!
//! Invariant: results go to standard output and nothing else does; hints, progress and errors go
//! to standard error; the exit code says what happened (see [`exit`]).

mod args;
mod backup_file;
mod boot_time;
mod child;
mod command;
mod exit;
mod new_file;
mod output;
mod progress;
mod row;
mod span;
mod supervisor;
mod table;

use std::{ffi::OsStr, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _, error::ErrorKind};
use lockstep_client::{Client, ClientConfig, Release};

use self::{
    args::{
        Action, Args, BarrierAction, ElectAction, LeaderAction, LockAction, SemaphoreAction,
        SessionAction, ShardAction,
    },
    exit::Failure,
    output::Output,
};

fn main() -> ExitCode {
    let mut called = std::env::args_os();
    match called.next().as_deref().and_then(OsStr::to_str) {
        Some(supervisor::NAME) => return supervisor::run(called),
        Some(supervisor::launch::NAME) => return supervisor::launch::run(called),
        Some(_) | None => {}
    }
    let args = match parse() {
        Ok(args) => args,
        Err(error) => {
            let asked_for = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            // Nothing can be done about a standard error that is closed.
            let _unwritten = error.print();
            return if asked_for {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(exit::USAGE)
            };
        }
    };
    let output = Output::new(args.output);
    match run(args, &output) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if let Some(words) = failure.words() {
                output.error(&words);
            }
            ExitCode::from(failure.code())
        }
    }
}

/// Reads the command line under the name that it was called by.
fn parse() -> Result<Args, clap::Error> {
    let name = std::env::args_os().next().unwrap_or_default();
    let file = std::path::Path::new(&name).file_name();
    let is_plugin = file.is_some_and(|file| file.to_string_lossy().starts_with("kubectl-"));
    let mut command = Args::command();
    if is_plugin {
        command = command.bin_name("kubectl lockstep");
    }
    Args::from_arg_matches(&command.try_get_matches()?)
}

fn run(args: Args, output: &Output) -> Result<u8, Failure> {
    match args.action {
        Action::Completions { shell } => command::completions::print(shell, output)?,
        Action::Version => command::version::print(output)?,
        Action::Recover {
            data_dirs,
            lost,
            yes,
            node_program,
        } => {
            return Err(command::recover::hand_over(
                &data_dirs,
                &lost,
                yes,
                node_program,
                output,
            ));
        }
        Action::Lock { .. }
        | Action::Semaphore { .. }
        | Action::Elect { .. }
        | Action::Barrier { .. }
        | Action::Watch { .. }
        | Action::Deadlocks
        | Action::Session { .. }
        | Action::Node { .. }
        | Action::Shard { .. }
        | Action::Leader { .. }
        | Action::Backup { .. }
        | Action::Status { .. } => {
            child::signals::never_stop_for_the_terminal();
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .map_err(|error| Failure::Other(format!("cannot start: {error}")))?;
            let code = runtime.block_on(ask(args, output));
            // A name that is still being looked up must not hold the exit up.
            runtime.shutdown_background();
            return code;
        }
    }
    Ok(exit::OK)
}

/// Runs what needs the cluster.
async fn ask(args: Args, output: &Output) -> Result<u8, Failure> {
    // A comma at the end is no endpoint without a name.
    let endpoints = args.endpoints.iter().map(|endpoint| endpoint.trim());
    let config = ClientConfig {
        only_endpoints: args.only_endpoints,
        ..ClientConfig::new(endpoints.filter(|endpoint| !endpoint.is_empty()))
    };
    let client = Client::connect(config).await?;
    match args.action {
        Action::Lock { action } => match action {
            LockAction::Run(options) => return command::run::run(&client, options, output).await,
            LockAction::Ls { prefix, limit } => {
                command::lock::list(&client, &prefix, limit, output).await?;
            }
            LockAction::Show { name } => command::lock::show(&client, &name, output).await?,
            LockAction::Validate { name, token } => {
                return command::lock::validate(&client, &name, token, output).await;
            }
        },
        Action::Semaphore {
            action: SemaphoreAction::Run(options),
        } => return command::run::run(&client, options, output).await,
        Action::Elect { action } => match action {
            ElectAction::Run(options) => return command::run::run(&client, options, output).await,
            ElectAction::Show { name } => command::elect::show(&client, &name, output).await?,
            ElectAction::Observe { name } => {
                command::elect::observe(&client, &name, output).await?;
            }
        },
        Action::Barrier {
            action:
                BarrierAction::Wait {
                    name,
                    parties,
                    timeout,
                },
        } => command::barrier::wait(&client, name, parties, timeout, output).await?,
        Action::Watch { name, prefix } => {
            command::watch::watch(&client, name, prefix, output).await?;
        }
        Action::Deadlocks => command::deadlocks::show(&client, output).await?,
        Action::Session { action } => match action {
            SessionAction::Ls { limit } => command::session::list(&client, limit, output).await?,
            SessionAction::Close { id, now } => {
                let release = if now {
                    Release::Now
                } else {
                    Release::AfterLease
                };
                command::session::close(&client, id, release, output).await?;
            }
        },
        Action::Node { action } => command::node::act(&client, action, output).await?,
        Action::Shard {
            action: ShardAction::Ls,
        } => command::status::shards(&client, output).await?,
        Action::Leader {
            action: LeaderAction::Transfer { node, shard, to },
        } => command::leader::transfer(&client, &node, shard, to.as_deref(), output).await?,
        Action::Backup { action } => command::backup::act(&client, action, output).await?,
        Action::Status { watch } => command::status::show(&client, watch, output).await?,
        // These need no cluster and were done before.
        Action::Completions { .. } | Action::Version | Action::Recover { .. } => {}
    }
    Ok(exit::OK)
}
