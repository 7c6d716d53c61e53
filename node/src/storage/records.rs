//! Reading records, so that damage is always noticed, named and reported.
//!
//! Invariant: no other code takes a value from the engine without decoding it here or reporting
//! through here what is wrong with it.

use std::{io, sync::Arc};

use lockstep_model::ShardId;

use super::{
    corrupt::{CorruptRecord, Damage, RecordId},
    engine::{Engine, EngineError},
    family::Family,
    record::Problem,
};

/// A record could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is damaged.
    #[error(transparent)]
    Corrupt(#[from] CorruptRecord),
    /// The engine failed otherwise.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Corrupt(corrupt) => corrupt.into(),
            ReadError::Engine(engine) => engine.into(),
        }
    }
}

/// The engine, and the place to report damage to.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    pub(crate) engine: Arc<Engine>,
    pub(crate) damage: Damage,
}

impl Records {
    /// Reads and decodes one record, if it is there.
    pub(crate) fn get<T>(
        &self,
        family: Family,
        key: &[u8],
        record: RecordId,
        decode: impl FnOnce(&[u8], &[u8]) -> Result<T, Problem>,
    ) -> Result<Option<T>, ReadError> {
        let value = match self.engine.get(family, key) {
            Ok(value) => value,
            Err(error) => return Err(self.failed(record, error)),
        };
        let Some(value) = value else { return Ok(None) };
        match decode(key, &value) {
            Ok(decoded) => Ok(Some(decoded)),
            Err(problem) => Err(self.corrupt(record, problem)),
        }
    }

    /// Reports a damaged record.
    pub(crate) fn corrupt(&self, record: RecordId, problem: Problem) -> ReadError {
        self.damage.report(record, problem).into()
    }

    /// Reports a failed read: as damage to the record, where the engine found its files damaged.
    pub(crate) fn failed(&self, record: RecordId, error: EngineError) -> ReadError {
        if error.is_corruption() {
            self.corrupt(record, Problem::Engine(error.to_string()))
        } else {
            error.into()
        }
    }

    /// What an iterator ended with: its end, or an error.
    pub(crate) fn check_end(
        &self,
        record: RecordId,
        status: Result<(), rocksdb::Error>,
    ) -> Result<(), ReadError> {
        status.map_err(|error| self.failed(record, error.into()))
    }
}

/// All keys of a shard, in any family of shards: from its number up to and without the next.
pub(crate) fn shard_range(shard: ShardId) -> (Vec<u8>, Vec<u8>) {
    /// Above every key: no key begins with so many of these.
    const ABOVE_ALL: [u8; 16] = [0xff; 16];
    let from = shard.0.to_be_bytes().to_vec();
    let to = match shard.0.checked_add(1) {
        Some(next) => next.to_be_bytes().to_vec(),
        None => ABOVE_ALL.to_vec(),
    };
    (from, to)
}
