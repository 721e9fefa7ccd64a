//! The hash-chain behind a GPU's uptime. Its machine signs the chain's tip once, and the n-th beat shows the
//! n-th value: hashed n times it is the tip. Whoever has a value has all before it and none after it, so the
//! deepest one shown says how many beats were made, and only the machine could have made them.

use gangline_types::{GpuId, Minute};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Values of a chain after its tip: two days of minutes and an hour, which is as long as an epoch's alias can
/// be used.
pub const LINKS_MAX: u16 = 2 * 1440 + 60;

/// A value of a chain: 16 bytes, written as 32 lowercase hex digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Preimage(pub [u8; 16]);

impl Preimage {
    /// The value before this one: one step towards the tip.
    #[must_use]
    pub fn before(self) -> Self {
        // A fixed first block keeps these hashes apart from all others.
        let mut input = *b"gangline chain\0\0................";
        input[16..].copy_from_slice(&self.0);
        let hash = blake3::hash(&input);
        let (first, _) = hash.as_bytes().split_at(16);
        Self(first.try_into().expect("sixteen bytes"))
    }
    /// The value `steps` before this one.
    #[must_use]
    pub fn back(self, steps: u16) -> Self {
        (0..steps).fold(self, |value, _| value.before())
    }
}

impl std::fmt::Display for Preimage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}
impl std::fmt::Debug for Preimage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}
impl Serialize for Preimage {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Preimage {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        let value = u128::from_str_radix(&text, 16).ok();
        let digits = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        value
            .filter(|_| digits)
            .map(|value| Self(value.to_be_bytes()))
            .ok_or_else(|| serde::de::Error::custom("not a chain's value: expected 32 lowercase hex digits"))
    }
}
impl JsonSchema for Preimage {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Preimage".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9a-f]{32}$", "description": "A value of a hash-chain in lowercase hex."})
    }
}

/// What a beat shows of one GPU's chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Which GPU: its place in the order agreed on when the epoch was opened, 0 to 63. A machine of several
    /// GPUs shows them in turn.
    pub slot: u8,
    /// Beats made for that GPU since its chain began, this one included; 1 to [`LINKS_MAX`].
    pub count: u16,
    /// The chain's value at that count.
    pub preimage: Preimage,
}

/// A whole chain, as only its machine has it.
#[derive(Clone)]
pub struct Chain([u8; 32]);

impl Chain {
    /// The chain of a random seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(seed)
    }
    /// The value at `count`; the tip at 0.
    ///
    /// # Panics
    /// If `count` is over [`LINKS_MAX`]: a mistake in our own code, for a machine opens its epoch anew before.
    pub fn value(&self, count: u16) -> Preimage {
        assert!(count <= LINKS_MAX, "a chain has {LINKS_MAX} values, not {count}");
        let last = blake3::keyed_hash(&self.0, b"gangline 2026 last value of a chain");
        let (first, _) = last.as_bytes().split_at(16);
        Preimage(first.try_into().expect("sixteen bytes")).back(LINKS_MAX - count)
    }
    /// The value that is signed before the first beat.
    pub fn tip(&self) -> Preimage {
        self.value(0)
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chain([redacted])")
    }
}

/// The bytes that are signed with a GPU's uptime key when its chain begins.
pub fn signed_bytes(gpu: GpuId, from: Minute, tip: Preimage) -> Vec<u8> {
    let mut bytes = b"gangline 2026 uptime chain\0".to_vec();
    bytes.extend_from_slice(gpu.as_bytes());
    bytes.extend_from_slice(&from.0.to_le_bytes());
    bytes.extend_from_slice(&tip.0);
    bytes
}

/// The secret seed of a GPU's own uptime key, derived from the machine's, so that nothing more has to be kept.
/// Its public half is published; it says nothing of the machine, nor which GPUs are in one.
pub fn uptime_seed(machine_seed: &[u8; 32], gpu: GpuId) -> zeroize::Zeroizing<[u8; 32]> {
    let mut hasher = blake3::Hasher::new_derive_key("gangline 2026 uptime key of a GPU");
    hasher.update(machine_seed).update(gpu.as_bytes());
    zeroize::Zeroizing::new(*hasher.finalize().as_bytes())
}
