//! The audit row of a permitted write.

use gangline_guard::{Act, Permit};

use super::{Connection, approval::use_up};
use crate::{
    StoreError,
    sql::{Columns, Id},
};

/// Leaves the audit row of a permitted write, in its transaction, and uses up the approval that it took.
pub(crate) async fn audit<A: Act>(
    tx: &mut Connection,
    permit: &Permit<A>,
    detail: &str,
) -> Result<(), StoreError> {
    audited(tx, permit, detail).await.map(drop)
}

/// The same, and the row's number.
pub(crate) async fn audited<A: Act>(
    tx: &mut Connection,
    permit: &Permit<A>,
    detail: &str,
) -> Result<u64, StoreError> {
    use_up(&mut *tx, permit).await?;
    row(tx, permit, detail).await
}

/// The row alone, for what follows upon a row that used the approval up.
pub(crate) async fn row<A: Act>(
    tx: &mut Connection,
    permit: &Permit<A>,
    detail: &str,
) -> Result<u64, StoreError> {
    let entry = permit.audit_entry();
    let row = sqlx::query("INSERT INTO audit (at, actor, key, account, session, action, resource, reason, detail) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id")
        .bind(entry.at.0 as i64)
        .bind(entry.actor)
        .bind(entry.key.map(|key| key.blob()))
        .bind(entry.account.map(|account| account.blob()))
        .bind(entry.session.map(|session| session.blob()))
        .bind(entry.action.as_str())
        .bind(entry.resource)
        .bind(entry.reason)
        .bind(detail)
        .fetch_one(tx)
        .await
        .map_err(StoreError::sql("writing the audit"))?;
    row.int("id")
}
