//! Appeals and verifiers.

use gangline_guard::{
    Permit, act,
    log::{Event, entry::AppealStep},
};
use gangline_types::{AppealId, GpuId, Hash, ProofId, Standing, Text};
use gangline_wire::api::appeal::{PublicAppeal, SignedVerdict, Verifier};

use super::{Books, Connection, Public, audit::audit, log::log_entry, open::commit};
use crate::{
    StoreError,
    books::appeal::{SHOWN, upheld_words, with_verdict},
    sql::{Columns, Id, json},
};

impl Books {
    pub(crate) async fn verifiers(&self) -> Result<Vec<Verifier>, StoreError> {
        let rows = sqlx::query("SELECT key, name FROM verifier WHERE ended_at IS NULL ORDER BY key")
            .fetch_all(self.reading())
            .await
            .map_err(StoreError::sql("reading verifiers"))?;
        rows.iter()
            .map(|row| Ok(Verifier { key: row.hash("key")?, name: Text::lossy(&row.text("name")?) }))
            .collect()
    }

    pub(crate) async fn set_verifier(
        &self,
        permit: &Permit<act::Operate>,
        verifier: &Verifier,
        on: bool,
    ) -> Result<(), StoreError> {
        let doing = "registering a verifier";
        let mut tx = self.begin_alone(doing).await?;
        sqlx::query("INSERT INTO verifier (key, name, added_at, ended_at) VALUES ($1, $2, $3, $4) ON CONFLICT (key) DO UPDATE SET name = excluded.name, ended_at = excluded.ended_at")
            .bind(verifier.key.0.to_vec())
            .bind(verifier.name.as_str())
            .bind(permit.at().0 as i64)
            .bind((!on).then_some(permit.at().0 as i64))
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let state = if on { "is registered" } else { "is ended" };
        audit(&mut tx, permit, &format!("verifier {} {state}", verifier.key)).await?;
        commit(tx, doing).await
    }

    pub(crate) async fn open_appeal(
        &self,
        permit: &Permit<act::ProveGpu>,
        appeal: &PublicAppeal,
    ) -> Result<(), StoreError> {
        let doing = "opening an appeal";
        let mut tx = self.begin_alone(doing).await?;
        let made = sqlx::query("INSERT INTO appeal (id, gpu, opened_at, row) SELECT $1, id, $2, $3 FROM gpu WHERE id = $4 AND machine = $5 ON CONFLICT DO NOTHING")
            .bind(appeal.id.blob())
            .bind(appeal.opened_at.0 as i64)
            .bind(json(appeal))
            .bind(appeal.gpu.blob())
            .bind(permit.on().machine.blob())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        if made.rows_affected() == 0 {
            return Err(StoreError::Gone("an appeal of this GPU is open already"));
        }
        let event = Event::Appeal { appeal: appeal.id, gpu: appeal.gpu, step: AppealStep::Opened };
        log_entry(&mut tx, permit, event, "").await?;
        audit(&mut tx, permit, &format!("appeal {} of {}", appeal.id, appeal.gpu)).await?;
        commit(tx, doing).await
    }

    pub(crate) async fn appeal(&self, appeal: AppealId) -> Result<Option<PublicAppeal>, StoreError> {
        let row = sqlx::query("SELECT row FROM appeal WHERE id = $1")
            .bind(appeal.blob())
            .fetch_optional(self.reading())
            .await
            .map_err(StoreError::sql("reading an appeal"))?;
        row.map(|row| row.json("row")).transpose()
    }

    pub(crate) async fn answer_appeal(
        &self,
        permit: &Permit<act::Judge>,
        gpu: GpuId,
        proof: ProofId,
        digest: Hash,
        in_time: bool,
    ) -> Result<Option<PublicAppeal>, StoreError> {
        let doing = "putting a re-run before verifiers";
        const WAITING: &str = "SELECT row FROM appeal WHERE gpu = $1 AND ended_at IS NULL AND proof IS NULL";
        let waiting = sqlx::query(WAITING).bind(gpu.blob()).fetch_optional(self.reading()).await;
        if waiting.map_err(StoreError::sql(doing))?.is_none() {
            return Ok(None);
        }
        let mut tx = self.begin_alone(doing).await?;
        let row = sqlx::query(WAITING)
            .bind(gpu.blob())
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let Some(row) = row else { return Ok(None) };
        let appeal: PublicAppeal = row.json("row")?;
        let appeal = PublicAppeal { proof: Some(proof), digest: Some(digest), in_time, ..appeal };
        keep(&mut tx, &appeal, doing).await?;
        let event = Event::Appeal { appeal: appeal.id, gpu, step: AppealStep::Answered };
        log_entry(&mut tx, permit, event, "").await?;
        audit(&mut tx, permit, &format!("appeal {} of {gpu} is about {proof}", appeal.id)).await?;
        commit(tx, doing).await?;
        Ok(Some(appeal))
    }

    pub(crate) async fn add_verdict(
        &self,
        permit: &Permit<act::Judge>,
        appeal: AppealId,
        verdict: &SignedVerdict,
    ) -> Result<PublicAppeal, StoreError> {
        let doing = "taking a verdict on an appeal";
        let mut tx = self.begin_alone(doing).await?;
        let row = sqlx::query("SELECT row FROM appeal WHERE id = $1")
            .bind(appeal.blob())
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?
            .ok_or(StoreError::Gone("there is no such appeal"))?;
        let (appeal, events) = with_verdict(row.json("row")?, verdict, permit.at())?;
        keep(&mut tx, &appeal, doing).await?;
        for event in events {
            log_entry(&mut tx, permit, event, "").await?;
        }
        if appeal.upheld == Some(true) {
            let reason: Text<240> = Text::lossy(&upheld_words(&appeal));
            let anew = sqlx::query("UPDATE gpu SET round = round + 1, standing = 'unproven', reason = $1, matrix_mmacs = 0, memory_bytes = 0, proof = NULL, shown_as = NULL WHERE id = $2 AND standing <> 'retired'")
                .bind(reason.as_str())
                .bind(appeal.gpu.blob())
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
            if anew.rows_affected() > 0 {
                let event = Event::Standing { gpu: appeal.gpu, standing: Standing::Unproven };
                log_entry(&mut tx, permit, event, reason.as_str()).await?;
            }
        }
        audit(&mut tx, permit, &format!("a verdict on appeal {}: {}", appeal.id, verdict.right)).await?;
        commit(tx, doing).await?;
        Ok(appeal)
    }

    /// Copies the newest appeals to the public projection.
    pub(crate) async fn project_appeals(&self, tx: &mut Connection) -> Result<(), StoreError> {
        let doing = "copying appeals to the public projection";
        let rows = sqlx::query("SELECT row FROM appeal ORDER BY opened_at DESC, id LIMIT $1")
            .bind(SHOWN)
            .fetch_all(self.reading())
            .await
            .map_err(StoreError::sql(doing))?;
        for row in rows {
            let appeal: PublicAppeal = row.json("row")?;
            sqlx::query(concat!("INSERT INTO ", said!(shown "appeal"), " AS a (id, gpu, opened_at, row) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO UPDATE SET row = excluded.row WHERE a.row <> excluded.row"))
                .bind(appeal.id.blob())
                .bind(appeal.gpu.blob())
                .bind(appeal.opened_at.0 as i64)
                .bind(json(&appeal))
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        Ok(())
    }
}

async fn keep(tx: &mut Connection, appeal: &PublicAppeal, doing: &'static str) -> Result<(), StoreError> {
    sqlx::query("UPDATE appeal SET row = $1, proof = $2, ended_at = $3 WHERE id = $4")
        .bind(json(appeal))
        .bind(appeal.proof.map(|proof| proof.blob()))
        .bind(appeal.ended_at.map(|at| at.0 as i64))
        .bind(appeal.id.blob())
        .execute(tx)
        .await
        .map_err(StoreError::sql(doing))?;
    Ok(())
}

impl Public {
    /// Appeals, newest first: of one GPU or of all.
    pub(crate) async fn appeals(&self, gpu: Option<GpuId>) -> Result<Vec<PublicAppeal>, StoreError> {
        let rows = sqlx::query(
            "SELECT row FROM appeal WHERE gpu = $1 OR $1 IS NULL ORDER BY opened_at DESC, id LIMIT $2",
        )
        .bind(gpu.map(|gpu| gpu.blob()))
        .bind(SHOWN)
        .fetch_all(self.pool())
        .await
        .map_err(StoreError::sql("reading the public projection"))?;
        rows.iter().map(|row| row.json("row")).collect()
    }
}
