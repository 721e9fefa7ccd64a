//! Witnesses of the log, and what they have cosigned.

use gangline_guard::{Permit, act, log::VerifierKey};
use gangline_types::{UnixMillis, UnixSeconds};

use super::{Books, Public, open::commit};
use crate::{
    CosignedCheckpoint, StoreError, WitnessAnswer, WitnessRow, WitnessState,
    books::witness::{COSIGNED_MAX, witness_row},
    sql::{Columns, word},
};

impl Books {
    pub(crate) async fn claim_witness(
        &self,
        _: &Permit<act::Project>,
        witness: &VerifierKey,
        size: u64,
        fresh_since: UnixSeconds,
        now: UnixMillis,
        until: UnixMillis,
    ) -> Result<Option<WitnessRow>, StoreError> {
        let doing = "taking a witness to be asked";
        let key = witness.to_string();
        let known = sqlx::query("SELECT (asked_until <= $2 AND (size < $3 OR coalesce(cosigned_at, 0) < $4)) AS due FROM witness WHERE key = $1")
            .bind(&key)
            .bind(now.0 as i64)
            .bind(size as i64)
            .bind(fresh_since.0 as i64)
            .fetch_optional(self.reading())
            .await
            .map_err(StoreError::sql(doing))?;
        if known.map(|row| row.flag("due")).transpose()? == Some(false) {
            return Ok(None);
        }
        let mut tx = self.begin(doing).await?;
        sqlx::query("INSERT INTO witness (key) VALUES ($1) ON CONFLICT (key) DO NOTHING")
            .bind(&key)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let row = sqlx::query("UPDATE witness SET asked_until = $5 WHERE key = $1 AND asked_until <= $2 AND (size < $3 OR coalesce(cosigned_at, 0) < $4) RETURNING *")
            .bind(&key)
            .bind(now.0 as i64)
            .bind(size as i64)
            .bind(fresh_since.0 as i64)
            .bind(until.0 as i64)
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        commit(tx, doing).await?;
        row.as_ref().map(witness_row).transpose()
    }

    pub(crate) async fn note_witness(
        &self,
        _: &Permit<act::Project>,
        witness: &VerifierKey,
        answer: &WitnessAnswer,
        next: UnixMillis,
    ) -> Result<(), StoreError> {
        let doing = "writing a witness's answer down";
        let (state, error, cosigned) = match answer {
            WitnessAnswer::Cosigned { size, at, .. } => (WitnessState::Signs, "", Some((size, at))),
            WitnessAnswer::Away(why) => (WitnessState::Away, why.as_str(), None),
            WitnessAnswer::Refuses(why) => (WitnessState::Refuses, why.as_str(), None),
        };
        let mut tx = self.begin(doing).await?;
        sqlx::query(concat!("UPDATE witness SET asked_until = $2, state = $3, error = $4, size = ", said!(greatest), "(size, coalesce(CAST($5 AS BIGINT), 0)), cosigned_at = coalesce(CAST($6 AS BIGINT), cosigned_at) WHERE key = $1"))
            .bind(witness.to_string())
            .bind(next.0 as i64)
            .bind(word(&state))
            .bind(error)
            .bind(cosigned.map(|(size, _)| *size as i64))
            .bind(cosigned.map(|(_, at)| at.0 as i64))
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let WitnessAnswer::Cosigned { size, note, at, line } = answer else { return commit(tx, doing).await };
        let mut tx = self.to_show(tx, doing).await?;
        sqlx::query(concat!(
            "INSERT INTO ",
            said!(shown "cosigned"),
            " (size, note) VALUES ($1, $2) ON CONFLICT (size) DO NOTHING"
        ))
        .bind(*size as i64)
        .bind(note)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
        sqlx::query(concat!("INSERT INTO ", said!(shown "cosignature"), " (size, witness, line, at) VALUES ($1, $2, $3, $4) ON CONFLICT (size, witness) DO UPDATE SET line = excluded.line, at = excluded.at"))
            .bind(*size as i64)
            .bind(witness.name())
            .bind(line)
            .bind(at.0 as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        sqlx::query(concat!(
            "DELETE FROM ",
            said!(shown "cosigned"),
            " WHERE size NOT IN (SELECT size FROM ",
            said!(shown "cosigned"),
            " ORDER BY size DESC LIMIT $1)"
        ))
        .bind(COSIGNED_MAX)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
        sqlx::query(concat!(
            "DELETE FROM ",
            said!(shown "cosignature"),
            " WHERE size NOT IN (SELECT size FROM ",
            said!(shown "cosigned"),
            ")"
        ))
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
        commit(tx, doing).await
    }

    pub(crate) async fn witness_is_late(
        &self,
        permit: &Permit<act::Project>,
        witness: &VerifierKey,
        since: UnixSeconds,
        told_since: UnixSeconds,
    ) -> Result<bool, StoreError> {
        let doing = "looking whether a witness is late";
        let key = witness.to_string();
        let late = sqlx::query(
            "SELECT 1 FROM witness WHERE key = $1 AND coalesce(cosigned_at, 0) < $2 AND late_at < $3",
        )
        .bind(&key)
        .bind(since.0 as i64)
        .bind(told_since.0 as i64)
        .fetch_optional(self.reading())
        .await
        .map_err(StoreError::sql(doing))?;
        if late.is_none() {
            return Ok(false);
        }
        let mut tx = self.begin(doing).await?;
        let told = sqlx::query("UPDATE witness SET late_at = $1 WHERE key = $2 AND late_at < $3")
            .bind(permit.at().0 as i64)
            .bind(&key)
            .bind(told_since.0 as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        commit(tx, doing).await?;
        Ok(told.rows_affected() == 1)
    }

    pub(crate) async fn witnesses(&self, _: &Permit<act::Operate>) -> Result<Vec<WitnessRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM witness ORDER BY key")
            .fetch_all(self.reading())
            .await
            .map_err(StoreError::sql("listing witnesses"))?;
        rows.iter().map(witness_row).collect()
    }
}

impl Public {
    pub(crate) async fn cosignatures(&self, size: u64) -> Result<Vec<(String, UnixSeconds)>, StoreError> {
        let rows = sqlx::query("SELECT line, at FROM cosignature WHERE size = $1 ORDER BY witness")
            .bind(i64::try_from(size).unwrap_or(i64::MAX))
            .fetch_all(self.pool())
            .await
            .map_err(StoreError::sql("reading cosignatures"))?;
        rows.iter().map(|row| Ok((row.text("line")?, row.at("at")?))).collect()
    }

    pub(crate) async fn cosigned(&self) -> Result<Option<CosignedCheckpoint>, StoreError> {
        let row = sqlx::query("SELECT c.size, c.note FROM cosigned c JOIN cosignature s ON s.size = c.size GROUP BY c.size, c.note ORDER BY count(*) DESC, c.size DESC LIMIT 1")
            .fetch_optional(self.pool())
            .await
            .map_err(StoreError::sql("reading the cosigned checkpoint"))?;
        let Some(row) = row else { return Ok(None) };
        let (size, note) = (row.int("size")?, row.text("note")?);
        Ok(Some(CosignedCheckpoint { note, size, lines: self.cosignatures(size).await? }))
    }
}
