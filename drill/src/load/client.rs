//! One client of the load: a session, and turn after turn with it.

use std::sync::{Arc, OnceLock};

use lockstep_client::{Client, ClientConfig, LockGuard, SessionOptions};
use rand::rngs::StdRng;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    Arena, ArenaLock, LoadOptions, PATIENCE,
    mix::Turn,
    scribe::{Scribe, Taken, token},
};
use crate::{
    history::{Acquired, ClientId, RecorderFull, Released},
    poll::until,
};

pub(super) struct LoadClient {
    pub(super) number: u32,
    pub(super) arena: Arc<Arena>,
    pub(super) endpoints: Vec<String>,
    pub(super) options: LoadOptions,
    pub(super) rng: StdRng,
    pub(super) stop: CancellationToken,
}

/// Whether a session may be used for another turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It may.
    Go,
    /// Something of it may still be under way: close it, so that nothing stays behind.
    Renew,
    /// It is lost.
    Lost,
}

impl LoadClient {
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let config = ClientConfig::new(self.endpoints.clone());
        let client = until("a client connects", PATIENCE, || async {
            let connected = Client::connect(config.clone()).await;
            connected.map_err(|error| error.to_string())
        })
        .await?;
        while !self.stop.is_cancelled() {
            self.session(&client).await?;
        }
        Ok(())
    }

    /// Opens a session and uses it until it is lost, doubtful, or the load ends.
    async fn session(&mut self, client: &Client) -> anyhow::Result<()> {
        let options = SessionOptions {
            ttl: self.options.ttl,
            ..SessionOptions::default()
        };
        let open = until("a session opens", PATIENCE, || async {
            let opened = client.open_session(options.clone()).await;
            opened.map_err(|error| error.to_string())
        });
        let session = open.await?;
        let arena = Arc::clone(&self.arena);
        let scribe = Scribe::new(&arena, ClientId(self.number), &session);
        let mut next = Next::Go;
        while next == Next::Go && !self.stop.is_cancelled() {
            let turn = self.options.mix.draw(&mut self.rng, arena.locks.len());
            next = take_turn(&arena, &scribe, client, &turn).await?;
            if next == Next::Go {
                tokio::select! {
                    () = sleep(turn.think) => {}
                    () = self.stop.cancelled() => {}
                }
            }
        }
        scribe.close(next == Next::Lost).await;
        Ok(())
    }
}

async fn take_turn(
    arena: &Arena,
    scribe: &Scribe<'_>,
    client: &Client,
    turn: &Turn,
) -> Result<Next, RecorderFull> {
    let chosen = turn.locks.iter().filter_map(|at| arena.locks.get(*at));
    let locks: Vec<&ArenaLock> = chosen.collect();
    let nobody_looks = OnceLock::new();
    let taken = scribe.acquire(&locks, turn.mode, turn.wait, &nobody_looks);
    let guards = match taken.await? {
        Taken::Held(guards) => guards,
        Taken::Not(Acquired::SessionGone) => return Ok(Next::Lost),
        Taken::Not(Acquired::Unknown | Acquired::Unanswered) => return Ok(Next::Renew),
        Taken::Not(
            Acquired::Granted(_) | Acquired::Unavailable | Acquired::TimedOut | Acquired::Refused,
        ) => return Ok(Next::Go),
    };
    critical_section(scribe, client, &locks, &guards, turn).await?;
    release(scribe, client, &locks, guards, turn.validate_released).await
}

/// Uses what the locks guard when it begins and when it ends.
async fn critical_section(
    scribe: &Scribe<'_>,
    client: &Client,
    locks: &[&ArenaLock],
    guards: &[LockGuard],
    turn: &Turn,
) -> Result<(), RecorderFull> {
    let held = || locks.iter().zip(guards);
    for (lock, guard) in held() {
        scribe.access(lock, turn.mode, guard)?;
    }
    sleep(turn.hold).await;
    for (lock, guard) in held() {
        if turn.validate_held {
            scribe.validate(client, lock, token(guard)).await?;
        }
        scribe.access(lock, turn.mode, guard)?;
    }
    Ok(())
}

async fn release(
    scribe: &Scribe<'_>,
    client: &Client,
    locks: &[&ArenaLock],
    guards: Vec<LockGuard>,
    validate: bool,
) -> Result<Next, RecorderFull> {
    let mut next = Next::Go;
    for (lock, guard) in locks.iter().zip(guards) {
        let token = token(&guard);
        match scribe.release(lock, guard).await? {
            Released::Done if validate => {
                scribe.validate(client, lock, token).await?;
            }
            Released::Done => {}
            Released::SessionGone => next = Next::Lost,
            Released::Stale | Released::Refused | Released::Unknown | Released::Unanswered => {
                if next == Next::Go {
                    next = Next::Renew;
                }
            }
        }
    }
    Ok(next)
}
