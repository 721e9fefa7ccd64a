//! Appeals against a standing, and the verifiers that decide them.

use gangline_types::{AppealId, GpuId, Hash, ProofId, Text, UnixSeconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A verifier: somebody with a key of their own who judges re-runs. Neither key nor name is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verifier {
    /// Its Ed25519 key.
    pub key: Hash,
    /// What it is called.
    pub name: Text<64>,
}

/// Registers a verifier, or ends one.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct VerifierChange {
    /// Which.
    pub verifier: Verifier,
    /// Whether it is put before appeals from now on. Appeals that are open keep those they were put before.
    pub on: bool,
}

/// A verifier's verdict on the re-run of an appeal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignedVerdict {
    /// The verifier's key.
    pub verifier: Hash,
    /// SHA-256 of the JSON of the transcript that it judged, as published.
    pub digest: Hash,
    /// Whether it found every bit of it right.
    pub right: bool,
    /// Ed25519 over BLAKE3 in `derive_key` mode, context `gangline 2026 verdict of an appeal`, of the appeal's id (16 bytes),
    /// the digest (32) and one byte, 1 if right; 128 hex digits.
    pub signature: Text<128>,
}

/// An appeal as anybody sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublicAppeal {
    /// Its id.
    pub id: AppealId,
    /// The GPU.
    pub gpu: GpuId,
    /// When it was opened.
    pub opened_at: UnixSeconds,
    /// Whom it was put before.
    pub verifiers: Vec<Verifier>,
    /// How many of them must agree.
    pub quorum: u32,
    /// The re-run's epoch; none until the GPU has answered it.
    pub proof: Option<ProofId>,
    /// SHA-256 of its transcript's JSON.
    pub digest: Option<Hash>,
    /// Whether it was in time by the network's clock.
    pub in_time: bool,
    /// Verdicts, in the order they came.
    pub verdicts: Vec<SignedVerdict>,
    /// Whether it was upheld; none while it is open.
    pub upheld: Option<bool>,
    /// When it was decided.
    pub ended_at: Option<UnixSeconds>,
}
