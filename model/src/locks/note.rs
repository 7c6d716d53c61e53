//! Telling those who watch.
//!
//! Invariant: a hold is removed in one place, and every way in which holds change is noted once.

use super::Locks;
use crate::{
    id::{FencingToken, LockName, Revision},
    kernel::Kernel,
    locks::{
        change::{Change, ChangeKind},
        lock::{Hold, Lock},
        mode::Mode,
    },
};

impl Locks {
    /// The number of the last change.
    pub(crate) const fn revision(&self) -> Revision {
        self.revision
    }

    /// The present holds of a lock, as changes of the present revision.
    pub(crate) fn present(&self, kernel: &Kernel, name: &LockName) -> Vec<Change> {
        let lock = self.table.get(name);
        lock.into_iter()
            .flat_map(|lock| self.holds_of(kernel, name, lock))
            .collect()
    }

    /// As [`Locks::present`], of all locks whose names begin so.
    pub(crate) fn present_with_prefix<'a>(
        &'a self,
        kernel: &'a Kernel,
        prefix: &'a str,
    ) -> impl Iterator<Item = Change> + 'a {
        self.table
            .iter()
            .filter(move |(name, _)| name.as_str().starts_with(prefix))
            .flat_map(|(name, lock)| self.holds_of(kernel, name, lock))
    }

    fn holds_of<'a>(
        &'a self,
        kernel: &'a Kernel,
        name: &'a LockName,
        lock: &'a Lock,
    ) -> impl Iterator<Item = Change> + 'a {
        lock.held.iter().filter_map(|(token, hold)| {
            let mode = lock.held.mode_of(hold)?;
            Some(self.change(kernel, ChangeKind::Present, name, token, hold, mode))
        })
    }

    /// Notes a change of a hold that is there.
    pub(super) fn note(
        &mut self,
        kernel: &Kernel,
        kind: ChangeKind,
        name: &LockName,
        token: FencingToken,
    ) {
        let Some(lock) = self.table.get(name) else {
            return;
        };
        let Some((hold, mode)) = lock
            .held
            .get(token)
            .and_then(|hold| Some((hold, lock.held.mode_of(hold)?)))
        else {
            return;
        };
        let change = self.change(kernel, kind, name, token, hold, mode);
        self.publish(change);
    }

    /// Takes a hold from its lock; not from its session.
    pub(super) fn remove_hold(
        &mut self,
        kernel: &Kernel,
        name: &LockName,
        token: FencingToken,
    ) -> Option<Hold> {
        let held = &mut self.table.get_mut(name)?.held;
        let mode = held.mode_of(held.get(token)?)?;
        let hold = held.remove(token)?;
        let change = self.change(kernel, ChangeKind::Released, name, token, &hold, mode);
        self.publish(change);
        Some(hold)
    }

    fn change(
        &self,
        kernel: &Kernel,
        kind: ChangeKind,
        name: &LockName,
        token: FencingToken,
        hold: &Hold,
        mode: Mode,
    ) -> Change {
        Change {
            revision: self.revision,
            at: kernel.wall(),
            name: name.clone(),
            kind,
            session: hold.session,
            owner: hold.owner.clone(),
            mode,
            token,
            value: hold.value.clone(),
        }
    }

    fn publish(&mut self, change: Change) {
        self.revision = self.revision.next();
        let revision = self.revision;
        self.changes.push(Change { revision, ..change });
    }
}
