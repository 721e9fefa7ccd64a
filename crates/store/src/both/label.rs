//! What GPUs are called, as a history: who called them so, what before and what after. From it exactly what
//! one actor did can be undone, and nothing that others did.

use gangline_guard::{
    Act, Permit, act,
    log::entry::{Change, Event},
};
use gangline_types::{GpuId, Label, UnixSeconds};

use super::{Books, Connection, begun, log::log_entry, open::commit};
use crate::{
    Begun, Doer, LabelChange, RestoredLabel, StoreError,
    books::label::{label_change, parts, without},
    sql::{Columns, Id},
};

/// Sets a GPU's label, and leaves history and an entry of the log if it was another.
pub(crate) async fn set_label<A: Act>(
    tx: &mut Connection,
    permit: &Permit<A>,
    gpu: GpuId,
    after: &Label,
    change: Change,
) -> Result<(), StoreError> {
    let doing = "naming a GPU";
    let row = sqlx::query("SELECT label FROM gpu WHERE id = $1")
        .bind(gpu.blob())
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?
        .ok_or(StoreError::Gone("there is no such GPU"))?;
    let before = row.text("label")?;
    if before == after.as_str() {
        return Ok(());
    }
    sqlx::query("UPDATE gpu SET label = $1 WHERE id = $2")
        .bind(after.as_str())
        .bind(gpu.blob())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
    sqlx::query("INSERT INTO label_history (gpu, at, key, account, session, actor, before, after) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
        .bind(gpu.blob())
        .bind(permit.at().0 as i64)
        .bind(permit.principal().key().map(|key| key.blob()))
        .bind(permit.principal().account().map(|account| account.blob()))
        .bind(permit.principal().session().map(|session| session.blob()))
        .bind(permit.principal().to_string())
        .bind(&before)
        .bind(after.as_str())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql("keeping what a GPU was called"))?;
    let detail = format!("{gpu} was called {before:?} and is called {:?}", after.as_str());
    log_entry(tx, permit, Event::MetadataChange { gpu, change }, &detail).await
}

async fn plan(
    tx: &mut Connection,
    doer: Doer,
    since: UnixSeconds,
    after: Option<GpuId>,
    at_most: u32,
) -> Result<(Vec<RestoredLabel>, Option<GpuId>), StoreError> {
    let (key, account, session) = parts(doer);
    let rows = sqlx::query(
        "SELECT h.* FROM label_history h JOIN (SELECT gpu, min(id) AS first FROM label_history WHERE (key = $1 OR account = $2 OR session = $3) AND at >= $4 AND gpu > $5 GROUP BY gpu ORDER BY gpu LIMIT $6) f ON f.gpu = h.gpu AND h.id >= f.first ORDER BY h.gpu, h.id",
    )
    .bind(key.map(|key| key.blob()))
    .bind(account.map(|account| account.blob()))
    .bind(session.map(|session| session.blob()))
    .bind(since.0 as i64)
    .bind(after.map(|gpu| gpu.blob()).unwrap_or_default())
    .bind(i64::from(at_most))
    .fetch_all(tx)
    .await
    .map_err(StoreError::sql("reading what GPUs were called"))?;
    let changes: Vec<LabelChange> = rows.iter().map(label_change).collect::<Result<_, _>>()?;
    Ok((without(&changes, doer, since), changes.last().map(|change| change.gpu)))
}

impl Books {
    pub(crate) async fn label_changes(
        &self,
        _: &Permit<act::Operate>,
        doer: Doer,
        since: UnixSeconds,
    ) -> Result<Vec<LabelChange>, StoreError> {
        let (key, account, session) = parts(doer);
        let rows = sqlx::query("SELECT * FROM label_history WHERE (key = $1 OR account = $2 OR session = $3) AND at >= $4 ORDER BY id")
            .bind(key.map(|key| key.blob()))
            .bind(account.map(|account| account.blob()))
            .bind(session.map(|session| session.blob()))
            .bind(since.0 as i64)
            .fetch_all(self.reading())
            .await
            .map_err(StoreError::sql("reading what GPUs were called"))?;
        rows.iter().map(label_change).collect()
    }

    pub(crate) async fn restorable_labels(
        &self,
        _: &Permit<act::Operate>,
        doer: Doer,
        since: UnixSeconds,
    ) -> Result<Vec<RestoredLabel>, StoreError> {
        let doing = "reading what GPUs were called";
        let mut connection = self.reading().acquire().await.map_err(StoreError::sql(doing))?;
        Ok(plan(&mut connection, doer, since, None, u32::MAX).await?.0)
    }

    pub(crate) async fn begin_restore(&self, permit: &Permit<act::Restore>) -> Result<Begun, StoreError> {
        let doing = "beginning to restore labels";
        let mut tx = self.begin_alone(doing).await?;
        let act = begun::begin(&mut tx, permit, "restoring labels").await?;
        commit(tx, doing).await?;
        Ok(act)
    }

    pub(crate) async fn restore_some(
        &self,
        permit: &Permit<act::Restore>,
        act: Begun,
        after: Option<GpuId>,
        at_most: u32,
        now: UnixSeconds,
    ) -> Result<(Vec<RestoredLabel>, Option<GpuId>), StoreError> {
        let doing = "restoring labels";
        let (doer, since) = (permit.on().doer, permit.on().since);
        let mut tx = self.begin_alone(doing).await?;
        begun::go_on(&mut tx, act, now).await?;
        let (restored, last) = plan(&mut tx, doer, since, after, at_most).await?;
        for label in &restored {
            set_label(&mut tx, permit, label.gpu, &label.after, Change::Restored).await?;
        }
        commit(tx, doing).await?;
        Ok((restored, last))
    }

    pub(crate) async fn complete_restore(
        &self,
        permit: Permit<act::Restore>,
        act: Begun,
        restored: usize,
    ) -> Result<(), StoreError> {
        let doing = "completing a restoration";
        let mut tx = self.begin(doing).await?;
        begun::complete(&mut tx, &permit, act, &format!("restored {restored} labels")).await?;
        commit(tx, doing).await
    }
}
