//! What can go wrong with the database, in words for the operator.

use std::{path::PathBuf, sync::Arc};

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the data folder.
    #[error("the data folder {folder} is in use by another gangline serve{}", holder.as_deref().map(|p| format!(" (process {p})")).unwrap_or_default())]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The process that says it has it.
        holder: Option<String>,
    },
    /// The data folder cannot be made or written.
    #[error("the data folder {folder} cannot be used")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The database file is damaged.
    #[error("the database {file} is damaged: {finding}")]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// What was found.
        finding: String,
    },
    /// No space is left.
    #[error("no space is left on the disk that holds the database")]
    Full,
    /// What was read is not what we write.
    #[error("the database holds something that this version does not understand: {0}")]
    Malformed(String),
    /// The network's log and its published copy contradict each other; nothing is signed.
    #[error("the network's log cannot go on: {0}")]
    Log(String),
    /// Not there, or no longer as it was.
    #[error("{0}")]
    Gone(&'static str),
    /// The database is there, but not as it has to be.
    #[error("the database cannot be used: {finding}")]
    Setup {
        /// What is wrong.
        finding: String,
        /// What to do.
        hint: String,
    },
    /// The database is another network's.
    #[error("the database belongs to the network with the key {there}, and network.key here is {here}")]
    OtherNetwork {
        /// The key in the data folder.
        here: String,
        /// The key in the database.
        there: String,
    },
    /// What was moved does not read as what it was.
    #[error("what was written does not read back as what was read: {what}")]
    Differs {
        /// The table, or what the root is of.
        what: String,
    },
    /// Another server has taken this job over.
    #[error("another server does the job {name} by now; what this one began is undone")]
    LeaseLost {
        /// The job.
        name: &'static str,
    },
    /// What befell several questions that were answered together.
    #[error(transparent)]
    Together(Arc<StoreError>),
    /// Any other failure.
    #[error("the database failed while {doing}")]
    Sql {
        /// What we were doing.
        doing: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
}

impl StoreError {
    pub(crate) fn sql(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| {
            let code = source.as_database_error().and_then(|e| e.code()).map(|c| c.into_owned());
            match code.as_deref() {
                // Five characters are PostgreSQL's: disk_full.
                Some("53100") => Self::Full,
                // SQLite's extended codes carry the primary code in their lowest byte; 13 is SQLITE_FULL.
                Some(code) if code.len() < 5 && code.parse::<i64>().is_ok_and(|code| code & 0xff == 13) => {
                    Self::Full
                }
                _ => Self::Sql { doing, source },
            }
        }
    }

    /// The same for each of so many who asked together.
    pub(crate) fn for_each<T, E: From<Self>>(self, asked: usize) -> Vec<Result<T, E>> {
        let all = Arc::new(self);
        let one = |_| match &*all {
            Self::Full => Self::Full,
            _ => Self::Together(Arc::clone(&all)),
        };
        (0..asked).map(one).map(|error| Err(error.into())).collect()
    }
    /// A group that answers together broke off.
    pub(crate) fn broken() -> Self {
        Self::Sql { doing: "answering several questions together", source: sqlx::Error::WorkerCrashed }
    }

    /// What the operator can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Together(all) => return all.hint(),
            Self::InUse { .. } => "stop that server first, or give this one another --data folder".into(),
            Self::Folder { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                "free space on that disk, or give another --data folder".into()
            }
            Self::Folder { folder, .. } => {
                format!(
                    "make {} a folder that this user can write, or give another --data folder",
                    folder.display()
                )
            }
            Self::Corrupt { file, .. } => format!(
                "nothing was changed. Restore {0} from a backup; or save what can be read with `sqlite3 {0} .recover | sqlite3 {0}.new`, move {0} and its -wal file away, and put {0}.new in its place",
                file.display()
            ),
            Self::Full => {
                "free space on that disk; what was acknowledged is kept, and a server that runs goes on by itself"
                    .into()
            }
            Self::Log(_) => "gangline.sqlite or public.sqlite was changed or restored from an older copy; bring back the newest copies of both. The log signs nothing until they agree".into(),
            Self::Setup { hint, .. } => hint.clone(),
            Self::OtherNetwork { .. } => "give every server of a network the same network.key: copy it from the data folder of one that runs".into(),
            _ => return None,
        })
    }
}
