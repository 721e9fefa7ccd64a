//! Seasons, snapshots and statements.

use gangline_guard::{Permit, act, log::Event};
use gangline_rules::snapshot::PeriodInput;
use gangline_types::{
    GpuId, Hash, Hour, MicroCredits, Minute, Share, UptimeHour,
    public::{PublicEntry, PublicSeason, PublicSnapshot},
};

use crate::{
    StoreError,
    sql::{Columns, Id, json},
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
        compute: impl FnOnce(Hash, Vec<PeriodInput>) -> (PublicSnapshot, Vec<PublicEntry>) + Send,
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
        let (head, entries) = compute(previous.map(|p| p.root).unwrap_or_default(), inputs);
        sqlx::query("INSERT INTO snapshot (season, period, head) VALUES (?, ?, ?)")
            .bind(head.season as i64)
            .bind(head.period as i64)
            .bind(json(&head))
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        for entry in &entries {
            sqlx::query("INSERT INTO entry (season, period, gpu, share, entry) VALUES (?, ?, ?, ?, ?)")
                .bind(head.season as i64)
                .bind(head.period as i64)
                .bind(entry.gpu.blob())
                .bind(entry.share.0 as i64)
                .bind(json(entry))
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        let event = Event::Snapshot { season: head.season, period: head.period, root: head.root };
        log_entry(&mut tx, &permit, event, "").await?;
        audit(&mut tx, &permit, &format!("season {} period {} root {}", head.season, head.period, head.root))
            .await?;
        commit(tx, doing).await?;
        Ok(head)
    }

    /// The account's sum over a season.
    pub async fn season_total(
        &self,
        permit: &Permit<act::ReadAccount>,
        season: u32,
    ) -> Result<Share, StoreError> {
        let sum: i64 = sqlx::query_scalar(
            "SELECT coalesce(sum(e.share), 0) FROM entry e JOIN gpu g ON g.id = e.gpu JOIN machine m ON m.id = g.machine WHERE m.account = ? AND e.season = ?",
        )
        .bind(permit.on().account.blob())
        .bind(season as i64)
        .fetch_one(&self.read)
        .await
        .map_err(StoreError::sql("adding a statement up"))?;
        Ok(MicroCredits(sum as u64))
    }

    /// Which of the account's GPUs have an entry in a season's periods `from..=to`, oldest first.
    pub async fn account_entries(
        &self,
        permit: &Permit<act::ReadAccount>,
        season: u32,
        from: u32,
        to: u32,
    ) -> Result<Vec<(u32, PublicEntry)>, StoreError> {
        let rows = sqlx::query(
            "SELECT e.period, e.entry FROM entry e JOIN gpu g ON g.id = e.gpu JOIN machine m ON m.id = g.machine WHERE m.account = ? AND e.season = ? AND e.period BETWEEN ? AND ? ORDER BY e.period, e.gpu",
        )
        .bind(permit.on().account.blob())
        .bind(season as i64)
        .bind(from as i64)
        .bind(to as i64)
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::sql("reading a statement"))?;
        rows.iter().map(|r| Ok((r.int("period")? as u32, r.json("entry")?))).collect()
    }
}

async fn period_inputs(
    tx: &mut sqlx::SqliteConnection,
    from: Minute,
    to: Minute,
) -> Result<Vec<PeriodInput>, StoreError> {
    let rows = sqlx::query(
        "SELECT u.gpu, u.hour, u.bits & ~u.late AS bits, g.standing, g.matrix_mmacs, g.proof FROM uptime u JOIN gpu g ON g.id = u.gpu WHERE u.hour >= ? AND u.hour <= ? ORDER BY u.gpu",
    )
    .bind(from.hour().0 as i64)
    .bind(to.hour().0 as i64)
    .fetch_all(tx)
    .await
    .map_err(StoreError::sql("reading a period's uptime"))?;
    let mut inputs: Vec<PeriodInput> = Vec::new();
    for row in rows {
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
