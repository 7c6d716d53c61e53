//! The calls that carry a whole backup.
//!
//! Invariant: unlike all others they take as long as there is progress; each part is waited for no
//! longer than the request timeout or, where the cluster has to agree, [`RESTORE_LIMIT`].

use std::time::Duration;

use lockstep_proto::cluster::v1::{BackupRequest, RestoreRequest};
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
        let unreachable = |last: &str| RequestError::Unreachable {
            after: RESTORE_LIMIT,
            last: last.to_owned(),
        };
        let candidates = self.placement().candidates(&Key::Any);
        let address = candidates
            .first()
            .ok_or_else(|| unreachable("no node is known"))?;
        let mut service = self.channels().cluster(address);
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
            Err(_) => Err(unreachable("the restore did not end in time")),
        }
    }
}
