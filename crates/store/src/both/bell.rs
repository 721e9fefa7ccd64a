//! Bells that rang, and who had no part in one.

use gangline_guard::{Permit, act};
use gangline_rules::bells::Bell;
use gangline_types::ProofId;

use super::{Books, audit::audit, log::log_entry, open::commit};
use crate::{
    StoreError,
    books::bell::{bell_row, event_of},
    sql::Id,
};

impl Books {
    /// Writes a bell down, unless one stands for its hour already; the one that stands.
    pub(crate) async fn ring_bell(
        &self,
        permit: &Permit<act::Judge>,
        bell: &Bell,
    ) -> Result<Bell, StoreError> {
        let doing = "writing a bell down";
        let known = sqlx::query("SELECT * FROM bell WHERE hour = $1")
            .bind(bell.hour.0 as i64)
            .fetch_optional(self.reading())
            .await
            .map_err(StoreError::sql(doing))?;
        if let Some(row) = known {
            return bell_row(&row);
        }
        let mut tx = self.begin_alone(doing).await?;
        let made = sqlx::query("INSERT INTO bell (hour, millis, size, root, salt) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING")
            .bind(bell.hour.0 as i64)
            .bind(bell.at.0 as i64)
            .bind(bell.size as i64)
            .bind(bell.root.0.to_vec())
            .bind(bell.salt.0.to_vec())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        if made.rows_affected() > 0 {
            let detail = format!("the bell of hour {}", bell.hour.0);
            log_entry(&mut tx, permit, event_of(bell), &detail).await?;
            audit(&mut tx, permit, &detail).await?;
            commit(tx, doing).await?;
            return Ok(*bell);
        }
        let row = sqlx::query("SELECT * FROM bell WHERE hour = $1")
            .bind(bell.hour.0 as i64)
            .fetch_one(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        bell_row(&row)
    }

    /// Takes back an epoch without a verdict whose GPU a renter had at any time since its bell; whether there was one.
    pub(crate) async fn leave_to_renter(
        &self,
        _: &Permit<act::Judge>,
        proof: ProofId,
    ) -> Result<bool, StoreError> {
        let left = sqlx::query("DELETE FROM epoch WHERE id = $1 AND judged_at IS NULL AND EXISTS (SELECT 1 FROM cluster c WHERE c.gpu = epoch.gpu AND (c.ended_at IS NULL OR c.ended_at * 1000 >= epoch.bell_millis))")
            .bind(proof.blob())
            .execute(self.writing())
            .await
            .map_err(StoreError::sql("leaving an epoch to a renter"))?;
        Ok(left.rows_affected() > 0)
    }
}
