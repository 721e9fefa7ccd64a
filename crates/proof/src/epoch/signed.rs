//! Who answers for a transcript, and the file that anyone can check offline.
//!
//! A machine has one key; its transcripts may not show which GPUs share a machine (decision 0005). So each GPU
//! signs with a key of its own that follows from the machine's secret and the GPU's id and from nothing
//! public: two keys of one machine are strangers to everybody else. The server learns each key from a request
//! that the machine signs (decision 0028).
//!
//! Knows no file and no clock.

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use gangline_types::{GpuId, Hash};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ChainOpening, Challenge, Commitment, Opening, Params, Rejection, Verified, binding, verify};

/// What the first field of every transcript says.
const FORMAT: &str = "gangline epoch proof 1";

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

    /// Signs a whole proof.
    pub fn sign(
        &self,
        challenge: &Challenge,
        commitment: &Commitment,
        nonce: &Hash,
        opening: &Opening,
    ) -> Signature {
        Signature(self.key.sign(&digest(challenge, commitment, nonce, opening).0).to_bytes().to_vec())
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

/// An epoch proof from challenge to signature: all that is needed to verify it, and nothing that names a
/// machine. It has no times: those are the server's to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Transcript {
    /// `gangline epoch proof 1`.
    pub format: String,
    /// The GPU.
    pub gpu: GpuId,
    /// The key that signs for it.
    pub key: GpuPublicKey,
    /// What was asked.
    pub challenge: Challenge,
    /// All roots.
    pub commitment: Commitment,
    /// Released after the roots.
    pub nonce: Hash,
    /// What was opened.
    pub opening: Opening,
    /// Over all of it.
    pub signature: Signature,
}

/// Why a transcript is refused.
#[derive(Debug, thiserror::Error)]
pub enum Faulty {
    /// It is larger than any transcript.
    #[error("{0} bytes are more than a transcript may have ({max})", max = Params::TRANSCRIPT_BYTES_MAX)]
    TooLong(usize),
    /// It cannot be read.
    #[error("it cannot be read as a transcript: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Another format, or a later one.
    #[error("its format is {0:?}, and this program knows {FORMAT:?}")]
    Format(String),
    /// The challenge was bound to another key or another GPU.
    #[error("the challenge is bound to another GPU or another key than the transcript names")]
    Binding,
    /// The signature is not of this key over this proof.
    #[error("the signature is not this key's over this proof")]
    Signature,
    /// The proof does not hold.
    #[error(transparent)]
    Rejected(#[from] Rejection),
}

impl Faulty {
    /// A stable code for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong(_) => "too_long",
            Self::Unreadable(_) => "unreadable",
            Self::Format(_) => "unknown_format",
            Self::Binding => "wrong_binding",
            Self::Signature => "wrong_signature",
            Self::Rejected(rejection) => rejection.code(),
        }
    }
}

impl Transcript {
    /// Puts a transcript together; says nothing of whether it holds.
    pub fn new(
        gpu: GpuId,
        key: GpuPublicKey,
        challenge: Challenge,
        commitment: Commitment,
        nonce: Hash,
        opening: Opening,
        signature: Signature,
    ) -> Self {
        Self { format: FORMAT.to_owned(), gpu, key, challenge, commitment, nonce, opening, signature }
    }

    /// Reads one from JSON, refusing what is too long before it is read.
    ///
    /// # Errors
    /// If it is too long or cannot be read.
    pub fn parse(text: &[u8]) -> Result<Self, Faulty> {
        if text.len() as u64 > Params::TRANSCRIPT_BYTES_MAX {
            return Err(Faulty::TooLong(text.len()));
        }
        Ok(serde_json::from_slice(text)?)
    }

    /// Whether key, GPU and challenge belong together and the key signed exactly this.
    ///
    /// # Errors
    /// If not.
    pub fn check_signature(&self) -> Result<(), Faulty> {
        if self.format != FORMAT {
            return Err(Faulty::Format(self.format.chars().take(64).collect()));
        }
        if self.key.binding(self.gpu) != self.challenge.binding {
            return Err(Faulty::Binding);
        }
        let message = digest(&self.challenge, &self.commitment, &self.nonce, &self.opening);
        let key = VerifyingKey::from_bytes(&self.key.0.0).map_err(|_| Faulty::Signature)?;
        ed25519_dalek::Signature::from_slice(&self.signature.0)
            .and_then(|signature| key.verify_strict(&message.0, &signature))
            .map_err(|_| Faulty::Signature)
    }

    /// Judges all of it: format, binding, signature, proof.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<Verified, Faulty> {
        self.check_signature()?;
        Ok(verify(&self.challenge, &self.commitment, &self.nonce, &self.opening)?)
    }
}

/// Reads and judges any bytes. For fuzzing: must neither panic nor take long whatever they are.
///
/// # Errors
/// Nearly always.
pub fn fuzz_transcript(bytes: &[u8]) -> Result<Verified, Faulty> {
    let transcript = Transcript::parse(bytes)?;
    // A signature would stop every mutation; here the proof itself is what is tried.
    let shown = verify(&transcript.challenge, &transcript.commitment, &transcript.nonce, &transcript.opening);
    transcript.check_signature()?;
    Ok(shown?)
}

/// What is signed.
pub(super) fn digest(
    challenge: &Challenge,
    commitment: &Commitment,
    nonce: &Hash,
    opening: &Opening,
) -> Hash {
    let mut h = blake3::Hasher::new_derive_key("gangline 2026 proof epoch signature");
    h.update(&challenge.seed().0).update(&nonce.0);
    let Commitment { walk, alu, matrix, last_walk } = commitment;
    h.update(&walk.0).update(&alu.0).update(&(matrix.len() as u32).to_le_bytes());
    for root in matrix {
        h.update(&root.0);
    }
    h.update(&last_walk.0);
    // Every vector goes in with its length before it, so no two openings read the same.
    for ChainOpening { states, paths } in [&opening.walk, &opening.alu, &opening.last_walk] {
        h.update(&(states.len() as u64).to_le_bytes()).update(bytemuck::cast_slice(states));
        hashes(&mut h, paths);
    }
    h.update(&(opening.matrix.len() as u64).to_le_bytes());
    for step in &opening.matrix {
        h.update(&(step.y.len() as u64).to_le_bytes()).update(bytemuck::cast_slice(&step.y));
        h.update(&(step.rows.len() as u64).to_le_bytes()).update(bytemuck::cast_slice(&step.rows));
        hashes(&mut h, &step.paths);
    }
    h.finalize().into()
}

fn hashes(h: &mut blake3::Hasher, all: &[Hash]) {
    h.update(&(all.len() as u64).to_le_bytes());
    for hash in all {
        h.update(&hash.0);
    }
}
