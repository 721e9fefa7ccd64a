//! Machines, counted, and what an account owns, a page at a time.

use gangline_guard::{Permit, act};
use gangline_types::{MachineId, UnixSeconds};

use super::Books;
use crate::{
    GpuRow, MachineRow, StoreError,
    books::machine::{gpu_row, machine_row},
    sql::{Columns, Id},
};

/// Of the account $1, those after $2, so many as $3.
macro_rules! owned {
    ($columns:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM machine WHERE account = $1 AND ($2 IS NULL OR (joined_at, id) < (SELECT joined_at, id FROM machine WHERE id = $2 AND account = $1)) ORDER BY joined_at DESC, id DESC LIMIT $3"
        )
    };
}

impl Books {
    pub(crate) async fn count_machines_of(
        &self,
        permit: &Permit<act::ReadAccount>,
    ) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT count(*) AS machines FROM machine WHERE account = $1")
            .bind(permit.on().account.blob())
            .fetch_one(self.reading())
            .await
            .map_err(StoreError::sql("counting an account's machines"))?;
        row.int("machines")
    }

    pub(crate) async fn machine_counts(
        &self,
        _: &Permit<act::Operate>,
        since: UnixSeconds,
    ) -> Result<(u64, u64), StoreError> {
        // By indexes and by what triggers count: everybody is too many for every look.
        let row = sqlx::query("SELECT CAST((SELECT coalesce(sum(machines), 0) FROM machines_here) AS BIGINT) AS machines, (SELECT count(*) FROM machine WHERE seen_at >= $1) - (SELECT count(*) FROM machine WHERE left_at IS NOT NULL AND seen_at >= $1) AS connected")
            .bind(since.0 as i64)
            .fetch_one(self.reading())
            .await
            .map_err(StoreError::sql("counting machines"))?;
        Ok((row.int("machines")?, row.int("connected")?))
    }

    pub(crate) async fn machines_of(
        &self,
        permit: &Permit<act::ReadAccount>,
        after: Option<MachineId>,
        limit: u32,
    ) -> Result<Vec<MachineRow>, StoreError> {
        let rows = sqlx::query(owned!("*"))
            .bind(permit.on().account.blob())
            .bind(after.map(|machine| machine.blob()))
            .bind(i64::from(limit))
            .fetch_all(self.reading())
            .await
            .map_err(StoreError::sql("listing machines"))?;
        rows.iter().map(machine_row).collect()
    }

    pub(crate) async fn gpus_of(
        &self,
        permit: &Permit<act::ReadAccount>,
        after: Option<MachineId>,
        limit: u32,
    ) -> Result<Vec<GpuRow>, StoreError> {
        let gpus = concat!(
            "SELECT g.*, m.account FROM (",
            owned!("id, account"),
            ") m JOIN gpu g ON g.machine = m.id ORDER BY g.id"
        );
        let rows = sqlx::query(gpus)
            .bind(permit.on().account.blob())
            .bind(after.map(|machine| machine.blob()))
            .bind(i64::from(limit))
            .fetch_all(self.reading())
            .await
            .map_err(StoreError::sql("listing GPUs"))?;
        rows.iter().map(gpu_row).collect()
    }
}
