//! Lanes, chains and the fold of beats into uptime hours.

use std::collections::BTreeMap;

use gangline_guard::{Permit, act};
use gangline_types::{
    GpuId, Hash, Hour, Minute, UnixSeconds, UptimeHour,
    public::{PublicChain, PublicLink},
};
use gangline_wire::beat::{Alias, Epoch, Preimage};

use crate::{
    StoreError,
    books::beat::{ChainRow, Fold, FoldedHour, FoldedLink, LaneRow, lane_row},
    sql::{Columns, Id, json, packed},
    sqlite::{SqlitePublic, SqliteStore, open::commit},
};

fn value(bytes: Vec<u8>) -> Result<Preimage, StoreError> {
    bytes.try_into().map(Preimage).map_err(|_| StoreError::Malformed("a chain's value".into()))
}

/// How long a chain can be beaten with, in minutes: two days and some hours.
const CHAIN_MINUTES: i64 = 60 * 60;

/// Values of chains that one statement writes.
const LINKS_AT_ONCE: usize = 5_000;

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
        rows.iter().map(lane_row).collect()
    }

    /// Lanes opened since `since`, whose key has not ended.
    pub async fn lanes_opened(&self, since: UnixSeconds) -> Result<Vec<LaneRow>, StoreError> {
        let rows = sqlx::query("SELECT l.alias, l.epoch, l.machine, l.account, l.key, l.gpus FROM beat_lane l JOIN key k ON k.id = l.key WHERE l.opened_at >= ? AND k.revoked_at IS NULL")
            .bind(since.0 as i64)
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("looking for lanes that were opened"))?;
        rows.iter().map(lane_row).collect()
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
        fold_hours(&mut tx, &fold.hours, taken_until, now, doing).await?;
        fold_links(&mut tx, &fold.links, doing).await?;
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
        for some in links.chunks(LINKS_AT_ONCE) {
            let links = some
                .iter()
                .map(|row| {
                    Ok(FoldedLink {
                        gpu: row.id("gpu")?,
                        hour: Hour(row.int("hour")? as u32),
                        tip: value(row.bytes("tip")?)?,
                        count: row.int("count")? as u16,
                        preimage: value(row.bytes("preimage")?)?,
                    })
                })
                .collect::<Result<Vec<_>, StoreError>>()?;
            fold_links(tx, &links, doing).await?;
        }
        // A chain is copied as long as it can be beaten with; later it is there.
        let chains = sqlx::query("SELECT c.gpu, c.starts, c.tip, c.public_key, c.signature FROM machine m CROSS JOIN gpu g ON g.machine = m.id CROSS JOIN uptime_chain c ON c.gpu = g.id AND c.starts >= ? WHERE m.seen_at >= ?")
            .bind(i64::from(looked_at.minute().0) - CHAIN_MINUTES)
            .bind(looked_at.0.saturating_sub(2) as i64)
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql(doing))?;
        for some in chains.chunks(LINKS_AT_ONCE) {
            let (mut bytes, mut starts) =
                (Vec::with_capacity(some.len() * 128), Vec::with_capacity(some.len()));
            for row in some {
                bytes.extend_from_slice(row.id::<GpuId>("gpu")?.as_bytes());
                for part in ["tip", "public_key", "signature"] {
                    bytes.extend(row.bytes(part)?);
                }
                starts.push(row.int("starts")?);
            }
            sqlx::query("INSERT INTO uptime_chain (gpu, starts, tip, public_key, signature) SELECT substr(?1, 1 + 128 * j.key, 16), j.value, substr(?1, 17 + 128 * j.key, 16), substr(?1, 33 + 128 * j.key, 32), substr(?1, 65 + 128 * j.key, 64) FROM json_each(?2) j WHERE true ON CONFLICT DO NOTHING")
                .bind(bytes)
                .bind(json(&starts))
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
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

/// Folds hours in with four statements, however many they are.
async fn fold_hours(
    tx: &mut sqlx::SqliteConnection,
    hours: &[FoldedHour],
    taken_until: u64,
    now: UnixSeconds,
    doing: &'static str,
) -> Result<(), StoreError> {
    let gpus: Vec<GpuId> = hours.iter().map(|row| row.gpu).collect();
    let parts: Vec<(u32, u64, u64, u64)> = hours
        .iter()
        .map(|row| {
            let before = taken_until.saturating_sub(u64::from(row.hour.start().0)).min(60);
            let late = row.bits.0 & ((1u64 << before) - 1);
            (row.hour.0, row.bits.0, late, row.unchained.0)
        })
        .collect();
    // A repeat of a minute that was in time stays in time, and one with a chain is not without any more.
    sqlx::query("INSERT INTO uptime (gpu, hour, bits, late, unchained) SELECT substr(?1, 1 + 16 * j.key, 16), j.value ->> 0, j.value ->> 1, j.value ->> 2, j.value ->> 3 FROM json_each(?2) j WHERE true ON CONFLICT (gpu, hour) DO UPDATE SET late = late | (excluded.late & ~bits), unchained = (unchained | (excluded.unchained & ~bits)) & ~(excluded.bits & ~excluded.unchained), bits = bits | excluded.bits")
        .bind(packed(&gpus))
        .bind(json(&parts))
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
    // What the projection does not look at by itself is named to it.
    let running = now.minute().hour().0;
    let older: Vec<&FoldedHour> = hours.iter().filter(|row| row.hour.0 + 1 < running).collect();
    let numbers: Vec<u32> = older.iter().map(|row| row.hour.0).collect();
    sqlx::query("INSERT INTO uptime_older (gpu, hour) SELECT substr(?1, 1 + 16 * j.key, 16), j.value FROM json_each(?2) j")
        .bind(packed(&older.iter().map(|row| row.gpu).collect::<Vec<_>>()))
        .bind(json(&numbers))
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
    // A late beat is uptime, but no sign of life now.
    let mut seen: BTreeMap<GpuId, u64> = BTreeMap::new();
    for row in hours {
        let newest = Minute(row.hour.start().0 + 63 - row.bits.0.leading_zeros().min(63));
        let at = seen.entry(row.gpu).or_default();
        *at = (*at).max(newest.start().plus(59).min(now).0);
    }
    let (gpus, seen): (Vec<GpuId>, Vec<u64>) = seen.into_iter().unzip();
    sqlx::query("UPDATE gpu SET beat_at = x.seen FROM (SELECT substr(?1, 1 + 16 * j.key, 16) AS id, j.value AS seen FROM json_each(?2) j) AS x WHERE gpu.id = x.id AND gpu.beat_at < x.seen")
        .bind(packed(&gpus))
        .bind(json(&seen))
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
    // By this the projection finds what was folded, also where the beat itself is old.
    sqlx::query("UPDATE machine SET seen_at = ?3 WHERE seen_at < ?3 AND id IN (SELECT g.machine FROM json_each(?2) j CROSS JOIN gpu g ON g.id = substr(?1, 1 + 16 * j.key, 16))")
        .bind(packed(&gpus))
        .bind(json(&seen))
        .bind(now.0 as i64)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
    Ok(())
}

/// Folds chains' values in with one statement.
async fn fold_links(
    tx: &mut sqlx::SqliteConnection,
    links: &[FoldedLink],
    doing: &'static str,
) -> Result<(), StoreError> {
    // For each: GPU, tip and value of sixteen bytes.
    let mut bytes = Vec::with_capacity(links.len() * 48);
    for link in links {
        for part in [link.gpu.as_bytes(), &link.tip.0, &link.preimage.0] {
            bytes.extend_from_slice(part);
        }
    }
    let parts: Vec<(u32, u16)> = links.iter().map(|link| (link.hour.0, link.count)).collect();
    sqlx::query("INSERT INTO uptime_link (gpu, hour, tip, count, preimage) SELECT substr(?1, 1 + 48 * j.key, 16), j.value ->> 0, substr(?1, 17 + 48 * j.key, 16), j.value ->> 1, substr(?1, 33 + 48 * j.key, 16) FROM json_each(?2) j WHERE true ON CONFLICT (gpu, hour, tip) DO UPDATE SET count = excluded.count, preimage = excluded.preimage WHERE count < excluded.count")
        .bind(bytes)
        .bind(json(&parts))
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use gangline_guard::{Actor, Job, permit::permit, policy::on};
    use gangline_types::{
        AccountId, AdapterKind, Backend, GpuClaim, MachineId, Profile, Standing, Text, public::PublicUptime,
    };

    use super::*;
    use crate::SimulatedMachine;

    fn made(n: u8) -> (AccountId, SimulatedMachine) {
        let claim = GpuClaim {
            slot: Hash([n; 32]),
            model: Text::lossy("Simulated"),
            kind: AdapterKind::Discrete,
            backend: Backend::Vulkan,
            driver: Text::default(),
            pci_vendor: 0,
            pci_device: 0,
            memory_bytes: 0,
        };
        let machine = SimulatedMachine {
            machine: MachineId::from_bytes([n; 16]),
            gpu: GpuId::from_bytes([n; 16]),
            public_key: [n; 32],
            claim,
            standing: Standing::Proven,
            profile: Profile::default(),
            offer: None,
        };
        (AccountId::from_bytes([9; 16]), machine)
    }

    #[tokio::test]
    async fn what_is_folded_is_in_the_books_and_in_the_projection_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        let now = UnixSeconds(480_000 * 3600 + 1_800);
        let setup = permit::<act::Simulate>(&Actor::job(Job::Setup), on::Network, now).unwrap();
        store.add_simulated_account(&setup, AccountId::from_bytes([9; 16])).await.unwrap();
        store.add_simulated(&setup, &[made(1), made(2), made(3)]).await.unwrap();
        let reconcile = permit::<act::Reconcile>(&Actor::job(Job::Reconciler), on::Network, now).unwrap();
        let project = permit::<act::Project>(&Actor::job(Job::Projector), on::Network, now).unwrap();
        let gpu = |n: u8| GpuId::from_bytes([n; 16]);
        let running = now.minute().hour();
        let row = |n: u8, hours_ago: u32, bits: u64, unchained: u64| FoldedHour {
            gpu: gpu(n),
            hour: Hour(running.0 - hours_ago),
            bits: UptimeHour(bits),
            unchained: UptimeHour(unchained),
        };
        let link = |n: u8, count: u16| FoldedLink {
            gpu: gpu(n),
            hour: running,
            tip: Preimage([n; 16]),
            count,
            preimage: Preimage([count as u8; 16]),
        };
        let fold = async |hours: Vec<FoldedHour>, links: Vec<FoldedLink>| {
            let fold = Fold { hours, links, up: vec![(running, UptimeHour(1))] };
            store.fold(&reconcile, &fold).await.unwrap();
            while store.project(&project).await.unwrap().more {}
        };
        let shown = async |n: u8| {
            let hours =
                store.public().uptime(gpu(n), Hour(running.0 - 10), Hour(running.0 + 1)).await.unwrap();
            hours
                .iter()
                .map(|h: &PublicUptime| (running.0 - h.hour.0, h.bits.0, h.unchained.0))
                .collect::<Vec<_>>()
        };
        let hours = vec![row(1, 0, 0b11 << 28, 0), row(1, 5, 6, 6), row(2, 0, 1 << 29, 1 << 29)];
        fold(hours.clone(), vec![link(1, 7)]).await;
        fold(hours, vec![link(1, 5)]).await;
        assert_eq!(shown(1).await, [(5, 6, 6), (0, 0b11 << 28, 0)]);
        assert_eq!(shown(2).await, [(0, 1 << 29, 1 << 29)]);
        assert_eq!(shown(3).await, []);
        // Connected is who beat lately, and an old beat is no sign of life.
        let totals = store.public().totals().await.unwrap();
        assert_eq!((totals.connected, totals.registered), (2, 3));
        // A beat with a chain takes the place of the same minute without one, and a late one joins its hour.
        fold(vec![row(2, 0, 1 << 29, 0), row(1, 5, 8, 0), row(3, 4, 1, 0)], vec![link(1, 9)]).await;
        assert_eq!(shown(2).await, [(0, 1 << 29, 0)]);
        assert_eq!(shown(1).await, [(5, 14, 6), (0, 0b11 << 28, 0)]);
        assert_eq!(shown(3).await, [(4, 1, 0)]);
        assert_eq!(store.public().totals().await.unwrap().connected, 2);
        let deepest = store.deepest_links(running).await.unwrap();
        assert_eq!(deepest.iter().map(|l| (l.gpu, l.count)).collect::<Vec<_>>(), [(gpu(1), 9)]);
        let up = store.intake_up(running, running).await.unwrap();
        assert_eq!(up, [(running, UptimeHour(1))]);
        store.close().await;
    }
}
