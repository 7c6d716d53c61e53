//! The calls that change who is in the cluster, with what is wrong, unknown, or must not be.

use lockstep_drill::cluster::Cluster;
use lockstep_proto::cluster::v1::{
    ActivateNodeRequest, DrainNodeRequest, RemoveNodeRequest, ReplaceNodeRequest,
    TransferLeadersRequest,
};
use tonic::Code;

use super::{Expected, Findings, INVALID};

/// The cluster has one node, so nothing may be taken from it.
pub(crate) async fn check(cluster: &Cluster, findings: &mut Findings) -> anyhow::Result<()> {
    let mut client = cluster.cluster_service(0)?;
    let own = cluster.id_of(0).await?;
    let unknown = Expected(Code::NotFound, "NODE_NOT_FOUND");
    let stale = Expected(Code::FailedPrecondition, "OTHER_REVISION");
    let failed = |reason| Expected(Code::FailedPrecondition, reason);
    for (node_id, expected_revision, drain, remove, replace) in [
        (0, None, INVALID, INVALID, INVALID),
        (99, None, unknown, unknown, unknown),
        (own, Some(7), stale, stale, stale),
        (
            own,
            None,
            failed("TOO_FEW_NODES"),
            failed("NODE_ACTIVE"),
            failed("NO_MAJORITY_WITHOUT"),
        ),
    ] {
        let what = |call| format!("{call} of node {node_id} at {expected_revision:?}");
        let request = DrainNodeRequest {
            node_id,
            expected_revision,
        };
        findings.check(&what("DrainNode"), client.drain_node(request).await, drain);
        let request = RemoveNodeRequest {
            node_id,
            expected_revision,
        };
        findings.check(
            &what("RemoveNode"),
            client.remove_node(request).await,
            remove,
        );
        let request = ReplaceNodeRequest {
            node_id,
            expected_revision,
        };
        findings.check(
            &what("ReplaceNode"),
            client.replace_node(request).await,
            replace,
        );
    }
    for (node_id, expected) in [(0, INVALID), (99, unknown)] {
        let request = ActivateNodeRequest {
            node_id,
            expected_revision: None,
        };
        let what = format!("ActivateNode of node {node_id}");
        findings.check(&what, client.activate_node(request).await, expected);
    }
    for (node_id, to_node_id, expected) in [
        (0, None, INVALID),
        (99, None, unknown),
        (own, Some(0), INVALID),
        (own, Some(99), unknown),
    ] {
        let request = TransferLeadersRequest {
            node_id,
            shard: None,
            to_node_id,
        };
        let what = format!("TransferLeaders with {request:?}");
        findings.check(&what, client.transfer_leaders(request).await, expected);
    }
    Ok(())
}
