//! The node that leads a lock's shard dies while the lock is held and waited for.

use anyhow::Context;
use lockstep_client::Mode;
use tokio::time::Instant;

use super::stage::Stage;
use crate::cluster::Cluster;

const LOCK: &str = "demo/payments";

pub(super) async fn show(stage: &Stage, cluster: &mut Cluster) -> anyhow::Result<()> {
    stage.heading(3, "The node in charge is killed while the lock is held");
    let a = stage.program("program A").await?;
    let b = stage.program("program B").await?;
    let mut held = a.lock(LOCK, Mode::Exclusive).await?;
    let pending = b.ask(LOCK, Mode::Exclusive);
    stage.see(LOCK, 1, 1).await?;
    let first = held.token();
    let shard = stage.client.get_lock(LOCK).await?.shard.0;
    let leader = cluster.leader_of(shard).await;
    let leader = leader.with_context(|| format!("shard {shard} has no leader"))?;
    let name = format!("node-{}", leader + 1);
    stage.tell(format_args!(
        "program A has {LOCK} (token {first}), B waits; it is on shard {shard}, led by {name}"
    ));

    let death = Instant::now();
    cluster.kill(leader).await?;
    stage.tell(format_args!("kill -9 of {name}"));
    held.renew()
        .await
        .context("A's lock after the leader's death")?;
    let valid = stage.client.validate(LOCK, first).await?;
    stage.holds(
        format_args!(
            "A still has it, under the same token: the others confirmed it {:.1} s later",
            death.elapsed().as_secs_f64()
        ),
        valid && held.is_held(),
    )?;
    let successor = cluster.wait_leaders("another node leads", |node| node != leader);
    let successor = successor.await?.leader_of(shard);
    let successor = successor.context("the shard has no leader again")?;
    stage.holds(
        format_args!(
            "node-{} leads shard {shard} now; B is still next",
            successor + 1
        ),
        !pending.is_answered(),
    )?;
    held.release().await?;
    let granted = pending.granted().await?;
    let second = granted.token();
    stage.holds(
        format_args!("A is done, and what was pending is granted: B has token {second}"),
        second > first,
    )?;
    granted.release().await?;

    stage.heading(4, "The killed node comes back");
    cluster.restart(leader).await?;
    stage.holds(format_args!("{name} has caught up and is ready"), true)?;
    let last = a.lock(LOCK, Mode::Exclusive).await?;
    stage.holds(
        format_args!(
            "tokens have only grown: {first}, {second}, {}",
            last.token()
        ),
        last.token() > second,
    )?;
    last.release().await?;
    a.leave().await?;
    b.leave().await
}
