//! Changes of a shard's members, carried out by its leader.
//!
//! Invariant: a change is begun only while the members are those that its caller decided by
//! (a compare-and-set on the log entry that set them), so late and repeated requests are harmless.

use std::{collections::BTreeSet, time::Duration};

use lockstep_model::NodeId;
use lockstep_proto::raft::v1::{self as pb, change_replicas_request::Change};
use openraft::{ChangeMembers, Precondition, async_runtime::WatchReceiver as _};
use tokio::time::timeout;

use super::Replica;
use crate::raft::types::{PeerAddress, TypeConfig};

/// How long a change may take to be committed, both halves of a joint one together. It may still
/// be completed afterwards: the placement driver looks at what has become of it.
const COMMIT: Duration = Duration::from_secs(10);

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Somebody else leads.
    #[error("this replica does not lead: ask the leader")]
    NotLeader,
    /// It is not as the caller saw it.
    #[error("the members have changed since (at index {actual}, not {expected}): look again")]
    Changed {
        /// What the caller saw.
        expected: u64,
        /// What is.
        actual: u64,
    },
    /// The request says nothing that this version knows.
    #[error("the change is of an unknown kind")]
    Unknown,
    /// It took too long.
    #[error("the change was not committed in time; look again")]
    Slow,
    /// Raft says no.
    #[error("{0}")]
    Refused(String),
}

/// Makes a change.
///
/// # Errors
/// If it was not made, or it is not known whether it will be.
pub async fn change(
    replica: &Replica,
    members_index: u64,
    change: Option<Change>,
) -> Result<(), ChangeError> {
    if !replica.leads() {
        return Err(ChangeError::NotLeader);
    }
    let (decided_by, voters) = {
        let metrics = replica.raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = &metrics.membership_config;
        (*members.log_id(), newest_voters(members.membership()))
    };
    let actual = decided_by.map_or(0, |id| id.index);
    if actual != members_index {
        return Err(ChangeError::Changed {
            expected: members_index,
            actual,
        });
    }
    let one = |node: u64| BTreeSet::from([node]);
    let members: ChangeMembers<u64, PeerAddress> = match change {
        Some(Change::AddLearner(pb::Member {
            node_id,
            peer_address,
        })) => ChangeMembers::AddNodes([(node_id, PeerAddress(peer_address))].into()),
        Some(Change::Promote(node)) => ChangeMembers::AddVoterIds(one(node)),
        Some(Change::Swap(pb::Swap { add, remove })) => {
            let kept = voters.into_iter().filter(|node| *node != remove);
            ChangeMembers::ReplaceAllVoters(kept.chain([add]).collect())
        }
        Some(Change::Remove(node)) if voters.contains(&node) => {
            ChangeMembers::RemoveVoters(one(node))
        }
        Some(Change::Remove(node)) => ChangeMembers::RemoveNodes(one(node)),
        Some(Change::FinishJoint(pb::FinishJoint {})) => ChangeMembers::ReplaceAllVoters(voters),
        Some(Change::TransferLeader(node)) => return transfer(replica, node).await,
        None => return Err(ChangeError::Unknown),
    };
    let unchanged = Precondition::<TypeConfig>::LastMembershipLogId {
        last_membership_log_id: decided_by,
    };
    let changing = replica
        .raft
        .change_membership_if(members, false, [unchanged]);
    match timeout(COMMIT, changing).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(ChangeError::Refused(error.to_string())),
        Err(_) => Err(ChangeError::Slow),
    }
}

/// The voters; during a joint change those of the newer configuration.
#[must_use]
pub fn newest_voters(members: &crate::raft::types::Membership) -> BTreeSet<u64> {
    members
        .get_joint_config()
        .last()
        .cloned()
        .unwrap_or_default()
}

async fn transfer(replica: &Replica, node: u64) -> Result<(), ChangeError> {
    let began = replica.hand_over(NodeId(node)).await;
    began.map_err(|fatal| ChangeError::Refused(fatal.to_string()))
}
