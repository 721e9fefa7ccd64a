//! Refused attempts, and what is kept for how long.

use gangline_guard::{Permit, act, audit::RefusedAttempt};
use gangline_types::UnixSeconds;

use crate::{RefusalRow, StoreError, sql::Columns, sqlite::SqliteStore};

/// How long refusals are kept, in seconds: 90 days.
const REFUSALS_KEPT_SECONDS: u64 = 90 * 24 * 3600;
/// How many refusals are kept at most.
const REFUSALS_MAX: i64 = 200_000;

impl SqliteStore {
    /// Writes refused attempts down. They are the guard's own record and need no permit.
    pub async fn refused(&self, attempts: &[RefusedAttempt]) -> Result<(), StoreError> {
        let doing = "writing refusals down";
        let mut tx = self.begin(doing).await?;
        for a in attempts {
            sqlx::query("INSERT INTO refusal (at, actor, action, request, address, code, message) VALUES (?, ?, ?, ?, ?, ?, ?)")
                .bind(a.at.0 as i64)
                .bind(&a.actor)
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

    /// The newest refusals, at most 100.
    pub async fn refusals(&self, _: &Permit<act::Operate>) -> Result<Vec<RefusalRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM refusal ORDER BY id DESC LIMIT 100")
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("listing refusals"))?;
        rows.iter()
            .map(|r| {
                Ok(RefusalRow {
                    at: r.at("at")?,
                    actor: r.text("actor")?,
                    action: r.text("action")?,
                    request: r.text("request")?,
                    address: r.text("address")?,
                    code: r.text("code")?,
                    message: r.text("message")?,
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
        let row = sqlx::query("SELECT count(*) AS refusals FROM refusal WHERE at >= ?")
            .bind(since.0 as i64)
            .fetch_one(&self.read)
            .await
            .map_err(StoreError::sql("counting refusals"))?;
        row.int("refusals")
    }

    /// Forgets what is past keeping: old refusals, ended sessions, used links, decided requests.
    pub async fn sweep(&self, permit: &Permit<act::Reconcile>) -> Result<(), StoreError> {
        let doing = "sweeping";
        let now = permit.at().0;
        let mut tx = self.begin(doing).await?;
        sqlx::query("DELETE FROM refusal WHERE at < ? OR id <= (SELECT max(id) FROM refusal) - ?")
            .bind(now.saturating_sub(REFUSALS_KEPT_SECONDS) as i64)
            .bind(REFUSALS_MAX)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        sqlx::query("DELETE FROM session WHERE expires_at < ?")
            .bind(now as i64)
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
}
