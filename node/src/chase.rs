//! Finding the deadlocks that span shards, and breaking them.
//!
//! Each node looks, for the shards that it leads, at waits that have lasted [`LONG_WAIT`], and walks
//! from the holders whom they wait for along the waits of all shards: it asks a session's home where
//! that session may wait, and those shards for whom (see [`lockstep_model::deadlock`]). A whole walk
//! goes level by level, with one question to each shard concerned, however many wait.
//!
//! Invariants: nobody's wait is ended unless every edge of its circle was seen to stand, by a
//! linearizable read, after all of them had been seen once; and what is lost (a walk, a lead, a node)
//! is made up for by the next walk, since walks are repeated for as long as anybody waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use lockstep_model::{
    Answer, Command, Machine, Millis, Party, Query, Reply, SessionId, ShardId, Timestamp,
    WaitEpoch,
    deadlock::{Blocked, Edge, MAX_ASKED, Walk, victim, words},
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{clock::now, router::Router};

/// Waits that last longer are looked at: most are over by then.
const LONG_WAIT: Millis = Millis(100);
/// How often a node looks for waits that have become long.
const TICK: Duration = Duration::from_millis(20);
/// How often all long waits are looked at again: what a walk has missed, because a leader was lost
/// or more waited than it takes, is found then.
const AGAIN: Duration = Duration::from_secs(1);
/// Most waits of a shard that are looked at in one tick.
const MAX_WAITS: usize = 10_000;
/// How long one question may take. A shard without a leader is left out until the next walk.
const PATIENCE: Duration = Duration::from_millis(800);

/// Looks for deadlocks until cancelled.
pub async fn chase(router: Arc<Router>, stop: CancellationToken) {
    let mut chase = Chase {
        router,
        seen: BTreeMap::new(),
        again: Instant::now() + AGAIN,
    };
    let _ = stop.run_until_cancelled(chase.run()).await;
}

struct Chase {
    router: Arc<Router>,
    /// The last wait that was looked at in each shard led here.
    seen: BTreeMap<ShardId, WaitEpoch>,
    /// When to begin with the first wait again.
    again: Instant,
}

impl Chase {
    async fn run(&mut self) {
        loop {
            sleep(TICK).await;
            let suspects = self.suspects();
            if !suspects.is_empty() {
                self.walk(suspects).await;
            }
        }
    }

    /// The holders for whom somebody has come to wait long.
    fn suspects(&mut self) -> BTreeSet<Party> {
        if Instant::now() >= self.again {
            self.again = Instant::now() + AGAIN;
            self.seen.clear();
        }
        let until = Timestamp(now().0.saturating_sub(LONG_WAIT.0));
        let mut suspects = BTreeSet::new();
        for replica in self.router.replicas().unwrap_or_default() {
            let machine = replica.machine.read();
            let Machine::Data(shard) = &*machine else {
                continue;
            };
            if !shard.has_waits() || !replica.leads() {
                continue;
            }
            let seen = self.seen.entry(replica.shard).or_default();
            let (parties, last) = shard.suspects(*seen, until, MAX_WAITS);
            *seen = last;
            suspects.extend(parties);
        }
        suspects
    }

    /// Walks from the suspects, and breaks the circles that it comes upon.
    async fn walk(&self, suspects: BTreeSet<Party>) {
        let mut walk = Walk::new(suspects);
        while !walk.frontier().is_empty() {
            let blocked = self.blocked(walk.frontier()).await;
            walk.learn(blocked);
        }
        // Each turn forgets a wait.
        while let Some(cycle) = walk.cycle() {
            let Some(wait) = victim(&cycle).cloned() else {
                return;
            };
            if self.stands(&cycle).await {
                self.abort(cycle).await;
                walk.forget(&wait);
            } else {
                // Some of it is over; which, the next walk will see.
                for edge in &cycle {
                    walk.forget(&edge.wait);
                }
            }
        }
    }

    /// What parties wait for, anywhere.
    async fn blocked(&self, parties: &BTreeSet<Party>) -> Vec<Blocked> {
        let mut by_home: BTreeMap<ShardId, BTreeSet<SessionId>> = BTreeMap::new();
        for party in parties {
            let home = self.router.directory().home_of(party.session);
            by_home.entry(home).or_default().insert(party.session);
        }
        let questions = by_home.into_iter().flat_map(|(home, sessions)| {
            let sessions: Vec<SessionId> = sessions.into_iter().collect();
            let query = |sessions: &[SessionId]| Query::Touched {
                sessions: sessions.to_vec(),
            };
            let chunks = sessions.chunks(MAX_ASKED).map(query);
            chunks.map(move |query| (home, query)).collect::<Vec<_>>()
        });
        let mut touched: BTreeMap<SessionId, Vec<ShardId>> = BTreeMap::new();
        for answer in self.ask(questions).await {
            if let Answer::Touched(sessions) = answer {
                touched.extend(sessions);
            }
        }
        let mut by_shard: BTreeMap<ShardId, Vec<Party>> = BTreeMap::new();
        for party in parties {
            for shard in touched.get(&party.session).into_iter().flatten() {
                by_shard.entry(*shard).or_default().push(party.clone());
            }
        }
        let questions = by_shard.into_iter().flat_map(|(shard, parties)| {
            let query = |parties: &[Party]| Query::Waits {
                parties: parties.to_vec(),
            };
            let chunks = parties.chunks(MAX_ASKED).map(query);
            chunks.map(move |query| (shard, query)).collect::<Vec<_>>()
        });
        let answers = self.ask(questions).await.into_iter();
        answers
            .flat_map(|answer| match answer {
                Answer::Waits(blocked) => blocked,
                Answer::Lock(_)
                | Answer::Locks(_)
                | Answer::Valid(_)
                | Answer::Sessions(_)
                | Answer::Cluster(_)
                | Answer::WrongShard
                | Answer::Touched(_)
                | Answer::Stand(_)
                | Answer::Deadlocks { .. }
                | Answer::Revision(_) => Vec::new(),
            })
            .collect()
    }

    /// Looks a second time: true if every edge is there still, so that all were there at once.
    async fn stands(&self, cycle: &[Edge]) -> bool {
        let mut by_shard: BTreeMap<ShardId, Vec<Edge>> = BTreeMap::new();
        for edge in cycle {
            by_shard
                .entry(edge.wait.shard)
                .or_default()
                .push(edge.clone());
        }
        let shards = by_shard.len();
        let questions = by_shard
            .into_iter()
            .map(|(shard, edges)| (shard, Query::Stand { edges }));
        let answers = self.ask(questions).await;
        answers.len() == shards && answers.iter().all(|answer| *answer == Answer::Stand(true))
    }

    async fn abort(&self, cycle: Vec<Edge>) {
        let Some(wait) = victim(&cycle) else {
            return;
        };
        let (shard, told, victim) = (wait.shard, words(&cycle), wait.party.clone());
        let command = Command::AbortWait {
            session: wait.party.session,
            serial: wait.serial,
            epoch: wait.epoch,
            cycle,
        };
        match timeout(PATIENCE, self.router.command(shard, command)).await {
            Ok(Ok(Reply::Done)) => {
                tracing::info!(%shard, %victim, cycle = told, "broke a deadlock");
            }
            // Another node was faster, or the wait has ended otherwise.
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%shard, %error, "a deadlock was not broken yet"),
            Err(_) => tracing::debug!(%shard, "a deadlock was not broken in time"),
        }
    }

    /// Asks shards, all at once; those that do not answer are left out.
    async fn ask(&self, questions: impl IntoIterator<Item = (ShardId, Query)>) -> Vec<Answer> {
        let asked = questions.into_iter().map(async |(shard, query)| {
            let answer = timeout(PATIENCE, self.router.query(shard, query)).await;
            answer.ok()?.ok()
        });
        join_all(asked).await.into_iter().flatten().collect()
    }
}
