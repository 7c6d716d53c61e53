//! Short drills: each fault once or twice, under a load whose history is judged.

use anyhow::ensure;
use lockstep_drill::{
    checker::Expectations,
    cluster::ClusterOptions,
    drill::{
        Cut, DrillOptions, Exercise, Going, MinorityRequest, Outcome, descriptors, kill, pause,
    },
};

fn options(cycles: u32) -> DrillOptions {
    DrillOptions {
        cycles,
        clients: 16,
        seed: rand::random(),
        shards: 4,
    }
}

fn clean(outcome: &Outcome) -> anyhow::Result<()> {
    let counts = outcome.verdict.counts;
    ensure!(outcome.verdict.is_clean(), "{outcome}");
    ensure!(
        counts.refused == 0,
        "well-formed requests were refused: {counts:?}"
    );
    ensure!(counts.grants > 10, "hardly any load: {counts:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kill9_under_load() -> anyhow::Result<()> {
    clean(&kill(options(3), ClusterOptions::new("test-kill9")).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_longer_than_an_election() -> anyhow::Result<()> {
    clean(&pause(options(2), ClusterOptions::new("test-pause")).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn more_silent_connections_than_open_files() -> anyhow::Result<()> {
    let cluster = ClusterOptions::new("test-descriptors");
    clean(&descriptors(options(1), cluster).await?)
}

/// The leader of a shard is cut off in every way. The others must elect, the minority must refuse,
/// and all must be well after healing.
#[tokio::test(flavor = "multi_thread")]
async fn partition_minority_refuses_and_heals() -> anyhow::Result<()> {
    let cluster = ClusterOptions::new("test-partition").with_links();
    let expectations = Expectations {
        sessions_survive: false,
    };
    let mut exercise = Exercise::start("partition", options(1), cluster, expectations).await?;
    for (salt, kind) in [Cut::Isolate, Cut::Mute, Cut::Deafen]
        .into_iter()
        .enumerate()
    {
        let (leader, led) = exercise.draw_leader().await?;
        let cut = kind(leader);
        let request = MinorityRequest::prepare(&exercise.cluster, salt as u32).await?;
        cut.apply(exercise.cluster.links()?);
        let begin = exercise.now();
        let going = exercise.serving(&format!("during {cut:?}"), begin).await?;
        ensure!(
            going == Going::On,
            "shards {led:?} are stuck during {cut:?}"
        );
        let refused = request.refused_by(&exercise.cluster, leader).await?;
        ensure!(refused.is_ok(), "during {cut:?}: {refused:?}");
        exercise.cluster.links()?.heal();
        let healed = exercise.now();
        exercise.cluster.wait_all_ready().await?;
        let going = exercise.serving(&format!("after {cut:?}"), healed).await?;
        ensure!(going == Going::On, "shards are stuck after {cut:?}");
    }
    clean(&exercise.finish().await?)
}

/// Two nodes do not hear each other, or one does not hear the other; a third hears both. Nothing
/// may get stuck, and no leader may be unseated again and again.
#[tokio::test(flavor = "multi_thread")]
async fn cuts_between_two_of_three() -> anyhow::Result<()> {
    let cluster = ClusterOptions::new("test-cuts").with_links();
    let expectations = Expectations {
        sessions_survive: false,
    };
    let mut exercise = Exercise::start("cuts", options(1), cluster, expectations).await?;
    for kind in [Cut::Pair, Cut::OneWay] {
        let (leader, _) = exercise.draw_leader().await?;
        let cut = kind(leader, (leader + 1) % 3);
        cut.apply(exercise.cluster.links()?);
        let begin = exercise.now();
        let going = exercise.serving(&format!("during {cut:?}"), begin).await?;
        ensure!(going == Going::On, "shards are stuck during {cut:?}");
        exercise.cluster.links()?.heal();
        let healed = exercise.now();
        let going = exercise.serving(&format!("after {cut:?}"), healed).await?;
        ensure!(going == Going::On, "shards are stuck after {cut:?}");
    }
    clean(&exercise.finish().await?)
}
