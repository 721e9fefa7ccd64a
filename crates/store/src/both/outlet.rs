//! Messages to people outside about incidents.

use gangline_guard::{
    Permit, act,
    notice::{Event, Outlet, tell::SentLately},
};
use gangline_types::{DeliveryId, UnixMillis, UnixSeconds};

use super::{Books, audit::audit, open::commit};
use crate::{
    Claimed, DeliveryRow, NewDelivery, Settled, StoreError, UnsaidIncident,
    books::{
        incident::incident_row,
        outlet::{UNSAID_MAX, claimed, delivery_row, settled_columns},
    },
    sql::{Columns, Id, word},
};

impl Books {
    pub(crate) async fn unsaid(
        &self,
        _: &Permit<act::Watch>,
        outlet: Outlet,
    ) -> Result<Vec<UnsaidIncident>, StoreError> {
        let rows = sqlx::query("SELECT i.*, t.count AS told_count FROM incident i LEFT JOIN told t ON t.outlet = $1 AND t.incident = i.id WHERE i.state <> 'closed' AND i.severity <> 'notice' AND (t.incident IS NULL OR i.count >= t.count * 10) UNION ALL SELECT i.*, t.count AS told_count FROM told t JOIN incident i ON i.id = t.incident WHERE t.outlet = $1 AND i.state = 'closed' LIMIT $2")
            .bind(outlet.as_str())
            .bind(UNSAID_MAX)
            .fetch_all(self.reading())
            .await
            .map_err(StoreError::sql("looking for what was not told"))?;
        rows.iter()
            .map(|row| {
                Ok(UnsaidIncident {
                    incident: incident_row(row)?,
                    told_count: row.int_or_none("told_count")?,
                })
            })
            .collect()
    }

    pub(crate) async fn sent_lately(
        &self,
        _: &Permit<act::Watch>,
        outlet: Outlet,
        since: UnixSeconds,
    ) -> Result<SentLately, StoreError> {
        let row = sqlx::query("SELECT count(*) FILTER (WHERE event <> 'many') AS singles, max(CASE WHEN event = 'many' THEN made_at END) AS many_at FROM delivery WHERE outlet = $1 AND made_at > $2")
            .bind(outlet.as_str())
            .bind(since.0 as i64)
            .fetch_one(self.reading())
            .await
            .map_err(StoreError::sql("counting messages"))?;
        Ok(SentLately { singles: row.int("singles")?, many_at: row.at_or_none("many_at")? })
    }

    pub(crate) async fn make_deliveries(
        &self,
        permit: &Permit<act::Watch>,
        new: &[NewDelivery],
    ) -> Result<(), StoreError> {
        let doing = "making messages";
        let at = permit.at().0 as i64;
        let mut tx = self.begin(doing).await?;
        for one in new {
            sqlx::query("INSERT INTO delivery (id, outlet, event, subject, body, made_at, due_at) VALUES ($1, $2, $3, $4, $5, $6, $7)")
                .bind(one.id.blob())
                .bind(one.outlet.as_str())
                .bind(word(&one.event))
                .bind(&one.subject)
                .bind(&one.body)
                .bind(at)
                .bind(at * 1_000)
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
            for (incident, event, count) in &one.about {
                let noted = if *event == Event::Closed {
                    sqlx::query("DELETE FROM told WHERE outlet = $1 AND incident = $2")
                        .bind(one.outlet.as_str())
                        .bind(incident.blob())
                        .execute(&mut *tx)
                        .await
                } else {
                    sqlx::query("INSERT INTO told (outlet, incident, count) VALUES ($1, $2, $3) ON CONFLICT (outlet, incident) DO UPDATE SET count = excluded.count")
                        .bind(one.outlet.as_str())
                        .bind(incident.blob())
                        .bind(*count as i64)
                        .execute(&mut *tx)
                        .await
                };
                noted.map_err(StoreError::sql(doing))?;
            }
        }
        commit(tx, doing).await
    }

    pub(crate) async fn claim_deliveries(
        &self,
        _: &Permit<act::Watch>,
        outlet: Outlet,
        now: UnixMillis,
        until: UnixMillis,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        let doing = "taking messages that are due";
        // Mostly there are none, and looking takes no turn of the one writer.
        let due = sqlx::query(
            "SELECT 1 FROM delivery WHERE outlet = $1 AND state = 'waiting' AND due_at <= $2 LIMIT 1",
        )
        .bind(outlet.as_str())
        .bind(now.0 as i64)
        .fetch_optional(self.reading())
        .await
        .map_err(StoreError::sql(doing))?;
        if due.is_none() {
            return Ok(Vec::new());
        }
        let mut tx = self.begin(doing).await?;
        let rows = sqlx::query(concat!("UPDATE delivery SET tries = tries + 1, due_at = $1 WHERE id IN (SELECT id FROM delivery WHERE outlet = $2 AND state = 'waiting' AND due_at <= $3 ORDER BY due_at LIMIT $4", said!(skip_locked), ") RETURNING id, made_at, subject, body, tries, due_at"))
            .bind(until.0 as i64)
            .bind(outlet.as_str())
            .bind(now.0 as i64)
            .bind(i64::from(limit))
            .fetch_all(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        commit(tx, doing).await?;
        rows.iter().map(claimed).collect()
    }

    pub(crate) async fn settle_delivery(
        &self,
        permit: &Permit<act::Watch>,
        tried: &Claimed,
        settled: &Settled,
    ) -> Result<bool, StoreError> {
        let doing = "saying how a message fared";
        let (state, due_at, error, settled_at) = settled_columns(permit, settled);
        let mut tx = self.begin(doing).await?;
        let changed = sqlx::query("UPDATE delivery SET state = $1, due_at = coalesce(CAST($2 AS BIGINT), due_at), error = $3, settled_at = $4 WHERE id = $5 AND tries = $6 AND due_at = $7 AND state = 'waiting'")
            .bind(word(&state))
            .bind(due_at)
            .bind(&error)
            .bind(settled_at)
            .bind(tried.id.blob())
            .bind(i64::from(tried.tries))
            .bind(tried.until.0 as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let is_so = changed.rows_affected() == 1;
        if is_so && let Settled::Dead { error } = settled {
            audit(&mut tx, permit, &format!("gave {} up: {error}", tried.id)).await?;
        }
        commit(tx, doing).await?;
        Ok(is_so)
    }

    pub(crate) async fn deliveries(&self, _: &Permit<act::Operate>) -> Result<Vec<DeliveryRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM (SELECT * FROM delivery WHERE state = 'dead' ORDER BY made_at DESC LIMIT 100) AS dead UNION ALL SELECT * FROM (SELECT * FROM delivery WHERE state = 'waiting' ORDER BY due_at LIMIT 100) AS waiting UNION ALL SELECT * FROM (SELECT * FROM delivery WHERE state = 'sent' ORDER BY made_at DESC LIMIT 100) AS sent LIMIT 100")
            .fetch_all(self.reading())
            .await
            .map_err(StoreError::sql("listing messages"))?;
        rows.iter().map(delivery_row).collect()
    }

    pub(crate) async fn send_again(
        &self,
        permit: Permit<act::Contain>,
        id: DeliveryId,
    ) -> Result<(), StoreError> {
        let doing = "having a message sent again";
        let mut tx = self.begin(doing).await?;
        let changed = sqlx::query("UPDATE delivery SET state = 'waiting', tries = 0, due_at = $1, settled_at = NULL WHERE id = $2 AND state = 'dead'")
            .bind(permit.at().0 as i64 * 1_000)
            .bind(id.blob())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        if changed.rows_affected() == 0 {
            return Err(StoreError::Gone("there is no such dead letter"));
        }
        audit(&mut tx, &permit, &format!("{id} is sent again")).await?;
        commit(tx, doing).await
    }
}
