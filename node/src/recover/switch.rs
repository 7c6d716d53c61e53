//! Changing the directories.
//!
//! Invariants: each is marked before any is changed; each changes as a whole, and stays closed to
//! nodes; and all are changed before the first is opened. Whatever is interrupted is finished by
//! repeating it.

use anyhow::Context as _;
use lockstep_model::{Timestamp, meta::ClusterView};

use super::{
    directory::Directory,
    mark::{self, Mark, Stage},
    plan::Plan,
    prepare::Ready,
};
use crate::identity::{Founding, Identity};

const UNFINISHED: &str =
    "the recovery is not finished: repeat the command with the same directories";

/// A recovery that changes directories.
pub(super) struct Switch<'a> {
    pub(super) directories: &'a [Directory],
    pub(super) plan: &'a Plan,
    /// The new tables.
    pub(super) view: &'a ClusterView,
    /// Before this time nobody may get what old sessions' clients may still believe in.
    pub(super) not_before: Timestamp,
}

impl Switch<'_> {
    fn mark(&self, stage: Stage) -> Vec<u8> {
        let mark = Mark {
            stage,
            old: self.plan.old,
            new: self.plan.new,
            not_before: self.not_before,
        };
        mark.encode()
    }

    async fn put_mark(&self, one: &Directory, stage: Stage) -> anyhow::Result<()> {
        let put = one.storage.put_meta(mark::KEY, &self.mark(stage)).await;
        put.with_context(|| format!("{}: {UNFINISHED}", one.path.display()))
    }

    /// Marks all that will be changed.
    pub(super) async fn begin(&self) -> anyhow::Result<()> {
        for (at, one) in self.directories.iter().enumerate() {
            if self.plan.open.contains(&at) {
                self.put_mark(one, Stage::Begun).await?;
            }
        }
        Ok(())
    }

    /// Changes one.
    pub(super) async fn place(&self, at: usize, ready: &Ready) -> anyhow::Result<()> {
        let one = self
            .directories
            .get(at)
            .context("a plan for other directories")?;
        let identity = Identity {
            cluster: self.plan.new,
            node: one.identity.node,
            state: Founding::Active,
            plan: self.view.clone(),
        };
        let records = [identity.record(), (mark::KEY, self.mark(Stage::Placed))];
        let put = one
            .storage
            .put_in_place(&ready.staged, &ready.dropped, &records)
            .await;
        put.with_context(|| format!("{}: {UNFINISHED}", one.path.display()))
    }

    /// Opens all to nodes. To be called when all are changed. One that is open already may have been
    /// run on, and stays as it is.
    pub(super) async fn finish(&self) -> anyhow::Result<()> {
        for one in self.directories {
            let open = |mark: &Mark| mark.stage == Stage::Done && mark.new == self.plan.new;
            if !one.mark.as_ref().is_some_and(open) {
                self.put_mark(one, Stage::Done).await?;
            }
        }
        Ok(())
    }
}
