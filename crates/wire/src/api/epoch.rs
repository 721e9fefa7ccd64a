//! Epoch proofs: a notice before the bell, challenges with it, roots, openings; and tables of calibration.

use gangline_proof::epoch::{Challenge, Commitment, GpuPublicKey, Opening, Params, Signature};
use gangline_types::{Backend, GpuId, Hash, ProofId, Standing, Text, UnixMillis, UnixSeconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The bell will ring for these GPUs: get ready, then ask for challenges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EpochNotice {
    /// What to be ready for, a GPU each.
    pub gpus: Vec<EpochReady>,
}

/// What one GPU should be ready for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EpochReady {
    /// The GPU.
    pub gpu: GpuId,
    /// How much work it will be.
    pub params: Params,
}

/// Which GPUs are ready.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct BellRequest {
    /// At most 64; warmed up, for the answer comes with the bell.
    #[serde(deserialize_with = "crate::body::at_most::<64, _, _>")]
    #[schemars(length(max = 64))]
    pub gpus: Vec<BellGpu>,
    /// GPUs that were called and cannot answer, at most 64: the epoch counts as missed, with the reason on the GPU's page.
    #[serde(default, deserialize_with = "crate::body::at_most::<64, _, _>")]
    #[schemars(length(max = 64))]
    pub unable: Vec<BellUnable>,
}

/// One GPU that was called and cannot answer.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct BellUnable {
    /// The GPU.
    pub gpu: GpuId,
    /// Why, in words for its owner and the public.
    pub why: Text<160>,
}

/// One GPU that is ready.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct BellGpu {
    /// The GPU.
    pub gpu: GpuId,
    /// The key that will sign for it.
    pub key: GpuPublicKey,
}

/// The bell: the clock runs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EpochChallenges {
    /// One for each GPU, in the order asked.
    pub challenges: Vec<EpochChallenge>,
}

/// One GPU's challenge.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EpochChallenge {
    /// The GPU.
    pub gpu: GpuId,
    /// The proof's id.
    pub proof: ProofId,
    /// What to compute.
    pub challenge: Challenge,
    /// Milliseconds from the bell within which roots pass; none where nothing was calibrated yet.
    pub deadline_millis: Option<u64>,
}

/// All roots.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EpochCommit {
    /// Every root at once.
    pub commitment: Commitment,
}

/// The roots are in: now this is what to open by.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EpochReceipt {
    /// Fresh randomness.
    pub nonce: Hash,
    /// Time from the bell to the roots by the server's clock.
    pub elapsed_millis: u64,
    /// Hand the opening in after so long: openings are spread so that all can be verified.
    pub open_in_millis: u64,
}

/// The opening, and the signature over the whole proof.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EpochOpen {
    /// What the nonce asked for.
    pub opening: Opening,
    /// By the GPU's key.
    pub signature: Signature,
}

/// What the verifier found.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EpochVerdict {
    /// Whether it passed.
    pub accepted: bool,
    /// In words.
    pub finding: Text<240>,
    /// How the GPU stands now.
    pub standing: Standing,
    /// Why.
    pub reason: Text<240>,
}

/// How one epoch ended, as anybody sees it. Its transcript is a file that `gangline verify proof` checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublicEpoch {
    /// Its id.
    pub id: ProofId,
    /// The GPU.
    pub gpu: GpuId,
    /// When the bell rang.
    pub bell: UnixMillis,
    /// When it was judged.
    pub judged_at: UnixSeconds,
    /// Whether it passed.
    pub accepted: bool,
    /// Which resource, what was allowed, what was measured, in words.
    pub finding: Text<240>,
    /// From the bell to the roots; none if none came.
    pub elapsed_millis: Option<u64>,
    /// What was allowed; none where nothing was calibrated.
    pub deadline_millis: Option<u64>,
    /// Bytes held, at least; 0 unless it passed.
    pub memory_bytes: u64,
    /// Random reads in MB/s, at least; 0 unless it passed.
    pub read_mbps: u64,
    /// ALU steps in millions a second, at least; 0 unless it passed.
    pub alu_msteps: u64,
    /// Whether there is a transcript to download.
    pub transcript: bool,
}

/// One median.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CalibrationEntry {
    /// The claimed model.
    pub model: Text<128>,
    /// The graphics interface.
    pub backend: Backend,
    /// The driver and its version.
    pub build: Text<128>,
    /// The work: a hash of its parameters.
    pub work: Hash,
    /// Accounts that it was learned from.
    pub accounts: u32,
    /// Milliseconds from the bell to the last root.
    pub median_millis: u64,
}

/// A version of all medians, with its operator's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CalibrationTable {
    /// Which version; each once.
    pub version: u32,
    /// In rising order of model, backend, build and work.
    #[serde(deserialize_with = "crate::body::at_most::<10000, _, _>")]
    #[schemars(length(max = 10000))]
    pub entries: Vec<CalibrationEntry>,
}

/// A table to be watched as a canary.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CalibrationSubmit {
    /// The table.
    pub table: CalibrationTable,
    /// The operator's public key: the one that signs the request.
    pub signer: Hash,
    /// Ed25519 by the operator's key over the table's digest, 128 hex digits.
    pub signature: Text<128>,
}

/// A table as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublicCalibration {
    /// The table.
    pub table: CalibrationTable,
    /// `canary`, `promoted` or `withdrawn`.
    pub state: Text<16>,
    /// What was signed.
    pub digest: Hash,
    /// The public key that signed.
    pub signer: Hash,
    /// 128 hex digits.
    pub signature: Text<128>,
    /// When it was handed in.
    pub made_at: UnixSeconds,
    /// Accepted proofs it had a median for while it was watched.
    pub judged: u64,
    /// How many of them it would have failed.
    pub failed: u64,
}

/// What to do with a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CalibrationMove {
    /// True: it sets deadlines from now on, in the place of the one before. False: it counts no more.
    pub promote: bool,
}
