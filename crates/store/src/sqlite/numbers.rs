//! Sequence numbers of requests. One by itself is written where its key stands. Many at once, of as many keys, would be as
//! many pages: they are written one after the other in a row of `taken_numbers`, remembered here, and brought to their keys in
//! the order of those when the rush is over. A number counts as taken wherever it stands.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use gangline_guard::{Fresh, Permit, RecentSequences, act};
use gangline_types::KeyId;
use sqlx::SqliteConnection;

use crate::{
    SequenceError, StoreError,
    books::key::numbers_of,
    sql::{Columns, json, packed},
    sqlite::{
        SqliteStore,
        groups::{Known, Numbered, end_replaced, judged},
        open::commit,
    },
};

/// Fewer at once are written where they belong.
const RUSH: usize = 16;
/// More are not remembered for long: 30 bytes each.
const PENDING_MAX: usize = 200_000;
/// Keys that one transaction brings their numbers to.
const KEYS_AT_ONCE: usize = 5_000;
/// A number as it stands in a row: its key, and itself.
const NUMBER_BYTES: usize = 24;

/// Numbers that are taken and do not stand with their keys. Cheap to clone; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Pending(Arc<Mutex<Numbers>>);

#[derive(Default)]
struct Numbers {
    taken: BTreeSet<(KeyId, u64)>,
    /// The row that was written last.
    last: i64,
    /// How many there were at the last look.
    looked: usize,
}

impl Pending {
    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn add(&self, row: i64, taken: impl Iterator<Item = (KeyId, u64)>) {
        let mut numbers = self.numbers();
        numbers.taken.extend(taken);
        numbers.last = row;
    }
    /// What is pending, if it is time: the rush is over, or there are too many.
    fn due(&self) -> Option<(Vec<(KeyId, u64)>, i64)> {
        let mut numbers = self.numbers();
        let now = numbers.taken.len();
        let grows = std::mem::replace(&mut numbers.looked, now) < now;
        (now > 0 && (!grows || now >= PENDING_MAX))
            .then(|| (numbers.taken.iter().copied().collect(), numbers.last))
    }
    fn settled(&self, settled: &[(KeyId, u64)]) {
        let mut numbers = self.numbers();
        settled.iter().for_each(|one| {
            numbers.taken.remove(one);
        });
        numbers.looked = numbers.taken.len();
    }
}

/// What is known of keys' numbers.
async fn known(
    tx: &mut SqliteConnection,
    keys: &[KeyId],
    pending: &Pending,
    doing: &'static str,
) -> Result<Known, StoreError> {
    let rows = sqlx::query("WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE (i + 1) * 16 < length(?1)) SELECT k.id, k.sequences, k.follows FROM n CROSS JOIN key k ON k.id = substr(?1, 1 + 16 * n.i, 16)")
        .bind(packed(keys))
        .fetch_all(tx)
        .await
        .map_err(StoreError::sql(doing))?;
    let pending = pending.numbers();
    rows.iter()
        .map(|row| {
            let (key, (mut seen, mut follows)) = numbers_of(row)?;
            for (_, number) in pending.taken.range((key, 0)..=(key, u64::MAX)) {
                // One that is known already, or less than all that are remembered, adds nothing.
                let _ = seen.take(*number);
                follows = None;
            }
            Ok((key, (seen, follows)))
        })
        .collect()
}

/// Writes numbers where their keys stand.
async fn write<'a>(
    tx: &mut SqliteConnection,
    all: impl Iterator<Item = (&'a KeyId, &'a RecentSequences)>,
    doing: &'static str,
) -> Result<(), StoreError> {
    let (mut ids, mut bytes, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    for (key, seen) in all {
        let seen = seen.to_bytes();
        ids.push(*key);
        parts.push((bytes.len() + 1, seen.len()));
        bytes.extend(seen);
    }
    sqlx::query("UPDATE key SET sequences = x.seen FROM (SELECT substr(?1, 1 + 16 * j.key, 16) AS id, substr(?2, j.value ->> 0, j.value ->> 1) AS seen FROM json_each(?3) j) AS x WHERE key.id = x.id")
        .bind(packed(&ids))
        .bind(bytes)
        .bind(json(&parts))
        .execute(tx)
        .await
        .map_err(StoreError::sql(doing))?;
    Ok(())
}

impl SqliteStore {
    /// Takes numbers in their order: of two copies that come together, the second is refused.
    pub(super) async fn take_numbers(
        &self,
        numbers: &[Numbered],
    ) -> Result<Vec<Result<Fresh, SequenceError>>, StoreError> {
        let doing = "taking a sequence number";
        let mut keys: Vec<KeyId> = numbers.iter().map(|n| n.key).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut tx = self.begin(doing).await?;
        let mut known = known(&mut tx, &keys, &self.pending, doing).await?;
        let judged = judged(numbers, &mut known);
        let taken = &judged.taken;
        let row = if taken.len() < RUSH {
            write(&mut tx, known.iter().map(|(key, (seen, _))| (key, seen)), doing).await?;
            None
        } else {
            let mut bytes = Vec::with_capacity(taken.len() * NUMBER_BYTES);
            for (key, sequence) in taken {
                bytes.extend_from_slice(key.as_bytes());
                bytes.extend_from_slice(&sequence.to_be_bytes());
            }
            let written = sqlx::query("INSERT INTO taken_numbers (numbers) VALUES (?)")
                .bind(bytes)
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
            Some(written.last_insert_rowid())
        };
        end_replaced(&mut tx, &judged, doing).await?;
        commit(tx, doing).await?;
        // The next group begins after this.
        if let Some(row) = row {
            self.pending.add(row, taken.iter().copied());
        }
        Ok(judged.answers)
    }

    /// Remembers the numbers that a server before this one left pending.
    pub(super) async fn remember_numbers(&self) -> Result<(), StoreError> {
        let doing = "reading sequence numbers";
        let rows = sqlx::query("SELECT id, numbers FROM taken_numbers ORDER BY id")
            .fetch_all(&self.write)
            .await
            .map_err(StoreError::sql(doing))?;
        for row in &rows {
            let bytes = row.bytes("numbers")?;
            let (pieces, rest) = bytes.as_chunks::<NUMBER_BYTES>();
            if !rest.is_empty() {
                return Err(StoreError::Malformed("column numbers".into()));
            }
            let numbers = pieces.iter().map(|piece| {
                let (mut key, mut number) = ([0; 16], [0; 8]);
                key.copy_from_slice(&piece[..16]);
                number.copy_from_slice(&piece[16..]);
                (KeyId::from_bytes(key), u64::from_be_bytes(number))
            });
            self.pending.add(row.int("id")? as i64, numbers);
        }
        Ok(())
    }

    /// Brings numbers that are pending to their keys, once the rush is over or they are many. Doing so twice changes nothing.
    pub async fn settle_numbers(&self, _: &Permit<act::Reconcile>) -> Result<(), StoreError> {
        match self.pending.due() {
            Some((pending, last)) => self.bring(&pending, last).await,
            None => Ok(()),
        }
    }

    /// The same at once, and for all of them.
    pub(crate) async fn settle_all_numbers(&self, _: &Permit<act::MoveBooks>) -> Result<(), StoreError> {
        let (pending, last) = {
            let numbers = self.pending.numbers();
            (numbers.taken.iter().copied().collect::<Vec<_>>(), numbers.last)
        };
        self.bring(&pending, last).await
    }

    async fn bring(&self, pending: &[(KeyId, u64)], last: i64) -> Result<(), StoreError> {
        let doing = "bringing sequence numbers to their keys";
        let mut keys: Vec<KeyId> = pending.iter().map(|(key, _)| *key).collect();
        keys.dedup();
        for some in keys.chunks(KEYS_AT_ONCE) {
            let mut tx = self.begin(doing).await?;
            let known = known(&mut tx, some, &self.pending, doing).await?;
            write(&mut tx, known.iter().map(|(key, (seen, _))| (key, seen)), doing).await?;
            commit(tx, doing).await?;
        }
        sqlx::query("DELETE FROM taken_numbers WHERE id <= ?")
            .bind(last)
            .execute(&self.write)
            .await
            .map_err(StoreError::sql(doing))?;
        self.pending.settled(pending);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gangline_guard::{Actor, Job, permit::permit, policy::on};
    use gangline_types::{AccountId, UnixSeconds};
    use gangline_wire::SigningKey;
    use zeroize::Zeroizing;

    use crate::sqlite::simulate::made;

    const NOW: UnixSeconds = UnixSeconds(480_000 * 3600);

    fn public(n: u8) -> [u8; 32] {
        *SigningKey::from_seed(&Zeroizing::new([n; 32])).public().as_bytes()
    }

    async fn network(folder: &std::path::Path) -> SqliteStore {
        let store = SqliteStore::open(folder).await.unwrap();
        let setup = permit::<act::Simulate>(&Actor::job(Job::Setup), on::Network, NOW).unwrap();
        let account = AccountId::from_bytes([9; 16]);
        store.add_simulated_account(&setup, account).await.unwrap();
        let machines: Vec<_> = (1..=40u8).map(|n| (account, made(n, public(n)))).collect();
        store.add_simulated(&setup, &machines).await.unwrap();
        store
    }

    /// Takes a number of each of the machines; which of them were fresh.
    async fn take(store: &SqliteStore, machines: impl Iterator<Item = u8>, sequence: u64) -> Vec<bool> {
        let numbered = |n: u8| Numbered { key: KeyId::of_public_key(&public(n)), sequence, old_until: NOW };
        let numbers: Vec<Numbered> = machines.map(numbered).collect();
        store.take_numbers(&numbers).await.unwrap().iter().map(Result::is_ok).collect()
    }

    async fn rows(store: &SqliteStore) -> (i64, i64) {
        let count = |statement: &'static str| sqlx::query_scalar(statement).fetch_one(&store.read);
        let rows = count("SELECT count(*) FROM taken_numbers").await.unwrap();
        (rows, count("SELECT count(*) FROM key WHERE length(sequences) > 0").await.unwrap())
    }

    #[tokio::test]
    async fn a_number_is_taken_once_wherever_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let store = network(folder.path()).await;
        let reconcile = permit::<act::Reconcile>(&Actor::job(Job::Reconciler), on::Network, NOW).unwrap();
        // A few stand with their keys at once, many are one row.
        assert_eq!(take(&store, 1..=3, 10).await, [true; 3]);
        assert_eq!(rows(&store).await, (0, 3));
        assert_eq!(take(&store, 1..=40, 20).await, [true; 40]);
        assert_eq!(rows(&store).await, (1, 3));
        assert_eq!(take(&store, 1..=40, 20).await, [false; 40], "a copy of what is pending");
        assert_eq!(take(&store, [1, 1, 5].into_iter(), 21).await, [true, false, true]);
        // The same over a restart.
        store.close().await;
        drop(store);
        let store = SqliteStore::open(folder.path()).await.unwrap();
        assert_eq!(take(&store, 1..=40, 20).await, [false; 40], "a copy after a restart");
        assert_eq!(take(&store, 1..=40, 15).await, [true; 40]);
        assert_eq!(rows(&store).await.0, 2);
        // And once they stand with their keys: not while they become more.
        store.settle_numbers(&reconcile).await.unwrap();
        assert_eq!(rows(&store).await.0, 2);
        store.settle_numbers(&reconcile).await.unwrap();
        assert_eq!(rows(&store).await, (0, 40));
        for sequence in [15, 20] {
            assert_eq!(
                take(&store, 1..=40, sequence).await,
                [false; 40],
                "a copy of {sequence} that settled"
            );
        }
        assert_eq!(take(&store, 1..=40, 30).await, [true; 40]);
        assert_eq!(take(&store, [0].into_iter(), 30).await, [false], "a key that nobody has");
        store.close().await;
    }
}
