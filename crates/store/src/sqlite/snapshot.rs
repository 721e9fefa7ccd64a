//! Seasons, snapshots and statements.

use futures_util::TryStreamExt;
use gangline_guard::{Permit, act, log::Event};
use gangline_rules::snapshot::{PeriodInput, Run};
use gangline_types::{
    GpuId, Hash, Hour, MicroCredits, Minute, UptimeHour,
    public::{PublicSeason, PublicSnapshot},
};

use crate::{
    EntryGroup, StoreError, Sums, TakenSnapshot,
    books::snapshot::{Moves, moves},
    sql::{Columns, Id, json, packed},
    sqlite::SqliteStore,
    sqlite::audit::audit,
    sqlite::log::log_entry,
    sqlite::open::commit,
};

impl SqliteStore {
    /// The newest season.
    pub async fn season(&self) -> Result<Option<PublicSeason>, StoreError> {
        let row = sqlx::query("SELECT * FROM season ORDER BY number DESC LIMIT 1")
            .fetch_optional(&self.read)
            .await
            .map_err(StoreError::sql("reading the season"))?;
        row.map(|r| {
            Ok(PublicSeason {
                number: r.int("number")? as u32,
                starts: Minute(r.int("starts")? as u32),
                ends: Minute(r.int("ends")? as u32),
                period_minutes: r.int("period_minutes")? as u32,
                period_budget: MicroCredits(r.int("period_budget")?),
            })
        })
        .transpose()
    }

    /// Opens a season; one that exists is left as it is.
    pub async fn open_season(
        &self,
        permit: &Permit<act::TakeSnapshot>,
        season: &PublicSeason,
    ) -> Result<(), StoreError> {
        let doing = "opening a season";
        let mut tx = self.begin(doing).await?;
        sqlx::query("INSERT INTO season (number, starts, ends, period_minutes, period_budget) VALUES (?, ?, ?, ?, ?) ON CONFLICT (number) DO NOTHING")
            .bind(season.number as i64)
            .bind(season.starts.0 as i64)
            .bind(season.ends.0 as i64)
            .bind(season.period_minutes as i64)
            .bind(season.period_budget.0 as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        audit(&mut tx, permit, &format!("season {}", season.number)).await?;
        commit(tx, doing).await
    }

    /// The last snapshot of a season.
    pub async fn last_snapshot(&self, season: u32) -> Result<Option<PublicSnapshot>, StoreError> {
        let row = sqlx::query("SELECT head FROM snapshot WHERE season = ? ORDER BY period DESC LIMIT 1")
            .bind(season as i64)
            .fetch_optional(&self.read)
            .await
            .map_err(StoreError::sql("reading the last snapshot"))?;
        row.map(|r| r.json("head")).transpose()
    }

    /// Takes the snapshot of one period, in one transaction with the reading of its uptime, so that a beat
    /// is either counted in it or marked late. `compute` gets the previous root and every GPU with a
    /// counted minute in `from..to`. A period has one snapshot and keeps it.
    pub async fn take_snapshot(
        &self,
        permit: Permit<act::TakeSnapshot>,
        season: u32,
        from: Minute,
        to: Minute,
        compute: impl FnOnce(Hash, Vec<PeriodInput>) -> TakenSnapshot + Send,
    ) -> Result<PublicSnapshot, StoreError> {
        let doing = "taking a snapshot";
        let mut tx = self.begin(doing).await?;
        let previous = sqlx::query("SELECT head FROM snapshot WHERE season = ? ORDER BY period DESC LIMIT 1")
            .bind(season as i64)
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?
            .map(|r| r.json::<PublicSnapshot>("head"))
            .transpose()?;
        let inputs = period_inputs(&mut tx, from, to).await?;
        let TakenSnapshot { head, runs, groups } =
            compute(previous.map(|p| p.root).unwrap_or_default(), inputs);
        sqlx::query("INSERT INTO snapshot (season, period, head, runs) VALUES (?, ?, ?, ?)")
            .bind(head.season as i64)
            .bind(head.period as i64)
            .bind(json(&head))
            .bind(Run::pack(&runs))
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        for group in &groups {
            write_group(&mut tx, head.season, head.period, group, doing).await?;
        }
        let event = Event::Snapshot { season: head.season, period: head.period, root: head.root };
        log_entry(&mut tx, &permit, event, "").await?;
        audit(&mut tx, &permit, &format!("season {} period {} root {}", head.season, head.period, head.root))
            .await?;
        commit(tx, doing).await?;
        Ok(head)
    }

    /// The account's sums over a season.
    pub async fn season_sums(
        &self,
        permit: &Permit<act::ReadAccount>,
        season: u32,
    ) -> Result<Sums, StoreError> {
        let row = sqlx::query(
            "SELECT coalesce(sum(s.share), 0) AS paid, coalesce(sum(s.held), 0) AS held FROM machine m CROSS JOIN gpu g ON g.machine = m.id CROSS JOIN season_share s ON s.season = ? AND s.gpu = g.id WHERE m.account = ?",
        )
        .bind(season as i64)
        .bind(permit.on().account.blob())
        .fetch_one(&self.read)
        .await
        .map_err(StoreError::sql("adding a statement up"))?;
        Ok(Sums { paid: MicroCredits(row.int("paid")?), held: MicroCredits(row.int("held")?) })
    }

    /// The account's GPUs, in the order of ids.
    pub async fn gpu_ids_of(&self, permit: &Permit<act::ReadAccount>) -> Result<Vec<GpuId>, StoreError> {
        let rows = sqlx::query(
            "SELECT g.id FROM gpu g JOIN machine m ON m.id = g.machine WHERE m.account = ? ORDER BY g.id",
        )
        .bind(permit.on().account.blob())
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::sql("listing an account's GPUs"))?;
        rows.iter().map(|r| r.id("id")).collect()
    }
}

/// Writes one group of entries down, and adds its shares to the season's sums: in the books and in the public
/// projection alike.
pub(crate) async fn write_group(
    tx: &mut sqlx::SqliteConnection,
    season: u32,
    period: u32,
    group: &EntryGroup,
    doing: &'static str,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO entries (season, period, first, records) VALUES (?, ?, ?, ?)")
        .bind(season as i64)
        .bind(period as i64)
        .bind(group.first.blob())
        .bind(&group.records)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
    let Moves { paid, held, cleared, lost } = moves(&group.records)?;
    const CLEARED: &str = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE (i + 1) * 16 < length(?1)) UPDATE season_share SET share = share + held, held = 0 WHERE held > 0 AND gpu IN (SELECT substr(?1, 1 + 16 * i, 16) FROM n)";
    const LOST: &str = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE (i + 1) * 16 < length(?1)) UPDATE season_share SET held = 0 WHERE held > 0 AND gpu IN (SELECT substr(?1, 1 + 16 * i, 16) FROM n)";
    for (gpus, sql) in [(&cleared, CLEARED), (&lost, LOST)] {
        if !gpus.is_empty() {
            sqlx::query(sql).bind(packed(gpus)).execute(&mut *tx).await.map_err(StoreError::sql(doing))?;
        }
    }
    const PAID: &str = "INSERT INTO season_share (season, gpu, share) SELECT ?1, substr(?2, 1 + 16 * j.key, 16), j.value FROM json_each(?3) j WHERE true ON CONFLICT (season, gpu) DO UPDATE SET share = share + excluded.share";
    const HELD: &str = "INSERT INTO season_share (season, gpu, share, held) SELECT ?1, substr(?2, 1 + 16 * j.key, 16), 0, j.value FROM json_each(?3) j WHERE true ON CONFLICT (season, gpu) DO UPDATE SET held = held + excluded.held";
    for (shares, sql) in [(paid, PAID), (held, HELD)] {
        if shares.is_empty() {
            continue;
        }
        let (gpus, shares): (Vec<GpuId>, Vec<u64>) = shares.into_iter().unzip();
        sqlx::query(sql)
            .bind(season as i64)
            .bind(packed(&gpus))
            .bind(json(&shares))
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
    }
    Ok(())
}

async fn period_inputs(
    tx: &mut sqlx::SqliteConnection,
    from: Minute,
    to: Minute,
) -> Result<Vec<PeriodInput>, StoreError> {
    let doing = "reading a period's uptime";
    // One row after another: those of everybody at once are some hundred megabytes.
    let mut rows = sqlx::query(
        "SELECT u.gpu, u.hour, u.bits & ~u.late AS bits, g.standing, g.matrix_mmacs, g.proof FROM uptime u JOIN gpu g ON g.id = u.gpu WHERE u.hour >= ? AND u.hour <= ? ORDER BY u.gpu",
    )
    .bind(from.hour().0 as i64)
    // An hour that begins where the period ends has nothing of it.
    .bind(Minute(to.0.saturating_sub(1)).hour().0 as i64)
    .fetch(tx);
    let mut inputs: Vec<PeriodInput> = Vec::new();
    while let Some(row) = rows.try_next().await.map_err(StoreError::sql(doing))? {
        let gpu: GpuId = row.id("gpu")?;
        let minutes = UptimeHour(row.int("bits")?).minutes_within(Hour(row.int("hour")? as u32), from, to);
        if minutes == 0 {
            continue;
        }
        match inputs.last_mut() {
            Some(last) if last.gpu == gpu => last.minutes += minutes,
            _ => inputs.push(PeriodInput {
                gpu,
                standing: row.word("standing")?,
                matrix_mmacs: row.int("matrix_mmacs")?,
                proof: row.id_or_none("proof")?,
                minutes,
            }),
        }
    }
    Ok(inputs)
}
