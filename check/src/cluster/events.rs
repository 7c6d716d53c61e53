//! What happens of itself: what clients do, expiries, elections.

use std::sync::Arc;

use lockstep_model::{
    Command, LockCommand, NodeId, SessionCommand, SessionId, ShardId, session::EndReason,
};

use super::Cluster;
use crate::{
    chaser::Chaser,
    client::Request,
    message::Message,
    scenario::{Plan, Scenario},
    witness::{Mark, Wrong},
};

impl Cluster {
    /// A client makes its next request, if it has one to make.
    pub fn ask(&mut self, scenario: &Scenario, session: SessionId, plan: &Plan) -> bool {
        let client = self.clients.get_mut(&session);
        let client = client.filter(|client| client.is_free());
        let request = client.and_then(|client| Arc::make_mut(client).next(session, &plan.steps));
        match request {
            Some(Request::Lock(name, command)) => {
                if let Some(shard) = scenario.locks.get(&name) {
                    self.send(Message::new(*shard, command));
                }
                true
            }
            Some(Request::Home(command)) => {
                self.send(Message::new(plan.home, command));
                true
            }
            None => false,
        }
    }

    /// A client gives up waiting. False if it does not wait, or has given up already.
    pub fn cancel(&mut self, scenario: &Scenario, session: SessionId) -> bool {
        let asked = self
            .clients
            .get(&session)
            .and_then(|client| client.asked.clone());
        let Some(asked) = asked else {
            return false;
        };
        let Some(shard) = scenario.locks.get(&asked.name) else {
            return false;
        };
        let serial = asked.serial;
        let cancel = Message::new(
            *shard,
            Command::Lock(LockCommand::CancelWait { session, serial }),
        );
        let is_new = !self.sent.contains(&cancel);
        self.send(cancel);
        is_new
    }

    /// A session's time is over. False if it is not open.
    pub fn expire(&mut self, scenario: &Scenario, session: SessionId, home: ShardId) -> bool {
        let shard = self.sites.get(&home).and_then(|site| site.replica.shard());
        let is_open = shard.is_some_and(|shard| {
            let mut open = shard.home_sessions();
            open.any(|open| open.session == session)
        });
        if is_open {
            let mut others = self.sites.iter().filter(|(shard, _)| **shard != home);
            if others.any(|(_, site)| !site.replica.waits(session).is_empty()) {
                Arc::make_mut(&mut self.witness).mark(scenario, Mark::EndedWaiting);
            }
            let reason = EndReason::Expired;
            let end = Command::Session(SessionCommand::End { session, reason });
            self.deliver(scenario, &Message::new(home, end));
        }
        is_open
    }

    /// A leader's wall clock is set an hour ahead, or back.
    pub fn step_clock(&mut self, shard: ShardId) -> bool {
        let Some(left) = self.clock_steps.checked_sub(1) else {
            return false;
        };
        let Some(site) = self.sites.get_mut(&shard) else {
            return false;
        };
        site.ahead = !site.ahead;
        self.clock_steps = left;
        true
    }

    /// The lead of a shard moves. Whoever takes it over has the state from its bytes.
    pub fn elect(&mut self, shard: ShardId, dies: bool) -> bool {
        let Some(left) = self.elections.checked_sub(1) else {
            return false;
        };
        let Some(site) = self.sites.get_mut(&shard) else {
            return false;
        };
        let old = site.leader;
        match site.replica.restored() {
            Ok(restored) if restored == *site.replica => {
                site.deposed = Some(std::mem::replace(&mut site.replica, Arc::new(restored)));
            }
            Ok(_) | Err(_) => Arc::make_mut(&mut self.witness).wrong(Wrong::NotRestored),
        }
        site.leader = NodeId(3 - old.0);
        self.elections = left;
        if dies && let Some(chaser) = self.chasers.get_mut(&old) {
            *chaser = Chaser::Idle;
        }
        true
    }
}
