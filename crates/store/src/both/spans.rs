//! Old entries of snapshots, packed ([`gangline_rules::spans`]), in the books and in the public projection alike.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use gangline_guard::{Permit, act};
use gangline_rules::{
    groups::{self, GROUP},
    spans::{Held, SPAN, Sums, span_of, unpack},
};
use gangline_types::{
    GpuId,
    public::{PublicEntry, PublicSeason},
};

use super::{Books, Public};
use crate::{
    EntryGroup, StoreError,
    books::{
        public::unpacked,
        spans::{of_period, sums_of},
    },
    sql::{Columns, Id},
};

/// GPUs in a row of what is packed.
const GPUS: usize = 64;
/// Groups of each period that one step reads.
const GROUPS_AT_ONCE: usize = 64;

/// The same over tables of the books or of the projection.
macro_rules! packing {
    ($pack:ident, $begin:ident, $entries:expr, $packed:expr, $span:expr) => {
        async fn $pack(&self, season: &PublicSeason, span: u32) -> Result<(), StoreError> {
            let doing = "packing old entries of snapshots";
            let failed = || StoreError::sql(doing);
            let number = i64::from(season.number);
            let first = i64::from(span) * SPAN as i64;
            let mut sums = Sums { budgets: [season.period_budget.0; SPAN], ..Sums::default() };
            let pool = self.$begin();
            let mut rows = sqlx::query(concat!("SELECT period, records FROM ", $entries, " WHERE season = $1 AND period >= $2 AND period < $3"))
                .bind(number)
                .bind(first)
                .bind(first + SPAN as i64)
                .fetch(pool);
            while let Some(row) = rows.try_next().await.map_err(failed())? {
                let n = (row.int("period")? as i64 - first) as usize;
                unpacked(&row.bytes("records")?)?.iter().for_each(|entry| sums.add(n, entry));
            }
            drop(rows);
            // What a try that broke off has left.
            sqlx::query(concat!("DELETE FROM ", $packed, " WHERE season = $1 AND span = $2"))
                .bind(number)
                .bind(i64::from(span))
                .execute(pool)
                .await
                .map_err(failed())?;
            let mut after: Option<GpuId> = None;
            loop {
                // Everybody up to the least of the last ids that a period's groups reach.
                let mut held: BTreeMap<GpuId, Held> = BTreeMap::new();
                let mut end: Option<GpuId> = None;
                for n in 0..SPAN {
                    let rows = sqlx::query(concat!("SELECT records FROM ", $entries, " WHERE season = $1 AND period = $2 AND first >= coalesce((SELECT first FROM ", $entries, " WHERE season = $1 AND period = $2 AND first <= $3 ORDER BY first DESC LIMIT 1), '') ORDER BY first LIMIT $4"))
                        .bind(number)
                        .bind(first + n as i64)
                        .bind(after.map(|gpu| gpu.blob()).unwrap_or_default())
                        .bind(GROUPS_AT_ONCE as i64)
                        .fetch_all(pool)
                        .await
                        .map_err(failed())?;
                    let mut last = None;
                    for row in &rows {
                        for entry in unpacked(&row.bytes("records")?)? {
                            last = Some(entry.gpu);
                            if after.is_none_or(|after| entry.gpu > after) {
                                let of = held.entry(entry.gpu).or_insert_with(|| Held::new(entry.gpu));
                                of.entries[n] = Some(entry);
                            }
                        }
                    }
                    if rows.len() == GROUPS_AT_ONCE {
                        end = last.map(|last| end.map_or(last, |end| end.min(last)));
                    }
                }
                let all: Vec<Held> = held.into_values().filter(|held| end.is_none_or(|end| held.gpu <= end)).collect();
                let mut tx = pool.begin().await.map_err(failed())?;
                for some in all.chunks(GPUS) {
                    let mut bytes = Vec::with_capacity(GPUS * 48);
                    for held in some {
                        let more = held.pack(&sums).ok_or_else(|| {
                            StoreError::Malformed(format!("entries of {} in span {span} of season {}", held.gpu, season.number))
                        })?;
                        bytes.extend(more);
                    }
                    sqlx::query(concat!("INSERT INTO ", $packed, " (season, span, first, gpus) VALUES ($1, $2, $3, $4)"))
                        .bind(number)
                        .bind(i64::from(span))
                        .bind(some[0].gpu.blob())
                        .bind(bytes)
                        .execute(&mut *tx)
                        .await
                        .map_err(failed())?;
                }
                tx.commit().await.map_err(failed())?;
                match end {
                    Some(_) => after = end,
                    None => break,
                }
            }
            // From here on it is read where it is packed.
            sqlx::query(concat!("INSERT INTO ", $span, " (season, span, sums) VALUES ($1, $2, $3)"))
                .bind(number)
                .bind(i64::from(span))
                .bind(sums.pack())
                .execute(pool)
                .await
                .map_err(failed())?;
            for period in first..first + SPAN as i64 {
                sqlx::query(concat!("DELETE FROM ", $entries, " WHERE season = $1 AND period = $2"))
                    .bind(number)
                    .bind(period)
                    .execute(pool)
                    .await
                    .map_err(failed())?;
            }
            Ok(())
        }
    };
}

impl Books {
    packing!(pack_in_books, writing, "entries", "entries_packed", "entries_span");
    packing!(
        pack_shown,
        writing_shown,
        said!(shown "entries"),
        said!(shown "entries_packed"),
        said!(shown "entries_span")
    );

    pub(crate) async fn pack_entries(
        &self,
        _: &Permit<act::Reconcile>,
        public: bool,
        season: &PublicSeason,
        span: u32,
    ) -> Result<(), StoreError> {
        if public { self.pack_shown(season, span).await } else { self.pack_in_books(season, span).await }
    }

    pub(crate) async fn packed_spans(
        &self,
        _: &Permit<act::Reconcile>,
        public: bool,
        season: u32,
    ) -> Result<u32, StoreError> {
        let (sql, pool) = if public {
            (
                concat!(
                    "SELECT coalesce(max(span) + 1, 0) AS spans FROM ",
                    said!(shown "entries_span"),
                    " WHERE season = $1"
                ),
                self.writing_shown(),
            )
        } else {
            ("SELECT coalesce(max(span) + 1, 0) AS spans FROM entries_span WHERE season = $1", self.writing())
        };
        let row = sqlx::query(sql)
            .bind(i64::from(season))
            .fetch_one(pool)
            .await
            .map_err(StoreError::sql("counting what is packed"))?;
        Ok(row.int("spans")? as u32)
    }

    /// The groups of a period whose entries are packed in the books; none where they are not.
    pub(super) async fn old_groups(&self, season: u32, period: u32) -> Result<Vec<EntryGroup>, StoreError> {
        let doing = "reading old entries of a snapshot";
        let row = sqlx::query("SELECT sums FROM entries_span WHERE season = $1 AND span = $2")
            .bind(i64::from(season))
            .bind(i64::from(span_of(period)))
            .fetch_optional(self.reading())
            .await
            .map_err(StoreError::sql(doing))?;
        let Some(row) = row else { return Ok(Vec::new()) };
        let sums = sums_of(&row.bytes("sums")?)?;
        let rows =
            sqlx::query("SELECT gpus FROM entries_packed WHERE season = $1 AND span = $2 ORDER BY first")
                .bind(i64::from(season))
                .bind(i64::from(span_of(period)))
                .fetch_all(self.reading())
                .await
                .map_err(StoreError::sql(doing))?;
        let mut entries = Vec::new();
        for row in &rows {
            entries.extend(of_period(&row.bytes("gpus")?, &sums, period)?);
        }
        let group = |some: &[PublicEntry]| EntryGroup { first: some[0].gpu, records: groups::pack(some) };
        Ok(entries.chunks(GROUP).map(group).collect())
    }
}

/// A part of a period's packed entries.
pub(super) struct Part {
    pub(super) entries: Vec<PublicEntry>,
    /// Where to go on: less than every id that comes after the last GPU that was looked at.
    pub(super) through: Vec<u8>,
}

impl Public {
    /// What the shares of a period's packed entries follow from; none where they are not packed.
    pub(super) async fn packed(&self, season: u32, period: u32) -> Result<Option<Sums>, StoreError> {
        let row = sqlx::query("SELECT sums FROM entries_span WHERE season = $1 AND span = $2")
            .bind(i64::from(season))
            .bind(i64::from(span_of(period)))
            .fetch_optional(self.pool())
            .await
            .map_err(StoreError::sql("reading the public projection"))?;
        row.map(|row| sums_of(&row.bytes("sums")?)).transpose()
    }

    /// A period's packed entries of GPUs from `first` on and before `end`, in the order of ids, from at most so many rows of 64;
    /// and whether that is all of them. `first` may be an id with a zero after it: what follows that id.
    pub(super) async fn old_entries(
        &self,
        season: u32,
        period: u32,
        sums: &Sums,
        (first, end): (Vec<u8>, Vec<u8>),
        rows_max: usize,
    ) -> Result<(Part, bool), StoreError> {
        let rows = sqlx::query("SELECT gpus FROM entries_packed WHERE season = $1 AND span = $2 AND first >= coalesce((SELECT first FROM entries_packed WHERE season = $1 AND span = $2 AND first <= $3 ORDER BY first DESC LIMIT 1), '') AND first < $4 ORDER BY first LIMIT $5")
            .bind(i64::from(season))
            .bind(i64::from(span_of(period)))
            .bind(&first)
            .bind(&end)
            .bind(rows_max as i64)
            .fetch_all(self.pool())
            .await
            .map_err(StoreError::sql("reading the public projection"))?;
        let mut some = Part { entries: Vec::new(), through: first.clone() };
        for row in &rows {
            let all = unpack(&row.bytes("gpus")?, sums)
                .ok_or_else(|| StoreError::Malformed("packed entries".into()))?;
            if let Some(last) = all.last() {
                some.through = [last.gpu.blob(), vec![0]].concat();
            }
            some.entries.extend(
                all.into_iter().filter_map(|mut held| held.entries[period as usize % SPAN].take()).filter(
                    |entry| {
                        let id = entry.gpu.as_bytes().as_slice();
                        id >= first.as_slice() && id < end.as_slice()
                    },
                ),
            );
        }
        Ok((some, rows.len() < rows_max))
    }
}
