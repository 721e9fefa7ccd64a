//! Dangerous acts that somebody asked for, and what was decided. What takes an approval, and what one lets through, is
//! the guard's; here it is asked for once, decided once and used up by the write that it was for.

use gangline_guard::{
    Permit, act,
    approval::{APPROVE_SECONDS, Approval, CONFIRM_SECONDS},
};
use gangline_types::{AccountId, ApprovalId, Hash, KeyId, Label, UnixSeconds};
use gangline_wire::{Action, PublicKey, api::operate::Approver};

use crate::{NewIncident, Store, StoreError, books::answered, sql::Columns};

/// Acts of one account that wait for a decision at once.
pub(crate) const WAITING_MAX: i64 = 20;

/// An act to be approved.
#[derive(Clone, Debug)]
pub struct NewApproval {
    /// Its id.
    pub id: ApprovalId,
    /// What it does.
    pub action: Action,
    /// To what, in the guard's words, which say all of it.
    pub what: String,
    /// Of both: see [`digest`](gangline_guard::approval::digest).
    pub digest: Hash,
    /// Who may approve it.
    pub approver: Approver,
    /// Where the browser sent its form; empty for a command line.
    pub path: String,
    /// The form, without its token.
    pub form: String,
    /// What tells people that it waits, opened in the same transaction; none for what its own person confirms.
    pub incident: Option<NewIncident>,
}

impl NewApproval {
    /// Until when it waits.
    pub(crate) fn expires_at(&self, now: UnixSeconds) -> UnixSeconds {
        now.plus(if self.approver == Approver::Oneself { CONFIRM_SECONDS } else { APPROVE_SECONDS })
    }
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// By whom.
    pub by: AccountId,
    /// Their name.
    pub name: Label,
    /// When.
    pub at: UnixSeconds,
    /// From when on it may be done, if it was approved.
    pub ready_at: Option<UnixSeconds>,
}

/// An act that was asked for, as it stands.
#[derive(Clone, Debug)]
pub struct ApprovalRow {
    /// Its id.
    pub id: ApprovalId,
    /// What it does.
    pub action: Action,
    /// To what.
    pub what: String,
    /// Of both.
    pub digest: Hash,
    /// Who may approve it.
    pub approver: Approver,
    /// Who asked.
    pub asked_by: AccountId,
    /// Their name.
    pub name: Label,
    /// With which key, and where that is, at a command line.
    pub key: Option<(KeyId, PublicKey, Label)>,
    /// Where the browser sent its form.
    pub path: String,
    /// The form.
    pub form: String,
    /// When.
    pub asked_at: UnixSeconds,
    /// Until when it waits for a decision, or can be done.
    pub expires_at: UnixSeconds,
    /// What was decided.
    pub decision: Option<Decision>,
    /// When it was done.
    pub used_at: Option<UnixSeconds>,
}

impl ApprovalRow {
    /// What the guard must know, if it was approved.
    pub fn approval(&self) -> Option<Approval> {
        let decision = self.decision.as_ref()?;
        Some(Approval {
            approval: self.id,
            digest: self.digest,
            approver: self.approver,
            asked_by: self.asked_by,
            key: self.key.as_ref().map(|(key, ..)| *key),
            approved_by: decision.by,
            ready_at: decision.ready_at?,
            expires_at: self.expires_at,
        })
    }
}

answered! { Store,
    /// Asks that an act be approved; what waits already is given back as it stands.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when too much of the account's waits.
    async fn ask_approval(
        &self,
        permit: Permit<act::AskApproval>,
        new: NewApproval,
    ) -> Result<ApprovalRow, StoreError>;

    /// What an account asked for, with this key or in a browser, that is neither done nor over. The guard's own
    /// record, read for a request: it needs no permit.
    async fn approval_of(
        &self,
        account: AccountId,
        key: Option<KeyId>,
        digest: Hash,
        now: UnixSeconds,
    ) -> Result<Option<ApprovalRow>, StoreError>;

    /// One, for whoever decides.
    async fn approval(&self, id: ApprovalId) -> Result<Option<ApprovalRow>, StoreError>;

    /// What was asked for, newest first, at most 100.
    async fn approvals(&self, permit: &Permit<act::Operate>) -> Result<Vec<ApprovalRow>, StoreError>;

    /// How many acts wait for a decision.
    async fn approvals_waiting(&self, permit: &Permit<act::Operate>) -> Result<u64, StoreError>;

    /// Approves; it may be done after so many seconds.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when it was decided or ran out.
    async fn approve(
        &self,
        permit: Permit<act::DecideApproval>,
        delay_seconds: u64,
    ) -> Result<(), StoreError>;

    /// Declines, also what was approved and is not done yet.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when it was declined, done, or ran out.
    async fn decline(&self, permit: Permit<act::DeclineApproval>) -> Result<(), StoreError>;

    /// Closes the incidents of acts that ran out before they were decided on or done.
    async fn settle_lapsed(&self, permit: &Permit<act::Reconcile>) -> Result<(), StoreError>;

    /// How many operators beside this one have signed in since then.
    async fn other_operators(&self, account: AccountId, since: UnixSeconds) -> Result<u64, StoreError>;
}

pub(crate) fn approval(row: &impl Columns) -> Result<ApprovalRow, StoreError> {
    let key = match (row.id_or_none("key")?, row.bytes_or_none("public_key")?) {
        (Some(key), Some(public)) => {
            let public: [u8; 32] =
                public.try_into().map_err(|_| StoreError::Malformed("column public_key".to_owned()))?;
            let public = PublicKey::from_bytes(&public)
                .map_err(|_| StoreError::Malformed("column public_key".to_owned()))?;
            Some((key, public, Label::lossy(&row.text("host")?)))
        }
        _ => None,
    };
    let decision = match row.id_or_none("decided_by")? {
        Some(by) => Some(Decision {
            by,
            name: Label::lossy(&row.text_or_none("decided_name")?.unwrap_or_default()),
            at: row.at("decided_at")?,
            ready_at: row.at_or_none("ready_at")?,
        }),
        None => None,
    };
    Ok(ApprovalRow {
        id: row.id("id")?,
        action: row.word("action")?,
        what: row.text("what")?,
        digest: row.hash("digest")?,
        approver: row.word("approver")?,
        asked_by: row.id("asked_by")?,
        name: Label::lossy(&row.text("name")?),
        key,
        path: row.text("path")?,
        form: row.text("form")?,
        asked_at: row.at("asked_at")?,
        expires_at: row.at("expires_at")?,
        decision,
        used_at: row.at_or_none("used_at")?,
    })
}
