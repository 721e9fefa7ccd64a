//! Keys that take the place of others.

use gangline_guard::{Permit, act, log::Event};
use gangline_types::{KeyId, Label, MachineId, UnixSeconds};
use gangline_wire::{PublicKey, api::enrol::KeyKind};

use super::{Books, audit::audit, log::log_entry, open::commit};
use crate::{
    RotationError, StoreError,
    books::key::public_key,
    sql::{Columns, Id},
};

impl Books {
    pub(crate) async fn rotate_key(
        &self,
        permit: Permit<act::RotateKey>,
        new: &PublicKey,
        unused_until: UnixSeconds,
    ) -> Result<UnixSeconds, RotationError> {
        let doing = "putting a key in the place of another";
        let (old, id, now) = (permit.on().key, new.id(), permit.at().0 as i64);
        let mut tx = self.begin_alone(doing).await?;
        let row = sqlx::query(
            "SELECT kind, account, machine, host, coalesce(line, id) AS line FROM key WHERE id = $1",
        )
        .bind(old.blob())
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?
        .ok_or(StoreError::Gone("the key is gone"))?;
        let (kind, line): (KeyKind, KeyId) = (row.word("kind")?, row.id("line")?);
        let known = sqlx::query("SELECT follows, revoked_at, ends_at FROM key WHERE id = $1")
            .bind(id.blob())
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        if let Some(known) = known {
            let ends_at = known.at_or_none("ends_at")?;
            let alive =
                known.at_or_none("revoked_at")?.is_none() && ends_at.is_none_or(|at| at > permit.at());
            return if alive && known.id_or_none::<KeyId>("follows")? == Some(old) {
                // The answer to an earlier request was lost on its way.
                Ok(ends_at.unwrap_or(unused_until))
            } else {
                Err(RotationError::Taken(id))
            };
        }
        let other = sqlx::query("SELECT id, ends_at FROM key WHERE (line = $1 OR id = $1) AND id <> $2 AND revoked_at IS NULL AND (ends_at IS NULL OR ends_at > $3) LIMIT 1")
            .bind(line.blob())
            .bind(old.blob())
            .bind(now)
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        if let Some(other) = other {
            let (other, ends_at) = (other.id("id")?, other.at_or_none("ends_at")?);
            return Err(RotationError::ThirdKey { other, ends_at });
        }
        sqlx::query("INSERT INTO key (id, public_key, kind, account, machine, host, created_at, line, follows, ends_at) SELECT $1, $2, kind, account, machine, host, $3, coalesce(line, id), id, $4 FROM key WHERE id = $5")
            .bind(id.blob())
            .bind(new.as_bytes().to_vec())
            .bind(now)
            .bind(unused_until.0 as i64)
            .bind(old.blob())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let host = Label::lossy(&row.text("host")?);
        let detail = format!("{id} in the place of {old}, on {host:?}");
        log_entry(&mut tx, &permit, Event::KeyRotated { holder: kind.into() }, &detail).await?;
        audit(&mut tx, &permit, &detail).await?;
        commit(tx, doing).await?;
        Ok(unused_until)
    }

    pub(crate) async fn settle_rotation(
        &self,
        permit: Permit<act::RotateKey>,
    ) -> Result<Option<KeyId>, StoreError> {
        let doing = "ending a key that was replaced";
        let mut tx = self.begin_alone(doing).await?;
        let ended = sqlx::query("UPDATE key SET ends_at = $1 WHERE id = (SELECT follows FROM key WHERE id = $2) AND revoked_at IS NULL AND (ends_at IS NULL OR ends_at > $1) RETURNING id")
            .bind(permit.at().0 as i64)
            .bind(permit.on().key.blob())
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let Some(ended) = ended else { return Ok(None) };
        let ended: KeyId = ended.id("id")?;
        audit(&mut tx, &permit, &format!("{ended} ended: {} is in its place", permit.on().key)).await?;
        commit(tx, doing).await?;
        Ok(Some(ended))
    }

    pub(crate) async fn machine_public_keys(&self, machine: MachineId) -> Result<Vec<PublicKey>, StoreError> {
        let rows = sqlx::query("SELECT public_key FROM key WHERE machine = $1 AND revoked_at IS NULL ORDER BY created_at DESC, id LIMIT 8")
            .bind(machine.blob())
            .fetch_all(self.reading())
            .await
            .map_err(StoreError::sql("looking a machine's keys up"))?;
        rows.iter().map(public_key).collect()
    }
}
