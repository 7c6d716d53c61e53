//! The records of the node itself, in column family `meta`: small, rarely written, each under a
//! name.
//!
//! ```text
//! key:     name
//! payload: bytes that mean something to the one who put them
//! ```
//!
//! Invariant: a name is 1..=[`MAX_NAME_BYTES`] bytes; those that begin with `storage.` are the
//! storage's own.

use super::{
    Storage,
    corrupt::RecordId,
    family::Family,
    high_water::Group,
    op::Op,
    record::{self, Kind, Problem},
    records::{ReadError, Records},
    writer::{Durability, WriteFailed},
};

/// Names that nobody else may use begin so.
const RESERVED: &str = "storage.";

/// The name of the record that says how the whole database is laid out.
pub(crate) const FORMAT: &str = "storage.format";
/// The name of the record that says which group of the journal the database has come to.
pub(crate) const GROUP: &str = "storage.group";
/// Longest name in bytes: it names a record, it is no document.
pub const MAX_NAME_BYTES: usize = 128;
/// Most bytes in one record: it is read and written whole.
pub const MAX_META_BYTES: usize = 1 << 20;

/// The value of a record.
pub(crate) fn encode(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    record::seal(Kind::Meta, key, |out| out.extend_from_slice(bytes))
}

/// The bytes in a record.
pub(crate) fn decode<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], Problem> {
    Ok(record::open_as(Kind::Meta, key, value)?.rest())
}

/// A record of the node could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PutMetaError {
    /// Its name is empty, too long, or the storage's own.
    #[error(
        "{name:?} cannot name a record: use 1 to {MAX_NAME_BYTES} bytes, not beginning with \"storage.\""
    )]
    Name {
        /// The name.
        name: String,
    },
    /// It is too large.
    #[error("a record of {len} bytes is too large: at most {MAX_META_BYTES}")]
    TooLarge {
        /// Its size.
        len: usize,
    },
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] WriteFailed),
}

impl Storage {
    /// Sets a record of the node, durably.
    ///
    /// # Errors
    /// Where its name or size is out of bounds, or writing fails.
    pub async fn put_meta(&self, name: &str, bytes: &[u8]) -> Result<(), PutMetaError> {
        let reserved = name.starts_with(RESERVED);
        if name.is_empty() || name.len() > MAX_NAME_BYTES || reserved {
            return Err(PutMetaError::Name {
                name: name.to_owned(),
            });
        }
        if bytes.len() > MAX_META_BYTES {
            return Err(PutMetaError::TooLarge { len: bytes.len() });
        }
        let key = name.as_bytes();
        let put = Op::Put(Family::Meta, key.to_vec(), encode(key, bytes));
        Ok(self
            .shared
            .writer
            .write(vec![put], Durability::Synced)
            .await?)
    }

    /// A record of the node, if it was ever set.
    ///
    /// # Errors
    /// Where it is damaged, or reading fails.
    pub fn get_meta(&self, name: &str) -> Result<Option<Vec<u8>>, ReadError> {
        read(&self.shared.records, name)
    }
}

/// A record, if it was ever set.
pub(crate) fn read(records: &Records, name: &str) -> Result<Option<Vec<u8>>, ReadError> {
    let record = RecordId::Meta {
        name: name.to_owned(),
    };
    records.get(Family::Meta, name.as_bytes(), record, |key, value| {
        Ok(decode(key, value)?.to_vec())
    })
}

/// The last group that is in the database.
pub(crate) fn read_group(records: &Records) -> Result<Group, ReadError> {
    let record = RecordId::Meta {
        name: GROUP.to_owned(),
    };
    let group = records.get(Family::Meta, GROUP.as_bytes(), record, |key, value| {
        let mut fields = record::open_as(Kind::Meta, key, value)?;
        let group = Group(fields.u64()?);
        fields.end()?;
        Ok(group)
    })?;
    Ok(group.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::record::tests::assert_damage_is_detected;

    #[test]
    fn records_survive_the_round_trip_and_damage_is_detected() {
        let value = encode(b"node.id", b"17");
        assert_eq!(decode(b"node.id", &value).unwrap(), b"17");
        assert_damage_is_detected(b"node.id", &value, |key, value| {
            decode(key, value).map(<[u8]>::to_vec)
        });
    }
}
