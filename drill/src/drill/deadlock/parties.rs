//! Those who wait for each other, and the locks for which they do.
//!
//! Invariant: the sessions' ranks are known, so that it is known who has to give way.

use std::{cmp::Reverse, collections::BTreeMap, time::SystemTime};

use anyhow::Context;
use lockstep_client::{Client, ClientConfig, Priority, Session, SessionId, SessionOptions};
use rand::{
    Rng as _,
    rngs::StdRng,
    seq::{IndexedRandom as _, SliceRandom as _},
};

use super::circle::{Circle, Link};

/// Most parties of a circle.
pub(super) const MAX_PARTIES: usize = 16;
/// Locks on each shard: a circle may lie in one.
const LOCKS_PER_SHARD: usize = MAX_PARTIES;
/// Rows of a page of sessions.
const PAGE: u32 = 1_000;

/// Sessions, and locks by shard.
pub(super) struct Parties {
    pub(super) client: Client,
    /// Of those who make up circles.
    pub(super) sessions: Vec<Session>,
    /// Writers that stand between them.
    pub(super) bystanders: Vec<Session>,
    locks: BTreeMap<u32, Vec<String>>,
    opened: BTreeMap<SessionId, SystemTime>,
    priorities: BTreeMap<SessionId, Priority>,
}

impl Parties {
    /// Opens the sessions, and finds locks on every shard.
    pub(super) async fn gather(endpoints: &[String], rng: &mut StdRng) -> anyhow::Result<Self> {
        let client = Client::connect(ClientConfig::new(endpoints.to_vec())).await?;
        let mut parties = Self {
            sessions: Vec::new(),
            bystanders: Vec::new(),
            locks: locks(&client).await?,
            opened: BTreeMap::new(),
            priorities: BTreeMap::new(),
            client,
        };
        for _ in 0..MAX_PARTIES {
            let priority = Priority(rng.random_range(0..3));
            let options = SessionOptions {
                priority,
                ..SessionOptions::default()
            };
            let session = parties.client.open_session(options).await?;
            parties.priorities.insert(session.id(), priority);
            parties.sessions.push(session);
            // The lowest rank of all: they give way in no circle, because they hold nothing.
            let options = SessionOptions {
                priority: Priority(-1),
                ..SessionOptions::default()
            };
            let bystander = parties.client.open_session(options).await?;
            parties.bystanders.push(bystander);
        }
        let mut after = String::new();
        loop {
            let page = parties.client.list_sessions(PAGE, &after).await?;
            let opened = page.items.iter().map(|info| (info.id, info.opened));
            parties.opened.extend(opened);
            match page.next_page_token {
                Some(next) => after = next,
                None => return Ok(parties),
            }
        }
    }

    /// A circle of so many, over one or more shards, each waiting for the next in some way.
    pub(super) fn draw(&self, length: usize, rng: &mut StdRng) -> Circle {
        let mut shards: Vec<u32> = self.locks.keys().copied().collect();
        shards.shuffle(rng);
        shards.truncate(rng.random_range(1..=shards.len()));
        let mut free = self.locks.clone();
        let names = (0..length).filter_map(|_| {
            let shard = shards.choose(rng)?;
            free.get_mut(shard)?.pop()
        });
        let names: Vec<String> = names.collect();
        let mut sessions: Vec<usize> = (0..self.sessions.len()).collect();
        sessions.shuffle(rng);
        sessions.truncate(length);
        let links = (0..length).filter_map(|_| Link::ALL.choose(rng).copied());
        Circle {
            links: links.collect(),
            names,
            sessions,
            closing: rng.random_range(0..length),
        }
    }

    /// Which of these sessions has to give way.
    pub(super) fn loser(&self, sessions: &[usize]) -> Option<usize> {
        let rank = |at: &&usize| {
            let id = self.sessions.get(**at).map(Session::id);
            let priority = id.and_then(|id| self.priorities.get(&id));
            let opened = id.and_then(|id| self.opened.get(&id));
            (priority, Reverse(opened), Reverse(id))
        };
        sessions.iter().min_by_key(rank).copied()
    }

    /// Ends the sessions.
    pub(super) async fn part(self) {
        for session in self.sessions.into_iter().chain(self.bystanders) {
            // One that is lost has ended already.
            let _ = session.close().await;
        }
    }
}

/// Names of locks on every shard.
async fn locks(client: &Client) -> anyhow::Result<BTreeMap<u32, Vec<String>>> {
    let status = client.status().await?;
    let shards = status.shards.iter().filter(|shard| shard.id.0 > 0);
    let mut locks: BTreeMap<u32, Vec<String>> =
        shards.map(|shard| (shard.id.0, Vec::new())).collect();
    for number in 0_u32.. {
        if locks.values().all(|names| names.len() >= LOCKS_PER_SHARD) {
            break;
        }
        let name = format!("circle/{number:05}");
        let shard = client.get_lock(&name).await?.shard.0;
        let names = locks
            .get_mut(&shard)
            .context("a lock on an unknown shard")?;
        if names.len() < LOCKS_PER_SHARD {
            names.push(name);
        }
    }
    Ok(locks)
}
