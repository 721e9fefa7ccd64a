//! Ids: one type each, declared in one registry, 128 random bits, printed as `prefix_` and 26
//! characters of Crockford base 32. The prefix makes a leaked or misplaced id visible at a glance.

use std::{fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 128 bits at 5 bits a character.
pub const ID_CHARS: usize = 26;

/// Why a text is not an id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a valid {kind} id: expected \"{prefix}_\" and 26 characters of 0-9 a-z without i, l, o, u")]
pub struct IdError {
    /// The noun of the id that was expected.
    pub kind: &'static str,
    /// The prefix that was expected.
    pub prefix: &'static str,
}

fn encode(bytes: &[u8; 16]) -> String {
    let n = u128::from_be_bytes(*bytes);
    (0..ID_CHARS).rev().map(|i| ALPHABET[(n >> (5 * i)) as usize & 31] as char).collect()
}

fn decode(text: &str) -> Option<[u8; 16]> {
    if text.len() != ID_CHARS {
        return None;
    }
    let mut n: u128 = 0;
    for (i, c) in text.bytes().enumerate() {
        let v = ALPHABET.iter().position(|a| *a == c)? as u128;
        // 26 x 5 = 130 bits: the first character carries three.
        if i == 0 && v > 7 {
            return None;
        }
        n = n << 5 | v;
    }
    Some(n.to_be_bytes())
}

/// The ids whose 26 characters begin with these.
fn range(chars: &str) -> Option<([u8; 16], [u8; 16])> {
    if chars.is_empty() {
        return Some(([0; 16], [255; 16]));
    }
    if chars.len() > ID_CHARS {
        return None;
    }
    // Filled up with the first and the last character there is: both ends of the range.
    let fill = |with: &str| decode(&format!("{chars}{}", with.repeat(ID_CHARS - chars.len())));
    Some((fill("0")?, fill("z")?))
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The prefix of this id's text, without the underscore.
            pub const PREFIX: &'static str = $prefix;
            /// An id from 16 bytes of randomness or of a hash.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self { Self(bytes) }
            /// The 16 bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] { &self.0 }
            /// The first and the last id whose text begins with `text`; none where no id's does.
            pub fn range_of_prefix(text: &str) -> Option<(Self, Self)> {
                const START: &str = concat!($prefix, "_");
                let rest = if START.starts_with(text) { "" } else { text.strip_prefix(START)? };
                range(rest).map(|(first, last)| (Self(first), Self(last)))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{}_{}", $prefix, encode(&self.0)) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(self, f) }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(s: &str) -> Result<Self, IdError> {
                s.strip_prefix(concat!($prefix, "_")).and_then(decode).map(Self).ok_or(IdError { kind: $kind, prefix: $prefix })
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> { s.collect_str(self) }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                std::borrow::Cow::<'de, str>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> { stringify!($name).into() }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "pattern": concat!("^", $prefix, "_[0-7][0-9a-hjkmnp-tv-z]{25}$"), "description": concat!("Id of one ", $kind, ".")})
            }
        }
    )+
    /// Every id prefix of the registry with its noun; tests walk it.
    pub const REGISTRY: &[(&str, &str)] = &[$(($prefix, $kind)),+];
    };
}

ids! {
    /// A person or organisation. Never public.
    AccountId, "acct", "account";
    /// A supplier's computer. Never public.
    MachineId, "mach", "machine";
    /// One accelerator in a machine: random, so it says nothing about its owner. Public.
    GpuId, "gpu", "GPU";
    /// An enrolled Ed25519 key: the first 16 bytes of BLAKE3 over the public key. Never public.
    KeyId, "key", "key";
    /// A request of a new key to be bound to an account (RFC 8628). Never public.
    EnrolmentId, "enr", "enrolment";
    /// One proof: challenge, transcript and verdict. Public.
    ProofId, "prf", "proof";
    /// A supplier's appeal against a standing. Public.
    AppealId, "apl", "appeal";
    /// What a renter hires. Never public.
    ClusterId, "clu", "cluster";
    /// A browser's session. Never public.
    SessionId, "ses", "session";
    /// A passkey of an account. Never public.
    PasskeyId, "pky", "passkey";
    /// A dangerous act that somebody asked for and somebody decides on. Never public.
    ApprovalId, "apr", "approval";
    /// A one-time link. Never public.
    LinkId, "lnk", "link";
    /// Something that was noticed and that somebody looks into. Never public.
    IncidentId, "inc", "incident";
    /// A stop put to writes of a kind or by somebody. Told to those it stops.
    FreezeId, "frz", "freeze";
    /// One message to somebody outside about incidents. Told to whoever gets it.
    DeliveryId, "dlv", "delivery";
}

impl KeyId {
    /// The id of an Ed25519 public key (32 bytes).
    pub fn of_public_key(public_key: &[u8; 32]) -> Self {
        let hash = blake3::derive_key("gangline 2026 key id", public_key);
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        Self::from_bytes(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_refuses_everything_else() {
        for bytes in [[0u8; 16], [255; 16], *b"0123456789abcdef"] {
            let id = GpuId::from_bytes(bytes);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(id.to_string().len(), 4 + ID_CHARS);
        }
        let good = GpuId::from_bytes([7; 16]).to_string();
        for bad in [
            "",
            "gpu_",
            "gpu",
            &good[4..],
            &good.to_uppercase(),
            &format!("{good}0"),
            &good.replace("gpu_", "mach_"),
        ] {
            assert!(bad.parse::<GpuId>().is_err(), "{bad} was taken for a GPU id");
        }
        // 130 bits of text, 128 of id: no second spelling of the same id.
        assert!(format!("gpu_8{}", &"0".repeat(25)).parse::<GpuId>().is_err());
    }

    #[test]
    fn a_beginning_is_a_range_that_holds_its_ids_and_no_other() {
        let ids: Vec<GpuId> = (0..=255u8)
            .map(|n| GpuId::from_bytes([n, n ^ 90, 7, n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, n, n]))
            .collect();
        for text in
            ["", "g", "gpu_", "gpu_0", "gpu_3", "gpu_7z", &ids[9].to_string()[..12], &ids[77].to_string()]
        {
            let (first, last) = GpuId::range_of_prefix(text).unwrap();
            for id in &ids {
                assert_eq!((first..=last).contains(id), id.to_string().starts_with(text), "{text}, {id}");
            }
        }
        for text in ["x", "gpu_8", "gpu_u", "mach_0", "gpu_é", &format!("{}0", ids[0])] {
            assert_eq!(GpuId::range_of_prefix(text), None, "{text}");
        }
    }

    #[test]
    fn prefixes_are_distinct() {
        let mut seen: Vec<_> = REGISTRY.iter().map(|r| r.0).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), REGISTRY.len());
    }
}
