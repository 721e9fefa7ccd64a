//! What has ended, for servers to cut what was opened under it. The database writes it by itself whenever a key is
//! revoked, a session is over, an account's role is another or a machine has left.

use gangline_types::{AccountId, KeyId, MachineId, SessionId, UnixSeconds};

use crate::{Store, StoreError, books::answered, sql::Columns};

/// What has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// A key was revoked.
    Key(KeyId),
    /// A session is over.
    Session(SessionId),
    /// An account has another role: what it opened with the old one ends.
    Account(AccountId),
    /// A machine has left.
    Machine(MachineId),
}

/// One end, with its number in the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Its number; greater ones may become visible earlier where several servers write.
    pub number: u64,
    /// What has ended.
    pub ended: Ended,
}

answered! { Store,
    /// What has ended since then by the database's own clock, in no order, at most 10,000.
    async fn revoked_since(&self, since: UnixSeconds) -> Result<Vec<Revocation>, StoreError>;
}

/// A row of what has ended.
pub(crate) fn revocation(row: &impl Columns) -> Result<Revocation, StoreError> {
    let ended = match row.text("kind")?.as_str() {
        "key" => Ended::Key(row.id("subject")?),
        "session" => Ended::Session(row.id("subject")?),
        "account" => Ended::Account(row.id("subject")?),
        "machine" => Ended::Machine(row.id("subject")?),
        other => return Err(StoreError::Malformed(format!("a revocation of a {other}"))),
    };
    Ok(Revocation { number: row.int("id")?, ended })
}
