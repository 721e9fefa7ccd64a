//! What has ended.

use gangline_types::UnixSeconds;

use super::Books;
use crate::{Revocation, StoreError, books::revocation::revocation};

impl Books {
    pub(crate) async fn revoked_since(&self, since: UnixSeconds) -> Result<Vec<Revocation>, StoreError> {
        let rows = sqlx::query("SELECT id, kind, subject FROM revocation WHERE at >= $1 LIMIT 10000")
            .bind(since.0 as i64)
            .fetch_all(self.reading())
            .await
            .map_err(StoreError::sql("looking what has ended"))?;
        rows.iter().map(revocation).collect()
    }
}
