//! What GPUs are called, as a history: who called them so, what before and what after. From it exactly what
//! one actor did can be undone, and nothing that others did.

use gangline_guard::{Permit, act};
use gangline_types::{AccountId, GpuId, KeyId, Label, SessionId, UnixSeconds};
pub use gangline_wire::api::operate::Doer;

use crate::{Begun, Store, StoreError, books::answered, sql::Columns};

/// One change of a GPU's label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelChange {
    /// The GPU.
    pub gpu: GpuId,
    /// When.
    pub at: UnixSeconds,
    /// The key that signed for it; none for a browser's session.
    pub key: Option<KeyId>,
    /// The account behind it; none where that was not written down yet.
    pub account: Option<AccountId>,
    /// The browser's session, if it was one.
    pub session: Option<SessionId>,
    /// Who, in the words of the audit.
    pub actor: String,
    /// What it was called.
    pub before: Label,
    /// And from then on.
    pub after: Label,
}

/// A label that goes back, or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredLabel {
    /// The GPU.
    pub gpu: GpuId,
    /// What it is called.
    pub before: Label,
    /// What it is called without what the actor did.
    pub after: Label,
}

answered! { Store,
    /// What a key, account or session has called GPUs since then, oldest first.
    async fn label_changes(
        &self,
        permit: &Permit<act::Operate>,
        doer: Doer,
        since: UnixSeconds,
    ) -> Result<Vec<LabelChange>, StoreError>;

    /// What undoing would do now: see [`begin_restore`](Self::begin_restore).
    async fn restorable_labels(
        &self,
        permit: &Permit<act::Operate>,
        doer: Doer,
        since: UnixSeconds,
    ) -> Result<Vec<RestoredLabel>, StoreError>;

    /// Writes down that it is begun to undo exactly what somebody has called GPUs since a time: each is called as if
    /// they had not touched it, and what others have set since stays. Uses up the approval, if it took one.
    async fn begin_restore(&self, permit: &Permit<act::Restore>) -> Result<Begun, StoreError>;

    /// Goes on with it, for at most so many GPUs that they touched, in the order of ids from after this one on; and
    /// the last of them, none when there is no more. Twice is once.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when it was given up.
    async fn restore_some(
        &self,
        permit: &Permit<act::Restore>,
        act: Begun,
        after: Option<GpuId>,
        at_most: u32,
        now: UnixSeconds,
    ) -> Result<(Vec<RestoredLabel>, Option<GpuId>), StoreError>;

    /// Writes down that it is done.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when it was given up.
    async fn complete_restore(
        &self,
        permit: Permit<act::Restore>,
        act: Begun,
        restored: usize,
    ) -> Result<(), StoreError>;
}

pub(crate) fn label_change(row: &impl Columns) -> Result<LabelChange, StoreError> {
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

/// A key, account and session to compare with, of which one is given.
pub(crate) fn parts(doer: Doer) -> (Option<KeyId>, Option<AccountId>, Option<SessionId>) {
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
pub(crate) fn without(changes: &[LabelChange], doer: Doer, since: UnixSeconds) -> Vec<RestoredLabel> {
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
