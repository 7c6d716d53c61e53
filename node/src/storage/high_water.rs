//! The number of the last synced group, kept outside the journal.
//!
//! The journal alone cannot tell that its last groups are missing, as where its newest segment ends
//! too early. So the number of each synced group is written here, once it is durable. When opening,
//! the journal must come at least as far (Alagappan et al., "Protocol-Aware Recovery for
//! Consensus-Based Storage", FAST 2018, on why a replica must tell a crash from damage: one that
//! forgets what it has acknowledged breaks Raft).
//!
//! This file is not synced itself, which would double the cost of a write. It survives the death of
//! the process; after a loss of power it may name an earlier group, and then finds less, but never
//! accuses wrongly.
//!
//! Invariant: the number here is never above that of the last durable group.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

const FILE: &str = "high-water";
/// Number and checksum: within one sector, so that it is written whole or not at all.
const BYTES: usize = 12;

/// Counts the groups of a journal, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Group(pub(crate) u64);

impl Group {
    pub(crate) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// The file could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HighWaterError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("its checksum is wrong")]
    Damaged,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct HighWater {
    file: File,
}

/// Makes the file of a directory, unless it is there.
pub(crate) fn create(dir: &Path) -> io::Result<()> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    options.open(path(dir)).map(drop)
}

impl HighWater {
    /// Opens the file of a directory, and reads the number in it; none if it is new.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Option<Group>), HighWaterError> {
        let file = File::options().read(true).write(true).open(path(dir))?;
        let mut bytes = [0; BYTES];
        let group = match file.metadata()?.len() {
            0 => None,
            _ => {
                file.read_exact_at(&mut bytes, 0)?;
                let (number, checksum) = split(bytes);
                if crc32fast::hash(&number) != u32::from_be_bytes(checksum) {
                    return Err(HighWaterError::Damaged);
                }
                Some(Group(u64::from_be_bytes(number)))
            }
        };
        Ok((Self { file }, group))
    }

    /// Notes that a group is durable.
    pub(crate) fn reached(&self, Group(number): Group) -> io::Result<()> {
        let number = number.to_be_bytes();
        let checksum = crc32fast::hash(&number).to_be_bytes();
        let [a, b, c, d, e, f, g, h] = number;
        let [i, j, k, l] = checksum;
        self.file
            .write_all_at(&[a, b, c, d, e, f, g, h, i, j, k, l], 0)
    }
}

pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

const fn split([a, b, c, d, e, f, g, h, i, j, k, l]: [u8; BYTES]) -> ([u8; 8], [u8; 4]) {
    ([a, b, c, d, e, f, g, h], [i, j, k, l])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_there_again_and_damage_is_detected() {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path()).unwrap();
        let (file, found) = HighWater::open(dir.path()).unwrap();
        assert_eq!(found, None);
        file.reached(Group(7)).unwrap();
        file.reached(Group(1 << 50)).unwrap();
        assert_eq!(HighWater::open(dir.path()).unwrap().1, Some(Group(1 << 50)));
        let good = std::fs::read(path(dir.path())).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(path(dir.path()), bad).unwrap();
            assert!(HighWater::open(dir.path()).is_err(), "byte {at}");
        }
    }
}
