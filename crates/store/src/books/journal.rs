//! The journal of beats, on this server's disk or in the shared database: `append` is durable when it returns,
//! `discard` forgets what is in the books. What a server left behind on its disk comes back with its next start; what
//! it left behind in the database is taken over by another.

use std::path::Path;

use gangline_guard::{
    Permit, act,
    beat::{Batch, Line},
};
use gangline_types::{ClusterId, Hour};

use crate::{
    Store, StoreError,
    books::answered,
    postgres::journal::PostgresJournal,
    sqlite::journal::{DiskJournal, pack},
};

/// The journal of one server.
pub struct Journal {
    disk: DiskJournal,
    database: Option<PostgresJournal>,
}

/// Batches that a server which is no more has left behind, oldest first.
#[derive(Debug)]
pub struct LeftBehind {
    /// Whose.
    pub stream: [u8; 16],
    /// The number of the last of these batches.
    pub last: u64,
    /// What is in them.
    pub lines: Vec<Line>,
}

impl Journal {
    /// Opens the journal on disk in `folder`.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self { disk: DiskJournal::open(folder)?, database: None })
    }

    /// Shows every line that a server before this one acknowledged and left on this disk, oldest first. To be asked before
    /// anything is written.
    ///
    /// # Errors
    /// When a file cannot be read, or holds something else than a journal: acknowledged beats are not left out
    /// in silence.
    pub async fn replay(&self, each: impl FnMut(&Line)) -> Result<(), StoreError> {
        self.disk.replay(each).await
    }

    /// What was written so far is about to be folded. On disk, what comes goes into another file if this one is large, so
    /// that a journal is no longer than what the books lack.
    pub fn part(&mut self) {
        self.disk.part();
    }

    /// Writes a batch down. Returned means durable; the number says which batch it was. On disk it goes into the file
    /// of `hour`.
    ///
    /// # Errors
    /// When it is not known to be durable; then it may be there or not.
    pub async fn append(&mut self, hour: Hour, batch: &Batch) -> Result<u64, StoreError> {
        match &mut self.database {
            Some(database) => database.append(pack(batch.lines())).await,
            None => self.disk.append(hour, batch).await,
        }
    }

    /// Everything up to batch `folded`, and everything that was there at the start, is in the books: it is deleted. On
    /// disk the newest file of `now`, the running hour, stays.
    pub async fn discard(&mut self, folded: u64, now: Hour) -> Result<(), StoreError> {
        match &mut self.database {
            Some(database) => {
                self.disk.discard(u64::MAX, Hour(u32::MAX)).await?;
                database.discard(folded).await
            }
            None => self.disk.discard(folded, now).await,
        }
    }

    /// Ends the connection.
    pub async fn close(self) {
        self.disk.close().await;
        if let Some(database) = self.database {
            database.close().await;
        }
    }
}

impl Store {
    /// Opens a journal in the database that holds the books; what a server before this one left on its disk is in
    /// `folder`. The connection is the journal's own, made when it is first needed, on the runtime that asks for it.
    ///
    /// # Errors
    /// As [`Journal::open`]; [`StoreError::Setup`] where the books are in no database.
    pub fn journal(&self, folder: &Path) -> Result<Journal, StoreError> {
        let Some(books) = self.postgres() else {
            return Err(StoreError::Setup {
                finding: "the journal of beats cannot be in a database: the books are in none".into(),
                hint: "leave --beat-journal out, or give --database".into(),
            });
        };
        Ok(Journal { disk: DiskJournal::open(folder)?, database: Some(books.journal()) })
    }
}

/// What a server hears when it says that it is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// It was not known to be up before: none of its tunnels is.
    pub is_new: bool,
    /// How many seconds ago the books had every beat that other servers took.
    pub behind: u64,
}

answered! { Store,
    /// What servers that are no more left in the shared journal, one of them at a time and some thousands of batches at
    /// most; none where there is nothing, and where each server's journal is its own.
    async fn left_behind(&self, permit: &Permit<act::Reconcile>) -> Result<Option<LeftBehind>, StoreError>;

    /// Forgets what was left behind, once it is in the books.
    async fn forget_left_behind(
        &self,
        permit: &Permit<act::Reconcile>,
        left: &LeftBehind,
    ) -> Result<(), StoreError>;

    /// This server is up, and others reach it at `address`; empty: they do not. The books have every beat that it took until
    /// `behind` seconds ago.
    async fn announce(&self, address: &str, behind: u64) -> Result<Announced, StoreError>;

    /// Clusters whose tunnels now end at this server, in the place of one at another, and those whose tunnels no longer
    /// do.
    async fn hold_tunnels(&self, opened: &[ClusterId], closed: &[ClusterId]) -> Result<(), StoreError>;

    /// Where the server is reached at which a cluster's tunnel ends, if that is another one.
    async fn tunnel_at(&self, cluster: ClusterId) -> Result<Option<String>, StoreError>;

    /// This server is no more: what it left behind may be taken over at once.
    async fn retire(&self) -> Result<(), StoreError>;
}
