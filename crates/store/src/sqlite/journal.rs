//! The journal of beats: what was acknowledged and is not folded into the books yet. One blob a batch, one
//! commit a blob, a file of SQLite for each hour, deleted once all of it is in the books. It has its own connection,
//! so that nothing which holds the books' one can hold up a beat.
//!
//! What another database needs for the same: `append` (durable when it returns), `replay` (everything appended and
//! not discarded, oldest first) and `discard`. On PostgreSQL that is one table with a stream for each replica.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use gangline_guard::beat::{Batch, Line};
use gangline_types::{GpuId, Hour, Minute, UptimeHour};
use gangline_wire::beat::{Alias, Link, Preimage};
use sqlx::{
    Connection, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::StoreError;

const BUSY_SECONDS: u64 = 10;
/// Form of a blob; another number is refused.
const FORM: u8 = 1;

/// The journal of one server.
pub struct Journal {
    folder: PathBuf,
    open: Option<(Hour, SqliteConnection)>,
    /// The last batch of each hour's file.
    last: BTreeMap<Hour, u64>,
    next: u64,
}

fn file(folder: &Path, hour: Hour) -> PathBuf {
    folder.join(format!("journal-{hour}.sqlite"))
}

/// The hours that have a file, oldest first.
fn hours(folder: &Path) -> Result<Vec<Hour>, StoreError> {
    let unusable = |source| StoreError::Folder { folder: folder.to_owned(), source };
    let mut hours = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unusable)? {
        let name = entry.map_err(unusable)?.file_name();
        let hour = name.to_str().and_then(|n| n.strip_prefix("journal-")?.strip_suffix(".sqlite"));
        hours.extend(hour.and_then(|hour| hour.parse().ok()).map(Hour));
    }
    hours.sort_unstable();
    Ok(hours)
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(BUSY_SECONDS))
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

impl Journal {
    /// Opens the journal in `folder` and gives what a server before this one acknowledged and did not fold.
    ///
    /// # Errors
    /// When a file cannot be read, or holds something else than a journal: acknowledged beats are not left out
    /// in silence.
    pub async fn open(folder: &Path) -> Result<(Self, Vec<Line>), StoreError> {
        let doing = "reading the journal of beats";
        let mut journal = Self { folder: folder.to_owned(), open: None, last: BTreeMap::new(), next: 1 };
        let mut lines = Vec::new();
        for hour in hours(folder)? {
            let mut connection = connect(&file(folder, hour)).await?;
            let rows = sqlx::query("SELECT lines FROM batch ORDER BY id")
                .fetch_all(&mut connection)
                .await
                .map_err(StoreError::sql(doing))?;
            for row in rows {
                let blob: &[u8] = row.try_get("lines").map_err(StoreError::sql(doing))?;
                unpack(blob, &mut lines).ok_or_else(|| {
                    StoreError::Malformed(format!(
                        "{} holds a batch of another form",
                        file(folder, hour).display()
                    ))
                })?;
            }
            connection.close().await.map_err(StoreError::sql(doing))?;
            journal.last.insert(hour, journal.next);
            journal.next += 1;
        }
        Ok((journal, lines))
    }

    /// Writes a batch into the file of `hour`. Returned means on disk; the number says which batch it was.
    pub async fn append(&mut self, hour: Hour, batch: &Batch) -> Result<u64, StoreError> {
        let doing = "writing beats into the journal";
        let connection = match &mut self.open {
            Some((open, connection)) if *open == hour => connection,
            _ => {
                if let Some((_, connection)) = self.open.take() {
                    // What is in it is on disk; closing only tidies up.
                    let _ = connection.close().await;
                }
                let connection = connect(&file(&self.folder, hour)).await?;
                &mut self.open.insert((hour, connection)).1
            }
        };
        let blob = pack(batch.lines());
        let written =
            sqlx::query("INSERT INTO batch (lines) VALUES (?)").bind(blob).execute(&mut *connection).await;
        if let Err(error) = written {
            // A connection that failed is not trusted with the next batch.
            self.open = None;
            return Err(StoreError::sql(doing)(error));
        }
        let number = self.next;
        self.next += 1;
        self.last.insert(hour, number);
        Ok(number)
    }

    /// Everything up to batch `folded` is in the books: files that hold nothing else are deleted, except that of
    /// `now`, the running hour.
    pub async fn discard(&mut self, folded: u64, now: Hour) -> Result<(), StoreError> {
        let done: Vec<Hour> = self
            .last
            .iter()
            .filter(|(hour, last)| **hour != now && **last <= folded)
            .map(|(hour, _)| *hour)
            .collect();
        for hour in done {
            if let Some((_, connection)) = self.open.take_if(|(open, _)| *open == hour) {
                let _ = connection.close().await;
            }
            let path = file(&self.folder, hour);
            for path in [path.with_extension("sqlite-wal"), path.with_extension("sqlite-shm"), path] {
                match std::fs::remove_file(&path) {
                    Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                        return Err(StoreError::Folder { folder: self.folder.clone(), source });
                    }
                    _ => {}
                }
            }
            self.last.remove(&hour);
        }
        Ok(())
    }

    /// Ends the connection.
    pub async fn close(mut self) {
        if let Some((_, connection)) = self.open.take() {
            let _ = connection.close().await;
        }
    }
}

fn pack(lines: &[Line]) -> Vec<u8> {
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

fn unpack(blob: &[u8], lines: &mut Vec<Line>) -> Option<()> {
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
