//! The calls that carry a whole backup.
//!
//! Invariant: unlike all others they take as long as there is progress: a backup, as long as parts
//! come; a restore, [`RESTORE_LIMIT`] at most.

use std::time::Duration;

use lockstep_proto::cluster::v1::{BackupRequest, GetStatusRequest, RestoreRequest};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use super::Client;
use crate::{
    backup::{Backup, BackupPart, Restored},
    error::{RequestError, ServerError},
    placement::Key,
};

/// How long a restore may take in all: for some gigabytes over a slow line.
const RESTORE_LIMIT: Duration = Duration::from_secs(3_600);

impl Client {
    /// The state of all data shards, each as of one moment.
    ///
    /// # Errors
    /// If no node begins to give it out within the request timeout.
    pub async fn backup(&self) -> Result<Backup, RequestError> {
        let response = self
            .call(&Key::Any, |address| {
                let mut service = self.channels().cluster(&address);
                async move { service.backup(BackupRequest {}).await }
            })
            .await?;
        Ok(Backup::new(response.into_inner()))
    }

    /// Makes a new cluster go on from a backup. Repeating it is harmless. Nothing is changed unless
    /// all parts come, up to the end.
    ///
    /// # Errors
    /// If the backup is not whole, the cluster is in use, or does not answer.
    pub async fn restore(
        &self,
        parts: mpsc::Receiver<BackupPart>,
    ) -> Result<Restored, RequestError> {
        // The parts can be sent once, so only to a node that has just answered.
        let address = self
            .call(&Key::Any, |address| {
                let mut service = self.channels().cluster(&address);
                async move {
                    service
                        .get_status(GetStatusRequest {})
                        .await
                        .map(|_| address)
                }
            })
            .await?;
        let mut service = self.channels().cluster(&address);
        let parts = ReceiverStream::new(parts).map(|part| RestoreRequest { part: Some(part.0) });
        match timeout(RESTORE_LIMIT, service.restore(parts)).await {
            Ok(Ok(response)) => {
                let response = response.into_inner();
                Ok(Restored {
                    shards: response.shards,
                    tokens_above: response.tokens_above,
                })
            }
            Ok(Err(status)) => Err(ServerError::from_status(&status).into()),
            Err(_) => Err(RequestError::Unreachable {
                after: RESTORE_LIMIT,
                last: format!("{address}: the restore did not end in time"),
            }),
        }
    }
}
