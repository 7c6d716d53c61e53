//! The binary format of all that leaves memory: log entries, snapshots, and messages between nodes.
//!
//! Invariants: decoding is total (any bytes give a value or a [`DecodeError`], never a panic, and
//! never an allocation that the input's own length does not justify), and canonical: a value has
//! one encoding, so equal states have equal bytes. The format does not describe itself: fields
//! come in order, kinds are explicit tags that are never given a second meaning, and each top-level
//! encoding begins with [`FORMAT_VERSION`].
//!
//! Integers are LEB128 varints (as in Protocol Buffers), signed ones zigzagged first; session ids
//! are eight bytes, little-endian, because they are random and a varint would be longer.

mod primitives;
mod reader;

pub use reader::Reader;

use crate::id::name_error::NameError;

/// The version of every top-level encoding, its first byte. It is raised when a layout changes, and
/// the decoder of every older version stays.
pub const FORMAT_VERSION: u8 = 4;

/// Why bytes are not an encoding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends inside a value.
    #[error("the input ends {missing} bytes early")]
    Truncated {
        /// How many bytes are missing, at least.
        missing: usize,
    },
    /// The encoding is of a version that this program cannot read.
    #[error(
        "format version {version} is unknown: this program reads version {FORMAT_VERSION}; use a newer one"
    )]
    UnknownVersion {
        /// The version that was found.
        version: u8,
    },
    /// A kind that this program does not know.
    #[error("tag {tag} of {what} is unknown")]
    UnknownTag {
        /// Of what it is the kind.
        what: &'static str,
        /// The tag that was found.
        tag: u8,
    },
    /// There is more after the value.
    #[error("{count} bytes follow the end of the value")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// An integer that does not fit its type, or is not written in its shortest form.
    #[error("an integer is too large for its type, or is not in its shortest form")]
    BadInteger,
    /// A text that is not UTF-8.
    #[error("a text is not UTF-8")]
    NotUtf8,
    /// A map's keys, or a set's elements, are not in strictly ascending order.
    #[error("the keys of a map are not in strictly ascending order")]
    NotAscending,
    /// A number or length is outside its bounds.
    #[error("{what} is {value}, outside {min}..={max}")]
    OutOfBounds {
        /// What.
        what: &'static str,
        /// What was found.
        value: u64,
        /// The least allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
    /// A lock name or an owner tag is outside its bounds.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The bytes were damaged.
    #[error(
        "the checksum is {found:08x}, not {expected:08x}: the bytes are damaged; fetch them again"
    )]
    Checksum {
        /// The checksum of the bytes.
        expected: u32,
        /// The checksum that they carry.
        found: u32,
    },
    /// The parts are readable, but contradict each other.
    #[error("the value contradicts itself: {what}")]
    Inconsistent {
        /// How.
        what: &'static str,
    },
}

/// Something that has an encoding.
pub trait Encode {
    /// Appends the encoding.
    fn encode_into(&self, out: &mut Vec<u8>);
}

/// Something that can be read from its encoding.
pub trait Decode: Sized {
    /// Takes the encoding from the head of the input.
    ///
    /// # Errors
    /// If the input does not begin with an encoding. The reader's position is then unspecified.
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

/// The version byte and the encoding of a top-level value.
#[must_use]
pub fn encode_versioned(value: &impl Encode) -> Vec<u8> {
    let mut out = vec![FORMAT_VERSION];
    value.encode_into(&mut out);
    out
}

/// Reads what [`encode_versioned`] wrote; nothing may follow.
///
/// # Errors
/// If the version is unknown, or the rest is not exactly one encoding.
pub fn decode_versioned<T: Decode>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut input = Reader::new(bytes);
    match input.byte()? {
        FORMAT_VERSION => {}
        version => return Err(DecodeError::UnknownVersion { version }),
    }
    let value = T::decode_from(&mut input)?;
    input.finish()?;
    Ok(value)
}

/// Encodes a struct as its fields in the given order.
macro_rules! fields {
    ($name:ident { $($field:ident),* }) => {
        impl Encode for $name {
            fn encode_into(&self, out: &mut Vec<u8>) {
                let Self { $($field),* } = self;
                $($field.encode_into(out);)*
            }
        }

        impl Decode for $name {
            fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self { $($field: Decode::decode_from(input)?),* })
            }
        }
    };
}
pub(crate) use fields;

/// Encodes an enum as a tag and its variant's fields, in the given order. A variant that is left out
/// does not compile.
macro_rules! tagged {
    ($name:ident, $what:literal, {
        $($tag:literal => $variant:ident $({ $($field:ident),* })? $(($inner:ident))?,)*
    }) => {
        impl Encode for $name {
            fn encode_into(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant $({ $($field),* })? $(($inner))? => {
                        out.push($tag);
                        $($($field.encode_into(out);)*)?
                        $($inner.encode_into(out);)?
                    })*
                }
            }
        }

        impl Decode for $name {
            fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(match input.byte()? {
                    $($tag => {
                        $($(let $field = Decode::decode_from(input)?;)*)?
                        $(let $inner = Decode::decode_from(input)?;)?
                        Self::$variant $({ $($field),* })? $(($inner))?
                    })*
                    tag => return Err(DecodeError::UnknownTag { what: $what, tag }),
                })
            }
        }
    };
}
pub(crate) use tagged;

/// Checks that a decoded number or length is within its bounds.
///
/// # Errors
/// If it is not.
pub fn check_bounds(what: &'static str, value: u64, min: u64, max: u64) -> Result<(), DecodeError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(DecodeError::OutOfBounds {
            what,
            value,
            min,
            max,
        })
    }
}

/// Reads a list whose length is within its bounds.
///
/// # Errors
/// If it is not, or is no list.
pub fn bounded_list<T: Decode>(
    input: &mut Reader<'_>,
    what: &'static str,
    min: usize,
    max: usize,
) -> Result<Vec<T>, DecodeError> {
    check_count(what, input, min, max)?;
    Decode::decode_from(input)
}

/// Checks the count that comes next, before anything of the list is read.
///
/// # Errors
/// If it is out of its bounds.
pub fn check_count(
    what: &'static str,
    input: &Reader<'_>,
    min: usize,
    max: usize,
) -> Result<(), DecodeError> {
    let count = input.clone().count()?;
    check_bounds(what, count as u64, min as u64, max as u64)
}

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        // The low seven bits; the cast keeps exactly these and the continuation bit.
        out.push(((value & 0x7f) | 0x80) as u8);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length or count. Lengths in memory always fit 64 bits.
pub fn put_count(out: &mut Vec<u8>, count: usize) {
    put_varint(out, count as u64);
}

/// Appends a text: its length in bytes, and its bytes.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Appends a tag and fields.
pub(crate) fn put(out: &mut Vec<u8>, tag: u8, fields: &[&dyn Encode]) {
    out.push(tag);
    for field in fields {
        field.encode_into(out);
    }
}
