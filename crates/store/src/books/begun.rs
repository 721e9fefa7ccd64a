//! Acts that take several transactions: an audit row before the act, one after it, and what broke off in between is
//! found. A write of one transaction needs none of this: its audit row is there if and only if the write is.

use gangline_guard::{Permit, act};
use gangline_types::{AccountId, KeyId, UnixSeconds};

use crate::{Store, StoreError, books::answered, sql::Columns};

/// An act that was begun: the number of its audit row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun(pub(crate) u64);

impl Begun {
    /// The number of the audit row that stands before the act.
    pub fn number(&self) -> u64 {
        self.0
    }
}

/// An act that broke off.
#[derive(Clone, Debug)]
pub struct BrokenOff {
    /// Which.
    pub act: Begun,
    /// When it was begun.
    pub at: UnixSeconds,
    /// By whom, in the words of the audit.
    pub actor: String,
    /// The key, if it was one.
    pub key: Option<KeyId>,
    /// The account.
    pub account: Option<AccountId>,
    /// What.
    pub action: String,
    /// On what.
    pub resource: String,
}

answered! { Store,
    /// Acts that were begun and that nothing was done for since `idle_since`.
    async fn broken_off(
        &self,
        permit: &Permit<act::Reconcile>,
        idle_since: UnixSeconds,
    ) -> Result<Vec<BrokenOff>, StoreError>;

    /// Writes down that an act was never completed; false if it was meanwhile, or another server wrote it down.
    async fn give_up(&self, permit: &Permit<act::Reconcile>, act: Begun) -> Result<bool, StoreError>;
}

pub(crate) fn broken_off(row: &impl Columns) -> Result<BrokenOff, StoreError> {
    Ok(BrokenOff {
        act: Begun(row.int("id")?),
        at: row.at("at")?,
        actor: row.text("actor")?,
        key: row.id_or_none("key")?,
        account: row.id_or_none("account")?,
        action: row.text("action")?,
        resource: row.text("resource")?,
    })
}
