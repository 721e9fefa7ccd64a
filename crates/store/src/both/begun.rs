//! Acts that take several transactions.

use gangline_guard::{Act, Permit, act};
use gangline_types::UnixSeconds;

use super::{
    Books, Connection,
    audit::{audit, audited, row},
    open::commit,
};
use crate::{Begun, BrokenOff, StoreError, books::begun::broken_off};

/// Leaves the audit row that stands before an act.
pub(crate) async fn begin<A: Act>(
    tx: &mut Connection,
    permit: &Permit<A>,
    detail: &str,
) -> Result<Begun, StoreError> {
    let number = audited(&mut *tx, permit, &format!("begun: {detail}")).await?;
    sqlx::query("INSERT INTO begun (audit, touched_at) VALUES ($1, $2)")
        .bind(number as i64)
        .bind(permit.at().0 as i64)
        .execute(tx)
        .await
        .map_err(StoreError::sql("beginning an act"))?;
    Ok(Begun(number))
}

/// Says that an act goes on.
pub(crate) async fn go_on(tx: &mut Connection, act: Begun, now: UnixSeconds) -> Result<(), StoreError> {
    let there = sqlx::query("UPDATE begun SET touched_at = $1 WHERE audit = $2")
        .bind(now.0 as i64)
        .bind(act.0 as i64)
        .execute(tx)
        .await
        .map_err(StoreError::sql("going on with an act"))?;
    if there.rows_affected() == 0 {
        return Err(StoreError::Gone("this act was given up: it did nothing for too long"));
    }
    Ok(())
}

/// Takes an act off the list; whether it was on it.
async fn end(tx: &mut Connection, act: Begun) -> Result<bool, StoreError> {
    let ended = sqlx::query("DELETE FROM begun WHERE audit = $1")
        .bind(act.0 as i64)
        .execute(tx)
        .await
        .map_err(StoreError::sql("ending an act"))?;
    Ok(ended.rows_affected() == 1)
}

/// Leaves the row that stands after it.
pub(crate) async fn complete<A: Act>(
    tx: &mut Connection,
    permit: &Permit<A>,
    act: Begun,
    detail: &str,
) -> Result<(), StoreError> {
    if !end(&mut *tx, act).await? {
        return Err(StoreError::Gone("this act was given up: it did nothing for too long"));
    }
    // Its approval, if it took one, was used up before the act.
    row(tx, permit, &format!("completed, begun in row {}: {detail}", act.0)).await?;
    Ok(())
}

impl Books {
    pub(crate) async fn broken_off(
        &self,
        _: &Permit<act::Reconcile>,
        idle_since: UnixSeconds,
    ) -> Result<Vec<BrokenOff>, StoreError> {
        sqlx::query("SELECT a.* FROM begun b CROSS JOIN audit a WHERE a.id = b.audit AND b.touched_at < $1 ORDER BY a.id LIMIT 100")
            .bind(idle_since.0 as i64)
            .fetch_all(self.reading())
            .await
            .map_err(StoreError::sql("looking for acts that broke off"))?
            .iter()
            .map(broken_off)
            .collect()
    }

    pub(crate) async fn give_up(
        &self,
        permit: &Permit<act::Reconcile>,
        act: Begun,
    ) -> Result<bool, StoreError> {
        let doing = "giving an act up";
        let mut tx = self.begin(doing).await?;
        if !end(&mut tx, act).await? {
            return Ok(false);
        }
        audit(&mut tx, permit, &format!("never completed, begun in row {}", act.0)).await?;
        commit(tx, doing).await?;
        Ok(true)
    }
}
