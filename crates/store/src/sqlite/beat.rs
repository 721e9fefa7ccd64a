//! Beats: one bit a minute and GPU. Returned means on disk.

use std::collections::{BTreeMap, HashSet};

use gangline_guard::{Permit, act};
use gangline_rules::uptime;
use gangline_types::{GpuId, Hour, UnixSeconds, UptimeHour};
use gangline_wire::api::machine::{MinuteBeat, RefusedBeat};

use crate::{
    Credited, StoreError,
    sql::{Columns, Id},
    sqlite::SqliteStore,
    sqlite::open::commit,
};

impl SqliteStore {
    /// Credits beats to GPUs of the permit's machine, and of no other. Repeats are the same bits.
    pub async fn credit(
        &self,
        permit: Permit<act::Beat>,
        beats: &[MinuteBeat],
    ) -> Result<Credited, StoreError> {
        let doing = "writing beats down";
        let now = permit.at();
        let mut tx = self.begin(doing).await?;
        let own: HashSet<GpuId> = sqlx::query("SELECT id FROM gpu WHERE machine = ? AND present = 1")
            .bind(permit.on().machine.blob())
            .fetch_all(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?
            .iter()
            .map(|r| r.id("id"))
            .collect::<Result<_, _>>()?;

        // Up to here snapshots are taken; what comes for those minutes now is uptime, but late.
        let taken_until = sqlx::query("SELECT json_extract(head, '$.ends') AS ends FROM snapshot ORDER BY season DESC, period DESC LIMIT 1")
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?
            .map(|r| r.int("ends"))
            .transpose()?
            .unwrap_or(0);

        let mut credited = 0;
        let mut refused = Vec::new();
        let mut hours: BTreeMap<(GpuId, Hour), (UptimeHour, UptimeHour)> = BTreeMap::new();
        let mut newest: BTreeMap<GpuId, UnixSeconds> = BTreeMap::new();
        for beat in beats {
            let minute = match uptime::credit(now, beat.minute) {
                Ok(minute) => minute,
                Err(refusal) => {
                    refused.push(RefusedBeat { minute: beat.minute, reason: refusal.to_string() });
                    continue;
                }
            };
            for gpu in &beat.gpus {
                if !own.contains(gpu) {
                    refused.push(RefusedBeat { minute, reason: format!("{gpu} is no GPU of this machine") });
                    continue;
                }
                credited += 1;
                let (bits, late) = hours.entry((*gpu, minute.hour())).or_default();
                *bits = bits.with(minute.of_hour());
                if (minute.0 as u64) < taken_until {
                    *late = late.with(minute.of_hour());
                }
                // A late beat is uptime, but no sign of life now.
                let seen = newest.entry(*gpu).or_default();
                *seen = (*seen).max(minute.start().plus(59).min(now));
            }
        }
        for ((gpu, hour), (bits, late)) in &hours {
            // A late repeat of a minute that was in time stays in time.
            sqlx::query("INSERT INTO uptime (gpu, hour, bits, late) VALUES (?, ?, ?, ?) ON CONFLICT (gpu, hour) DO UPDATE SET late = late | (excluded.late & ~bits), bits = bits | excluded.bits")
                .bind(gpu.blob())
                .bind(hour.0 as i64)
                .bind(bits.0 as i64)
                .bind(late.0 as i64)
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        for (gpu, seen) in &newest {
            sqlx::query("UPDATE gpu SET beat_at = max(beat_at, ?) WHERE id = ?")
                .bind(seen.0 as i64)
                .bind(gpu.blob())
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        sqlx::query("UPDATE machine SET seen_at = max(seen_at, ?) WHERE id = ?")
            .bind(now.0 as i64)
            .bind(permit.on().machine.blob())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        commit(tx, doing).await?;
        Ok(Credited { credited, refused })
    }
}
