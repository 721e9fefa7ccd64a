//! Opening a data folder: one server at a time, damage found before anything is written.

use std::{
    fs::{File, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use gangline_types::{GpuId, Hour};
use sqlx::{
    Sqlite, SqliteConnection, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{
    ChainRow, StoreError,
    sqlite::{
        SqlitePublic, groups::Groups, handed::Handed, numbers::Pending, openings::Ended, project::Sweep,
        turned::Turned,
    },
};

const BUSY_SECONDS: u64 = 10;
const READERS: u32 = 3;
/// A file up to this size is looked through for damage before anything is written: tenths of a second. A larger one is
/// looked through while it is served.
const CHECKED_BYTES: u64 = 128 << 20;
/// Memory for pages of each connection, at most, in the words of SQLite: 4 MiB where it reads and 32 where it writes. The
/// books of 600,000 machines are a gigabyte, in no order that would keep neighbours together.
const READ_CACHE: &str = "-4096";
const WRITE_CACHE: &str = "-32768";

/// Rows that a statement reads ahead of whoever takes them. They come from a thread of the connection's own: with few, a
/// long answer is as many waits for a turn on a busy machine.
pub(crate) const ROWS_AHEAD: usize = 1_000;

/// The network's books. Cheap to clone.
#[derive(Clone)]
pub struct SqliteStore {
    pub(crate) write: SqlitePool,
    pub(crate) read: SqlitePool,
    pub(crate) public_write: SqlitePool,
    public: SqlitePublic,
    /// Files that nobody has looked through for damage yet.
    unchecked: Arc<Vec<PathBuf>>,
    pub(crate) groups: Groups,
    /// Sequence numbers that do not stand with their keys yet.
    pub(crate) pending: Pending,
    /// Lanes of keys that ended lately.
    pub(crate) ended: Arc<std::sync::Mutex<Ended>>,
    /// Chains for the projection.
    pub(crate) opened: Handed<ChainRow>,
    /// Hours of GPUs for it.
    pub(crate) folded: Handed<(GpuId, Hour)>,
    /// Who came and who fell silent before the books know everybody's beats.
    pub(crate) turned: Turned,
    /// Where the projection goes on with those who came and went.
    pub(crate) sweep: Arc<std::sync::Mutex<Option<Sweep>>>,
    /// Until the store is closed: a task that has just answered may still have a clone of it.
    lock: Arc<std::sync::Mutex<Option<File>>>,
}

/// Takes a folder for this process alone.
pub(crate) fn lock(folder: &Path) -> Result<File, StoreError> {
    let unusable = |source| StoreError::Folder { folder: folder.to_owned(), source };
    let path = folder.join("lock");
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = Some(holder.trim().to_owned())
                .filter(|h| !h.is_empty() && h.bytes().all(|b| b.is_ascii_digit()));
            return Err(StoreError::InUse { folder: folder.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(unusable(source)),
    }
    // For people: who has it. The lock itself is the kernel's and ends with the process.
    file.set_len(0)
        .and_then(|_| file.rewind())
        .and_then(|_| writeln!(file, "{}", std::process::id()))
        .map_err(unusable)?;
    Ok(file)
}

fn options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(BUSY_SECONDS))
        .pragma("trusted_schema", "OFF")
        .pragma("cell_size_check", "ON")
        .pragma("cache_size", READ_CACHE)
        .row_buffer_size(ROWS_AHEAD)
        .statement_cache_capacity(200)
}

/// Of the connection that writes. A page that many transactions touch is brought into the file once for some thousands
/// of pages, not once for every thousand.
fn write_options(file: &Path) -> SqliteConnectOptions {
    options(file)
        .create_if_missing(true)
        .pragma("cache_size", WRITE_CACHE)
        .pragma("wal_autocheckpoint", "4000")
}

async fn pool(
    options: SqliteConnectOptions,
    connections: u32,
    file: &Path,
) -> Result<SqlitePool, StoreError> {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(Duration::from_secs(BUSY_SECONDS))
        .connect_with(options)
        .await
        .map_err(|e| opening(file, e))
}

/// Tells a damaged file from everything else.
fn opening(file: &Path, source: sqlx::Error) -> StoreError {
    let code = source.as_database_error().and_then(|e| e.code()).and_then(|c| c.parse::<i64>().ok());
    match code.map(|c| c & 0xff) {
        // SQLITE_CORRUPT and SQLITE_NOTADB.
        Some(11 | 26) => StoreError::Corrupt { file: file.to_owned(), finding: source.to_string() },
        _ => StoreError::sql("opening it")(source),
    }
}

/// Looks for damage without a chance to write: a connection that may write would, when it ends, bring the
/// write-ahead log into the very file that is damaged.
async fn check(file: &Path, tables: Tables) -> Result<(), StoreError> {
    let only_read = SqliteConnectOptions::new()
        .filename(file)
        .read_only(true)
        .busy_timeout(Duration::from_secs(BUSY_SECONDS))
        .pragma("trusted_schema", "OFF")
        .pragma("cell_size_check", "ON");
    let pool = pool(only_read, 1, file).await?;
    let found = findings(&pool, tables).await;
    pool.close().await;
    match found.map_err(|e| opening(file, e))? {
        None => Ok(()),
        Some(finding) => Err(StoreError::Corrupt { file: file.to_owned(), finding }),
    }
}

/// What is looked through.
#[derive(Clone, Copy, Debug)]
enum Tables {
    /// The whole file with one statement.
    All,
    /// What it says of itself.
    Schema,
    /// One table after the other, each with a view of its own: what is written meanwhile need not wait.
    Each,
}

async fn findings(pool: &SqlitePool, tables: Tables) -> Result<Option<String>, sqlx::Error> {
    let names: Vec<String> = match tables {
        Tables::All => {
            let found: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(pool).await?;
            return Ok(Some(found).filter(|found| found != "ok"));
        }
        Tables::Schema => vec!["sqlite_schema".into()],
        Tables::Each => {
            sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
                .fetch_all(pool)
                .await?
        }
    };
    for name in names {
        let found: String = sqlx::query_scalar("SELECT quick_check FROM pragma_quick_check(?)")
            .bind(name)
            .fetch_one(pool)
            .await?;
        if found != "ok" {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Opens a file that was looked through, as far as it is small enough; whether it was.
async fn open_checked(file: &Path, checked_bytes: u64) -> Result<(SqlitePool, bool), StoreError> {
    let bytes = std::fs::metadata(file).map_or(0, |facts| facts.len());
    if bytes > 0 {
        let tables = if bytes > checked_bytes { Tables::Schema } else { Tables::All };
        check(file, tables).await?;
    }
    Ok((pool(write_options(file), 1, file).await?, bytes <= checked_bytes))
}

fn has_something(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|facts| facts.len() > 0)
}

/// The books are made before the projection: a folder with a projection and without books has lost them,
/// and must not become a new network by itself.
fn books_are_not_lost(main_file: &Path, public_file: &Path) -> Result<(), StoreError> {
    if has_something(public_file) && !has_something(main_file) {
        let finding = if main_file.exists() { "it is empty" } else { "it is gone" };
        return Err(StoreError::Corrupt { file: main_file.to_owned(), finding: finding.to_owned() });
    }
    Ok(())
}

/// The note that books leave behind when they move into a database.
pub(crate) const MOVED: &str = "moved-to";

/// Books that have moved are a copy here: a network that went on with both would be two.
fn is_here_still(folder: &Path) -> Result<(), StoreError> {
    let note = folder.join(MOVED);
    match std::fs::read_to_string(&note) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(StoreError::Folder { folder: folder.to_owned(), source }),
        Ok(to) => Err(StoreError::Setup {
            finding: format!("the books in {} have moved to {}", folder.display(), to.trim()),
            hint: format!(
                "give --database or --database-file with that address. To go back to what was here, and lose everything \
                 since, delete {}",
                note.display()
            ),
        }),
    }
}

fn migrated(result: Result<(), sqlx::migrate::MigrateError>, file: &Path) -> Result<(), StoreError> {
    result.map_err(|e| match e {
        sqlx::migrate::MigrateError::Execute(e) => opening(file, e),
        other => StoreError::Malformed(format!("{}: {other}", file.display())),
    })
}

impl SqliteStore {
    /// Opens the data folder, makes it if it is new, brings its databases to this version's form.
    pub async fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::open_checking(folder, CHECKED_BYTES).await
    }

    /// The same, with files up to so many bytes looked through for damage before anything is written. What is larger
    /// waits for [`Self::check_rest`].
    async fn open_checking(folder: &Path, checked_bytes: u64) -> Result<Self, StoreError> {
        let unusable = |source| StoreError::Folder { folder: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(unusable)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let _ = std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700));
        }
        let lock = lock(folder)?;
        is_here_still(folder)?;
        let main_file: PathBuf = folder.join("gangline.sqlite");
        let public_file: PathBuf = folder.join("public.sqlite");

        books_are_not_lost(&main_file, &public_file)?;
        let (write, main_checked) = open_checked(&main_file, checked_bytes).await?;
        migrated(sqlx::migrate!("migrations/main").run(&write).await, &main_file)?;
        let (public_write, public_checked) = open_checked(&public_file, checked_bytes).await?;
        migrated(sqlx::migrate!("migrations/public").run(&public_write).await, &public_file)?;

        let read = pool(options(&main_file).read_only(true), READERS, &main_file).await?;
        let public =
            SqlitePublic::new(pool(options(&public_file).read_only(true), READERS, &public_file).await?);
        let unchecked = [(main_file, main_checked), (public_file, public_checked)];
        let unchecked =
            Arc::new(unchecked.into_iter().filter(|(_, checked)| !checked).map(|(file, _)| file).collect());
        let store = Self {
            write,
            read,
            public_write,
            public,
            unchecked,
            groups: Groups::default(),
            pending: Pending::default(),
            ended: Arc::default(),
            opened: Handed::default(),
            folded: Handed::default(),
            turned: Turned::default(),
            sweep: Arc::default(),
            lock: Arc::new(std::sync::Mutex::new(Some(lock))),
        };
        store.remember_numbers().await?;
        Ok(store)
    }

    /// The explorer's view: a read-only connection to a file that holds nothing private.
    pub fn public(&self) -> &SqlitePublic {
        &self.public
    }

    /// Whether there are files too large to be looked through at the start.
    pub async fn has_rest(&self) -> bool {
        !self.unchecked.is_empty()
    }

    /// Looks for damage in files too large to be looked through at the start.
    pub async fn check_rest(&self) -> Result<(), StoreError> {
        for file in self.unchecked.iter() {
            check(file, Tables::Each).await?;
        }
        Ok(())
    }

    /// Whether a write would be durable now: makes one.
    pub async fn is_writable(&self) -> Result<(), StoreError> {
        let doing = "checking that it can be written";
        sqlx::query("PRAGMA user_version = 1").execute(&self.write).await.map_err(StoreError::sql(doing))?;
        Ok(())
    }

    /// Ends all connections and lets go of the folder; what was acknowledged is on disk already.
    pub async fn close(&self) {
        self.public.close().await;
        for pool in [&self.read, &self.write, &self.public_write] {
            pool.close().await;
        }
        if let Some(file) = self.lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
            // Closing the file is not enough: a child that was just forked and runs nothing yet has it open too.
            let _ = file.unlock();
        }
    }

    pub(crate) async fn begin(
        &self,
        doing: &'static str,
    ) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.write.begin().await.map_err(StoreError::sql(doing))
    }

    /// A transaction that no other runs beside: here all are.
    pub(crate) async fn begin_alone(
        &self,
        doing: &'static str,
    ) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.begin(doing).await
    }

    /// The transaction in which is shown what `tx` wrote into the books: it is of another file, and the books come
    /// first.
    pub(crate) async fn to_show(
        &self,
        tx: Transaction<'static, Sqlite>,
        doing: &'static str,
    ) -> Result<Transaction<'static, Sqlite>, StoreError> {
        commit(tx, doing).await?;
        self.public_write.begin().await.map_err(StoreError::sql(doing))
    }

    /// Where it is read.
    pub(crate) fn reading(&self) -> &SqlitePool {
        &self.read
    }
    /// Where one statement of the public projection is written by itself.
    pub(crate) fn writing_shown(&self) -> &SqlitePool {
        &self.public_write
    }
    /// Where one statement is written by itself.
    pub(crate) fn writing(&self) -> &SqlitePool {
        &self.write
    }
}

/// From here on no other transaction of its kind runs beside this one: here none does.
pub(crate) async fn alone(_: &mut SqliteConnection, _: &'static str) -> Result<(), StoreError> {
    Ok(())
}

pub(crate) async fn commit(tx: Transaction<'static, Sqlite>, doing: &'static str) -> Result<(), StoreError> {
    tx.commit().await.map_err(StoreError::sql(doing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn damage_in_a_large_file_is_found_while_it_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        for n in 0..200u8 {
            sqlx::query("INSERT INTO account (id, name, role, created_at) VALUES (?, ?, 'supplier', 0)")
                .bind(vec![n; 16])
                .bind("x".repeat(60))
                .execute(&store.write)
                .await
                .unwrap();
        }
        let root: i64 = sqlx::query_scalar("SELECT rootpage FROM sqlite_schema WHERE name = 'account'")
            .fetch_one(&store.write)
            .await
            .unwrap();
        store.close().await;
        drop(store);

        let open = || SqliteStore::open_checking(folder.path(), 0);
        let store = open().await.unwrap();
        store.check_rest().await.unwrap();
        store.close().await;
        drop(store);
        let main = folder.path().join("gangline.sqlite");
        let mut bytes = std::fs::read(&main).unwrap();
        let at = (root as usize - 1) * 4096;
        bytes[at..at + 4096].fill(0x5a);
        std::fs::write(&main, bytes).unwrap();
        let store = open().await.unwrap();
        let found = store.check_rest().await.unwrap_err();
        assert!(matches!(&found, StoreError::Corrupt { file, .. } if *file == main), "{found}");
        store.close().await;
        drop(store);
        // A file that is small enough is refused at once.
        assert!(matches!(SqliteStore::open(folder.path()).await, Err(StoreError::Corrupt { .. })));
    }
}
