//! Moving the books of a data folder into a database of PostgreSQL, in one transaction: either all of it is there
//! afterwards, read back and found the same, or nothing is. The folder is left as it was but for a note that says
//! where its books went, so that no server goes on with what is a copy by then.
//!
//! Tables move row by row, whatever their columns are, as long as both sides have the same ones; a table that is not
//! listed in [`tables`] stops it. Not moved: the network's key and the journals of beats, which stay in the folder.

mod roots;
mod rows;
mod tables;

use std::{collections::BTreeSet, path::Path};

use futures_util::TryStreamExt;
use gangline_guard::{Permit, act};
use gangline_types::{GpuId, Hash, public::PublicUptime};
use serde_json::Value;
use sqlx::{PgConnection, SqlitePool};

use self::{
    rows::{Fields, Tally, from_postgres, from_sqlite, hex},
    tables::{BOOKS, PUBLIC, STAYS, Table, UPTIME},
};
use crate::{
    DatabaseUrl, Store, StoreError,
    postgres::audit::audit,
    postgres::open::commit,
    sql::{Columns, Id},
    sqlite::{MOVED, SqliteStore, months::merged},
};

/// Rows, and bytes of them, that one statement writes.
const ROWS_AT_ONCE: usize = 2_000;
const BYTES_AT_ONCE: usize = 4 << 20;

/// What was counted on one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// Rows, entries, snapshots or chains.
    pub rows: u64,
    /// A hash over all that is in them.
    pub sum: Hash,
}

/// Something that was counted and summed up on both sides, and is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// A table's name as in PostgreSQL, or what the root is of.
    pub what: String,
    /// As read from the folder.
    pub here: Side,
    /// As read back from the database.
    pub there: Side,
}

impl Store {
    /// Moves the books in `folder` into `target`, which is at `address` and empty. `told` hears of each table that is
    /// written.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while a server has the folder; [`StoreError::Setup`] when the target holds something, or
    /// the books are not here; [`StoreError::Differs`] when what was written does not read as what was read. Nothing
    /// is in the target then.
    pub async fn move_books(
        permit: Permit<act::MoveBooks>,
        folder: &Path,
        target: &Self,
        address: &DatabaseUrl,
        mut told: impl FnMut(&str, u64) + Send,
    ) -> Result<Vec<Compared>, StoreError> {
        let doing = "moving the books";
        let Some(target) = target.postgres() else {
            return Err(StoreError::Setup {
                finding: "books move into PostgreSQL alone".into(),
                hint: "name a database of PostgreSQL with --database or --database-file".into(),
            });
        };
        let from = SqliteStore::open(folder).await?;
        from.settle_all_numbers(&permit).await?;
        from.unpack_openings(&permit).await?;
        let mut tx = target.begin(doing).await?;
        for setting in [
            "SET LOCAL statement_timeout = 0",
            "SET LOCAL idle_in_transaction_session_timeout = 0",
            // Whoever starts a server on it meanwhile waits, or gives up.
            "SELECT pg_advisory_xact_lock(7402260000)",
        ] {
            sqlx::query(setting).execute(&mut *tx).await.map_err(StoreError::sql(doing))?;
        }
        for table in BOOKS.iter().chain(PUBLIC).chain(UPTIME) {
            is_empty(&mut tx, table).await?;
        }
        for (pool, is_public) in [(&from.read, false), (from.public().pool(), true)] {
            is_known_whole(pool, is_public).await?;
        }
        triggers(&mut tx, false).await?;
        let mut compared = Vec::new();
        for table in BOOKS.iter().chain(PUBLIC) {
            let pool = if table.is_public { from.public().pool() } else { &from.read };
            let here = copy(pool, &mut tx, table).await?;
            told(&name_of(table), here.rows);
            compared.push((table, here));
        }
        for table in UPTIME {
            let pool = if table.is_public { from.public().pool() } else { &from.read };
            let here = copy_uptime(pool, &mut tx, table).await?;
            told(&name_of(table), here.rows);
            compared.push((table, here));
        }
        triggers(&mut tx, true).await?;
        // Every GPU is looked at once by the projector, and only what differs is written.
        sqlx::query("INSERT INTO gpu_changed (gpu) SELECT id FROM gpu ORDER BY id")
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;

        let mut same = Vec::new();
        for (table, here) in compared {
            let there = read_back(&mut tx, table).await?;
            same.push(Compared { what: name_of(table), here: here.into(), there: there.into() });
        }
        let mut connection = from.read.acquire().await.map_err(StoreError::sql(doing))?;
        let (here, there) = (roots::of_sqlite(&mut connection).await?, roots::of_postgres(&mut tx).await?);
        drop(connection);
        for ((what, here), there) in roots::NAMES.into_iter().zip(here).zip(there) {
            same.push(Compared { what: what.to_owned(), here, there });
        }
        if let Some(differs) = same.iter().find(|one| one.here != one.there) {
            return Err(StoreError::Differs { what: differs.what.clone() });
        }
        audit(&mut tx, &permit, "the books, out of a data folder").await?;
        commit(tx, doing).await?;
        note(folder, address)?;
        from.close().await;
        Ok(same)
    }
}

impl From<Tally> for Side {
    fn from(tally: Tally) -> Self {
        Self { rows: tally.rows, sum: tally.sum() }
    }
}

fn name_of(table: &Table) -> String {
    format!("{}.{}", table.schema, table.name)
}

/// Leaves word in the folder that its books are elsewhere by now.
fn note(folder: &Path, address: &DatabaseUrl) -> Result<(), StoreError> {
    use std::io::Write;
    let unusable = |source| StoreError::Folder { folder: folder.to_owned(), source };
    let mut file = std::fs::File::create(folder.join(MOVED)).map_err(unusable)?;
    writeln!(file, "{address}").and_then(|()| file.sync_all()).map_err(unusable)
}

async fn is_empty(tx: &mut PgConnection, table: &Table) -> Result<(), StoreError> {
    let is_there: bool = sqlx::query_scalar(table.is_there)
        .fetch_one(tx)
        .await
        .map_err(StoreError::sql("looking whether the database is empty"))?;
    if !is_there {
        return Ok(());
    }
    Err(StoreError::Setup {
        finding: format!("it is not empty: {} has rows, so a network lives there already", name_of(table)),
        hint: "nothing was changed. Name a database that no server was started on: CREATE DATABASE …".into(),
    })
}

/// Every table of a file of SQLite is one that this version knows what to do with.
async fn is_known_whole(pool: &SqlitePool, is_public: bool) -> Result<(), StoreError> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )
    .fetch_all(pool)
    .await
    .map_err(StoreError::sql("listing what there is to move"))?;
    let is_known = |name: &str| {
        let moves = BOOKS.iter().chain(PUBLIC).chain(UPTIME);
        name == "_sqlx_migrations"
            || moves.into_iter().any(|table| table.is_public == is_public && table.name == name)
            || STAYS.contains(&(name, is_public))
    };
    match names.iter().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(name) => Err(StoreError::Malformed(format!("it does not know how to move the table {name}"))),
    }
}

/// Lets what follows from a write by itself rest while all of it is written as it is.
async fn triggers(tx: &mut PgConnection, on: bool) -> Result<(), StoreError> {
    let statements = if on {
        [
            "ALTER TABLE gangline.gpu ENABLE TRIGGER USER",
            "ALTER TABLE gangline.cluster ENABLE TRIGGER USER",
            "ALTER TABLE gangline_public.gpu ENABLE TRIGGER USER",
        ]
    } else {
        [
            "ALTER TABLE gangline.gpu DISABLE TRIGGER USER",
            "ALTER TABLE gangline.cluster DISABLE TRIGGER USER",
            "ALTER TABLE gangline_public.gpu DISABLE TRIGGER USER",
        ]
    };
    for statement in statements {
        sqlx::query(statement).execute(&mut *tx).await.map_err(StoreError::sql("moving the books"))?;
    }
    Ok(())
}

/// Both sides have the same columns.
async fn has_same_columns(pool: &SqlitePool, tx: &mut PgConnection, table: &Table) -> Result<(), StoreError> {
    let doing = "comparing columns";
    let here: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info(?)")
        .bind(table.name)
        .fetch_all(pool)
        .await
        .map_err(StoreError::sql(doing))?;
    let there: Vec<String> = sqlx::query_scalar(
        "SELECT column_name::TEXT FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2",
    )
    .bind(table.schema)
    .bind(table.name)
    .fetch_all(tx)
    .await
    .map_err(StoreError::sql(doing))?;
    let (here, there): (BTreeSet<_>, BTreeSet<_>) = (here.into_iter().collect(), there.into_iter().collect());
    if here == there {
        return Ok(());
    }
    let differ: Vec<&String> = here.symmetric_difference(&there).collect();
    Err(StoreError::Malformed(format!(
        "{} has other columns than {}: {differ:?}",
        table.name,
        name_of(table)
    )))
}

/// Rows on their way into a table.
struct Writer<'a> {
    tx: &'a mut PgConnection,
    table: &'a Table,
    tally: Tally,
    waiting: Vec<String>,
    bytes: usize,
}

impl<'a> Writer<'a> {
    fn new(tx: &'a mut PgConnection, table: &'a Table) -> Self {
        Self { tx, table, tally: Tally::default(), waiting: Vec::new(), bytes: 0 }
    }

    async fn put(&mut self, fields: &Fields) -> Result<(), StoreError> {
        let text = self.tally.add(fields);
        self.bytes += text.len();
        self.waiting.push(text);
        if self.waiting.len() >= ROWS_AT_ONCE || self.bytes >= BYTES_AT_ONCE {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        sqlx::query(self.table.fill)
            .bind(format!("[{}]", self.waiting.join(",")))
            .execute(&mut *self.tx)
            .await
            .map_err(StoreError::sql("writing rows of the books"))?;
        self.waiting.clear();
        self.bytes = 0;
        Ok(())
    }

    /// Writes the rest, and lets numbers that the database gives go on after the last that is there.
    async fn end(mut self, highest: i64) -> Result<Tally, StoreError> {
        self.flush().await?;
        if highest > 0 {
            sqlx::query("SELECT setval(pg_get_serial_sequence($1, column_name)::REGCLASS, $2) FROM information_schema.columns WHERE table_schema = $3 AND table_name = $4 AND is_identity = 'YES'")
                .bind(name_of(self.table))
                .bind(highest)
                .bind(self.table.schema)
                .bind(self.table.name)
                .execute(&mut *self.tx)
                .await
                .map_err(StoreError::sql("letting numbers go on"))?;
        }
        Ok(self.tally)
    }
}

async fn copy(pool: &SqlitePool, tx: &mut PgConnection, table: &Table) -> Result<Tally, StoreError> {
    has_same_columns(pool, tx, table).await?;
    let mut writer = Writer::new(tx, table);
    let mut highest = 0;
    let mut rows = sqlx::query(table.read).fetch(pool);
    while let Some(row) = rows.try_next().await.map_err(StoreError::sql("reading rows of the books"))? {
        let fields = from_sqlite(&row)?;
        highest = highest.max(fields.get("id").and_then(Value::as_i64).unwrap_or(0));
        writer.put(&fields).await?;
    }
    drop(rows);
    writer.end(highest).await
}

/// Uptime, GPU by GPU: rows of hours, and the hours that are packed by months.
async fn copy_uptime(pool: &SqlitePool, tx: &mut PgConnection, table: &Table) -> Result<Tally, StoreError> {
    let doing = "reading uptime";
    has_same_columns(pool, tx, table).await?;
    let mut writer = Writer::new(tx, table);
    let gpus: Vec<Vec<u8>> = sqlx::query_scalar("SELECT gpu FROM uptime UNION SELECT gpu FROM uptime_month")
        .fetch_all(pool)
        .await
        .map_err(StoreError::sql(doing))?;
    for gpu in gpus {
        let gpu: GpuId =
            gpu.try_into().map(GpuId::from_bytes).map_err(|_| StoreError::Malformed("column gpu".into()))?;
        let months = sqlx::query("SELECT month, days FROM uptime_month WHERE gpu = ? ORDER BY month")
            .bind(gpu.blob())
            .fetch_all(pool)
            .await
            .map_err(StoreError::sql(doing))?;
        let hours = sqlx::query("SELECT hour, bits, late, unchained FROM uptime WHERE gpu = ? ORDER BY hour")
            .bind(gpu.blob())
            .fetch_all(pool)
            .await
            .map_err(StoreError::sql(doing))?;
        for hour in merged(&months, &hours)?.values() {
            writer.put(&uptime_fields(gpu, hour)).await?;
        }
    }
    writer.end(0).await
}

fn uptime_fields(gpu: GpuId, of: &PublicUptime) -> Fields {
    let bits = |bits: gangline_types::UptimeHour| Value::from(bits.0 as i64);
    Fields::from([
        ("gpu".to_owned(), hex(gpu.as_bytes())),
        ("hour".to_owned(), Value::from(of.hour.0)),
        ("bits".to_owned(), bits(of.bits)),
        ("late".to_owned(), bits(of.late)),
        ("unchained".to_owned(), bits(of.unchained)),
    ])
}

async fn read_back(tx: &mut PgConnection, table: &Table) -> Result<Tally, StoreError> {
    let mut tally = Tally::default();
    let mut rows = sqlx::query(table.read_back).fetch(tx);
    while let Some(row) = rows.try_next().await.map_err(StoreError::sql("reading back what was written"))? {
        tally.add(&from_postgres(&row.text("row")?)?);
    }
    Ok(tally)
}
