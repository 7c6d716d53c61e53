//! The questions of a walk, as a node asks them.
//!
//! Invariant: one question to each shard concerned, however many parties are looked at.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::{
    Answer, Party, Query, SessionId, ShardId,
    deadlock::{Blocked, Edge, Walk},
};

use crate::scenario::Scenario;

/// A question and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) shard: ShardId,
    pub(super) query: Query,
    pub(super) heard: Option<Heard>,
}

#[derive(Clone, Debug)]
pub(super) enum Heard {
    Answer(Answer),
    Nothing,
}

impl Question {
    fn new((shard, query): (ShardId, Query)) -> Self {
        Self {
            shard,
            query,
            heard: None,
        }
    }

    /// True if the shard said that all edges stand.
    pub(super) const fn is_confirmed(&self) -> bool {
        matches!(self.heard, Some(Heard::Answer(Answer::Stand(true))))
    }
}

/// To the homes of a walk's frontier: where may their sessions wait?
pub(super) fn to_homes(scenario: &Scenario, walk: &Walk) -> Vec<Question> {
    let mut by_home: BTreeMap<ShardId, BTreeSet<SessionId>> = BTreeMap::new();
    for party in walk.frontier() {
        if let Some(plan) = scenario.sessions.get(&party.session) {
            by_home.entry(plan.home).or_default().insert(party.session);
        }
    }
    let questions = by_home.into_iter().map(|(home, sessions)| {
        let sessions = sessions.into_iter().collect();
        (home, Query::Touched { sessions })
    });
    questions.map(Question::new).collect()
}

/// To those shards: for whom do they wait?
pub(super) fn to_shards(walk: &Walk, homes: Vec<Question>) -> Vec<Question> {
    let mut touched: BTreeMap<SessionId, Vec<ShardId>> = BTreeMap::new();
    for home in homes {
        if let Some(Heard::Answer(Answer::Touched(sessions))) = home.heard {
            touched.extend(sessions);
        }
    }
    let mut by_shard: BTreeMap<ShardId, Vec<Party>> = BTreeMap::new();
    for party in walk.frontier() {
        for shard in touched.get(&party.session).into_iter().flatten() {
            by_shard.entry(*shard).or_default().push(party.clone());
        }
    }
    let questions = by_shard
        .into_iter()
        .map(|(shard, parties)| (shard, Query::Waits { parties }));
    questions.map(Question::new).collect()
}

/// To the shards of a circle: is all of it there still?
pub(super) fn to_confirm(circle: &[Edge]) -> Vec<Question> {
    let mut by_shard: BTreeMap<ShardId, Vec<Edge>> = BTreeMap::new();
    for edge in circle {
        let edges = by_shard.entry(edge.wait.shard).or_default();
        edges.push(edge.clone());
    }
    let questions = by_shard
        .into_iter()
        .map(|(shard, edges)| (shard, Query::Stand { edges }));
    questions.map(Question::new).collect()
}

/// What the shards said.
pub(super) fn blocked(questions: Vec<Question>) -> Vec<Blocked> {
    let mut blocked = Vec::new();
    for question in questions {
        if let Some(Heard::Answer(Answer::Waits(waits))) = question.heard {
            blocked.extend(waits);
        }
    }
    blocked
}
