//! How a cluster begins.
//!
//! Invariant: what has happened before the check begins happened as it does while nodes serve: by the
//! same commands.

use std::{collections::BTreeMap, sync::Arc};

use lockstep_model::{
    Command, NodeId, Outcome, Reply, SessionCommand, SessionId, SessionReply, ShardId, ShardTime,
    Timestamp, session::DEFAULT_SESSION_TTL,
};

use super::{Cluster, Site};
use crate::{
    chaser::Chaser,
    client::Client,
    message::Message,
    replica::Replica,
    scenario::{BEGIN, Opening, Plan, Scenario, WALL},
};

/// Nodes that lead: the shards are spread over them.
const NODES: u64 = 2;

impl Cluster {
    /// As a scenario begins.
    #[must_use]
    pub fn new(scenario: &Scenario) -> Self {
        let site = |shard: u32| {
            let site = Site {
                replica: Arc::new(Replica::empty(ShardId(shard))),
                deposed: None,
                leader: NodeId(u64::from(shard - 1) % NODES + 1),
                // Elections turn it over, and clock steps.
                ahead: scenario.clock_steps > 0 && shard == 1,
                passed: 0,
            };
            (ShardId(shard), site)
        };
        let client =
            |(session, plan): (&SessionId, &Plan)| (*session, Arc::new(Client::new(plan.tries)));
        let mut cluster = Self {
            sites: (1..=scenario.shards).map(site).collect(),
            clients: scenario.sessions.iter().map(client).collect(),
            sent: Arc::default(),
            chasers: (1..=scenario.chasers)
                .map(|node| (NodeId(node), Chaser::Idle))
                .collect(),
            elections: scenario.elections,
            clock_steps: scenario.clock_steps,
            witness: Arc::default(),
        };
        for (opened, (session, plan)) in (1..).zip(&scenario.sessions) {
            cluster.open(scenario, *session, plan, ShardTime(opened));
        }
        let now: Vec<ShardId> = cluster.sites.keys().copied().collect();
        for shard in now {
            let at = cluster.time(scenario, shard);
            cluster.prepare(shard, &Command::Expire, at);
        }
        if scenario.opening != Opening::Sent {
            for (session, plan) in &scenario.sessions {
                if let Some(client) = cluster.clients.get_mut(session) {
                    Arc::make_mut(client).opened();
                }
                cluster.ask_eagerly(scenario, *session, plan);
            }
        }
        cluster
    }

    fn open(&mut self, scenario: &Scenario, session: SessionId, plan: &Plan, opened: ShardTime) {
        let home = plan.home;
        let open = Command::Session(SessionCommand::Open {
            session,
            ttl: DEFAULT_SESSION_TTL,
            priority: plan.priority,
            labels: BTreeMap::new(),
        });
        if scenario.opening == Opening::Sent {
            self.send(Message::new(home, open));
            return;
        }
        self.prepare(home, &open, opened);
        if scenario.opening == Opening::Home {
            return;
        }
        let others: Vec<ShardId> = self.sites.keys().copied().filter(|s| *s != home).collect();
        for shard in others {
            let touch = Command::Session(SessionCommand::TouchShard { session, shard });
            let Some(Reply::Session(SessionReply::Touched { touch, .. })) =
                self.prepare(home, &touch, opened)
            else {
                continue;
            };
            let attach = Command::Session(SessionCommand::Attach {
                session,
                priority: plan.priority,
                opened: wall(opened),
                touch,
            });
            self.prepare(shard, &attach, opened);
        }
    }

    /// What happened before the check begins.
    fn prepare(&mut self, shard: ShardId, command: &Command, at: ShardTime) -> Option<Reply> {
        let site = self.sites.get_mut(&shard)?;
        let (replica, applied) = site.replica.apply(command, (at, wall(at)), None);
        site.replica = Arc::new(replica);
        match applied.outcomes.into_iter().next()? {
            Outcome::Done(reply) => Some(reply),
            Outcome::Pending => None,
        }
    }
}

/// Before the check begins the wall clocks are right.
const fn wall(at: ShardTime) -> Timestamp {
    Timestamp(WALL.0 - BEGIN.0 + at.0)
}
