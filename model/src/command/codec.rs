//! The encoding of batches and commands: what the log holds and what nodes forward.
//!
//! Invariants: a tag keeps its meaning for ever, and a decoded command is within every bound that
//! its fields document. Each service encodes its own commands, behind its tag.

use super::{Batch, Command, MAX_COMMANDS_PER_BATCH};
use crate::codec::{
    Decode, DecodeError, Encode, Reader, bounded_list, decode_versioned, encode_versioned, tagged,
};

impl Batch {
    /// The version byte and the encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_versioned(self)
    }

    /// Reads what [`Batch::encode`] wrote.
    ///
    /// # Errors
    /// If the bytes are not exactly one batch whose fields are within their bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode_versioned(bytes)
    }
}

impl Command {
    /// The version byte and the encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_versioned(self)
    }

    /// Reads what [`Command::encode`] wrote.
    ///
    /// # Errors
    /// If the bytes are not exactly one command whose fields are within their bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode_versioned(bytes)
    }
}

impl Encode for Batch {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.at.encode_into(out);
        self.wall.encode_into(out);
        self.commands.encode_into(out);
    }
}

impl Decode for Batch {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = Decode::decode_from(input)?;
        let wall = Decode::decode_from(input)?;
        let commands = bounded_list(input, "number of commands", 0, MAX_COMMANDS_PER_BATCH)?;
        Ok(Self { at, wall, commands })
    }
}

tagged!(Command, "command", {
    1 => Session(command),
    2 => Lock(command),
    3 => Meta(command),
    4 => Expire,
});
