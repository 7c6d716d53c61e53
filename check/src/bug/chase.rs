//! Mistakes in the search for deadlocks.
//!
//! Invariant: they are planted around the model's [`Chase`](lockstep_model::locks::chase::Chase), in what it
//! is told and in what is sent for it.

use lockstep_model::{
    Answer, Command, LockAnswer, LockCommand, LockQuery, Query, ShardId,
    locks::{
        chase::{Abort, Confirm},
        deadlock::Edge,
    },
};

use super::Bug;
use crate::{message::Message, replica::Replica, truth::has_wait};

/// What a shard says to a question.
pub fn answer(replica: &Replica, query: &Query, bug: Option<Bug>) -> Answer {
    if let Query::Lock(LockQuery::Stand { edges }) = query
        && bug == Some(Bug::ConfirmsWaitsOnly)
    {
        let stands = |edge: &Edge| has_wait(replica, &edge.wait);
        return Answer::Lock(LockAnswer::Stand(edges.iter().all(stands)));
    }
    replica.query(query)
}

/// What is taken for the answers of the second pass, if no shard is asked: that all edges stand.
pub fn believed(confirm: &Confirm, bug: Option<Bug>) -> Option<Vec<Answer>> {
    let skips = bug == Some(Bug::SkipsSecondPass);
    skips.then(|| vec![Answer::Lock(LockAnswer::Stand(true)); confirm.questions().len()])
}

/// What a node sends for an abort.
pub fn message(abort: &Abort, leads: impl Fn(ShardId) -> bool, bug: Option<Bug>) -> Message {
    let mut waits = abort.cycle().iter().map(|edge| &edge.wait);
    match waits.find(|wait| bug == Some(Bug::OwnVictim) && leads(wait.shard)) {
        Some(own) => {
            let command = Command::Lock(LockCommand::AbortWait {
                session: own.party.session,
                serial: own.serial,
                epoch: own.epoch,
                cycle: abort.cycle().to_vec(),
            });
            Message::new(own.shard, command)
        }
        None => Message::new(abort.victim().shard, abort.command()),
    }
}
