//! Enrolled keys and the sequence numbers of their requests.

use gangline_guard::{Actor, Authenticated, KeyRecord, Permit, Refusal, act, log::Event, policy::on};
use gangline_types::{KeyId, MachineId, UnixSeconds};

use crate::{
    KeyRow, SequenceError, StoreError,
    books::key::{key_row, public_key, sequences},
    sql::{Columns, Id},
    sqlite::SqliteStore,
    sqlite::audit::audit,
    sqlite::log::log_entry,
    sqlite::open::commit,
};

impl SqliteStore {
    /// What the guard must know of a key.
    pub async fn key(&self, key: KeyId) -> Result<Option<KeyRecord>, StoreError> {
        let row = sqlx::query("SELECT k.public_key, k.kind, k.account, k.machine, k.revoked_at, k.ends_at, a.role FROM key k JOIN account a ON a.id = k.account WHERE k.id = ?")
            .bind(key.blob())
            .fetch_optional(&self.read)
            .await
            .map_err(StoreError::sql("looking a key up"))?;
        row.map(|r| {
            Ok(KeyRecord {
                public_key: public_key(&r)?,
                kind: r.word("kind")?,
                account: r.id("account")?,
                role: r.word("role")?,
                machine: r.id_or_none::<MachineId>("machine")?,
                revoked_at: r.at_or_none("revoked_at")?,
                ends_at: r.at_or_none("ends_at")?,
            })
        })
        .transpose()
    }

    /// Takes a verified request's sequence number; only then is its sender an actor. The number is
    /// durable before the request acts, so a copy stays a copy over a restart. The first use of a key that
    /// took the place of another lets that one end at `old_until`.
    pub async fn take_sequence(
        &self,
        authenticated: Authenticated,
        old_until: UnixSeconds,
    ) -> Result<Actor, SequenceError> {
        let doing = "taking a sequence number";
        let mut tx = self.begin(doing).await?;
        let row = sqlx::query("SELECT sequences, follows FROM key WHERE id = ?")
            .bind(authenticated.key().blob())
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?
            .ok_or(StoreError::Gone("the key is gone"))?;
        let mut seen = sequences(&row)?;
        let sequence = authenticated.sequence();
        let replaced: Option<KeyId> = if seen.newest() == 0 { row.id_or_none("follows")? } else { None };
        let fresh = seen
            .take(sequence)
            .map_err(|newest| SequenceError::Replayed(Refusal::Replayed { sequence, newest }))?;
        sqlx::query("UPDATE key SET sequences = ? WHERE id = ?")
            .bind(seen.to_bytes())
            .bind(authenticated.key().blob())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        if let Some(replaced) = replaced {
            sqlx::query("UPDATE key SET ends_at = NULL WHERE id = ?")
                .bind(authenticated.key().blob())
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
            sqlx::query("UPDATE key SET ends_at = ?1 WHERE id = ?2 AND revoked_at IS NULL AND (ends_at IS NULL OR ends_at > ?1)")
                .bind(old_until.0 as i64)
                .bind(replaced.blob())
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        commit(tx, doing).await?;
        Ok(authenticated.into_actor(fresh))
    }

    /// A key as a resource.
    pub async fn key_resource(&self, key: KeyId) -> Result<Option<on::Key>, StoreError> {
        let row = sqlx::query("SELECT id, account FROM key WHERE id = ?")
            .bind(key.blob())
            .fetch_optional(&self.read)
            .await
            .map_err(StoreError::sql("looking a key up"))?;
        row.map(|r| Ok(on::Key { key: r.id("id")?, account: r.id("account")? })).transpose()
    }

    /// Ends the permit's key, and every key of its line: from now on nothing signed by them counts. Whoever
    /// stole a key may have put another in its place.
    pub async fn revoke_key(&self, permit: Permit<act::RevokeKey>) -> Result<(), StoreError> {
        let doing = "revoking a key";
        let mut tx = self.begin(doing).await?;
        let ended = sqlx::query("UPDATE key SET revoked_at = ?1 WHERE revoked_at IS NULL AND (id = ?2 OR id = (SELECT line FROM key WHERE id = ?2) OR line = (SELECT coalesce(line, id) FROM key WHERE id = ?2))")
            .bind(permit.at().0 as i64)
            .bind(permit.on().key.blob())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?
            .rows_affected();
        if ended > 0 {
            log_entry(&mut tx, &permit, Event::KeyRevoked { keys: ended as u32 }, "revoked").await?;
        }
        audit(&mut tx, &permit, "revoked").await?;
        commit(tx, doing).await
    }

    /// The account's keys, newest first, at most 200.
    pub async fn keys_of(&self, permit: &Permit<act::ReadAccount>) -> Result<Vec<KeyRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM key WHERE account = ? ORDER BY created_at DESC, id LIMIT 200")
            .bind(permit.on().account.blob())
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("listing keys"))?;
        rows.iter().map(key_row).collect()
    }

    /// Every key, newest first, at most 200.
    pub async fn all_keys(&self, _: &Permit<act::Operate>) -> Result<Vec<KeyRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM key ORDER BY created_at DESC, id LIMIT 200")
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("listing keys"))?;
        rows.iter().map(key_row).collect()
    }
}
