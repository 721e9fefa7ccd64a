//! Old uptime, packed: in the books and in the public projection alike, a day at a time.

use std::collections::BTreeMap;

use gangline_guard::{Permit, act};
use gangline_rules::months::{DAY, Day, month_of, unpack};
use gangline_types::{GpuId, Hour, UptimeHour, public::PublicUptime};
use sqlx::{SqlitePool, sqlite::SqliteRow};

use crate::{
    Packed, StoreError,
    sql::{Columns, Id, json, packed},
    sqlite::SqliteStore,
};

/// Hours that one transaction packs: some tenths of a second of work.
const HOURS_AT_ONCE: usize = 24_000;
/// A chain can be beaten with for two days and some hours.
const CHAIN_HOURS: u32 = 72;

/// One GPU's hours, from its packed months and from rows of hours. An hour may be packed and come again with a late
/// beat: it is one hour.
pub(crate) fn merged(
    months: &[SqliteRow],
    hours: &[SqliteRow],
) -> Result<BTreeMap<Hour, PublicUptime>, StoreError> {
    let mut all: BTreeMap<Hour, PublicUptime> = BTreeMap::new();
    let mut merge = |more: PublicUptime| {
        let known = all.entry(more.hour).or_insert(more);
        known.bits = known.bits.merge(more.bits);
        known.late = known.late.merge(more.late);
        known.unchained = known.unchained.merge(more.unchained);
    };
    for row in months {
        let days = unpack(row.int("month")? as u32, &row.bytes("days")?)
            .ok_or_else(|| StoreError::Malformed("a month of uptime".into()))?;
        days.iter().for_each(|day| day.hours().for_each(&mut merge));
    }
    for row in hours {
        merge(hour_row(row)?);
    }
    Ok(all)
}

/// An hour of the table of hours.
fn hour_row(row: &SqliteRow) -> Result<PublicUptime, StoreError> {
    Ok(PublicUptime {
        hour: Hour(row.int("hour")? as u32),
        bits: UptimeHour(row.int("bits")?),
        late: UptimeHour(row.int("late")?),
        unchained: UptimeHour(row.int("unchained")?),
    })
}

impl SqliteStore {
    /// Packs the oldest day that ended before `before`, for GPUs after `after`, and forgets months before
    /// `kept_from`.
    pub async fn pack_uptime(
        &self,
        _: &Permit<act::Reconcile>,
        public: bool,
        before: Hour,
        kept_from: Hour,
        after: Option<GpuId>,
    ) -> Result<Packed, StoreError> {
        if !public {
            // The projection has long been there.
            sqlx::query("DELETE FROM uptime_older WHERE hour < ?")
                .bind(before.0 as i64)
                .execute(&self.write)
                .await
                .map_err(StoreError::sql("forgetting late hours"))?;
        }
        let pool = if public { &self.public_write } else { &self.write };
        pack(pool, before, kept_from, after).await
    }

    /// Packs values of chains of days that ended before `before`, for GPUs after `after`, and forgets those from before
    /// `kept_from`.
    pub async fn pack_links(
        &self,
        _: &Permit<act::Reconcile>,
        public: bool,
        before: Hour,
        kept_from: Hour,
        after: Option<GpuId>,
    ) -> Result<Packed, StoreError> {
        let doing = "packing old values of chains";
        if !public && after.is_none() {
            self.forget_chains(Hour(kept_from.0.saturating_sub(CHAIN_HOURS)).start().start()).await?;
        }
        let pool = if public { &self.public_write } else { &self.write };
        let day = DAY as u32;
        let before = before.0 / day * day;
        let mut tx = pool.begin().await.map_err(StoreError::sql(doing))?;
        // Where a turn ends: at a GPU, so that none is packed in two parts.
        let last: Option<Vec<u8>> = sqlx::query_scalar("SELECT max(gpu) FROM (SELECT gpu FROM uptime_link WHERE gpu > ? AND hour < ? ORDER BY gpu LIMIT ?)")
            .bind(after.map(|gpu| gpu.blob()).unwrap_or_default())
            .bind(i64::from(before))
            .bind(HOURS_AT_ONCE as i64)
            .fetch_one(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let Some(last) = last else { return Ok(Packed { last: None, hours: 0 }) };
        let first = after.map(|gpu| gpu.blob()).unwrap_or_default();
        // SQLite takes the other columns from the row that has the maximum.
        sqlx::query("INSERT INTO uptime_shown (gpu, day, tip, count, preimage) SELECT gpu, hour / ?4, tip, max(count), preimage FROM uptime_link WHERE gpu > ?1 AND gpu <= ?2 AND hour < ?3 GROUP BY gpu, hour / ?4, tip ON CONFLICT (gpu, day, tip) DO UPDATE SET count = excluded.count, preimage = excluded.preimage WHERE count < excluded.count")
            .bind(&first)
            .bind(&last)
            .bind(i64::from(before))
            .bind(i64::from(day))
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let moved = sqlx::query("DELETE FROM uptime_link WHERE gpu > ? AND gpu <= ? AND hour < ?")
            .bind(&first)
            .bind(&last)
            .bind(i64::from(before))
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?
            .rows_affected();
        sqlx::query("DELETE FROM uptime_shown WHERE gpu > ? AND gpu <= ? AND day < ?")
            .bind(&first)
            .bind(&last)
            .bind(i64::from(kept_from.0 / day))
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        sqlx::query("DELETE FROM uptime_chain WHERE gpu > ? AND gpu <= ? AND starts < ?")
            .bind(&first)
            .bind(&last)
            .bind((i64::from(kept_from.0) - i64::from(CHAIN_HOURS)) * 60)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        tx.commit().await.map_err(StoreError::sql(doing))?;
        let last = last.try_into().map_err(|_| StoreError::Malformed("column gpu".into()))?;
        Ok(Packed { last: Some(GpuId::from_bytes(last)), hours: moved })
    }
}

async fn pack(
    pool: &SqlitePool,
    before: Hour,
    kept_from: Hour,
    after: Option<GpuId>,
) -> Result<Packed, StoreError> {
    let doing = "packing old uptime";
    let mut tx = pool.begin().await.map_err(StoreError::sql(doing))?;
    // The index on hours is the books' alone; there the oldest is found at once, and here one GPU says it too.
    let rows = sqlx::query("SELECT gpu, hour, bits, late, unchained FROM uptime WHERE gpu > ? AND hour < ? ORDER BY gpu, hour LIMIT ?")
        .bind(after.map(|gpu| gpu.blob()).unwrap_or_default())
        .bind((before.0 - before.0 % DAY as u32) as i64)
        .bind(HOURS_AT_ONCE as i64 + 1)
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
    let more = rows.len() > HOURS_AT_ONCE;
    let mut days: Vec<(GpuId, Day)> = Vec::new();
    for row in &rows {
        let (gpu, hour) = (row.id::<GpuId>("gpu")?, hour_row(row)?);
        let number = hour.hour.0 / DAY as u32;
        match days.last_mut() {
            Some((last, day)) if *last == gpu && day.day == number => day.take(&hour),
            _ => {
                let mut day = Day { day: number, ..Day::default() };
                day.take(&hour);
                days.push((gpu, day));
            }
        }
    }
    // The last GPU's hours may go on beyond the limit; it is the first of the next turn.
    if more && let Some((last, _)) = days.last().copied() {
        days.retain(|(gpu, _)| *gpu != last);
    }
    let Some((first, last)) = days.first().zip(days.last()).map(|((first, _), (last, _))| (*first, *last))
    else {
        return Ok(Packed { last: None, hours: 0 });
    };
    let gpus: Vec<GpuId> = days.iter().map(|(gpu, _)| *gpu).collect();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let parts: Vec<_> =
        days.iter().map(|(_, day)| (month_of(Hour(day.day * DAY as u32)), hex(&day.pack()))).collect();
    sqlx::query("INSERT INTO uptime_month (gpu, month, days) SELECT substr(?1, 1 + 16 * j.key, 16), j.value ->> 0, unhex(j.value ->> 1) FROM json_each(?2) j WHERE true ORDER BY j.key ON CONFLICT (gpu, month) DO UPDATE SET days = CAST(days || excluded.days AS BLOB)")
        .bind(packed(&gpus))
        .bind(json(&parts))
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
    let forgotten = sqlx::query("DELETE FROM uptime WHERE gpu >= ? AND gpu <= ? AND hour < ?")
        .bind(first.blob())
        .bind(last.blob())
        .bind((before.0 - before.0 % DAY as u32) as i64)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?
        .rows_affected();
    sqlx::query("DELETE FROM uptime_month WHERE gpu >= ? AND gpu <= ? AND month < ?")
        .bind(first.blob())
        .bind(last.blob())
        .bind(month_of(kept_from) as i64)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
    tx.commit().await.map_err(StoreError::sql(doing))?;
    Ok(Packed { last: more.then_some(last), hours: forgotten })
}

#[cfg(test)]
mod tests {
    use gangline_guard::{Actor, Job, permit::permit, policy::on};
    use gangline_types::UnixSeconds;

    use super::*;

    const DAY_NUMBER: u32 = 20_000;

    #[tokio::test]
    async fn packed_hours_read_as_they_were_and_late_ones_join_them() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        let permit =
            permit::<act::Reconcile>(&Actor::job(Job::Reconciler), on::Network, UnixSeconds(0)).unwrap();
        let gpu = |n: u8| GpuId::from_bytes([n; 16]);
        let first = Hour(DAY_NUMBER * 24);
        let put = async |n: u8, hour: u32, bits: u64, late: u64| {
            sqlx::query("INSERT INTO uptime (gpu, hour, bits, late, unchained) VALUES (?, ?, ?, ?, 0) ON CONFLICT (gpu, hour) DO UPDATE SET bits = bits | excluded.bits")
                .bind(gpu(n).blob())
                .bind((first.0 + hour) as i64)
                .bind(bits as i64)
                .bind(late as i64)
                .execute(&store.public_write)
                .await
                .unwrap();
        };
        for n in [1, 2] {
            for hour in 0..60 {
                put(n, hour, if hour % 7 == 0 { 5 } else { UptimeHour::FULL.0 }, u64::from(hour % 7 == 0))
                    .await;
            }
        }
        let read = async |n: u8| store.public().uptime(gpu(n), first, Hour(first.0 + 100)).await.unwrap();
        let before = (read(1).await, read(2).await);
        assert_eq!(before.0.len(), 60);
        let pack = async |kept_from: Hour| {
            store.pack_uptime(&permit, true, Hour(first.0 + 50), kept_from, None).await.unwrap()
        };
        // Two whole days of two GPUs; the third day has not ended.
        assert_eq!(pack(Hour(0)).await, Packed { last: None, hours: 96 });
        assert_eq!(pack(Hour(0)).await.hours, 0, "twice is once");
        assert_eq!((read(1).await, read(2).await), before);
        // A minute that comes all the same is added, wherever its hour is.
        put(1, 7, 8, 0).await;
        let added = read(1).await;
        assert_eq!((added.len(), added[7].bits.0), (60, 5 | 8));
        assert_eq!(pack(Hour(0)).await.hours, 1);
        assert_eq!(read(1).await, added);
        // And a month that is past keeping is forgotten with the next hour that is packed.
        put(1, 8, 1, 0).await;
        pack(Hour(first.0 + 31 * 24)).await;
        assert!(read(1).await.iter().all(|hour| hour.hour.0 >= first.0 + 48), "forgotten");
        store.close().await;
    }

    #[tokio::test]
    async fn packed_values_of_chains_stand_at_their_day_and_old_ones_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        let permit =
            permit::<act::Reconcile>(&Actor::job(Job::Reconciler), on::Network, UnixSeconds(0)).unwrap();
        let gpu = |n: u8| GpuId::from_bytes([n; 16]);
        let first = DAY_NUMBER * 24;
        for n in 1..=3u8 {
            sqlx::query(
                "INSERT INTO uptime_chain (gpu, starts, tip, public_key, signature) VALUES (?, ?, ?, ?, ?)",
            )
            .bind(gpu(n).blob())
            .bind(i64::from(first) * 60)
            .bind(vec![n; 16])
            .bind(vec![n; 32])
            .bind(vec![n; 64])
            .execute(&store.public_write)
            .await
            .unwrap();
            for hour in 0..60u32 {
                sqlx::query(
                    "INSERT INTO uptime_link (gpu, hour, tip, count, preimage) VALUES (?, ?, ?, ?, ?)",
                )
                .bind(gpu(n).blob())
                .bind(i64::from(first + hour))
                .bind(vec![n; 16])
                .bind(i64::from(hour + 1) * 60)
                .bind(vec![hour as u8; 16])
                .execute(&store.public_write)
                .await
                .unwrap();
            }
        }
        let pack = async |kept_from: u32, after: Option<GpuId>| {
            store.pack_links(&permit, true, Hour(first + 50), Hour(kept_from), after).await.unwrap()
        };
        let shown = async || {
            let chains = store.public().chains(gpu(2), Hour(first), Hour(first + 100)).await.unwrap();
            chains.iter().flat_map(|c| &c.links).map(|l| (l.hour.0 - first, l.count)).collect::<Vec<_>>()
        };
        assert_eq!(shown().await.len(), 60);
        // Two whole days of three GPUs; the third day has not ended.
        assert_eq!(pack(0, None).await, Packed { last: Some(gpu(3)), hours: 3 * 48 });
        assert_eq!(pack(0, Some(gpu(3))).await, Packed { last: None, hours: 0 });
        assert_eq!(pack(0, None).await.hours, 0, "twice is once");
        let now = shown().await;
        assert_eq!((now.len(), now[0], now[1], now[2]), (14, (0, 24 * 60), (24, 48 * 60), (48, 49 * 60)));
        // Past keeping, values and in the end the chain are forgotten with the next day that is packed.
        sqlx::query("UPDATE uptime_link SET hour = hour - 24").execute(&store.public_write).await.unwrap();
        pack(first + 24, None).await;
        assert_eq!(shown().await[0], (24, 60 * 60));
        sqlx::query("INSERT INTO uptime_link VALUES (?, ?, ?, 1, ?)")
            .bind(gpu(2).blob())
            .bind(i64::from(first))
            .bind(vec![2; 16])
            .bind(vec![0; 16])
            .execute(&store.public_write)
            .await
            .unwrap();
        pack(first + 100, None).await;
        assert!(shown().await.is_empty(), "forgotten");
        store.close().await;
    }
}
