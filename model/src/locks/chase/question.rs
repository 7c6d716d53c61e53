//! What shards are asked about waits, and what their answers come to.
//!
//! Invariant: one question to each shard concerned, however many parties are looked at, unless they
//! are more than one question takes.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    id::{Party, SessionId, ShardId},
    locks::{
        deadlock::{Blocked, Edge, MAX_ASKED},
        query::{LockAnswer, LockQuery},
    },
    query::{Answer, Query},
    session::{SessionAnswer, SessionQuery},
};

/// A question, and whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whom: the leader of this shard.
    pub shard: ShardId,
    /// What.
    pub query: Query,
}

/// To the homes of parties: where may their sessions wait?
pub(super) fn to_homes(
    parties: &BTreeSet<Party>,
    home_of: impl Fn(SessionId) -> ShardId,
) -> Vec<Question> {
    let mut by_home: BTreeMap<ShardId, BTreeSet<SessionId>> = BTreeMap::new();
    for party in parties {
        let home = home_of(party.session);
        by_home.entry(home).or_default().insert(party.session);
    }
    let by_home = by_home.into_iter().map(|(home, sessions)| {
        let sessions: Vec<SessionId> = sessions.into_iter().collect();
        (home, sessions)
    });
    in_chunks(by_home, |sessions| {
        Query::Session(SessionQuery::Touched { sessions })
    })
}

/// To those shards: for whom do they wait? A party whose home did not answer is left out.
pub(super) fn to_shards(
    parties: &BTreeSet<Party>,
    answers: impl Iterator<Item = Answer>,
) -> Vec<Question> {
    let mut touched: BTreeMap<SessionId, Vec<ShardId>> = BTreeMap::new();
    for answer in answers {
        if let Answer::Session(SessionAnswer::Touched(sessions)) = answer {
            touched.extend(sessions);
        }
    }
    let mut by_shard: BTreeMap<ShardId, Vec<Party>> = BTreeMap::new();
    for party in parties {
        for shard in touched.get(&party.session).into_iter().flatten() {
            by_shard.entry(*shard).or_default().push(party.clone());
        }
    }
    in_chunks(by_shard, |parties| {
        Query::Lock(LockQuery::Waits { parties })
    })
}

/// What the shards said of that.
pub(super) fn blocked(answers: impl Iterator<Item = Answer>) -> Vec<Blocked> {
    let mut blocked = Vec::new();
    for answer in answers {
        if let Answer::Lock(LockAnswer::Waits(waits)) = answer {
            blocked.extend(waits);
        }
    }
    blocked
}

/// To the shards of a circle: is all of it there still? It is short enough for one question each.
pub(super) fn to_confirm(cycle: &[Edge]) -> Vec<Question> {
    let mut by_shard: BTreeMap<ShardId, Vec<Edge>> = BTreeMap::new();
    for edge in cycle {
        let edges = by_shard.entry(edge.wait.shard).or_default();
        edges.push(edge.clone());
    }
    let questions = by_shard.into_iter().map(|(shard, edges)| Question {
        shard,
        query: Query::Lock(LockQuery::Stand { edges }),
    });
    questions.collect()
}

/// True if each question was answered, and each shard said that all edges stand.
pub(super) fn is_confirmed(
    questions: &[Question],
    answers: impl IntoIterator<Item = Option<Answer>>,
) -> bool {
    let mut answers = answers.into_iter();
    questions
        .iter()
        .all(|_| answers.next().flatten() == Some(Answer::Lock(LockAnswer::Stand(true))))
}

fn in_chunks<T: Clone>(
    by_shard: impl IntoIterator<Item = (ShardId, Vec<T>)>,
    query: impl Fn(Vec<T>) -> Query,
) -> Vec<Question> {
    let mut questions = Vec::new();
    for (shard, all) in by_shard {
        questions.extend(all.chunks(MAX_ASKED).map(|some| Question {
            shard,
            query: query(some.to_vec()),
        }));
    }
    questions
}
