//! Filling the public projection: from the books into rows that hold no owner. This is the one place
//! where private and public rows meet, and it goes one way.

use std::collections::HashMap;

use gangline_guard::{Permit, act};
use gangline_types::{
    GpuId, UnixSeconds,
    public::{NetworkTotals, PublicGpu, PublicSeason},
};

use crate::{
    EntryGroup, Projected, StoreError, TOLD_MAX,
    books::project::{CONNECTED_SECONDS, flags_of, is_news, public_gpu, public_proof, transcript_of},
    sql::{Columns, Id, json, packed, word},
    sqlite::{SqliteStore, snapshot::write_group},
};

/// How far back uptime can still change: the late window and an hour.
const HOURS_THAT_CHANGE: u32 = 8;
/// Minutes of the curve of connected GPUs that are kept: a day.
const CURVE_MINUTES: u32 = 24 * 60;
/// GPUs that one look takes on: some tenths of a second of work.
const GPUS_AT_ONCE: usize = 5_000;
/// Ids that one statement is asked about.
const IDS_AT_ONCE: usize = 1_000;
/// Hours of uptime that one statement writes.
const HOURS_AT_ONCE: usize = 5_000;

/// Names of what is followed: the last rewritten GPU's place, the second of the last look, the number of looks.
const REWRITTEN: &str = "rewritten";
const LOOKED: &str = "looked_at";
const LOOKS: &str = "looks";
/// The last late hour's place.
const OLDER: &str = "older";

impl SqliteStore {
    /// Brings the public projection nearer to the books.
    pub async fn project(&self, permit: &Permit<act::Project>) -> Result<Projected, StoreError> {
        let doing = "filling the public projection";
        let now = permit.at();
        let mut tx = self.public_write.begin().await.map_err(StoreError::sql(doing))?;
        let looked_at = UnixSeconds(followed(&mut tx, LOOKED).await? as u64);
        let rewritten = self.rewritten(followed(&mut tx, REWRITTEN).await?).await?;
        let mut ids = rewritten.gpus;
        let (came_or_went, all) = self.came_or_went(&mut tx, looked_at, now).await?;
        ids.extend(came_or_went);
        ids.sort_unstable();
        ids.dedup();

        let look = followed(&mut tx, LOOKS).await? + 1;
        let mut changed = Vec::new();
        for some in ids.chunks(IDS_AT_ONCE) {
            let before = public_rows(&mut tx, some).await?;
            let mut now_so = self.public_gpus(some, now).await?;
            now_so.retain(|gpu| before.get(&gpu.id) != Some(gpu));
            write_gpus(&mut tx, &now_so, look).await?;
            for gpu in now_so {
                let known = before.get(&gpu.id);
                if changed.len() < TOLD_MAX && is_news(known, &gpu) {
                    changed.push(gpu);
                }
            }
        }
        self.project_uptime(&mut tx, looked_at, now).await?;
        let from = gangline_types::Hour(now.minute().hour().0.saturating_sub(HOURS_THAT_CHANGE));
        self.project_chains(&mut tx, looked_at, from).await?;
        self.project_proofs(&mut tx).await?;
        self.project_epochs(&mut tx).await?;
        self.project_calibrations(&mut tx).await?;
        let more_snapshots = self.project_snapshots(&mut tx).await?;
        let totals = counted_totals(&mut tx, now).await?;
        sqlx::query(
            "INSERT INTO totals (one, row) VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET row = excluded.row",
        )
        .bind(json(&totals))
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
        let minute = now.minute();
        sqlx::query("INSERT INTO connected (minute, gpus) VALUES (?, ?) ON CONFLICT (minute) DO UPDATE SET gpus = max(gpus, excluded.gpus)")
            .bind(minute.0 as i64)
            .bind(totals.connected as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        sqlx::query("DELETE FROM connected WHERE minute < ?")
            .bind(minute.0.saturating_sub(CURVE_MINUTES) as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        follow(&mut tx, REWRITTEN, rewritten.last).await?;
        follow(&mut tx, LOOKS, look).await?;
        if all {
            follow(&mut tx, LOOKED, now.0 as i64).await?;
        }
        tx.commit().await.map_err(StoreError::sql(doing))?;
        Ok(Projected { totals, changed, more: rewritten.more || !all || more_snapshots })
    }

    /// GPUs of which something public was rewritten after `after`.
    async fn rewritten(&self, after: i64) -> Result<Rewritten, StoreError> {
        let rows = sqlx::query("SELECT seq, gpu FROM gpu_changed WHERE seq > ? ORDER BY seq LIMIT ?")
            .bind(after)
            .bind(GPUS_AT_ONCE as i64)
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("listing what was rewritten"))?;
        let gpus: Vec<GpuId> = rows.iter().map(|r| r.id("gpu")).collect::<Result<_, _>>()?;
        let last = rows.last().map(|r| r.int("seq")).transpose()?.map_or(after, |seq| seq as i64);
        Ok(Rewritten { more: gpus.len() == GPUS_AT_ONCE, gpus, last })
    }

    /// GPUs that connected or fell silent since the last look, as far as the projection does not show it yet; and
    /// whether these are all.
    async fn came_or_went(
        &self,
        tx: &mut sqlx::SqliteConnection,
        looked_at: UnixSeconds,
        now: UnixSeconds,
    ) -> Result<(Vec<GpuId>, bool), StoreError> {
        let doing = "listing who came and who went";
        // A beat may have been committed with a second that had passed by then.
        let since = looked_at.0.saturating_sub(2);
        let (silent_since, silent_at) =
            (since.saturating_sub(CONNECTED_SECONDS), now.0.saturating_sub(CONNECTED_SECONDS));
        let beat = sqlx::query("SELECT id FROM gpu WHERE beat_at >= ? AND beat_at > 0 AND beat_at >= ?")
            .bind(since as i64)
            .bind(silent_at as i64)
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql(doing))?;
        let fell_silent =
            sqlx::query("SELECT id FROM gpu WHERE beat_at >= ? AND beat_at < ? AND beat_at > 0")
                .bind(silent_since as i64)
                .bind(silent_at as i64)
                .fetch_all(&self.read)
                .await
                .map_err(StoreError::sql(doing))?;
        let mut found: Vec<GpuId> = Vec::new();
        for (rows, shown) in [(beat, 0i64), (fell_silent, 1)] {
            let ids: Vec<GpuId> = rows.iter().map(|r| r.id("id")).collect::<Result<_, _>>()?;
            for some in ids.chunks(IDS_AT_ONCE) {
                let shown_so = sqlx::query("WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE (i + 1) * 16 < length(?1)) SELECT g.id FROM n CROSS JOIN gpu g ON g.id = substr(?1, 1 + 16 * n.i, 16) WHERE g.flags & 1 = ?2")
                    .bind(packed(some))
                    .bind(shown)
                    .fetch_all(&mut *tx)
                    .await
                    .map_err(StoreError::sql(doing))?;
                for row in &shown_so {
                    found.push(row.id("id")?);
                }
                if found.len() >= GPUS_AT_ONCE {
                    return Ok((found, false));
                }
            }
        }
        Ok((found, true))
    }

    /// These GPUs as the public may see them now, in no order.
    async fn public_gpus(&self, ids: &[GpuId], now: UnixSeconds) -> Result<Vec<PublicGpu>, StoreError> {
        let rows = sqlx::query(
            "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE (i + 1) * 16 < length(?1)) SELECT g.*, m.account, m.paused, m.left_at, m.simulated, EXISTS (SELECT 1 FROM cluster c WHERE c.gpu = g.id AND c.state IN ('requested', 'starting', 'running', 'releasing')) AS hired FROM n CROSS JOIN gpu g ON g.id = substr(?1, 1 + 16 * n.i, 16) CROSS JOIN machine m ON m.id = g.machine",
        )
        .bind(packed(ids))
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::sql("reading GPUs for the public projection"))?;
        rows.iter().map(|row| public_gpu(row, now)).collect()
    }

    /// Copies the running hour and the one before of machines that were heard of since the last look, and the older
    /// hours of which beats came late.
    async fn project_uptime(
        &self,
        tx: &mut sqlx::SqliteConnection,
        looked_at: UnixSeconds,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let doing = "copying uptime to the public projection";
        let from = looked_at.min(now).minute().hour().0.saturating_sub(1);
        let mut rows = sqlx::query("SELECT u.gpu, u.hour, u.bits, u.late, u.unchained FROM machine m CROSS JOIN gpu g ON g.machine = m.id CROSS JOIN uptime u ON u.gpu = g.id AND u.hour >= ? WHERE m.seen_at >= ?")
            .bind(from as i64)
            .bind(looked_at.0.saturating_sub(2) as i64)
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql(doing))?;
        let after = followed(tx, OLDER).await?;
        let older = sqlx::query("SELECT o.seq, u.gpu, u.hour, u.bits, u.late, u.unchained FROM uptime_older o CROSS JOIN uptime u ON u.gpu = o.gpu AND u.hour = o.hour WHERE o.seq > ? ORDER BY o.seq")
            .bind(after)
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql(doing))?;
        if let Some(last) = older.last() {
            follow(tx, OLDER, last.int("seq")? as i64).await?;
        }
        rows.extend(older);
        for some in rows.chunks(HOURS_AT_ONCE) {
            let mut gpus = Vec::with_capacity(some.len());
            let mut parts = Vec::with_capacity(some.len());
            for row in some {
                gpus.push(row.id::<GpuId>("gpu")?);
                parts.push((row.int("hour")?, row.int("bits")?, row.int("late")?, row.int("unchained")?));
            }
            sqlx::query("INSERT INTO uptime (gpu, hour, bits, late, unchained) SELECT substr(?1, 1 + 16 * j.key, 16), j.value ->> 0, j.value ->> 1, j.value ->> 2, j.value ->> 3 FROM json_each(?2) j WHERE true ON CONFLICT (gpu, hour) DO UPDATE SET bits = excluded.bits, late = excluded.late, unchained = excluded.unchained WHERE bits <> excluded.bits OR unchained <> excluded.unchained")
                .bind(packed(&gpus))
                .bind(json(&parts))
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        Ok(())
    }

    async fn project_proofs(&self, tx: &mut sqlx::SqliteConnection) -> Result<(), StoreError> {
        let doing = "copying proofs to the public projection";
        let last: i64 = sqlx::query_scalar("SELECT coalesce(max(judged_at), 0) FROM proof")
            .fetch_one(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let rows = sqlx::query("SELECT * FROM proof WHERE judged_at >= ? ORDER BY judged_at LIMIT 500")
            .bind(last)
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql(doing))?;
        for row in rows {
            let public = public_proof(&row)?;
            let transcript = transcript_of(&row)?;
            sqlx::query("INSERT INTO proof (id, gpu, judged_at, row, transcript) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING")
                .bind(public.id.blob())
                .bind(public.gpu.blob())
                .bind(public.judged_at.0 as i64)
                .bind(json(&public))
                .bind(transcript.as_ref().map(json))
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        Ok(())
    }

    /// Copies snapshots, one with its entries at a look; whether there are more.
    async fn project_snapshots(&self, tx: &mut sqlx::SqliteConnection) -> Result<bool, StoreError> {
        let doing = "copying snapshots to the public projection";
        let Some(season) = self.season().await? else { return Ok(false) };
        let number = season.number as i64;
        sqlx::query("INSERT INTO season (number, row) VALUES (?, ?) ON CONFLICT (number) DO NOTHING")
            .bind(number)
            .bind(json::<PublicSeason>(&season))
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let last: i64 = sqlx::query_scalar("SELECT coalesce(max(period), -1) FROM snapshot WHERE season = ?")
            .bind(number)
            .fetch_one(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let rows = sqlx::query(
            "SELECT period, head FROM snapshot WHERE season = ? AND period > ? ORDER BY period LIMIT 2",
        )
        .bind(number)
        .bind(last)
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::sql(doing))?;
        let Some(row) = rows.first() else { return Ok(false) };
        let period = row.int("period")? as i64;
        sqlx::query("INSERT INTO snapshot (season, period, row) VALUES (?, ?, ?)")
            .bind(number)
            .bind(period)
            .bind(row.text("head")?)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let groups = sqlx::query(
            "SELECT first, hash, records FROM entries WHERE season = ? AND period = ? ORDER BY first",
        )
        .bind(number)
        .bind(period)
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::sql(doing))?;
        for row in groups {
            let group = EntryGroup {
                first: row.id("first")?,
                hash: row.hash("hash")?,
                records: row.bytes("records")?,
            };
            write_group(&mut *tx, season.number, period as u32, &group, doing).await?;
        }
        Ok(rows.len() > 1)
    }
}

/// GPUs of which something was rewritten.
struct Rewritten {
    gpus: Vec<GpuId>,
    /// The place of the last of them.
    last: i64,
    /// There are more.
    more: bool,
}

/// How far the projection has come with something.
async fn followed(tx: &mut sqlx::SqliteConnection, what: &'static str) -> Result<i64, StoreError> {
    let seq: Option<i64> = sqlx::query_scalar("SELECT seq FROM followed WHERE what = ?")
        .bind(what)
        .fetch_optional(tx)
        .await
        .map_err(StoreError::sql("reading how far the projection has come"))?;
    Ok(seq.unwrap_or(0))
}

async fn follow(tx: &mut sqlx::SqliteConnection, what: &'static str, seq: i64) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO followed (what, seq) VALUES (?, ?) ON CONFLICT (what) DO UPDATE SET seq = excluded.seq",
    )
    .bind(what)
    .bind(seq)
    .execute(tx)
    .await
    .map_err(StoreError::sql("noting how far the projection has come"))?;
    Ok(())
}

/// The projection's rows of these GPUs.
async fn public_rows(
    tx: &mut sqlx::SqliteConnection,
    ids: &[GpuId],
) -> Result<HashMap<GpuId, PublicGpu>, StoreError> {
    let rows = sqlx::query("WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE (i + 1) * 16 < length(?1)) SELECT g.row FROM n CROSS JOIN gpu g ON g.id = substr(?1, 1 + 16 * n.i, 16)")
        .bind(packed(ids))
        .fetch_all(tx)
        .await
        .map_err(StoreError::sql("reading rows of the public projection"))?;
    let rows = rows.iter().map(|r| r.json::<PublicGpu>("row").map(|gpu| (gpu.id, gpu)));
    rows.collect()
}

/// Writes rows down, all with one statement: its parts come as one list each of ids and of everything else.
async fn write_gpus(
    tx: &mut sqlx::SqliteConnection,
    gpus: &[PublicGpu],
    look: i64,
) -> Result<(), StoreError> {
    let doing = "writing rows of the public projection";
    let ids: Vec<GpuId> = gpus.iter().map(|gpu| gpu.id).collect();
    let parts = |gpu: &PublicGpu| {
        (
            gpu.id.to_string(),
            gpu.model.clone(),
            word(&gpu.kind),
            gpu.standing.as_str(),
            flags_of(gpu),
            json(gpu),
        )
    };
    let parts = json(&gpus.iter().map(parts).collect::<Vec<_>>());
    sqlx::query("INSERT INTO model (name) SELECT DISTINCT j.value ->> 1 FROM json_each(?) j WHERE true ON CONFLICT (name) DO NOTHING")
        .bind(&parts)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
    sqlx::query("INSERT INTO gpu (id, id_text, model, model_id, kind, standing, flags, seq, row) SELECT substr(?1, 1 + 16 * j.key, 16), j.value ->> 0, j.value ->> 1, (SELECT m.id FROM model m WHERE m.name = j.value ->> 1), j.value ->> 2, j.value ->> 3, j.value ->> 4, ?3, j.value ->> 5 FROM json_each(?2) j WHERE true ON CONFLICT (id) DO UPDATE SET model = excluded.model, model_id = excluded.model_id, kind = excluded.kind, standing = excluded.standing, flags = excluded.flags, seq = excluded.seq, row = excluded.row")
        .bind(packed(&ids))
        .bind(&parts)
        .bind(look)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
    Ok(())
}

/// Totals from the counts that triggers keep.
async fn counted_totals(
    tx: &mut sqlx::SqliteConnection,
    now: UnixSeconds,
) -> Result<NetworkTotals, StoreError> {
    let row = sqlx::query("SELECT coalesce(sum(gpus * (flags & 1)), 0) AS connected, coalesce(sum(gpus * (flags & 1) * (standing = 'proven')), 0) AS proven, coalesce(sum(gpus * ((flags & 2) / 2)), 0) AS rentable, coalesce(sum(gpus * ((flags & 4) / 4)), 0) AS hired, coalesce(sum(gpus), 0) AS registered, coalesce(sum(gpus * (flags & 1) * (kind = 'software')), 0) AS software, coalesce(sum(gpus * ((flags & 8) / 8)), 0) AS simulated FROM counted WHERE standing <> 'retired'")
        .fetch_one(tx)
        .await
        .map_err(StoreError::sql("counting the network"))?;
    Ok(NetworkTotals {
        connected: row.int("connected")?,
        proven: row.int("proven")?,
        rentable: row.int("rentable")?,
        hired: row.int("hired")?,
        registered: row.int("registered")?,
        software_devices: row.int("software")?,
        simulated: row.int("simulated")?,
        as_of: now,
    })
}
