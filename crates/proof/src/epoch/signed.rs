//! What a GPU's key signs of an epoch, and the file that anyone can check offline. Knows no file and no clock.

use gangline_types::{GpuId, Hash};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ChainOpening, Challenge, Commitment, Opening, Params, Rejection, Verified, verify};
use crate::key::{self, GpuKey, GpuPublicKey, NotTheirs, Signature};

/// What the first field of every transcript says.
const FORMAT: &str = "gangline epoch proof 1";

impl GpuKey {
    /// Signs a whole epoch proof.
    pub fn sign(
        &self,
        challenge: &Challenge,
        commitment: &Commitment,
        nonce: &Hash,
        opening: &Opening,
    ) -> Signature {
        self.sign_digest(&digest(challenge, commitment, nonce, opening))
    }
}

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
    /// It is not of the key that it names.
    #[error(transparent)]
    NotTheirs(#[from] NotTheirs),
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
            Self::NotTheirs(why) => why.code(),
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
        let digest = digest(&self.challenge, &self.commitment, &self.nonce, &self.opening);
        Ok(self.key.answers_for(self.gpu, &self.challenge.binding, &digest, &self.signature)?)
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
        key::put_hashes(&mut h, paths);
    }
    key::put_steps(&mut h, &opening.matrix);
    h.finalize().into()
}
