//! Epochs, aliases and the keys derived from them.

use gangline_types::{MachineId, UnixSeconds};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroize;

use super::chain::Preimage;

/// Length of an epoch, in seconds: a day. A machine proves its key once in each.
pub const EPOCH_SECONDS: u64 = 86_400;

/// Who was away for longer than so many epochs asks for the next one by HTTP.
const VOUCHING_EPOCHS: u16 = 30;

/// A day since 1970-01-01 UTC. Frames of the running epoch and of the one before it count.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Epoch(pub u16);

impl Epoch {
    /// The epoch that a second is in; the last one there is for seconds after the year 2149.
    pub fn of(at: UnixSeconds) -> Self {
        Self(u16::try_from(at.0 / EPOCH_SECONDS).unwrap_or(u16::MAX))
    }
    /// The epoch before.
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
    /// Whether a lane of it vouches for a question by datagram while `now` is the running epoch: for thirty days.
    pub fn vouches_in(self, now: Epoch) -> bool {
        self.counts_in(now) || self < now && now.0 - self.0 <= VOUCHING_EPOCHS
    }
    /// Its first second.
    pub fn start(self) -> UnixSeconds {
        UnixSeconds(u64::from(self.0) * EPOCH_SECONDS)
    }
    /// Whether its frames count while `now` is the running epoch: it is that one, the one before, or the one
    /// that begins next (two servers' clocks may differ).
    pub fn counts_in(self, now: Epoch) -> bool {
        self.0.abs_diff(now.0) <= 1
    }
}

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What a machine is called on the wire for one epoch and one chain. Whoever listens cannot tell from it which
/// machine it is, nor that two aliases are of one machine. Written as 16 lowercase hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alias(pub u64);

impl std::fmt::Display for Alias {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
impl std::fmt::Debug for Alias {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}
impl Serialize for Alias {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Alias {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        let digits = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        u64::from_str_radix(&text, 16)
            .ok()
            .filter(|_| digits)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("not an alias: expected 16 lowercase hex digits"))
    }
}
impl JsonSchema for Alias {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Alias".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9a-f]{16}$", "description": "A machine's name on the wire for one epoch."})
    }
}

/// The key that every alias and beat key of one epoch is derived from. Only servers have it.
#[derive(Clone)]
pub struct EpochMaster(pub(super) [u8; 32]);

impl EpochMaster {
    /// The master of `epoch`, from the network's own secret of 32 bytes.
    pub fn of(secret: &[u8; 32], epoch: Epoch) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(secret);
        hasher.update(b"gangline 2026 beat epoch\0").update(&epoch.0.to_le_bytes());
        Self(*hasher.finalize().as_bytes())
    }
    /// The alias under which `machine` beats when its first GPU's chain begins with `tip`: the same however
    /// often and at whichever server it asks.
    pub fn alias(&self, machine: MachineId, tip: Preimage) -> Alias {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(b"alias\0\0\0").update(machine.as_bytes()).update(&tip.0);
        let hash = hasher.finalize();
        let (first, _) = hash.as_bytes().split_at(8);
        Alias(u64::from_le_bytes(first.try_into().expect("eight bytes")))
    }
    /// The beat key of an alias: derived, so that nobody has to look it up.
    pub fn key(&self, alias: Alias) -> BeatKey {
        let mut input = *b"beatkey\0........";
        input[8..].copy_from_slice(&alias.0.to_le_bytes());
        BeatKey(*blake3::keyed_hash(&self.0, &input).as_bytes())
    }
}

impl Drop for EpochMaster {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for EpochMaster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EpochMaster([redacted])")
    }
}

/// What one machine's frames are authenticated with during one epoch, and its answers too.
#[derive(Clone, PartialEq, Eq)]
pub struct BeatKey(pub(super) [u8; 32]);

impl BeatKey {
    /// The key of these bytes, as a server handed it out.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
    /// Its bytes, for handing it out and for a file that only its owner can read.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for BeatKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for BeatKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BeatKey([redacted])")
    }
}
