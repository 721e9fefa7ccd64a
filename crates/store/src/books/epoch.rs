//! Epoch proofs from bell to verdict, and the tables of calibration that set their deadlines.

use gangline_guard::{Permit, act, log::entry::TableStep};
use gangline_proof::epoch::{Challenge, Commitment, GpuPublicKey, Opening, Signature, Transcript};
use gangline_rules::{
    calibration::{Entry, Observation, State, Table, Watched},
    epochs::{Heard, Outcome, Shown},
};
use gangline_types::{GpuClaim, GpuId, Hash, Hour, ProofId, Standing, Text, UnixMillis, UnixSeconds};
use gangline_wire::{
    PublicKey,
    api::epoch::{CalibrationEntry, CalibrationTable, PublicCalibration, PublicEpoch},
};

use crate::{PublicStore, Store, StoreError, books::answered, sql::Columns};

/// Epochs copied to the projection in one look.
pub(crate) const COPIED_AT_ONCE: i64 = 200;
/// A GPU is taken to be there at the bell if it beat so shortly before, in seconds.
pub(crate) const ALIVE_SECONDS: u64 = 120;
/// Who was proven so shortly before a bell may not have been told of it, in seconds.
pub(crate) const TOLD_SECONDS: u64 = 60;

/// A challenge to be written down.
#[derive(Clone, Debug)]
pub struct NewEpoch {
    /// Its id.
    pub proof: ProofId,
    /// The GPU.
    pub gpu: GpuId,
    /// Which series of joining proofs it follows.
    pub round: u32,
    /// The hour of the network's bell; none at enrolment.
    pub hour: Option<Hour>,
    /// When the bell rang.
    pub bell: UnixMillis,
    /// What is asked.
    pub challenge: Challenge,
    /// The key that will sign.
    pub key: GpuPublicKey,
    /// A hash of how much is asked.
    pub work: Hash,
    /// Milliseconds allowed, where something was calibrated.
    pub deadline_millis: Option<u64>,
}

/// An epoch proof as it is.
#[derive(Clone, Debug)]
pub struct EpochRow {
    /// Its id.
    pub proof: ProofId,
    /// The GPU.
    pub gpu: GpuId,
    /// When the bell rang.
    pub bell: UnixMillis,
    /// What was asked.
    pub challenge: Challenge,
    /// The key that signs.
    pub key: GpuPublicKey,
    /// A hash of how much was asked.
    pub work: Hash,
    /// Milliseconds allowed.
    pub deadline_millis: Option<u64>,
    /// The roots, once in.
    pub commitment: Option<Commitment>,
    /// The nonce, once released.
    pub nonce: Option<Hash>,
    /// From the bell to the roots.
    pub elapsed_millis: Option<u64>,
    /// Whether it was judged.
    pub judged: bool,
}

/// What decides whether the bell rings for a GPU.
#[derive(Clone, Debug)]
pub struct EpochStand {
    /// The GPU.
    pub gpu: GpuId,
    /// What it is said to be.
    pub claim: GpuClaim,
    /// What the network thinks of it.
    pub standing: Standing,
    /// Which series of joining proofs it is in.
    pub round: u32,
    /// Epochs judged in this series.
    pub judged: u32,
    /// The hour of the last bell that it answered or missed.
    pub last_hour: Option<Hour>,
    /// The last bell of any kind that it answered or missed.
    pub last_bell: Option<UnixMillis>,
    /// A renter has it.
    pub hired: bool,
    /// An appeal waits for it to be measured again.
    pub appealed: bool,
    /// An epoch is not judged yet.
    pub running: bool,
}

/// A table and who signed it.
#[derive(Clone, Debug)]
pub struct CalibrationRow {
    /// The table.
    pub table: Table,
    /// Where it stands.
    pub state: State,
    /// Who signed.
    pub signer: PublicKey,
    /// The signature, 64 bytes.
    pub signature: Vec<u8>,
    /// When it was handed in.
    pub made_at: UnixSeconds,
    /// What it has seen.
    pub watched: Watched,
}

impl CalibrationRow {
    /// As anybody sees it.
    pub fn public(&self) -> PublicCalibration {
        let row = self;
        let entry = |entry: &Entry| CalibrationEntry {
            model: entry.key.model.clone(),
            backend: entry.key.backend,
            build: entry.key.build.clone(),
            work: entry.key.work,
            accounts: entry.accounts,
            median_millis: entry.median_millis,
        };
        let signature: String = row.signature.iter().map(|byte| format!("{byte:02x}")).collect();
        PublicCalibration {
            table: CalibrationTable {
                version: row.table.version,
                entries: row.table.entries.iter().map(entry).collect(),
            },
            state: Text::lossy(row.state.as_str()),
            digest: row.table.digest(),
            signer: Hash(*row.signer.as_bytes()),
            signature: Text::lossy(&signature),
            made_at: row.made_at,
            judged: row.watched.judged,
            failed: row.watched.failed,
        }
    }
}

answered! { Store,
    /// The GPUs of the permit's machine that are there, as the bell sees them.
    async fn epoch_stands(&self, permit: &Permit<act::ProveGpu>) -> Result<Vec<EpochStand>, StoreError>;

    /// Writes challenges to GPUs of the permit's machine down.
    async fn begin_epochs(&self, permit: &Permit<act::ProveGpu>, epochs: &[NewEpoch]) -> Result<(), StoreError>;

    /// An epoch of the permit's machine.
    async fn epoch(
        &self,
        permit: &Permit<act::ProveGpu>,
        proof: ProofId,
    ) -> Result<Option<EpochRow>, StoreError>;

    /// Stops the clock: the roots are in, once and for all, and only now the nonce exists.
    async fn commit_epoch(
        &self,
        permit: &Permit<act::ProveGpu>,
        proof: ProofId,
        commitment: &Commitment,
        nonce: Hash,
        elapsed_millis: u64,
    ) -> Result<(), StoreError>;

    /// Writes a verdict down; false if there was one.
    async fn judge_epoch(
        &self,
        permit: &Permit<act::Judge>,
        outcome: &Outcome,
        finding: &Text<240>,
        opened: Option<(&Opening, &Signature)>,
    ) -> Result<bool, StoreError>;

    /// How the last epochs of a series ended, oldest first, at most `most`.
    async fn epoch_outcomes(
        &self,
        permit: &Permit<act::Judge>,
        gpu: GpuId,
        round: u32,
        most: u32,
    ) -> Result<Vec<Heard>, StoreError>;

    /// Epochs without a verdict whose bell rang before `before`, oldest first, at most 1,000.
    async fn overdue_epochs(
        &self,
        permit: &Permit<act::Judge>,
        before: UnixMillis,
    ) -> Result<Vec<EpochRow>, StoreError>;

    /// Takes back an epoch without a verdict whose GPU a renter had at any time since its bell: the GPU's part in that bell
    /// is as if it had never been called. Whether there was such a renter; without one nothing changes.
    async fn leave_to_renter(&self, permit: &Permit<act::Judge>, proof: ProofId) -> Result<bool, StoreError>;

    /// Proven GPUs whose last joining proof was judged before this bell was told of, that were alive when it rang, are
    /// not hired, and have no part in it; at most 1,000. Simulated ones are left alone.
    async fn absent_from(
        &self,
        permit: &Permit<act::Judge>,
        hour: Hour,
        bell: UnixMillis,
    ) -> Result<Vec<(GpuId, u32)>, StoreError>;

    /// Writes down that a GPU did not answer a bell: an hour's, or one of its machine's own at this moment.
    async fn miss_epoch(
        &self,
        permit: &Permit<act::Judge>,
        gpu: GpuId,
        round: u32,
        at: (Option<Hour>, UnixMillis),
        outcome: &Outcome,
        finding: &Text<240>,
    ) -> Result<(), StoreError>;

    /// Epochs since `since` whose bits were right, in time or late, newest first, at most 100,000: what medians are learned from.
    async fn epoch_observations(
        &self,
        permit: &Permit<act::Operate>,
        since: UnixSeconds,
    ) -> Result<Vec<(GpuClaim, Challenge, Observation)>, StoreError>;

    /// Every table that is not withdrawn, newest first, and the newest withdrawn ones, at most 100.
    async fn calibrations(&self) -> Result<Vec<CalibrationRow>, StoreError>;

    /// Adds a table as a canary; the log says whether it is what the network itself `learned`.
    async fn add_calibration(
        &self,
        permit: &Permit<act::Operate>,
        table: &Table,
        signer: PublicKey,
        signature: &[u8],
        learned: bool,
    ) -> Result<(), StoreError>;

    /// Promotes a table, which withdraws the one before, or withdraws one.
    async fn move_calibration(
        &self,
        permit: Permit<act::MoveCalibration>,
    ) -> Result<(), StoreError>;

    /// Counts one more accepted proof that a table was watched with.
    async fn watch_calibration(
        &self,
        permit: &Permit<act::Judge>,
        version: u32,
        would_fail: bool,
    ) -> Result<(), StoreError>;
}

answered! { PublicStore,
    /// A GPU's epochs, newest first, at most 100.
    async fn epochs(&self, gpu: GpuId) -> Result<Vec<PublicEpoch>, StoreError>;

    /// One epoch's transcript; none if it was never opened.
    async fn epoch_transcript(&self, proof: ProofId) -> Result<Option<Transcript>, StoreError>;

    /// Tables of calibration, newest first.
    async fn public_calibrations(&self) -> Result<Vec<PublicCalibration>, StoreError>;
}

/// What the log calls a table's state.
pub(crate) fn step_of(state: State) -> TableStep {
    match state {
        State::Canary => TableStep::Canary,
        State::Promoted => TableStep::Promoted,
        State::Withdrawn => TableStep::Withdrawn,
    }
}

/// How one bell went: the network's have an hour.
pub(crate) fn heard_row<R: Columns>(row: &R) -> Result<Heard, StoreError> {
    Ok(Heard { outcome: row.json("outcome")?, network: row.int_or_none("hour")?.is_some() })
}

pub(crate) fn epoch_row(row: &impl Columns) -> Result<EpochRow, StoreError> {
    Ok(EpochRow {
        proof: row.id("id")?,
        gpu: row.id("gpu")?,
        bell: UnixMillis(row.int("bell_millis")?),
        challenge: row.json("challenge")?,
        key: GpuPublicKey(row.hash("gpu_key")?),
        work: row.hash("work")?,
        deadline_millis: row.int_or_none("deadline_millis")?,
        commitment: row.json_or_none("commitment")?,
        nonce: row.hash("nonce").ok(),
        elapsed_millis: row.int_or_none("elapsed_millis")?,
        judged: row.int_or_none("judged_at")?.is_some(),
    })
}

/// The transcript of a judged epoch as it is published; none if it was never opened.
pub(crate) fn opened_transcript(row: &impl Columns) -> Result<Option<Transcript>, StoreError> {
    let opened: Option<(Opening, Signature)> =
        row.json_or_none("opening")?.zip(row.json_or_none("signature")?);
    let (Some(commitment), Ok(nonce), Some((opening, signature))) =
        (row.json_or_none("commitment")?, row.hash("nonce"), opened)
    else {
        return Ok(None);
    };
    let key = GpuPublicKey(row.hash("gpu_key")?);
    Ok(Some(Transcript::new(
        row.id("gpu")?,
        key,
        row.json("challenge")?,
        commitment,
        nonce,
        opening,
        signature,
    )))
}

pub(crate) fn calibration_row(row: &impl Columns) -> Result<CalibrationRow, StoreError> {
    let signer = PublicKey::from_bytes(&row.hash("signer")?.0)
        .map_err(|_| StoreError::Malformed("column signer".into()))?;
    Ok(CalibrationRow {
        table: row.json("body")?,
        state: row.word("state")?,
        signer,
        signature: row.bytes("signature")?,
        made_at: row.at("made_at")?,
        watched: Watched { judged: row.int("judged")?, failed: row.int("failed")? },
    })
}

/// An epoch as anyone may see it, with its transcript where it was opened.
pub(crate) fn public_epoch(row: &impl Columns) -> Result<(PublicEpoch, Option<Transcript>), StoreError> {
    let outcome: Outcome = row.json("outcome")?;
    let shown = outcome.verdict.as_ref().ok();
    let transcript = match row.text("challenge")?.is_empty() {
        true => None,
        false => opened_transcript(row)?,
    };
    let public = PublicEpoch {
        id: row.id("id")?,
        gpu: row.id("gpu")?,
        bell: UnixMillis(row.int("bell_millis")?),
        judged_at: row.at("judged_at")?,
        accepted: shown.is_some(),
        finding: Text::lossy(&row.text("finding")?),
        elapsed_millis: row.int_or_none("elapsed_millis")?,
        deadline_millis: row.int_or_none("deadline_millis")?,
        memory_bytes: shown.map_or(0, |shown| shown.memory_bytes),
        read_mbps: shown.map_or(0, Shown::read_mbps),
        alu_msteps: shown.map_or(0, Shown::alu_msteps),
        transcript: transcript.is_some(),
    };
    Ok((public, transcript))
}
