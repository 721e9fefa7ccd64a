//! Filling the public projection: from the schema of the books into the one the explorer's role can read. This is
//! the one place where private and public rows meet, and it goes one way.

use std::collections::HashMap;

use gangline_guard::{Permit, act};
use gangline_rules::uptime::CONNECTED_SECONDS;
use gangline_types::{
    GpuId, UnixSeconds,
    public::{NetworkTotals, PublicGpu, PublicSeason},
};
use sqlx::PgConnection;

use super::{
    PostgresStore,
    open::commit,
    snapshot::{add_shares, move_held},
};
use crate::{
    Projected, StoreError, TOLD_MAX,
    books::project::{flags_of, is_news, public_gpu, public_proof, transcript_of},
    sql::{Columns, Id, json, word},
};

/// How far back uptime can still change: the late window and an hour.
const HOURS_THAT_CHANGE: u32 = 8;
/// Minutes of the curve of connected GPUs that are kept: a day.
const CURVE_MINUTES: u32 = 24 * 60;
/// GPUs that one look takes on: some tenths of a second of work.
const GPUS_AT_ONCE: usize = 5_000;
/// GPUs that one statement writes.
const ROWS_AT_ONCE: usize = 1_000;

/// Names of what is followed: the second of the last look, the number of looks.
const LOOKED: &str = "looked_at";
const LOOKS: &str = "looks";
/// The moment up to which the beats in the books were looked at.
const BEATS: &str = "beats_until";

impl PostgresStore {
    pub(crate) async fn project(
        &self,
        permit: &Permit<act::Project>,
        beats_until: UnixSeconds,
    ) -> Result<Projected, StoreError> {
        let doing = "filling the public projection";
        let now = permit.at();
        let beats_until = beats_until.min(now);
        let mut tx = self.begin(doing).await?;
        sqlx::query("SELECT pg_advisory_xact_lock(7402260004)")
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let looked_at = UnixSeconds(followed(&mut tx, LOOKED).await? as u64);
        let rewritten = take_rewritten(&mut tx).await?;
        let beats_after = UnixSeconds(followed(&mut tx, BEATS).await? as u64);
        let came_or_went = came_or_went(&mut tx, beats_after, beats_until).await?;
        let more = rewritten.len() >= GPUS_AT_ONCE || came_or_went.len() >= GPUS_AT_ONCE;
        let all = came_or_went.len() < GPUS_AT_ONCE;
        let mut ids = rewritten;
        ids.extend(came_or_went);
        ids.sort_unstable();
        ids.dedup();

        let look = followed(&mut tx, LOOKS).await? + 1;
        let mut changed = Vec::new();
        for some in ids.chunks(ROWS_AT_ONCE) {
            let before = public_rows(&mut tx, some).await?;
            let mut gpus = public_gpus(&mut tx, some, beats_until).await?;
            gpus.retain(|gpu| before.get(&gpu.id) != Some(gpu));
            write_gpus(&mut tx, &gpus, look).await?;
            let news = gpus.into_iter().filter(|gpu| is_news(before.get(&gpu.id), gpu));
            changed.extend(news.take(TOLD_MAX - changed.len()));
        }
        project_uptime(&mut tx, looked_at, now).await?;
        project_proofs(&mut tx).await?;
        let more_epochs = self.project_epochs(&mut tx).await?;
        self.project_calibrations(&mut tx).await?;
        self.project_appeals(&mut tx).await?;
        let more_snapshots = self.project_snapshots(&mut tx).await?;
        let totals = counted_totals(&mut tx, now).await?;
        sqlx::query("INSERT INTO gangline_public.totals (one, row) VALUES (1, $1) ON CONFLICT (one) DO UPDATE SET row = excluded.row")
            .bind(json(&totals))
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let minute = now.minute();
        sqlx::query("INSERT INTO gangline_public.connected AS c (minute, gpus) VALUES ($1, $2) ON CONFLICT (minute) DO UPDATE SET gpus = greatest(c.gpus, excluded.gpus)")
            .bind(minute.0 as i64)
            .bind(totals.connected as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        sqlx::query("DELETE FROM gangline_public.connected WHERE minute < $1")
            .bind(minute.0.saturating_sub(CURVE_MINUTES) as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        follow(&mut tx, LOOKS, look).await?;
        follow(&mut tx, LOOKED, now.0 as i64).await?;
        if all {
            follow(&mut tx, BEATS, beats_until.0 as i64).await?;
        }
        commit(tx, doing).await?;
        Ok(Projected { totals, changed, more: more || more_snapshots || more_epochs })
    }

    /// Copies snapshots, one with its entries at a look; whether there are more.
    async fn project_snapshots(&self, tx: &mut PgConnection) -> Result<bool, StoreError> {
        let doing = "copying snapshots to the public projection";
        let Some(season) = self.season().await? else { return Ok(false) };
        let number = season.number as i64;
        sqlx::query("INSERT INTO gangline_public.season (number, row) VALUES ($1, $2) ON CONFLICT (number) DO NOTHING")
            .bind(number)
            .bind(json::<PublicSeason>(&season))
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let periods: Vec<i64> = sqlx::query_scalar("SELECT period FROM snapshot WHERE season = $1 AND period > (SELECT coalesce(max(period), -1) FROM gangline_public.snapshot WHERE season = $1) ORDER BY period LIMIT 2")
            .bind(number)
            .fetch_all(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let Some(period) = periods.first() else { return Ok(false) };
        sqlx::query("INSERT INTO gangline_public.snapshot (season, period, row, runs) SELECT season, period, head, runs FROM snapshot WHERE season = $1 AND period = $2")
            .bind(number)
            .bind(period)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let mut records: Vec<Vec<u8>> = sqlx::query_scalar("INSERT INTO gangline_public.entries (season, period, first, records) SELECT season, period, first, records FROM entries WHERE season = $1 AND period = $2 ORDER BY first RETURNING records")
            .bind(number)
            .bind(period)
            .fetch_all(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        if records.is_empty() {
            // A projection that is filled anew.
            for group in self.old_groups(season.number, *period as u32).await? {
                sqlx::query("INSERT INTO gangline_public.entries (season, period, first, records) VALUES ($1, $2, $3, $4)")
                    .bind(number)
                    .bind(period)
                    .bind(group.first.blob())
                    .bind(&group.records)
                    .execute(&mut *tx)
                    .await
                    .map_err(StoreError::sql(doing))?;
                records.push(group.records);
            }
        }
        for records in &records {
            let moves = crate::books::snapshot::moves(records)?;
            for (gpus, sql) in [
                (
                    &moves.cleared,
                    "UPDATE gangline_public.season_share SET share = share + held, held = 0 WHERE held > 0 AND gpu = ANY ($1)",
                ),
                (
                    &moves.lost,
                    "UPDATE gangline_public.season_share SET held = 0 WHERE held > 0 AND gpu = ANY ($1)",
                ),
            ] {
                move_held(&mut *tx, gpus, sql, doing).await?;
            }
            for (shares, sql) in [
                (
                    &moves.paid,
                    "INSERT INTO gangline_public.season_share AS s (season, gpu, share) SELECT $1, n.gpu, n.share FROM unnest($2, $3) AS n (gpu, share) ON CONFLICT (season, gpu) DO UPDATE SET share = s.share + excluded.share",
                ),
                (
                    &moves.held,
                    "INSERT INTO gangline_public.season_share AS s (season, gpu, share, held) SELECT $1, n.gpu, 0, n.share FROM unnest($2, $3) AS n (gpu, share) ON CONFLICT (season, gpu) DO UPDATE SET held = s.held + excluded.held",
                ),
            ] {
                add_shares(&mut *tx, number, shares, sql, doing).await?;
            }
        }
        Ok(periods.len() > 1)
    }
}

/// Takes GPUs of which something was rewritten off the queue.
async fn take_rewritten(tx: &mut PgConnection) -> Result<Vec<GpuId>, StoreError> {
    let rows = sqlx::query(
        "DELETE FROM gpu_changed WHERE id IN (SELECT id FROM gpu_changed ORDER BY id LIMIT $1) RETURNING gpu",
    )
    .bind(GPUS_AT_ONCE as i64)
    .fetch_all(tx)
    .await
    .map_err(StoreError::sql("listing what was rewritten"))?;
    rows.iter().map(|row| row.id("gpu")).collect()
}

/// GPUs whose beats up to `until` made them connected or silent since `after`, as far as the projection does not show it
/// yet.
async fn came_or_went(
    tx: &mut PgConnection,
    after: UnixSeconds,
    until: UnixSeconds,
) -> Result<Vec<GpuId>, StoreError> {
    // A beat may have been committed with a second that had passed by then.
    let since = after.0.saturating_sub(2);
    let silent_at = until.0.saturating_sub(CONNECTED_SECONDS);
    let rows = sqlx::query("(SELECT g.id FROM gpu g JOIN gangline_public.gpu p ON p.id = g.id WHERE g.beat_at >= greatest($1, $3, 1) AND p.flags & 1 = 0 LIMIT $4) UNION ALL (SELECT g.id FROM gpu g JOIN gangline_public.gpu p ON p.id = g.id WHERE g.beat_at >= greatest($2, 1) AND g.beat_at < $3 AND p.flags & 1 = 1 LIMIT $4) LIMIT $4")
        .bind(since as i64)
        .bind(since.saturating_sub(CONNECTED_SECONDS) as i64)
        .bind(silent_at as i64)
        .bind(GPUS_AT_ONCE as i64)
        .fetch_all(tx)
        .await
        .map_err(StoreError::sql("listing who came and who went"))?;
    rows.iter().map(|row| row.id("id")).collect()
}

/// These GPUs as the public may see them now, in no order.
async fn public_gpus(
    tx: &mut PgConnection,
    ids: &[GpuId],
    now: UnixSeconds,
) -> Result<Vec<PublicGpu>, StoreError> {
    let rows = sqlx::query("SELECT g.*, g.offer IS NOT NULL AS offered, m.account, m.paused, m.left_at, m.simulated, EXISTS (SELECT 1 FROM cluster c WHERE c.gpu = g.id AND c.state IN ('requested', 'starting', 'running', 'releasing')) AS hired FROM gpu g JOIN machine m ON m.id = g.machine WHERE g.id = ANY ($1)")
        .bind(ids.iter().map(Id::blob).collect::<Vec<_>>())
        .fetch_all(tx)
        .await
        .map_err(StoreError::sql("reading GPUs for the public projection"))?;
    rows.iter().map(|row| public_gpu(row, now)).collect()
}

/// The projection's rows of these GPUs.
async fn public_rows(tx: &mut PgConnection, ids: &[GpuId]) -> Result<HashMap<GpuId, PublicGpu>, StoreError> {
    let rows = sqlx::query("SELECT row FROM gangline_public.gpu WHERE id = ANY ($1)")
        .bind(ids.iter().map(Id::blob).collect::<Vec<_>>())
        .fetch_all(tx)
        .await
        .map_err(StoreError::sql("reading rows of the public projection"))?;
    rows.iter().map(|row| row.json::<PublicGpu>("row").map(|gpu| (gpu.id, gpu))).collect()
}

async fn write_gpus(tx: &mut PgConnection, gpus: &[PublicGpu], look: i64) -> Result<(), StoreError> {
    let doing = "writing rows of the public projection";
    let column = |of: fn(&PublicGpu) -> String| gpus.iter().map(of).collect::<Vec<_>>();
    let models = column(|gpu| gpu.model.as_str().to_owned());
    sqlx::query("INSERT INTO gangline_public.model (name) SELECT DISTINCT name FROM unnest($1) AS n (name) ON CONFLICT (name) DO NOTHING")
        .bind(&models)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
    sqlx::query("INSERT INTO gangline_public.gpu (id, id_text, model, model_id, kind, standing, flags, seq, row) SELECT n.id, n.id_text, n.model, m.id, n.kind, n.standing, n.flags, $8, n.row FROM unnest($1, $2, $3, $4, $5, $6, $7) AS n (id, id_text, model, kind, standing, flags, row) JOIN gangline_public.model m ON m.name = n.model ON CONFLICT (id) DO UPDATE SET model = excluded.model, model_id = excluded.model_id, kind = excluded.kind, standing = excluded.standing, flags = excluded.flags, seq = excluded.seq, row = excluded.row")
        .bind(gpus.iter().map(|gpu| gpu.id.blob()).collect::<Vec<_>>())
        .bind(column(|gpu| gpu.id.to_string()))
        .bind(&models)
        .bind(column(|gpu| word(&gpu.kind)))
        .bind(column(|gpu| gpu.standing.as_str().to_owned()))
        .bind(gpus.iter().map(flags_of).collect::<Vec<_>>())
        .bind(column(json))
        .bind(look)
        .execute(tx)
        .await
        .map_err(StoreError::sql(doing))?;
    Ok(())
}

/// Copies the hours that can still change of machines that were heard of since the last look, the chains behind them,
/// and when the intake was up.
async fn project_uptime(
    tx: &mut PgConnection,
    looked_at: UnixSeconds,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let doing = "copying uptime to the public projection";
    let from = i64::from(looked_at.min(now).minute().hour().0.saturating_sub(HOURS_THAT_CHANGE));
    // A beat may have been folded in a second that had passed by then.
    let since = looked_at.0.saturating_sub(2) as i64;
    for statement in [
        "INSERT INTO gangline_public.uptime AS p (gpu, hour, bits, late, unchained) SELECT u.gpu, u.hour, u.bits, u.late, u.unchained FROM machine m JOIN gpu g ON g.machine = m.id JOIN uptime u ON u.gpu = g.id AND u.hour >= $1 WHERE m.seen_at >= $2 ON CONFLICT (gpu, hour) DO UPDATE SET bits = excluded.bits, late = excluded.late, unchained = excluded.unchained WHERE (p.bits, p.late, p.unchained) <> (excluded.bits, excluded.late, excluded.unchained)",
        "INSERT INTO gangline_public.uptime_chain (gpu, starts, tip, public_key, signature) SELECT DISTINCT c.gpu, c.starts, c.tip, c.public_key, c.signature FROM machine m JOIN gpu g ON g.machine = m.id JOIN uptime_link l ON l.gpu = g.id AND l.hour >= $1 JOIN uptime_chain c ON c.gpu = l.gpu AND c.tip = l.tip WHERE m.seen_at >= $2 ON CONFLICT DO NOTHING",
        "INSERT INTO gangline_public.uptime_link AS p (gpu, hour, tip, count, preimage) SELECT l.gpu, l.hour, l.tip, l.count, l.preimage FROM machine m JOIN gpu g ON g.machine = m.id JOIN uptime_link l ON l.gpu = g.id AND l.hour >= $1 WHERE m.seen_at >= $2 ON CONFLICT (gpu, hour, tip) DO UPDATE SET count = excluded.count, preimage = excluded.preimage WHERE p.count < excluded.count",
        "INSERT INTO gangline_public.intake_up AS p (hour, bits) SELECT hour, bits FROM intake_up WHERE hour >= $1 AND $2 >= 0 ON CONFLICT (hour) DO UPDATE SET bits = excluded.bits WHERE p.bits <> excluded.bits",
    ] {
        sqlx::query(statement)
            .bind(from)
            .bind(since)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
    }
    Ok(())
}

async fn project_proofs(tx: &mut PgConnection) -> Result<(), StoreError> {
    let doing = "copying proofs to the public projection";
    let rows = sqlx::query("SELECT * FROM proof WHERE judged_at >= (SELECT coalesce(max(judged_at), 0) FROM gangline_public.proof) ORDER BY judged_at LIMIT 500")
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
    for row in rows {
        let public = public_proof(&row)?;
        sqlx::query("INSERT INTO gangline_public.proof (id, gpu, judged_at, row, transcript) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO NOTHING")
            .bind(public.id.blob())
            .bind(public.gpu.blob())
            .bind(public.judged_at.0 as i64)
            .bind(json(&public))
            .bind(transcript_of(&row)?.as_ref().map(json))
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
    }
    Ok(())
}

/// How far the projection has come with something.
async fn followed(tx: &mut PgConnection, what: &'static str) -> Result<i64, StoreError> {
    let seq: Option<i64> = sqlx::query_scalar("SELECT seq FROM gangline_public.followed WHERE what = $1")
        .bind(what)
        .fetch_optional(tx)
        .await
        .map_err(StoreError::sql("reading how far the projection has come"))?;
    Ok(seq.unwrap_or(0))
}

async fn follow(tx: &mut PgConnection, what: &'static str, seq: i64) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO gangline_public.followed (what, seq) VALUES ($1, $2) ON CONFLICT (what) DO UPDATE SET seq = excluded.seq")
        .bind(what)
        .bind(seq)
        .execute(tx)
        .await
        .map_err(StoreError::sql("noting how far the projection has come"))?;
    Ok(())
}

/// Totals from the counts that triggers keep.
async fn counted_totals(tx: &mut PgConnection, now: UnixSeconds) -> Result<NetworkTotals, StoreError> {
    let row = sqlx::query("SELECT coalesce(sum(gpus) FILTER (WHERE flags & 1 > 0), 0)::BIGINT AS connected, coalesce(sum(gpus) FILTER (WHERE flags & 1 > 0 AND standing = 'proven'), 0)::BIGINT AS proven, coalesce(sum(gpus) FILTER (WHERE flags & 2 > 0), 0)::BIGINT AS rentable, coalesce(sum(gpus) FILTER (WHERE flags & 4 > 0), 0)::BIGINT AS hired, coalesce(sum(gpus), 0)::BIGINT AS registered, coalesce(sum(gpus) FILTER (WHERE flags & 1 > 0 AND kind = 'software'), 0)::BIGINT AS software, coalesce(sum(gpus) FILTER (WHERE flags & 8 > 0), 0)::BIGINT AS simulated FROM gangline_public.counted WHERE standing <> 'retired'")
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
