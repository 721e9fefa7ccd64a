//! Refused attempts, and what is kept for how long.

use std::net::IpAddr;

use gangline_guard::{Permit, act, audit::RefusedAttempt, notice::Block};
use gangline_types::UnixSeconds;

use super::{Books, Connection};
use crate::{
    AuditQuery, AuditRow, RecordQuery, RefusalRow, StoreError,
    books::{
        account::{OPERATOR_IDLE_SECONDS, SESSION_IDLE_SECONDS},
        outlet::SENT_KEPT_SECONDS,
        records::{CLOCKS_APART_SECONDS, Lead, REFUSALS_MAX, audit_row},
    },
    sql::{Columns, Id},
};

impl Books {
    pub(crate) async fn refused(&self, attempts: &[RefusedAttempt]) -> Result<(), StoreError> {
        let doing = "writing refusals down";
        let mut tx = self.begin(doing).await?;
        for a in attempts {
            sqlx::query("INSERT INTO refusal (at, actor, key, account, count, action, request, address, code, message) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)")
                .bind(a.at.0 as i64)
                .bind(&a.actor)
                .bind(a.key.map(|key| key.blob()))
                .bind(a.account.map(|account| account.blob()))
                .bind(a.count as i64)
                .bind(a.action.as_str())
                .bind(&a.request)
                .bind(&a.address)
                .bind(&a.code)
                .bind(&a.message)
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        super::open::commit(tx, doing).await
    }

    pub(crate) async fn refusals(
        &self,
        _: &Permit<act::Operate>,
        query: &RecordQuery,
    ) -> Result<Vec<RefusalRow>, StoreError> {
        /// A search that its lead's index answers.
        macro_rules! led_by {
            ($lead:literal) => {
                sqlx::query(concat!(
                    "SELECT * FROM refusal WHERE ",
                    $lead,
                    " AND ($1 IS NULL OR key = $1) AND ($2 IS NULL OR account = $2) AND ($3 IS NULL OR action = $3) AND ($4 IS NULL OR code = $4) AND at >= $5 AND at < $6 AND id < $7 ORDER BY id DESC LIMIT $8",
                ))
            };
        }
        let search = match query {
            RecordQuery { key: Some(_), .. } => led_by!("key = $1"),
            RecordQuery { account: Some(_), .. } => led_by!("account = $2"),
            // By action and code the newest are looked through: there are never more than some.
            _ => led_by!("TRUE"),
        };
        let rows = search
            .bind(query.key.map(|key| key.blob()))
            .bind(query.account.map(|account| account.blob()))
            .bind(&query.action)
            .bind(&query.code)
            .bind(query.from.unwrap_or_default().0 as i64)
            .bind(query.to.map_or(i64::MAX, |to| to.0 as i64))
            .bind(query.before.map_or(i64::MAX, |before| before as i64))
            .bind(i64::from(query.limit))
            .fetch_all(self.reading())
            .await
            .map_err(StoreError::sql("listing refusals"))?;
        rows.iter()
            .map(|r| {
                Ok(RefusalRow {
                    id: r.int("id")?,
                    at: r.at("at")?,
                    actor: r.text("actor")?,
                    key: r.id_or_none("key")?,
                    account: r.id_or_none("account")?,
                    count: r.int("count")?,
                    action: r.text("action")?,
                    request: r.text("request")?,
                    address: r.text("address")?,
                    code: r.text("code")?,
                    message: r.text("message")?,
                })
            })
            .collect()
    }

    /// Permitted acts, newest first.
    pub(crate) async fn acts(
        &self,
        _: &Permit<act::Operate>,
        query: &AuditQuery,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let doing = "listing permitted acts";
        /// A search that its lead's index answers.
        macro_rules! led_by {
            ($lead:literal) => {
                sqlx::query(concat!(
                    "SELECT * FROM audit WHERE ",
                    $lead,
                    " AND ($1 IS NULL OR key = $1) AND ($2 IS NULL OR account = $2) AND ($3 IS NULL OR action = $3) AND ($4 IS NULL OR resource = $4) AND at >= $5 AND at < $6 AND id >= $7 AND id < $8 ORDER BY id DESC LIMIT $9",
                ))
            };
        }
        let search = match query.lead() {
            Lead::Key => led_by!("key = $1"),
            Lead::Resource => led_by!("resource = $4"),
            Lead::Account => led_by!("account = $2"),
            Lead::Action => led_by!("action = $3"),
            Lead::Newest => led_by!("TRUE"),
        };
        // Numbers rise with time, as far as servers' clocks are together, and are what is walked along.
        let numbered = async |at: u64| {
            sqlx::query("SELECT id FROM audit WHERE at >= $1 ORDER BY at, id LIMIT 1")
                .bind(i64::try_from(at).unwrap_or(i64::MAX))
                .fetch_optional(self.reading())
                .await
                .map_err(StoreError::sql(doing))?
                .map_or(Ok(i64::MAX), |row| row.int("id").map(|id| id as i64))
        };
        let first = match query.from {
            Some(from) => numbered(from.0.saturating_sub(CLOCKS_APART_SECONDS)).await?,
            None => 0,
        };
        let last = match query.to {
            Some(to) => numbered(to.0.saturating_add(CLOCKS_APART_SECONDS)).await?,
            None => i64::MAX,
        };
        let before = query.before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
        let rows = search
            .bind(query.key.map(|key| key.blob()))
            .bind(query.account.map(|account| account.blob()))
            .bind(&query.action)
            .bind(&query.resource)
            .bind(query.from.unwrap_or_default().0 as i64)
            .bind(query.to.map_or(i64::MAX, |to| to.0 as i64))
            .bind(first)
            .bind(last.min(before))
            .bind(i64::from(query.limit))
            .fetch_all(self.reading())
            .await
            .map_err(StoreError::sql(doing))?;
        rows.iter().map(audit_row).collect()
    }

    pub(crate) async fn refusals_since(
        &self,
        _: &Permit<act::Operate>,
        since: UnixSeconds,
    ) -> Result<u64, StoreError> {
        let row = sqlx::query(
            "SELECT CAST(coalesce(sum(count), 0) AS BIGINT) AS refusals FROM refusal WHERE at >= $1",
        )
        .bind(since.0 as i64)
        .fetch_one(self.reading())
        .await
        .map_err(StoreError::sql("counting refusals"))?;
        row.int("refusals")
    }

    pub(crate) async fn sweep(
        &self,
        permit: &Permit<act::Reconcile>,
        kept_seconds: u64,
        addresses_seconds: u64,
    ) -> Result<(), StoreError> {
        let doing = "sweeping";
        let now = permit.at().0;
        let mut tx = self.begin(doing).await?;
        sqlx::query("DELETE FROM refusal WHERE at < $1 OR id <= (SELECT max(id) FROM refusal) - $2")
            .bind(now.saturating_sub(kept_seconds) as i64)
            .bind(REFUSALS_MAX)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        self.cut_addresses(&mut tx, now.saturating_sub(addresses_seconds)).await?;
        sqlx::query("DELETE FROM session WHERE expires_at < $1 OR seen_at < $1 - $2 OR (seen_at < $1 - $3 AND account IN (SELECT id FROM account WHERE role = 'operator'))")
            .bind(now as i64)
            .bind(SESSION_IDLE_SECONDS as i64)
            .bind(OPERATOR_IDLE_SECONDS as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        sqlx::query("DELETE FROM link WHERE expires_at < $1")
            .bind(now.saturating_sub(24 * 3600) as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        sqlx::query("DELETE FROM enrolment WHERE expires_at < $1")
            .bind(now.saturating_sub(24 * 3600) as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        sqlx::query("DELETE FROM revocation WHERE at < $1")
            .bind(now.saturating_sub(24 * 3600) as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        sqlx::query("DELETE FROM delivery WHERE made_at < $1 OR (state = 'sent' AND made_at < $2)")
            .bind(now.saturating_sub(kept_seconds) as i64)
            .bind(now.saturating_sub(SENT_KEPT_SECONDS) as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        // Also of an outlet that is not configured any more, and is never told that they were closed.
        sqlx::query("DELETE FROM told WHERE incident IN (SELECT id FROM incident WHERE state = 'closed' AND last_at < $1)")
            .bind(now.saturating_sub(kept_seconds) as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        sqlx::query("DELETE FROM incident WHERE state = 'closed' AND last_at < $1")
            .bind(now.saturating_sub(kept_seconds) as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        super::open::commit(tx, doing).await
    }

    /// Leaves of addresses of refusals before then only their block.
    async fn cut_addresses(&self, tx: &mut Connection, before: u64) -> Result<(), StoreError> {
        let doing = "forgetting addresses of old refusals";
        let rows = sqlx::query(
            "SELECT DISTINCT address FROM refusal WHERE at < $1 AND address <> '' AND address NOT LIKE '%/%' LIMIT 10000",
        )
        .bind(before as i64)
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
        for row in rows {
            let address = row.text("address")?;
            let block = address.parse::<IpAddr>().map(|ip| Block::of(ip).to_string()).unwrap_or_default();
            sqlx::query("UPDATE refusal SET address = $1 WHERE at < $2 AND address = $3")
                .bind(block)
                .bind(before as i64)
                .bind(address)
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        Ok(())
    }
}
