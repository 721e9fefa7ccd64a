//! Passkeys: ways in that an account has made itself. What an authenticator answers is checked by the server; here
//! it is kept, and each question is answered once.

use gangline_guard::{Permit, SessionRecord, act};
use gangline_types::{AccountId, Label, PasskeyId, UnixSeconds};

use crate::{NewSession, Store, StoreError, books::answered, sql::Columns};

/// Passkeys that an account may have.
pub(crate) const PASSKEYS_MAX: i64 = 10;
/// Questions that may be open at once, over all: a bound for a table anyone can ask into.
pub(crate) const QUESTIONS_MAX: i64 = 10_000;

/// A question put to a browser.
#[derive(Clone, Debug)]
pub struct PasskeyQuestion {
    /// Its challenge: 16 random bytes.
    pub challenge: [u8; 16],
    /// What is needed to check the answer.
    pub asked: Vec<u8>,
    /// Until when it can be answered.
    pub expires_at: UnixSeconds,
}

/// A passkey to be kept.
#[derive(Clone, Debug)]
pub struct NewPasskey {
    /// Its id.
    pub id: PasskeyId,
    /// The authenticator's name for it, 16 to 1,023 bytes.
    pub credential: Vec<u8>,
    /// What its owner calls it.
    pub name: Label,
    /// Public key and what does not change.
    pub key: Vec<u8>,
    /// What changes with each use.
    pub state: Vec<u8>,
    /// Whether it is kept only where the account has none yet.
    pub only_first: bool,
}

/// A passkey as it is.
#[derive(Clone, Debug)]
pub struct PasskeyRow {
    /// Its id.
    pub id: PasskeyId,
    /// The authenticator's name for it.
    pub credential: Vec<u8>,
    /// Whose.
    pub account: AccountId,
    /// What its owner calls it.
    pub name: Label,
    /// Public key and what does not change.
    pub key: Vec<u8>,
    /// What changes with each use.
    pub state: Vec<u8>,
    /// Since when.
    pub created_at: UnixSeconds,
    /// When it last signed somebody in.
    pub used_at: Option<UnixSeconds>,
}

/// What became of a passkey that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Gone,
    /// It is the account's only way in, so it stays.
    OnlyWayIn,
    /// The account has no such passkey.
    NotThere,
}

answered! { Store,
    /// Keeps a question to whoever is signed in, until it is answered.
    async fn ask_for_passkey(
        &self,
        permit: &Permit<act::ManageWaysIn>,
        question: PasskeyQuestion,
    ) -> Result<(), StoreError>;

    /// Keeps a question to anybody, until it is answered; at most 10,000 are open at once.
    async fn ask_by_passkey(
        &self,
        permit: &Permit<act::UsePasskey>,
        question: PasskeyQuestion,
    ) -> Result<(), StoreError>;

    /// Takes a question that was put to this account, or to anybody where there is none: it can be answered once.
    /// `None` if there is none, or it ran out.
    async fn take_passkey_question(
        &self,
        challenge: [u8; 16],
        account: Option<AccountId>,
        now: UnixSeconds,
    ) -> Result<Option<Vec<u8>>, StoreError>;

    /// Keeps a passkey of the permit's account, which may have ten.
    async fn add_passkey(
        &self,
        permit: Permit<act::ManageWaysIn>,
        passkey: NewPasskey,
    ) -> Result<(), StoreError>;

    /// Removes a passkey of the permit's account, unless it is its only way in: whoever has a provider has another.
    async fn remove_passkey(
        &self,
        permit: Permit<act::ManageWaysIn>,
        passkey: PasskeyId,
    ) -> Result<Removed, StoreError>;

    /// The account's passkeys, newest first.
    async fn passkeys_of(&self, permit: &Permit<act::ReadAccount>) -> Result<Vec<PasskeyRow>, StoreError>;

    /// The passkey that an authenticator calls so.
    async fn passkey(&self, credential: &[u8]) -> Result<Option<PasskeyRow>, StoreError>;

    /// Notes a passkey's use and begins a session of its account; `None` if it is gone, or its state is not any
    /// more what was looked at, because another answer came first.
    async fn sign_in_by_passkey(
        &self,
        permit: Permit<act::UsePasskey>,
        passkey: &PasskeyRow,
        state: Vec<u8>,
        session: NewSession,
    ) -> Result<Option<SessionRecord>, StoreError>;
}

pub(crate) fn passkey(row: &impl Columns) -> Result<PasskeyRow, StoreError> {
    Ok(PasskeyRow {
        id: row.id("id")?,
        credential: row.bytes("credential")?,
        account: row.id("account")?,
        name: Label::lossy(&row.text("name")?),
        key: row.bytes("key")?,
        state: row.bytes("state")?,
        created_at: row.at("created_at")?,
        used_at: row.at_or_none("used_at")?,
    })
}
