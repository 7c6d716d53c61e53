//! Judging who gave way in a deadlock.

use std::cmp::Reverse;

use lockstep_model::{
    Answer, Command, Effect, LockAnswer, LockCommand, LockQuery, LockRefusal, Outcome, Query,
    Refusal, Reply, Serial, SessionId,
    locks::deadlock::{Deadlock, Edge, Waits},
};

use super::{CircleId, Mark, Seen, WaitId, Witness, Wrong, circle_of, note};
use crate::{
    replica::Replica,
    scenario::Scenario,
    truth::{is_held, is_ring},
};

impl Witness {
    pub(super) fn judge_deadlocks(&mut self, scenario: &Scenario, seen: &Seen<'_>) {
        match (seen.command, seen.outcome) {
            (Command::Lock(LockCommand::AbortWait { cycle, .. }), Outcome::Done(Reply::Done)) => {
                let circle = circle_of(cycle);
                self.judge_choice(scenario, seen, cycle);
                let mut victims = victims(seen).map(|victim| wait_before(seen, victim));
                let right = |wait: Option<WaitId>| wait.is_some_and(|wait| circle.contains(&wait));
                if !self.closed.contains(&circle) || !victims.all(right) {
                    self.wrong(Wrong::FalseVictim);
                }
                self.break_circle(circle);
                self.mark(scenario, Mark::CircleBroken);
            }
            (Command::Lock(LockCommand::AbortWait { .. }), _) => {
                self.mark(scenario, Mark::AbortTooLate);
            }
            (_, _) => {
                for deadlock in new_deadlocks(seen) {
                    if !was_closed(seen, &deadlock) {
                        self.wrong(Wrong::FalseVictim);
                    }
                    self.judge_choice(scenario, seen, &deadlock.cycle);
                    self.break_circle(circle_of(&deadlock.cycle));
                    self.mark(scenario, Mark::LocalCircleBroken);
                }
            }
        }
    }

    /// Sessions are opened in the order of their ids.
    fn judge_choice(&mut self, scenario: &Scenario, seen: &Seen<'_>, cycle: &[Edge]) {
        let sessions = cycle.iter().map(|edge| edge.wait.party.session);
        let rank = |session: &SessionId| {
            let priority = scenario.sessions.get(session).map(|plan| plan.priority);
            (priority, Reverse(*session))
        };
        let due = sessions.min_by_key(rank);
        if !victims(seen).any(|(session, _)| Some(session) == due) {
            self.wrong(Wrong::OtherVictim);
        }
    }

    fn break_circle(&mut self, circle: CircleId) {
        if !note(&mut self.broken, circle) {
            self.wrong(Wrong::SecondVictim);
        }
    }
}

/// The requests that were refused for a deadlock.
fn victims<'a>(seen: &Seen<'a>) -> impl Iterator<Item = (SessionId, Serial)> + 'a {
    seen.effects.iter().filter_map(|effect| match effect {
        Effect::Complete {
            session,
            serial,
            reply: Reply::Refused(Refusal::Lock(LockRefusal::Deadlock { .. })),
        } => Some((*session, *serial)),
        Effect::Complete { .. }
        | Effect::SessionAlive { .. }
        | Effect::SessionRevoked { .. }
        | Effect::SessionEnding { .. }
        | Effect::NextDeadline(_) => None,
    })
}

/// The wait of a request before the command.
fn wait_before(seen: &Seen<'_>, (session, serial): (SessionId, Serial)) -> Option<WaitId> {
    let waits = seen.before.waits(session);
    let wait = waits.into_iter().find(|wait| wait.wait.serial == serial)?;
    Some((seen.shard, wait.wait.epoch))
}

/// What the shard broke by itself with the command.
fn new_deadlocks(seen: &Seen<'_>) -> Vec<Deadlock> {
    let count = |replica: &Replica| replica.shard().map_or(0, |shard| shard.counts().deadlocks);
    let new = count(seen.after).saturating_sub(count(seen.before));
    if new == 0 {
        return Vec::new();
    }
    let Answer::Lock(LockAnswer::Deadlocks { mut last, .. }) =
        seen.after.query(&Query::Lock(LockQuery::Deadlocks))
    else {
        return Vec::new();
    };
    let new = usize::try_from(new).unwrap_or(usize::MAX);
    last.split_off(last.len().saturating_sub(new))
}

/// True if a circle that a shard broke was closed: each of its waits was there before, or began with
/// the command or went on to another lock by it; each of its holds was there before or afterwards, or
/// was given back by the victim.
fn was_closed(seen: &Seen<'_>, deadlock: &Deadlock) -> bool {
    let waited = |wait: &Waits| {
        let before = seen.before.waits(wait.party.session);
        let mut before = before.iter().map(|blocked| &blocked.wait);
        begins(seen.command, wait)
            || before
                .any(|old| old == wait || (old.serial == wait.serial && old.epoch < wait.epoch))
    };
    let held = |edge: &Edge| {
        edge.holder.party == deadlock.victim
            || [seen.before, seen.after].into_iter().any(|replica| {
                let lock = replica.lock(&edge.wait.name);
                lock.is_some_and(|lock| is_held(lock, edge))
            })
    };
    let mut cycle = deadlock.cycle.iter();
    is_ring(&deadlock.cycle)
        && deadlock
            .cycle
            .iter()
            .all(|edge| waited(&edge.wait) && held(edge))
        && cycle.any(|edge| edge.wait.party == deadlock.victim)
}

/// True if a command is the request that waits.
fn begins(command: &Command, wait: &Waits) -> bool {
    matches!(
        command,
        Command::Lock(LockCommand::Acquire { request, .. }) | Command::Lock(LockCommand::Upgrade { request, .. })
            if request.session == wait.party.session && request.serial == wait.serial
    )
}
