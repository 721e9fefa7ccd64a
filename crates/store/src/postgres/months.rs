//! Old uptime. PostgreSQL keeps it as rows of hours: nothing is packed, and what is past keeping is forgotten.

use gangline_guard::{Permit, act};
use gangline_types::{GpuId, Hour};

use super::PostgresStore;
use crate::{Packed, StoreError};

impl PostgresStore {
    pub(crate) async fn pack_uptime(
        &self,
        _: &Permit<act::Reconcile>,
        public: bool,
        before: Hour,
        kept_from: Hour,
        _: Option<GpuId>,
    ) -> Result<Packed, StoreError> {
        let doing = "forgetting old uptime";
        let statement = if public {
            sqlx::query("DELETE FROM gangline_public.uptime WHERE hour < $1")
        } else {
            sqlx::query("DELETE FROM uptime WHERE hour < $1")
        };
        let forgotten = statement
            .bind(i64::from(kept_from.0.min(before.0)))
            .execute(&self.pool)
            .await
            .map_err(StoreError::sql(doing))?;
        Ok(Packed { last: None, hours: forgotten.rows_affected() })
    }
}
