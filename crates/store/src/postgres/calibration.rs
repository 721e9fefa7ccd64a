//! Tables of calibration: kept for good, for a deadline must be explainable later.

use gangline_guard::{Permit, act};
use gangline_rules::calibration::{State, Table};
use gangline_wire::{PublicKey, api::epoch::PublicCalibration};
use sqlx::PgConnection;

use crate::{
    CalibrationRow, StoreError,
    books::epoch::calibration_row,
    postgres::{PostgresPublic, PostgresStore, audit::audit, open::commit},
    sql::{Columns, json, word},
};

impl PostgresStore {
    pub(crate) async fn calibrations(&self) -> Result<Vec<CalibrationRow>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM calibration ORDER BY state = 'withdrawn', version DESC LIMIT 100")
                .fetch_all(&self.pool)
                .await
                .map_err(StoreError::sql("reading tables of calibration"))?;
        rows.iter().map(calibration_row).collect()
    }

    pub(crate) async fn add_calibration(
        &self,
        permit: &Permit<act::Operate>,
        table: &Table,
        signer: PublicKey,
        signature: &[u8],
    ) -> Result<(), StoreError> {
        let doing = "adding a table of calibration";
        let mut tx = self.begin_alone(doing).await?;
        let made = sqlx::query("INSERT INTO calibration (version, state, body, digest, signer, signature, made_at) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING")
            .bind(table.version as i64)
            .bind(word(&State::Canary))
            .bind(json(table))
            .bind(table.digest().0.to_vec())
            .bind(signer.as_bytes().to_vec())
            .bind(signature)
            .bind(permit.at().0 as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        if made.rows_affected() == 0 {
            return Err(StoreError::Gone("there is a table of this version already"));
        }
        let digest = table.digest();
        audit(&mut tx, permit, &format!("calibration {} is a canary: digest {digest}", table.version))
            .await?;
        commit(tx, doing).await
    }

    pub(crate) async fn move_calibration(
        &self,
        permit: &Permit<act::Operate>,
        version: u32,
        to: State,
    ) -> Result<(), StoreError> {
        let doing = "moving a table of calibration";
        let mut tx = self.begin_alone(doing).await?;
        if to == State::Promoted {
            sqlx::query("UPDATE calibration SET state = 'withdrawn' WHERE state = 'promoted'")
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        let moved = sqlx::query("UPDATE calibration SET state = $1 WHERE version = $2")
            .bind(word(&to))
            .bind(version as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        if moved.rows_affected() == 0 {
            return Err(StoreError::Gone("there is no table of this version"));
        }
        audit(&mut tx, permit, &format!("calibration {version} is {}", to.as_str())).await?;
        commit(tx, doing).await
    }

    pub(crate) async fn watch_calibration(
        &self,
        _: &Permit<act::Judge>,
        version: u32,
        would_fail: bool,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE calibration SET judged = judged + 1, failed = failed + $1 WHERE version = $2")
            .bind(would_fail as i64)
            .bind(version as i64)
            .execute(&self.pool)
            .await
            .map_err(StoreError::sql("watching a table of calibration"))?;
        Ok(())
    }

    /// Copies every table to the public projection.
    pub(crate) async fn project_calibrations(&self, tx: &mut PgConnection) -> Result<(), StoreError> {
        for row in self.calibrations().await? {
            let row = row.public();
            let row_json = json(&row);
            sqlx::query("INSERT INTO gangline_public.calibration AS c (version, row) VALUES ($1, $2) ON CONFLICT (version) DO UPDATE SET row = excluded.row WHERE c.row <> excluded.row")
                .bind(row.table.version as i64)
                .bind(row_json)
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql("copying tables of calibration to the public projection"))?;
        }
        Ok(())
    }
}

impl PostgresPublic {
    pub(crate) async fn public_calibrations(&self) -> Result<Vec<PublicCalibration>, StoreError> {
        let rows = sqlx::query("SELECT row FROM calibration ORDER BY version DESC LIMIT 100")
            .fetch_all(self.pool())
            .await
            .map_err(StoreError::sql("reading the public projection"))?;
        rows.iter().map(|row| row.json("row")).collect()
    }
}
