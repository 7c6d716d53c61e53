//! A cluster is gone for good, and a new one goes on from its backup.

use std::fs;

use super::{DrillOptions, Exercise, Going, Outcome};
use crate::{
    checker::{Expectations, Violation},
    cluster::ClusterOptions,
    console::say,
    figure::quantile,
};

/// Grants after the backup and before the cluster is gone: the ones that the backup knows nothing of.
const GRANTS_AFTER: usize = 500;

/// Each cycle saves a backup while the clients go on, has them take more locks that the backup has
/// never heard of, deletes the whole cluster, founds a new one, restores the backup into it twice, and
/// sends the clients there. The checker knows each lock's tokens from before: none may go back. A
/// backup that is damaged, and a cluster that is in use, must be refused.
///
/// # Errors
/// If the harness itself fails.
pub async fn restore(options: DrillOptions, cluster: ClusterOptions) -> anyhow::Result<Outcome> {
    let cycles = options.cycles;
    let expectations = Expectations {
        // Each round's sessions end before the cluster does.
        sessions_survive: true,
    };
    let mut exercise = Exercise::start("restore", options, cluster, expectations).await?;
    let files = tempfile::tempdir()?;
    let (mut saving, mut restoring) = (vec![], vec![]);
    for cycle in 1..=cycles {
        let file = files.path().join(format!("{cycle}.backup"));
        let file = file.display().to_string();
        let begin = exercise.now();
        let said = exercise
            .cluster
            .lockstepctl(&["backup", "save", &file])
            .await?;
        let saved = exercise.now();
        saving.push(saved.since(begin).as_secs_f64());
        exercise.granted(GRANTS_AFTER, saved).await?;
        refuses(
            &mut exercise,
            &file,
            "a cluster that is in use takes no backup",
        )
        .await;
        exercise.pause_load().await?;

        exercise.cluster.kill_all().await?;
        for node in 0..exercise.cluster.size() {
            exercise.cluster.wipe(node)?;
        }
        exercise.cluster.spawn_all()?;
        exercise.cluster.wait_all_ready().await?;

        let damaged = damage(&file)?;
        refuses(&mut exercise, &damaged, "a damaged backup is refused").await;
        let begin = exercise.now();
        for _ in 0..2 {
            exercise
                .cluster
                .lockstepctl(&["backup", "restore", &file])
                .await?;
        }
        let restored = exercise.now();
        restoring.push(restored.since(begin).as_secs_f64() / 2.0);
        exercise.resume_load();
        let when = format!("after the restore (cycle {cycle})");
        if exercise.serving(&when, restored).await? == Going::Stuck {
            break;
        }
        exercise.granted(GRANTS_AFTER, restored).await?;
        say(format_args!("cycle {cycle}/{cycles}: {}", said.trim_end()));
    }
    let figures = exercise.figures();
    figures.note("clusters_lost", restoring.len() as f64, "count");
    figures.note("save_p50", quantile(&saving, 0.5), "s");
    figures.note("save_max", quantile(&saving, 1.0), "s");
    figures.note("restore_p50", quantile(&restoring, 0.5), "s");
    figures.note("restore_max", quantile(&restoring, 1.0), "s");
    exercise.finish().await
}

/// Sees that a restore is refused.
async fn refuses(exercise: &mut Exercise, file: &str, what: &str) {
    let arguments = ["backup", "restore", file];
    if exercise.cluster.lockstepctl(&arguments).await.is_ok() {
        let what = what.to_owned();
        exercise.report(Violation::Unmet { what });
    }
}

/// A copy of a file with one bit turned in its middle.
fn damage(file: &str) -> anyhow::Result<String> {
    let mut bytes = fs::read(file)?;
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    let name = format!("{file}.damaged");
    fs::write(&name, bytes)?;
    Ok(name)
}
