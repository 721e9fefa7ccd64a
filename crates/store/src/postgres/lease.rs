//! Leases in the database, by its own clock. A generation is one holder's time; every transaction of a job begins
//! by making sure that its generation is the one that holds, and keeps the lease's row from changing until it ends.

use sqlx::PgConnection;

use super::PostgresStore;
use crate::{
    Lease, StoreError,
    books::lease::{HELD_SECONDS, current},
};

impl PostgresStore {
    pub(crate) async fn lease(&self, name: &'static str) -> Result<Option<Lease>, StoreError> {
        let doing = "asking for a lease";
        let generation: Option<i64> = sqlx::query_scalar(
            "INSERT INTO lease AS l (name, holder, generation, until) VALUES ($1, $2, 1, clock_timestamp() + make_interval(secs => $3)) ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until, generation = l.generation + CASE WHEN l.holder = excluded.holder THEN 0 ELSE 1 END WHERE l.holder = excluded.holder OR l.until < clock_timestamp() RETURNING generation",
        )
        .bind(name)
        .bind(self.replica.to_vec())
        .bind(HELD_SECONDS as f64)
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::sql(doing))?;
        Ok(generation.map(|generation| Lease { name, generation: generation as u64 }))
    }

    pub(crate) async fn give_leases_back(&self) -> Result<(), StoreError> {
        sqlx::query("UPDATE lease SET until = clock_timestamp() WHERE holder = $1")
            .bind(self.replica.to_vec())
            .execute(&self.pool)
            .await
            .map_err(StoreError::sql("giving leases back"))?;
        Ok(())
    }
}

/// Makes sure, in its transaction, that the lease under which this runs still holds.
pub(super) async fn checked(tx: &mut PgConnection, doing: &'static str) -> Result<(), StoreError> {
    let Some(lease) = current() else { return Ok(()) };
    let held = sqlx::query("SELECT 1 FROM lease WHERE name = $1 AND generation = $2 FOR SHARE")
        .bind(lease.name)
        .bind(lease.generation as i64)
        .fetch_optional(tx)
        .await
        .map_err(StoreError::sql(doing))?;
    held.map(|_| ()).ok_or(StoreError::LeaseLost { name: lease.name })
}
