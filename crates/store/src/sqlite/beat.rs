//! Lanes, chains and the fold of beats into uptime hours.

use std::collections::BTreeMap;

use gangline_guard::{Permit, act, beat::Grant};
use gangline_types::{
    GpuId, Hash, Hour, Minute, UnixSeconds, UptimeHour,
    public::{PublicChain, PublicLink},
};
use gangline_wire::beat::{Alias, Epoch, Preimage};

use crate::{
    StoreError,
    books::beat::{ChainRow, Fold, FoldedLink, LaneRow},
    sql::{Columns, Id},
    sqlite::{SqlitePublic, SqliteStore, open::commit},
};

fn value(bytes: Vec<u8>) -> Result<Preimage, StoreError> {
    bytes.try_into().map(Preimage).map_err(|_| StoreError::Malformed("a chain's value".into()))
}

fn lane_gpus(blob: &[u8]) -> Result<Vec<(GpuId, Preimage)>, StoreError> {
    let wrong = || StoreError::Malformed("column gpus".into());
    blob.chunks(32)
        .map(|both| {
            let (gpu, tip) = both.split_at_checked(16).ok_or_else(wrong)?;
            Ok((GpuId::from_bytes(gpu.try_into().map_err(|_| wrong())?), value(tip.to_vec())?))
        })
        .collect()
}

impl SqliteStore {
    /// GPUs of the permit's machine that are there, in the order of ids.
    pub async fn own_gpus(&self, permit: &Permit<act::Beat>) -> Result<Vec<GpuId>, StoreError> {
        sqlx::query("SELECT id FROM gpu WHERE machine = ? AND present = 1 ORDER BY id")
            .bind(permit.on().machine.blob())
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("listing a machine's GPUs"))?
            .iter()
            .map(|r| r.id("id"))
            .collect()
    }

    /// Writes down that a machine opened an epoch, and its chains.
    pub async fn open_lane(
        &self,
        permit: Permit<act::Beat>,
        lane: &LaneRow,
        chains: &[ChainRow],
    ) -> Result<(), StoreError> {
        let doing = "opening an epoch for a machine";
        let machine = permit.on().machine;
        let mut tx = self.begin(doing).await?;
        let gpus: Vec<u8> =
            lane.gpus.iter().flat_map(|(gpu, tip)| gpu.as_bytes().iter().chain(&tip.0)).copied().collect();
        let key = permit.principal().key().ok_or(StoreError::Gone("no key opens this epoch"))?;
        sqlx::query("INSERT INTO beat_lane (alias, epoch, machine, account, key, gpus, opened_at) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (alias) DO UPDATE SET key = excluded.key, gpus = excluded.gpus WHERE machine = excluded.machine")
            .bind(lane.grant.alias().0 as i64)
            .bind(i64::from(lane.grant.epoch().0))
            .bind(machine.blob())
            .bind(permit.on().account.blob())
            .bind(key.blob())
            .bind(gpus)
            .bind(permit.at().0 as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        for chain in chains {
            sqlx::query("INSERT INTO uptime_chain (gpu, starts, tip, public_key, signature) SELECT id, ?, ?, ?, ? FROM gpu WHERE id = ? AND machine = ? ON CONFLICT DO NOTHING")
                .bind(i64::from(chain.starts.0))
                .bind(chain.tip.0.to_vec())
                .bind(chain.public_key.to_vec())
                .bind(chain.signature.to_vec())
                .bind(chain.gpu.blob())
                .bind(machine.blob())
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        commit(tx, doing).await
    }

    /// Lanes of `from` and later epochs whose key has not ended.
    pub async fn lanes(&self, from: Epoch) -> Result<Vec<LaneRow>, StoreError> {
        let rows = sqlx::query("SELECT l.alias, l.epoch, l.machine, l.account, l.key, l.gpus FROM beat_lane l JOIN key k ON k.id = l.key WHERE l.epoch >= ? AND k.revoked_at IS NULL")
            .bind(i64::from(from.0))
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("reading the lanes of beats"))?;
        rows.iter()
            .map(|r| {
                let (alias, epoch) = (Alias(r.int("alias")?), Epoch(r.int("epoch")? as u16));
                let grant = Grant::kept(alias, epoch, r.id("machine")?, r.id("account")?, r.id("key")?);
                Ok(LaneRow { grant, gpus: lane_gpus(&r.bytes("gpus")?)? })
            })
            .collect()
    }

    /// The deepest value of each chain that was folded for `from` and later hours.
    pub async fn deepest_links(&self, from: Hour) -> Result<Vec<FoldedLink>, StoreError> {
        // SQLite takes the other columns from the row that has the maximum.
        let rows = sqlx::query("SELECT gpu, hour, tip, max(count) AS count, preimage FROM uptime_link WHERE hour >= ? GROUP BY gpu, tip")
            .bind(i64::from(from.0))
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("reading chains of uptime"))?;
        rows.iter()
            .map(|r| {
                Ok(FoldedLink {
                    gpu: r.id("gpu")?,
                    hour: Hour(r.int("hour")? as u32),
                    tip: value(r.bytes("tip")?)?,
                    count: r.int("count")? as u16,
                    preimage: value(r.bytes("preimage")?)?,
                })
            })
            .collect()
    }

    /// Aliases whose key has ended since `since`.
    pub async fn ended_lanes(&self, since: UnixSeconds) -> Result<Vec<Alias>, StoreError> {
        let rows =
            sqlx::query("SELECT l.alias FROM key k JOIN beat_lane l ON l.key = k.id WHERE k.revoked_at >= ?")
                .bind(since.0 as i64)
                .fetch_all(&self.read)
                .await
                .map_err(StoreError::sql("looking for lanes that have ended"))?;
        rows.iter().map(|r| Ok(Alias(r.int("alias")?))).collect()
    }

    /// Folds minutes into the books.
    pub async fn fold(&self, permit: &Permit<act::Reconcile>, fold: &Fold) -> Result<(), StoreError> {
        let doing = "folding beats into uptime";
        let now = permit.at();
        let mut tx = self.begin(doing).await?;
        // Up to here snapshots are taken; what comes for those minutes now is uptime, but late.
        let taken_until = sqlx::query("SELECT json_extract(head, '$.ends') AS ends FROM snapshot ORDER BY season DESC, period DESC LIMIT 1")
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?
            .map(|r| r.int("ends"))
            .transpose()?
            .unwrap_or(0);
        for row in &fold.hours {
            let start = u64::from(row.hour.start().0);
            let before = taken_until.saturating_sub(start).min(60);
            let late = row.bits.0 & ((1u64 << before) - 1);
            // A repeat of a minute that was in time stays in time, and one with a chain is not without any more.
            sqlx::query("INSERT INTO uptime (gpu, hour, bits, late, unchained) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (gpu, hour) DO UPDATE SET late = late | (excluded.late & ~bits), unchained = (unchained | (excluded.unchained & ~bits)) & ~(excluded.bits & ~excluded.unchained), bits = bits | excluded.bits")
                .bind(row.gpu.blob())
                .bind(i64::from(row.hour.0))
                .bind(row.bits.0 as i64)
                .bind(late as i64)
                .bind(row.unchained.0 as i64)
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
            // A late beat is uptime, but no sign of life now.
            let newest = Minute(row.hour.start().0 + 63 - row.bits.0.leading_zeros().min(63));
            let seen = newest.start().plus(59).min(now);
            sqlx::query("UPDATE gpu SET beat_at = ?1 WHERE id = ?2 AND beat_at < ?1")
                .bind(seen.0 as i64)
                .bind(row.gpu.blob())
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
            // By this the projection finds what was folded, also where the beat itself is old.
            sqlx::query("UPDATE machine SET seen_at = ?1 WHERE id = (SELECT machine FROM gpu WHERE id = ?2) AND seen_at < ?1")
                .bind(now.0 as i64)
                .bind(row.gpu.blob())
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        for link in &fold.links {
            sqlx::query("INSERT INTO uptime_link (gpu, hour, tip, count, preimage) VALUES (?, ?, ?, ?, ?) ON CONFLICT (gpu, hour, tip) DO UPDATE SET count = excluded.count, preimage = excluded.preimage WHERE count < excluded.count")
                .bind(link.gpu.blob())
                .bind(i64::from(link.hour.0))
                .bind(link.tip.0.to_vec())
                .bind(i64::from(link.count))
                .bind(link.preimage.0.to_vec())
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        for (hour, bits) in &fold.up {
            sqlx::query("INSERT INTO intake_up (hour, bits) VALUES (?, ?) ON CONFLICT (hour) DO UPDATE SET bits = bits | excluded.bits")
                .bind(i64::from(hour.0))
                .bind(bits.0 as i64)
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        commit(tx, doing).await
    }

    /// Forgets lanes of epochs before `before`.
    pub async fn forget_lanes(&self, _: &Permit<act::Reconcile>, before: Epoch) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM beat_lane WHERE epoch < ?")
            .bind(i64::from(before.0))
            .execute(&self.write)
            .await
            .map_err(StoreError::sql("forgetting old lanes of beats"))?;
        Ok(())
    }

    /// Minutes in which the intake was up.
    pub async fn intake_up(&self, from: Hour, to: Hour) -> Result<Vec<(Hour, UptimeHour)>, StoreError> {
        let rows = sqlx::query("SELECT hour, bits FROM intake_up WHERE hour BETWEEN ? AND ? ORDER BY hour")
            .bind(i64::from(from.0))
            .bind(i64::from(to.0))
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("reading when the intake was up"))?;
        rows.iter().map(|r| Ok((Hour(r.int("hour")? as u32), UptimeHour(r.int("bits")?)))).collect()
    }

    /// Copies chains of machines that were heard of since `looked_at`, their values and the intake's own record to the
    /// public projection, from an hour on.
    pub(crate) async fn project_chains(
        &self,
        tx: &mut sqlx::SqliteConnection,
        looked_at: UnixSeconds,
        from: Hour,
    ) -> Result<(), StoreError> {
        let doing = "copying chains of uptime to the public projection";
        let links = sqlx::query("SELECT l.gpu, l.hour, l.tip, l.count, l.preimage FROM machine m CROSS JOIN gpu g ON g.machine = m.id CROSS JOIN uptime_link l ON l.gpu = g.id AND l.hour >= ? WHERE m.seen_at >= ?")
            .bind(i64::from(from.0))
            .bind(looked_at.0.saturating_sub(2) as i64)
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql(doing))?;
        for row in links {
            let gpu: GpuId = row.id("gpu")?;
            let written = sqlx::query("INSERT INTO uptime_link (gpu, hour, tip, count, preimage) VALUES (?, ?, ?, ?, ?) ON CONFLICT (gpu, hour, tip) DO UPDATE SET count = excluded.count, preimage = excluded.preimage WHERE count < excluded.count")
                .bind(gpu.blob())
                .bind(row.int("hour")? as i64)
                .bind(row.bytes("tip")?)
                .bind(row.int("count")? as i64)
                .bind(row.bytes("preimage")?)
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
            if written.rows_affected() == 0 {
                continue;
            }
            let chains = sqlx::query(
                "SELECT starts, public_key, signature FROM uptime_chain WHERE gpu = ? AND tip = ?",
            )
            .bind(gpu.blob())
            .bind(row.bytes("tip")?)
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql(doing))?;
            for chain in chains {
                sqlx::query("INSERT INTO uptime_chain (gpu, starts, tip, public_key, signature) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
                    .bind(gpu.blob())
                    .bind(chain.int("starts")? as i64)
                    .bind(row.bytes("tip")?)
                    .bind(chain.bytes("public_key")?)
                    .bind(chain.bytes("signature")?)
                    .execute(&mut *tx)
                    .await
                    .map_err(StoreError::sql(doing))?;
            }
        }
        for (hour, bits) in self.intake_up(from, Hour(u32::MAX)).await? {
            sqlx::query("INSERT INTO intake_up (hour, bits) VALUES (?, ?) ON CONFLICT (hour) DO UPDATE SET bits = excluded.bits WHERE bits <> excluded.bits")
                .bind(i64::from(hour.0))
                .bind(bits.0 as i64)
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        Ok(())
    }
}

impl SqlitePublic {
    /// Chains of one GPU that have shown a value for an hour in `from..to`.
    pub async fn chains(&self, gpu: GpuId, from: Hour, to: Hour) -> Result<Vec<PublicChain>, StoreError> {
        let rows = sqlx::query("SELECT c.starts, c.tip, c.public_key, c.signature, l.hour, l.count, l.preimage FROM uptime_chain c JOIN uptime_link l ON l.gpu = c.gpu AND l.tip = c.tip WHERE c.gpu = ? AND l.hour >= ? AND l.hour < ? ORDER BY c.starts, c.tip, l.hour LIMIT 5000")
            .bind(gpu.blob())
            .bind(i64::from(from.0))
            .bind(i64::from(to.0))
            .fetch_all(self.pool())
            .await
            .map_err(StoreError::sql("reading chains of uptime"))?;
        let mut chains: BTreeMap<(u32, Vec<u8>), PublicChain> = BTreeMap::new();
        for row in &rows {
            let (starts, tip) = (row.int("starts")? as u32, row.bytes("tip")?);
            let link = PublicLink {
                hour: Hour(row.int("hour")? as u32),
                count: row.int("count")? as u16,
                preimage: value(row.bytes("preimage")?)?.to_string(),
            };
            let key: Hash = row.hash("public_key")?;
            let signature: String = row.bytes("signature")?.iter().map(|b| format!("{b:02x}")).collect();
            chains
                .entry((starts, tip.clone()))
                .or_insert_with(|| PublicChain {
                    starts: Minute(starts),
                    tip: Preimage(tip.try_into().unwrap_or_default()).to_string(),
                    public_key: key,
                    signature,
                    links: Vec::new(),
                })
                .links
                .push(link);
        }
        Ok(chains.into_values().take(200).collect())
    }

    /// Minutes in which the intake was up.
    pub async fn intake_up(&self, from: Hour, to: Hour) -> Result<Vec<(Hour, UptimeHour)>, StoreError> {
        let rows = sqlx::query("SELECT hour, bits FROM intake_up WHERE hour >= ? AND hour < ? ORDER BY hour")
            .bind(i64::from(from.0))
            .bind(i64::from(to.0))
            .fetch_all(self.pool())
            .await
            .map_err(StoreError::sql("reading when the intake was up"))?;
        rows.iter().map(|r| Ok((Hour(r.int("hour")? as u32), UptimeHour(r.int("bits")?)))).collect()
    }
}
