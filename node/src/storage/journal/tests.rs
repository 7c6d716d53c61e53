//! Tests of the journal as a whole: what is found again, what is refused, what is reused.

use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::storage::family::Family;

/// So small that a few groups fill a segment, and some of them a step.
const SMALL: Limits = Limits {
    segment_bytes: 4_096,
    step_bytes: 512,
};

fn op(number: u64, bytes: usize) -> Op {
    Op::Put(
        Family::Log,
        number.to_be_bytes().to_vec(),
        vec![b'x'; bytes],
    )
}

/// Groups, each with its changes.
type Groups = Vec<(u64, Vec<Op>)>;

/// A database that notes what it is given.
#[derive(Debug, Default)]
struct Noted {
    /// What it was given since it was opened.
    applied: Groups,
    flushes: usize,
}

impl Database for Noted {
    type Error = JournalError;

    fn apply(&mut self, group: Group, ops: &[Op]) -> Result<(), JournalError> {
        self.applied.push((group.0, ops.to_vec()));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        self.flushes += 1;
        Ok(())
    }
}

/// Opens it, and gives what it had.
fn reopen(dir: &Path, flushed: Group) -> Result<(Journal, Groups), JournalError> {
    let mut database = Noted::default();
    let journal = Journal::open_with(dir, flushed, Group(0), SMALL, &mut database)?;
    let anything = usize::from(!database.applied.is_empty());
    assert_eq!(database.flushes, anything, "what is found is written anew");
    Ok((journal, database.applied))
}

fn append(journal: &mut Journal, number: u64, bytes: usize) {
    let ops = [op(number, bytes)];
    assert_eq!(journal.append(ops.iter()).unwrap(), Group(number));
}

/// What a journal holds that was killed: its files as they are.
fn killed(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(dir).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

/// The file that is written to.
fn active(dir: &Path) -> PathBuf {
    segment::path(dir, *segment::list(dir).unwrap().last().unwrap())
}

fn change(path: &Path, at: usize, bytes: &[u8]) {
    let mut content = fs::read(path).unwrap();
    content[at..at + bytes.len()].copy_from_slice(bytes);
    fs::write(path, content).unwrap();
}

#[test]
fn what_was_written_is_found_again_over_many_openings_and_segments() {
    let dir = tempfile::tempdir().unwrap();
    let mut flushed = 0;
    for round in 0..5_u64 {
        let (mut journal, found) = reopen(dir.path(), Group(flushed)).unwrap();
        let expected: Groups = (flushed + 1..=round * 20)
            .map(|number| (number, vec![op(number, 300)]))
            .collect();
        assert!(found == expected, "after {round} openings");
        for number in round * 20 + 1..=round * 20 + 20 {
            append(&mut journal, number, 300);
            if journal.is_full() {
                journal.rotate().unwrap();
            }
        }
        let files = segment::list(dir.path()).unwrap();
        assert!(files.len() >= 2, "it has gone on in another");
        // What was found is in the database now, and a background flush may have come half-way since.
        flushed = round * 20 + round;
    }
    // What the database has by itself is not given to it again.
    let (_, found) = reopen(killed(dir.path()).path(), Group(93)).unwrap();
    assert_eq!(found.first().map(|(number, _)| *number), Some(94));
    assert_eq!(found.len(), 7);
}

/// What was found may be in the page cache alone, if its sync failed: nothing of it is needed any more.
#[test]
fn what_was_found_is_the_databases_and_its_segments_are_released() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = reopen(dir.path(), Group(0)).unwrap();
    for number in 1..=30 {
        append(&mut journal, number, 300);
        if journal.is_full() {
            journal.rotate().unwrap();
        }
    }
    let before = segment::list(dir.path()).unwrap();
    assert!(before.len() > 2);
    let (_, found) = reopen(dir.path(), Group(0)).unwrap();
    assert_eq!(found.len(), 30);
    let after = segment::list(dir.path()).unwrap();
    assert!(after.len() == 1 && !before.contains(&after[0]), "{after:?}");

    // A crash may come before they are released, and they may be anything then.
    let old = segment::path(dir.path(), before[0]);
    fs::write(&old, [0; 700]).unwrap();
    let (mut journal, found) = reopen(dir.path(), Group(30)).unwrap();
    assert!(found.is_empty());
    append(&mut journal, 31, 100);
    assert!(!old.exists());
}

#[test]
fn a_journal_that_is_gone_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let error = reopen(dir.path(), Group(3)).unwrap_err();
    assert!(
        matches!(error, JournalError::Gone { database: 3, .. }),
        "{error}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn released_segments_are_written_over_and_what_they_had_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = reopen(dir.path(), Group(0)).unwrap();
    let mut flushed = Group(0);
    let mut number = 0;
    for _ in 0..10 {
        while !journal.is_full() {
            number += 1;
            append(&mut journal, number, 200);
        }
        journal.rotate().unwrap();
        assert_eq!(journal.old.len(), 1);
        journal.release().unwrap();
        assert!(journal.old.is_empty());
        flushed = journal.written;
    }
    append(&mut journal, number + 1, 200);
    let count = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(count, 2, "the active one and a spare one");
    let (_, found) = reopen(killed(dir.path()).path(), flushed).unwrap();
    assert_eq!(found, [(number + 1, vec![op(number + 1, 200)])]);
    // The database must have come to where the oldest segment begins.
    let error = reopen(dir.path(), Group(flushed.0 - 1)).unwrap_err();
    assert!(matches!(error, JournalError::Missing { .. }), "{error}");
}

#[test]
fn an_end_is_told_from_damage_by_what_was_known_to_be_durable() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = reopen(dir.path(), Group(0)).unwrap();
    append(&mut journal, 1, 100);
    journal.sync().unwrap();
    let second = usize::try_from(journal.active.length()).unwrap();
    append(&mut journal, 2, 100);
    append(&mut journal, 3, 100);
    // Neither was synced: a device may have written the third and not the second.
    let lost = killed(dir.path());
    change(&active(lost.path()), second + 50, b"damage");
    let (mut again, found) = reopen(lost.path(), Group(0)).unwrap();
    assert_eq!(found, [(1, vec![op(1, 100)])]);
    // The third, still there, does not come after another second of the same length.
    append(&mut again, 2, 100);
    drop(again);
    let (_, found) = reopen(lost.path(), Group(1)).unwrap();
    assert_eq!(found.len(), 1);

    journal.sync().unwrap();
    append(&mut journal, 4, 100);
    let damaged = killed(dir.path());
    let path = active(damaged.path());
    change(&path, second + 50, b"damage");
    let before = fs::read(&path).unwrap();
    let error = reopen(damaged.path(), Group(0)).unwrap_err();
    let at_second = matches!(error, JournalError::Damaged { at, group: 2, .. } if at == second);
    assert!(at_second, "{error}");
    assert_eq!(fs::read(&path).unwrap(), before, "it is left as it is");
}

/// Its files may have what the journal had not synced when the machine lost power.
#[test]
fn the_database_may_have_come_further_than_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = reopen(dir.path(), Group(0)).unwrap();
    (1..=3).for_each(|number| append(&mut journal, number, 100));
    let (mut journal, found) = reopen(dir.path(), Group(5)).unwrap();
    assert!(found.is_empty());
    append(&mut journal, 6, 100);
    let (_, found) = reopen(dir.path(), Group(5)).unwrap();
    assert!(found == [(6, vec![op(6, 100)])]);
    let error = reopen(dir.path(), Group(4)).unwrap_err();
    assert!(matches!(error, JournalError::Missing { .. }), "{error}");
}

#[test]
fn a_segment_that_was_not_begun_is_left_out_and_a_damaged_beginning_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = reopen(dir.path(), Group(0)).unwrap();
    append(&mut journal, 1, 100);
    let next = segment::path(dir.path(), Generation { number: 2, salt: 9 });
    for begun in [&b""[..], &[0; 700]] {
        fs::write(&next, begun).unwrap();
        let copy = killed(dir.path());
        let (_, found) = reopen(copy.path(), Group(0)).unwrap();
        assert_eq!(found.len(), 1);
    }
    fs::remove_file(&next).unwrap();
    change(&active(dir.path()), 9, b"?");
    let error = reopen(dir.path(), Group(0)).unwrap_err();
    assert!(
        matches!(error, JournalError::Damaged { at: 0, .. }),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Some bytes of the newest segment are changed, as a crash or a bad device may leave them:
    /// what is found is a beginning of what was written, with all that is said to be durable; or
    /// the journal is refused.
    #[test]
    fn nothing_durable_is_lost_without_a_word(
        groups in prop::collection::vec((1_usize..600, any::<bool>()), 1..25),
        at in any::<prop::sample::Index>(),
        length in 1_usize..80,
        with in any::<u8>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = reopen(dir.path(), Group(0)).unwrap();
        let mut written = Vec::new();
        for (bytes, sync) in groups {
            let number = written.len() as u64 + 1;
            append(&mut journal, number, bytes);
            written.push((number, vec![op(number, bytes)]));
            if sync {
                journal.sync().unwrap();
            }
            if journal.is_full() {
                journal.rotate().unwrap();
            }
        }
        // A later group says what was durable when it was written; only that can be missed here.
        let said = journal.durable;
        append(&mut journal, written.len() as u64 + 1, 10);
        let last_at = usize::try_from(journal.active.length()).unwrap();
        let path = active(dir.path());
        let mut bytes = fs::read(&path).unwrap();
        let damaged = last_at - frame::HEAD_BYTES - 28;
        let at = at.index(damaged.max(1));
        for byte in bytes[at..damaged.max(at)].iter_mut().take(length) {
            *byte = with;
        }
        fs::write(&path, bytes).unwrap();
        drop(journal);
        match reopen(dir.path(), Group(0)) {
            Ok((_, found)) => {
                prop_assert!(found.len() as u64 >= said.0);
                let all = written.len().min(found.len());
                prop_assert_eq!(&found[..all], &written[..all]);
            }
            Err(JournalError::Damaged { .. }) => {}
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        }
    }
}
