//! Enrolled keys and the sequence numbers of their requests.

use gangline_guard::{Actor, Authenticated, KeyRecord, Permit, RecentSequences, Refusal, act, policy::on};
use gangline_types::{KeyId, Label, UnixSeconds};
use gangline_wire::{PublicKey, api::enrol::KeyKind};

use crate::{Store, StoreError, books::answered, sql::Columns};

/// Why a verified request did not count.
#[derive(Debug, thiserror::Error)]
pub enum SequenceError {
    /// Its number was used.
    #[error(transparent)]
    Replayed(Refusal),
    /// Could not ask; that is not a no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A key for its owner's console.
#[derive(Clone, Debug)]
pub struct KeyRow {
    /// For the guard.
    pub resource: on::Key,
    /// The key.
    pub public_key: PublicKey,
    /// What it is for.
    pub kind: KeyKind,
    /// Host it was made on, as said.
    pub host: Label,
    /// Since when.
    pub created_at: UnixSeconds,
    /// When it last signed something that counted, by its own clock; 0 never. Sequence numbers are
    /// microseconds of the signer's clock.
    pub last_used_at: UnixSeconds,
    /// When it was ended.
    pub revoked_at: Option<UnixSeconds>,
    /// The key in whose place it is.
    pub follows: Option<KeyId>,
    /// When it ends by itself: another is in its place, or it is and was not used yet.
    pub ends_at: Option<UnixSeconds>,
}

answered! { Store,
    /// What the guard must know of a key.
    async fn key(&self, key: KeyId) -> Result<Option<KeyRecord>, StoreError>;

    /// The same of each of these keys, in their order.
    async fn each_key(&self, keys: Vec<KeyId>) -> Vec<Result<Option<KeyRecord>, StoreError>>;

    /// Takes a verified request's sequence number; only then is its sender an actor. The number is
    /// durable before the request acts, so a copy stays a copy over a restart. The first use of a key that
    /// took the place of another lets that one end at `old_until`.
    async fn take_sequence(
        &self,
        authenticated: Authenticated,
        old_until: UnixSeconds,
    ) -> Result<Actor, SequenceError>;

    /// The same of each of these requests, one after the other: of two copies the second is refused.
    async fn take_each_sequence(
        &self,
        authenticated: Vec<Authenticated>,
        old_until: UnixSeconds,
    ) -> Vec<Result<Actor, SequenceError>>;

    /// Brings numbers that were taken in a rush to where their keys stand, once that is over. Doing so twice changes
    /// nothing, and a number counts as taken before.
    async fn settle_numbers(&self, permit: &Permit<act::Reconcile>) -> Result<(), StoreError>;

    /// A key as a resource.
    async fn key_resource(&self, key: KeyId) -> Result<Option<on::Key>, StoreError>;

    /// Ends the permit's key, and every key of its line: from now on nothing signed by them counts. Whoever
    /// stole a key may have put another in its place.
    async fn revoke_key(&self, permit: Permit<act::RevokeKey>) -> Result<(), StoreError>;

    /// The account's keys, newest first, at most 200.
    async fn keys_of(&self, permit: &Permit<act::ReadAccount>) -> Result<Vec<KeyRow>, StoreError>;

    /// Every key, newest first, at most 200.
    async fn all_keys(&self, permit: &Permit<act::Operate>) -> Result<Vec<KeyRow>, StoreError>;
}

/// Sequence numbers in a second.
const MICROS: u64 = 1_000_000;

pub(crate) fn public_key(row: &impl Columns) -> Result<PublicKey, StoreError> {
    let bytes: [u8; 32] =
        row.bytes("public_key")?.try_into().map_err(|_| StoreError::Malformed("column public_key".into()))?;
    PublicKey::from_bytes(&bytes).map_err(|e| StoreError::Malformed(e.to_string()))
}

/// A key with its id, for the guard.
pub(crate) fn key_record(row: &impl Columns) -> Result<(KeyId, KeyRecord), StoreError> {
    let record = KeyRecord {
        public_key: public_key(row)?,
        kind: row.word("kind")?,
        account: row.id("account")?,
        role: row.word("role")?,
        machine: row.id_or_none("machine")?,
        revoked_at: row.at_or_none("revoked_at")?,
        ends_at: row.at_or_none("ends_at")?,
    };
    Ok((row.id("id")?, record))
}

/// A key's numbers, and the key in whose place it is if it has signed nothing yet.
pub(crate) fn numbers_of(
    row: &impl Columns,
) -> Result<(KeyId, (RecentSequences, Option<KeyId>)), StoreError> {
    let seen = sequences(row)?;
    let follows = if seen.newest() == 0 { row.id_or_none("follows")? } else { None };
    Ok((row.id("id")?, (seen, follows)))
}

fn sequences(row: &impl Columns) -> Result<RecentSequences, StoreError> {
    RecentSequences::from_bytes(&row.bytes("sequences")?)
        .ok_or_else(|| StoreError::Malformed("column sequences".into()))
}

pub(crate) fn key_row(row: &impl Columns) -> Result<KeyRow, StoreError> {
    Ok(KeyRow {
        resource: on::Key { key: row.id("id")?, account: row.id("account")? },
        public_key: public_key(row)?,
        kind: row.word("kind")?,
        host: Label::lossy(&row.text("host")?),
        created_at: row.at("created_at")?,
        last_used_at: UnixSeconds(sequences(row)?.newest() / MICROS),
        revoked_at: row.at_or_none("revoked_at")?,
        follows: row.id_or_none("follows")?,
        ends_at: row.at_or_none("ends_at")?,
    })
}
