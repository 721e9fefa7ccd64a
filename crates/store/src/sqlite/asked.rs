//! What is asked for many at once, in SQLite.

use std::collections::HashMap;

use gangline_guard::KeyRecord;
use gangline_types::{GpuId, KeyId, MachineId};

use crate::{
    StoreError,
    books::key::key_record,
    sql::packed,
    sqlite::{SqliteStore, groups::by_machine},
};

impl SqliteStore {
    pub(super) async fn keys(&self, keys: &[KeyId]) -> Result<HashMap<KeyId, KeyRecord>, StoreError> {
        let rows = sqlx::query("WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE (i + 1) * 16 < length(?1)) SELECT k.id, k.public_key, k.kind, k.account, k.machine, k.revoked_at, k.ends_at, a.role FROM n CROSS JOIN key k ON k.id = substr(?1, 1 + 16 * n.i, 16) CROSS JOIN account a ON a.id = k.account")
            .bind(packed(keys))
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("looking a key up"))?;
        rows.iter().map(key_record).collect()
    }

    pub(super) async fn gpus_of_machines(
        &self,
        machines: &[MachineId],
    ) -> Result<HashMap<MachineId, Vec<GpuId>>, StoreError> {
        let mut machines = machines.to_vec();
        machines.sort_unstable();
        machines.dedup();
        let rows = sqlx::query("WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE (i + 1) * 16 < length(?1)) SELECT g.machine, g.id FROM n CROSS JOIN gpu g ON g.machine = substr(?1, 1 + 16 * n.i, 16) WHERE g.present = 1")
            .bind(packed(&machines))
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("listing a machine's GPUs"))?;
        by_machine(&rows)
    }
}
