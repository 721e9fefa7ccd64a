//! Made-up machines for tests of load, some thousands with one statement.

use futures_util::TryStreamExt;
use gangline_guard::{Permit, act, beat::Line};
use gangline_types::{AccountId, GpuId, Hour, KeyId, UptimeHour};

use super::{PostgresStore, audit::audit, journal::take_apart, open::commit};
use crate::{
    SimulatedMachine, StoreError,
    sql::{Columns, Id, json, word},
};

impl PostgresStore {
    pub(crate) async fn add_simulated_account(
        &self,
        permit: &Permit<act::Simulate>,
        account: AccountId,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO account (id, name, role, created_at) VALUES ($1, 'Simulated supplier', 'supplier', $2) ON CONFLICT (id) DO NOTHING")
            .bind(account.blob())
            .bind(permit.at().0 as i64)
            .execute(&self.pool)
            .await
            .map_err(StoreError::sql("making a simulated supplier"))?;
        Ok(())
    }

    pub(crate) async fn add_simulated(
        &self,
        permit: &Permit<act::Simulate>,
        machines: &[(AccountId, SimulatedMachine)],
    ) -> Result<(), StoreError> {
        let doing = "writing simulated machines down";
        let now = permit.at().0 as i64;
        let made = || machines.iter().map(|(_, made)| made);
        let accounts: Vec<Vec<u8>> = machines.iter().map(|(account, _)| account.blob()).collect();
        let ids: Vec<Vec<u8>> = made().map(|m| m.machine.blob()).collect();
        let mut tx = self.begin(doing).await?;
        sqlx::query("INSERT INTO machine (id, account, joined_at, simulated) SELECT n.id, n.account, $3, true FROM unnest($1, $2) AS n (id, account) ON CONFLICT (id) DO NOTHING")
            .bind(&ids)
            .bind(&accounts)
            .bind(now)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        sqlx::query("INSERT INTO key (id, public_key, kind, account, machine, host, created_at) SELECT n.id, n.public_key, 'machine', n.account, n.machine, 'simulated', $5 FROM unnest($1, $2, $3, $4) AS n (id, public_key, account, machine) ON CONFLICT (id) DO NOTHING")
            .bind(made().map(|m| KeyId::of_public_key(&m.public_key).blob()).collect::<Vec<_>>())
            .bind(made().map(|m| m.public_key.to_vec()).collect::<Vec<_>>())
            .bind(&accounts)
            .bind(&ids)
            .bind(now)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        sqlx::query("INSERT INTO gpu (id, machine, slot, claim, standing, reason, matrix_mmacs, memory_bytes, offer, registered_at) SELECT n.id, n.machine, n.slot, n.claim, n.standing, 'Simulated: a load generator made it up, and nothing was proven.', n.rate, n.memory, n.offer, $9 FROM unnest($1, $2, $3, $4, $5, $6, $7, $8) AS n (id, machine, slot, claim, standing, rate, memory, offer) ON CONFLICT (id) DO NOTHING")
            .bind(made().map(|m| m.gpu.blob()).collect::<Vec<_>>())
            .bind(&ids)
            .bind(made().map(|m| m.claim.slot.0.to_vec()).collect::<Vec<_>>())
            .bind(made().map(|m| json(&m.claim)).collect::<Vec<_>>())
            .bind(made().map(|m| word(&m.standing)).collect::<Vec<_>>())
            .bind(made().map(|m| m.profile.matrix_mmacs as i64).collect::<Vec<_>>())
            .bind(made().map(|m| m.profile.memory_bytes as i64).collect::<Vec<_>>())
            .bind(made().map(|m| m.offer.as_ref().map(json)).collect::<Vec<_>>())
            .bind(now)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        audit(&mut tx, permit, &format!("{} simulated machines", machines.len())).await?;
        commit(tx, doing).await
    }

    pub(crate) async fn add_simulated_uptime(
        &self,
        _: &Permit<act::Simulate>,
        months: &[(GpuId, u32, Vec<u8>)],
    ) -> Result<(), StoreError> {
        let doing = "writing simulated uptime down";
        let mut tx = self.begin(doing).await?;
        for fill in [
            "INSERT INTO gangline.uptime_month (gpu, month, days) SELECT * FROM unnest($1, $2, $3) ON CONFLICT (gpu, month) DO UPDATE SET days = excluded.days",
            "INSERT INTO gangline_public.uptime_month (gpu, month, days) SELECT * FROM unnest($1, $2, $3) ON CONFLICT (gpu, month) DO UPDATE SET days = excluded.days",
        ] {
            sqlx::query(fill)
                .bind(months.iter().map(|(gpu, ..)| gpu.blob()).collect::<Vec<_>>())
                .bind(months.iter().map(|(_, month, _)| i64::from(*month)).collect::<Vec<_>>())
                .bind(months.iter().map(|(.., days)| days.clone()).collect::<Vec<_>>())
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        commit(tx, doing).await
    }

    pub(crate) async fn hour_of_all(
        &self,
        _: &Permit<act::Simulate>,
        hour: Hour,
    ) -> Result<Vec<(GpuId, UptimeHour)>, StoreError> {
        let rows = sqlx::query("SELECT gpu, bits FROM uptime WHERE hour = $1 ORDER BY gpu")
            .bind(i64::from(hour.0))
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::sql("reading an hour of everybody's uptime"))?;
        rows.iter().map(|r| Ok((r.id("gpu")?, UptimeHour(r.int("bits")?)))).collect()
    }

    pub(crate) async fn journaled(&self, _: &Permit<act::Simulate>) -> Result<Vec<Line>, StoreError> {
        let doing = "reading the journal of beats";
        let mut rows = sqlx::query("SELECT lines FROM journal ORDER BY id").fetch(&self.pool);
        let mut lines = Vec::new();
        while let Some(row) = rows.try_next().await.map_err(StoreError::sql(doing))? {
            take_apart(&row, &mut lines)?;
        }
        Ok(lines)
    }

    pub(crate) async fn has_simulated(&self) -> Result<bool, StoreError> {
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM machine WHERE simulated)")
            .fetch_one(&self.pool)
            .await
            .map_err(StoreError::sql("looking for simulated machines"))
    }
}
