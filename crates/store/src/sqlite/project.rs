//! Filling the public projection: from the books into rows that hold no owner. This is the one place
//! where private and public rows meet, and it goes one way.

use gangline_guard::{Permit, act};
use gangline_types::AdapterKind;
use gangline_types::Standing;
use gangline_types::{
    GpuId, Minute, ProofId, Text, UnixSeconds,
    public::{NetworkTotals, PublicGpu, PublicProof, PublicSeason},
};
use gangline_wire::api::proof::Transcript;
use sqlx::sqlite::SqliteRow;

use crate::{
    Projected, StoreError,
    sql::{Columns, Id, json},
    sqlite::SqliteStore,
    sqlite::machine::gpu_row,
};

/// A GPU counts as connected for this long after its last beat, in seconds: three missed beats.
const CONNECTED_SECONDS: u64 = 180;
/// How far back uptime can still change: the late window and an hour.
const HOURS_THAT_CHANGE: u32 = 8;
/// Minutes of the curve of connected GPUs that are kept: a day.
const CURVE_MINUTES: u32 = 24 * 60;

/// The transcript of a judged proof as it is published; none if the proof was never opened.
pub(crate) fn transcript_of(row: &SqliteRow) -> Result<Option<Transcript>, StoreError> {
    let parts = (row.json_or_none("commitment")?, row.hash("nonce").ok(), row.json_or_none("opening")?);
    let (Some(commitment), Some(nonce), Some(opening)) = parts else { return Ok(None) };
    Ok(Some(Transcript {
        proof: row.id("id")?,
        gpu: row.id("gpu")?,
        challenge: row.json("challenge")?,
        commitment,
        nonce,
        opening,
        elapsed_millis: row.int_or_none("elapsed_millis")?.unwrap_or(0),
        judged_at: row.at("judged_at")?,
        accepted: row.int_or_none("accepted")? == Some(1),
        finding: Text::lossy(&row.text("finding")?),
    }))
}

impl SqliteStore {
    /// Brings the public projection up to date.
    pub async fn project(&self, permit: &Permit<act::Project>) -> Result<Projected, StoreError> {
        let doing = "filling the public projection";
        let now = permit.at();
        let gpus = self.public_gpus(now).await?;
        let mut totals = NetworkTotals { as_of: now, ..Default::default() };
        for gpu in gpus.iter().filter(|g| g.standing != Standing::Retired) {
            totals.registered += 1;
            totals.connected += gpu.connected as u64;
            totals.proven += (gpu.connected && gpu.standing == Standing::Proven) as u64;
            totals.rentable += gpu.rentable as u64;
            totals.hired += gpu.hired as u64;
            totals.software_devices += (gpu.connected && gpu.kind == AdapterKind::Software) as u64;
        }

        let mut tx = self.public_write.begin().await.map_err(StoreError::sql(doing))?;
        let mut changed = Vec::new();
        for gpu in gpus {
            let before = sqlx::query("SELECT row FROM gpu WHERE id = ?")
                .bind(gpu.id.blob())
                .fetch_optional(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?
                .map(|r| r.json::<PublicGpu>("row"))
                .transpose()?;
            if before.as_ref() == Some(&gpu) {
                continue;
            }
            sqlx::query("INSERT INTO gpu (id, id_text, model, standing, row) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET model = excluded.model, standing = excluded.standing, row = excluded.row")
                .bind(gpu.id.blob())
                .bind(gpu.id.to_string())
                .bind(gpu.model.as_str())
                .bind(gpu.standing.as_str())
                .bind(json(&gpu))
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
            if before.is_none_or(|b| {
                (b.standing, b.connected, b.rentable, b.hired)
                    != (gpu.standing, gpu.connected, gpu.rentable, gpu.hired)
            }) {
                changed.push(gpu);
            }
        }
        self.project_uptime(&mut tx, now).await?;
        self.project_proofs(&mut tx).await?;
        self.project_snapshots(&mut tx).await?;
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
        tx.commit().await.map_err(StoreError::sql(doing))?;
        Ok(Projected { totals, changed })
    }

    async fn public_gpus(&self, now: UnixSeconds) -> Result<Vec<PublicGpu>, StoreError> {
        let doing = "reading GPUs for the public projection";
        let day_ago = Minute(now.minute().0.saturating_sub(24 * 60));
        let rows = sqlx::query(
            "SELECT g.*, m.account, m.paused, m.left_at, EXISTS (SELECT 1 FROM cluster c WHERE c.gpu = g.id AND c.state IN ('requested', 'starting', 'running', 'releasing')) AS hired, (SELECT coalesce(sum(e.share), 0) FROM entry e WHERE e.gpu = g.id AND e.season = (SELECT max(number) FROM season)) AS share FROM gpu g JOIN machine m ON m.id = g.machine ORDER BY g.id",
        )
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::sql(doing))?;
        let uptime = sqlx::query("SELECT gpu, hour, bits FROM uptime WHERE hour >= ? ORDER BY gpu")
            .bind(day_ago.hour().0 as i64)
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql(doing))?;
        let mut minutes: std::collections::HashMap<GpuId, u32> = std::collections::HashMap::new();
        for row in uptime {
            let bits = gangline_types::UptimeHour(row.int("bits")?);
            let hour = gangline_types::Hour(row.int("hour")? as u32);
            *minutes.entry(row.id("gpu")?).or_default() +=
                bits.minutes_within(hour, day_ago, Minute(now.minute().0 + 1));
        }
        rows.iter()
            .map(|r| {
                let gpu = gpu_row(r)?;
                let hired = r.int("hired")? == 1;
                let here = r.int("present")? == 1 && r.int_or_none("left_at")?.is_none();
                let connected = here && gpu.beat_at.0 > 0 && now.since(gpu.beat_at) <= CONNECTED_SECONDS;
                let proven = gpu.standing == Standing::Proven;
                Ok(PublicGpu {
                    id: gpu.resource.gpu,
                    label: gpu.label,
                    model: gpu.claim.model,
                    kind: gpu.claim.kind,
                    backend: gpu.claim.backend,
                    memory_bytes: gpu.claim.memory_bytes,
                    standing: gpu.standing,
                    standing_reason: gpu.reason,
                    profile: gpu.profile,
                    connected,
                    rentable: connected && proven && gpu.offer.is_some() && !hired && r.int("paused")? == 0,
                    hired,
                    registered_at: r.at("registered_at")?,
                    last_beat_at: gpu.beat_at,
                    last_proof_at: r.at("proof_at")?,
                    uptime_minutes_day: minutes.get(&gpu.resource.gpu).copied().unwrap_or(0),
                    season_share: r.money("share")?,
                })
            })
            .collect()
    }

    async fn project_uptime(
        &self,
        tx: &mut sqlx::SqliteConnection,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let doing = "copying uptime to the public projection";
        let from = now.minute().hour().0.saturating_sub(HOURS_THAT_CHANGE);
        let rows = sqlx::query("SELECT gpu, hour, bits, late FROM uptime WHERE hour >= ?")
            .bind(from as i64)
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql(doing))?;
        for row in rows {
            sqlx::query("INSERT INTO uptime (gpu, hour, bits, late) VALUES (?, ?, ?, ?) ON CONFLICT (gpu, hour) DO UPDATE SET bits = excluded.bits, late = excluded.late WHERE bits <> excluded.bits")
                .bind(row.id::<GpuId>("gpu")?.blob())
                .bind(row.int("hour")? as i64)
                .bind(row.int("bits")? as i64)
                .bind(row.int("late")? as i64)
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
            let challenge: gangline_proof::Challenge = row.json("challenge")?;
            let accepted = row.int_or_none("accepted")? == Some(1);
            let outcome: gangline_rules::standing::Outcome = row.json("outcome")?;
            let finding = gangline_types::Text::lossy(&row.text("finding")?);
            let elapsed_millis = row.int_or_none("elapsed_millis")?.unwrap_or(0);
            let (proof, gpu, judged_at): (ProofId, GpuId, UnixSeconds) =
                (row.id("id")?, row.id("gpu")?, row.at("judged_at")?);
            let public = PublicProof {
                id: proof,
                gpu,
                judged_at,
                accepted,
                finding,
                asked: gangline_types::Text::lossy(&format!(
                    "{} x {}",
                    challenge.params.n, challenge.params.steps
                )),
                elapsed_millis,
                profile: outcome.verdict.as_ref().map(|shown| shown.profile()).unwrap_or_default(),
            };
            let transcript = transcript_of(&row)?;
            sqlx::query("INSERT INTO proof (id, gpu, judged_at, row, transcript) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING")
                .bind(proof.blob())
                .bind(gpu.blob())
                .bind(judged_at.0 as i64)
                .bind(json(&public))
                .bind(transcript.as_ref().map(json))
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        Ok(())
    }

    async fn project_snapshots(&self, tx: &mut sqlx::SqliteConnection) -> Result<(), StoreError> {
        let doing = "copying snapshots to the public projection";
        let Some(season) = self.season().await? else { return Ok(()) };
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
            "SELECT period, head FROM snapshot WHERE season = ? AND period > ? ORDER BY period LIMIT 200",
        )
        .bind(number)
        .bind(last)
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::sql(doing))?;
        for row in rows {
            let period = row.int("period")? as i64;
            sqlx::query("INSERT INTO snapshot (season, period, row) VALUES (?, ?, ?)")
                .bind(number)
                .bind(period)
                .bind(row.text("head")?)
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
            let entries = sqlx::query("SELECT gpu, entry FROM entry WHERE season = ? AND period = ?")
                .bind(number)
                .bind(period)
                .fetch_all(&self.read)
                .await
                .map_err(StoreError::sql(doing))?;
            for entry in entries {
                sqlx::query("INSERT INTO entry (season, period, gpu, row) VALUES (?, ?, ?, ?)")
                    .bind(number)
                    .bind(period)
                    .bind(entry.id::<GpuId>("gpu")?.blob())
                    .bind(entry.text("entry")?)
                    .execute(&mut *tx)
                    .await
                    .map_err(StoreError::sql(doing))?;
            }
        }
        Ok(())
    }
}
