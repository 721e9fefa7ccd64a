//! What has ended.

use gangline_types::UnixSeconds;

use super::SqliteStore;
use crate::{Ended, Revocation, StoreError, sql::Columns};

impl SqliteStore {
    pub async fn revoked_since(&self, since: UnixSeconds) -> Result<Vec<Revocation>, StoreError> {
        let rows = sqlx::query("SELECT id, kind, subject FROM revocation WHERE at >= ? LIMIT 10000")
            .bind(since.0 as i64)
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("looking what has ended"))?;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            let ended = match row.text("kind")?.as_str() {
                "key" => Ended::Key(row.id("subject")?),
                "session" => Ended::Session(row.id("subject")?),
                "account" => Ended::Account(row.id("subject")?),
                "machine" => Ended::Machine(row.id("subject")?),
                other => return Err(StoreError::Malformed(format!("a revocation of a {other}"))),
            };
            Ok(Revocation { number: row.int("id")?, ended })
        };
        rows.iter().map(read).collect()
    }
}
