//! The content of a snapshot, in memory or on disk.
//!
//! Invariant: reading it again gives the same.

use std::io;

use bytes::{Bytes, BytesMut};
use lockstep_model::snapshot::CHECKSUM_BYTES;

use crate::storage::StoredSnapshot;

/// An encoded [`lockstep_model::Machine`].
#[derive(Debug)]
pub enum SnapshotContent {
    /// In memory: it was just made, or has just come.
    Held(Bytes),
    /// On disk: to be sent.
    Stored(StoredSnapshot),
}

impl SnapshotContent {
    /// Its size in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        match self {
            Self::Held(bytes) => bytes.len() as u64,
            Self::Stored(stored) => stored.size(),
        }
    }

    /// Some of what begins at `offset`; empty at the end.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn read(&self, offset: u64) -> Result<Bytes, io::Error> {
        match self {
            Self::Held(bytes) => {
                let offset = usize::try_from(offset).map_err(io::Error::other)?;
                Ok(bytes.slice(offset.min(bytes.len())..))
            }
            Self::Stored(stored) => stored.read(offset).await,
        }
    }

    /// All from `offset` on.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn read_to_end(&self, offset: u64) -> Result<Bytes, io::Error> {
        if let Self::Held(_) = self {
            return self.read(offset).await;
        }
        let mut all = BytesMut::new();
        loop {
            let piece = self.read(offset + all.len() as u64).await?;
            if piece.is_empty() {
                return Ok(all.freeze());
            }
            all.extend_from_slice(&piece);
        }
    }

    /// The checksum at its end; 0 if it is too short to have one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn checksum(&self) -> Result<u32, io::Error> {
        let Some(offset) = self.size().checked_sub(CHECKSUM_BYTES as u64) else {
            return Ok(0);
        };
        let end = self.read_to_end(offset).await?;
        Ok(end.first_chunk().map_or(0, |end| u32::from_le_bytes(*end)))
    }

    /// To be told while it is sent, so that it stays.
    pub fn progressed(&self) {
        match self {
            Self::Held(_) => {}
            Self::Stored(stored) => stored.progressed(),
        }
    }
}
