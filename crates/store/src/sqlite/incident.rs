//! What was noticed and what became of it.

use gangline_guard::{Permit, act, notice::Severity};
use gangline_types::{AccountId, IncidentId, MachineId, UnixSeconds};

use crate::{
    IncidentRow, IncidentState, NewIncident, NotedIncident, StoreError,
    books::incident::incident_row,
    sql::{Columns, Id, word},
    sqlite::{SqliteStore, audit::audit, open::commit},
};

impl SqliteStore {
    /// Opens an incident, or folds an alarm into the one on the same that is not closed.
    pub async fn note_incident(
        &self,
        permit: &Permit<act::Watch>,
        new: &NewIncident,
    ) -> Result<NotedIncident, StoreError> {
        let doing = "writing an incident down";
        let raised = &new.raised;
        let severity: Severity = raised.severity();
        let mut tx = self.begin(doing).await?;
        let row = sqlx::query(
            "INSERT INTO incident (id, what, subject, severity, opened_at, last_at, count, key, account, block, action, resource, seen, usual) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (what, subject) WHERE state <> 'closed' DO UPDATE SET last_at = max(last_at, excluded.last_at), count = count + excluded.count, seen = max(seen, excluded.seen), usual = excluded.usual, resource = CASE WHEN excluded.resource = '' THEN resource ELSE excluded.resource END RETURNING id, count",
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
            audit(&mut tx, permit, &detail).await?;
        }
        commit(tx, doing).await?;
        Ok(noted)
    }

    /// Incidents, those that came last first, at most 200.
    pub async fn incidents(
        &self,
        _: &Permit<act::Operate>,
        closed: bool,
    ) -> Result<Vec<IncidentRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM incident WHERE ? OR state <> 'closed' ORDER BY last_at DESC, id LIMIT 200",
        )
        .bind(closed)
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::sql("listing incidents"))?;
        rows.iter().map(incident_row).collect()
    }

    /// One incident.
    pub async fn incident(
        &self,
        _: &Permit<act::Watch>,
        id: IncidentId,
    ) -> Result<Option<IncidentRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM incident WHERE id = ?")
            .bind(id.blob())
            .fetch_optional(&self.read)
            .await
            .map_err(StoreError::sql("reading an incident"))?;
        row.as_ref().map(incident_row).transpose()
    }

    /// Says what becomes of an incident.
    pub async fn set_incident(
        &self,
        permit: Permit<act::Contain>,
        id: IncidentId,
        state: IncidentState,
        note: &str,
    ) -> Result<(), StoreError> {
        let doing = "saying what becomes of an incident";
        let mut tx = self.begin(doing).await?;
        let changed = sqlx::query(
            "UPDATE incident SET state = ?, changed_at = ?, changed_by = ?, note = ? WHERE id = ? AND state <> 'closed'",
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

    /// GPUs that are there: of the machine, and of the account.
    pub async fn gpus_owned(
        &self,
        _: &Permit<act::Watch>,
        machine: Option<MachineId>,
        account: AccountId,
    ) -> Result<(u64, u64), StoreError> {
        let row = sqlx::query(
            "SELECT count(*) AS account, coalesce(sum(m.id = ?), 0) AS machine FROM machine m JOIN gpu g ON g.machine = m.id WHERE m.account = ? AND g.present = 1",
        )
        .bind(machine.map(|machine| machine.blob()))
        .bind(account.blob())
        .fetch_one(&self.read)
        .await
        .map_err(StoreError::sql("counting somebody's GPUs"))?;
        let all = row.int("account")?;
        Ok((if machine.is_some() { row.int("machine")? } else { all }, all))
    }

    /// Machines that beat after `known_since`, and those of them that have not after `beat_since`.
    pub async fn missing_machines(
        &self,
        _: &Permit<act::Watch>,
        known_since: UnixSeconds,
        beat_since: UnixSeconds,
    ) -> Result<(u64, u64), StoreError> {
        let row = sqlx::query(
            "SELECT count(*) AS machines, coalesce(sum(beat_at < ?), 0) AS missing FROM (SELECT max(g.beat_at) AS beat_at FROM machine m JOIN gpu g ON g.machine = m.id WHERE m.left_at IS NULL AND g.present = 1 GROUP BY m.id HAVING max(g.beat_at) >= ?)",
        )
        .bind(beat_since.0 as i64)
        .bind(known_since.0 as i64)
        .fetch_one(&self.read)
        .await
        .map_err(StoreError::sql("counting machines that are missing"))?;
        Ok((row.int("machines")?, row.int("missing")?))
    }
}
