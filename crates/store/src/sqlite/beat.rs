//! The fold of beats into uptime hours, and values of chains.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;

use gangline_guard::{Permit, act};
use gangline_types::{
    GpuId, Hash, Hour, MachineId, Minute, UnixSeconds, UptimeHour,
    public::{PublicChain, PublicLink},
};
use gangline_wire::beat::Preimage;
use sqlx::sqlite::SqliteRow;

use crate::{
    StoreError,
    books::beat::{CHAINS_AT_ONCE, Fold, FoldedHour, FoldedLink},
    sql::{Columns, Id, json, packed},
    sqlite::{
        SqlitePublic, SqliteStore,
        handed::Taken,
        open::commit,
        openings::chains_as_bytes,
        project::{Folded, HANDED_AT_ONCE, Older, follow, followed, gpus_and_hours, hour_before},
    },
};

fn link_of(row: &SqliteRow) -> Result<FoldedLink, StoreError> {
    Ok(FoldedLink {
        gpu: row.id("gpu")?,
        hour: Hour(row.int("hour")? as u32),
        tip: value(row.bytes("tip")?)?,
        count: row.int("count")? as u16,
        preimage: value(row.bytes("preimage")?)?,
    })
}

fn value(bytes: Vec<u8>) -> Result<Preimage, StoreError> {
    bytes.try_into().map(Preimage).map_err(|_| StoreError::Malformed("a chain's value".into()))
}

/// Hours of which the intake's own record can still change.
const UP_HOURS: u32 = 8;

/// Up to when the projection has chains of epochs that were opened.
const OPENED: &str = "opened";
/// Chains that are copied to the projection in a second, on average, when many epochs are opened at once.
const CHAINS_PER_SECOND: u64 = 1_000;
/// Hours whose values are looked through for those of many chains: who beats has one in the last two.
const HOURS_LOOKED_THROUGH: i64 = 3;
/// Values of chains that one statement writes.
const LINKS_AT_ONCE: usize = 5_000;
/// Machines that one statement notes.
const MACHINES_AT_ONCE: usize = 5_000;

impl SqliteStore {
    /// For each of these chains the value of the newest hour. Of many, most are found in an hour's values as they lie.
    pub async fn newest_links(
        &self,
        chains: &[(GpuId, Preimage)],
        from: Hour,
    ) -> Result<Vec<FoldedLink>, StoreError> {
        let mut wanted: Vec<(GpuId, Preimage)> = chains.to_vec();
        // Neighbours in the books together.
        wanted.sort_unstable_by_key(|(gpu, tip)| (*gpu, tip.0));
        let mut found = Vec::with_capacity(wanted.len());
        if wanted.len() > LINKS_AT_ONCE {
            self.links_of_hours(&mut wanted, from, &mut found).await?;
        }
        for some in wanted.chunks(CHAINS_AT_ONCE) {
            let both = some.iter().flat_map(|(gpu, tip)| gpu.as_bytes().iter().chain(&tip.0));
            let rows = sqlx::query("WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE (i + 1) * 32 < length(?1)) SELECT l.gpu, l.hour, l.tip, l.count, l.preimage FROM n CROSS JOIN uptime_link l ON l.gpu = substr(?1, 1 + 32 * n.i, 16) AND l.tip = substr(?1, 17 + 32 * n.i, 16) AND l.hour = (SELECT x.hour FROM uptime_link x WHERE x.gpu = substr(?1, 1 + 32 * n.i, 16) AND x.tip = substr(?1, 17 + 32 * n.i, 16) AND x.hour >= ?2 ORDER BY x.hour DESC LIMIT 1)")
                .bind(both.copied().collect::<Vec<u8>>())
                .bind(i64::from(from.0))
                .fetch_all(&self.read)
                .await
                .map_err(StoreError::sql("reading chains of uptime"))?;
            for row in &rows {
                found.push(link_of(row)?);
            }
        }
        Ok(found)
    }

    /// Looks the newest hours' values through for those of `wanted`, which are in order; what is found is wanted no more.
    async fn links_of_hours(
        &self,
        wanted: &mut Vec<(GpuId, Preimage)>,
        from: Hour,
        found: &mut Vec<FoldedLink>,
    ) -> Result<(), StoreError> {
        let doing = "reading chains of uptime";
        let newest: Option<i64> = sqlx::query_scalar("SELECT max(hour) FROM uptime_link")
            .fetch_one(&self.read)
            .await
            .map_err(StoreError::sql(doing))?;
        let Some(newest) = newest else { return Ok(()) };
        for hour in (newest - HOURS_LOOKED_THROUGH + 1..=newest).rev() {
            if hour < i64::from(from.0) || wanted.is_empty() {
                break;
            }
            let mut is_found = vec![false; wanted.len()];
            let mut rows = sqlx::query("SELECT gpu, hour, tip, count, preimage FROM uptime_link INDEXED BY uptime_link_hour WHERE hour = ?")
                .bind(hour)
                .fetch(&self.read);
            while let Some(row) = rows.try_next().await.map_err(StoreError::sql(doing))? {
                let link = link_of(&row)?;
                let at = wanted.binary_search_by_key(&(link.gpu, link.tip.0), |(gpu, tip)| (*gpu, tip.0));
                if let Ok(at) = at
                    && !std::mem::replace(&mut is_found[at], true)
                {
                    found.push(link);
                }
            }
            let mut is_found = is_found.into_iter();
            wanted.retain(|_| !is_found.next().unwrap_or(false));
        }
        Ok(())
    }

    /// Folds minutes into the books.
    pub async fn fold(
        &self,
        permit: &Permit<act::Reconcile>,
        fold: &Fold,
    ) -> Result<Vec<MachineId>, StoreError> {
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
        let beating =
            fold_hours(&mut tx, &fold.hours, taken_until, fold.taken_at.min(now), now, doing).await?;
        fold_links(&mut tx, &fold.links, doing).await?;
        for (hour, bits) in &fold.up {
            sqlx::query("INSERT INTO intake_up (hour, bits) VALUES (?, ?) ON CONFLICT (hour) DO UPDATE SET bits = bits | excluded.bits")
                .bind(i64::from(hour.0))
                .bind(bits.0 as i64)
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        commit(tx, doing).await?;
        let hours = fold.hours.iter().map(|row| (row.gpu, row.hour));
        self.folded.hand(hours.chain(fold.links.iter().map(|link| (link.gpu, link.hour))));
        Ok(beating)
    }

    /// Notes that these machines were heard of. In the order of GPUs they are neighbours of nobody: each would be a page.
    pub(crate) async fn note_beating(
        &self,
        permit: &Permit<act::Reconcile>,
        machines: &[MachineId],
    ) -> Result<(), StoreError> {
        let mut machines = machines.to_vec();
        machines.sort_unstable();
        machines.dedup();
        for some in machines.chunks(MACHINES_AT_ONCE) {
            sqlx::query("WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE (i + 1) * 16 < length(?1)) UPDATE machine SET seen_at = ?2 WHERE seen_at < ?2 AND id IN (SELECT substr(?1, 1 + 16 * n.i, 16) FROM n)")
                .bind(packed(some))
                .bind(permit.at().0 as i64)
                .execute(&self.write)
                .await
                .map_err(StoreError::sql("noting which machines were heard of"))?;
        }
        Ok(())
    }

    pub(crate) async fn turned(
        &self,
        _: &Permit<act::Reconcile>,
        came: &[GpuId],
        silent: &[GpuId],
        until: UnixSeconds,
    ) -> Result<(), StoreError> {
        self.turned.note(came, silent, until);
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

    /// Copies to the public projection: values of the hours that were folded, those of late hours, chains of epochs that were
    /// opened, and the intake's own record.
    pub(super) async fn project_chains(
        &self,
        tx: &mut sqlx::SqliteConnection,
        folded: &Folded,
        now: UnixSeconds,
        older: &Older,
    ) -> Result<(), StoreError> {
        let doing = "copying chains of uptime to the public projection";
        let mut links = Vec::new();
        match folded {
            Folded::These(hours) => {
                for some in hours.chunks(LINKS_AT_ONCE) {
                    let (gpus, hours) = gpus_and_hours(some);
                    let mut rows = sqlx::query("SELECT l.gpu, l.hour, l.tip, l.count, l.preimage FROM json_each(?2) j CROSS JOIN uptime_link l ON l.gpu = substr(?1, 1 + 16 * j.key, 16) AND l.hour = j.value")
                        .bind(gpus)
                        .bind(hours)
                        .fetch(&self.read);
                    while let Some(row) = rows.try_next().await.map_err(StoreError::sql(doing))? {
                        links.push(link_of(&row)?);
                    }
                }
            }
            Folded::Since(looked_at) => {
                let mut rows = sqlx::query("SELECT l.gpu, l.hour, l.tip, l.count, l.preimage FROM machine m CROSS JOIN gpu g ON g.machine = m.id CROSS JOIN uptime_link l ON l.gpu = g.id AND l.hour >= ? WHERE m.seen_at >= ?")
                    .bind(i64::from(hour_before(*looked_at, now).0))
                    .bind(looked_at.0.saturating_sub(2) as i64)
                    .fetch(&self.read);
                while let Some(row) = rows.try_next().await.map_err(StoreError::sql(doing))? {
                    links.push(link_of(&row)?);
                }
            }
        }
        let mut rows = sqlx::query("SELECT l.gpu, l.hour, l.tip, l.count, l.preimage FROM uptime_older o CROSS JOIN uptime_link l ON l.gpu = o.gpu AND l.hour = o.hour WHERE o.seq > ? AND o.seq <= ?")
            .bind(older.after)
            .bind(older.last)
            .fetch(&self.read);
        while let Some(row) = rows.try_next().await.map_err(StoreError::sql(doing))? {
            links.push(link_of(&row)?);
        }
        drop(rows);
        links.sort_unstable_by_key(|link| (link.gpu, link.hour));
        for some in links.chunks(LINKS_AT_ONCE) {
            fold_links(tx, some, doing).await?;
        }
        self.project_opened(tx, now).await?;
        let up_from = Hour(now.minute().hour().0.saturating_sub(UP_HOURS));
        for (hour, bits) in self.intake_up(up_from, Hour(u32::MAX)).await? {
            sqlx::query("INSERT INTO intake_up (hour, bits) VALUES (?, ?) ON CONFLICT (hour) DO UPDATE SET bits = excluded.bits WHERE bits <> excluded.bits")
                .bind(i64::from(hour.0))
                .bind(bits.0 as i64)
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        Ok(())
    }

    /// Copies chains of epochs that were opened: those that were handed over, and at the first look of this process those
    /// that the books have since the last one.
    async fn project_opened(
        &self,
        tx: &mut sqlx::SqliteConnection,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let doing = "copying chains of uptime to the public projection";
        let (mut chains, all) = match self.opened.take(now, CHAINS_PER_SECOND, HANDED_AT_ONCE) {
            Taken::Wait => return Ok(()),
            Taken::Some(chains, all) => (chains, all),
            Taken::Unknown => {
                (self.chains_opened(UnixSeconds(followed(tx, OPENED).await? as u64)).await?, true)
            }
        };
        if all {
            follow(tx, OPENED, now.0 as i64).await?;
        }
        // Neighbours in the projection together.
        chains.sort_unstable_by_key(|chain| (chain.gpu, chain.starts));
        for some in chains.chunks(LINKS_AT_ONCE) {
            let starts: Vec<u32> = some.iter().map(|chain| chain.starts.0).collect();
            sqlx::query("INSERT INTO uptime_chain (gpu, starts, tip, public_key, signature) SELECT substr(?1, 1 + 128 * j.key, 16), j.value, substr(?1, 17 + 128 * j.key, 16), substr(?1, 33 + 128 * j.key, 32), substr(?1, 65 + 128 * j.key, 64) FROM json_each(?2) j WHERE true ON CONFLICT DO NOTHING")
                .bind(chains_as_bytes(some))
                .bind(json(&starts))
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
        // Values that are packed stand at their day's first hour.
        let rows = sqlx::query("SELECT c.starts, c.tip, c.public_key, c.signature, l.hour, l.count, l.preimage FROM uptime_chain c JOIN (SELECT tip, hour, count, preimage FROM uptime_link WHERE gpu = ?1 AND hour >= ?2 AND hour < ?3 UNION ALL SELECT tip, day * 24, count, preimage FROM uptime_shown WHERE gpu = ?1 AND day >= ?2 / 24 AND day * 24 < ?3) l ON l.tip = c.tip WHERE c.gpu = ?1 ORDER BY c.starts, c.tip, l.hour LIMIT 5000")
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
    taken_at: UnixSeconds,
    now: UnixSeconds,
    doing: &'static str,
) -> Result<Vec<MachineId>, StoreError> {
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
        *at = (*at).max(newest.start().plus(59).min(taken_at).0);
    }
    let (gpus, seen): (Vec<GpuId>, Vec<u64>) = seen.into_iter().unzip();
    sqlx::query("UPDATE gpu SET beat_at = x.seen FROM (SELECT substr(?1, 1 + 16 * j.key, 16) AS id, j.value AS seen FROM json_each(?2) j) AS x WHERE gpu.id = x.id AND gpu.beat_at < x.seen")
        .bind(packed(&gpus))
        .bind(json(&seen))
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
    // By these the projection finds after a start what was folded, also where the beat itself is old.
    let rows = sqlx::query("WITH RECURSIVE n (i) AS (SELECT 0 WHERE length(?1) > 0 UNION ALL SELECT i + 1 FROM n WHERE (i + 1) * 16 < length(?1)) SELECT DISTINCT g.machine FROM n CROSS JOIN gpu g ON g.id = substr(?1, 1 + 16 * n.i, 16)")
        .bind(packed(&gpus))
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
    rows.iter().map(|row| row.id("machine")).collect()
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
    use gangline_types::{AccountId, Standing, public::PublicUptime};
    use gangline_wire::api::public::GpusQuery;

    use super::*;
    use crate::{SimulatedMachine, sqlite::simulate::made};

    fn of_one_supplier(n: u8) -> (AccountId, SimulatedMachine) {
        (AccountId::from_bytes([9; 16]), made(n, [n; 32]))
    }

    const NOW: UnixSeconds = UnixSeconds(480_000 * 3600 + 1_800);

    /// Books with three simulated machines of one supplier.
    async fn of_three(folder: &std::path::Path) -> SqliteStore {
        let store = SqliteStore::open(folder).await.unwrap();
        let setup = permit::<act::Simulate>(&Actor::job(Job::Setup), on::Network, NOW).unwrap();
        store.add_simulated_account(&setup, AccountId::from_bytes([9; 16])).await.unwrap();
        store.add_simulated(&setup, &[1, 2, 3].map(of_one_supplier)).await.unwrap();
        store
    }
    fn reconciles(at: UnixSeconds) -> Permit<act::Reconcile> {
        permit(&Actor::job(Job::Reconciler), on::Network, at).unwrap()
    }
    async fn project(store: &SqliteStore, at: UnixSeconds) {
        let project = permit(&Actor::job(Job::Projector), on::Network, at).unwrap();
        while store.project(&project, at).await.unwrap().more {}
    }

    #[tokio::test]
    async fn who_came_or_went_shows_it_and_what_was_rewritten_of_it_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let store = of_three(folder.path()).await;
        project(&store, NOW).await;
        let beat = async |n: u8, at: UnixSeconds| {
            let bits = UptimeHour(1 << (at.minute().0 % 60));
            let row = FoldedHour {
                gpu: GpuId::from_bytes([n; 16]),
                hour: at.minute().hour(),
                bits,
                unchained: bits,
            };
            let fold = Fold { hours: vec![row], taken_at: at, ..Fold::default() };
            store.fold(&reconciles(at), &fold).await.unwrap();
        };
        let rewrite = async |n: u8, statement: &'static str| {
            sqlx::query(statement).bind(vec![n; 16]).execute(&store.write).await.unwrap();
        };
        let shown = async |n: u8| {
            let gpu = store.public().gpu(GpuId::from_bytes([n; 16])).await.unwrap().unwrap();
            (gpu.connected, gpu.label.to_string(), gpu.standing)
        };
        let listed = async |standing: Standing| {
            let query = GpusQuery { standing: Some(standing), ..GpusQuery::default() };
            store.public().gpus(&query).await.unwrap().gpus.len()
        };
        let (of_one, none) = ("one".to_owned(), String::new());
        beat(1, NOW).await;
        beat(2, NOW).await;
        rewrite(1, "UPDATE gpu SET label = 'one' WHERE id = ?").await;
        project(&store, NOW).await;
        assert_eq!(shown(1).await, (true, of_one.clone(), Standing::Proven));
        assert_eq!(shown(2).await, (true, none.clone(), Standing::Proven));
        assert_eq!(shown(3).await, (false, none.clone(), Standing::Proven));
        assert_eq!(store.public().totals().await.unwrap().connected, 2);

        // Both fall silent, and one is quarantined at the same time: lists have it elsewhere.
        rewrite(2, "UPDATE gpu SET standing = 'quarantined' WHERE id = ?").await;
        let later = NOW.plus(600);
        project(&store, later).await;
        assert_eq!(shown(1).await, (false, of_one.clone(), Standing::Proven));
        assert_eq!(shown(2).await, (false, none, Standing::Quarantined));
        assert_eq!((listed(Standing::Proven).await, listed(Standing::Quarantined).await), (2, 1));
        assert_eq!(store.public().totals().await.unwrap().connected, 0);

        beat(1, later).await;
        project(&store, later).await;
        assert_eq!(shown(1).await, (true, of_one, Standing::Proven));
        assert_eq!(store.public().totals().await.unwrap().connected, 1);
        store.close().await;
    }

    #[tokio::test]
    async fn what_is_folded_is_in_the_books_and_in_the_projection_once() {
        let folder = tempfile::tempdir().unwrap();
        let (store, now) = (of_three(folder.path()).await, NOW);
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
            let fold = Fold { hours, links, up: vec![(running, UptimeHour(1))], taken_at: now };
            store.fold(&reconciles(now), &fold).await.unwrap();
            project(&store, now).await;
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
        let known = [(gpu(1), Preimage([1; 16])), (gpu(1), Preimage([9; 16])), (gpu(3), Preimage([3; 16]))];
        let deepest = store.newest_links(&known, running).await.unwrap();
        assert_eq!(deepest.iter().map(|l| (l.gpu, l.count)).collect::<Vec<_>>(), [(gpu(1), 9)]);
        let up = store.intake_up(running, running).await.unwrap();
        assert_eq!(up, [(running, UptimeHour(1))]);
        store.close().await;
    }
}
