//! The last changes of a shard's holders, in memory, on every replica.
//!
//! Invariant: the changes that are kept have no gap between them, and are at most [`MAX_CHANGES`] of
//! at most [`MAX_BYTES`] together, however many watch.

use std::collections::VecDeque;

use lockstep_model::{Revision, locks::change::Change};
use parking_lot::Mutex;
use tokio::sync::watch;

/// Most changes that a shard keeps: at 2,500 a second, what a busy shard has, those of three
/// seconds, which is longer than it takes to come back to another node.
pub const MAX_CHANGES: usize = 8_192;
/// Most bytes of names and values among them.
pub const MAX_BYTES: usize = 4 << 20;

/// What came after a revision is forgotten, or the shard never came so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the changes after this revision are not known any more: begin with the present holders")]
pub struct Compacted;

/// The last changes.
#[derive(Debug)]
pub struct History {
    kept: Mutex<Kept>,
    latest: watch::Sender<Revision>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Of the change before the first that is kept.
    base: Revision,
    changes: VecDeque<Change>,
    bytes: usize,
}

impl Default for History {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            latest: watch::Sender::new(Revision(0)),
        }
    }
}

fn size(change: &Change) -> usize {
    change.name.as_str().len() + change.owner.as_str().len() + change.value.as_bytes().len()
}

impl History {
    /// Begins anew after a revision.
    pub fn restart(&self, revision: Revision) {
        *self.kept.lock() = Kept {
            base: revision,
            ..Kept::default()
        };
        self.latest.send_replace(revision);
    }

    /// Adds what a log entry has changed.
    pub fn append(&self, changes: Vec<Change>) {
        let Some(last) = changes.last().map(|change| change.revision) else {
            return;
        };
        {
            let mut kept = self.kept.lock();
            kept.bytes += changes.iter().map(size).sum::<usize>();
            kept.changes.extend(changes);
            while kept.changes.len() > MAX_CHANGES || kept.bytes > MAX_BYTES {
                let Some(oldest) = kept.changes.pop_front() else {
                    break;
                };
                kept.base = oldest.revision;
                kept.bytes -= size(&oldest);
            }
        }
        self.latest.send_replace(last);
    }

    /// At most `limit` changes after a revision; none while that is still to come.
    ///
    /// # Errors
    /// If they are not all known any more.
    pub fn after(&self, revision: Revision, limit: usize) -> Result<Vec<Change>, Compacted> {
        let kept = self.kept.lock();
        let skip = revision.0.checked_sub(kept.base.0).ok_or(Compacted)?;
        let skip = usize::try_from(skip).map_err(|_| Compacted)?;
        Ok(kept
            .changes
            .iter()
            .skip(skip)
            .take(limit)
            .cloned()
            .collect())
    }

    /// The revision of the last change, as it grows.
    #[must_use]
    pub fn latest(&self) -> watch::Receiver<Revision> {
        self.latest.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use lockstep_model::{
        FencingToken, LockName, Mode, Owner, SessionId, Timestamp, Value, locks::change::ChangeKind,
    };

    use super::*;

    fn change(revision: u64, value: &[u8]) -> Change {
        Change {
            revision: Revision(revision),
            at: Timestamp(0),
            name: LockName::new("l").unwrap(),
            kind: ChangeKind::Acquired,
            session: SessionId(1),
            owner: Owner::default(),
            mode: Mode::Exclusive,
            token: FencingToken(revision),
            value: Value::new(value).unwrap(),
        }
    }

    fn revisions(history: &History, after: u64, limit: usize) -> Result<Vec<u64>, Compacted> {
        let changes = history.after(Revision(after), limit)?;
        Ok(changes.iter().map(|change| change.revision.0).collect())
    }

    #[test]
    fn a_watch_goes_on_where_it_was_or_hears_that_it_cannot() {
        let history = History::default();
        history.restart(Revision(10));
        history.append((11..=14).map(|revision| change(revision, b"")).collect());
        assert_eq!(revisions(&history, 10, 9), Ok(vec![11, 12, 13, 14]));
        assert_eq!(revisions(&history, 12, 1), Ok(vec![13]));
        assert_eq!(revisions(&history, 14, 9), Ok(vec![]));
        assert_eq!(revisions(&history, 9, 9), Err(Compacted), "before it began");
        assert_eq!(revisions(&history, 15, 9), Ok(vec![]), "still to come");
        history.restart(Revision(20));
        assert_eq!(revisions(&history, 14, 9), Err(Compacted), "a gap");
        assert_eq!(*history.latest().borrow(), Revision(20));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let history = History::default();
        let last = MAX_CHANGES as u64 + 5;
        for revision in 1..=last {
            history.append(vec![change(revision, b"")]);
        }
        assert_eq!(revisions(&history, 4, 1), Err(Compacted));
        assert_eq!(revisions(&history, 5, 1), Ok(vec![6]));
        let large = [7; 4_096];
        let count = (MAX_BYTES / large.len()) as u64;
        let more = (1..=count)
            .map(|more| change(last + more, &large))
            .collect();
        history.append(more);
        assert!(revisions(&history, last + 1, 1).is_ok());
        assert_eq!(revisions(&history, last - 1, 1), Err(Compacted));
    }
}
