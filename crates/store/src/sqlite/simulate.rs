//! Made-up machines for tests of load, some thousands with one statement.

use gangline_guard::{Permit, act, beat::Line};
use gangline_types::{AccountId, GpuId, Hour, KeyId, UptimeHour};
use serde_json::json as value;
use sqlx::SqlitePool;

use crate::{
    SimulatedMachine, StoreError,
    sql::{Columns, Id, json, packed, word},
    sqlite::{SqliteStore, audit::audit, open::commit},
};

/// What a connection that fills the books holds of them: ids are in no order, so that some thousand machines touch pages
/// everywhere, and what does not fit is written and read again for each of them.
const ROOM: &str = "PRAGMA cache_size = -524288";

/// Gives the connection that writes room for a folder that is filled.
async fn make_room(pool: &SqlitePool) -> Result<(), StoreError> {
    sqlx::query(ROOM).execute(pool).await.map_err(StoreError::sql("making room for simulated machines"))?;
    Ok(())
}

impl SqliteStore {
    /// Makes a supplier that simulated machines belong to.
    pub async fn add_simulated_account(
        &self,
        permit: &Permit<act::Simulate>,
        account: AccountId,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO account (id, name, role, created_at) VALUES (?, 'Simulated supplier', 'supplier', ?) ON CONFLICT (id) DO NOTHING")
            .bind(account.blob())
            .bind(permit.at().0 as i64)
            .execute(&self.write)
            .await
            .map_err(StoreError::sql("making a simulated supplier"))?;
        Ok(())
    }

    /// Writes simulated machines down with their keys and GPUs.
    pub async fn add_simulated(
        &self,
        permit: &Permit<act::Simulate>,
        machines: &[(AccountId, SimulatedMachine)],
    ) -> Result<(), StoreError> {
        let doing = "writing simulated machines down";
        let now = permit.at().0 as i64;
        // For each: account, machine, GPU and key id of 16 bytes; public key and slot of 32.
        let mut bytes = Vec::with_capacity(machines.len() * 128);
        for (account, made) in machines {
            let key = KeyId::of_public_key(&made.public_key);
            for id in [account.as_bytes(), made.machine.as_bytes(), made.gpu.as_bytes(), key.as_bytes()] {
                bytes.extend_from_slice(id);
            }
            bytes.extend_from_slice(&made.public_key);
            bytes.extend_from_slice(&made.claim.slot.0);
        }
        let words: Vec<_> = machines
            .iter()
            .map(|(_, made)| {
                value!([
                    json(&made.claim),
                    word(&made.standing),
                    made.profile.matrix_mmacs,
                    made.profile.memory_bytes,
                    made.offer.as_ref().map(json),
                ])
            })
            .collect();
        let words = json(&words);
        make_room(&self.write).await?;
        let mut tx = self.begin(doing).await?;
        sqlx::query("INSERT INTO machine (id, account, joined_at, simulated) SELECT substr(?1, 17 + 128 * j.key, 16), substr(?1, 1 + 128 * j.key, 16), ?3, 1 FROM json_each(?2) j WHERE true ON CONFLICT (id) DO NOTHING")
            .bind(&bytes)
            .bind(&words)
            .bind(now)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        sqlx::query("INSERT INTO key (id, public_key, kind, account, machine, host, created_at) SELECT substr(?1, 49 + 128 * j.key, 16), substr(?1, 65 + 128 * j.key, 32), 'machine', substr(?1, 1 + 128 * j.key, 16), substr(?1, 17 + 128 * j.key, 16), 'simulated', ?3 FROM json_each(?2) j WHERE true ON CONFLICT (id) DO NOTHING")
            .bind(&bytes)
            .bind(&words)
            .bind(now)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        sqlx::query("INSERT INTO gpu (id, machine, slot, claim, standing, reason, matrix_mmacs, memory_bytes, offer, registered_at) SELECT substr(?1, 33 + 128 * j.key, 16), substr(?1, 17 + 128 * j.key, 16), substr(?1, 97 + 128 * j.key, 32), j.value ->> 0, j.value ->> 1, 'Simulated: a load generator made it up, and nothing was proven.', j.value ->> 2, j.value ->> 3, j.value ->> 4, ?3 FROM json_each(?2) j WHERE true ON CONFLICT (id) DO NOTHING")
            .bind(&bytes)
            .bind(&words)
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
        let gpus: Vec<GpuId> = months.iter().map(|(gpu, ..)| *gpu).collect();
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let parts = json(&months.iter().map(|(_, month, days)| (month, hex(days))).collect::<Vec<_>>());
        let gpus = packed(&gpus);
        let fill = async |pool: &SqlitePool| {
            make_room(pool).await?;
            sqlx::query("INSERT INTO uptime_month (gpu, month, days) SELECT substr(?1, 1 + 16 * j.key, 16), j.value ->> 0, unhex(j.value ->> 1) FROM json_each(?2) j WHERE true ON CONFLICT (gpu, month) DO UPDATE SET days = excluded.days")
                .bind(&gpus)
                .bind(&parts)
                .execute(pool)
                .await
                .map_err(StoreError::sql(doing))
        };
        futures_util::future::try_join(fill(&self.write), fill(&self.public_write)).await?;
        Ok(())
    }

    /// Every GPU's minutes in one hour.
    pub async fn hour_of_all(
        &self,
        _: &Permit<act::Simulate>,
        hour: Hour,
    ) -> Result<Vec<(GpuId, UptimeHour)>, StoreError> {
        let rows = sqlx::query("SELECT gpu, bits FROM uptime WHERE hour = ?")
            .bind(hour.0 as i64)
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("reading an hour of everybody"))?;
        rows.iter().map(|r| Ok((r.id("gpu")?, UptimeHour(r.int("bits")?)))).collect()
    }

    /// Nothing: the journal is on this server's disk.
    pub async fn journaled(&self, _: &Permit<act::Simulate>) -> Result<Vec<Line>, StoreError> {
        Ok(Vec::new())
    }

    /// Whether the books hold any simulated machine.
    pub async fn has_simulated(&self) -> Result<bool, StoreError> {
        let any: i64 = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM machine WHERE simulated = 1)")
            .fetch_one(&self.read)
            .await
            .map_err(StoreError::sql("looking for simulated machines"))?;
        Ok(any == 1)
    }
}

/// The n-th machine of a test, with its GPU, under this key.
#[cfg(test)]
pub(super) fn made(n: u8, public_key: [u8; 32]) -> SimulatedMachine {
    use gangline_types::{AdapterKind, Backend, GpuClaim, Hash, MachineId, Profile, Standing, Text};

    SimulatedMachine {
        machine: MachineId::from_bytes([n; 16]),
        gpu: GpuId::from_bytes([n; 16]),
        public_key,
        claim: GpuClaim {
            slot: Hash([n; 32]),
            model: Text::lossy("Simulated"),
            kind: AdapterKind::Discrete,
            backend: Backend::Vulkan,
            driver: Text::default(),
            pci_vendor: 0,
            pci_device: 0,
            memory_bytes: 0,
        },
        standing: Standing::Proven,
        profile: Profile::default(),
        offer: None,
    }
}
