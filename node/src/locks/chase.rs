//! Finding the deadlocks that span shards, and breaking them.
//!
//! Each node looks, for the shards that it leads, at waits that have lasted [`LONG_WAIT`], and walks
//! from the holders whom they wait for along the waits of all shards. What is asked on the way, and
//! what is done about a circle, is [`Chase`]'s to say; here it is carried out, within bounds of time.
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
    Answer, Machine, Millis, Party, Reply, ShardId, WaitEpoch,
    locks::{
        chase::{Abort, Chase, Question},
        deadlock::{Waits, words},
    },
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::router::Router;

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
    let mut chaser = Chaser {
        router,
        seen: BTreeMap::new(),
        again: Instant::now() + AGAIN,
    };
    let _ = stop.run_until_cancelled(chaser.run()).await;
}

struct Chaser {
    router: Arc<Router>,
    /// The last wait that was looked at in each shard led here.
    seen: BTreeMap<ShardId, WaitEpoch>,
    /// When to begin with the first wait again.
    again: Instant,
}

impl Chaser {
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
        let mut suspects = BTreeSet::new();
        for replica in self.router.replicas() {
            let machine = replica.machine.read();
            let Machine::Data(shard) = &*machine else {
                continue;
            };
            if !shard.has_waits() || !replica.leads() {
                continue;
            }
            let until = replica.time.now().minus(LONG_WAIT);
            let seen = self.seen.entry(replica.shard).or_default();
            let (parties, last) = shard.suspects(*seen, until, MAX_WAITS);
            *seen = last;
            suspects.extend(parties);
        }
        suspects
    }

    /// Walks from the suspects, and breaks the circles that it comes upon.
    async fn walk(&self, suspects: BTreeSet<Party>) {
        let home_of = |session| self.router.directory().home_of(session);
        let mut chase = Chase::begin(suspects, home_of);
        loop {
            chase = match chase {
                Chase::Looks(look) => {
                    let answers = self.ask(look.questions()).await;
                    look.heard(answers, home_of)
                }
                Chase::Confirms(confirm) => {
                    let answers = self.ask(confirm.questions()).await;
                    confirm.heard(answers)
                }
                Chase::Aborts(abort) => {
                    self.abort(&abort).await;
                    abort.over()
                }
                Chase::Done => return,
            };
        }
    }

    async fn abort(&self, abort: &Abort) {
        let Waits {
            shard,
            party: victim,
            ..
        } = abort.victim();
        match timeout(PATIENCE, self.router.command(*shard, abort.command())).await {
            Ok(Ok(Reply::Done)) => {
                tracing::info!(%shard, %victim, cycle = words(abort.cycle()), "broke a deadlock");
            }
            // Another node was faster, or the wait has ended otherwise.
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%shard, %error, "a deadlock was not broken yet"),
            Err(_) => tracing::debug!(%shard, "a deadlock was not broken in time"),
        }
    }

    /// Asks shards, all at once; those that do not answer in time are left out.
    async fn ask(&self, questions: &[Question]) -> Vec<Option<Answer>> {
        let asked = questions.iter().map(async |Question { shard, query }| {
            let answer = timeout(PATIENCE, self.router.query(*shard, query.clone())).await;
            answer.ok()?.ok()
        });
        join_all(asked).await
    }
}
