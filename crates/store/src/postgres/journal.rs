//! The journal of beats in the database: one stream for each server, by the intake's role and a connection of its own.
//! Also which servers are up, and what those that are not have left behind.

use std::{sync::Arc, time::Duration};

use gangline_guard::{Permit, act, beat::Line};
use gangline_types::ClusterId;
use sqlx::{
    Connection, PgConnection,
    postgres::{PgConnectOptions, PgRow},
};

use super::{PostgresStore, open::primary};
use crate::{
    StoreError,
    books::{
        journal::{Announced, LeftBehind},
        lease::HELD_SECONDS,
    },
    sql::{Columns, Id},
    sqlite::journal::unpack,
};

/// How long a batch may take to be durable before machines are told that it is not known to be. A standby that is
/// waited for may be away.
const APPEND: Duration = Duration::from_secs(10);
/// Batches that are taken over at once.
const BATCHES_AT_ONCE: i64 = 4_096;

/// One server's stream.
pub(crate) struct PostgresJournal {
    hosts: Arc<Vec<PgConnectOptions>>,
    stream: [u8; 16],
    open: Option<PgConnection>,
}

impl PostgresJournal {
    /// The connection, made anew to whichever host takes writes where there is none.
    async fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        let connection = match self.open.take() {
            Some(connection) => connection,
            None => {
                let at = primary(&self.hosts).await?;
                PgConnection::connect_with(&self.hosts[at]).await?
            }
        };
        Ok(self.open.insert(connection))
    }

    /// Writes a batch down; its number.
    pub(crate) async fn append(&mut self, lines: Vec<u8>) -> Result<u64, StoreError> {
        let doing = "writing beats into the journal";
        let stream = self.stream.to_vec();
        let written = tokio::time::timeout(APPEND, async {
            let connection = self.connection().await?;
            sqlx::query_scalar::<_, i64>("SELECT gangline_intake.append($1, $2)")
                .bind(stream)
                .bind(lines)
                .fetch_one(connection)
                .await
        });
        match written.await.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            Ok(number) => Ok(number as u64),
            Err(error) => {
                // A connection that failed is not trusted with the next batch.
                self.open = None;
                Err(StoreError::sql(doing)(error))
            }
        }
    }

    /// Forgets batches up to this one.
    pub(crate) async fn discard(&mut self, folded: u64) -> Result<(), StoreError> {
        let doing = "deleting beats that are in the books from the journal";
        let Some(connection) = &mut self.open else { return Ok(()) };
        let deleted = sqlx::query("SELECT gangline_intake.discard($1, $2)")
            .bind(self.stream.to_vec())
            .bind(folded as i64)
            .execute(connection);
        let deleted = tokio::time::timeout(APPEND, deleted).await;
        if let Err(error) = deleted.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            self.open = None;
            return Err(StoreError::sql(doing)(error));
        }
        Ok(())
    }

    pub(crate) async fn close(self) {
        if let Some(connection) = self.open {
            let _ = connection.close().await;
        }
    }
}

/// Adds the lines of a batch.
pub(super) fn take_apart(row: &PgRow, lines: &mut Vec<Line>) -> Result<(), StoreError> {
    unpack(&row.bytes("lines")?, lines)
        .ok_or_else(|| StoreError::Malformed("a batch of beats of another form".into()))
}

impl PostgresStore {
    /// This server's journal.
    pub(crate) fn journal(&self) -> PostgresJournal {
        PostgresJournal { hosts: Arc::clone(&self.intake_hosts), stream: self.replica, open: None }
    }

    pub(crate) async fn left_behind(
        &self,
        _: &Permit<act::Reconcile>,
    ) -> Result<Option<LeftBehind>, StoreError> {
        let doing = "looking for beats that a server left behind";
        let rows = sqlx::query("SELECT id, stream, lines FROM journal WHERE stream = (SELECT j.stream FROM journal j WHERE j.stream <> $1 AND NOT EXISTS (SELECT 1 FROM replica r WHERE r.id = j.stream AND r.until > clock_timestamp()) ORDER BY j.id LIMIT 1) ORDER BY id LIMIT $2")
            .bind(self.replica.to_vec())
            .bind(BATCHES_AT_ONCE)
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::sql(doing))?;
        let Some(last) = rows.last() else { return Ok(None) };
        let stream = last.bytes("stream")?;
        let stream = stream.try_into().map_err(|_| StoreError::Malformed("column stream".into()))?;
        let mut left = LeftBehind { stream, last: last.int("id")?, lines: Vec::new() };
        for row in &rows {
            take_apart(row, &mut left.lines)?;
        }
        Ok(Some(left))
    }

    pub(crate) async fn forget_left_behind(
        &self,
        _: &Permit<act::Reconcile>,
        left: &LeftBehind,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM journal WHERE stream = $1 AND id <= $2")
            .bind(left.stream.to_vec())
            .bind(left.last as i64)
            .execute(&self.pool)
            .await
            .map_err(StoreError::sql("forgetting beats that were taken over"))?;
        Ok(())
    }

    pub(crate) async fn announce(&self, address: &str, behind: u64) -> Result<Announced, StoreError> {
        let doing = "announcing this server";
        let is_new: bool = sqlx::query_scalar("INSERT INTO replica AS r (id, address, until, behind) VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3), $4) ON CONFLICT (id) DO UPDATE SET address = excluded.address, until = excluded.until, behind = excluded.behind RETURNING xmax = 0")
            .bind(self.replica.to_vec())
            .bind(address)
            .bind(HELD_SECONDS as f64)
            .bind(behind as i64)
            .fetch_one(&self.pool)
            .await
            .map_err(StoreError::sql(doing))?;
        // Whoever is silent for a minute is gone, and its tunnels with it.
        sqlx::query("DELETE FROM replica WHERE until < clock_timestamp() - INTERVAL '1 minute'")
            .execute(&self.pool)
            .await
            .map_err(StoreError::sql(doing))?;
        let behind: i64 = sqlx::query_scalar(
            "SELECT coalesce(max(behind), 0) FROM replica WHERE id <> $1 AND until > clock_timestamp()",
        )
        .bind(self.replica.to_vec())
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::sql(doing))?;
        Ok(Announced { is_new, behind: behind as u64 })
    }

    pub(crate) async fn hold_tunnels(
        &self,
        opened: &[ClusterId],
        closed: &[ClusterId],
    ) -> Result<(), StoreError> {
        let doing = "noting which tunnels end here";
        let ids = |clusters: &[ClusterId]| clusters.iter().map(Id::blob).collect::<Vec<_>>();
        sqlx::query("INSERT INTO tunnel AS t (cluster, replica, opened_at) SELECT c.id, $1, clock_timestamp() FROM unnest($2) AS n (id) JOIN cluster c ON c.id = n.id ON CONFLICT (cluster) DO UPDATE SET replica = excluded.replica, opened_at = excluded.opened_at")
            .bind(self.replica.to_vec())
            .bind(ids(opened))
            .execute(&self.pool)
            .await
            .map_err(StoreError::sql(doing))?;
        sqlx::query("DELETE FROM tunnel WHERE replica = $1 AND cluster = ANY ($2)")
            .bind(self.replica.to_vec())
            .bind(ids(closed))
            .execute(&self.pool)
            .await
            .map_err(StoreError::sql(doing))?;
        Ok(())
    }

    pub(crate) async fn tunnel_at(&self, cluster: ClusterId) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar("SELECT r.address FROM tunnel t JOIN replica r ON r.id = t.replica WHERE t.cluster = $1 AND r.id <> $2 AND r.address <> '' AND r.until > clock_timestamp()")
            .bind(cluster.blob())
            .bind(self.replica.to_vec())
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::sql("looking where a tunnel ends"))
    }

    pub(crate) async fn retire(&self) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM replica WHERE id = $1")
            .bind(self.replica.to_vec())
            .execute(&self.pool)
            .await
            .map_err(StoreError::sql("retiring this server"))?;
        Ok(())
    }
}
