//! What servers on one database tell each other at once. Nothing rests on it: each finds the same by looking, a little
//! later.

use gangline_types::MachineId;

use crate::{Store, StoreError, postgres::told::PostgresTold};

/// What another server, or this one, has just written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// A key, session, account or machine has ended.
    Ended,
    /// A cluster on this machine changed.
    Cluster(MachineId),
    /// Something of a later version; or things were missed while the connection was away: look at everything.
    Something,
}

/// Hears what is told.
pub struct Hearing(PostgresTold);

impl Hearing {
    /// The next thing that is told.
    ///
    /// # Errors
    /// When the database cannot be heard any more; then [`Store::hear`] again.
    pub async fn next(&mut self) -> Result<Told, StoreError> {
        self.0.next().await
    }
}

impl Store {
    /// Begins to hear what is told from now on; none where this server is alone with its books.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn hear(&self) -> Result<Option<Hearing>, StoreError> {
        match self.postgres() {
            None => Ok(None),
            Some(books) => Ok(Some(Hearing(books.hear().await?))),
        }
    }
}
