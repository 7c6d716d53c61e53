//! A queue that is built on purpose, one waiter after another, each seen in it before the next
//! asks: what happens to it during a fault shows whether holders keep and waiters keep their place.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context, bail};
use lockstep_client::{Client, ClientConfig, LockGuard, Session, SessionOptions};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    history::{ClientId, Mode, Moment, Wait},
    load::{Arena, ArenaLock, PATIENCE, Scribe, Taken, token},
    poll::until,
};

/// Readers side by side behind a writer, and writers at both ends.
const WAITERS: [Mode; 4] = [Mode::Exclusive, Mode::Shared, Mode::Shared, Mode::Exclusive];
/// How long it may take until a waiter is seen in the queue.
const SEEN_LIMIT: Duration = Duration::from_secs(10);
/// Numbers of the probe's clients: far from those of the load.
const FIRST_CLIENT: u32 = 1_000_000;

/// A holder and its queue.
pub struct QueueProbe {
    arena: Arc<Arena>,
    lock: ArenaLock,
    client: Client,
    holder: Session,
    guard: LockGuard,
    waiters: JoinSet<anyhow::Result<()>>,
}

impl QueueProbe {
    /// Takes the quiet lock of `shard` and builds a queue behind it.
    ///
    /// # Errors
    /// If the cluster does not serve.
    pub async fn build(
        arena: &Arc<Arena>,
        endpoints: &[String],
        shard: u32,
    ) -> anyhow::Result<Self> {
        let lock = arena.quiet.get(&shard).cloned();
        let lock = lock.with_context(|| format!("there is no shard {shard}"))?;
        let client = Client::connect(ClientConfig::new(endpoints.to_vec())).await?;
        let holder = client.open_session(SessionOptions::default()).await?;
        let scribe = Scribe::new(arena, ClientId(FIRST_CLIENT), &holder);
        let nobody_looks = OnceLock::new();
        let locks = [&lock];
        let taken = scribe.acquire(&locks, Mode::Exclusive, Wait::Forever, &nobody_looks);
        let guard = match taken.await? {
            Taken::Held(guards) => guards.into_iter().next().context("a grant of no lock")?,
            Taken::Not(outcome) => {
                bail!("the quiet lock {} was not granted: {outcome:?}", lock.name)
            }
        };
        let mut probe = Self {
            arena: Arc::clone(arena),
            lock,
            client,
            holder,
            guard,
            waiters: JoinSet::new(),
        };
        for (nth, mode) in WAITERS.into_iter().enumerate() {
            probe.enqueue(nth, mode).await?;
        }
        Ok(probe)
    }

    /// Adds a waiter and waits until it is seen in the queue.
    async fn enqueue(&mut self, nth: usize, mode: Mode) -> anyhow::Result<()> {
        let seen = Arc::new(OnceLock::new());
        let waiter = Waiter {
            arena: Arc::clone(&self.arena),
            lock: self.lock.clone(),
            client: self.client.clone(),
            number: ClientId(FIRST_CLIENT + 1 + nth as u32),
            mode,
            seen: Arc::clone(&seen),
        };
        self.waiters.spawn(waiter.run());
        let (client, name) = (&self.client, &self.lock.name);
        until("a waiter is in the queue", SEEN_LIMIT, || async {
            let lock = client.get_lock(name).await;
            let waiting = lock.map_err(|error| error.to_string())?.waiter_count;
            if waiting as usize == nth + 1 {
                Ok(())
            } else {
                Err(format!("{waiting} wait"))
            }
        })
        .await?;
        let _once = seen.set(self.arena.recorder.now());
        Ok(())
    }

    /// Shows that the holder still holds, lets the queue go through, and records all that.
    ///
    /// # Errors
    /// If a waiter could not go on. What the cluster got wrong is in the record.
    pub async fn finish(mut self) -> anyhow::Result<()> {
        let scribe = Scribe::new(&self.arena, ClientId(FIRST_CLIENT), &self.holder);
        let (lock, token) = (&self.lock, token(&self.guard));
        scribe.validate(&self.client, lock, token).await?;
        scribe.access(lock, Mode::Exclusive, &self.guard)?;
        scribe.release(lock, self.guard).await?;
        scribe.close(false).await;
        while let Some(ended) = timeout(PATIENCE, self.waiters.join_next()).await? {
            ended??;
        }
        Ok(())
    }
}

struct Waiter {
    arena: Arc<Arena>,
    lock: ArenaLock,
    client: Client,
    number: ClientId,
    mode: Mode,
    seen: Arc<OnceLock<Moment>>,
}

impl Waiter {
    async fn run(self) -> anyhow::Result<()> {
        let session = self.client.open_session(SessionOptions::default()).await?;
        let scribe = Scribe::new(&self.arena, self.number, &session);
        let lock = &self.lock;
        let locks = [lock];
        let taken = scribe.acquire(&locks, self.mode, Wait::Forever, &self.seen);
        if let Taken::Held(guards) = taken.await? {
            for guard in guards {
                scribe.access(lock, self.mode, &guard)?;
                scribe.release(lock, guard).await?;
            }
        }
        scribe.close(false).await;
        Ok(())
    }
}
