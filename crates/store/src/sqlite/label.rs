//! What GPUs are called, as a history: who called them so, what before and what after. From it exactly what
//! one actor did can be undone, and nothing that others did.

use gangline_guard::{
    Act, Permit, act,
    log::entry::{Change, Event},
};
use gangline_types::{AccountId, GpuId, KeyId, Label, SessionId, UnixSeconds};
use sqlx::{SqliteConnection, sqlite::SqliteRow};

use crate::{
    Doer, LabelChange, RestoredLabel, StoreError,
    sql::{Columns, Id},
    sqlite::SqliteStore,
    sqlite::audit::audit,
    sqlite::log::log_entry,
    sqlite::open::commit,
};

fn label_change(row: &SqliteRow) -> Result<LabelChange, StoreError> {
    Ok(LabelChange {
        gpu: row.id("gpu")?,
        at: row.at("at")?,
        key: row.id_or_none("key")?,
        account: row.id_or_none("account")?,
        session: row.id_or_none("session")?,
        actor: row.text("actor")?,
        before: Label::lossy(&row.text("before")?),
        after: Label::lossy(&row.text("after")?),
    })
}

/// Sets a GPU's label, and leaves history and an entry of the log if it was another.
pub(crate) async fn set_label<A: Act>(
    tx: &mut SqliteConnection,
    permit: &Permit<A>,
    gpu: GpuId,
    after: &Label,
    change: Change,
) -> Result<(), StoreError> {
    let doing = "naming a GPU";
    let row = sqlx::query("SELECT label FROM gpu WHERE id = ?")
        .bind(gpu.blob())
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?
        .ok_or(StoreError::Gone("there is no such GPU"))?;
    let before = row.text("label")?;
    if before == after.as_str() {
        return Ok(());
    }
    sqlx::query("UPDATE gpu SET label = ? WHERE id = ?")
        .bind(after.as_str())
        .bind(gpu.blob())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
    sqlx::query("INSERT INTO label_history (gpu, at, key, account, session, actor, before, after) VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
        .bind(gpu.blob())
        .bind(permit.at().0 as i64)
        .bind(permit.principal().key().map(|key| key.blob()))
        .bind(permit.principal().account().map(|account| account.blob()))
        .bind(permit.principal().session().map(|session| session.blob()))
        .bind(permit.principal().to_string())
        .bind(&before)
        .bind(after.as_str())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql("keeping what a GPU was called"))?;
    let detail = format!("{gpu} was called {before:?} and is called {:?}", after.as_str());
    log_entry(tx, permit, Event::MetadataChange { gpu, change }, &detail).await
}

/// A key, account and session to compare with, of which one is given.
fn parts(doer: Doer) -> (Option<KeyId>, Option<AccountId>, Option<SessionId>) {
    match doer {
        Doer::Key(key) => (Some(key), None, None),
        Doer::Account(account) => (None, Some(account), None),
        Doer::Session(session) => (None, None, Some(session)),
    }
}

fn is_by(change: &LabelChange, doer: Doer) -> bool {
    match doer {
        Doer::Key(key) => change.key == Some(key),
        Doer::Account(account) => change.account == Some(account),
        Doer::Session(session) => change.session == Some(session),
    }
}

/// What each GPU would be called had the actor not touched it, given all changes from the actor's first on,
/// by GPU and in order. Those that it changes are left.
fn without(changes: &[LabelChange], doer: Doer, since: UnixSeconds) -> Vec<RestoredLabel> {
    changes
        .chunk_by(|a, b| a.gpu == b.gpu)
        .filter_map(|of_gpu| {
            let (first, last) = (of_gpu.first()?, of_gpu.last()?);
            let mut by_others = of_gpu.iter().filter(|c| !is_by(c, doer) || c.at < since);
            let after = by_others.next_back().map_or(&first.before, |change| &change.after);
            (*after != last.after).then(|| RestoredLabel {
                gpu: first.gpu,
                before: last.after.clone(),
                after: after.clone(),
            })
        })
        .collect()
}

async fn plan(
    tx: &mut SqliteConnection,
    doer: Doer,
    since: UnixSeconds,
) -> Result<Vec<RestoredLabel>, StoreError> {
    let (key, account, session) = parts(doer);
    let rows = sqlx::query(
        "SELECT h.* FROM label_history h JOIN (SELECT gpu, min(id) AS first FROM label_history WHERE (key = ?1 OR account = ?2 OR session = ?3) AND at >= ?4 GROUP BY gpu) f ON f.gpu = h.gpu AND h.id >= f.first ORDER BY h.gpu, h.id",
    )
    .bind(key.map(|key| key.blob()))
    .bind(account.map(|account| account.blob()))
    .bind(session.map(|session| session.blob()))
    .bind(since.0 as i64)
    .fetch_all(tx)
    .await
    .map_err(StoreError::sql("reading what GPUs were called"))?;
    let changes: Vec<LabelChange> = rows.iter().map(label_change).collect::<Result<_, _>>()?;
    Ok(without(&changes, doer, since))
}

impl SqliteStore {
    /// What somebody has called GPUs since then, oldest first.
    pub async fn label_changes(
        &self,
        _: &Permit<act::Operate>,
        doer: Doer,
        since: UnixSeconds,
    ) -> Result<Vec<LabelChange>, StoreError> {
        let (key, account, session) = parts(doer);
        let rows = sqlx::query("SELECT * FROM label_history WHERE (key = ?1 OR account = ?2 OR session = ?3) AND at >= ?4 ORDER BY id")
            .bind(key.map(|key| key.blob()))
            .bind(account.map(|account| account.blob()))
            .bind(session.map(|session| session.blob()))
            .bind(since.0 as i64)
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("reading what GPUs were called"))?;
        rows.iter().map(label_change).collect()
    }

    /// What [`restore_labels`](Self::restore_labels) would do now.
    pub async fn restorable_labels(
        &self,
        _: &Permit<act::Operate>,
        doer: Doer,
        since: UnixSeconds,
    ) -> Result<Vec<RestoredLabel>, StoreError> {
        let doing = "reading what GPUs were called";
        let mut connection = self.read.acquire().await.map_err(StoreError::sql(doing))?;
        plan(&mut connection, doer, since).await
    }

    /// Undoes exactly what somebody has called GPUs since then: each is called as if they had not touched it.
    /// What others have set since stays. Twice is once.
    pub async fn restore_labels(
        &self,
        permit: Permit<act::Operate>,
        doer: Doer,
        since: UnixSeconds,
    ) -> Result<Vec<RestoredLabel>, StoreError> {
        let doing = "restoring labels";
        let mut tx = self.begin(doing).await?;
        let restored = plan(&mut tx, doer, since).await?;
        for label in &restored {
            set_label(&mut tx, &permit, label.gpu, &label.after, Change::Restored).await?;
        }
        let detail = format!("restored {} labels that {doer} changed since {since}", restored.len());
        audit(&mut tx, &permit, &detail).await?;
        commit(tx, doing).await?;
        Ok(restored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(gpu: u8, at: u64, key: Option<u8>, before: &str, after: &str) -> LabelChange {
        LabelChange {
            gpu: GpuId::from_bytes([gpu; 16]),
            at: UnixSeconds(at),
            key: key.map(|k| KeyId::from_bytes([k; 16])),
            account: key.map(|k| AccountId::from_bytes([k % 2; 16])),
            session: None,
            actor: String::new(),
            before: Label::lossy(before),
            after: Label::lossy(after),
        }
    }

    #[test]
    fn only_what_the_actor_did_is_undone() {
        let check = |changes: &[LabelChange], expected: &[(&str, &str)]| {
            let found = without(changes, Doer::Key(KeyId::from_bytes([9; 16])), UnixSeconds(100));
            let found: Vec<_> = found.iter().map(|r| (r.before.as_str(), r.after.as_str())).collect();
            assert_eq!(found, expected);
        };
        let (bad, good) = (Some(9), Some(1));
        check(&[], &[]);
        check(&[change(1, 100, bad, "a", "x")], &[("x", "a")]);
        check(&[change(1, 100, bad, "a", "x"), change(1, 101, bad, "x", "y")], &[("y", "a")]);
        check(&[change(1, 100, bad, "a", "x"), change(1, 101, good, "x", "b")], &[]);
        check(
            &[change(1, 100, bad, "a", "x"), change(1, 101, None, "x", "b"), change(1, 102, bad, "b", "z")],
            &[("z", "b")],
        );
        check(&[change(1, 100, bad, "a", "x"), change(1, 101, bad, "x", "a")], &[]);
        check(
            &[change(1, 100, bad, "a", "x"), change(2, 100, bad, "", "x"), change(2, 101, good, "x", "")],
            &[("x", "a")],
        );
        // Everything of an account, whichever of its keys it was.
        let both = [change(1, 100, Some(3), "a", "x"), change(1, 101, Some(5), "x", "y")];
        let found = without(&both, Doer::Account(AccountId::from_bytes([1; 16])), UnixSeconds(100));
        assert_eq!((found[0].before.as_str(), found[0].after.as_str()), ("y", "a"));
        assert!(without(&both, Doer::Session(SessionId::from_bytes([1; 16])), UnixSeconds(100)).is_empty());
    }
}
