//! What can happen next.
//!
//! Invariant: the actions of a state follow from the state alone, in an order of their own, so that a
//! path can be walked again.

use std::fmt;

use lockstep_model::{
    Command, LockCommand, Mode, NodeId, SessionCommand, SessionId, ShardId,
    locks::command::LockSpec, request::RequestId,
};
use stateright::{Model, Property};

use crate::{
    bug::Bug,
    chaser::{Answerer, Chaser},
    cluster::Cluster,
    message::Message,
    property,
    scenario::Scenario,
};

/// Something that happens.
#[derive(Clone, PartialEq, Eq)]
pub enum Action {
    /// A message arrives, perhaps not for the first time.
    Deliver(Message),
    /// A client gives back, downgrades or closes.
    Ask(SessionId),
    /// A client gives up waiting.
    Cancel(SessionId),
    /// A session's time is over.
    Expire(SessionId),
    /// A shard's time jumps to the next instant.
    Jump(ShardId),
    /// A leader's wall clock is set.
    SetClock(ShardId),
    /// A leader ends the waits whose time is over.
    ExpireWaits(ShardId),
    /// The lead of a shard moves; the old leader's node dies, or lives on.
    Elect(ShardId, bool),
    /// A node begins to look for deadlocks.
    Chase(NodeId),
    /// A node hears an answer to one of its questions.
    Hear(NodeId, usize, ShardId, Answerer),
    /// A node hears nothing of its abort in time.
    GiveUp(NodeId),
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deliver(message) => write!(f, "{message:?}"),
            Self::Ask(session) => write!(f, "session {} goes on", session.0),
            Self::Cancel(session) => write!(f, "session {} gives up waiting", session.0),
            Self::Expire(session) => write!(f, "session {} expires", session.0),
            Self::Jump(shard) => write!(f, "shard {shard}: time passes"),
            Self::SetClock(shard) => write!(f, "shard {shard}: its leader's wall clock is set"),
            Self::ExpireWaits(shard) => write!(f, "shard {shard}: waits that are over end"),
            Self::Elect(shard, true) => write!(f, "shard {shard}: its leader dies"),
            Self::Elect(shard, false) => write!(f, "shard {shard}: its leader is deposed"),
            Self::Chase(node) => write!(f, "node {node} begins to walk"),
            Self::Hear(node, _, shard, answerer) => {
                let who = match answerer {
                    Answerer::Leader => "hears the leader",
                    Answerer::Deposed => "hears the deposed leader",
                    Answerer::Nobody => "hears nothing",
                };
                write!(f, "node {node} {who} of shard {shard}")
            }
            Self::GiveUp(node) => write!(f, "node {node}: its abort is not answered"),
        }
    }
}

impl Model for Scenario {
    type State = Cluster;
    type Action = Action;

    fn init_states(&self) -> Vec<Cluster> {
        vec![Cluster::new(self)]
    }

    fn actions(&self, cluster: &Cluster, actions: &mut Vec<Action>) {
        let sent = cluster
            .sent
            .iter()
            .filter(|message| cluster.may_arrive(self, message));
        actions.extend(sent.cloned().map(Action::Deliver));
        for (session, plan) in &self.sessions {
            actions.push(Action::Ask(*session));
            if plan.cancels {
                actions.push(Action::Cancel(*session));
            }
            if plan.expires {
                actions.push(Action::Expire(*session));
            }
        }
        for (shard, site) in &cluster.sites {
            if site.passed < self.instants.len() {
                actions.push(Action::Jump(*shard));
            }
            if cluster.clock_steps > 0 {
                actions.push(Action::SetClock(*shard));
            }
            let deadline = site.replica.shard().and_then(|s| s.next_deadline());
            if deadline.is_some_and(|deadline| deadline <= cluster.time(self, *shard)) {
                actions.push(Action::ExpireWaits(*shard));
            }
            if cluster.elections > 0 {
                actions.push(Action::Elect(*shard, false));
                if self.chasers > 0 {
                    actions.push(Action::Elect(*shard, true));
                }
            }
        }
        self.walks(cluster, actions);
    }

    fn next_state(&self, last: &Cluster, action: Action) -> Option<Cluster> {
        let mut cluster = last.clone();
        let happens = match action {
            Action::Deliver(message) => {
                cluster.deliver(self, &message);
                cluster != *last
            }
            Action::Ask(session) => {
                let plan = self.sessions.get(&session)?;
                cluster.ask(self, session, plan)
            }
            Action::Cancel(session) => cluster.cancel(self, session),
            Action::Expire(session) => {
                let home = self.sessions.get(&session)?.home;
                cluster.expire(self, session, home)
            }
            Action::Jump(shard) => {
                cluster.sites.get_mut(&shard)?.passed += 1;
                true
            }
            Action::SetClock(shard) => cluster.step_clock(shard),
            Action::ExpireWaits(shard) => {
                cluster.deliver(self, &Message::new(shard, Command::Expire));
                true
            }
            Action::Elect(shard, dies) => cluster.elect(shard, dies),
            Action::Chase(node) => cluster.chase(self, node),
            Action::Hear(node, place, _, answerer) => cluster.hear(self, node, place, answerer),
            Action::GiveUp(node) => cluster.give_up(self, node),
        };
        happens.then_some(cluster)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        property::of(self)
    }
}

impl Scenario {
    fn walks(&self, cluster: &Cluster, actions: &mut Vec<Action>) {
        for (node, chaser) in &cluster.chasers {
            let pursuit = match chaser {
                Chaser::Idle => {
                    actions.push(Action::Chase(*node));
                    continue;
                }
                Chaser::Walks(pursuit) => pursuit,
            };
            for (place, shard) in pursuit.open() {
                let mut hear = |answerer| {
                    actions.push(Action::Hear(*node, place, shard, answerer));
                };
                hear(Answerer::Leader);
                let site = cluster.sites.get(&shard);
                // The second pass is linearizable.
                let asks_deposed = !pursuit.confirms() || self.bug == Some(Bug::AsksDeposed);
                if asks_deposed && site.is_some_and(|site| site.deposed.is_some()) {
                    hear(Answerer::Deposed);
                }
                if self.silence {
                    hear(Answerer::Nobody);
                }
            }
            if pursuit.abort().is_some() {
                actions.push(Action::GiveUp(*node));
            }
        }
    }
}

/// A command in a few words.
#[must_use]
pub fn told(command: &Command) -> String {
    match command {
        Command::Session(command) => told_of_session(command),
        Command::Lock(command) => told_of_locks(command),
        other @ (Command::Expire | Command::Meta(_)) => format!("{other:?}"),
    }
}

fn told_of_session(command: &SessionCommand) -> String {
    match command {
        SessionCommand::Open { session, .. } => {
            format!("session {} opens", session.0)
        }
        SessionCommand::TouchShard { session, shard } => {
            format!("session {} is about to use shard {shard}", session.0)
        }
        SessionCommand::Attach { session, touch, .. } => format!(
            "session {} is attached by touch {}",
            session.0, touch.number
        ),
        SessionCommand::Detach { session, touch, .. } => {
            let (session, last) = (session.0, touch.number);
            format!("session {session} is detached, last touch {last}")
        }
        SessionCommand::ShardReleased { session, shard } => {
            format!("session {} is released by shard {shard}", session.0)
        }
        SessionCommand::End { session, reason } => {
            format!("session {} ends: {reason:?}", session.0)
        }
        other @ (SessionCommand::Resume { .. }
        | SessionCommand::Checkpoint { .. }
        | SessionCommand::Revive { .. }
        | SessionCommand::Revoke { .. }) => format!("{other:?}"),
    }
}

fn told_of_locks(command: &LockCommand) -> String {
    let of = |request: &RequestId| format!("session {} #{}", request.session.0, request.serial);
    let lock = |spec: &LockSpec| {
        let mode = match spec.mode {
            Mode::Shared => "shared",
            Mode::Exclusive => "exclusive",
            Mode::Permits { .. } => "permits",
            Mode::Meet { .. } => "meet",
        };
        format!("{} {mode}", spec.name)
    };
    match command {
        LockCommand::Acquire { request, locks, .. } => {
            let locks: Vec<String> = locks.iter().map(lock).collect();
            format!("{} takes {}", of(request), locks.join(", "))
        }
        LockCommand::Release {
            request,
            name,
            token,
        } => format!("{} gives back {name} ({token})", of(request)),
        LockCommand::Upgrade { request, name, .. } => {
            format!("{} upgrades {name}", of(request))
        }
        LockCommand::Downgrade { request, name, .. } => {
            format!("{} downgrades {name}", of(request))
        }
        LockCommand::CancelWait { session, serial } => {
            format!("session {} #{serial} is cancelled", session.0)
        }
        LockCommand::AbortWait {
            session,
            serial,
            epoch,
            cycle,
        } => {
            let waits = cycle.len();
            let session = session.0;
            format!("session {session} #{serial} gives way: wait {epoch}, circle of {waits}")
        }
        other @ (LockCommand::Proclaim { .. }
        | LockCommand::UndoAcquire { .. }
        | LockCommand::RaiseTokens { .. }) => format!("{other:?}"),
    }
}
