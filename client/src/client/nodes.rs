//! The calls that change who is in the cluster and who leads.
//!
//! Invariant: each may be repeated, so each is until it is answered: what is as asked for is done.

use lockstep_model::id::{NodeId, ShardId};
use lockstep_proto::cluster::v1::{
    ActivateNodeRequest, DrainNodeRequest, RemoveNodeRequest, ReplaceNodeRequest,
    TransferLeadersRequest,
};

use super::Client;
use crate::{error::RequestError, placement::Key, status::Transferred};

/// One of the calls that name a node and a revision, and answer with a revision.
macro_rules! change {
    ($(#[$doc:meta])* $name:ident, $request:ident) => {
        $(#[$doc])*
        ///
        /// `expected`: the tables' revision that this is decided by
        /// ([`crate::ClusterStatus::revision`]); it is refused if they have changed since.
        /// The revision afterwards.
        ///
        /// # Errors
        /// If the cluster refuses or does not answer.
        pub async fn $name(
            &self,
            node: NodeId,
            expected: Option<u64>,
        ) -> Result<u64, RequestError> {
            let request = $request {
                node_id: node.0,
                expected_revision: expected,
            };
            let response = self
                .call(&Key::Any, |address| {
                    let mut service = self.channels().cluster(&address);
                    async move { service.$name(request).await }
                })
                .await?;
            Ok(response.into_inner().revision)
        }
    };
}

impl Client {
    change!(
        /// Has all replicas and leads moved away from a node, which goes on serving meanwhile.
        drain_node,
        DrainNodeRequest
    );
    change!(
        /// Takes a node that was drained, or lost and replaced, out of the registry.
        remove_node,
        RemoveNodeRequest
    );
    change!(
        /// Declares a node lost, so that its replicas are replaced.
        replace_node,
        ReplaceNodeRequest
    );
    change!(
        /// Makes a draining or lost node active again.
        activate_node,
        ActivateNodeRequest
    );

    /// Has a node hand over its leads: of one shard or all, to one node or whoever is furthest.
    ///
    /// # Errors
    /// If a node is not known, or the cluster does not answer.
    pub async fn transfer_leaders(
        &self,
        node: NodeId,
        shard: Option<ShardId>,
        to: Option<NodeId>,
    ) -> Result<Transferred, RequestError> {
        let request = TransferLeadersRequest {
            node_id: node.0,
            shard: shard.map(|shard| shard.0),
            to_node_id: to.map(|to| to.0),
        };
        let response = self
            .call(&Key::Any, |address| {
                let mut service = self.channels().cluster(&address);
                async move { service.transfer_leaders(request).await }
            })
            .await?
            .into_inner();
        Ok(Transferred {
            transferred: response.transferred.into_iter().map(ShardId).collect(),
            kept: response.kept.into_iter().map(ShardId).collect(),
        })
    }
}
