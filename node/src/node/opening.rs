//! Opens the storage, and waits where the disk is full.
//!
//! Invariant: a full disk ends no node. One that ended would only be started again, and again, on all machines
//! at once; this one says why it is not ready, and goes on by itself.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{config::Config, http, storage::Storage, transport};

/// How often it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Opens the storage, and has at most so many connections for health checks meanwhile; none if the node is stopped before there is room.
///
/// # Errors
/// If it cannot be opened for another reason, or the port for health checks is taken.
pub(super) async fn open(
    config: &Config,
    http_connections: usize,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Storage>> {
    let opened = try_open(config).await?;
    if opened.is_some() {
        return Ok(opened);
    }
    let listener = transport::listen(config.http_listen, transport::HTTP, http_connections).await?;
    let words = format!(
        "disk full: there is no room to open {}: free some space on its volume or enlarge it; the node then \
         goes on by itself",
        config.data_dir.display()
    );
    tracing::error!("{words}");
    let answering = CancellationToken::new();
    let answers = tokio::spawn(http::serve_waiting(listener, words, answering.clone()));
    let opened = loop {
        tokio::select! {
            () = stop.cancelled() => break Ok(None),
            () = sleep(RETRY) => {}
        }
        match try_open(config).await {
            Ok(None) => {}
            ended => break ended,
        }
    };
    answering.cancel();
    answers.await??;
    opened
}

/// None if there is no room.
async fn try_open(config: &Config) -> anyhow::Result<Option<Storage>> {
    let (dir, budget) = (config.data_dir.clone(), config.log_budget);
    match tokio::task::spawn_blocking(move || Storage::open_with(&dir, budget)).await? {
        Ok(storage) => Ok(Some(storage)),
        Err(error) if error.is_full() => {
            tracing::debug!(%error, "the storage is not open yet");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
