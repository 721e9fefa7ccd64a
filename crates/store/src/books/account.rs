//! Accounts, the one-time links that make and open them, and browser sessions.

use gangline_guard::{Began, Permit, SessionRecord, act};
use gangline_types::{AccountId, Hash, Label, LinkId, SessionId, UnixSeconds};
use gangline_wire::api::account::Role;

use crate::{Store, StoreError, books::answered, sql::Columns};

/// How long a session may lie idle, in seconds: eight hours, and an operator's half an hour.
pub(crate) const SESSION_IDLE_SECONDS: u64 = 8 * 3600;
pub(crate) const OPERATOR_IDLE_SECONDS: u64 = 30 * 60;
/// How often its last use is written down, in seconds.
pub(crate) const SEEN_EVERY_SECONDS: u64 = 60;

/// A link to be made.
#[derive(Clone, Debug)]
pub struct NewLink {
    /// Its id.
    pub id: LinkId,
    /// Hash of its secret.
    pub secret: Hash,
    /// Until when.
    pub expires_at: UnixSeconds,
}

/// A link as it is.
#[derive(Clone, Debug)]
pub struct LinkRow {
    /// Name of the account it opens.
    pub name: Label,
    /// That account's role.
    pub role: Role,
    /// Until when it works.
    pub expires_at: UnixSeconds,
    /// Whether it can still be used.
    pub usable: bool,
}

/// A session to be made.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Its id.
    pub id: SessionId,
    /// Hash of its secret.
    pub secret: Hash,
    /// Until when at the latest.
    pub expires_at: UnixSeconds,
    /// Hash of the secret of the session that this browser had, which ends: whoever signs in gets a new one.
    pub replaces: Option<Hash>,
}

/// A session for its owner to see.
#[derive(Clone, Debug)]
pub struct OwnSession {
    /// Which.
    pub session: SessionId,
    /// How it began: `link`, `provider`, `passkey` or `password`.
    pub how: String,
    /// When.
    pub created_at: UnixSeconds,
    /// Last use, as far as it was written down.
    pub seen_at: UnixSeconds,
}

/// A session as it is.
#[derive(Clone, Debug)]
pub struct SessionRow {
    /// For the guard.
    pub record: SessionRecord,
    /// The account's name.
    pub name: Label,
}

/// An account for the operator's console.
#[derive(Clone, Debug)]
pub struct AccountRow {
    /// Its id.
    pub account: AccountId,
    /// Its name.
    pub name: Label,
    /// Its role.
    pub role: Role,
    /// Since when.
    pub created_at: UnixSeconds,
    /// Machines that have not left.
    pub machines: u64,
    /// Clusters it has hired that are not over.
    pub clusters: u64,
    /// Last use of a session of it.
    pub seen_at: Option<UnixSeconds>,
}

answered! { Store,
    /// Makes a one-time link, and the account it opens if that is new; `new` is then its id.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when the account is not there, or has another role than was permitted.
    async fn invite(
        &self,
        permit: Permit<act::Invite>,
        new: AccountId,
        link: NewLink,
    ) -> Result<AccountId, StoreError>;

    /// What a link is for.
    async fn link(&self, secret: &Hash, now: UnixSeconds) -> Result<Option<LinkRow>, StoreError>;

    /// Ends a link and begins a session; `None` if it was used or ran out.
    async fn use_link(
        &self,
        permit: Permit<act::UseLink>,
        secret: &Hash,
        session: NewSession,
    ) -> Result<Option<SessionRecord>, StoreError>;

    /// The session with this secret, if it is alive.
    async fn session(&self, secret: &Hash, now: UnixSeconds) -> Result<Option<SessionRow>, StoreError>;

    /// The account's sessions, the last used first, at most 100.
    async fn sessions_of(
        &self,
        permit: &Permit<act::ReadAccount>,
    ) -> Result<Vec<OwnSession>, StoreError>;

    /// Ends a session of the permit's account; whether there was one.
    async fn end_own_session(
        &self,
        permit: Permit<act::ManageWaysIn>,
        session: SessionId,
    ) -> Result<bool, StoreError>;

    /// Ends every session of the permit's account: how many there were.
    async fn end_account_sessions(
        &self,
        permit: Permit<act::EndAccountSessions>,
    ) -> Result<u64, StoreError>;

    /// Ends the permit's own session.
    async fn end_session(&self, permit: Permit<act::ReadAccount>) -> Result<(), StoreError>;

    /// Whether anyone has ever been made operator.
    async fn has_operator(&self) -> Result<Option<AccountId>, StoreError>;

    /// Name of an account.
    async fn account_name(&self, permit: &Permit<act::ReadAccount>) -> Result<Label, StoreError>;

    /// Name and role of any account, for its operator.
    async fn account(
        &self,
        account: AccountId,
        permit: &Permit<act::Operate>,
    ) -> Result<Option<(Label, Role)>, StoreError>;

    /// Every account, newest first, at most 500.
    async fn accounts(&self, permit: &Permit<act::Operate>) -> Result<Vec<AccountRow>, StoreError>;
}

/// How a session began, as it stands in the books.
pub(crate) fn began(row: &impl Columns) -> Result<Began, StoreError> {
    let is_strong = row.flag("two_factors")?;
    Ok(match row.text("how")?.as_str() {
        "passkey" => Began::Passkey,
        "provider" => Began::Provider { is_strong },
        "password" => Began::Password,
        _ => Began::Link,
    })
}
