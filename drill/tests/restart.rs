//! Nodes that stop and start: in order, at the worst moments, all at once, and without their disk.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use lockstep_client::{Client, ClientConfig, SessionOptions, SessionState};
use lockstep_drill::{
    checker::{Expectations, Judge},
    cluster::{Cluster, ClusterOptions, with_cluster},
    drill::MinorityRequest,
    history::Moment,
    load::{Arena, Load, LoadOptions},
    poll::until,
};

/// For a whole scenario: several starts and elections on a busy machine.
const LIMIT: Duration = Duration::from_secs(150);
/// For one of them.
const STEP: Duration = Duration::from_secs(30);
/// Few enough that snapshots are made and logs are purged within a second of load.
const SNAPSHOT_ENTRIES: u64 = 100;

async fn client(cluster: &Cluster) -> anyhow::Result<Client> {
    Ok(Client::connect(ClientConfig::new(cluster.endpoints())).await?)
}

/// Long enough for any scenario.
fn patient() -> SessionOptions {
    SessionOptions {
        ttl: Duration::from_secs(60),
        ..SessionOptions::default()
    }
}

/// A load on a cluster, to be judged in the end.
struct Work {
    arena: Arc<Arena>,
    load: Load,
}

impl Work {
    async fn start(cluster: &Cluster) -> anyhow::Result<Self> {
        let arena = Arc::new(Arena::spread(cluster, 4).await?);
        let mut options = LoadOptions::new(12, rand::random());
        // Two nodes may be down for a while: the point is what is kept, not for how long.
        options.ttl = Duration::from_secs(60);
        let load = Load::start(&arena, &cluster.endpoints(), &options);
        let work = Self { arena, load };
        work.serving(Moment(0)).await?;
        Ok(work)
    }

    fn now(&self) -> Moment {
        self.arena.recorder.now()
    }

    async fn serving(&self, since: Moment) -> anyhow::Result<()> {
        until("every shard grants", STEP, || async {
            match self.arena.grants.silent_since(since) {
                silent if silent.is_empty() => Ok(()),
                silent => Err(format!("shards {silent:?} do not")),
            }
        })
        .await?;
        Ok(())
    }

    async fn judge(self, cluster: &Cluster) -> anyhow::Result<()> {
        let finished = self.load.finish().await;
        if let Some(failure) = finished.failure {
            return Err(failure);
        }
        let mut judge = Judge::new(Expectations {
            sessions_survive: true,
        });
        let verdict = judge.judge(&finished.history);
        let first = verdict.violations.first();
        ensure!(verdict.is_clean(), "{}", first.context("a violation")?);
        let left_over = self.arena.wait_empty(cluster).await?;
        ensure!(left_over.is_none(), "{left_over:?}");
        cluster.wait_converged().await?;
        Ok(())
    }
}

/// Waits until every data shard has committed so many entries more.
async fn advance(cluster: &Cluster, asked: usize, entries: u64) -> anyhow::Result<()> {
    let committed = async || -> Result<Vec<u64>, String> {
        let status = cluster.status(asked).await;
        let shards = status.map_err(|error| format!("{error:#}"))?.shards;
        let data = shards.iter().filter(|shard| shard.shard != 0);
        Ok(data.map(|shard| shard.committed_index).collect())
    };
    let before = committed().await.map_err(anyhow::Error::msg)?;
    until("the logs have grown", STEP, || async {
        let now = committed().await?;
        let grown = |(old, new): (&u64, &u64)| *new >= *old + entries;
        if now.len() == before.len() && before.iter().zip(&now).all(grown) {
            Ok(())
        } else {
            Err(format!("committed {before:?}, now {now:?}"))
        }
    })
    .await?;
    Ok(())
}

/// Kill -9 at every point of a record's way to the disk. Each point is shown to be reached: the
/// process ends by itself.
#[tokio::test(flavor = "multi_thread")]
async fn kill9_at_every_restart_point() -> anyhow::Result<()> {
    let options = ClusterOptions::new("test-restart-points")
        .with_shards(2)
        .with_env("LOCKSTEP_SNAPSHOT_ENTRIES", SNAPSHOT_ENTRIES);
    with_cluster(options, LIMIT, async |cluster| {
        let work = Work::start(cluster).await?;
        for (nth, point) in [
            "log-append-before-sync:20",
            "log-append-after-sync:20",
            "snapshot-build-chunk",
            "snapshot-switch",
            "vote-saved",
            "snapshot-install-chunk",
            "snapshot-install-switch",
        ]
        .into_iter()
        .enumerate()
        {
            // One that leads: its followers elect meanwhile, so it comes back to a newer term.
            let leader = cluster.leader_of(1 + nth as u32 % 2).await;
            let victim = leader.context("no leader")?;
            cluster.kill(victim).await?;
            let dead = work.now();
            work.serving(dead).await.with_context(|| point)?;
            if point.starts_with("snapshot-install") {
                // Far behind: what it lacks is in no log any more.
                advance(cluster, (victim + 1) % 3, 12 * SNAPSHOT_ENTRIES).await?;
            }
            cluster.spawn_with(victim, &[("LOCKSTEP_CRASH_AT", point)])?;
            let status = cluster.wait_exit(victim, STEP).await;
            let status = status.with_context(|| format!("{point} was not reached"))?;
            ensure!(!status.success(), "{point}: the node ended with {status}");
            cluster.restart(victim).await.with_context(|| point)?;
            let back = work.now();
            work.serving(back).await.with_context(|| point)?;
        }
        work.judge(cluster).await
    })
    .await
}

/// All nodes lose power at one moment: every lock, waiter and session is there again.
#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_at_once_keep_locks_waiters_and_sessions() -> anyhow::Result<()> {
    let options = ClusterOptions::new("test-power-failure").with_shards(4);
    with_cluster(options, LIMIT, async |cluster| {
        let client = client(cluster).await?;
        let holder = client.open_session(patient()).await?;
        let waiter = client.open_session(patient()).await?;
        let mut held = vec![];
        let mut waiting = vec![];
        for number in 0..12 {
            let name = format!("power/{number}");
            held.push(holder.lock(&name).acquire().await?);
            waiting.push(tokio::spawn(waiter.lock(&name).acquire()));
            until("the waiter is in the queue", STEP, || async {
                let lock = client.get_lock(&name).await;
                match lock.map_err(|error| error.to_string())?.waiter_count {
                    1 => Ok(()),
                    other => Err(format!("{other} wait")),
                }
            })
            .await?;
        }
        for _ in 0..2 {
            cluster.kill_all().await?;
            cluster.spawn_all()?;
            cluster.wait_all_ready().await?;
            for guard in &mut held {
                let name = guard.name().to_owned();
                guard.renew().await.with_context(|| name.clone())?;
                let lock = client.get_lock(&name).await?;
                ensure!(lock.waiter_count == 1, "{lock:?}");
            }
        }
        for session in [&holder, &waiter] {
            ensure!(matches!(session.state(), SessionState::Alive { .. }));
        }
        for (guard, waiting) in held.into_iter().zip(waiting) {
            let token = guard.token();
            guard.release().await?;
            let next = tokio::time::timeout(STEP, waiting).await???;
            ensure!(next.token() > token, "{} after {token}", next.token());
            next.release().await?;
        }
        Ok(())
    })
    .await
}

/// Without the hand-over, a shard whose leader stopped would be silent for an election timeout,
/// which is made long here.
#[tokio::test(flavor = "multi_thread")]
async fn orderly_shutdown_hands_over() -> anyhow::Result<()> {
    let election = Duration::from_secs(20);
    let options = ClusterOptions::new("test-hand-over")
        .with_shards(4)
        .with_env("LOCKSTEP_ELECTION_TIMEOUT_MS", election.as_millis());
    with_cluster(options, LIMIT, async |cluster| {
        let work = Work::start(cluster).await?;
        for node in 0..cluster.size() {
            let led = cluster.leadership().await.led_by(node);
            let asked = work.now();
            cluster.terminate(node).await?;
            let gone = work.now();
            work.serving(gone).await?;
            for shard in led {
                let gap = work.arena.grants.longest_gap(shard, asked, work.now());
                ensure!(
                    gap < election / 4,
                    "shard {shard} granted nothing for {gap:?} while its leader stopped"
                );
            }
            cluster.restart(node).await?;
        }
        work.judge(cluster).await
    })
    .await
}

/// A node that comes back without its disk, under its old name and address and with the same list
/// of initial nodes, founds nothing and votes for nobody: with it, one of three is no majority.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_disk_founds_no_second_cluster() -> anyhow::Result<()> {
    let options = ClusterOptions::new("test-lost-disk").with_shards(2);
    with_cluster(options, LIMIT, async |cluster| {
        let client = client(cluster).await?;
        let session = client.open_session(patient()).await?;
        let mut held = session.lock("disk/1").acquire().await?;
        let founded = cluster.status(0).await?.cluster_id;
        let request = MinorityRequest::prepare(cluster, 0).await?;

        cluster.kill(2).await?;
        cluster.wipe(2)?;
        cluster.spawn(2)?;
        until("the wiped node answers", STEP, || async {
            let health = cluster.http(2, "/healthz").await;
            health.map_err(|error| error.to_string())
        })
        .await?;
        held.renew().await.context("two of three")?;

        cluster.kill(1).await?;
        for node in [0, 2] {
            let refused = request.refused_by(cluster, node).await?;
            ensure!(refused.is_ok(), "one of three and a wiped one: {refused:?}");
        }
        let ready = cluster.http(2, "/readyz").await?;
        ensure!(ready.status == 503, "the wiped node is ready: {ready:?}");
        if let Ok(status) = cluster.status(2).await {
            let known = [founded.as_str(), ""].contains(&status.cluster_id.as_str());
            ensure!(known, "a second cluster: {status:?}");
        }

        cluster.restart(1).await?;
        held.renew().await.context("two of three again")?;
        ensure!(cluster.status(1).await?.cluster_id == founded);
        held.release().await?;
        Ok(())
    })
    .await
}
