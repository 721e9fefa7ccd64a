//! What is asked for many at once, in PostgreSQL: each with one statement, its rows locked in the order of ids.

use std::collections::{BTreeMap, HashMap};

use gangline_guard::{Fresh, KeyRecord, Permit, act};
use gangline_types::{GpuId, KeyId, MachineId};
use gangline_wire::beat::Alias;

use crate::{
    SequenceError, StoreError,
    books::{
        beat::Opening,
        key::{key_record, numbers_of},
    },
    postgres::{
        PostgresStore,
        groups::{Known, Numbered, by_machine, end_replaced, judged},
        open::commit,
    },
    sql::Id,
};

fn blobs<T: Id>(ids: impl IntoIterator<Item = T>) -> Vec<Vec<u8>> {
    ids.into_iter().map(|id| id.blob()).collect()
}

impl PostgresStore {
    pub(super) async fn keys(&self, keys: &[KeyId]) -> Result<HashMap<KeyId, KeyRecord>, StoreError> {
        let rows = sqlx::query("SELECT k.id, k.public_key, k.kind, k.account, k.machine, k.revoked_at, k.ends_at, a.role FROM key k JOIN account a ON a.id = k.account WHERE k.id = ANY ($1)")
            .bind(blobs(keys.iter().copied()))
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::sql("looking a key up"))?;
        rows.iter().map(key_record).collect()
    }

    pub(super) async fn gpus_of_machines(
        &self,
        machines: &[MachineId],
    ) -> Result<HashMap<MachineId, Vec<GpuId>>, StoreError> {
        let rows = sqlx::query("SELECT machine, id FROM gpu WHERE machine = ANY ($1) AND present")
            .bind(blobs(machines.iter().copied()))
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::sql("listing a machine's GPUs"))?;
        by_machine(&rows)
    }

    /// Here they stand where they belong at once.
    pub(crate) async fn settle_numbers(&self, _: &Permit<act::Reconcile>) -> Result<(), StoreError> {
        Ok(())
    }

    /// Takes numbers in their order: of two copies that come together, the second is refused. Openings that refer to the
    /// same keys do not wait for it.
    pub(super) async fn take_numbers(
        &self,
        numbers: &[Numbered],
    ) -> Result<Vec<Result<Fresh, SequenceError>>, StoreError> {
        let doing = "taking a sequence number";
        let mut tx = self.begin(doing).await?;
        let rows = sqlx::query(
            "SELECT id, sequences, follows FROM key WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE",
        )
        .bind(blobs(numbers.iter().map(|number| number.key)))
        .fetch_all(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
        let mut known: Known = rows.iter().map(numbers_of).collect::<Result<_, _>>()?;
        let judged = judged(numbers, &mut known);
        let mut keys: Vec<KeyId> = judged.taken.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys.dedup();
        let seen: Vec<Vec<u8>> = keys.iter().filter_map(|key| Some(known.get(key)?.0.to_bytes())).collect();
        sqlx::query(
            "UPDATE key SET sequences = n.seen FROM unnest($1, $2) AS n (id, seen) WHERE key.id = n.id",
        )
        .bind(blobs(keys))
        .bind(seen)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
        end_replaced(&mut tx, &judged, doing).await?;
        commit(tx, doing).await?;
        Ok(judged.answers)
    }

    /// Writes down that machines opened epochs, with one commit: of each alias the newest, unless it is another machine's.
    pub(super) async fn open_lanes(&self, openings: &[Opening]) -> Result<(), StoreError> {
        let doing = "opening epochs for machines";
        let mut lanes: BTreeMap<Alias, &Opening> = BTreeMap::new();
        for opening in openings {
            let known = lanes.entry(opening.1.grant.alias()).or_insert(opening);
            if known.1.grant.machine() == opening.1.grant.machine() {
                *known = opening;
            }
        }
        let grants = || lanes.values().map(|(_, lane, _)| &lane.grant);
        let gpus = |(_, lane, _): &&Opening| -> Vec<u8> {
            lane.gpus.iter().flat_map(|(gpu, tip)| gpu.as_bytes().iter().chain(&tip.0)).copied().collect()
        };
        let mut tx = self.begin(doing).await?;
        sqlx::query("INSERT INTO beat_lane AS l (alias, epoch, machine, account, key, gpus, opened_at, opened_by) SELECT n.*, $8 FROM unnest($1, $2, $3, $4, $5, $6, $7) n ON CONFLICT (alias) DO UPDATE SET key = excluded.key, gpus = excluded.gpus, opened_at = excluded.opened_at, opened_by = excluded.opened_by WHERE l.machine = excluded.machine")
            .bind(grants().map(|grant| grant.alias().0 as i64).collect::<Vec<_>>())
            .bind(grants().map(|grant| i64::from(grant.epoch().0)).collect::<Vec<_>>())
            .bind(blobs(grants().map(|grant| grant.machine())))
            .bind(blobs(grants().map(|grant| grant.account())))
            .bind(blobs(grants().map(|grant| grant.key())))
            .bind(lanes.values().map(gpus).collect::<Vec<_>>())
            .bind(lanes.values().map(|(permit, ..)| permit.at().0 as i64).collect::<Vec<_>>())
            .bind(self.replica.to_vec())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let mut chains: Vec<_> = openings
            .iter()
            .flat_map(|(permit, _, chains)| chains.iter().map(|chain| (permit.on().machine, chain)))
            .collect();
        chains.sort_unstable_by_key(|(_, chain)| (chain.gpu, chain.starts));
        let each = || chains.iter().map(|(_, chain)| chain);
        sqlx::query("INSERT INTO uptime_chain (gpu, starts, tip, public_key, signature) SELECT g.id, n.starts, n.tip, n.public_key, n.signature FROM unnest($1, $2, $3, $4, $5, $6) AS n (gpu, machine, starts, tip, public_key, signature) JOIN gpu g ON g.id = n.gpu AND g.machine = n.machine ON CONFLICT DO NOTHING")
            .bind(blobs(each().map(|chain| chain.gpu)))
            .bind(blobs(chains.iter().map(|(machine, _)| *machine)))
            .bind(each().map(|chain| i64::from(chain.starts.0)).collect::<Vec<_>>())
            .bind(each().map(|chain| chain.tip.0.to_vec()).collect::<Vec<_>>())
            .bind(each().map(|chain| chain.public_key.to_vec()).collect::<Vec<_>>())
            .bind(each().map(|chain| chain.signature.to_vec()).collect::<Vec<_>>())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        commit(tx, doing).await
    }
}
