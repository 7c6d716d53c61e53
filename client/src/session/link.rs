//! The task of one stream: opens it and hands on what comes.
//!
//! Invariant: it ends when its stream does, or as soon as the session has no use for it.

use std::sync::Arc;

use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{links::Opening, shared::Shared};
use crate::error::ServerError;

/// Runs one stream until its end, and tells the core.
pub(super) async fn run(shared: Arc<Shared>, opening: Opening) {
    let Opening {
        id,
        address,
        outbound,
        mut unwanted,
    } = opening;
    let open = async {
        let mut client = shared.client().channels().locks(&address);
        let mut inbound = client
            .session(ReceiverStream::new(outbound))
            .await?
            .into_inner();
        while let Some(message) = inbound.message().await? {
            shared.with(|core, now| core.receive(id, message, now));
        }
        Ok::<(), Status>(())
    };
    let error = tokio::select! {
        biased;
        _ = &mut unwanted => return,
        ended = open => ended.err().map(|status| ServerError::from_status(&status)),
    };
    tracing::debug!(%address, link = id, error = error.as_ref().map(tracing::field::display), "stream ended");
    shared.with(|core, now| core.link_ended(id, error, now));
}
