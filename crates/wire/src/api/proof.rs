//! A proof in three steps: challenges for all GPUs of a machine at once, roots, openings. The nonce
//! that says what to open exists for the prover only after its roots are in.

use gangline_proof::{Challenge, Commitment, Opening};
use gangline_types::{GpuId, Hash, Profile, ProofId, Standing, Text, UnixSeconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which GPUs are ready to be challenged.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProofRequest {
    /// At most 64; warmed up, for the clock starts with the answer.
    #[schemars(length(max = 64))]
    pub gpus: Vec<GpuId>,
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
#[serde(deny_unknown_fields)]
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
#[serde(deny_unknown_fields)]
pub struct OpenRequest {
    /// What the nonce asked for.
    pub opening: Opening,
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
    /// What was asked. Its binding is a hash of machine key and GPU id; it names neither.
    pub challenge: Challenge,
    /// The roots.
    pub commitment: Commitment,
    /// Released after the roots.
    pub nonce: Hash,
    /// The openings.
    pub opening: Opening,
    /// From challenge to roots by the server's clock.
    pub elapsed_millis: u64,
    /// When it was judged.
    pub judged_at: UnixSeconds,
    /// The verdict.
    pub accepted: bool,
    /// In words.
    pub finding: Text<240>,
}
