//! Enrolled keys and the sequence numbers of their requests.

use gangline_guard::{Actor, Authenticated, KeyRecord, Permit, Refusal, act, log::Event, policy::on};
use gangline_types::{KeyId, MachineId, UnixSeconds};

use crate::{
    KeyRow, SequenceError, StoreError,
    books::key::{key_row, public_key, sequences},
    postgres::PostgresStore,
    postgres::audit::audit,
    postgres::log::log_entry,
    postgres::open::commit,
    sql::{Columns, Id},
};

impl PostgresStore {
    pub(crate) async fn key(&self, key: KeyId) -> Result<Option<KeyRecord>, StoreError> {
        let row = sqlx::query("SELECT k.public_key, k.kind, k.account, k.machine, k.revoked_at, k.ends_at, a.role FROM key k JOIN account a ON a.id = k.account WHERE k.id = $1")
            .bind(key.blob())
            .fetch_optional(&self.pool)
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

    pub(crate) async fn take_sequence(
        &self,
        authenticated: Authenticated,
        old_until: UnixSeconds,
    ) -> Result<Actor, SequenceError> {
        let doing = "taking a sequence number";
        let mut tx = self.begin(doing).await?;
        let row = sqlx::query("SELECT sequences, follows FROM key WHERE id = $1 FOR UPDATE")
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
        sqlx::query("UPDATE key SET sequences = $1 WHERE id = $2")
            .bind(seen.to_bytes())
            .bind(authenticated.key().blob())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        if let Some(replaced) = replaced {
            sqlx::query("UPDATE key SET ends_at = NULL WHERE id = $1")
                .bind(authenticated.key().blob())
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
            sqlx::query("UPDATE key SET ends_at = $1 WHERE id = $2 AND revoked_at IS NULL AND (ends_at IS NULL OR ends_at > $1)")
                .bind(old_until.0 as i64)
                .bind(replaced.blob())
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        commit(tx, doing).await?;
        Ok(authenticated.into_actor(fresh))
    }

    pub(crate) async fn key_resource(&self, key: KeyId) -> Result<Option<on::Key>, StoreError> {
        let row = sqlx::query("SELECT id, account FROM key WHERE id = $1")
            .bind(key.blob())
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::sql("looking a key up"))?;
        row.map(|r| Ok(on::Key { key: r.id("id")?, account: r.id("account")? })).transpose()
    }

    pub(crate) async fn revoke_key(&self, permit: Permit<act::RevokeKey>) -> Result<(), StoreError> {
        let doing = "revoking a key";
        let mut tx = self.begin_alone(doing).await?;
        let ended = sqlx::query("UPDATE key SET revoked_at = $1 WHERE revoked_at IS NULL AND (id = $2 OR id = (SELECT line FROM key WHERE id = $2) OR line = (SELECT coalesce(line, id) FROM key WHERE id = $2))")
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

    pub(crate) async fn keys_of(&self, permit: &Permit<act::ReadAccount>) -> Result<Vec<KeyRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM key WHERE account = $1 ORDER BY created_at DESC, id LIMIT 200")
            .bind(permit.on().account.blob())
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::sql("listing keys"))?;
        rows.iter().map(key_row).collect()
    }

    pub(crate) async fn all_keys(&self, _: &Permit<act::Operate>) -> Result<Vec<KeyRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM key ORDER BY created_at DESC, id LIMIT 200")
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::sql("listing keys"))?;
        rows.iter().map(key_row).collect()
    }
}
