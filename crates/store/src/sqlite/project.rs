//! Filling the public projection: from the books into rows that hold no owner. This is the one place
//! where private and public rows meet, and it goes one way.

use std::collections::HashMap;

use futures_util::TryStreamExt;

use gangline_guard::{Permit, act};
use gangline_rules::uptime::CONNECTED_SECONDS;
use gangline_types::{
    GpuId, Hour, UnixSeconds,
    public::{NetworkTotals, PublicGpu, PublicSeason},
};

use sqlx::sqlite::SqliteRow;

use crate::{
    EntryGroup, Projected, StoreError, TOLD_MAX,
    books::project::{flags_of, is_news, public_gpu, public_proof, transcript_of, turned_gpu},
    sql::{Columns, Id, json, packed, word},
    sqlite::{SqliteStore, handed::Taken, snapshot::write_group},
};

/// Minutes of the curve of connected GPUs that are kept: a day.
const CURVE_MINUTES: u32 = 24 * 60;
/// GPUs that one look takes on: some tenths of a second of work.
const GPUS_AT_ONCE: usize = 5_000;
/// GPUs whose last beat one look compares with what the projection shows.
const LOOKED_AT_ONCE: usize = 50_000;
/// Ids that one statement is asked about.
const IDS_AT_ONCE: usize = 1_000;
/// Hours that were folded, or chains of epochs that were opened, which one look takes on: some tenths of a second of work, so that
/// others who write there get a turn.
pub(super) const HANDED_AT_ONCE: usize = 20_000;
/// Hours of uptime that one statement writes.
const HOURS_AT_ONCE: usize = 5_000;

/// Groups of a snapshot's entries that are read at once: two megabytes.
const GROUPS_AT_ONCE: i64 = 500;
/// Late hours that one look takes on.
const OLDER_AT_ONCE: i64 = 100_000;

/// Names of what is followed: the last rewritten GPU's place, the second of the last look, the number of looks.
const REWRITTEN: &str = "rewritten";
const LOOKED: &str = "looked_at";
const LOOKS: &str = "looks";
/// The moment up to which the beats in the books were looked at.
const BEATS: &str = "beats_until";
/// The last late hour's place.
const OLDER: &str = "older";

impl SqliteStore {
    /// Brings the public projection nearer to the books.
    pub async fn project(
        &self,
        permit: &Permit<act::Project>,
        beats_until: UnixSeconds,
    ) -> Result<Projected, StoreError> {
        let doing = "filling the public projection";
        let now = permit.at();
        let beats_until = beats_until.min(now);
        let mut tx = self.public_write.begin().await.map_err(StoreError::sql(doing))?;
        let looked_at = UnixSeconds(followed(&mut tx, LOOKED).await? as u64);
        let rewritten = self.rewritten(followed(&mut tx, REWRITTEN).await?).await?;
        let mut ids = rewritten.gpus.clone();
        ids.extend(self.turned.take(beats_until, GPUS_AT_ONCE));
        let beats_after = UnixSeconds(followed(&mut tx, BEATS).await? as u64);
        let mut all_folded = true;
        let folded = match self.folded.take(now, u64::MAX, HANDED_AT_ONCE) {
            Taken::Some(mut hours, all) => {
                all_folded = all;
                // Neighbours in the projection together: a statement touches few pages of it.
                hours.sort_unstable();
                hours.dedup();
                Folded::These(hours)
            }
            Taken::Wait => Folded::These(Vec::new()),
            Taken::Unknown => Folded::Since(looked_at),
        };
        let begun = self.sweep.lock().unwrap_or_else(|e| e.into_inner()).take();
        let sweep = match &folded {
            Folded::These(hours) => {
                let mut gpus: Vec<GpuId> = hours.iter().map(|(gpu, _)| *gpu).collect();
                gpus.dedup();
                for some in gpus.chunks(IDS_AT_ONCE) {
                    shown_so(&mut tx, some, false, &mut ids).await?;
                }
                // Beats of before this moment were all looked at: nobody fell silent since.
                begun.or_else(|| (beats_until > beats_after).then(|| Sweep::silent(beats_after, beats_until)))
            }
            Folded::Since(_) => Some(Sweep::everybody(beats_after, beats_until)),
        };
        let (mut swept, mut left) = (None, None);
        if sweep.is_none() && beats_until < beats_after {
            // The clock was set back: what is looked at next begins there.
            swept = Some(beats_until);
        }
        if let Some(mut sweep) = sweep {
            let ended = self.came_or_went(&mut tx, &mut sweep, &mut ids).await?;
            if ended {
                swept = Some(sweep.until);
            } else {
                left = Some(sweep);
            }
        }
        ids.sort_unstable();
        ids.dedup();

        let look = followed(&mut tx, LOOKS).await? + 1;
        let mut changed = Vec::new();
        for some in ids.chunks(IDS_AT_ONCE) {
            let before = public_rows(&mut tx, some).await?;
            let is_anew = |id: &&GpuId| rewritten.gpus.binary_search(id).is_ok() || !before.contains_key(id);
            let (anew, turned): (Vec<GpuId>, Vec<GpuId>) = some.iter().partition(is_anew);
            let mut now_so = self.public_gpus(&anew, beats_until).await?;
            now_so.extend(self.turned_gpus(&turned, &before, beats_until).await?);
            now_so.retain(|gpu| before.get(&gpu.id) != Some(gpu));
            let (stayed, others): (Vec<&PublicGpu>, Vec<&PublicGpu>) = now_so
                .iter()
                .partition(|gpu| before.get(&gpu.id).is_some_and(|known| is_same_kind(known, gpu)));
            turn_gpus(&mut tx, &stayed, look).await?;
            write_gpus(&mut tx, &others, look).await?;
            for gpu in now_so {
                let known = before.get(&gpu.id);
                if changed.len() < TOLD_MAX && is_news(known, &gpu) {
                    changed.push(gpu);
                }
            }
        }
        let older = self.project_older(&mut tx).await?;
        self.project_uptime(&mut tx, &folded, now, &older).await?;
        self.project_chains(&mut tx, &folded, now, &older).await?;
        self.project_proofs(&mut tx).await?;
        let more_epochs = self.project_epochs(&mut tx).await?;
        self.project_calibrations(&mut tx).await?;
        self.project_appeals(&mut tx).await?;
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
        if all_folded {
            follow(&mut tx, LOOKED, now.0 as i64).await?;
        }
        if let Some(until) = swept {
            follow(&mut tx, BEATS, until.0 as i64).await?;
        }
        tx.commit().await.map_err(StoreError::sql(doing))?;
        let more_older = older.last - older.after >= OLDER_AT_ONCE;
        let more = rewritten.more
            || left.is_some()
            || self.turned.more()
            || self.folded.more()
            || self.opened.more()
            || more_snapshots
            || more_epochs
            || more_older;
        self.opened.taken();
        self.folded.taken();
        *self.sweep.lock().unwrap_or_else(|e| e.into_inner()) = left;
        Ok(Projected { totals, changed, more })
    }

    /// GPUs of which something public was rewritten after `after`.
    async fn rewritten(&self, after: i64) -> Result<Rewritten, StoreError> {
        let rows = sqlx::query("SELECT seq, gpu FROM gpu_changed WHERE seq > ? ORDER BY seq LIMIT ?")
            .bind(after)
            .bind(GPUS_AT_ONCE as i64)
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("listing what was rewritten"))?;
        let mut gpus: Vec<GpuId> = rows.iter().map(|r| r.id("gpu")).collect::<Result<_, _>>()?;
        gpus.sort_unstable();
        let last = rows.last().map(|r| r.int("seq")).transpose()?.map_or(after, |seq| seq as i64);
        Ok(Rewritten { more: gpus.len() == GPUS_AT_ONCE, gpus, last })
    }

    /// Goes on with a sweep, and adds to `found` those whom the projection does not show as they are; whether everybody was
    /// looked at.
    async fn came_or_went(
        &self,
        tx: &mut sqlx::SqliteConnection,
        sweep: &mut Sweep,
        found: &mut Vec<GpuId>,
    ) -> Result<bool, StoreError> {
        let doing = "listing who came and who went";
        let enough = found.len() + GPUS_AT_ONCE;
        for _ in 0..LOOKED_AT_ONCE / IDS_AT_ONCE {
            let until = if sweep.silent {
                sweep.until.0.saturating_sub(CONNECTED_SECONDS).saturating_sub(1)
            } else {
                i64::MAX as u64
            };
            let rows = sqlx::query("SELECT id, beat_at FROM gpu WHERE (beat_at, id) > (?1, ?2) AND beat_at <= ?3 ORDER BY beat_at, id LIMIT ?4")
                .bind(sweep.beat_at as i64)
                .bind(sweep.gpu.blob())
                .bind(until as i64)
                .bind(IDS_AT_ONCE as i64)
                .fetch_all(&self.read)
                .await
                .map_err(StoreError::sql(doing))?;
            let ids: Vec<GpuId> = rows.iter().map(|r| r.id("id")).collect::<Result<_, _>>()?;
            shown_so(tx, &ids, sweep.silent, found).await?;
            if let Some(last) = rows.last() {
                (sweep.beat_at, sweep.gpu) = (last.int("beat_at")?, last.id("id")?);
            }
            if rows.len() < IDS_AT_ONCE {
                if sweep.silent {
                    return Ok(true);
                }
                sweep.turn_to_the_silent();
            }
            if found.len() >= enough {
                break;
            }
        }
        Ok(false)
    }

    /// These GPUs as the public may see them now, in no order, with everybody's beats up to a moment.
    async fn public_gpus(
        &self,
        ids: &[GpuId],
        beats_until: UnixSeconds,
    ) -> Result<Vec<PublicGpu>, StoreError> {
        let rows = sqlx::query(
            "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE (i + 1) * 16 < length(?1)) SELECT g.*, g.offer IS NOT NULL AS offered, m.account, m.paused, m.left_at, m.simulated, EXISTS (SELECT 1 FROM cluster c WHERE c.gpu = g.id AND c.state IN ('requested', 'starting', 'running', 'releasing')) AS hired FROM n CROSS JOIN gpu g ON g.id = substr(?1, 1 + 16 * n.i, 16) CROSS JOIN machine m ON m.id = g.machine",
        )
        .bind(packed(ids))
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::sql("reading GPUs for the public projection"))?;
        rows.iter().map(|row| public_gpu(row, self.turned.known_until(row.id("id")?, beats_until))).collect()
    }

    /// These GPUs as the public may see them now, in no order, where nothing but what their beats and hires change is another
    /// than in `known`, which has them all.
    async fn turned_gpus(
        &self,
        ids: &[GpuId],
        known: &HashMap<GpuId, PublicGpu>,
        beats_until: UnixSeconds,
    ) -> Result<Vec<PublicGpu>, StoreError> {
        let rows = sqlx::query(
            "WITH RECURSIVE n (i) AS (SELECT 0 WHERE length(?1) > 0 UNION ALL SELECT i + 1 FROM n WHERE (i + 1) * 16 < length(?1)) SELECT g.id, g.beat_at, g.present, g.standing, g.offer IS NOT NULL AS offered, m.paused, m.left_at, EXISTS (SELECT 1 FROM cluster c WHERE c.gpu = g.id AND c.state IN ('requested', 'starting', 'running', 'releasing')) AS hired FROM n CROSS JOIN gpu g ON g.id = substr(?1, 1 + 16 * n.i, 16) CROSS JOIN machine m ON m.id = g.machine",
        )
        .bind(packed(ids))
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::sql("reading GPUs for the public projection"))?;
        let turned = |row: &SqliteRow| {
            let id = row.id("id")?;
            let known = known.get(&id).cloned();
            let known = known
                .ok_or_else(|| StoreError::Malformed(format!("GPU {id}, which the projection lacks")))?;
            turned_gpu(row, self.turned.known_until(id, beats_until), known)
        };
        rows.iter().map(turned).collect()
    }

    /// Which late hours this look takes on.
    async fn project_older(&self, tx: &mut sqlx::SqliteConnection) -> Result<Older, StoreError> {
        let after = followed(tx, OLDER).await?;
        let last: i64 = sqlx::query_scalar("SELECT coalesce(max(seq), ?1) FROM (SELECT seq FROM uptime_older WHERE seq > ?1 ORDER BY seq LIMIT ?2)")
            .bind(after)
            .bind(OLDER_AT_ONCE)
            .fetch_one(&self.read)
            .await
            .map_err(StoreError::sql("listing late hours"))?;
        if last > after {
            follow(tx, OLDER, last).await?;
        }
        Ok(Older { after, last })
    }

    /// Copies the hours that were folded, and the older hours of which beats came late.
    async fn project_uptime(
        &self,
        tx: &mut sqlx::SqliteConnection,
        folded: &Folded,
        now: UnixSeconds,
        older: &Older,
    ) -> Result<(), StoreError> {
        let doing = "copying uptime to the public projection";
        let mut hours = Vec::new();
        match folded {
            Folded::These(these) => {
                for some in these.chunks(HOURS_AT_ONCE) {
                    let (gpus, numbers) = gpus_and_hours(some);
                    let mut rows = sqlx::query("SELECT u.gpu, u.hour, u.bits, u.late, u.unchained FROM json_each(?2) j CROSS JOIN uptime u ON u.gpu = substr(?1, 1 + 16 * j.key, 16) AND u.hour = j.value")
                        .bind(gpus)
                        .bind(numbers)
                        .fetch(&self.read);
                    while let Some(row) = rows.try_next().await.map_err(StoreError::sql(doing))? {
                        hours.push(hour_of(&row)?);
                    }
                }
            }
            Folded::Since(looked_at) => {
                let mut rows = sqlx::query("SELECT u.gpu, u.hour, u.bits, u.late, u.unchained FROM machine m CROSS JOIN gpu g ON g.machine = m.id CROSS JOIN uptime u ON u.gpu = g.id AND u.hour >= ? WHERE m.seen_at >= ?")
                    .bind(i64::from(hour_before(*looked_at, now).0))
                    .bind(looked_at.0.saturating_sub(2) as i64)
                    .fetch(&self.read);
                while let Some(row) = rows.try_next().await.map_err(StoreError::sql(doing))? {
                    hours.push(hour_of(&row)?);
                }
            }
        }
        let mut rows = sqlx::query("SELECT u.gpu, u.hour, u.bits, u.late, u.unchained FROM uptime_older o CROSS JOIN uptime u ON u.gpu = o.gpu AND u.hour = o.hour WHERE o.seq > ? AND o.seq <= ?")
            .bind(older.after)
            .bind(older.last)
            .fetch(&self.read);
        while let Some(row) = rows.try_next().await.map_err(StoreError::sql(doing))? {
            hours.push(hour_of(&row)?);
        }
        drop(rows);
        // Neighbours in the projection together: a statement touches few pages of it.
        hours.sort_unstable();
        hours.dedup();
        for some in hours.chunks(HOURS_AT_ONCE) {
            let gpus: Vec<GpuId> = some.iter().map(|(gpu, _)| *gpu).collect();
            let parts: Vec<[u64; 4]> = some.iter().map(|(_, parts)| *parts).collect();
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
            "SELECT period, head, runs FROM snapshot WHERE season = ? AND period > ? ORDER BY period LIMIT 2",
        )
        .bind(number)
        .bind(last)
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::sql(doing))?;
        let Some(row) = rows.first() else { return Ok(false) };
        let period = row.int("period")? as i64;
        sqlx::query("INSERT INTO snapshot (season, period, row, runs) VALUES (?, ?, ?, ?)")
            .bind(number)
            .bind(period)
            .bind(row.text("head")?)
            .bind(row.bytes("runs")?)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        // Some groups at a time, for all of a large network's are some dozens of megabytes; of one view, for they may be packed
        // meanwhile.
        let mut read = self.read.begin().await.map_err(StoreError::sql(doing))?;
        let mut after: Option<GpuId> = None;
        loop {
            let rows = sqlx::query("SELECT first, records FROM entries WHERE season = ? AND period = ? AND first > ? ORDER BY first LIMIT ?")
                .bind(number)
                .bind(period)
                .bind(after.map_or(Vec::new(), |gpu| gpu.blob()))
                .bind(GROUPS_AT_ONCE)
                .fetch_all(&mut *read)
                .await
                .map_err(StoreError::sql(doing))?;
            let Some(last) = rows.last() else { break };
            after = Some(last.id("first")?);
            for row in &rows {
                let group = EntryGroup { first: row.id("first")?, records: row.bytes("records")? };
                write_group(&mut *tx, season.number, period as u32, &group, doing).await?;
            }
        }
        drop(read);
        if after.is_none() {
            // A projection that is filled anew.
            for group in self.old_groups(season.number, period as u32).await? {
                write_group(&mut *tx, season.number, period as u32, &group, doing).await?;
            }
        }
        Ok(rows.len() > 1)
    }
}

/// A walk over everybody who may have fallen silent up to a moment, in the order of their last beats; at the start of a process
/// first over everybody who may be connected. It goes on at the next look where it ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sweep {
    since: u64,
    until: UnixSeconds,
    silent: bool,
    beat_at: u64,
    gpu: GpuId,
}

impl Sweep {
    fn of(after: UnixSeconds, until: UnixSeconds, silent: bool) -> Self {
        // A beat may have been committed with a second that had passed by then.
        let since = after.0.saturating_sub(2);
        let of = if silent { since } else { until.0 };
        let first = of.saturating_sub(CONNECTED_SECONDS).max(1);
        Self { since, until, silent, beat_at: first - 1, gpu: GpuId::from_bytes([0xff; 16]) }
    }
    fn silent(after: UnixSeconds, until: UnixSeconds) -> Self {
        Self::of(after, until, true)
    }
    fn everybody(after: UnixSeconds, until: UnixSeconds) -> Self {
        Self::of(after, until, false)
    }
    fn turn_to_the_silent(&mut self) {
        *self = Self::silent(UnixSeconds(self.since), self.until);
    }
}

/// Adds to `found` those of these GPUs that the projection shows as connected, or does not.
async fn shown_so(
    tx: &mut sqlx::SqliteConnection,
    ids: &[GpuId],
    connected: bool,
    found: &mut Vec<GpuId>,
) -> Result<(), StoreError> {
    let rows = sqlx::query("WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE (i + 1) * 16 < length(?1)) SELECT g.id FROM n CROSS JOIN gpu g ON g.id = substr(?1, 1 + 16 * n.i, 16) WHERE g.flags & 1 = ?2")
        .bind(packed(ids))
        .bind(i64::from(connected))
        .fetch_all(tx)
        .await
        .map_err(StoreError::sql("listing who came and who went"))?;
    for row in &rows {
        found.push(row.id("id")?);
    }
    Ok(())
}

/// What was folded and is not in the projection.
pub(super) enum Folded {
    /// These hours.
    These(Vec<(GpuId, Hour)>),
    /// Those of machines that were heard of since this look, of the running hour and the one before: all that is known at the
    /// start.
    Since(UnixSeconds),
}

/// As statements take them.
pub(super) fn gpus_and_hours(rows: &[(GpuId, Hour)]) -> (Vec<u8>, String) {
    let gpus: Vec<GpuId> = rows.iter().map(|(gpu, _)| *gpu).collect();
    (packed(&gpus), json(&rows.iter().map(|(_, hour)| hour.0).collect::<Vec<_>>()))
}

/// Late hours: the places in their list after the first and up to the last.
pub(super) struct Older {
    pub after: i64,
    pub last: i64,
}

/// The first hour that was not over for long when the projection looked last: beats that came since may be of it.
pub(super) fn hour_before(looked_at: UnixSeconds, now: UnixSeconds) -> Hour {
    Hour(looked_at.min(now).minute().hour().0.saturating_sub(1))
}

/// A GPU's hour as it is copied: the hour, its minutes, those that came late and those without a chain.
fn hour_of(row: &SqliteRow) -> Result<(GpuId, [u64; 4]), StoreError> {
    Ok((row.id("gpu")?, [row.int("hour")?, row.int("bits")?, row.int("late")?, row.int("unchained")?]))
}

/// GPUs of which something was rewritten.
struct Rewritten {
    /// In order.
    gpus: Vec<GpuId>,
    /// The place of the last of them.
    last: i64,
    /// There are more.
    more: bool,
}

/// How far the projection has come with something.
pub(super) async fn followed(tx: &mut sqlx::SqliteConnection, what: &'static str) -> Result<i64, StoreError> {
    let seq: Option<i64> = sqlx::query_scalar("SELECT seq FROM followed WHERE what = ?")
        .bind(what)
        .fetch_optional(tx)
        .await
        .map_err(StoreError::sql("reading how far the projection has come"))?;
    Ok(seq.unwrap_or(0))
}

pub(super) async fn follow(
    tx: &mut sqlx::SqliteConnection,
    what: &'static str,
    seq: i64,
) -> Result<(), StoreError> {
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

/// Whether lists have both at the same place: only what one is doing differs.
fn is_same_kind(one: &PublicGpu, other: &PublicGpu) -> bool {
    (&one.model, &one.kind, &one.standing) == (&other.model, &other.kind, &other.standing)
}

/// Rewrites rows of GPUs that are what they were: of the indexes, only that of changes is touched.
async fn turn_gpus(
    tx: &mut sqlx::SqliteConnection,
    gpus: &[&PublicGpu],
    look: i64,
) -> Result<(), StoreError> {
    let ids: Vec<GpuId> = gpus.iter().map(|gpu| gpu.id).collect();
    let parts: Vec<(i64, String)> = gpus.iter().map(|gpu| (flags_of(gpu), json(gpu))).collect();
    sqlx::query("UPDATE gpu SET flags = j.value ->> 0, seq = ?3, row = j.value ->> 1 FROM json_each(?2) j WHERE gpu.id = substr(?1, 1 + 16 * j.key, 16)")
        .bind(packed(&ids))
        .bind(json(&parts))
        .bind(look)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql("writing rows of the public projection"))?;
    Ok(())
}

/// Writes rows down, all with one statement: its parts come as one list each of ids and of everything else.
async fn write_gpus(
    tx: &mut sqlx::SqliteConnection,
    gpus: &[&PublicGpu],
    look: i64,
) -> Result<(), StoreError> {
    let doing = "writing rows of the public projection";
    let ids: Vec<GpuId> = gpus.iter().map(|gpu| gpu.id).collect();
    let parts = |gpu: &&PublicGpu| {
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
