//! Keys that ask to be bound to an account, and the decision.

use gangline_guard::{Permit, act, policy::on};
use gangline_types::{EnrolmentId, Label, MachineId, Text, UnixSeconds};
use gangline_wire::{
    PublicKey,
    api::enrol::{EnrolmentState, KeyKind},
};

use crate::{Store, StoreError, books::answered, sql::Columns};

/// A request to be written down.
#[derive(Clone, Debug)]
pub struct NewEnrolment {
    /// Its id.
    pub id: EnrolmentId,
    /// The key.
    pub public_key: PublicKey,
    /// What it is for.
    pub kind: KeyKind,
    /// Host name as said.
    pub host: Label,
    /// Host facts as said.
    pub summary: Text<160>,
    /// Short code.
    pub code: String,
    /// Until when.
    pub expires_at: UnixSeconds,
}

/// A request as it is.
#[derive(Clone, Debug)]
pub struct EnrolmentRow {
    /// For the guard.
    pub resource: on::Enrolment,
    /// The key.
    pub public_key: PublicKey,
    /// Host name as said.
    pub host: Label,
    /// Host facts as said.
    pub summary: Text<160>,
    /// Short code.
    pub code: String,
    /// How it stands.
    pub state: EnrolmentState,
    /// When it was asked.
    pub created_at: UnixSeconds,
    /// Until when it can be decided.
    pub expires_at: UnixSeconds,
}

answered! { Store,
    /// Writes a request down. A key that asks again while its request is open gets a new one; the old
    /// one ends.
    async fn request_enrolment(
        &self,
        permit: Permit<act::RequestEnrolment>,
        new: NewEnrolment,
    ) -> Result<(), StoreError>;

    /// The request with this code, if it can still be decided.
    async fn enrolment_by_code(
        &self,
        code: &str,
        now: UnixSeconds,
    ) -> Result<Option<EnrolmentRow>, StoreError>;

    /// A request by its id.
    async fn enrolment(&self, id: EnrolmentId, now: UnixSeconds) -> Result<Option<EnrolmentRow>, StoreError>;

    /// Approves or denies the permit's request. Approved, its key belongs to the deciding account, and a
    /// machine's key to a new machine `machine`.
    async fn decide_enrolment(
        &self,
        permit: Permit<act::DecideEnrolment>,
        approve: bool,
        machine: MachineId,
    ) -> Result<(), StoreError>;
}

pub(crate) fn enrolment(row: &impl Columns, now: UnixSeconds) -> Result<EnrolmentRow, StoreError> {
    let public_key: [u8; 32] =
        row.bytes("public_key")?.try_into().map_err(|_| StoreError::Malformed("column public_key".into()))?;
    let state: EnrolmentState = row.word("state")?;
    let expires_at = row.at("expires_at")?;
    let expired = state == EnrolmentState::Pending && expires_at <= now;
    Ok(EnrolmentRow {
        resource: on::Enrolment { enrolment: row.id("id")?, kind: row.word("kind")? },
        public_key: PublicKey::from_bytes(&public_key).map_err(|e| StoreError::Malformed(e.to_string()))?,
        host: Label::lossy(&row.text("host")?),
        summary: Text::lossy(&row.text("summary")?),
        code: row.text("code")?,
        state: if expired { EnrolmentState::Expired } else { state },
        created_at: row.at("created_at")?,
        expires_at,
    })
}
