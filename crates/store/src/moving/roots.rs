//! What sums the books up, computed again from what stands in them, on either side: the log's root, snapshots' roots,
//! and the tips of chains.

use futures_util::TryStreamExt;
use gangline_guard::log::{Edge, leaf_hash};
use gangline_rules::{snapshot::root, spans::span_of};
use gangline_types::{Hash, public::PublicSnapshot};
use sqlx::{PgConnection, SqliteConnection};

use super::Side;
use crate::{
    StoreError,
    books::{
        public::unpacked,
        spans::{of_period, sums_of},
    },
    sql::Columns,
};

/// Each of these with what it counts.
pub(super) const NAMES: [&str; 3] = ["the log's root", "roots of snapshots", "tips of chains"];

const DOING: &str = "computing roots again";

macro_rules! roots {
    ($name:ident of $connection:ty: $checkpoint:literal, $entries:literal, $heads:literal, $groups:literal, $sums:literal, $packed:literal, $chains:literal) => {
        /// The same three on this side, in the order of their names.
        pub(super) async fn $name(connection: &mut $connection) -> Result<[Side; 3], StoreError> {
            let failed = || StoreError::sql(DOING);
            let signed = sqlx::query($checkpoint)
                .fetch_optional(&mut *connection)
                .await
                .map_err(failed())?
                .map(|r| Ok::<_, StoreError>((r.int("size")?, r.hash("root")?)))
                .transpose()?;
            let mut edge = Edge::default();
            let check = |edge: &Edge| match signed {
                Some((size, root)) if size == edge.size() && root != edge.root() => {
                    Err(StoreError::Log(format!("the first {size} entries are not those that were signed")))
                }
                _ => Ok(()),
            };
            let mut entries = sqlx::query($entries).fetch(&mut *connection);
            while let Some(row) = entries.try_next().await.map_err(failed())? {
                edge.push(leaf_hash(&row.bytes("entry")?), &mut |_| {});
                check(&edge)?;
            }
            drop(entries);
            if let Some((size, _)) = signed.filter(|(size, _)| *size > edge.size()) {
                return Err(StoreError::Log(format!(
                    "{size} entries were signed, and {} are in the books",
                    edge.size()
                )));
            }

            let heads = sqlx::query($heads).fetch_all(&mut *connection).await.map_err(failed())?;
            let mut roots = blake3::Hasher::new();
            for row in &heads {
                let head: PublicSnapshot = row.json("head")?;
                let groups = sqlx::query($groups)
                    .bind(i64::from(head.season))
                    .bind(i64::from(head.period))
                    .fetch_all(&mut *connection)
                    .await
                    .map_err(failed())?;
                let mut entries = Vec::new();
                for group in &groups {
                    entries.extend(unpacked(&group.bytes("records")?)?);
                }
                if groups.is_empty() {
                    let span = i64::from(span_of(head.period));
                    let row = sqlx::query($sums)
                        .bind(i64::from(head.season))
                        .bind(span)
                        .fetch_optional(&mut *connection)
                        .await
                        .map_err(failed())?;
                    let sums = row.map(|row| sums_of(&row.bytes("sums")?)).transpose()?.unwrap_or_default();
                    let rows = sqlx::query($packed)
                        .bind(i64::from(head.season))
                        .bind(span)
                        .fetch_all(&mut *connection)
                        .await
                        .map_err(failed())?;
                    for row in &rows {
                        entries.extend(of_period(&row.bytes("gpus")?, &sums, head.period)?);
                    }
                }
                roots.update(&head.root.0).update(&root(&head, &entries).0);
            }

            let (mut tips, mut count) = (blake3::Hasher::new(), 0);
            let mut chains = sqlx::query($chains).fetch(&mut *connection);
            while let Some(row) = chains.try_next().await.map_err(failed())? {
                tips.update(&row.bytes("gpu")?);
                tips.update(&row.int("starts")?.to_le_bytes());
                tips.update(&row.bytes("tip")?);
                count += 1;
            }
            Ok([
                Side { rows: edge.size(), sum: edge.root() },
                Side { rows: heads.len() as u64, sum: Hash::from(roots.finalize()) },
                Side { rows: count, sum: Hash::from(tips.finalize()) },
            ])
        }
    };
}

roots! { of_sqlite of SqliteConnection:
    "SELECT size, root FROM log_checkpoint WHERE one = 1",
    "SELECT entry FROM log_entry ORDER BY idx",
    "SELECT head FROM snapshot ORDER BY season, period",
    "SELECT records FROM entries WHERE season = ? AND period = ? ORDER BY first",
    "SELECT sums FROM entries_span WHERE season = ? AND span = ?",
    "SELECT gpus FROM entries_packed WHERE season = ? AND span = ? ORDER BY first",
    "SELECT gpu, starts, tip FROM uptime_chain ORDER BY gpu, starts, tip"
}
roots! { of_postgres of PgConnection:
    "SELECT size, root FROM gangline.log_checkpoint WHERE one = 1",
    "SELECT entry FROM gangline.log_entry ORDER BY idx",
    "SELECT head FROM gangline.snapshot ORDER BY season, period",
    "SELECT records FROM gangline.entries WHERE season = $1 AND period = $2 ORDER BY first",
    "SELECT sums FROM gangline.entries_span WHERE season = $1 AND span = $2",
    "SELECT gpus FROM gangline.entries_packed WHERE season = $1 AND span = $2 ORDER BY first",
    "SELECT gpu, starts, tip FROM gangline.uptime_chain ORDER BY gpu, starts, tip"
}
