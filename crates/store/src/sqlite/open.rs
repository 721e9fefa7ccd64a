//! Opening a data folder: one server at a time, damage found before anything is written.

use std::{
    fs::{File, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{StoreError, sqlite::SqlitePublic};

const BUSY_SECONDS: u64 = 10;
const READERS: u32 = 3;

/// The network's books. Cheap to clone.
#[derive(Clone)]
pub struct SqliteStore {
    pub(crate) write: SqlitePool,
    pub(crate) read: SqlitePool,
    pub(crate) public_write: SqlitePool,
    public: SqlitePublic,
    _lock: Arc<File>,
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
        .statement_cache_capacity(200)
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
async fn check(file: &Path) -> Result<(), StoreError> {
    let only_read = SqliteConnectOptions::new()
        .filename(file)
        .read_only(true)
        .busy_timeout(Duration::from_secs(BUSY_SECONDS))
        .pragma("trusted_schema", "OFF")
        .pragma("cell_size_check", "ON");
    let pool = pool(only_read, 1, file).await?;
    let found = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&pool).await;
    pool.close().await;
    match found.map_err(|e| opening(file, e))? {
        ok if ok == "ok" => Ok(()),
        finding => Err(StoreError::Corrupt { file: file.to_owned(), finding }),
    }
}

async fn open_checked(file: &Path) -> Result<SqlitePool, StoreError> {
    if has_something(file) {
        check(file).await?;
    }
    pool(options(file).create_if_missing(true), 1, file).await
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

fn migrated(result: Result<(), sqlx::migrate::MigrateError>, file: &Path) -> Result<(), StoreError> {
    result.map_err(|e| match e {
        sqlx::migrate::MigrateError::Execute(e) => opening(file, e),
        other => StoreError::Malformed(format!("{}: {other}", file.display())),
    })
}

impl SqliteStore {
    /// Opens the data folder, makes it if it is new, brings its databases to this version's form.
    pub async fn open(folder: &Path) -> Result<Self, StoreError> {
        let unusable = |source| StoreError::Folder { folder: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(unusable)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let _ = std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700));
        }
        let lock = lock(folder)?;
        let main_file: PathBuf = folder.join("gangline.sqlite");
        let public_file: PathBuf = folder.join("public.sqlite");

        books_are_not_lost(&main_file, &public_file)?;
        let write = open_checked(&main_file).await?;
        migrated(sqlx::migrate!("migrations/main").run(&write).await, &main_file)?;
        let public_write = open_checked(&public_file).await?;
        migrated(sqlx::migrate!("migrations/public").run(&public_write).await, &public_file)?;

        let read = pool(options(&main_file).read_only(true), READERS, &main_file).await?;
        let public =
            SqlitePublic::new(pool(options(&public_file).read_only(true), READERS, &public_file).await?);
        Ok(Self { write, read, public_write, public, _lock: Arc::new(lock) })
    }

    /// The explorer's view: a read-only connection to a file that holds nothing private.
    pub fn public(&self) -> &SqlitePublic {
        &self.public
    }

    /// Whether a write would be durable now: makes one.
    pub async fn is_writable(&self) -> Result<(), StoreError> {
        let doing = "checking that it can be written";
        sqlx::query("PRAGMA user_version = 1").execute(&self.write).await.map_err(StoreError::sql(doing))?;
        Ok(())
    }

    /// Ends all connections; what was acknowledged is on disk already.
    pub async fn close(&self) {
        self.public.close().await;
        for pool in [&self.read, &self.write, &self.public_write] {
            pool.close().await;
        }
    }

    pub(crate) async fn begin(
        &self,
        doing: &'static str,
    ) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.write.begin().await.map_err(StoreError::sql(doing))
    }
}

pub(crate) async fn commit(tx: Transaction<'static, Sqlite>, doing: &'static str) -> Result<(), StoreError> {
    tx.commit().await.map_err(StoreError::sql(doing))
}
