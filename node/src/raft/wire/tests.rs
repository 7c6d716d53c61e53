//! Every message comes back as it was sent, and one that lacks a part is refused by name.

use bytes::Bytes;
use lockstep_proto::raft::v1 as pb;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, TransferLeaderRequest};

use super::{
    BatchBytes, Entry, LeaderId, LogId, Membership, Missing, Payload, PeerAddress, Vote, append,
    append_result, to_append, to_append_result, to_transfer, transfer, unavailable,
};

fn at(index: u64) -> LogId {
    LogId {
        leader_id: LeaderId {
            term: 3,
            node_id: 2,
        },
        index,
    }
}

fn request() -> AppendEntriesRequest<super::TypeConfig> {
    let members = Membership::new(
        vec![[1, 2].into(), [2, 3].into()],
        [1, 2, 3, 4]
            .map(|id| (id, PeerAddress(format!("h{id}:1"))))
            .into_iter()
            .collect::<std::collections::BTreeMap<_, _>>(),
    )
    .unwrap();
    AppendEntriesRequest {
        vote: Vote::new_committed(3, 2),
        prev_log_id: Some(at(6)),
        entries: vec![
            Entry {
                log_id: at(7),
                payload: Payload::Blank,
            },
            Entry {
                log_id: at(8),
                payload: Payload::Normal(BatchBytes(Bytes::from_static(b"x"))),
            },
            Entry {
                log_id: at(9),
                payload: Payload::Membership(members),
            },
        ],
        leader_commit: Some(at(5)),
    }
}

#[test]
fn append_round_trips() {
    let sent = request();
    let got = to_append(append(None, sent.clone())).unwrap();
    assert_eq!(got.vote, sent.vote);
    assert_eq!(got.prev_log_id, sent.prev_log_id);
    assert_eq!(got.entries, sent.entries);
    assert_eq!(got.leader_commit, sent.leader_commit);
}

#[test]
fn results_round_trip() {
    for result in [
        Ok(None),
        Ok(Some(at(4))),
        Err(StreamAppendError::Conflict(at(4))),
        Err(StreamAppendError::HigherVote(Vote::new(9, 1))),
    ] {
        assert_eq!(to_append_result(append_result(&result)), Ok(result));
    }
    assert_eq!(
        to_append_result(unavailable("gone")),
        Err("gone".to_owned())
    );
}

#[test]
fn what_is_missing_is_named() {
    let whole = append(None, request());
    let no_vote = pb::AppendRequest {
        vote: None,
        ..whole.clone()
    };
    assert_eq!(to_append(no_vote).map(|_| ()), Err(Missing("vote")));
    let mut no_id = whole.clone();
    no_id.entries[1].log_id = None;
    assert_eq!(to_append(no_id).map(|_| ()), Err(Missing("entry.log_id")));
    let mut no_payload = whole.clone();
    no_payload.entries[0].payload = None;
    assert_eq!(
        to_append(no_payload).map(|_| ()),
        Err(Missing("entry.payload"))
    );
    let mut stranger = whole;
    if let Some(pb::entry::Payload::Membership(members)) = &mut stranger.entries[2].payload {
        members.members.remove(0);
    }
    assert_eq!(to_append(stranger).map(|_| ()), Err(Missing("membership")));
}

/// All members are told of a hand-over; only the successor may stand for election.
#[test]
fn a_hand_over_names_the_successor() {
    let request = TransferLeaderRequest::new(Vote::new_committed(3, 1), 2, None);
    for addressee in [2, 3] {
        let to = pb::Addressee {
            node_id: addressee,
            ..pb::Addressee::default()
        };
        let sent = transfer(to, &request);
        let heard = to_transfer(sent).map(|heard| *heard.to_node_id());
        assert_eq!(heard, Ok(2));
    }
}
