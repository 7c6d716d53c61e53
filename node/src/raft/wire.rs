//! Raft's messages as protobuf, both ways.
//!
//! Invariant: decoding is total: a message that lacks a part is an error that names the part, and
//! no message can make Raft see a value that was not sent.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::raft::v1 as pb;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, TransferLeaderRequest, VoteRequest, VoteResponse,
};

use super::types::{
    BatchBytes, Entry, LeaderId, LogId, Membership, Payload, PeerAddress, TypeConfig, Vote,
};

/// What a message lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message has no valid {0}")]
pub struct Missing(pub &'static str);

/// The result of one AppendEntries exchange.
pub type AppendResult = Result<Option<LogId>, StreamAppendError<TypeConfig>>;

/// A log position.
#[must_use]
pub fn log_id(id: &LogId) -> pb::LogId {
    pb::LogId {
        term: id.leader_id.term,
        node_id: id.leader_id.node_id,
        index: id.index,
    }
}

/// A log position.
#[must_use]
pub fn to_log_id(id: pb::LogId) -> LogId {
    LogId {
        leader_id: LeaderId {
            term: id.term,
            node_id: id.node_id,
        },
        index: id.index,
    }
}

/// A vote.
#[must_use]
pub fn vote(vote: &Vote) -> pb::RaftVote {
    pb::RaftVote {
        term: vote.leader_id.term,
        node_id: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

/// A vote.
///
/// # Errors
/// If there is none.
pub fn to_vote(vote: Option<pb::RaftVote>) -> Result<Vote, Missing> {
    let vote = vote.ok_or(Missing("vote"))?;
    Ok(Vote {
        leader_id: LeaderId {
            term: vote.term,
            node_id: vote.node_id,
        },
        committed: vote.committed,
    })
}

/// A group's members.
#[must_use]
pub fn membership(members: &Membership) -> pb::Membership {
    pb::Membership {
        configs: members
            .get_joint_config()
            .iter()
            .map(|voters| pb::VoterSet {
                node_ids: voters.iter().copied().collect(),
            })
            .collect(),
        members: members
            .nodes()
            .map(|(id, address)| pb::Member {
                node_id: *id,
                peer_address: address.0.clone(),
            })
            .collect(),
    }
}

/// A group's members.
///
/// # Errors
/// If a voter is no member or a voter set is empty.
pub fn to_membership(members: pb::Membership) -> Result<Membership, Missing> {
    let configs = members
        .configs
        .into_iter()
        .map(|voters| voters.node_ids.into_iter().collect::<BTreeSet<_>>())
        .collect::<Vec<_>>();
    let nodes = members
        .members
        .into_iter()
        .map(|member| (member.node_id, PeerAddress(member.peer_address)))
        .collect::<BTreeMap<_, _>>();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|_| Missing("membership"))
}

fn entry(entry: Entry) -> pb::Entry {
    use pb::entry::Payload as Wire;
    let payload = match entry.payload {
        Payload::Blank => Wire::Blank(pb::Blank {}),
        Payload::Normal(batch) => Wire::Batch(batch.0),
        Payload::Membership(members) => Wire::Membership(membership(&members)),
    };
    pb::Entry {
        log_id: Some(log_id(&entry.log_id)),
        payload: Some(payload),
    }
}

fn to_entry(entry: pb::Entry) -> Result<Entry, Missing> {
    use pb::entry::Payload as Wire;
    let log_id = to_log_id(entry.log_id.ok_or(Missing("entry.log_id"))?);
    let payload = match entry.payload.ok_or(Missing("entry.payload"))? {
        Wire::Batch(bytes) => Payload::Normal(BatchBytes(bytes)),
        Wire::Membership(members) => Payload::Membership(to_membership(members)?),
        Wire::Blank(pb::Blank {}) => Payload::Blank,
    };
    Ok(Entry { log_id, payload })
}

/// AppendEntries, heartbeats included.
#[must_use]
pub fn append(
    to: Option<pb::Addressee>,
    request: AppendEntriesRequest<TypeConfig>,
) -> pb::AppendRequest {
    pb::AppendRequest {
        to,
        vote: Some(vote(&request.vote)),
        prev_log_id: request.prev_log_id.as_ref().map(log_id),
        entries: request.entries.into_iter().map(entry).collect(),
        leader_commit: request.leader_commit.as_ref().map(log_id),
    }
}

/// AppendEntries, heartbeats included.
///
/// # Errors
/// If a part is missing.
pub fn to_append(request: pb::AppendRequest) -> Result<AppendEntriesRequest<TypeConfig>, Missing> {
    Ok(AppendEntriesRequest {
        vote: to_vote(request.vote)?,
        prev_log_id: request.prev_log_id.map(to_log_id),
        entries: request
            .entries
            .into_iter()
            .map(to_entry)
            .collect::<Result<_, _>>()?,
        leader_commit: request.leader_commit.map(to_log_id),
    })
}

/// What became of an AppendEntries.
#[must_use]
pub fn append_result(result: &AppendResult) -> pb::AppendResponse {
    use pb::append_response::Result as Wire;
    let result = match result {
        Ok(matched) => Wire::Matched(pb::Matched {
            log_id: matched.as_ref().map(log_id),
        }),
        Err(StreamAppendError::Conflict(at)) => Wire::Conflict(log_id(at)),
        Err(StreamAppendError::HigherVote(higher)) => Wire::HigherVote(vote(higher)),
    };
    pb::AppendResponse {
        result: Some(result),
    }
}

/// The answer of a peer that has no such replica, or one that is not running.
#[must_use]
pub fn unavailable(words: &str) -> pb::AppendResponse {
    pb::AppendResponse {
        result: Some(pb::append_response::Result::Unavailable(words.to_owned())),
    }
}

/// What became of an AppendEntries; `Err` where the follower could not take part.
///
/// # Errors
/// With the follower's words.
pub fn to_append_result(response: pb::AppendResponse) -> Result<AppendResult, String> {
    use pb::append_response::Result as Wire;
    match response.result {
        Some(Wire::Matched(matched)) => Ok(Ok(matched.log_id.map(to_log_id))),
        Some(Wire::Conflict(at)) => Ok(Err(StreamAppendError::Conflict(to_log_id(at)))),
        Some(Wire::HigherVote(higher)) => to_vote(Some(higher))
            .map(|higher| Err(StreamAppendError::HigherVote(higher)))
            .map_err(|missing| missing.to_string()),
        Some(Wire::Unavailable(words)) => Err(words),
        None => Err(Missing("result").to_string()),
    }
}

/// A request for a vote.
#[must_use]
pub fn vote_request(
    to: pb::Addressee,
    request: &VoteRequest<TypeConfig>,
    pre_vote: bool,
) -> pb::VoteRequest {
    pb::VoteRequest {
        to: Some(to),
        vote: Some(vote(&request.vote)),
        last_log_id: request.last_log_id.as_ref().map(log_id),
        leadership_transfer: request.leadership_transfer,
        pre_vote,
    }
}

/// A request for a vote.
///
/// # Errors
/// If a part is missing.
pub fn to_vote_request(request: pb::VoteRequest) -> Result<VoteRequest<TypeConfig>, Missing> {
    let mut decoded = VoteRequest::new(to_vote(request.vote)?, request.last_log_id.map(to_log_id));
    decoded.leadership_transfer = request.leadership_transfer;
    Ok(decoded)
}

/// The answer to a request for a vote.
#[must_use]
pub fn vote_response(response: &VoteResponse<TypeConfig>) -> pb::VoteResponse {
    pb::VoteResponse {
        vote: Some(vote(&response.vote)),
        granted: response.vote_granted,
        last_log_id: response.last_log_id.as_ref().map(log_id),
    }
}

/// The answer to a request for a vote.
///
/// # Errors
/// If a part is missing.
pub fn to_vote_response(response: pb::VoteResponse) -> Result<VoteResponse<TypeConfig>, Missing> {
    Ok(VoteResponse {
        vote: to_vote(response.vote)?,
        vote_granted: response.granted,
        last_log_id: response.last_log_id.map(to_log_id),
    })
}

/// A hand-over of leadership.
#[must_use]
pub fn transfer(
    to: pb::Addressee,
    request: &TransferLeaderRequest<TypeConfig>,
) -> pb::TransferLeaderRequest {
    pb::TransferLeaderRequest {
        to: Some(to),
        from: Some(vote(request.from_leader())),
        last_log_id: request.last_log_id().map(log_id),
        successor: *request.to_node_id(),
    }
}

/// A hand-over of leadership, to this node or another.
///
/// # Errors
/// If a part is missing.
pub fn to_transfer(
    request: pb::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, Missing> {
    Ok(TransferLeaderRequest::new(
        to_vote(request.from)?,
        request.successor,
        request.last_log_id.map(to_log_id),
    ))
}

#[cfg(test)]
mod tests;
