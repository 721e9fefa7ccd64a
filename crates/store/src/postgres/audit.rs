//! The audit row of a permitted write.

use gangline_guard::{Act, Permit};
use sqlx::PgConnection;

use crate::{StoreError, sql::Id};

/// Leaves the audit row of a permitted write, in its transaction.
pub(crate) async fn audit<A: Act>(
    tx: &mut PgConnection,
    permit: &Permit<A>,
    detail: &str,
) -> Result<(), StoreError> {
    let entry = permit.audit_entry();
    sqlx::query("INSERT INTO audit (at, actor, key, account, session, action, resource, reason, detail) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)")
        .bind(entry.at.0 as i64)
        .bind(entry.actor)
        .bind(entry.key.map(|key| key.blob()))
        .bind(entry.account.map(|account| account.blob()))
        .bind(entry.session.map(|session| session.blob()))
        .bind(entry.action.as_str())
        .bind(entry.resource)
        .bind(entry.reason)
        .bind(detail)
        .execute(tx)
        .await
        .map_err(StoreError::sql("writing the audit"))?;
    Ok(())
}
