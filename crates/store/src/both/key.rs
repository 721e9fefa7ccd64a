//! Enrolled keys. Their requests' sequence numbers are taken in [`super::groups`].

use gangline_guard::{Permit, act, log::Event, policy::on};
use gangline_types::KeyId;

use super::{Books, audit::audit, log::log_entry, open::commit};
use crate::{
    KeyRow, StoreError,
    books::key::key_row,
    sql::{Columns, Id},
};

impl Books {
    pub(crate) async fn key_resource(&self, key: KeyId) -> Result<Option<on::Key>, StoreError> {
        let row = sqlx::query("SELECT id, account FROM key WHERE id = $1")
            .bind(key.blob())
            .fetch_optional(self.reading())
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
            .fetch_all(self.reading())
            .await
            .map_err(StoreError::sql("listing keys"))?;
        rows.iter().map(key_row).collect()
    }

    pub(crate) async fn all_keys(&self, _: &Permit<act::Operate>) -> Result<Vec<KeyRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM key ORDER BY created_at DESC, id LIMIT 200")
            .fetch_all(self.reading())
            .await
            .map_err(StoreError::sql("listing keys"))?;
        rows.iter().map(key_row).collect()
    }
}
