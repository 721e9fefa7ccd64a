//! The journal of beats on disk: what was acknowledged and is not folded into the books yet. One blob a batch, one
//! commit a blob, a file of SQLite for each hour, deleted once all of it is in the books. It has its own connection,
//! so that nothing which holds the books' one can hold up a beat. The blobs are the same in every database.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::TryStreamExt;
use gangline_guard::beat::{Batch, Line};
use gangline_types::{GpuId, Hour, Minute, UptimeHour};
use gangline_wire::beat::{Alias, Link, Preimage};
use sqlx::{
    Connection, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::{StoreError, sqlite::open::ROWS_AHEAD};

const BUSY_SECONDS: u64 = 10;
/// Form of a blob; another number is refused.
const FORM: u8 = 1;

/// A file that is larger than this is followed by another when a fold begins, so that it can be deleted when that ends.
const PART_BYTES: u64 = 32 << 20;

/// The journal of one server.
pub(crate) struct DiskJournal {
    folder: PathBuf,
    open: Option<(Part, SqliteConnection)>,
    /// Bytes in the open file, about, and how many make it large.
    written: u64,
    part_bytes: u64,
    /// The next batch goes into another file.
    parting: bool,
    /// The last batch of each file.
    last: BTreeMap<Part, u64>,
    next: u64,
}

/// A file of the journal: its hour, and its place among those of that hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Part(Hour, u32);

fn file(folder: &Path, Part(hour, place): Part) -> PathBuf {
    folder.join(match place {
        0 => format!("journal-{hour}.sqlite"),
        place => format!("journal-{hour}-{place}.sqlite"),
    })
}

/// The files there are, oldest first.
fn parts(folder: &Path) -> Result<Vec<Part>, StoreError> {
    let unusable = |source| StoreError::Folder { folder: folder.to_owned(), source };
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unusable)? {
        let name = entry.map_err(unusable)?.file_name();
        let named = name.to_str().and_then(|n| n.strip_prefix("journal-")?.strip_suffix(".sqlite"));
        let Some((hour, place)) = named.map(|named| named.split_once('-').unwrap_or((named, "0"))) else {
            continue;
        };
        parts.extend(hour.parse().ok().zip(place.parse().ok()).map(|(hour, place)| Part(Hour(hour), place)));
    }
    parts.sort_unstable();
    Ok(parts)
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(BUSY_SECONDS))
        .row_buffer_size(ROWS_AHEAD)
        // By this name its processor time is found.
        .thread_name(|_| "beats-disk".into())
        .pragma("trusted_schema", "OFF")
        .pragma("cell_size_check", "ON")
}

async fn connect(path: &Path) -> Result<SqliteConnection, StoreError> {
    let doing = "opening the journal of beats";
    let mut connection =
        SqliteConnection::connect_with(&options(path)).await.map_err(StoreError::sql(doing))?;
    sqlx::query("CREATE TABLE IF NOT EXISTS batch (id INTEGER PRIMARY KEY, lines BLOB NOT NULL) STRICT")
        .execute(&mut connection)
        .await
        .map_err(StoreError::sql(doing))?;
    Ok(connection)
}

impl DiskJournal {
    /// Opens the journal in `folder`; what is in it is asked for with [`Self::replay`].
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        let parts = parts(folder)?;
        let next = parts.len() as u64 + 1;
        let last = parts.into_iter().zip(1..).collect();
        let folder = folder.to_owned();
        Ok(Self { folder, open: None, written: 0, part_bytes: PART_BYTES, parting: false, last, next })
    }

    /// Shows every line that was there when it was opened, one batch in memory at a time.
    pub(crate) async fn replay(&self, mut each: impl FnMut(&Line)) -> Result<(), StoreError> {
        let doing = "reading the journal of beats";
        let mut lines = Vec::new();
        for part in self.last.keys() {
            let path = file(&self.folder, *part);
            let mut connection = connect(&path).await?;
            let mut rows = sqlx::query("SELECT lines FROM batch ORDER BY id").fetch(&mut connection);
            while let Some(row) = rows.try_next().await.map_err(StoreError::sql(doing))? {
                let blob: &[u8] = row.try_get("lines").map_err(StoreError::sql(doing))?;
                lines.clear();
                unpack(blob, &mut lines).ok_or_else(|| {
                    StoreError::Malformed(format!("{} holds a batch of another form", path.display()))
                })?;
                lines.iter().for_each(&mut each);
            }
            drop(rows);
            connection.close().await.map_err(StoreError::sql(doing))?;
        }
        Ok(())
    }

    /// What was written so far is about to be folded: what comes goes into another file, if this one is large.
    pub(crate) fn part(&mut self) {
        self.parting = self.written >= self.part_bytes;
    }

    /// The connection to the file that the next batch goes into.
    async fn connection(&mut self, hour: Hour) -> Result<(Part, &mut SqliteConnection), StoreError> {
        let parting = std::mem::take(&mut self.parting);
        let is_open = self.open.as_ref().is_some_and(|(part, _)| part.0 == hour) && !parting;
        if !is_open {
            let newest = self.last.range(Part(hour, 0)..=Part(hour, u32::MAX)).next_back();
            let place = newest.map_or(0, |(part, _)| part.1 + u32::from(parting));
            if let Some((_, connection)) = self.open.take() {
                // What is in it is on disk; closing only tidies up.
                let _ = connection.close().await;
            }
            let path = file(&self.folder, Part(hour, place));
            let connection = connect(&path).await?;
            self.written = std::fs::metadata(&path).map_or(0, |facts| facts.len());
            self.open = Some((Part(hour, place), connection));
        }
        let (part, connection) = self.open.as_mut().ok_or(StoreError::Gone("the journal's file"))?;
        Ok((*part, connection))
    }

    /// Writes a batch into the file of `hour`. Returned means on disk; the number says which batch it was.
    pub(crate) async fn append(&mut self, hour: Hour, batch: &Batch) -> Result<u64, StoreError> {
        let doing = "writing beats into the journal";
        let (part, connection) = self.connection(hour).await?;
        let blob = pack(batch.lines());
        let length = blob.len() as u64;
        let written =
            sqlx::query("INSERT INTO batch (lines) VALUES (?)").bind(blob).execute(&mut *connection).await;
        if let Err(error) = written {
            // A connection that failed is not trusted with the next batch.
            self.open = None;
            return Err(StoreError::sql(doing)(error));
        }
        self.written += length;
        let number = self.next;
        self.next += 1;
        self.last.insert(part, number);
        Ok(number)
    }

    /// Everything up to batch `folded` is in the books: files that hold nothing else are deleted, except the newest of
    /// `now`, the running hour.
    pub(crate) async fn discard(&mut self, folded: u64, now: Hour) -> Result<(), StoreError> {
        let kept = self.last.range(Part(now, 0)..=Part(now, u32::MAX)).next_back().map(|(part, _)| *part);
        let done: Vec<Part> = self
            .last
            .iter()
            .filter(|(part, last)| Some(**part) != kept && **last <= folded)
            .map(|(part, _)| *part)
            .collect();
        for part in done {
            if let Some((_, connection)) = self.open.take_if(|(open, _)| *open == part) {
                let _ = connection.close().await;
            }
            let path = file(&self.folder, part);
            for path in [path.with_extension("sqlite-wal"), path.with_extension("sqlite-shm"), path] {
                match std::fs::remove_file(&path) {
                    Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                        return Err(StoreError::Folder { folder: self.folder.clone(), source });
                    }
                    _ => {}
                }
            }
            self.last.remove(&part);
        }
        Ok(())
    }

    /// Ends the connection.
    pub(crate) async fn close(mut self) {
        if let Some((_, connection)) = self.open.take() {
            let _ = connection.close().await;
        }
    }
}

/// A batch as bytes.
pub(crate) fn pack(lines: &[Line]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + lines.len() * 34);
    out.push(FORM);
    for line in lines {
        match line {
            Line::Frame { alias, minute, gpus, link } => {
                // One GPU, the first, is what most machines have.
                let first = *gpus == 1;
                out.push(0b1000_0000 | u8::from(link.is_some()) << 1 | u8::from(first));
                out.extend_from_slice(&alias.0.to_le_bytes());
                out.extend_from_slice(&minute.0.to_le_bytes());
                if !first {
                    out.extend_from_slice(&gpus.to_le_bytes());
                }
                if let Some(link) = link {
                    out.push(link.slot);
                    out.extend_from_slice(&link.count.to_le_bytes());
                    out.extend_from_slice(&link.preimage.0);
                }
            }
            Line::Report { gpu, hour, bits } => {
                out.push(1);
                out.extend_from_slice(gpu.as_bytes());
                out.extend_from_slice(&hour.0.to_le_bytes());
                out.extend_from_slice(&bits.0.to_le_bytes());
            }
            Line::Up(minute) => {
                out.push(2);
                out.extend_from_slice(&minute.0.to_le_bytes());
            }
        }
    }
    out
}

/// Takes bytes from the front of a blob.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }
    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

/// Takes a batch apart; `None` where it is of another form.
pub(crate) fn unpack(blob: &[u8], lines: &mut Vec<Line>) -> Option<()> {
    let (form, rest) = blob.split_first()?;
    if *form != FORM {
        return None;
    }
    let mut from = Reader(rest);
    while !from.0.is_empty() {
        let [kind] = from.take()?;
        lines.push(match kind {
            0b1000_0000..=0b1000_0011 => {
                let (alias, minute) = (Alias(from.u64()?), Minute(from.u32()?));
                let gpus = if kind & 1 == 1 { 1 } else { from.u64()? };
                let link = if kind & 2 == 2 {
                    let [slot] = from.take()?;
                    let count = u16::from_le_bytes(from.take()?);
                    Some(Link { slot, count, preimage: Preimage(from.take()?) })
                } else {
                    None
                };
                Line::Frame { alias, minute, gpus, link }
            }
            1 => Line::Report {
                gpu: GpuId::from_bytes(from.take()?),
                hour: Hour(from.u32()?),
                bits: UptimeHour(from.u64()?),
            },
            2 => Line::Up(Minute(from.u32()?)),
            _ => return None,
        });
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(minute: u32) -> Batch {
        let mut batch = Batch::default();
        batch.up(Minute(minute));
        batch
    }

    async fn check(folder: &Path, files: &[&str], minutes: &[u32]) {
        let journal = DiskJournal::open(folder).unwrap();
        let there: Vec<PathBuf> = journal.last.keys().map(|part| file(folder, *part)).collect();
        assert_eq!(there, files.iter().map(|name| folder.join(name)).collect::<Vec<_>>());
        let mut found = Vec::new();
        journal.replay(|line| found.push(*line)).await.unwrap();
        assert_eq!(found, minutes.iter().map(|m| Line::Up(Minute(*m))).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_large_file_is_followed_by_another_and_goes_when_it_is_folded() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let hour = Hour(500_000);
        let mut journal = DiskJournal::open(at).unwrap();
        journal.part_bytes = 0;
        let first = journal.append(hour, &batch(1)).await.unwrap();
        journal.part();
        let second = journal.append(hour, &batch(2)).await.unwrap();
        journal.append(hour, &batch(3)).await.unwrap();
        let both = ["journal-500000.sqlite", "journal-500000-1.sqlite"];
        check(at, &both, &[1, 2, 3]).await;
        // What is not folded stays, whatever else is.
        journal.discard(first, hour).await.unwrap();
        check(at, &both[1..], &[2, 3]).await;
        journal.discard(second, hour).await.unwrap();
        check(at, &both[1..], &[2, 3]).await;
        journal.close().await;

        // After a new start it goes on in the newest file, and a small one is not parted.
        let mut journal = DiskJournal::open(at).unwrap();
        journal.part();
        journal.append(hour, &batch(4)).await.unwrap();
        check(at, &both[1..], &[2, 3, 4]).await;
        let next = journal.append(Hour(500_001), &batch(5)).await.unwrap();
        journal.discard(next, Hour(500_001)).await.unwrap();
        check(at, &["journal-500001.sqlite"], &[5]).await;
        journal.close().await;
    }
}
