//! The text forms of long vectors: base64 over fixed-width little-endian items, and lists that stop
//! at the most steps a proof may have. Both refuse before they allocate for what is too long.
//!
//! Knows nothing of what the numbers mean; exact lengths are the verifier's business.

use std::{fmt, marker::PhantomData};

use base64::{Engine, engine::general_purpose::STANDARD};
use gangline_types::Hash;
use serde::{
    Deserialize, Deserializer, Serializer,
    de::{Error, SeqAccess, Visitor},
};

use crate::MatrixParams;

/// An item of fixed width.
pub trait Item: Copy {
    /// Width in bytes.
    const BYTES: usize;
    /// Appends the item's bytes.
    fn put(self, out: &mut Vec<u8>);
    /// The item of exactly [`Self::BYTES`] bytes.
    fn take(bytes: &[u8]) -> Option<Self>;
}

macro_rules! number {
    ($($t:ty),+) => {$(
        impl Item for $t {
            const BYTES: usize = size_of::<$t>();
            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self::from_le_bytes)
            }
        }
    )+};
}
number!(u8, i32, u32, u64);

impl Item for Hash {
    const BYTES: usize = 32;
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
    fn take(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Hash)
    }
}

/// Writes the items as one base64 text.
pub fn serialize<T: Item, S: Serializer>(items: &[T], s: S) -> Result<S::Ok, S::Error> {
    let mut bytes = Vec::with_capacity(items.len() * T::BYTES);
    items.iter().for_each(|item| item.put(&mut bytes));
    s.serialize_str(&STANDARD.encode(bytes))
}

/// Reads the items from one base64 text.
pub fn deserialize<'de, T: Item, D: Deserializer<'de>>(d: D) -> Result<Vec<T>, D::Error> {
    struct Text<T>(PhantomData<T>);
    impl<T: Item> Visitor<'_> for Text<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "base64 of items of {} bytes", T::BYTES)
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<T>, E> {
            if text.len() as u64 > MatrixParams::OPENING_BYTES_MAX / 3 * 4 + 4 {
                return Err(E::invalid_length(text.len(), &self));
            }
            let bytes = STANDARD.decode(text).map_err(E::custom)?;
            if !bytes.len().is_multiple_of(T::BYTES) {
                return Err(E::invalid_length(bytes.len(), &self));
            }
            Ok(bytes.chunks_exact(T::BYTES).filter_map(T::take).collect())
        }
    }
    d.deserialize_str(Text(PhantomData))
}

/// Reads a list with at most one element for each possible step.
pub fn per_step<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Vec<T>, D::Error> {
    struct List<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {} elements", MatrixParams::STEPS_MAX)
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = list.next_element()? {
                if items.len() == MatrixParams::STEPS_MAX as usize {
                    return Err(A::Error::invalid_length(items.len() + 1, &self));
                }
                items.push(item);
            }
            Ok(items)
        }
    }
    d.deserialize_seq(List(PhantomData))
}
