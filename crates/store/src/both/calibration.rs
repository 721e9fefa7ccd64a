//! Tables of calibration: kept for good, for a deadline must be explainable later.

use gangline_guard::{
    Permit, act,
    log::{Event, entry::TableStep},
};
use gangline_rules::calibration::{State, Table};
use gangline_wire::{PublicKey, api::epoch::PublicCalibration};

use super::{Books, Connection, Public, audit::audit, log::log_entry, open::commit};
use crate::{
    CalibrationRow, StoreError,
    books::epoch::{calibration_row, step_of},
    sql::{Columns, json, word},
};

impl Books {
    pub(crate) async fn calibrations(&self) -> Result<Vec<CalibrationRow>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM calibration ORDER BY state = 'withdrawn', version DESC LIMIT 100")
                .fetch_all(self.reading())
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
        learned: bool,
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
        let steps = [learned.then_some(TableStep::Learned), Some(TableStep::Canary)];
        for step in steps.into_iter().flatten() {
            let event = Event::Calibration { version: table.version, step, digest };
            log_entry(&mut tx, permit, event, "").await?;
        }
        commit(tx, doing).await
    }

    pub(crate) async fn move_calibration(
        &self,
        permit: Permit<act::MoveCalibration>,
    ) -> Result<(), StoreError> {
        let doing = "moving a table of calibration";
        let version = permit.on().version;
        let to = if permit.on().promote { State::Promoted } else { State::Withdrawn };
        let mut tx = self.begin_alone(doing).await?;
        if to == State::Promoted {
            let ended = sqlx::query("UPDATE calibration SET state = 'withdrawn' WHERE state = 'promoted' RETURNING version, digest")
                .fetch_all(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
            for row in ended {
                let (version, digest) = (row.int("version")? as u32, row.hash("digest")?);
                let event = Event::Calibration { version, step: TableStep::Withdrawn, digest };
                log_entry(&mut tx, &permit, event, "another took its place").await?;
            }
        }
        let moved = sqlx::query("UPDATE calibration SET state = $1 WHERE version = $2 RETURNING digest")
            .bind(word(&to))
            .bind(version as i64)
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?
            .ok_or(StoreError::Gone("there is no table of this version"))?;
        let event = Event::Calibration { version, step: step_of(to), digest: moved.hash("digest")? };
        log_entry(&mut tx, &permit, event, "").await?;
        audit(&mut tx, &permit, &format!("calibration {version} is {}", to.as_str())).await?;
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
            .execute(self.writing())
            .await
            .map_err(StoreError::sql("watching a table of calibration"))?;
        Ok(())
    }

    /// Copies every table to the public projection.
    pub(crate) async fn project_calibrations(&self, tx: &mut Connection) -> Result<(), StoreError> {
        for row in self.calibrations().await? {
            let row = row.public();
            let row_json = json(&row);
            sqlx::query(concat!("INSERT INTO ", said!(shown "calibration"), " AS c (version, row) VALUES ($1, $2) ON CONFLICT (version) DO UPDATE SET row = excluded.row WHERE c.row <> excluded.row"))
                .bind(row.table.version as i64)
                .bind(row_json)
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql("copying tables of calibration to the public projection"))?;
        }
        Ok(())
    }
}

impl Public {
    pub(crate) async fn public_calibrations(&self) -> Result<Vec<PublicCalibration>, StoreError> {
        let rows = sqlx::query("SELECT row FROM calibration ORDER BY version DESC LIMIT 100")
            .fetch_all(self.pool())
            .await
            .map_err(StoreError::sql("reading the public projection"))?;
        rows.iter().map(|row| row.json("row")).collect()
    }
}
