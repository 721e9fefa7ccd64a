//! Passwords: a way in where browsers have no passkeys. What is a good one, and whether one fits, is not known here;
//! only a hash is kept.

use gangline_guard::{Permit, SessionRecord, act};
use gangline_types::{AccountId, Label, SessionId, UnixSeconds};

use crate::{NewSession, Store, StoreError, books::answered, sql::Columns};

/// A password as it is kept.
#[derive(Clone)]
pub struct PasswordRow {
    /// Whose.
    pub account: AccountId,
    /// The name to sign in with.
    pub login: Label,
    /// Its hash, as a PHC string.
    pub hash: String,
    /// Since when.
    pub set_at: UnixSeconds,
}

impl std::fmt::Debug for PasswordRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a password of {} [redacted]", self.account)
    }
}

answered! { Store,
    /// Sets the password of the permit's account, and ends its sessions but for `keep`.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when another account has the name.
    async fn set_password(
        &self,
        permit: Permit<act::ManageWaysIn>,
        login: &Label,
        hash: &str,
        keep: Option<SessionId>,
    ) -> Result<(), StoreError>;

    /// The password of the permit's account.
    async fn own_password(
        &self,
        permit: &Permit<act::ReadAccount>,
    ) -> Result<Option<PasswordRow>, StoreError>;

    /// The password that goes with a name, for whoever has to check one.
    async fn password(&self, login: &str) -> Result<Option<PasswordRow>, StoreError>;

    /// Begins a session for whoever showed this password; `None` if it was set anew meanwhile.
    async fn sign_in_by_password(
        &self,
        permit: Permit<act::UsePassword>,
        shown: &PasswordRow,
        session: NewSession,
    ) -> Result<Option<SessionRecord>, StoreError>;
}

pub(crate) fn password(row: &impl Columns) -> Result<PasswordRow, StoreError> {
    Ok(PasswordRow {
        account: row.id("account")?,
        login: Label::lossy(&row.text("login")?),
        hash: row.text("hash")?,
        set_at: row.at("set_at")?,
    })
}
