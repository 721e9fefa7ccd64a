//! The messages of an epoch proof, and everything both sides derive from them.
//!
//! Knows neither how work is done nor how it is judged. Each derivation has a context of its own, so no
//! value can be taken for another. The parts form one chain: the key of each comes from the root of the one
//! before, so no part can be started early or made somewhere else at the same time.

use gangline_types::{GpuId, Hash};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ChainParams, Params};
use crate::{StepOpening, chacha::Key, packed, transcript::next_u64};

/// A part of the proof, in the order in which the parts are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Filling the memory.
    Fill,
    /// The first walk over it.
    Walk,
    /// The ALU chain.
    Alu,
    /// The matrix chain.
    Matrix,
    /// The walk after everything else, for which the memory must still be there.
    LastWalk,
}

impl Part {
    /// A name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fill => "fill",
            Self::Walk => "first walk",
            Self::Alu => "ALU chain",
            Self::Matrix => "matrix chain",
            Self::LastWalk => "last walk",
        }
    }

    fn context(self) -> &'static str {
        match self {
            Self::Fill => "gangline 2026 proof epoch fill",
            Self::Walk => "gangline 2026 proof epoch walk",
            Self::Alu => "gangline 2026 proof epoch alu",
            Self::Matrix => "gangline 2026 proof epoch matrix",
            Self::LastWalk => "gangline 2026 proof epoch last walk",
        }
    }
}

/// What a proof is bound to: the key that signs for one GPU, and that GPU. It names no machine.
pub fn binding(gpu_public_key: &[u8; 32], gpu: GpuId) -> Hash {
    blake3::Hasher::new_derive_key("gangline 2026 proof epoch binding of a GPU's key and a GPU")
        .update(gpu_public_key)
        .update(gpu.as_bytes())
        .finalize()
        .into()
}

/// What the verifier asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// How much work, and how much of it will be opened.
    pub params: Params,
    /// Fresh and unpredictable: nothing can be computed before it is known.
    pub beacon: Hash,
    /// Whose proof it is, from [`binding`].
    pub binding: Hash,
}

/// What the prover says when all work is done, before it can know what will be opened: every root at once.
/// With its arrival the clock stops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Commitment {
    /// Over the walkers of the first walk.
    pub walk: Hash,
    /// Over the lanes of the ALU chain.
    pub alu: Hash,
    /// Over the rows of each product, in order; none without a matrix chain.
    #[serde(deserialize_with = "packed::per_step")]
    #[schemars(length(max = 64))]
    pub matrix: Vec<Hash>,
    /// Over the walkers of the last walk.
    pub last_walk: Hash,
}

/// What the prover shows once the nonce is out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// Of the first walk.
    pub walk: ChainOpening,
    /// Of the ALU chain.
    pub alu: ChainOpening,
    /// Of each product, in order; none without a matrix chain.
    #[serde(deserialize_with = "packed::per_step")]
    #[schemars(length(max = 64))]
    pub matrix: Vec<StepOpening>,
    /// Of the last walk.
    pub last_walk: ChainOpening,
}

/// What is shown of a chain, for each drawn segment in the order drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChainOpening {
    /// The states of the drawn unit after each of its segments, four words each, one drawn unit after the
    /// other, as base64 of little-endian u32.
    #[serde(with = "packed")]
    #[schemars(with = "String", extend("contentEncoding" = "base64"))]
    pub states: Vec<u32>,
    /// For each drawn unit the siblings from its leaf to the root, as base64 of 32-byte hashes.
    #[serde(with = "packed")]
    #[schemars(with = "String", extend("contentEncoding" = "base64"))]
    pub paths: Vec<Hash>,
}

impl Challenge {
    /// The hash that stands for the whole challenge in every derivation: the seed.
    pub fn seed(&self) -> Hash {
        let mut h = blake3::Hasher::new_derive_key("gangline 2026 proof epoch seed");
        let Params { memory, walk, alu, matrix } = self.params;
        let chain = |c: ChainParams| [c.units, c.segments, c.steps, c.opened];
        let product = matrix.map_or([0; 3], |m| [m.n, m.steps, m.rows]);
        let numbers = [memory.blocks, memory.rounds].into_iter().chain(chain(walk)).chain(chain(alu));
        // One region is what there was before there were regions.
        let regions = [memory.regions, memory.stay].into_iter().filter(|_| memory.regions > 1);
        for number in numbers.chain(product).chain(regions) {
            h.update(&number.to_le_bytes());
        }
        h.update(&self.beacon.0).update(&self.binding.0);
        h.finalize().into()
    }
}

impl Commitment {
    /// The root that the key of the last walk comes from.
    pub fn before_last_walk(&self) -> &Hash {
        self.matrix.last().unwrap_or(&self.alu)
    }
}

/// The hash that keys a part: from the seed and the root of the part before it. The fill has none before
/// it, nor has the first walk, whose start is the memory itself.
pub fn part_hash(seed: &Hash, part: Part, root_before: Option<&Hash>) -> Hash {
    let mut h = blake3::Hasher::new_derive_key(part.context());
    h.update(&seed.0);
    h.update(&root_before.copied().unwrap_or_default().0);
    h.finalize().into()
}

/// The same as the words of a cipher's key.
pub fn part_key(seed: &Hash, part: Part, root_before: Option<&Hash>) -> Key {
    key_of(&part_hash(seed, part, root_before))
}

pub fn key_of(hash: &Hash) -> Key {
    let bytes = &hash.0;
    std::array::from_fn(|i| {
        u32::from_le_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]])
    })
}

/// What is opened: decided by the nonce and every root.
pub struct Draw {
    /// The seed of every choice.
    pub seed: Hash,
}

impl Draw {
    /// The draw for this nonce over this commitment.
    pub fn new(challenge_seed: &Hash, commitment: &Commitment, nonce: &Hash) -> Self {
        let mut h = blake3::Hasher::new_derive_key("gangline 2026 proof epoch draw");
        h.update(&challenge_seed.0).update(&nonce.0);
        let Commitment { walk, alu, matrix, last_walk } = commitment;
        h.update(&walk.0).update(&alu.0);
        for root in matrix {
            h.update(&root.0);
        }
        h.update(&last_walk.0);
        Self { seed: h.finalize().into() }
    }

    /// The drawn (unit, segment) pairs of a chain, each independent of the others. The bias of reducing 64
    /// bits to at most 2^28 values is below 2^-36.
    pub fn picks(&self, part: Part, chain: &ChainParams) -> Vec<(u32, u32)> {
        let mut stream = blake3::Hasher::new_derive_key("gangline 2026 proof epoch picks")
            .update(&self.seed.0)
            .update(&(part as u32).to_le_bytes())
            .finalize_xof();
        (0..chain.opened)
            .map(|_| {
                let place = next_u64(&mut stream) % (u64::from(chain.units) * u64::from(chain.segments));
                ((place / u64::from(chain.segments)) as u32, (place % u64::from(chain.segments)) as u32)
            })
            .collect()
    }
}
