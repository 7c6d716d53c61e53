//! Programs that are run on a cluster's nodes and directories, as an operator would run them.
//!
//! Invariant: they are the ones that were built with the nodes' program, and each ends within a bound.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use tokio::{process::Command, time::timeout};

use super::{Cluster, READY_LIMIT, binary};

impl Cluster {
    /// The data directory of a node.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn data_dir(&self, at: usize) -> anyhow::Result<PathBuf> {
        Ok(self.node(at)?.data().to_owned())
    }

    /// Runs `lockstepctl` on the cluster; what it says.
    ///
    /// # Errors
    /// If it is not beside the node program, takes too long, or fails; with what it says.
    pub async fn lockstepctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let program = binary::node_program()?.with_file_name("lockstepctl");
        let mut command = Command::new(&program);
        command
            .args(arguments)
            .env("LOCKSTEP_ENDPOINTS", self.endpoints().join(","))
            .kill_on_drop(true);
        let ran = timeout(READY_LIMIT, command.output()).await;
        let ran = ran.with_context(|| format!("lockstepctl {arguments:?} takes too long"))?;
        let ran = ran.with_context(|| format!("starting {}", program.display()))?;
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        ensure!(
            ran.status.success(),
            "lockstepctl {arguments:?}: {}: {said}{}",
            ran.status,
            String::from_utf8_lossy(&ran.stderr)
        );
        Ok(said)
    }

    /// Makes a new cluster of the directories of these nodes, which must not run.
    ///
    /// # Errors
    /// As [`Self::lockstepctl`].
    pub async fn recover(&self, nodes: &[usize]) -> anyhow::Result<String> {
        let mut arguments = vec!["recover".to_owned(), "--yes".to_owned()];
        for at in nodes {
            let dir = self.data_dir(*at)?;
            arguments.push("--data-dir".to_owned());
            arguments.push(dir.display().to_string());
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.lockstepctl(&arguments).await
    }
}
