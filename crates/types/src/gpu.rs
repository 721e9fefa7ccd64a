//! What a machine says a GPU is (claim), what proofs have shown it is (profile), and what follows
//! (standing).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Hash, Text};

/// The graphics interface an adapter was reached through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// Vulkan: Linux, Windows, Android.
    Vulkan,
    /// Metal: Apple.
    Metal,
    /// Direct3D 12: Windows.
    Dx12,
}

/// What kind of device an adapter says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdapterKind {
    /// A card with memory of its own.
    Discrete,
    /// A GPU that shares the processor's memory.
    Integrated,
    /// A GPU handed to a virtual machine.
    Virtual,
    /// No GPU: a program on the processor, such as Mesa's lavapipe.
    Software,
    /// The driver does not say.
    Unknown,
}

impl AdapterKind {
    /// Words for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Discrete => "discrete GPU",
            Self::Integrated => "integrated GPU",
            Self::Virtual => "virtual GPU",
            Self::Software => "software device",
            Self::Unknown => "device of unknown kind",
        }
    }
}

/// What the machine says a GPU is. Side evidence and a label; nothing is paid for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GpuClaim {
    /// Stays the same for one adapter of one machine across restarts: a hash of its PCI address,
    /// UUID or position, keyed by the machine key, so it cannot be linked between machines.
    pub slot: Hash,
    /// Model as the driver names it.
    pub model: Text<128>,
    /// Kind of device as the driver says.
    pub kind: AdapterKind,
    /// Interface it was reached through.
    pub backend: Backend,
    /// Driver and version as the driver says.
    pub driver: Text<128>,
    /// PCI vendor id, 0 where there is none.
    pub pci_vendor: u32,
    /// PCI device id, 0 where there is none.
    pub pci_device: u32,
    /// Memory the adapter says it has; 0 where it does not say.
    pub memory_bytes: u64,
}

/// What proofs have shown: lower bounds, by the verifier's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Profile {
    /// Exact int8 multiply-adds a second, in millions, chained and committed: the matrix rate.
    pub matrix_mmacs: u64,
    /// Bytes of device memory the proof's matrices held.
    pub memory_bytes: u64,
}

/// What a GPU is shown and hired as once its proofs did not carry what its machine claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShownAs {
    /// A name that its proofs support.
    pub model: Text<128>,
    /// The kind that they support.
    pub kind: AdapterKind,
}

/// What the network thinks of a GPU; derived from verdicts, and nobody can write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// No accepted proof yet.
    Unproven,
    /// Its proofs carry what it is shown as: its claim, or less.
    Proven,
    /// Its proofs do not carry its claim: unlisted, and its shares are held until it is proven as what it is.
    Suspect,
    /// A forged transcript was answered: wrong bits, or one proof under two keys.
    Quarantined,
    /// Its machine left.
    Retired,
}

impl Standing {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unproven => "unproven",
            Self::Proven => "proven",
            Self::Suspect => "suspect",
            Self::Quarantined => "quarantined",
            Self::Retired => "retired",
        }
    }
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
