//! The explorer's reads. This type holds one pool: read-only, on the file of the public projection. It
//! has no way to reach anything else.

use gangline_rules::groups::GROUP;
use gangline_types::{
    GpuId, Hour, Minute, ProofId, Standing, Text, UptimeHour,
    public::{
        InclusionProof, NetworkTotals, PublicEntry, PublicGpu, PublicProof, PublicSeason, PublicSnapshot,
        PublicUptime,
    },
};
use gangline_wire::api::{
    proof::Transcript,
    public::{ENTRIES_MAX, GpuPage, GpusQuery, HOURS_MAX, PAGE_MAX, SnapshotList},
};
use sqlx::PgPool;

use crate::{
    ModelRow, StoreError,
    books::public::{
        AFTER_ALL, bounds, by_run, day_before, fill, grouped, groups_of, like, lines_of_run, runs_of,
        unpacked,
    },
    sql::{Columns, Id},
};

/// GPUs or snapshots in a page unless asked otherwise.
const PAGE: u32 = 50;
/// Models that one text may find GPUs of.
const MODELS_MAX: i64 = 200;

/// Read-only access to the public projection.
#[derive(Clone)]
pub struct PostgresPublic {
    pool: PgPool,
}

fn failed(e: sqlx::Error) -> StoreError {
    StoreError::sql("reading the public projection")(e)
}

impl PostgresPublic {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool }
    }
    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    pub(crate) async fn totals(&self) -> Result<NetworkTotals, StoreError> {
        let row = sqlx::query("SELECT row FROM totals WHERE one = 1")
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        row.map(|r| r.json("row")).transpose().map(Option::unwrap_or_default)
    }

    pub(crate) async fn gpus(&self, query: &GpusQuery) -> Result<GpuPage, StoreError> {
        let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
        let text: String = query.q.as_deref().unwrap_or("").trim().chars().take(128).collect();
        let mut gpus = if text.is_empty() {
            self.in_order(bounds(query.after, None), query.standing, limit).await?
        } else {
            // Below every id, so that one statement serves the first page and the others.
            let after = query.after.map(|g| g.blob()).unwrap_or_default();
            let mut found = self.of_models(&text, &after, query.standing, limit).await?;
            if let Some(range) = GpuId::range_of_prefix(&text.to_ascii_lowercase()) {
                let within = bounds(query.after, Some(range));
                found.extend(self.in_order(within, query.standing, limit).await?);
                found.sort_by_key(|gpu| gpu.id);
                found.dedup_by_key(|gpu| gpu.id);
            }
            found
        };
        let more = gpus.len() > limit as usize;
        gpus.truncate(limit as usize);
        self.fill(&mut gpus).await?;
        let next = gpus.last().filter(|_| more).map(|g| g.id);
        Ok(GpuPage { gpus, next })
    }

    /// One more than `limit` GPUs from `first` to `last`.
    async fn in_order(
        &self,
        (first, last): (GpuId, GpuId),
        standing: Option<Standing>,
        limit: u32,
    ) -> Result<Vec<PublicGpu>, StoreError> {
        // One statement a way to look, so that each has an index of its own to walk along.
        let statement = match standing {
            None => sqlx::query("SELECT row FROM gpu WHERE id >= $1 AND id <= $2 ORDER BY id LIMIT $3"),
            Some(_) => sqlx::query(
                "SELECT row FROM gpu WHERE standing = $4 AND id >= $1 AND id <= $2 ORDER BY id LIMIT $3",
            ),
        };
        let mut statement = statement.bind(first.blob()).bind(last.blob()).bind(limit as i64 + 1);
        if let Some(standing) = standing {
            statement = statement.bind(standing.as_str());
        }
        let rows = statement.fetch_all(&self.pool).await.map_err(failed)?;
        rows.iter().map(|r| r.json("row")).collect()
    }

    /// One more than `limit` GPUs after `after` of models whose name holds the text. Each model's GPUs stand in
    /// order in an index, so the first of each are enough.
    async fn of_models(
        &self,
        text: &str,
        after: &[u8],
        standing: Option<Standing>,
        limit: u32,
    ) -> Result<Vec<PublicGpu>, StoreError> {
        let models: Vec<i64> = sqlx::query_scalar(
            "SELECT id FROM model WHERE name ILIKE '%' || $1 || '%' ESCAPE '\\' ORDER BY name COLLATE \"C\" LIMIT $2",
        )
        .bind(like(text))
        .bind(MODELS_MAX)
        .fetch_all(&self.pool)
        .await
        .map_err(failed)?;
        if models.is_empty() {
            return Ok(Vec::new());
        }
        let statement = match standing {
            None => sqlx::query(
                "SELECT g.row FROM unnest($1) AS m (id) CROSS JOIN LATERAL (SELECT d.id, d.row FROM gpu d WHERE d.model_id = m.id AND d.id > $2 ORDER BY d.id LIMIT $3) g ORDER BY g.id LIMIT $3",
            ),
            Some(_) => sqlx::query(
                "SELECT g.row FROM unnest($1) AS m (id) CROSS JOIN LATERAL (SELECT d.id, d.row FROM gpu d WHERE d.model_id = m.id AND d.standing = $4 AND d.id > $2 ORDER BY d.id LIMIT $3) g ORDER BY g.id LIMIT $3",
            ),
        };
        let mut statement = statement.bind(models).bind(after.to_vec()).bind(limit as i64 + 1);
        if let Some(standing) = standing {
            statement = statement.bind(standing.as_str());
        }
        let rows = statement.fetch_all(&self.pool).await.map_err(failed)?;
        rows.iter().map(|r| r.json("row")).collect()
    }

    pub(crate) async fn changed_after(
        &self,
        after: (i64, GpuId),
        limit: u32,
    ) -> Result<Vec<(i64, PublicGpu)>, StoreError> {
        let rows =
            sqlx::query("SELECT seq, row FROM gpu WHERE (seq, id) > ($1, $2) ORDER BY seq, id LIMIT $3")
                .bind(after.0)
                .bind(after.1.blob())
                .bind(limit as i64)
                .fetch_all(&self.pool)
                .await
                .map_err(failed)?;
        rows.iter().map(|r| Ok((r.int("seq")? as i64, r.json("row")?))).collect()
    }

    pub(crate) async fn gpu(&self, gpu: GpuId) -> Result<Option<PublicGpu>, StoreError> {
        let row = sqlx::query("SELECT row FROM gpu WHERE id = $1")
            .bind(gpu.blob())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        let mut found: Vec<PublicGpu> = row.iter().map(|r| r.json("row")).collect::<Result<_, _>>()?;
        self.fill(&mut found).await?;
        Ok(found.pop())
    }

    /// Puts in what changes for every GPU all the time, and so is not kept in its row: last beat, the day's
    /// minutes, the season's share.
    async fn fill(&self, gpus: &mut [PublicGpu]) -> Result<(), StoreError> {
        let ids: Vec<Vec<u8>> = gpus.iter().map(|gpu| gpu.id.blob()).collect();
        let now = self.totals().await?.as_of;
        let day_ago = day_before(now);
        let hours = sqlx::query("SELECT gpu, hour, bits FROM uptime WHERE gpu = ANY ($1) AND hour >= $2")
            .bind(&ids)
            .bind(day_ago.hour().0 as i64)
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        let shares = sqlx::query("SELECT gpu, share, held FROM season_share WHERE season = (SELECT max(number) FROM season) AND gpu = ANY ($1)")
            .bind(&ids)
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        fill(gpus, &hours, &shares, now)
    }

    pub(crate) async fn uptime(
        &self,
        gpu: GpuId,
        from: Hour,
        to: Hour,
    ) -> Result<Vec<PublicUptime>, StoreError> {
        let rows = sqlx::query("SELECT hour, bits, late, unchained FROM uptime WHERE gpu = $1 AND hour >= $2 AND hour < $3 ORDER BY hour LIMIT $4")
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
                    unchained: UptimeHour(r.int("unchained")?),
                })
            })
            .collect()
    }

    pub(crate) async fn proofs(&self, gpu: GpuId) -> Result<Vec<PublicProof>, StoreError> {
        let rows = sqlx::query("SELECT row FROM proof WHERE gpu = $1 ORDER BY judged_at DESC, id LIMIT 100")
            .bind(gpu.blob())
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        rows.iter().map(|r| r.json("row")).collect()
    }

    pub(crate) async fn transcript(&self, proof: ProofId) -> Result<Option<Transcript>, StoreError> {
        let row = sqlx::query("SELECT transcript FROM proof WHERE id = $1")
            .bind(proof.blob())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        row.map(|r| r.json_or_none("transcript")).transpose().map(Option::flatten)
    }

    pub(crate) async fn season(&self) -> Result<Option<PublicSeason>, StoreError> {
        let row = sqlx::query("SELECT row FROM season ORDER BY number DESC LIMIT 1")
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        row.map(|r| r.json("row")).transpose()
    }

    pub(crate) async fn snapshots(
        &self,
        season: u32,
        from: u32,
        limit: Option<u32>,
    ) -> Result<SnapshotList, StoreError> {
        let limit = limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
        let rows = sqlx::query(
            "SELECT row FROM snapshot WHERE season = $1 AND period >= $2 ORDER BY period LIMIT $3",
        )
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

    pub(crate) async fn newest_snapshots(
        &self,
        season: u32,
        limit: u32,
    ) -> Result<Vec<PublicSnapshot>, StoreError> {
        let rows = sqlx::query("SELECT row FROM snapshot WHERE season = $1 ORDER BY period DESC LIMIT $2")
            .bind(season as i64)
            .bind(limit.clamp(1, PAGE_MAX) as i64)
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        rows.iter().map(|r| r.json("row")).collect()
    }

    pub(crate) async fn snapshot(
        &self,
        season: u32,
        period: u32,
    ) -> Result<Option<PublicSnapshot>, StoreError> {
        let row = sqlx::query("SELECT row FROM snapshot WHERE season = $1 AND period = $2")
            .bind(season as i64)
            .bind(period as i64)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        row.map(|r| r.json("row")).transpose()
    }

    pub(crate) async fn entries(
        &self,
        season: u32,
        period: u32,
        after: Option<GpuId>,
        limit: u32,
    ) -> Result<Vec<PublicEntry>, StoreError> {
        let limit = limit.clamp(1, ENTRIES_MAX + 1) as usize;
        if let Some(sums) = self.packed(season, period).await? {
            // The least id after `after`, so that what is told already is not told again.
            let mut first = after.map(|gpu| [gpu.blob(), vec![0]].concat()).unwrap_or_default();
            let mut entries = Vec::new();
            loop {
                let rows = limit / GROUP + 2;
                let range = (first, AFTER_ALL.to_vec());
                let (some, is_all) = self.old_entries(season, period, &sums, range, rows).await?;
                entries.extend(some.entries);
                if is_all || entries.len() >= limit {
                    entries.truncate(limit);
                    return Ok(entries);
                }
                first = some.through;
            }
        }
        // The group that `after` is in may go on beyond it; so one more group than the limit fills.
        let rows = sqlx::query("SELECT records FROM entries WHERE season = $1 AND period = $2 AND first >= coalesce((SELECT first FROM entries WHERE season = $1 AND period = $2 AND first <= $3 ORDER BY first DESC LIMIT 1), '') ORDER BY first LIMIT $4")
            .bind(season as i64)
            .bind(period as i64)
            .bind(after.map(|g| g.blob()).unwrap_or_default())
            .bind((limit / GROUP + 2) as i64)
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        let mut entries = Vec::with_capacity(limit.min(rows.len() * GROUP));
        for row in &rows {
            let group = unpacked(&row.bytes("records")?)?;
            entries.extend(group.into_iter().filter(|entry| after.is_none_or(|after| entry.gpu > after)));
        }
        entries.truncate(limit);
        Ok(entries)
    }

    pub(crate) async fn lines(
        &self,
        season: u32,
        period: u32,
        gpus: &[GpuId],
        limit: usize,
    ) -> Result<Vec<(PublicEntry, InclusionProof)>, StoreError> {
        let row = sqlx::query("SELECT row, runs FROM snapshot WHERE season = $1 AND period = $2")
            .bind(season as i64)
            .bind(period as i64)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        let Some(row) = row else { return Ok(Vec::new()) };
        let (head, runs): (PublicSnapshot, _) = (row.json("row")?, runs_of(&row.bytes("runs")?)?);
        let packed = self.packed(season, period).await?;
        let mut lines = Vec::new();
        for (run, gpus) in by_run(&runs, gpus) {
            let first = runs[run].first.blob();
            let end = runs.get(run + 1).map_or(AFTER_ALL.to_vec(), |next| next.first.blob());
            if let Some(sums) = &packed {
                let (some, _) = self.old_entries(season, period, sums, (first, end), usize::MAX >> 1).await?;
                lines.extend(lines_of_run(&runs, run, &grouped(&some.entries), head.gpus, gpus)?);
                if lines.len() >= limit {
                    break;
                }
                continue;
            }
            let rows = sqlx::query("SELECT first, records FROM entries WHERE season = $1 AND period = $2 AND first >= $3 AND first < $4 ORDER BY first")
                .bind(season as i64)
                .bind(period as i64)
                .bind(first)
                .bind(end)
                .fetch_all(&self.pool)
                .await
                .map_err(failed)?;
            lines.extend(lines_of_run(&runs, run, &groups_of(&rows)?, head.gpus, gpus)?);
            if lines.len() >= limit {
                break;
            }
        }
        lines.truncate(limit);
        Ok(lines)
    }

    pub(crate) async fn gpu_entries(
        &self,
        season: u32,
        gpu: GpuId,
        limit: u32,
    ) -> Result<Vec<(u32, PublicEntry)>, StoreError> {
        let periods: Vec<i64> =
            sqlx::query_scalar("SELECT period FROM snapshot WHERE season = $1 ORDER BY period DESC LIMIT $2")
                .bind(season as i64)
                .bind(limit.clamp(1, PAGE_MAX) as i64)
                .fetch_all(&self.pool)
                .await
                .map_err(failed)?;
        let mut found = Vec::new();
        for period in periods {
            let row = sqlx::query("SELECT records FROM entries WHERE season = $1 AND period = $2 AND first <= $3 ORDER BY first DESC LIMIT 1")
                .bind(season as i64)
                .bind(period)
                .bind(gpu.blob())
                .fetch_optional(&self.pool)
                .await
                .map_err(failed)?;
            let Some(row) = row else {
                if let Some(sums) = self.packed(season, period as u32).await? {
                    let end = [gpu.blob(), vec![0]].concat();
                    let range = (gpu.blob(), end);
                    let (some, _) = self.old_entries(season, period as u32, &sums, range, 1).await?;
                    found.extend(some.entries.into_iter().next().map(|entry| (period as u32, entry)));
                }
                continue;
            };
            let entry = unpacked(&row.bytes("records")?)?.into_iter().find(|entry| entry.gpu == gpu);
            found.extend(entry.map(|entry| (period as u32, entry)));
        }
        Ok(found)
    }

    pub(crate) async fn connected_curve(&self) -> Result<Vec<(Minute, u64)>, StoreError> {
        let rows = sqlx::query("SELECT minute, gpus FROM connected ORDER BY minute")
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        rows.iter().map(|r| Ok((Minute(r.int("minute")? as u32), r.int("gpus")?))).collect()
    }

    pub(crate) async fn models(&self) -> Result<Vec<ModelRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT m.name AS model, c.kind, coalesce(sum(c.gpus) FILTER (WHERE c.flags & 1 > 0), 0)::BIGINT AS connected, coalesce(sum(c.gpus) FILTER (WHERE c.flags & 1 > 0 AND c.standing = 'proven'), 0)::BIGINT AS proven, coalesce(sum(c.gpus) FILTER (WHERE c.flags & 2 > 0), 0)::BIGINT AS rentable FROM counted c JOIN model m ON m.id = c.model_id WHERE c.standing <> 'retired' AND c.gpus > 0 GROUP BY m.name, c.kind ORDER BY connected DESC, m.name COLLATE \"C\", c.kind COLLATE \"C\" LIMIT 20",
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
