//! The explorer's reads. This type holds one pool: read-only, on the file of the public projection. It
//! has no way to reach anything else.

use gangline_types::{
    GpuId, Hour, Minute, ProofId, Text, UptimeHour,
    public::{
        NetworkTotals, PublicEntry, PublicGpu, PublicProof, PublicSeason, PublicSnapshot, PublicUptime,
    },
};
use gangline_wire::api::{
    proof::Transcript,
    public::{GpuPage, GpusQuery, HOURS_MAX, PAGE_MAX, SnapshotList},
};
use sqlx::SqlitePool;

use crate::{
    ModelRow, StoreError,
    sql::{Columns, Id},
};

/// GPUs or snapshots in a page unless asked otherwise.
const PAGE: u32 = 50;

/// Read-only access to the public projection.
#[derive(Clone)]
pub struct SqlitePublic {
    pool: SqlitePool,
}

fn failed(e: sqlx::Error) -> StoreError {
    StoreError::sql("reading the public projection")(e)
}

/// `LIKE` with its own signs taken literally.
fn like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

impl SqlitePublic {
    pub(crate) fn new(pool: SqlitePool) -> Self {
        Self { pool }
    }
    pub(crate) fn pool(&self) -> &SqlitePool {
        &self.pool
    }
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    /// Network totals as last drawn.
    pub async fn totals(&self) -> Result<NetworkTotals, StoreError> {
        let row = sqlx::query("SELECT row FROM totals WHERE one = 1")
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        row.map(|r| r.json("row")).transpose().map(Option::unwrap_or_default)
    }

    /// GPUs that match, in the order of ids.
    pub async fn gpus(&self, query: &GpusQuery) -> Result<GpuPage, StoreError> {
        let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
        let text: String = query.q.as_deref().unwrap_or("").trim().chars().take(128).collect();
        let rows = sqlx::query(
            "SELECT row FROM gpu WHERE (?1 IS NULL OR id > ?1) AND (?2 IS NULL OR standing = ?2) AND (?3 = '' OR id_text LIKE ?4 || '%' ESCAPE '\\' OR model LIKE '%' || ?4 || '%' ESCAPE '\\') ORDER BY id LIMIT ?5",
        )
        .bind(query.after.map(|g| g.blob()))
        .bind(query.standing.map(|s| s.as_str()))
        .bind(&text)
        .bind(like(&text))
        .bind(limit as i64 + 1)
        .fetch_all(&self.pool)
        .await
        .map_err(failed)?;
        let mut gpus: Vec<PublicGpu> = rows.iter().map(|r| r.json("row")).collect::<Result<_, _>>()?;
        let more = gpus.len() > limit as usize;
        gpus.truncate(limit as usize);
        let next = gpus.last().filter(|_| more).map(|g| g.id);
        Ok(GpuPage { gpus, next })
    }

    /// One GPU.
    pub async fn gpu(&self, gpu: GpuId) -> Result<Option<PublicGpu>, StoreError> {
        let row = sqlx::query("SELECT row FROM gpu WHERE id = ?")
            .bind(gpu.blob())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        row.map(|r| r.json("row")).transpose()
    }

    /// Its uptime hours in `from..to`, at most 90 days of them.
    pub async fn uptime(&self, gpu: GpuId, from: Hour, to: Hour) -> Result<Vec<PublicUptime>, StoreError> {
        let rows = sqlx::query("SELECT hour, bits, late FROM uptime WHERE gpu = ? AND hour >= ? AND hour < ? ORDER BY hour LIMIT ?")
            .bind(gpu.blob())
            .bind(from.0 as i64)
            .bind(to.0 as i64)
            .bind(HOURS_MAX as i64)
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        rows.iter()
            .map(|r| {
                Ok(PublicUptime {
                    hour: Hour(r.int("hour")? as u32),
                    bits: UptimeHour(r.int("bits")?),
                    late: UptimeHour(r.int("late")?),
                })
            })
            .collect()
    }

    /// Its proofs, newest first, at most 100.
    pub async fn proofs(&self, gpu: GpuId) -> Result<Vec<PublicProof>, StoreError> {
        let rows = sqlx::query("SELECT row FROM proof WHERE gpu = ? ORDER BY judged_at DESC, id LIMIT 100")
            .bind(gpu.blob())
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        rows.iter().map(|r| r.json("row")).collect()
    }

    /// One proof's transcript; none if it was never opened.
    pub async fn transcript(&self, proof: ProofId) -> Result<Option<Transcript>, StoreError> {
        let row = sqlx::query("SELECT transcript FROM proof WHERE id = ?")
            .bind(proof.blob())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        row.map(|r| r.json_or_none("transcript")).transpose().map(Option::flatten)
    }

    /// The newest season.
    pub async fn season(&self) -> Result<Option<PublicSeason>, StoreError> {
        let row = sqlx::query("SELECT row FROM season ORDER BY number DESC LIMIT 1")
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        row.map(|r| r.json("row")).transpose()
    }

    /// Snapshots of a season from a period on.
    pub async fn snapshots(
        &self,
        season: u32,
        from: u32,
        limit: Option<u32>,
    ) -> Result<SnapshotList, StoreError> {
        let limit = limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
        let rows =
            sqlx::query("SELECT row FROM snapshot WHERE season = ? AND period >= ? ORDER BY period LIMIT ?")
                .bind(season as i64)
                .bind(from as i64)
                .bind(limit as i64 + 1)
                .fetch_all(&self.pool)
                .await
                .map_err(failed)?;
        let mut snapshots: Vec<PublicSnapshot> =
            rows.iter().map(|r| r.json("row")).collect::<Result<_, _>>()?;
        let next = snapshots.get(limit as usize).map(|s| s.period);
        snapshots.truncate(limit as usize);
        Ok(SnapshotList { snapshots, next })
    }

    /// The newest snapshots of a season, newest first.
    pub async fn newest_snapshots(&self, season: u32, limit: u32) -> Result<Vec<PublicSnapshot>, StoreError> {
        let rows = sqlx::query("SELECT row FROM snapshot WHERE season = ? ORDER BY period DESC LIMIT ?")
            .bind(season as i64)
            .bind(limit.clamp(1, PAGE_MAX) as i64)
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        rows.iter().map(|r| r.json("row")).collect()
    }

    /// One snapshot's head.
    pub async fn snapshot(&self, season: u32, period: u32) -> Result<Option<PublicSnapshot>, StoreError> {
        let row = sqlx::query("SELECT row FROM snapshot WHERE season = ? AND period = ?")
            .bind(season as i64)
            .bind(period as i64)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        row.map(|r| r.json("row")).transpose()
    }

    /// One snapshot's entries, in the order of GPU ids.
    pub async fn entries(&self, season: u32, period: u32) -> Result<Vec<PublicEntry>, StoreError> {
        let rows = sqlx::query("SELECT row FROM entry WHERE season = ? AND period = ? ORDER BY gpu")
            .bind(season as i64)
            .bind(period as i64)
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        rows.iter().map(|r| r.json("row")).collect()
    }

    /// One GPU's newest entries with their periods, newest first.
    pub async fn gpu_entries(
        &self,
        season: u32,
        gpu: GpuId,
        limit: u32,
    ) -> Result<Vec<(u32, PublicEntry)>, StoreError> {
        let rows = sqlx::query(
            "SELECT period, row FROM entry WHERE gpu = ? AND season = ? ORDER BY period DESC LIMIT ?",
        )
        .bind(gpu.blob())
        .bind(season as i64)
        .bind(limit.clamp(1, PAGE_MAX) as i64)
        .fetch_all(&self.pool)
        .await
        .map_err(failed)?;
        rows.iter().map(|r| Ok((r.int("period")? as u32, r.json("row")?))).collect()
    }

    /// Connected GPUs by minute over the last day.
    pub async fn connected_curve(&self) -> Result<Vec<(Minute, u64)>, StoreError> {
        let rows = sqlx::query("SELECT minute, gpus FROM connected ORDER BY minute")
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        rows.iter().map(|r| Ok((Minute(r.int("minute")? as u32), r.int("gpus")?))).collect()
    }

    /// Models by kind with their connected, proven and rentable GPUs, most connected first, at most 20.
    pub async fn models(&self) -> Result<Vec<ModelRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT model, json_extract(row, '$.kind') AS kind, sum(json_extract(row, '$.connected')) AS connected, sum(json_extract(row, '$.connected') AND standing = 'proven') AS proven, sum(json_extract(row, '$.rentable')) AS rentable FROM gpu WHERE standing <> 'retired' GROUP BY model, kind ORDER BY connected DESC, model, kind LIMIT 20",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(failed)?;
        rows.iter()
            .map(|r| {
                Ok(ModelRow {
                    model: Text::lossy(&r.text("model")?),
                    kind: r.word("kind")?,
                    connected: r.int("connected")?,
                    proven: r.int("proven")?,
                    rentable: r.int("rentable")?,
                })
            })
            .collect()
    }
}
