//! What the books answer and how it is shaped, whichever database holds them. Each resource has its rows here
//! and names every function that a database must have: one that lacks a function does not compile.

pub mod account;
pub mod appeal;
pub mod approval;
pub mod beat;
pub mod begun;
pub mod bell;
pub mod cluster;
pub mod database;
pub mod enrolment;
pub mod epoch;
pub mod freeze;
pub mod identity;
pub mod incident;
pub mod journal;
pub mod key;
pub mod label;
pub mod lease;
pub mod log;
pub mod machine;
pub mod months;
pub mod outlet;
pub mod passkey;
pub mod password;
pub mod project;
pub mod proof;
pub mod public;
pub mod records;
pub mod revocation;
pub mod rotation;
pub mod simulate;
pub mod snapshot;
pub mod spans;
pub mod told;
pub mod witness;

use std::path::Path;

use crate::{
    DatabaseUrl, StoreError,
    postgres::{PostgresPublic, PostgresStore},
    sqlite::{SqlitePublic, SqliteStore},
};

/// A database of one kind or another.
#[derive(Clone)]
enum Backend<S, P> {
    Sqlite(S),
    Postgres(P),
}

/// The network's books. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    backend: Backend<SqliteStore, PostgresStore>,
    public: PublicStore,
}

/// The explorer's reads: rows that hold nothing private, with no way to reach anything else.
#[derive(Clone)]
pub struct PublicStore {
    backend: Backend<SqlitePublic, PostgresPublic>,
}

/// Functions that every database has under the same name, and that pass the question on to the one at hand.
macro_rules! answered {
    ($target:ident, $(
        $(#[$about:meta])*
        async fn $name:ident(&self $(, $argument:ident: $of:ty)* $(,)?) -> $answer:ty;
    )*) => {
        impl $target {$(
            $(#[$about])*
            pub async fn $name(&self $(, $argument: $of)*) -> $answer {
                match &self.backend {
                    $crate::books::Backend::Sqlite(books) => books.$name($($argument),*).await,
                    $crate::books::Backend::Postgres(books) => books.$name($($argument),*).await,
                }
            }
        )*}
    };
}
pub(crate) use answered;

answered! { Store,
    /// Whether a write would be durable now: makes one.
    async fn is_writable(&self) -> Result<(), StoreError>;

    /// Whether there are files that [`Self::check_rest`] looks through, for a time that grows with them.
    async fn has_rest(&self) -> bool;

    /// Looks for damage in files too large to be looked through at the start.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] says what was found, and where.
    async fn check_rest(&self) -> Result<(), StoreError>;

    /// Ends all connections; what was acknowledged is on disk already.
    async fn close(&self) -> ();
}

/// A folder that this process alone has, for as long as this is kept.
#[derive(Debug)]
pub struct FolderLock(#[allow(dead_code)] std::fs::File);

impl FolderLock {
    /// Takes the folder.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another process has it.
    pub fn take(folder: &Path) -> Result<Self, StoreError> {
        crate::sqlite::lock(folder).map(Self)
    }
}

impl Store {
    /// Opens the data folder, makes it if it is new, brings its databases to this version's form.
    pub async fn open(folder: &Path) -> Result<Self, StoreError> {
        let books = SqliteStore::open(folder).await?;
        let public = PublicStore { backend: Backend::Sqlite(books.public().clone()) };
        Ok(Self { backend: Backend::Sqlite(books), public })
    }

    /// Opens a database of PostgreSQL, brings it to this version's form, and makes sure that the explorer's and
    /// the intake's roles can do what they need and nothing else. `network` is the public half of the network's
    /// key; `secret`, which every server of the network has to have, gives the roles their passwords; `replica`
    /// is random and names this server among those on the database.
    ///
    /// # Errors
    /// [`StoreError::Setup`] and [`StoreError::OtherNetwork`] say what is missing.
    pub async fn connect(
        url: &DatabaseUrl,
        network: [u8; 32],
        secret: &[u8; 32],
        replica: [u8; 16],
    ) -> Result<Self, StoreError> {
        let books = PostgresStore::open(url, network, secret, replica).await?;
        let public = PublicStore { backend: Backend::Postgres(books.public().clone()) };
        Ok(Self { backend: Backend::Postgres(books), public })
    }

    /// The books in PostgreSQL, if that is where they are.
    pub(crate) fn postgres(&self) -> Option<&PostgresStore> {
        match &self.backend {
            Backend::Sqlite(_) => None,
            Backend::Postgres(books) => Some(books),
        }
    }

    /// Whether other servers may have the same database.
    pub fn is_shared(&self) -> bool {
        matches!(self.backend, Backend::Postgres(_))
    }

    /// What this server is called among those on the database, in hexadecimal; none where it is alone.
    pub fn replica(&self) -> Option<String> {
        Some(self.postgres()?.replica.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// What the operator should know of the database that this server was given, a sentence each.
    pub fn said(&self) -> &[String] {
        self.postgres().map_or(&[], |books| &books.said)
    }

    /// The explorer's view: rows that hold nothing private, through a connection that reaches nothing else.
    pub fn public(&self) -> &PublicStore {
        &self.public
    }
}
