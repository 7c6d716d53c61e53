//! Snapshots from node to node: they go on where they broke off, keep to their rate, and are sent to
//! nobody who finds what it lacks in the log.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use lockstep_client::{Client, ClientConfig, Session, SessionOptions};
use lockstep_drill::{
    cluster::{Cluster, ClusterOptions, with_cluster},
    load::ballast,
    poll::until,
};

/// For a whole scenario: several starts and elections on a busy machine.
const LIMIT: Duration = Duration::from_secs(150);
/// For one of them.
const STEP: Duration = Duration::from_secs(60);
/// The only data shard.
const SHARD: u32 = 1;
/// Few, so that snapshots are made and logs are purged soon; half as many stay.
const SNAPSHOT_ENTRIES: u64 = 100;
const MIB: f64 = 1_048_576.0;

const SENT: &str = "lockstep_snapshot_bytes_sent_total";
const RECEIVED: &str = "lockstep_snapshot_bytes_received_total";
const RECEIVED_WHOLE: &str = "lockstep_snapshots_received_total";
const BUILDS: &str = "lockstep_snapshot_builds_total";
const PURGED: &str = "lockstep_raft_purged_index";
const SIZE: &str = "lockstep_snapshot_size_bytes";
const APPLIED: &str = "lockstep_raft_applied_index";

fn options(name: &str) -> ClusterOptions {
    ClusterOptions::new(name)
        .with_shards(1)
        .with_env("LOCKSTEP_SNAPSHOT_ENTRIES", SNAPSHOT_ENTRIES)
}

async fn session(cluster: &Cluster) -> anyhow::Result<Session> {
    let client = Client::connect(ClientConfig::new(cluster.endpoints())).await?;
    let options = SessionOptions {
        ttl: Duration::from_secs(60),
        ..SessionOptions::default()
    };
    Ok(client.open_session(options).await?)
}

/// Puts so many entries at least into the log: an acquisition and a release, one after the other, are
/// one each.
async fn write(session: &Session, entries: u64) -> anyhow::Result<()> {
    for _ in 0..entries.div_ceil(2) {
        session.lock("written").acquire().await?.release().await?;
    }
    Ok(())
}

/// The shard's leader, and a node that does not lead it.
async fn leader_and_follower(cluster: &Cluster) -> anyhow::Result<(usize, usize)> {
    let leader = cluster.leader_of(SHARD).await.context("no leader")?;
    Ok((leader, (leader + 1) % cluster.size()))
}

/// Waits until a node has applied all that another has.
async fn caught_up(cluster: &Cluster, node: usize, leader: usize) -> anyhow::Result<()> {
    let applied = async |at| {
        let samples = cluster.metrics(at).await;
        let samples = samples.map_err(|error| format!("{error:#}"))?;
        Ok::<_, String>(samples.of_shard(APPLIED, SHARD))
    };
    until("the follower has all", STEP, || async {
        let (own, all) = (applied(node).await?, applied(leader).await?);
        if own.is_some() && own == all {
            Ok(())
        } else {
            Err(format!("it has {own:?} of {all:?}"))
        }
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_breaks_off_goes_on_and_keeps_to_its_rate() -> anyhow::Result<()> {
    const RATE_MIB: usize = 1;
    const BALLAST_MIB: usize = 4;
    let options = ClusterOptions {
        links: true,
        ..options("test-snapshot-resume").with_env("LOCKSTEP_SNAPSHOT_MIB_PER_SECOND", RATE_MIB)
    };
    with_cluster(options, LIMIT, async |cluster| {
        let session = session(cluster).await?;
        let (leader, follower) = leader_and_follower(cluster).await?;
        ballast::place(cluster.locks(leader)?, BALLAST_MIB << 20).await?;
        cluster.kill(follower).await?;
        write(&session, 4 * SNAPSHOT_ENTRIES).await?;
        let before = cluster.metrics(leader).await?.sum(SENT);
        let begin = Instant::now();
        cluster.spawn(follower)?;
        let sent = until("half of it is sent", STEP, || async {
            let samples = cluster.metrics(leader).await;
            let sent = samples.map_err(|error| error.to_string())?.sum(SENT) - before;
            if sent > BALLAST_MIB as f64 / 2.0 * MIB {
                Ok(sent)
            } else {
                Err(format!("{sent} bytes"))
            }
        })
        .await?;
        cluster.links()?.sever(leader, follower);
        caught_up(cluster, follower, leader).await?;
        let took = begin.elapsed().as_secs_f64();

        let (ours, theirs) = (
            cluster.metrics(leader).await?,
            cluster.metrics(follower).await?,
        );
        let size = ours.of_shard(SIZE, SHARD).context("it has a snapshot")?;
        ensure!(sent < size * 0.9, "it was nearly over: {sent} of {size}");
        ensure!((theirs.sum(RECEIVED_WHOLE) - 1.0).abs() < 0.5);
        let received = theirs.sum(RECEIVED);
        ensure!(
            (received - size).abs() < 1.0,
            "a snapshot of {size} bytes came as {received}: what was there was sent again"
        );
        // What was under way when the connection broke is lost.
        let sent = ours.sum(SENT) - before;
        ensure!(sent < size + MIB, "{sent} bytes were sent for {size}");
        let least = size / MIB / RATE_MIB as f64 - 0.5;
        ensure!(took > least, "{size} bytes came within {took} s");
        Ok(())
    })
    .await
}

/// Writes until a node has made one more snapshot; up to where it has applied then.
async fn write_until_snapshot(
    session: &Session,
    cluster: &Cluster,
    node: usize,
) -> anyhow::Result<f64> {
    let before = cluster.metrics(node).await?.sum(BUILDS);
    for _ in 0..2 * SNAPSHOT_ENTRIES {
        write(session, 2).await?;
        let samples = cluster.metrics(node).await?;
        if samples.sum(BUILDS) > before {
            return samples.of_shard(APPLIED, SHARD).context("it is there");
        }
    }
    bail!("no snapshot was made")
}

/// Waits until what comes before an index is not in a node's log any more.
async fn purged(cluster: &Cluster, node: usize, index: f64) -> anyhow::Result<()> {
    until("the log is purged", STEP, || async {
        let samples = cluster.metrics(node).await;
        let samples = samples.map_err(|error| format!("{error:#}"))?;
        match samples.of_shard(PURGED, SHARD) {
            Some(purged) if purged >= index => Ok(()),
            other => Err(format!("{other:?} of {index}")),
        }
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_follower_reads_the_log_and_one_far_behind_recovers() -> anyhow::Result<()> {
    const MISSED: u64 = 30;
    with_cluster(options("test-snapshot-slack"), LIMIT, async |cluster| {
        let session = session(cluster).await?;
        let (leader, follower) = leader_and_follower(cluster).await?;
        // It misses the end of what a snapshot covers, less than what is kept of that.
        write_until_snapshot(&session, cluster, leader).await?;
        write(&session, SNAPSHOT_ENTRIES - MISSED).await?;
        caught_up(cluster, follower, leader).await?;
        cluster.kill(follower).await?;
        let end = write_until_snapshot(&session, cluster, leader).await?;
        purged(cluster, leader, end - SNAPSHOT_ENTRIES as f64 / 2.0 - 10.0).await?;
        cluster.spawn(follower)?;
        caught_up(cluster, follower, leader).await?;
        let received = cluster.metrics(follower).await?.sum(RECEIVED);
        ensure!(
            received < 1.0,
            "{received} bytes for one that lacks less than what is kept"
        );

        let last = cluster.metrics(follower).await?.of_shard(APPLIED, SHARD);
        cluster.kill(follower).await?;
        write(&session, 3 * SNAPSHOT_ENTRIES).await?;
        purged(cluster, leader, last.context("it is there")? + 1.0).await?;
        cluster.spawn(follower)?;
        caught_up(cluster, follower, leader).await?;
        let whole = cluster.metrics(follower).await?.sum(RECEIVED_WHOLE);
        ensure!(whole > 0.5, "it came back without a snapshot");
        Ok(())
    })
    .await
}
