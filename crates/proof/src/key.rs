//! Who answers for a transcript.
//!
//! A machine has one key; its transcripts may not show which GPUs share a machine (decision 0005). So each GPU
//! signs with a key of its own that follows from the machine's secret and the GPU's id and from nothing
//! public: two keys of one machine are strangers to everybody else. The server learns each key from a request
//! that the machine signs (decision 0028).

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use gangline_types::{GpuId, Hash};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{StepOpening, epoch::binding};

/// The key that signs for one GPU.
pub struct GpuKey {
    key: SigningKey,
    gpu: GpuId,
}

impl GpuKey {
    /// The key of this GPU on the machine with this secret. The same every time; nothing about it is stored.
    pub fn derive(machine_secret: &[u8; 32], gpu: GpuId) -> Self {
        let seed = blake3::Hasher::new_derive_key("gangline 2026 proof key of one GPU of a machine")
            .update(machine_secret)
            .update(gpu.as_bytes())
            .finalize();
        Self { key: SigningKey::from_bytes(seed.as_bytes()), gpu }
    }

    /// The public half, to be told to the server in a request that the machine signs.
    pub fn public(&self) -> GpuPublicKey {
        GpuPublicKey(Hash(self.key.verifying_key().to_bytes()))
    }

    /// What this GPU's proofs are bound to.
    pub fn binding(&self) -> Hash {
        binding(&self.public().0.0, self.gpu)
    }

    /// Signs this hash of a whole proof.
    pub(crate) fn sign_digest(&self, digest: &Hash) -> Signature {
        Signature(self.key.sign(&digest.0).to_bytes().to_vec())
    }
}

impl std::fmt::Debug for GpuKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GpuKey([redacted])")
    }
}

/// The public half of a [`GpuKey`]: Ed25519, 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct GpuPublicKey(pub Hash);

impl GpuPublicKey {
    /// What proofs of this GPU under this key are bound to.
    pub fn binding(&self, gpu: GpuId) -> Hash {
        binding(&self.0.0, gpu)
    }

    /// Whether it signed `digest`, the hash of a whole proof of this GPU whose challenge has this binding.
    pub(crate) fn answers_for(
        &self,
        gpu: GpuId,
        binding: &Hash,
        digest: &Hash,
        signature: &Signature,
    ) -> Result<(), NotTheirs> {
        if self.binding(gpu) != *binding {
            return Err(NotTheirs::Binding);
        }
        let key = VerifyingKey::from_bytes(&self.0.0).map_err(|_| NotTheirs::Signature)?;
        ed25519_dalek::Signature::from_slice(&signature.0)
            .and_then(|signature| key.verify_strict(&digest.0, &signature))
            .map_err(|_| NotTheirs::Signature)
    }

    /// Whether it is a point of the curve and none of small order: fit to be remembered by a server.
    pub fn is_sound(&self) -> bool {
        VerifyingKey::from_bytes(&self.0.0).is_ok_and(|key| !key.is_weak())
    }
}

/// An Ed25519 signature over a whole proof, 64 bytes as base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Signature(
    #[serde(with = "crate::packed")]
    #[schemars(with = "String", extend("contentEncoding" = "base64"))]
    Vec<u8>,
);

/// Why a transcript is not of the key that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTheirs {
    /// The challenge was bound to another key or another GPU.
    #[error("the challenge is bound to another GPU or another key than the transcript names")]
    Binding,
    /// The signature is not of this key over this proof.
    #[error("the signature is not this key's over this proof")]
    Signature,
}

impl NotTheirs {
    /// A stable code for machines.
    pub fn code(self) -> &'static str {
        match self {
            Self::Binding => "wrong_binding",
            Self::Signature => "wrong_signature",
        }
    }
}

/// Puts what is opened of products into a hash that is signed. Every vector goes in with its length before it, so no two
/// openings read the same.
pub(crate) fn put_steps(h: &mut blake3::Hasher, steps: &[StepOpening]) {
    h.update(&(steps.len() as u64).to_le_bytes());
    for step in steps {
        h.update(&(step.y.len() as u64).to_le_bytes()).update(bytemuck::cast_slice(&step.y));
        h.update(&(step.rows.len() as u64).to_le_bytes()).update(bytemuck::cast_slice(&step.rows));
        put_hashes(h, &step.paths);
    }
}

/// Puts hashes into one that is signed, with how many before them.
pub(crate) fn put_hashes(h: &mut blake3::Hasher, all: &[Hash]) {
    h.update(&(all.len() as u64).to_le_bytes());
    for hash in all {
        h.update(&hash.0);
    }
}
