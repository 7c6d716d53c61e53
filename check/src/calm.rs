//! How a cluster goes on when nothing disturbs it.
//!
//! Invariant: it goes on by the same steps as ever; only their order is chosen.

use lockstep_model::{Command, NodeId, SessionCommand, SessionId};

use crate::{
    chaser::{Answerer, Chaser},
    cluster::Cluster,
    message::Message,
    scenario::{Plan, Scenario},
    truth::Truth,
};

/// Most walks, and most steps of a walk: far more than the few clients of a scenario can need.
const ENOUGH: usize = 100;

impl Cluster {
    /// Lets the reaper and the walks do their work with nothing in their way. False if a circle is
    /// left then, or a session that has ended and still has a part in some shard.
    ///
    /// Clients do nothing meanwhile, and no other message comes: so if it holds in every state, it
    /// does in those in which nothing else is left to do.
    #[must_use]
    pub fn comes_to_rest(&self, scenario: &Scenario) -> bool {
        if !self.is_ending() && !Truth::of(self).has_circle() {
            return true;
        }
        let mut calm = self.clone();
        calm.release_ended(scenario);
        calm.break_circles(scenario);
        let gone = |(session, plan): (&SessionId, &Plan)| {
            !calm.witness.has_ended(*session, plan.home) || !calm.has_part(*session)
        };
        !calm.is_ending() && !Truth::of(&calm).has_circle() && scenario.sessions.iter().all(gone)
    }

    /// True if some home has not heard yet that a session is released everywhere.
    fn is_ending(&self) -> bool {
        let mut shards = self.sites.values().filter_map(|site| site.replica.shard());
        shards.any(|shard| !shard.ending().is_empty())
    }

    /// True if a session holds something anywhere, or waits.
    #[must_use]
    pub fn has_part(&self, session: SessionId) -> bool {
        let mut sites = self.sites.values();
        sites.any(|site| site.replica.has_part(session))
    }

    /// Every home tells the shards of its ended sessions, and hears from them.
    fn release_ended(&mut self, scenario: &Scenario) {
        let detaches = |message: &&Message| {
            matches!(
                *message.command,
                Command::Session(SessionCommand::Detach { .. })
            )
        };
        let released = |message: &&Message| {
            matches!(
                *message.command,
                Command::Session(SessionCommand::ShardReleased { .. })
            )
        };
        let due: Vec<Message> = self.sent.iter().filter(detaches).cloned().collect();
        self.deliver_all(scenario, &due);
        let due: Vec<Message> = self.sent.iter().filter(released).cloned().collect();
        self.deliver_all(scenario, &due);
    }

    fn deliver_all(&mut self, scenario: &Scenario, messages: &[Message]) {
        for message in messages {
            self.deliver(scenario, message);
        }
    }

    /// Both nodes walk as long as there are circles.
    fn break_circles(&mut self, scenario: &Scenario) {
        let nodes = [1, 2].map(NodeId);
        self.chasers = nodes.map(|node| (node, Chaser::Idle)).into();
        for node in nodes.iter().cycle().take(ENOUGH) {
            if !Truth::of(self).has_circle() {
                return;
            }
            self.walk_to_the_end(scenario, *node);
        }
    }

    fn walk_to_the_end(&mut self, scenario: &Scenario, node: NodeId) {
        self.chase(scenario, node);
        for _ in 0..ENOUGH {
            let Some(Chaser::Walks(pursuit)) = self.chasers.get(&node) else {
                return;
            };
            let pursuit = std::sync::Arc::clone(pursuit);
            if let Some(abort) = pursuit.abort() {
                let abort = abort.clone();
                self.deliver(scenario, &abort);
            } else if let Some((place, _)) = pursuit.open().first() {
                self.hear(scenario, node, *place, Answerer::Leader);
            }
        }
    }
}
