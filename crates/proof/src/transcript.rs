//! The messages of a matrix proof, and everything both sides derive from them: keys of the
//! matrices, the vector of the check, and which rows are opened.
//!
//! Knows neither how products are made nor how they are judged. Each derivation has a context of
//! its own, so no value can be taken for another.

use gangline_types::{GpuId, Hash};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{MatrixParams, chacha::Key, field, packed};

/// What a proof of a worker that does not sign is bound to: one GPU of the machine that holds one key. It names neither; only who
/// already knows both can recompute it. One that will be signed is bound to the key of its GPU ([`crate::GpuPublicKey::binding`]).
pub fn binding(machine_public_key: &[u8; 32], gpu: GpuId) -> Hash {
    blake3::Hasher::new_derive_key("gangline 2026 proof binding of a machine key and a GPU")
        .update(machine_public_key)
        .update(gpu.as_bytes())
        .finalize()
        .into()
}

/// What the verifier asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// How much work, and how much of it will be opened.
    pub params: MatrixParams,
    /// Fresh and unpredictable: nothing can be computed before it is known.
    pub beacon: Hash,
    /// Whose proof it is, from [`crate::GpuPublicKey::binding`], or from [`binding`] where the worker does not sign.
    pub binding: Hash,
}

/// What the prover says when the work is done, before it can know what will be opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Commitment {
    /// The root over the rows of each step's product, in order.
    #[serde(deserialize_with = "packed::per_step")]
    #[schemars(length(min = 1, max = 64))]
    pub roots: Vec<Hash>,
}

/// What the prover shows once the nonce is out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// One for each step, in order.
    #[serde(deserialize_with = "packed::per_step")]
    #[schemars(length(min = 1, max = 64))]
    pub steps: Vec<StepOpening>,
}

/// What is shown of one step: `y = C r`, and the rows that were drawn, in rising order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepOpening {
    /// `n` elements modulo 2^61 - 1, as base64 of little-endian u64.
    #[serde(with = "packed")]
    #[schemars(with = "String", extend("contentEncoding" = "base64"))]
    pub y: Vec<u64>,
    /// The drawn rows one after the other, `rows * n` entries, as base64 of little-endian i32.
    #[serde(with = "packed")]
    #[schemars(with = "String", extend("contentEncoding" = "base64"))]
    pub rows: Vec<i32>,
    /// For each drawn row the siblings from its leaf to the root, as base64 of 32-byte hashes.
    #[serde(with = "packed")]
    #[schemars(with = "String", extend("contentEncoding" = "base64"))]
    pub paths: Vec<Hash>,
}

impl Challenge {
    /// The hash that stands for the whole challenge in every derivation.
    pub fn digest(&self) -> Hash {
        let mut h = blake3::Hasher::new_derive_key("gangline 2026 proof matrix challenge");
        for number in [self.params.n, self.params.steps, self.params.rows] {
            h.update(&number.to_le_bytes());
        }
        h.update(&self.beacon.0).update(&self.binding.0);
        h.finalize().into()
    }
}

/// The key of the matrices of `step`, from the root of the step before (zero bytes for the first):
/// no step can be started before the one before it is committed.
pub fn step_key(challenge_digest: &Hash, step: u32, root_before: &Hash) -> Key {
    let hash = blake3::Hasher::new_derive_key("gangline 2026 proof matrix step")
        .update(&challenge_digest.0)
        .update(&step.to_le_bytes())
        .update(&root_before.0)
        .finalize();
    let mut key = [0; 8];
    for (word, bytes) in key.iter_mut().zip(hash.as_bytes().chunks_exact(4)) {
        *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    key
}

/// The rows that a nonce asks for in every step, in rising order: for whoever measures how often a prover that
/// skipped some of them is found. An opening of the wrong shape gives rows that mean nothing.
pub fn drawn_rows(
    challenge: &Challenge,
    commitment: &Commitment,
    nonce: &Hash,
    opening: &Opening,
) -> Vec<Vec<u32>> {
    let draw = Draw::new(&challenge.digest(), &commitment.roots, nonce);
    draw.rows(&challenge.params, opening.steps.iter().map(|step| step.y.as_slice()))
}

/// What the nonce decides, given all roots.
pub struct Draw {
    seed: Hash,
}

impl Draw {
    /// The draw for this nonce over these roots.
    pub fn new(challenge_digest: &Hash, roots: &[Hash], nonce: &Hash) -> Self {
        let mut h = blake3::Hasher::new_derive_key("gangline 2026 proof matrix draw");
        h.update(&challenge_digest.0).update(&nonce.0);
        for root in roots {
            h.update(&root.0);
        }
        Self { seed: h.finalize().into() }
    }

    /// The vector r of `step`: `n` elements modulo p.
    pub fn vector(&self, step: u32, n: u32) -> Vec<u64> {
        let mut stream = blake3::Hasher::new_derive_key("gangline 2026 proof matrix vector")
            .update(&self.seed.0)
            .update(&step.to_le_bytes())
            .finalize_xof();
        (0..n).map(|_| field::from_random(next_u64(&mut stream))).collect()
    }

    /// The rows to open in every step. They depend on the `y` of all steps, which are thereby fixed
    /// before anybody knows the rows. `rows` distinct numbers below `n` in rising order for each step.
    pub fn rows<'a>(
        &self,
        params: &MatrixParams,
        y_of_all_steps: impl Iterator<Item = &'a [u64]>,
    ) -> Vec<Vec<u32>> {
        let mut h = blake3::Hasher::new_derive_key("gangline 2026 proof matrix rows");
        h.update(&self.seed.0);
        for y in y_of_all_steps {
            for element in y {
                h.update(&element.to_le_bytes());
            }
        }
        let mut stream = h.finalize_xof();
        (0..params.steps).map(|_| distinct(&mut stream, params.rows, params.n)).collect()
    }
}

/// The first `count` places of a Fisher-Yates shuffle of 0..n, sorted. The bias of reducing 64 bits
/// to at most 2^13 values is below 2^-50.
fn distinct(stream: &mut blake3::OutputReader, count: u32, n: u32) -> Vec<u32> {
    let mut places: Vec<u32> = (0..n).collect();
    for i in 0..count.min(n) {
        let j = u64::from(i) + next_u64(stream) % u64::from(n - i);
        places.swap(i as usize, j as usize);
    }
    places.truncate(count as usize);
    places.sort_unstable();
    places
}

pub fn next_u64(stream: &mut blake3::OutputReader) -> u64 {
    let mut bytes = [0; 8];
    stream.fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
