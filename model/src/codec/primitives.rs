//! The encodings of numbers, texts and containers.
//!
//! Invariant: each value has one encoding, the shortest; maps are in the order of their keys.

use std::collections::BTreeMap;

use super::{Decode, DecodeError, Encode, Reader, put_count, put_text, put_varint};

/// Most elements for which a list is given room before they were read. What lies beyond grows as it
/// is read, so that a length field alone cannot claim memory.
const MAX_PREALLOCATED: usize = 256;

impl Encode for u8 {
    fn encode_into(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }
}

impl Decode for u8 {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.byte()
    }
}

macro_rules! varint {
    ($($number:ty),*) => {$(
        impl Encode for $number {
            fn encode_into(&self, out: &mut Vec<u8>) {
                put_varint(out, u64::from(*self));
            }
        }

        impl Decode for $number {
            fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Self::try_from(input.varint()?).map_err(|_| DecodeError::BadInteger)
            }
        }
    )*};
}
varint!(u16, u32, u64);

/// Lengths and counts; in memory they always fit 64 bits.
impl Encode for usize {
    fn encode_into(&self, out: &mut Vec<u8>) {
        put_count(out, *self);
    }
}

impl Decode for usize {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::try_from(input.varint()?).map_err(|_| DecodeError::BadInteger)
    }
}

impl Encode for i32 {
    fn encode_into(&self, out: &mut Vec<u8>) {
        let zigzag = (*self << 1) ^ (*self >> 31);
        zigzag.cast_unsigned().encode_into(out);
    }
}

impl Decode for i32 {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let zigzag = u32::decode_from(input)?;
        Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }
}

impl Encode for bool {
    fn encode_into(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Decode for bool {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            tag => Err(DecodeError::UnknownTag { what: "bool", tag }),
        }
    }
}

impl Encode for String {
    fn encode_into(&self, out: &mut Vec<u8>) {
        put_text(out, self);
    }
}

impl Decode for String {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.text().map(str::to_owned)
    }
}

impl<T: Encode> Encode for [T] {
    fn encode_into(&self, out: &mut Vec<u8>) {
        put_count(out, self.len());
        for element in self {
            element.encode_into(out);
        }
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.as_slice().encode_into(out);
    }
}

/// Elements must have encodings of at least one byte.
impl<T: Decode> Decode for Vec<T> {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = input.count()?;
        let mut list = Self::with_capacity(count.min(MAX_PREALLOCATED));
        for _ in 0..count {
            list.push(T::decode_from(input)?);
        }
        Ok(list)
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(value) => {
                out.push(1);
                value.encode_into(out);
            }
        }
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.byte()? {
            0 => Ok(None),
            1 => T::decode_from(input).map(Some),
            tag => Err(DecodeError::UnknownTag {
                what: "option",
                tag,
            }),
        }
    }
}

impl<A: Encode, B: Encode> Encode for (A, B) {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.0.encode_into(out);
        self.1.encode_into(out);
    }
}

impl<A: Decode, B: Decode> Decode for (A, B) {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok((A::decode_from(input)?, B::decode_from(input)?))
    }
}

impl<K: Encode, V: Encode> Encode for BTreeMap<K, V> {
    fn encode_into(&self, out: &mut Vec<u8>) {
        put_count(out, self.len());
        for (key, value) in self {
            key.encode_into(out);
            value.encode_into(out);
        }
    }
}

impl<K: Decode + Ord, V: Decode> Decode for BTreeMap<K, V> {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = input.count()?;
        let mut map = Self::new();
        for _ in 0..count {
            let key = K::decode_from(input)?;
            if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(DecodeError::NotAscending);
            }
            let value = V::decode_from(input)?;
            map.insert(key, value);
        }
        Ok(map)
    }
}
