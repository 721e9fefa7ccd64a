//! Refused attempts, and what is kept for how long.

use std::net::IpAddr;

use gangline_guard::{Permit, act, audit::RefusedAttempt, notice::Block};
use gangline_types::UnixSeconds;
use sqlx::SqliteConnection;

use crate::{
    AuditQuery, AuditRow, RecordQuery, RefusalRow, StoreError,
    books::{
        account::{OPERATOR_IDLE_SECONDS, SESSION_IDLE_SECONDS},
        records::REFUSALS_MAX,
    },
    sql::{Columns, Id},
    sqlite::SqliteStore,
};

impl SqliteStore {
    /// Writes refused attempts down. They are the guard's own record and need no permit.
    pub async fn refused(&self, attempts: &[RefusedAttempt]) -> Result<(), StoreError> {
        let doing = "writing refusals down";
        let mut tx = self.begin(doing).await?;
        for a in attempts {
            sqlx::query("INSERT INTO refusal (at, actor, key, account, count, action, request, address, code, message) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
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
        crate::sqlite::open::commit(tx, doing).await
    }

    /// Refusals, newest first.
    pub async fn refusals(
        &self,
        _: &Permit<act::Operate>,
        query: &RecordQuery,
    ) -> Result<Vec<RefusalRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM refusal WHERE (?1 IS NULL OR key = ?1) AND (?2 IS NULL OR account = ?2) AND (?3 IS NULL OR action = ?3) AND (?4 IS NULL OR code = ?4) AND at >= ?5 AND at < ?6 AND id < ?7 ORDER BY id DESC LIMIT ?8")
            .bind(query.key.map(|key| key.blob()))
            .bind(query.account.map(|account| account.blob()))
            .bind(&query.action)
            .bind(&query.code)
            .bind(query.from.unwrap_or_default().0 as i64)
            .bind(query.to.map_or(i64::MAX, |to| to.0 as i64))
            .bind(query.before.map_or(i64::MAX, |before| before as i64))
            .bind(i64::from(query.limit))
            .fetch_all(&self.read)
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
    pub async fn acts(
        &self,
        _: &Permit<act::Operate>,
        query: &AuditQuery,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM audit WHERE (?1 IS NULL OR key = ?1) AND (?2 IS NULL OR account = ?2) AND (?3 IS NULL OR action = ?3) AND at >= ?4 AND at < ?5 AND id < ?6 ORDER BY id DESC LIMIT ?7")
            .bind(query.key.map(|key| key.blob()))
            .bind(query.account.map(|account| account.blob()))
            .bind(&query.action)
            .bind(query.from.unwrap_or_default().0 as i64)
            .bind(query.to.map_or(i64::MAX, |to| to.0 as i64))
            .bind(query.before.map_or(i64::MAX, |before| before as i64))
            .bind(i64::from(query.limit))
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("listing permitted acts"))?;
        rows.iter()
            .map(|r| {
                Ok(AuditRow {
                    id: r.int("id")?,
                    at: r.at("at")?,
                    actor: r.text("actor")?,
                    key: r.id_or_none("key")?,
                    account: r.id_or_none("account")?,
                    action: r.text("action")?,
                    resource: r.text("resource")?,
                    reason: r.text("reason")?,
                    detail: r.text("detail")?,
                })
            })
            .collect()
    }

    /// How many were refused since then.
    pub async fn refusals_since(
        &self,
        _: &Permit<act::Operate>,
        since: UnixSeconds,
    ) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT coalesce(sum(count), 0) AS refusals FROM refusal WHERE at >= ?")
            .bind(since.0 as i64)
            .fetch_one(&self.read)
            .await
            .map_err(StoreError::sql("counting refusals"))?;
        row.int("refusals")
    }

    /// Forgets what is past keeping: old refusals, ended sessions, used links, decided requests.
    pub async fn sweep(
        &self,
        permit: &Permit<act::Reconcile>,
        kept_seconds: u64,
        addresses_seconds: u64,
    ) -> Result<(), StoreError> {
        let doing = "sweeping";
        let now = permit.at().0;
        let mut tx = self.begin(doing).await?;
        sqlx::query("DELETE FROM refusal WHERE at < ? OR id <= (SELECT max(id) FROM refusal) - ?")
            .bind(now.saturating_sub(kept_seconds) as i64)
            .bind(REFUSALS_MAX)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        self.cut_addresses(&mut tx, now.saturating_sub(addresses_seconds)).await?;
        sqlx::query("DELETE FROM session WHERE expires_at < ?1 OR seen_at < ?1 - ?2 OR (seen_at < ?1 - ?3 AND account IN (SELECT id FROM account WHERE role = 'operator'))")
            .bind(now as i64)
            .bind(SESSION_IDLE_SECONDS as i64)
            .bind(OPERATOR_IDLE_SECONDS as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        sqlx::query("DELETE FROM link WHERE expires_at < ?")
            .bind(now.saturating_sub(24 * 3600) as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        sqlx::query("DELETE FROM enrolment WHERE expires_at < ?")
            .bind(now.saturating_sub(24 * 3600) as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        sqlx::query("DELETE FROM revocation WHERE at < ?")
            .bind(now.saturating_sub(24 * 3600) as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        crate::sqlite::open::commit(tx, doing).await
    }

    /// Leaves of addresses of refusals before then only their block.
    async fn cut_addresses(&self, tx: &mut SqliteConnection, before: u64) -> Result<(), StoreError> {
        let doing = "forgetting addresses of old refusals";
        let rows = sqlx::query(
            "SELECT DISTINCT address FROM refusal WHERE at < ? AND address <> '' AND instr(address, '/') = 0 LIMIT 10000",
        )
        .bind(before as i64)
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
        for row in rows {
            let address = row.text("address")?;
            let block = address.parse::<IpAddr>().map(|ip| Block::of(ip).to_string()).unwrap_or_default();
            sqlx::query("UPDATE refusal SET address = ? WHERE at < ? AND address = ?")
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
