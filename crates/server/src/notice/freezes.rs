//! What is frozen, as every request takes it along. Read from the books at the start, after every change made
//! here, and each second for what other servers on the same books changed.

use std::sync::{Arc, RwLock};

use gangline_guard::Freezes;
use gangline_store::{Store, StoreError};

use crate::edge;

/// The freezes of the moment. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct FreezeView(Arc<RwLock<Freezes>>);

impl FreezeView {
    /// As in the books now.
    ///
    /// # Errors
    /// When they cannot be read: what was known stays.
    pub async fn load(store: &Store) -> Result<Self, StoreError> {
        let view = Self::default();
        view.reload(store).await?;
        Ok(view)
    }
    /// Reads them again.
    ///
    /// # Errors
    /// When they cannot be read: what was known stays.
    pub async fn reload(&self, store: &Store) -> Result<(), StoreError> {
        let freezes = Freezes::new(store.frozen(edge::now()).await?);
        *self.0.write().unwrap_or_else(|e| e.into_inner()) = freezes;
        Ok(())
    }
    /// What is frozen now.
    pub fn current(&self) -> Freezes {
        self.0.read().unwrap_or_else(|e| e.into_inner()).clone()
    }
}
