//! A whole cluster at one moment, and how it goes on.
//!
//! Around the shards it does what nodes do: it makes a session known where it is used (as the
//! router), has ended sessions released everywhere (as the reaper), and hands answers on.
//!
//! Invariant: a shard changes by commands that were sent, and in no other way.

mod begin;
mod events;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lockstep_model::{
    Applied, Command, Effect, LockCommand, Millis, NodeId, Outcome, Refusal, Reply, Serial,
    SessionCommand, SessionId, SessionRefusal, SessionReply, ShardId, ShardTime, Timestamp,
    kernel::TOMBSTONE_LIFE, request::RequestId, session::Touch,
};

use crate::{
    bug::Bug,
    chaser::Chaser,
    client::Client,
    message::Message,
    replica::Replica,
    scenario::{BEGIN, Plan, Scenario, WALL},
    witness::{Seen, Witness, Wrong},
};

/// By how much a wall clock is set wrong.
const HOUR: Millis = Millis(3_600_000);
/// How often a session's touch of a shard is recorded: once for the first attach, and once for one that has
/// to be asked for again.
const TOUCHES: usize = 2;

/// A shard, its leader, and who led it before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Site {
    /// Its state, as all who were elected last know it.
    pub replica: Arc<Replica>,
    /// What the leader knew that was deposed last.
    pub deposed: Option<Arc<Replica>>,
    /// Who leads.
    pub leader: NodeId,
    /// True while the leader's wall clock is an hour ahead.
    pub ahead: bool,
    /// How many of the scenario's instants have come by the shard's own time.
    pub passed: usize,
}

/// A whole cluster at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cluster {
    /// The data shards.
    pub sites: BTreeMap<ShardId, Site>,
    /// The clients.
    pub clients: BTreeMap<SessionId, Arc<Client>>,
    /// All that was ever sent to a shard.
    pub sent: Arc<BTreeSet<Message>>,
    /// The nodes' search for deadlocks.
    pub chasers: BTreeMap<NodeId, Chaser>,
    /// How many more times leaders change.
    pub elections: u8,
    /// How many more times a leader's wall clock is set.
    pub clock_steps: u8,
    /// What was seen so far.
    pub witness: Arc<Witness>,
}

impl Cluster {
    /// A shard's time, as its leader counts it: no shard's has to do with another's.
    #[must_use]
    pub fn time(&self, scenario: &Scenario, shard: ShardId) -> ShardTime {
        let passed = self.sites.get(&shard).map_or(0, |site| site.passed);
        let passed = passed.checked_sub(1);
        let passed = passed.and_then(|last| scenario.instants.get(last));
        BEGIN.plus(*passed.unwrap_or(&Millis(0)))
    }

    /// What the wall clock of a shard's leader shows. It stands still, so that states are few, but for
    /// being set.
    fn wall(&self, shard: ShardId) -> Timestamp {
        let ahead = self.sites.get(&shard).is_some_and(|site| site.ahead);
        if ahead { WALL.plus(HOUR) } else { WALL }
    }

    /// Sends a command. From now on it may come at any time.
    pub fn send(&mut self, message: Message) {
        if !self.sent.contains(&message) {
            Arc::make_mut(&mut self.sent).insert(message);
        }
    }

    /// False for an opening that is older than a home remembers an end: openings alone have no limit
    /// to their age in the model, and one that comes so late opens the session once more, for its TTL.
    /// And for a touch that was recorded [`TOUCHES`] times, since each has a number of its own.
    #[must_use]
    pub fn may_arrive(&self, scenario: &Scenario, message: &Message) -> bool {
        if let Command::Session(SessionCommand::Open { .. }) = *message.command {
            return self.time(scenario, message.to) < BEGIN.plus(TOMBSTONE_LIFE);
        }
        let Command::Session(SessionCommand::TouchShard { session, shard }) = *message.command
        else {
            return true;
        };
        let is_attach = |sent: &&Message| {
            sent.to == shard
                && matches!(*sent.command, Command::Session(SessionCommand::Attach { session: of, .. }) if of == session)
        };
        self.sent.iter().filter(is_attach).count() < TOUCHES
    }

    /// A shard applies a command; answers and what follows from them go out.
    pub fn deliver(&mut self, scenario: &Scenario, message: &Message) {
        let Message { to, command, .. } = message;
        let (at, wall) = (self.time(scenario, *to), self.wall(*to));
        let Some(site) = self.sites.get_mut(to) else {
            return;
        };
        let step = scenario
            .memo
            .apply(&site.replica, message, (at, wall), scenario.bug);
        let before = std::mem::replace(&mut site.replica, Arc::clone(&step.after));
        let Applied {
            outcomes, effects, ..
        } = &step.applied;
        let Some(outcome) = outcomes.first() else {
            return;
        };
        let seen = Seen {
            shard: *to,
            before: &before,
            after: &step.after,
            command,
            outcome,
            effects,
        };
        Arc::make_mut(&mut self.witness).see(scenario, &seen);
        for effect in effects {
            match effect {
                Effect::Complete {
                    session,
                    serial,
                    reply,
                } => self.answer(scenario, *session, *serial, reply),
                Effect::SessionEnding { session, .. } => self.end(*session),
                Effect::SessionAlive { .. }
                | Effect::SessionRevoked { .. }
                | Effect::NextDeadline(_) => {}
            }
        }
        match outcome {
            Outcome::Done(reply) => self.go_on(scenario, *to, command, reply),
            Outcome::Pending => {}
        }
        self.reap(scenario, *to, &step.after);
    }

    /// What a command's answer leads to.
    fn go_on(&mut self, scenario: &Scenario, to: ShardId, command: &Command, reply: &Reply) {
        match command {
            Command::Lock(LockCommand::Acquire { request, .. })
            | Command::Lock(LockCommand::Release { request, .. })
            | Command::Lock(LockCommand::Upgrade { request, .. })
            | Command::Lock(LockCommand::Downgrade { request, .. }) => {
                let RequestId {
                    session, serial, ..
                } = *request;
                if let Reply::Refused(Refusal::Session(SessionRefusal::NotAttached { .. })) = reply
                {
                    self.touch(scenario, session, to);
                } else {
                    self.answer(scenario, session, serial, reply);
                }
            }
            Command::Session(SessionCommand::Open { session, .. }) => {
                if matches!(reply, Reply::Session(SessionReply::Opened { .. })) {
                    self.opened(scenario, *session);
                }
            }
            Command::Session(SessionCommand::TouchShard { session, shard }) => {
                if let Reply::Session(SessionReply::Touched {
                    touch,
                    priority,
                    opened,
                }) = *reply
                {
                    let attach = Command::Session(SessionCommand::Attach {
                        session: *session,
                        priority,
                        opened,
                        touch,
                    });
                    self.send(Message::new(*shard, attach));
                }
            }
            Command::Session(SessionCommand::Detach { session, .. }) => {
                if *reply == Reply::Done {
                    self.released(scenario, *session, to);
                }
            }
            Command::Lock(LockCommand::AbortWait { cycle, .. }) => {
                self.circle_handled(scenario, cycle);
            }
            Command::Session(SessionCommand::Attach { session, .. }) => {
                if let Reply::Refused(Refusal::Session(SessionRefusal::AttachTooOld { .. })) = reply
                {
                    self.touch(scenario, *session, to);
                }
            }
            // The network repeats what has to be repeated, and nobody waits for their answers.
            Command::Session(
                SessionCommand::ShardReleased { .. }
                | SessionCommand::End { .. }
                | SessionCommand::Resume { .. }
                | SessionCommand::Checkpoint { .. }
                | SessionCommand::Revive { .. }
                | SessionCommand::Revoke { .. },
            )
            | Command::Lock(
                LockCommand::CancelWait { .. }
                | LockCommand::Proclaim { .. }
                | LockCommand::UndoAcquire { .. }
                | LockCommand::RaiseTokens { .. },
            )
            | Command::Expire
            | Command::Meta(_) => {}
        }
    }

    fn opened(&mut self, scenario: &Scenario, session: SessionId) {
        if let Some(client) = self.clients.get_mut(&session)
            && let Some(plan) = scenario.sessions.get(&session)
        {
            Arc::make_mut(client).opened();
            self.ask_eagerly(scenario, session, plan);
        }
    }

    /// Tells the home that a shard has released a session.
    fn released(&mut self, scenario: &Scenario, session: SessionId, shard: ShardId) {
        if let Some(plan) = scenario.sessions.get(&session) {
            let released = SessionCommand::ShardReleased { session, shard };
            self.send(Message::new(plan.home, Command::Session(released)));
        }
    }

    /// As the router: has the home record that a session is about to use a shard.
    fn touch(&mut self, scenario: &Scenario, session: SessionId, shard: ShardId) {
        if let Some(plan) = scenario.sessions.get(&session)
            && plan.home != shard
        {
            self.send(Message::new(
                plan.home,
                Command::Session(SessionCommand::TouchShard { session, shard }),
            ));
        }
    }

    /// As the reaper: has ended sessions released wherever their home has not heard that they are.
    fn reap(&mut self, scenario: &Scenario, home: ShardId, replica: &Replica) {
        let ending = replica.shard().map(|shard| shard.ending());
        for ending in ending.into_iter().flatten() {
            for shard in ending.shards {
                let (session, reason) = (ending.session, ending.reason);
                let mut touch: Touch = ending.touch;
                if scenario.bug == Some(Bug::DetachesOlder) {
                    touch.number.0 -= 1;
                }
                let detach = Command::Session(SessionCommand::Detach {
                    session,
                    reason,
                    touch,
                });
                self.send(Message::new(shard, detach));
                if scenario.bug == Some(Bug::BuriesEarly) {
                    self.send(Message::new(
                        home,
                        Command::Session(SessionCommand::ShardReleased { session, shard }),
                    ));
                }
            }
        }
    }

    fn answer(&mut self, scenario: &Scenario, session: SessionId, serial: Serial, reply: &Reply) {
        let (Some(client), Some(plan)) = (
            self.clients.get_mut(&session),
            scenario.sessions.get(&session),
        ) else {
            return;
        };
        if !client.waits_for(serial) {
            return;
        }
        if Arc::make_mut(client).learn(reply) {
            Arc::make_mut(&mut self.witness).wrong(Wrong::HoldLost);
        }
        self.ask_eagerly(scenario, session, plan);
    }

    fn end(&mut self, session: SessionId) {
        if let Some(client) = self.clients.get_mut(&session) {
            Arc::make_mut(client).gone();
        }
    }

    fn ask_eagerly(&mut self, scenario: &Scenario, session: SessionId, plan: &Plan) {
        let client = self.clients.get(&session);
        if client.is_some_and(|client| client.is_eager(&plan.steps)) {
            self.ask(scenario, session, plan);
        }
    }
}
