//! Proofs from challenge to verdict. Standing is written here and nowhere else, with the verifier's
//! permit.

use gangline_guard::{Permit, act, log::Event};
use gangline_proof::{Challenge, Commitment, GpuPublicKey, Opening, Signature};
use gangline_rules::standing::{Judgement, Outcome};
use gangline_types::{GpuId, Hash, ProofId, ShownAs, Standing, Text, UnixMillis, UnixSeconds};

use crate::{Store, StoreError, books::answered, sql::Columns};

/// A challenge to be written down.
#[derive(Clone, Debug)]
pub struct NewProof {
    /// Its id.
    pub proof: ProofId,
    /// The GPU.
    pub gpu: GpuId,
    /// Which series of joining proofs.
    pub round: u32,
    /// What is asked.
    pub challenge: Challenge,
    /// The key that will sign; none if the machine named none.
    pub key: Option<GpuPublicKey>,
    /// When the clock started.
    pub began_at: UnixMillis,
    /// When roots are late.
    pub deadline_at: UnixMillis,
}

/// How far a series of proofs is.
#[derive(Clone, Copy, Debug)]
pub struct LastProof {
    /// Judged so far.
    pub judged: u32,
    /// When the last was; 0 if none.
    pub judged_at: UnixSeconds,
}

/// A proof as it is.
#[derive(Clone, Debug)]
pub struct ProofRow {
    /// Its id.
    pub proof: ProofId,
    /// The GPU.
    pub gpu: GpuId,
    /// Which series.
    pub round: u32,
    /// What was asked.
    pub challenge: Challenge,
    /// The key that signs; none if the machine named none.
    pub key: Option<GpuPublicKey>,
    /// When the clock started.
    pub began_at: UnixMillis,
    /// When roots are late.
    pub deadline_at: UnixMillis,
    /// The roots, once in.
    pub commitment: Option<Commitment>,
    /// The nonce, once released.
    pub nonce: Option<Hash>,
    /// From challenge to roots.
    pub elapsed_millis: Option<u64>,
    /// Whether it was judged.
    pub judged: bool,
}

answered! { Store,
    /// Starts the clocks of challenges to GPUs of the permit's machine.
    async fn begin_proofs(
        &self,
        permit: Permit<act::ProveGpu>,
        proofs: &[NewProof],
    ) -> Result<(), StoreError>;

    /// A proof of the permit's machine.
    async fn proof(
        &self,
        permit: &Permit<act::ProveGpu>,
        proof: ProofId,
    ) -> Result<Option<ProofRow>, StoreError>;

    /// Whether a GPU has a challenge whose clock still runs.
    async fn has_running_proof(
        &self,
        permit: &Permit<act::ProveGpu>,
        gpu: GpuId,
        now: UnixMillis,
    ) -> Result<bool, StoreError>;

    /// Stops the clock: the roots are in, once and for all, and only now the nonce exists.
    async fn commit_proof(
        &self,
        permit: &Permit<act::ProveGpu>,
        proof: ProofId,
        commitment: &Commitment,
        nonce: Hash,
        elapsed_millis: u64,
    ) -> Result<(), StoreError>;

    /// Writes a verdict down; false if there was one.
    async fn judge_proof(
        &self,
        permit: &Permit<act::Judge>,
        proof: ProofId,
        outcome: &Outcome,
        finding: &Text<240>,
        opened: Option<(&Opening, Option<&Signature>)>,
    ) -> Result<bool, StoreError>;

    /// How many of a GPU's proofs of one series were judged, and when the last was.
    async fn last_proof(
        &self,
        permit: &Permit<act::Judge>,
        gpu: GpuId,
        round: u32,
    ) -> Result<LastProof, StoreError>;

    /// Outcomes of a GPU's proofs of one series, oldest first.
    async fn outcomes(
        &self,
        permit: &Permit<act::Judge>,
        gpu: GpuId,
        round: u32,
    ) -> Result<Vec<Outcome>, StoreError>;

    /// Proofs whose clock ran out without a verdict, oldest first, at most 1,000.
    async fn overdue_proofs(
        &self,
        permit: &Permit<act::Judge>,
        before: UnixMillis,
    ) -> Result<Vec<ProofRow>, StoreError>;

    /// Sets what follows from a GPU's verdicts.
    async fn set_standing(
        &self,
        permit: &Permit<act::Judge>,
        gpu: GpuId,
        judgement: &Judgement,
    ) -> Result<(), StoreError>;
}

/// What the log holds of a judgement, after a GPU stood like this.
pub(crate) fn what_changed(
    gpu: GpuId,
    standing: Standing,
    shown_as: Option<&ShownAs>,
    judgement: &Judgement,
) -> Vec<Event> {
    let mut events = vec![];
    if standing != judgement.standing {
        events.push(Event::Standing { gpu, standing: judgement.standing });
    }
    if judgement.shown_as.is_some() && shown_as != judgement.shown_as.as_ref() {
        events.push(Event::Relabelled { gpu, matrix_mmacs: judgement.profile.matrix_mmacs });
    }
    events
}

pub(crate) fn proof_row(row: &impl Columns) -> Result<ProofRow, StoreError> {
    Ok(ProofRow {
        proof: row.id("id")?,
        gpu: row.id("gpu")?,
        round: row.int("round")? as u32,
        challenge: row.json("challenge")?,
        key: row.hash_or_none("gpu_key")?.map(GpuPublicKey),
        began_at: UnixMillis(row.int("began_at_millis")?),
        deadline_at: UnixMillis(row.int("deadline_at_millis")?),
        commitment: row.json_or_none("commitment")?,
        nonce: row.hash_or_none("nonce")?,
        elapsed_millis: row.int_or_none("elapsed_millis")?,
        judged: row.int_or_none("judged_at")?.is_some(),
    })
}
