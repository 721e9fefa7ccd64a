//! Seasons, snapshots and statements.

use futures_util::TryStreamExt;
use gangline_guard::{Permit, act, log::Event};
use gangline_rules::snapshot::{PeriodInput, Run};

use gangline_types::{
    GpuId, Hash, Hour, MicroCredits, Minute, UptimeHour,
    public::{PublicSeason, PublicSnapshot},
};

use sqlx::PgConnection;

use crate::{
    EntryGroup, StoreError, Sums, TakenSnapshot,
    books::snapshot::moves,
    postgres::PostgresStore,
    postgres::audit::audit,
    postgres::log::log_entry,
    postgres::open::commit,
    sql::{Columns, Id, json},
};

impl PostgresStore {
    pub(crate) async fn season(&self) -> Result<Option<PublicSeason>, StoreError> {
        let row = sqlx::query("SELECT * FROM season ORDER BY number DESC LIMIT 1")
            .fetch_optional(&self.pool)
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

    pub(crate) async fn open_season(
        &self,
        permit: &Permit<act::TakeSnapshot>,
        season: &PublicSeason,
    ) -> Result<(), StoreError> {
        let doing = "opening a season";
        let mut tx = self.begin(doing).await?;
        sqlx::query("INSERT INTO season (number, starts, ends, period_minutes, period_budget) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (number) DO NOTHING")
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

    pub(crate) async fn last_snapshot(&self, season: u32) -> Result<Option<PublicSnapshot>, StoreError> {
        let row = sqlx::query("SELECT head FROM snapshot WHERE season = $1 ORDER BY period DESC LIMIT 1")
            .bind(season as i64)
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::sql("reading the last snapshot"))?;
        row.map(|r| r.json("head")).transpose()
    }

    pub(crate) async fn take_snapshot(
        &self,
        permit: Permit<act::TakeSnapshot>,
        season: u32,
        from: Minute,
        to: Minute,
        compute: impl FnOnce(Hash, Vec<PeriodInput>) -> TakenSnapshot + Send,
    ) -> Result<PublicSnapshot, StoreError> {
        let doing = "taking a snapshot";
        let mut tx = self.begin_alone(doing).await?;
        // Waits for credits that have begun, and keeps others from beginning.
        sqlx::query("SELECT pg_advisory_xact_lock(7402260001)")
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let previous =
            sqlx::query("SELECT head FROM snapshot WHERE season = $1 ORDER BY period DESC LIMIT 1")
                .bind(season as i64)
                .fetch_optional(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?
                .map(|r| r.json::<PublicSnapshot>("head"))
                .transpose()?;
        let inputs = period_inputs(&mut tx, from, to).await?;
        let TakenSnapshot { head, runs, groups } =
            compute(previous.map(|p| p.root).unwrap_or_default(), inputs);
        sqlx::query("INSERT INTO snapshot (season, period, head, runs) VALUES ($1, $2, $3, $4)")
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

    pub(crate) async fn season_sums(
        &self,
        permit: &Permit<act::ReadAccount>,
        season: u32,
    ) -> Result<Sums, StoreError> {
        let row = sqlx::query(
            "SELECT coalesce(sum(s.share), 0)::BIGINT AS paid, coalesce(sum(s.held), 0)::BIGINT AS held FROM machine m JOIN gpu g ON g.machine = m.id JOIN season_share s ON s.season = $1 AND s.gpu = g.id WHERE m.account = $2",
        )
        .bind(season as i64)
        .bind(permit.on().account.blob())
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::sql("adding a statement up"))?;
        Ok(Sums { paid: MicroCredits(row.int("paid")?), held: MicroCredits(row.int("held")?) })
    }

    pub(crate) async fn gpu_ids_of(
        &self,
        permit: &Permit<act::ReadAccount>,
    ) -> Result<Vec<GpuId>, StoreError> {
        let rows = sqlx::query(
            "SELECT g.id FROM gpu g JOIN machine m ON m.id = g.machine WHERE m.account = $1 ORDER BY g.id",
        )
        .bind(permit.on().account.blob())
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::sql("listing an account's GPUs"))?;
        rows.iter().map(|r| r.id("id")).collect()
    }
}

/// Writes one group of entries down, and adds its shares to the season's sums.
async fn write_group(
    tx: &mut PgConnection,
    season: u32,
    period: u32,
    group: &EntryGroup,
    doing: &'static str,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO entries (season, period, first, records) VALUES ($1, $2, $3, $4)")
        .bind(season as i64)
        .bind(period as i64)
        .bind(group.first.blob())
        .bind(&group.records)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
    let moves = moves(&group.records)?;
    for (gpus, sql) in [
        (
            &moves.cleared,
            "UPDATE season_share SET share = share + held, held = 0 WHERE held > 0 AND gpu = ANY ($1)",
        ),
        (&moves.lost, "UPDATE season_share SET held = 0 WHERE held > 0 AND gpu = ANY ($1)"),
    ] {
        move_held(tx, gpus, sql, doing).await?;
    }
    for (shares, sql) in [
        (
            &moves.paid,
            "INSERT INTO season_share AS s (season, gpu, share) SELECT $1, n.gpu, n.share FROM unnest($2, $3) AS n (gpu, share) ON CONFLICT (season, gpu) DO UPDATE SET share = s.share + excluded.share",
        ),
        (
            &moves.held,
            "INSERT INTO season_share AS s (season, gpu, share, held) SELECT $1, n.gpu, 0, n.share FROM unnest($2, $3) AS n (gpu, share) ON CONFLICT (season, gpu) DO UPDATE SET held = s.held + excluded.held",
        ),
    ] {
        add_shares(tx, season as i64, shares, sql, doing).await?;
    }
    Ok(())
}

/// Moves what is held for these GPUs.
pub(super) async fn move_held(
    tx: &mut PgConnection,
    gpus: &[GpuId],
    sql: &'static str,
    doing: &'static str,
) -> Result<(), StoreError> {
    if gpus.is_empty() {
        return Ok(());
    }
    let gpus: Vec<Vec<u8>> = gpus.iter().map(GpuId::blob).collect();
    sqlx::query(sql).bind(gpus).execute(tx).await.map_err(StoreError::sql(doing))?;
    Ok(())
}

/// Adds shares to a season's sums.
pub(super) async fn add_shares(
    tx: &mut PgConnection,
    season: i64,
    shares: &[(GpuId, u64)],
    sql: &'static str,
    doing: &'static str,
) -> Result<(), StoreError> {
    if shares.is_empty() {
        return Ok(());
    }
    let (gpus, shares): (Vec<Vec<u8>>, Vec<i64>) =
        shares.iter().map(|(gpu, share)| (gpu.blob(), *share as i64)).unzip();
    sqlx::query(sql)
        .bind(season)
        .bind(gpus)
        .bind(shares)
        .execute(tx)
        .await
        .map_err(StoreError::sql(doing))?;
    Ok(())
}

async fn period_inputs(
    tx: &mut PgConnection,
    from: Minute,
    to: Minute,
) -> Result<Vec<PeriodInput>, StoreError> {
    let doing = "reading a period's uptime";
    // One row after another: those of everybody at once are some hundred megabytes.
    let mut rows = sqlx::query(
        "SELECT u.gpu, u.hour, u.bits & ~u.late AS bits, g.standing, g.matrix_mmacs, g.proof FROM uptime u JOIN gpu g ON g.id = u.gpu WHERE u.hour >= $1 AND u.hour <= $2 ORDER BY u.gpu",
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
