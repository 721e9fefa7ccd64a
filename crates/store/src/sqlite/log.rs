//! The network's log on disk. An entry is written in the transaction of what it tells of, in the next place;
//! [`SqliteStore::integrate`] hashes new entries into the tree, signs its checkpoint and publishes both.
//!
//! A checkpoint is in the books before anyone can see it, and never is there another of its size: books that
//! were restored from an older copy, or whose entries were changed, are found out here and nothing is signed.

use gangline_guard::{
    Act, Permit, act,
    log::{
        Edge, Entry, Event, Opening, TILE_WIDTH, TilePath, leaf_hash,
        tiles::{Tile, bundle, tile_hashes},
    },
};
use gangline_types::Hash;
use sqlx::{SqliteConnection, SqliteExecutor};

use crate::{
    StoreError,
    books::log::{Kept, follows},
    sql::{Columns, json},
    sqlite::SqlitePublic,
    sqlite::SqliteStore,
    sqlite::open::commit,
};

/// Entries that are hashed and published in one step.
const STEP: u64 = 4096;

/// What an entry keeps sealed, as JSON.
#[derive(serde::Serialize)]
struct Sealed<'a> {
    actor: &'a str,
    action: &'a str,
    resource: &'a str,
    reason: &'a str,
    detail: &'a str,
}

/// Writes an entry into the log, in the transaction of what it tells of.
///
/// # Panics
/// If the system has no randomness to give: a seal without salt would hide nothing.
pub(crate) async fn log_entry<A: Act>(
    tx: &mut SqliteConnection,
    permit: &Permit<A>,
    event: Event,
    detail: &str,
) -> Result<(), StoreError> {
    let audit = permit.audit_entry();
    let sealed = Sealed {
        actor: &audit.actor,
        action: audit.action.as_str(),
        resource: &audit.resource,
        reason: audit.reason,
        detail,
    };
    let mut salt = [0; 32];
    getrandom::fill(&mut salt).expect("the system gives randomness");
    let opening = Opening { salt, text: json(&sealed) };
    let entry = Entry { at: permit.at(), event, sealed: opening.seal() };
    sqlx::query("INSERT INTO log_entry (idx, kind, entry, salt, opening) SELECT coalesce(max(idx) + 1, 0), ?, ?, ?, ? FROM log_entry")
        .bind(event.kind().as_str())
        .bind(entry.to_bytes())
        .bind(opening.salt.to_vec())
        .bind(opening.text)
        .execute(tx)
        .await
        .map_err(StoreError::sql("writing into the log"))?;
    Ok(())
}

async fn kept(from: impl SqliteExecutor<'_>) -> Result<Option<Kept>, StoreError> {
    let row = sqlx::query("SELECT size, root, note FROM log_checkpoint WHERE one = 1")
        .fetch_optional(from)
        .await
        .map_err(StoreError::sql("reading the log's checkpoint"))?;
    row.map(|r| Ok(Kept { size: r.int("size")?, root: r.hash("root")?, note: r.text("note")? })).transpose()
}

async fn keep(to: impl SqliteExecutor<'_>, kept: &Kept) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO log_checkpoint (one, size, root, note) VALUES (1, ?, ?, ?) ON CONFLICT (one) DO UPDATE SET size = excluded.size, root = excluded.root, note = excluded.note")
        .bind(kept.size as i64)
        .bind(kept.root.0.to_vec())
        .bind(&kept.note)
        .execute(to)
        .await
        .map_err(StoreError::sql("keeping the log's checkpoint"))?;
    Ok(())
}

impl SqliteStore {
    /// Brings the log's tree, checkpoint and public copy up to date: how many entries are new. `sign` gets
    /// size and root and answers with the signed note. Rebuilds the public copy if that is gone.
    ///
    /// # Errors
    /// [`StoreError::Log`] when books and public copy contradict each other; then nothing is signed.
    pub async fn integrate(
        &self,
        _: &Permit<act::Project>,
        sign: impl Fn(u64, Hash) -> String + Send,
    ) -> Result<u64, StoreError> {
        let doing = "bringing the log up to date";
        let published = kept(&self.public_write).await?;
        let mut ours = kept(&self.read).await?;
        let held: i64 = sqlx::query_scalar("SELECT coalesce(max(idx) + 1, 0) FROM log_entry")
            .fetch_one(&self.read)
            .await
            .map_err(StoreError::sql(doing))?;
        let held = held as u64;
        follows(ours.as_ref(), published.as_ref(), held)?;
        let from = published.as_ref().map_or(0, |kept| kept.size);
        if published.is_some() && held == from {
            return Ok(0);
        }
        let mut edge = self.edge(published.as_ref()).await?;
        loop {
            // What was signed is met exactly, so that a rebuilt copy shows it again, and it is checked.
            let signed = ours.as_ref().map(|kept| kept.size).filter(|size| *size > edge.size());
            let to = held.min(edge.size() + STEP).min(signed.unwrap_or(u64::MAX));
            let (first, entries, tiles) = self.grow(&mut edge, to).await?;
            let root = edge.root();
            let checkpoint = match &ours {
                Some(kept) if kept.size == to => {
                    if kept.root != root {
                        let finding = format!("the first {to} entries are not those that were signed");
                        return Err(StoreError::Log(finding));
                    }
                    Some(Kept { note: kept.note.clone(), ..*kept })
                }
                Some(kept) if kept.size > to => None,
                _ => {
                    let new = Kept { size: to, root, note: sign(to, root) };
                    // In the books first: once somebody may have seen it, it must not be forgotten.
                    keep(&self.write, &new).await?;
                    Some(new)
                }
            };
            self.publish(first, &entries, &tiles, checkpoint.as_ref()).await?;
            if let Some(new) = checkpoint {
                ours = Some(new);
            }
            if to == held {
                return Ok(held - from);
            }
        }
    }

    /// The right edge of the published tree.
    async fn edge(&self, published: Option<&Kept>) -> Result<Edge, StoreError> {
        let Some(kept) = published else { return Ok(Edge::default()) };
        let mut tiles = std::collections::HashMap::new();
        for (level, index, width) in gangline_guard::log::edge::partials_of(kept.size) {
            let path = TilePath::Hashes { level, index, width: width.max(1) };
            if width > 0
                && let Some(bytes) = self.public().log_tile(path).await?
                && let Some(hashes) = tile_hashes(&bytes, width)
            {
                tiles.insert((level, index), hashes);
            }
        }
        let edge = Edge::of(kept.size, |level, index, _| tiles.remove(&(level, index)).ok_or(()));
        edge.ok()
            .filter(|edge| edge.root() == kept.root)
            .ok_or_else(|| StoreError::Log("the published tiles do not add up to the published root".into()))
    }

    /// Hashes the entries up to `to`: the first one's place, their bytes, and every tile that changed.
    async fn grow(&self, edge: &mut Edge, to: u64) -> Result<(u64, Vec<Vec<u8>>, Vec<Tile>), StoreError> {
        let first = edge.size();
        let rows = sqlx::query("SELECT entry FROM log_entry WHERE idx >= ? AND idx < ? ORDER BY idx")
            .bind(first as i64)
            .bind(to as i64)
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("reading the log's new entries"))?;
        let entries: Vec<Vec<u8>> = rows.iter().map(|r| r.bytes("entry")).collect::<Result<_, _>>()?;
        if entries.len() as u64 != to - first {
            return Err(StoreError::Log(format!("an entry between {first} and {to} is gone")));
        }
        let mut tiles = Vec::new();
        for entry in &entries {
            edge.push(leaf_hash(entry), &mut |tile| tiles.push(tile));
        }
        tiles.extend(edge.partials());
        Ok((first, entries, tiles))
    }

    async fn publish(
        &self,
        first: u64,
        entries: &[Vec<u8>],
        tiles: &[Tile],
        checkpoint: Option<&Kept>,
    ) -> Result<(), StoreError> {
        let doing = "publishing the log";
        let mut tx = self.public_write.begin().await.map_err(StoreError::sql(doing))?;
        for (index, entry) in (first..).zip(entries) {
            sqlx::query("INSERT INTO log_entry (idx, entry) VALUES (?, ?) ON CONFLICT (idx) DO UPDATE SET entry = excluded.entry")
                .bind(index as i64)
                .bind(entry)
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        for tile in tiles {
            sqlx::query("INSERT INTO log_tile (level, idx, hashes) VALUES (?, ?, ?) ON CONFLICT (level, idx) DO UPDATE SET hashes = excluded.hashes")
                .bind(tile.level as i64)
                .bind(tile.index as i64)
                .bind(tile.to_bytes())
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        if let Some(new) = checkpoint {
            keep(&mut *tx, new).await?;
        }
        commit(tx, doing).await
    }

    /// Notes that the policy is another than the one noted last; false if it is the same.
    pub async fn note_policy(&self, permit: &Permit<act::Project>, matrix: Hash) -> Result<bool, StoreError> {
        let doing = "noting the policy";
        let event = Event::PolicyChange { matrix };
        let mut tx = self.begin(doing).await?;
        let row = sqlx::query("SELECT entry FROM log_entry WHERE kind = ? ORDER BY idx DESC LIMIT 1")
            .bind(event.kind().as_str())
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let last = row.map(|r| r.bytes("entry")).transpose()?;
        if last.and_then(|bytes| Entry::from_bytes(&bytes).ok()).is_some_and(|entry| entry.event == event) {
            return Ok(false);
        }
        log_entry(&mut tx, permit, event, "the matrix of who may do what").await?;
        commit(tx, doing).await?;
        Ok(true)
    }

    /// What opens an entry's seal: for the security officer and whomever it concerns.
    pub async fn log_opening(
        &self,
        _: &Permit<act::Operate>,
        index: u64,
    ) -> Result<Option<Opening>, StoreError> {
        let row = sqlx::query("SELECT salt, opening FROM log_entry WHERE idx = ?")
            .bind(i64::try_from(index).unwrap_or(i64::MAX))
            .fetch_optional(&self.read)
            .await
            .map_err(StoreError::sql("opening an entry of the log"))?;
        row.map(|r| Ok(Opening { salt: r.hash("salt")?.0, text: r.text("opening")? })).transpose()
    }
}

impl SqlitePublic {
    /// The log's newest checkpoint, signed; none before the first second of a network.
    pub async fn log_checkpoint(&self) -> Result<Option<String>, StoreError> {
        Ok(kept(self.pool()).await?.map(|kept| kept.note))
    }

    /// A tile or a bundle of entries as served, with exactly the hashes or entries that the path names; none
    /// if the log has not so many.
    pub async fn log_tile(&self, path: TilePath) -> Result<Option<Vec<u8>>, StoreError> {
        let failed = || StoreError::sql("reading a tile of the log");
        match path {
            TilePath::Hashes { level, index, width } => {
                let Ok(index) = i64::try_from(index) else { return Ok(None) };
                let row = sqlx::query("SELECT substr(hashes, 1, ?1) AS hashes FROM log_tile WHERE level = ?2 AND idx = ?3 AND length(hashes) >= ?1")
                    .bind(width as i64 * 32)
                    .bind(level as i64)
                    .bind(index)
                    .fetch_optional(self.pool())
                    .await
                    .map_err(failed())?;
                row.map(|r| r.bytes("hashes")).transpose()
            }
            TilePath::Entries { index, width } => {
                let first = index.checked_mul(TILE_WIDTH as u64).and_then(|first| i64::try_from(first).ok());
                let Some(first) = first else { return Ok(None) };
                let rows = sqlx::query("SELECT entry FROM log_entry WHERE idx >= ? ORDER BY idx LIMIT ?")
                    .bind(first)
                    .bind(width as i64)
                    .fetch_all(self.pool())
                    .await
                    .map_err(failed())?;
                let entries: Vec<Vec<u8>> =
                    rows.iter().map(|r| r.bytes("entry")).collect::<Result<_, _>>()?;
                Ok((entries.len() == width).then(|| bundle(&entries)))
            }
        }
    }
}
