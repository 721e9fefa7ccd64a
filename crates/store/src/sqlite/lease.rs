//! One server has the data folder, so it holds every lease.

use super::SqliteStore;
use crate::{Lease, StoreError};

impl SqliteStore {
    pub(crate) async fn lease(&self, name: &'static str) -> Result<Option<Lease>, StoreError> {
        Ok(Some(Lease { name, generation: 1 }))
    }

    pub(crate) async fn give_leases_back(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
