//! A proof in three steps: challenges for all GPUs of a machine at once, roots, openings. The nonce
//! that says what to open exists for the prover only after its roots are in.

use gangline_proof::{Challenge, Commitment, NotTheirs, Opening, Signature, Signed};
use gangline_types::{GpuId, Hash, Profile, ProofId, Standing, Text, UnixSeconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::epoch::BellGpu;

/// Which GPUs are ready to be challenged.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ProofRequest {
    /// At most 64; warmed up, for the clock starts with the answer.
    #[serde(deserialize_with = "crate::body::at_most::<64, _, _>")]
    #[schemars(length(max = 64))]
    pub gpus: Vec<GpuId>,
    /// The keys that will sign for them, at most 64; the challenge of a GPU without one is bound to the machine's key, and
    /// its proof carries no signature.
    #[serde(default, deserialize_with = "crate::body::at_most::<64, _, _>")]
    #[schemars(length(max = 64))]
    pub keys: Vec<BellGpu>,
}

/// One GPU's challenge.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct GpuChallenge {
    /// The GPU.
    pub gpu: GpuId,
    /// The proof's id.
    pub proof: ProofId,
    /// What to compute.
    pub challenge: Challenge,
    /// Roots that come later than this many seconds are late.
    pub deadline_seconds: u64,
}

/// Challenges, in the order asked.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ProofChallenges {
    /// One for each GPU.
    pub challenges: Vec<GpuChallenge>,
}

/// The roots.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CommitRequest {
    /// One root a step.
    pub commitment: Commitment,
}

/// The roots are in: now this is what to open by.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CommitReceipt {
    /// Fresh randomness.
    pub nonce: Hash,
    /// Time from challenge to roots by the server's clock.
    pub elapsed_millis: u64,
}

/// The openings.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct OpenRequest {
    /// What the nonce asked for.
    pub opening: Opening,
    /// By the key that was named for the GPU, over the whole proof; none from a worker that named none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

/// What the verifier found.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// Whether this transcript is right.
    pub accepted: bool,
    /// In words.
    pub finding: Text<240>,
    /// What it shows.
    pub profile: Profile,
    /// How the GPU stands now.
    pub standing: Standing,
    /// Why.
    pub reason: Text<240>,
    /// Whether the network wants another proof of this GPU now.
    pub again: bool,
}

/// A proof from challenge to verdict: all that is needed to verify it again.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Transcript {
    /// Its id.
    pub proof: ProofId,
    /// The GPU.
    pub gpu: GpuId,
    /// What was asked. Its binding is a hash of the key of the GPU, or of the machine where there is no signature, and the GPU's id.
    pub challenge: Challenge,
    /// The roots.
    pub commitment: Commitment,
    /// Released after the roots.
    pub nonce: Hash,
    /// The openings.
    pub opening: Opening,
    /// Who answers for all of the above; none of older books and of workers that did not sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<Signed>,
    /// From challenge to roots by the server's clock.
    pub elapsed_millis: u64,
    /// When it was judged.
    pub judged_at: UnixSeconds,
    /// The verdict.
    pub accepted: bool,
    /// In words.
    pub finding: Text<240>,
}

impl Transcript {
    /// Whether the signature is right; false without one.
    ///
    /// # Errors
    /// When it is not the named key's, over this proof and of this GPU.
    pub fn check_signature(&self) -> Result<bool, NotTheirs> {
        let Some(signed) = &self.signed else { return Ok(false) };
        signed.check(self.gpu, &self.challenge, &self.commitment, &self.nonce, &self.opening)?;
        Ok(true)
    }
}
