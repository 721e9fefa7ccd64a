//! Witnesses of the log: how each last answered, and the checkpoints that they have cosigned.

use gangline_guard::{Permit, act, log::VerifierKey};
use gangline_types::{UnixMillis, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::{PublicStore, Store, StoreError, books::answered, sql::Columns};

/// Cosigned checkpoints that are kept, the newest ones.
pub(crate) const COSIGNED_MAX: i64 = 32;

/// How a witness last answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WitnessState {
    /// It was not asked yet.
    New,
    /// It cosigns.
    Signs,
    /// It did not decide.
    Away,
    /// It holds another tree against this log.
    Refuses,
}

/// A witness as it last answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessRow {
    /// Its key, as `name+hash+key`.
    pub key: String,
    /// Entries that it has cosigned last, as far as is known.
    pub size: u64,
    /// When, by its clock.
    pub cosigned_at: Option<UnixSeconds>,
    /// How it last answered.
    pub state: WitnessState,
    /// Why it did not cosign; empty if it did.
    pub error: String,
}

/// A witness's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WitnessAnswer {
    /// It has cosigned.
    Cosigned {
        /// Entries of the checkpoint.
        size: u64,
        /// The checkpoint, as its log signed it.
        note: String,
        /// When, by the witness's clock.
        at: UnixSeconds,
        /// Its signature, a line without its newline.
        line: String,
    },
    /// It has not decided.
    Away(String),
    /// It holds another tree against this log.
    Refuses(String),
}

/// A checkpoint with the signatures of witnesses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CosignedCheckpoint {
    /// The checkpoint, as its log signed it.
    pub note: String,
    /// Entries.
    pub size: u64,
    /// Lines of witnesses under it, without newlines, with when each has signed.
    pub lines: Vec<(String, UnixSeconds)>,
}

impl CosignedCheckpoint {
    /// The note with all its signatures.
    pub fn signed(&self) -> String {
        self.lines.iter().fold(self.note.clone(), |note, (line, _)| note + line + "\n")
    }
}

answered! { Store,
    /// Takes a witness to be asked for a checkpoint of `size` entries: none if it has cosigned that since `fresh_since`,
    /// or is being asked, or was told to be left alone until later. Nobody else is given it before `until`.
    async fn claim_witness(
        &self,
        permit: &Permit<act::Project>,
        witness: &VerifierKey,
        size: u64,
        fresh_since: UnixSeconds,
        now: UnixMillis,
        until: UnixMillis,
    ) -> Result<Option<WitnessRow>, StoreError>;

    /// Writes a witness's answer down, and publishes its signature if it is one; it may be asked again from `next` on.
    async fn note_witness(
        &self,
        permit: &Permit<act::Project>,
        witness: &VerifierKey,
        answer: &WitnessAnswer,
        next: UnixMillis,
    ) -> Result<(), StoreError>;

    /// Whether people are to be told that a witness has not cosigned since `since`: true at most once after
    /// `told_since`.
    async fn witness_is_late(
        &self,
        permit: &Permit<act::Project>,
        witness: &VerifierKey,
        since: UnixSeconds,
        told_since: UnixSeconds,
    ) -> Result<bool, StoreError>;

    /// All witnesses that were ever asked, by key.
    async fn witnesses(&self, permit: &Permit<act::Operate>) -> Result<Vec<WitnessRow>, StoreError>;
}

answered! { PublicStore,
    /// What witnesses have signed under the checkpoint of `size` entries, without its own note.
    async fn cosignatures(&self, size: u64) -> Result<Vec<(String, UnixSeconds)>, StoreError>;

    /// The newest of those checkpoints that most witnesses have cosigned; none before the first.
    async fn cosigned(&self) -> Result<Option<CosignedCheckpoint>, StoreError>;
}

pub(crate) fn witness_row(row: &impl Columns) -> Result<WitnessRow, StoreError> {
    Ok(WitnessRow {
        key: row.text("key")?,
        size: row.int("size")?,
        cosigned_at: row.at_or_none("cosigned_at")?,
        state: row.word("state")?,
        error: row.text("error")?,
    })
}
