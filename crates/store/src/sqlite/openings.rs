//! Epochs that machines opened: lanes, and the chains they signed. Those that come at once are one row, in the order in
//! which they came: what is looked for by a GPU stands in the projection, and what the intake needs it reads whole.
//!
//! Tables of an earlier form, `beat_lane` and `uptime_chain`, hold a row for each. They are read as well, and filled when
//! the books move to where that form is kept.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::TryStreamExt;
use gangline_guard::{Permit, act, beat::Grant};
use gangline_types::{AccountId, GpuId, KeyId, MachineId, Minute, UnixSeconds};
use gangline_wire::beat::{Alias, Epoch, Preimage};
use sqlx::{Sqlite, Transaction, sqlite::SqliteRow};

use crate::{
    StoreError,
    books::beat::{ChainRow, LaneRow, Opening, lane_row},
    sql::{Columns, json, packed},
    sqlite::{SqliteStore, open::commit},
};

/// Form of a row's pieces; another number is refused.
const FORM: u8 = 1;
/// Bytes of a lane before its GPUs, of each of them, and of a chain.
const LANE_BYTES: usize = 58;
const LANE_GPU_BYTES: usize = 32;
const CHAIN_BYTES: usize = 132;
/// Rows that are read at once: some megabytes after a storm.
const ROWS_AT_ONCE: i64 = 100;
/// A commit may come so many seconds after the moment that its row names.
const COMMIT_SECONDS: u64 = 15;
/// How long before its epoch was opened a chain may start, in minutes: within the late window of six hours, and some.
const CHAIN_MINUTES: i64 = 8 * 60;

/// Lanes of keys that ended, as far as the rows were looked through: who asks again looks at newer ones alone.
#[derive(Default)]
pub(crate) struct Ended {
    lanes: HashMap<KeyId, Vec<Alias>>,
    last: i64,
}

/// A lane as it stands in a row.
struct Piece<'a> {
    alias: Alias,
    machine: MachineId,
    account: AccountId,
    key: KeyId,
    gpus: &'a [u8],
}

/// Takes pieces from the front of a row.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// After the byte that says which form it is.
    fn of(row: &'a [u8]) -> Option<Self> {
        row.split_first().filter(|(form, _)| **form == FORM).map(|(_, rest)| Self(rest))
    }
    fn some(&mut self, count: usize) -> Option<&'a [u8]> {
        let (some, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(some)
    }
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.some(N)?.try_into().ok()
    }
    fn lane(&mut self) -> Option<Piece<'a>> {
        Some(Piece {
            alias: Alias(u64::from_le_bytes(self.take()?)),
            machine: MachineId::from_bytes(self.take()?),
            account: AccountId::from_bytes(self.take()?),
            key: KeyId::from_bytes(self.take()?),
            gpus: {
                let count = u16::from_le_bytes(self.take()?);
                self.some(usize::from(count) * LANE_GPU_BYTES)?
            },
        })
    }
    fn chain(&mut self) -> Option<ChainRow> {
        Some(ChainRow {
            gpu: GpuId::from_bytes(self.take()?),
            starts: Minute(u32::from_le_bytes(self.take()?)),
            tip: Preimage(self.take()?),
            public_key: self.take()?,
            signature: self.take()?,
        })
    }
    /// All pieces of a row, each by `one`; none if it is of another form.
    fn each<T>(row: &'a [u8], mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut reader = Self::of(row)?;
        let mut all = Vec::new();
        while !reader.0.is_empty() {
            all.push(one(&mut reader)?);
        }
        Some(all)
    }
}

fn lanes_in(row: &[u8]) -> Result<Vec<Piece<'_>>, StoreError> {
    Reader::each(row, Reader::lane).ok_or_else(|| StoreError::Malformed("column lanes".into()))
}

fn chains_in(row: &[u8]) -> Result<Vec<ChainRow>, StoreError> {
    Reader::each(row, Reader::chain).ok_or_else(|| StoreError::Malformed("column chains".into()))
}

impl Piece<'_> {
    fn row(&self, epoch: Epoch) -> Result<LaneRow, StoreError> {
        let grant = Grant::kept(self.alias, epoch, self.machine, self.account, self.key);
        Ok(LaneRow { grant, gpus: crate::books::beat::lane_gpus(self.gpus)? })
    }
}

fn put_lane(out: &mut Vec<u8>, lane: &LaneRow) {
    let grant = &lane.grant;
    out.reserve(LANE_BYTES + lane.gpus.len() * LANE_GPU_BYTES);
    out.extend_from_slice(&grant.alias().0.to_le_bytes());
    for id in [grant.machine().as_bytes(), grant.account().as_bytes(), grant.key().as_bytes()] {
        out.extend_from_slice(id);
    }
    out.extend_from_slice(&(lane.gpus.len() as u16).to_le_bytes());
    for (gpu, tip) in &lane.gpus {
        out.extend_from_slice(gpu.as_bytes());
        out.extend_from_slice(&tip.0);
    }
}

fn put_chain(out: &mut Vec<u8>, chain: &ChainRow) {
    out.reserve(CHAIN_BYTES);
    out.extend_from_slice(chain.gpu.as_bytes());
    out.extend_from_slice(&chain.starts.0.to_le_bytes());
    for part in [&chain.tip.0[..], &chain.public_key, &chain.signature] {
        out.extend_from_slice(part);
    }
}

/// Lanes in the order in which they were opened, each alias once: the newest of them, unless it is another machine's.
#[derive(Default)]
struct Newest {
    lanes: Vec<LaneRow>,
    places: HashMap<Alias, usize>,
}

impl Newest {
    fn add(&mut self, lane: LaneRow) {
        match self.places.entry(lane.grant.alias()) {
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(self.lanes.len());
                self.lanes.push(lane);
            }
            std::collections::hash_map::Entry::Occupied(place) => {
                let known = &mut self.lanes[*place.get()];
                if known.grant.machine() == lane.grant.machine() {
                    *known = lane;
                }
            }
        }
    }
}

impl SqliteStore {
    /// Writes down that machines opened epochs, with one commit.
    pub(super) async fn open_lanes(&self, openings: &[Opening]) -> Result<(), StoreError> {
        let doing = "opening epochs for machines";
        let mut rows: BTreeMap<Epoch, (UnixSeconds, Vec<u8>)> = BTreeMap::new();
        let (mut signed, mut last) = (vec![FORM], UnixSeconds(0));
        for (permit, lane, chains) in openings {
            let (at, lanes) = rows.entry(lane.grant.epoch()).or_insert_with(|| (UnixSeconds(0), vec![FORM]));
            *at = permit.at().max(*at);
            last = permit.at().max(last);
            put_lane(lanes, lane);
            chains.iter().for_each(|chain| put_chain(&mut signed, chain));
        }
        let mut tx = self.begin(doing).await?;
        for (epoch, (at, lanes)) in rows {
            sqlx::query("INSERT INTO opened_lanes (epoch, opened_at, lanes) VALUES (?, ?, ?)")
                .bind(i64::from(epoch.0))
                .bind(at.0 as i64)
                .bind(lanes)
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        sqlx::query("INSERT INTO opened_chains (opened_at, chains) VALUES (?, ?)")
            .bind(last.0 as i64)
            .bind(signed)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        commit(tx, doing).await?;
        // What was written is what the projection is to have.
        self.opened.hand(openings.iter().flat_map(|(_, _, chains)| chains.iter().cloned()));
        Ok(())
    }

    /// Rows of lanes after `after` that are of `from` or a later epoch: id, epoch and pieces, some at a time.
    async fn rows_of_lanes(&self, after: i64, from: Epoch) -> Result<Vec<(i64, Epoch, Vec<u8>)>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, epoch, lanes FROM opened_lanes WHERE id > ? AND epoch >= ? ORDER BY id LIMIT ?",
        )
        .bind(after)
        .bind(i64::from(from.0))
        .bind(ROWS_AT_ONCE)
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::sql("reading the lanes of beats"))?;
        rows.iter()
            .map(|r| Ok((r.int("id")? as i64, Epoch(r.int("epoch")? as u16), r.bytes("lanes")?)))
            .collect()
    }

    /// Lanes of `from` and later epochs whose key has not ended.
    pub async fn lanes(&self, from: Epoch) -> Result<Vec<LaneRow>, StoreError> {
        let doing = "reading the lanes of beats";
        let ended: HashSet<KeyId> = sqlx::query("SELECT id FROM key WHERE revoked_at IS NOT NULL")
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql(doing))?
            .iter()
            .map(|r| r.id("id"))
            .collect::<Result<_, _>>()?;
        let mut newest = Newest::default();
        let mut rows =
            sqlx::query("SELECT alias, epoch, machine, account, key, gpus FROM beat_lane WHERE epoch >= ?")
                .bind(i64::from(from.0))
                .fetch(&self.read);
        while let Some(row) = rows.try_next().await.map_err(StoreError::sql(doing))? {
            newest.add(lane_row(&row)?);
        }
        drop(rows);
        let mut last = 0;
        loop {
            let rows = self.rows_of_lanes(last, from).await?;
            for (id, epoch, lanes) in &rows {
                last = *id;
                for piece in lanes_in(lanes)? {
                    newest.add(piece.row(*epoch)?);
                }
            }
            if rows.is_empty() {
                break;
            }
        }
        let mut lanes = newest.lanes;
        lanes.retain(|lane| !ended.contains(&lane.grant.key()));
        Ok(lanes)
    }

    /// Lanes that other servers opened: there are none on these books.
    pub async fn lanes_opened(&self, _: UnixSeconds) -> Result<Vec<LaneRow>, StoreError> {
        Ok(Vec::new())
    }

    /// Aliases whose key has ended since `since`.
    pub async fn ended_lanes(&self, since: UnixSeconds) -> Result<Vec<Alias>, StoreError> {
        let doing = "looking for lanes that have ended";
        let ended: Vec<KeyId> = sqlx::query("SELECT id FROM key WHERE revoked_at >= ?")
            .bind(since.0 as i64)
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql(doing))?
            .iter()
            .map(|r| r.id("id"))
            .collect::<Result<_, _>>()?;
        let mut before = std::mem::take(&mut *self.ended.lock().unwrap_or_else(|e| e.into_inner()));
        before.lanes.retain(|key, _| ended.contains(key));
        let new: HashSet<KeyId> =
            ended.iter().filter(|key| !before.lanes.contains_key(key)).copied().collect();
        if new.is_empty() && before.lanes.is_empty() {
            return Ok(Vec::new());
        }
        // All lanes are looked at for keys that ended just now, once for however many, and new ones for all of them.
        let mut last = if new.is_empty() { before.last } else { 0 };
        let mut lanes: HashMap<KeyId, Vec<Alias>> =
            ended.iter().map(|key| (*key, before.lanes.remove(key).unwrap_or_default())).collect();
        loop {
            let rows = self.rows_of_lanes(last, Epoch(0)).await?;
            for (id, _, row) in &rows {
                last = *id;
                for piece in lanes_in(row)? {
                    if (new.contains(&piece.key) || *id > before.last)
                        && let Some(known) = lanes.get_mut(&piece.key)
                    {
                        known.push(piece.alias);
                    }
                }
            }
            if rows.is_empty() {
                break;
            }
        }
        if !new.is_empty() {
            let new: Vec<KeyId> = new.into_iter().collect();
            let rows = sqlx::query("WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE (i + 1) * 16 < length(?1)) SELECT alias, key FROM beat_lane WHERE key IN (SELECT substr(?1, 1 + 16 * n.i, 16) FROM n)")
                .bind(packed(&new))
                .fetch_all(&self.read)
                .await
                .map_err(StoreError::sql(doing))?;
            for row in &rows {
                lanes.entry(row.id("key")?).or_default().push(Alias(row.int("alias")?));
            }
        }
        let aliases = lanes.values().flatten().copied().collect();
        *self.ended.lock().unwrap_or_else(|e| e.into_inner()) = Ended { lanes, last };
        Ok(aliases)
    }

    /// Forgets lanes of epochs before `before`.
    pub async fn forget_lanes(&self, _: &Permit<act::Reconcile>, before: Epoch) -> Result<(), StoreError> {
        for statement in ["DELETE FROM opened_lanes WHERE epoch < ?", "DELETE FROM beat_lane WHERE epoch < ?"]
        {
            sqlx::query(statement)
                .bind(i64::from(before.0))
                .execute(&self.write)
                .await
                .map_err(StoreError::sql("forgetting old lanes of beats"))?;
        }
        Ok(())
    }

    /// Forgets chains of epochs that were opened before `before`.
    pub(super) async fn forget_chains(&self, before: UnixSeconds) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM opened_chains WHERE opened_at < ?")
            .bind(before.0 as i64)
            .execute(&self.write)
            .await
            .map_err(StoreError::sql("forgetting old chains of uptime"))?;
        Ok(())
    }

    /// Chains of epochs that were opened since a look, and some seconds before.
    pub(super) async fn chains_opened(&self, looked_at: UnixSeconds) -> Result<Vec<ChainRow>, StoreError> {
        let doing = "reading chains of uptime";
        let opened_since = looked_at.0.saturating_sub(COMMIT_SECONDS);
        let mut chains = Vec::new();
        let mut rows = sqlx::query("SELECT chains FROM opened_chains WHERE opened_at >= ?")
            .bind(opened_since as i64)
            .fetch(&self.read);
        while let Some(row) = rows.try_next().await.map_err(StoreError::sql(doing))? {
            chains.extend(chains_in(&row.bytes("chains")?)?);
        }
        drop(rows);
        let mut rows = sqlx::query("SELECT c.gpu, c.starts, c.tip, c.public_key, c.signature FROM beat_lane b CROSS JOIN gpu g ON g.machine = b.machine CROSS JOIN uptime_chain c ON c.gpu = g.id AND c.starts >= ? WHERE b.opened_at >= ?")
            .bind(i64::from(UnixSeconds(opened_since).minute().0) - CHAIN_MINUTES)
            .bind(opened_since as i64)
            .fetch(&self.read);
        while let Some(row) = rows.try_next().await.map_err(StoreError::sql(doing))? {
            let wrong = |column: &str| StoreError::Malformed(format!("column {column}"));
            chains.push(ChainRow {
                gpu: row.id("gpu")?,
                starts: Minute(row.int("starts")? as u32),
                tip: row.bytes("tip")?.try_into().map(Preimage).map_err(|_| wrong("tip"))?,
                public_key: row.hash("public_key")?.0,
                signature: row.bytes("signature")?.try_into().map_err(|_| wrong("signature"))?,
            });
        }
        Ok(chains)
    }

    /// Makes a row of its own of each lane and of each chain, as the other database has them.
    pub(crate) async fn unpack_openings(&self, _: &Permit<act::MoveBooks>) -> Result<(), StoreError> {
        let doing = "making rows of lanes and chains";
        loop {
            let mut tx = self.begin(doing).await?;
            let row = sqlx::query("SELECT id, epoch, opened_at, lanes FROM opened_lanes ORDER BY id LIMIT 1")
                .fetch_optional(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
            let Some(row) = row else { break };
            let bytes = row.bytes("lanes")?;
            let (mut whose, mut gpus, mut lanes) = (Vec::new(), Vec::new(), Vec::new());
            for piece in lanes_in(&bytes)? {
                whose.extend(packed(&[piece.machine]));
                whose.extend(packed(&[piece.account]));
                whose.extend(packed(&[piece.key]));
                lanes.push((piece.alias.0 as i64, gpus.len() + 1, piece.gpus.len()));
                gpus.extend_from_slice(piece.gpus);
            }
            sqlx::query("INSERT INTO beat_lane (alias, epoch, machine, account, key, gpus, opened_at) SELECT j.value ->> 0, ?4, substr(?1, 1 + 48 * j.key, 16), substr(?1, 17 + 48 * j.key, 16), substr(?1, 33 + 48 * j.key, 16), substr(?2, j.value ->> 1, j.value ->> 2), ?5 FROM json_each(?3) j WHERE true ON CONFLICT (alias) DO UPDATE SET key = excluded.key, gpus = excluded.gpus, opened_at = excluded.opened_at WHERE machine = excluded.machine")
                .bind(whose)
                .bind(gpus)
                .bind(json(&lanes))
                .bind(row.int("epoch")? as i64)
                .bind(row.int("opened_at")? as i64)
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
            unpacked(tx, "DELETE FROM opened_lanes WHERE id = ?", &row, doing).await?;
        }
        loop {
            let mut tx = self.begin(doing).await?;
            let row = sqlx::query("SELECT id, chains FROM opened_chains ORDER BY id LIMIT 1")
                .fetch_optional(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
            let Some(row) = row else { break };
            let chains = chains_in(&row.bytes("chains")?)?;
            let starts: Vec<u32> = chains.iter().map(|chain| chain.starts.0).collect();
            sqlx::query("INSERT INTO uptime_chain (gpu, starts, tip, public_key, signature) SELECT g.id, j.value, substr(?1, 17 + 128 * j.key, 16), substr(?1, 33 + 128 * j.key, 32), substr(?1, 65 + 128 * j.key, 64) FROM json_each(?2) j CROSS JOIN gpu g ON g.id = substr(?1, 1 + 128 * j.key, 16) WHERE true ON CONFLICT DO NOTHING")
                .bind(chains_as_bytes(&chains))
                .bind(json(&starts))
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
            unpacked(tx, "DELETE FROM opened_chains WHERE id = ?", &row, doing).await?;
        }
        Ok(())
    }
}

/// Ends a transaction in which a row was unpacked: it goes.
async fn unpacked(
    mut tx: Transaction<'static, Sqlite>,
    delete: &'static str,
    row: &SqliteRow,
    doing: &'static str,
) -> Result<(), StoreError> {
    sqlx::query(delete)
        .bind(row.int("id")? as i64)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
    commit(tx, doing).await
}

/// Of each chain GPU, tip, key and signature: 128 bytes, which a statement takes apart.
pub(super) fn chains_as_bytes(chains: &[ChainRow]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(chains.len() * 128);
    for chain in chains {
        for part in [chain.gpu.as_bytes(), &chain.tip.0[..], &chain.public_key, &chain.signature] {
            bytes.extend_from_slice(part);
        }
    }
    bytes
}
