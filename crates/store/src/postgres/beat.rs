//! Lanes, chains and the fold of beats into uptime hours: the fold by the intake's role, which can call that function
//! and touch no table.

use std::collections::BTreeMap;

use gangline_guard::{Permit, act};
use gangline_types::{
    GpuId, Hash, Hour, MachineId, Minute, UnixSeconds, UptimeHour,
    public::{PublicChain, PublicLink},
};
use gangline_wire::beat::{Alias, Epoch, Preimage};

use crate::{
    StoreError,
    books::beat::{CHAINS_AT_ONCE, Fold, FoldedHour, FoldedLink, LaneRow, lane_row},
    postgres::{PostgresPublic, PostgresStore},
    sql::{Columns, Id},
};

fn value(bytes: Vec<u8>) -> Result<Preimage, StoreError> {
    bytes.try_into().map(Preimage).map_err(|_| StoreError::Malformed("a chain's value".into()))
}

impl PostgresStore {
    pub(crate) async fn lanes(&self, from: Epoch) -> Result<Vec<LaneRow>, StoreError> {
        let rows = sqlx::query("SELECT l.alias, l.epoch, l.machine, l.account, l.key, l.gpus FROM beat_lane l JOIN key k ON k.id = l.key WHERE l.epoch >= $1 AND k.revoked_at IS NULL")
            .bind(i64::from(from.0))
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::sql("reading the lanes of beats"))?;
        rows.iter().map(lane_row).collect()
    }

    pub(crate) async fn lanes_opened(&self, since: UnixSeconds) -> Result<Vec<LaneRow>, StoreError> {
        let rows = sqlx::query("SELECT l.alias, l.epoch, l.machine, l.account, l.key, l.gpus FROM beat_lane l JOIN key k ON k.id = l.key WHERE l.opened_at >= $1 AND l.opened_by IS DISTINCT FROM $2 AND k.revoked_at IS NULL")
            .bind(since.0 as i64)
            .bind(self.replica.to_vec())
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::sql("looking which lanes others opened"))?;
        rows.iter().map(lane_row).collect()
    }

    pub(crate) async fn newest_links(
        &self,
        chains: &[(GpuId, Preimage)],
        from: Hour,
    ) -> Result<Vec<FoldedLink>, StoreError> {
        let mut found = Vec::with_capacity(chains.len());
        for some in chains.chunks(CHAINS_AT_ONCE) {
            let rows = sqlx::query("SELECT l.* FROM unnest($1, $2) AS n (gpu, tip) CROSS JOIN LATERAL (SELECT gpu, hour, tip, count, preimage FROM uptime_link x WHERE x.gpu = n.gpu AND x.tip = n.tip AND x.hour >= $3 ORDER BY x.hour DESC LIMIT 1) AS l")
                .bind(some.iter().map(|(gpu, _)| gpu.blob()).collect::<Vec<_>>())
                .bind(some.iter().map(|(_, tip)| tip.0.to_vec()).collect::<Vec<_>>())
                .bind(i64::from(from.0))
                .fetch_all(&self.pool)
                .await
                .map_err(StoreError::sql("reading chains of uptime"))?;
            for row in &rows {
                found.push(FoldedLink {
                    gpu: row.id("gpu")?,
                    hour: Hour(row.int("hour")? as u32),
                    tip: value(row.bytes("tip")?)?,
                    count: row.int("count")? as u16,
                    preimage: value(row.bytes("preimage")?)?,
                });
            }
        }
        Ok(found)
    }

    pub(crate) async fn ended_lanes(&self, since: UnixSeconds) -> Result<Vec<Alias>, StoreError> {
        let rows = sqlx::query(
            "SELECT l.alias FROM key k JOIN beat_lane l ON l.key = k.id WHERE k.revoked_at >= $1",
        )
        .bind(since.0 as i64)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::sql("looking for lanes that have ended"))?;
        rows.iter().map(|r| Ok(Alias(r.int("alias")?))).collect()
    }

    pub(crate) async fn fold(
        &self,
        permit: &Permit<act::Reconcile>,
        fold: &Fold,
    ) -> Result<Vec<MachineId>, StoreError> {
        let now = permit.at();
        let newest = |row: &FoldedHour| Minute(row.hour.start().0 + 63 - row.bits.0.leading_zeros().min(63));
        let hours = || fold.hours.iter();
        let links = || fold.links.iter();
        sqlx::query("SELECT fold($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)")
            .bind(now.0 as i64)
            .bind(hours().map(|row| row.gpu.blob()).collect::<Vec<_>>())
            .bind(hours().map(|row| i64::from(row.hour.0)).collect::<Vec<_>>())
            .bind(hours().map(|row| row.bits.0 as i64).collect::<Vec<_>>())
            .bind(hours().map(|row| row.unchained.0 as i64).collect::<Vec<_>>())
            .bind(
                hours()
                    .map(|row| newest(row).start().plus(59).min(fold.taken_at).min(now).0 as i64)
                    .collect::<Vec<_>>(),
            )
            .bind(links().map(|link| link.gpu.blob()).collect::<Vec<_>>())
            .bind(links().map(|link| i64::from(link.hour.0)).collect::<Vec<_>>())
            .bind(links().map(|link| link.tip.0.to_vec()).collect::<Vec<_>>())
            .bind(links().map(|link| i64::from(link.count)).collect::<Vec<_>>())
            .bind(links().map(|link| link.preimage.0.to_vec()).collect::<Vec<_>>())
            .bind(fold.up.iter().map(|(hour, _)| i64::from(hour.0)).collect::<Vec<_>>())
            .bind(fold.up.iter().map(|(_, bits)| bits.0 as i64).collect::<Vec<_>>())
            .execute(&self.intake)
            .await
            .map_err(StoreError::sql("folding beats into uptime"))?;
        Ok(Vec::new())
    }

    /// Folding has noted it.
    pub(crate) async fn note_beating(
        &self,
        _: &Permit<act::Reconcile>,
        _: &[MachineId],
    ) -> Result<(), StoreError> {
        Ok(())
    }

    /// Who came is found by their beat; whether somebody is silent no server knows alone.
    pub(crate) async fn turned(
        &self,
        _: &Permit<act::Reconcile>,
        _: &[GpuId],
        _: &[GpuId],
        _: UnixSeconds,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    pub(crate) async fn forget_lanes(
        &self,
        _: &Permit<act::Reconcile>,
        before: Epoch,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM beat_lane WHERE epoch < $1")
            .bind(i64::from(before.0))
            .execute(&self.pool)
            .await
            .map_err(StoreError::sql("forgetting old lanes of beats"))?;
        Ok(())
    }

    pub(crate) async fn intake_up(
        &self,
        from: Hour,
        to: Hour,
    ) -> Result<Vec<(Hour, UptimeHour)>, StoreError> {
        let rows = sqlx::query("SELECT hour, bits FROM intake_up WHERE hour BETWEEN $1 AND $2 ORDER BY hour")
            .bind(i64::from(from.0))
            .bind(i64::from(to.0))
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::sql("reading when the intake was up"))?;
        rows.iter().map(|r| Ok((Hour(r.int("hour")? as u32), UptimeHour(r.int("bits")?)))).collect()
    }
}

impl PostgresPublic {
    pub(crate) async fn chains(
        &self,
        gpu: GpuId,
        from: Hour,
        to: Hour,
    ) -> Result<Vec<PublicChain>, StoreError> {
        let rows = sqlx::query("SELECT c.starts, c.tip, c.public_key, c.signature, l.hour, l.count, l.preimage FROM uptime_chain c JOIN (SELECT tip, hour, count, preimage FROM uptime_link WHERE gpu = $1 AND hour >= $2 AND hour < $3 UNION ALL SELECT tip, day * 24, count, preimage FROM uptime_shown WHERE gpu = $1 AND day >= $2 / 24 AND day * 24 < $3) l ON l.tip = c.tip WHERE c.gpu = $1 ORDER BY c.starts, c.tip, l.hour LIMIT 5000")
            .bind(gpu.blob())
            .bind(i64::from(from.0))
            .bind(i64::from(to.0))
            .fetch_all(self.pool())
            .await
            .map_err(StoreError::sql("reading chains of uptime"))?;
        let mut chains: BTreeMap<(u32, Vec<u8>), PublicChain> = BTreeMap::new();
        for row in &rows {
            let (starts, tip) = (row.int("starts")? as u32, row.bytes("tip")?);
            let link = PublicLink {
                hour: Hour(row.int("hour")? as u32),
                count: row.int("count")? as u16,
                preimage: value(row.bytes("preimage")?)?.to_string(),
            };
            let key: Hash = row.hash("public_key")?;
            let signature: String = row.bytes("signature")?.iter().map(|b| format!("{b:02x}")).collect();
            chains
                .entry((starts, tip.clone()))
                .or_insert_with(|| PublicChain {
                    starts: Minute(starts),
                    tip: Preimage(tip.try_into().unwrap_or_default()).to_string(),
                    public_key: key,
                    signature,
                    links: Vec::new(),
                })
                .links
                .push(link);
        }
        Ok(chains.into_values().take(200).collect())
    }

    pub(crate) async fn intake_up(
        &self,
        from: Hour,
        to: Hour,
    ) -> Result<Vec<(Hour, UptimeHour)>, StoreError> {
        let rows =
            sqlx::query("SELECT hour, bits FROM intake_up WHERE hour >= $1 AND hour < $2 ORDER BY hour")
                .bind(i64::from(from.0))
                .bind(i64::from(to.0))
                .fetch_all(self.pool())
                .await
                .map_err(StoreError::sql("reading when the intake was up"))?;
        rows.iter().map(|r| Ok((Hour(r.int("hour")? as u32), UptimeHour(r.int("bits")?)))).collect()
    }
}
