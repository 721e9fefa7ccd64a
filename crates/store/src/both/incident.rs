//! What was noticed and what became of it.

use gangline_guard::{Act, Permit, act, notice::Severity};
use gangline_types::{AccountId, IncidentId, MachineId, UnixSeconds};

use super::{Books, Connection, audit::audit, open::commit};
use crate::{
    IncidentRow, IncidentState, NewIncident, NotedIncident, StoreError,
    books::incident::incident_row,
    sql::{Columns, Id, word},
};

/// Opens an incident, or folds an alarm into the one on the same that is not closed, in the transaction of what it is
/// about.
pub(crate) async fn note<A: Act>(
    tx: &mut Connection,
    permit: &Permit<A>,
    new: &NewIncident,
) -> Result<NotedIncident, StoreError> {
    let doing = "writing an incident down";
    let raised = &new.raised;
    let severity: Severity = raised.severity();
    let row = sqlx::query(
        concat!("INSERT INTO incident AS i (id, what, subject, severity, opened_at, last_at, count, key, account, block, action, resource, seen, usual) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT (what, subject) WHERE state <> 'closed' DO UPDATE SET last_at = ", said!(greatest), "(i.last_at, excluded.last_at), count = i.count + excluded.count, seen = ", said!(greatest), "(i.seen, excluded.seen), usual = excluded.usual, resource = CASE WHEN excluded.resource = '' THEN i.resource ELSE excluded.resource END RETURNING id, count"),
    )
    .bind(new.id.blob())
    .bind(raised.alarm.what.code())
    .bind(raised.subject.to_string())
    .bind(severity.as_str())
    .bind(permit.at().0 as i64)
    .bind(raised.alarm.at.0 as i64)
    .bind(new.count as i64)
    .bind(raised.key.map(|key| key.blob()))
    .bind(raised.account.map(|account| account.blob()))
    .bind(raised.block.map(|block| block.to_string()).unwrap_or_default())
    .bind(raised.action.map(|action| action.as_str()).unwrap_or_default())
    .bind(raised.resource.as_deref().unwrap_or_default())
    .bind(raised.alarm.seen)
    .bind(raised.alarm.usual)
    .fetch_one(&mut *tx)
    .await
    .map_err(StoreError::sql(doing))?;
    let id: IncidentId = row.id("id")?;
    let noted = NotedIncident { id, opened: id == new.id, count: row.int("count")? };
    if noted.opened {
        let detail = format!("opened {id}: {} by {}", raised.alarm.what.code(), raised.subject);
        audit(tx, permit, &detail).await?;
    }
    Ok(noted)
}

/// Closes an incident whose cause is over, in the transaction that ends it.
pub(crate) async fn close<A: Act>(
    tx: &mut Connection,
    permit: &Permit<A>,
    id: IncidentId,
    note: &str,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE incident SET state = 'closed', changed_at = $1, changed_by = $2, note = $3 WHERE id = $4 AND state <> 'closed'")
        .bind(permit.at().0 as i64)
        .bind(permit.principal().to_string())
        .bind(note)
        .bind(id.blob())
        .execute(tx)
        .await
        .map_err(StoreError::sql("closing an incident"))?;
    Ok(())
}

impl Books {
    pub(crate) async fn note_incident(
        &self,
        permit: &Permit<act::Watch>,
        new: &NewIncident,
    ) -> Result<NotedIncident, StoreError> {
        let doing = "writing an incident down";
        let mut tx = self.begin(doing).await?;
        let noted = note(&mut tx, permit, new).await?;
        commit(tx, doing).await?;
        Ok(noted)
    }

    pub(crate) async fn incidents(
        &self,
        _: &Permit<act::Operate>,
        closed: bool,
    ) -> Result<Vec<IncidentRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM incident WHERE $1 OR state <> 'closed' ORDER BY last_at DESC, id LIMIT 200",
        )
        .bind(closed)
        .fetch_all(self.reading())
        .await
        .map_err(StoreError::sql("listing incidents"))?;
        rows.iter().map(incident_row).collect()
    }

    pub(crate) async fn incident(
        &self,
        _: &Permit<act::Watch>,
        id: IncidentId,
    ) -> Result<Option<IncidentRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM incident WHERE id = $1")
            .bind(id.blob())
            .fetch_optional(self.reading())
            .await
            .map_err(StoreError::sql("reading an incident"))?;
        row.as_ref().map(incident_row).transpose()
    }

    pub(crate) async fn set_incident(
        &self,
        permit: Permit<act::Contain>,
        id: IncidentId,
        state: IncidentState,
        note: &str,
    ) -> Result<(), StoreError> {
        let doing = "saying what becomes of an incident";
        let mut tx = self.begin(doing).await?;
        let changed = sqlx::query(
            "UPDATE incident SET state = $1, changed_at = $2, changed_by = $3, note = $4 WHERE id = $5 AND state <> 'closed'",
        )
        .bind(word(&state))
        .bind(permit.at().0 as i64)
        .bind(permit.principal().to_string())
        .bind(note)
        .bind(id.blob())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
        if changed.rows_affected() == 0 {
            return Err(StoreError::Gone("there is no such incident that is not closed"));
        }
        audit(&mut tx, &permit, &format!("{id} is {}: {note}", word(&state))).await?;
        commit(tx, doing).await
    }

    pub(crate) async fn gpus_owned(
        &self,
        _: &Permit<act::Watch>,
        machine: Option<MachineId>,
        account: AccountId,
    ) -> Result<(u64, u64), StoreError> {
        let row = sqlx::query(
            "SELECT count(*) AS account, count(*) FILTER (WHERE m.id = $1) AS machine FROM machine m JOIN gpu g ON g.machine = m.id WHERE m.account = $2 AND g.present",
        )
        .bind(machine.map(|machine| machine.blob()))
        .bind(account.blob())
        .fetch_one(self.reading())
        .await
        .map_err(StoreError::sql("counting somebody's GPUs"))?;
        let all = row.int("account")?;
        Ok((if machine.is_some() { row.int("machine")? } else { all }, all))
    }

    pub(crate) async fn missing_machines(
        &self,
        _: &Permit<act::Watch>,
        known_since: UnixSeconds,
        beat_since: UnixSeconds,
    ) -> Result<(u64, u64), StoreError> {
        // By indexes alone but for those that are missing: everybody is too many for every minute.
        let row = sqlx::query("SELECT (SELECT count(*) FROM machine WHERE seen_at >= $1) - (SELECT count(*) FROM machine WHERE left_at IS NOT NULL AND seen_at >= $1) AS machines, (SELECT count(DISTINCT g.machine) FROM gpu g CROSS JOIN machine m WHERE m.id = g.machine AND g.beat_at >= $1 AND g.beat_at < $2 AND g.present AND m.left_at IS NULL AND NOT EXISTS (SELECT 1 FROM gpu o WHERE o.machine = g.machine AND o.present AND o.beat_at >= $2)) AS missing")
            .bind(known_since.0 as i64)
            .bind(beat_since.0 as i64)
            .fetch_one(self.reading())
            .await
            .map_err(StoreError::sql("counting machines that are missing"))?;
        Ok((row.int("machines")?, row.int("missing")?))
    }
}
