//! Old uptime. PostgreSQL keeps it as rows of hours and forgets what is past keeping; values of chains are packed by days.

use gangline_guard::{Permit, act};
use gangline_types::{GpuId, Hour};

use super::{PostgresStore, open::commit};
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

    pub(crate) async fn pack_links(
        &self,
        _: &Permit<act::Reconcile>,
        public: bool,
        before: Hour,
        kept_from: Hour,
        _: Option<GpuId>,
    ) -> Result<Packed, StoreError> {
        let doing = "packing old values of chains";
        let before = i64::from(before.0 / 24 * 24);
        let statements = if public {
            [
                sqlx::query("INSERT INTO gangline_public.uptime_shown AS s (gpu, day, tip, count, preimage) SELECT DISTINCT ON (gpu, hour / 24, tip) gpu, hour / 24, tip, count, preimage FROM gangline_public.uptime_link WHERE hour < $1 ORDER BY gpu, hour / 24, tip, count DESC ON CONFLICT (gpu, day, tip) DO UPDATE SET count = excluded.count, preimage = excluded.preimage WHERE s.count < excluded.count").bind(before),
                sqlx::query("DELETE FROM gangline_public.uptime_shown WHERE day < $1").bind(i64::from(kept_from.0 / 24)),
                sqlx::query("DELETE FROM gangline_public.uptime_chain WHERE starts < $1").bind((i64::from(kept_from.0) - 72) * 60),
                sqlx::query("DELETE FROM gangline_public.uptime_link WHERE hour < $1").bind(before),
            ]
        } else {
            [
                sqlx::query("INSERT INTO uptime_shown AS s (gpu, day, tip, count, preimage) SELECT DISTINCT ON (gpu, hour / 24, tip) gpu, hour / 24, tip, count, preimage FROM uptime_link WHERE hour < $1 ORDER BY gpu, hour / 24, tip, count DESC ON CONFLICT (gpu, day, tip) DO UPDATE SET count = excluded.count, preimage = excluded.preimage WHERE s.count < excluded.count").bind(before),
                sqlx::query("DELETE FROM uptime_shown WHERE day < $1").bind(i64::from(kept_from.0 / 24)),
                sqlx::query("DELETE FROM uptime_chain WHERE starts < $1").bind((i64::from(kept_from.0) - 72) * 60),
                sqlx::query("DELETE FROM uptime_link WHERE hour < $1").bind(before),
            ]
        };
        let mut tx = self.begin(doing).await?;
        let mut moved = 0;
        for statement in statements {
            moved = statement.execute(&mut *tx).await.map_err(StoreError::sql(doing))?.rows_affected();
        }
        commit(tx, doing).await?;
        Ok(Packed { last: None, hours: moved })
    }
}
