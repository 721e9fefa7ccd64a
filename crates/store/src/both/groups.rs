//! What every signed request asks, and what every machine asks that opens an epoch: answered for many at once, with
//! one statement or one commit, when many ask at once.

use std::collections::{BTreeMap, HashMap};

use gangline_guard::{Actor, Authenticated, Fresh, KeyRecord, Permit, RecentSequences, Refusal, act};
use gangline_types::{GpuId, KeyId, MachineId, UnixSeconds};

use super::{Books, Connection};
use crate::{
    Group, SequenceError, StoreError,
    books::beat::{Opening, is_granted},
    group::onward,
    sql::{Columns, Id},
};

/// Questions that one statement answers.
const AT_ONCE: usize = 256;

/// A number that a verified request has.
#[derive(Clone, Copy)]
pub(super) struct Numbered {
    pub(super) key: KeyId,
    pub(super) sequence: u64,
    pub(super) old_until: UnixSeconds,
}

/// What is known of keys' numbers: those that were taken, and the key in whose place one is that has signed nothing yet.
pub(super) type Known = BTreeMap<KeyId, (RecentSequences, Option<KeyId>)>;

/// The groups of one server's books.
#[derive(Clone)]
pub(crate) struct Groups {
    keys: Group<KeyId, Result<Option<KeyRecord>, StoreError>>,
    numbers: Group<Numbered, Result<Fresh, SequenceError>>,
    gpus: Group<MachineId, Result<Vec<GpuId>, StoreError>>,
    lanes: Group<Opening, Result<(), StoreError>>,
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            keys: Group::of(AT_ONCE),
            numbers: Group::of(AT_ONCE),
            gpus: Group::of(AT_ONCE),
            lanes: Group::of(AT_ONCE),
        }
    }
}

/// What a group answers to each of these questions, in their order.
async fn answers<Q, A, E, M, F, R>(
    group: &Group<Q, Result<A, E>>,
    asked: Vec<Q>,
    together: M,
) -> Vec<Result<A, E>>
where
    Q: Send + 'static,
    A: Send + 'static,
    E: From<StoreError> + Send + 'static,
    M: FnOnce() -> F,
    F: Fn(Vec<Q>) -> R + Send + 'static,
    R: Future<Output = Vec<Result<A, E>>> + Send,
{
    let count = asked.len();
    let broken = || (0..count).map(|_| Err(StoreError::broken().into())).collect();
    group.ask_all(asked, together).await.unwrap_or_else(broken)
}

/// The one answer to one question.
fn only<A, E: From<StoreError>>(mut answers: Vec<Result<A, E>>) -> Result<A, E> {
    answers.pop().unwrap_or_else(|| Err(StoreError::broken().into()))
}

impl Books {
    /// What the guard must know of a key.
    pub(crate) async fn key(&self, key: KeyId) -> Result<Option<KeyRecord>, StoreError> {
        only(self.each_key(vec![key]).await)
    }

    /// The same of each of these keys.
    pub(crate) async fn each_key(&self, keys: Vec<KeyId>) -> Vec<Result<Option<KeyRecord>, StoreError>> {
        let together = || {
            let books = self.clone();
            move |keys: Vec<KeyId>| {
                let books = books.clone();
                async move {
                    match books.keys(&keys).await {
                        Ok(found) => keys.iter().map(|key| Ok(found.get(key).cloned())).collect(),
                        Err(error) => error.for_each(keys.len()),
                    }
                }
            }
        };
        answers(&self.groups.keys, keys, together).await
    }

    /// Takes a verified request's sequence number; only then is its sender an actor. The number is
    /// durable before the request acts, so a copy stays a copy over a restart. The first use of a key that
    /// took the place of another lets that one end at `old_until`.
    pub(crate) async fn take_sequence(
        &self,
        authenticated: Authenticated,
        old_until: UnixSeconds,
    ) -> Result<Actor, SequenceError> {
        only(self.take_each_sequence(vec![authenticated], old_until).await)
    }

    /// The same of each of these requests, one after the other: of two copies the second is refused.
    pub(crate) async fn take_each_sequence(
        &self,
        authenticated: Vec<Authenticated>,
        old_until: UnixSeconds,
    ) -> Vec<Result<Actor, SequenceError>> {
        let number = |of: &Authenticated| Numbered { key: of.key(), sequence: of.sequence(), old_until };
        let together = || {
            let books = self.clone();
            move |numbers: Vec<Numbered>| {
                let books = books.clone();
                async move {
                    match books.take_numbers(&numbers).await {
                        Ok(answers) => answers,
                        Err(error) => error.for_each(numbers.len()),
                    }
                }
            }
        };
        let numbers = authenticated.iter().map(number).collect();
        let fresh = answers(&self.groups.numbers, numbers, together).await;
        authenticated.into_iter().zip(fresh).map(|(of, fresh)| Ok(of.into_actor(fresh?))).collect()
    }

    /// GPUs of the permit's machine that are there, in the order of ids.
    pub(crate) async fn own_gpus(&self, permit: &Permit<act::Beat>) -> Result<Vec<GpuId>, StoreError> {
        only(self.gpus_there(vec![permit.on().machine]).await)
    }

    /// The same of each of these permits' machines.
    pub(crate) async fn each_own_gpus(
        &self,
        permits: &[&Permit<act::Beat>],
    ) -> Vec<Result<Vec<GpuId>, StoreError>> {
        self.gpus_there(permits.iter().map(|permit| permit.on().machine).collect()).await
    }

    async fn gpus_there(&self, machines: Vec<MachineId>) -> Vec<Result<Vec<GpuId>, StoreError>> {
        let together = || {
            let books = self.clone();
            move |machines: Vec<MachineId>| {
                let books = books.clone();
                async move {
                    match books.gpus_of_machines(&machines).await {
                        Ok(found) => {
                            machines.iter().map(|of| Ok(found.get(of).cloned().unwrap_or_default())).collect()
                        }
                        Err(error) => error.for_each(machines.len()),
                    }
                }
            }
        };
        answers(&self.groups.gpus, machines, together).await
    }

    /// Writes down of each of these that a machine opened an epoch, and its chains.
    pub(crate) async fn open_each_lane(&self, openings: Vec<Opening>) -> Vec<Result<(), StoreError>> {
        let together = || {
            let books = self.clone();
            move |openings: Vec<Opening>| {
                let books = books.clone();
                async move {
                    match books.open_lanes(&openings).await {
                        Ok(()) => openings.iter().map(|_| Ok(())).collect(),
                        Err(error) => error.for_each(openings.len()),
                    }
                }
            }
        };
        let granted = |opening: Opening| is_granted(&opening.0, &opening.1).map(|()| opening);
        let openings = openings.into_iter().map(granted).collect();
        onward(openings, |granted| answers(&self.groups.lanes, granted, together)).await
    }
}

/// GPUs by their machine, each machine's in the order of ids.
pub(super) fn by_machine(rows: &[impl Columns]) -> Result<HashMap<MachineId, Vec<GpuId>>, StoreError> {
    let mut found: HashMap<MachineId, Vec<GpuId>> = HashMap::with_capacity(rows.len());
    for row in rows {
        found.entry(row.id("machine")?).or_default().push(row.id("id")?);
    }
    found.values_mut().for_each(|gpus| gpus.sort_unstable());
    Ok(found)
}

/// Of each number whether it is fresh, in their order: of two copies that come together, the second is not.
pub(super) struct Judged {
    pub(super) answers: Vec<Result<Fresh, SequenceError>>,
    /// Those that are.
    pub(super) taken: Vec<(KeyId, u64)>,
    /// Keys that sign for the first time in the place of another, that one, and until when it lasts.
    first_used: Vec<(KeyId, KeyId, UnixSeconds)>,
}

/// Takes numbers from what is known.
pub(super) fn judged(numbers: &[Numbered], known: &mut Known) -> Judged {
    let mut judged = Judged { answers: Vec::with_capacity(numbers.len()), taken: vec![], first_used: vec![] };
    for Numbered { key, sequence, old_until } in numbers {
        let Some((seen, follows)) = known.get_mut(key) else {
            judged.answers.push(Err(StoreError::Gone("the key is gone").into()));
            continue;
        };
        let fresh = seen
            .take(*sequence)
            .map_err(|newest| SequenceError::Replayed(Refusal::Replayed { sequence: *sequence, newest }));
        if fresh.is_ok() {
            judged.taken.push((*key, *sequence));
            if let Some(replaced) = follows.take() {
                judged.first_used.push((*key, replaced, *old_until));
            }
        }
        judged.answers.push(fresh);
    }
    judged
}

/// What took the place of another key lasts from its first use on, and the other ends.
pub(super) async fn end_replaced(
    tx: &mut Connection,
    judged: &Judged,
    doing: &'static str,
) -> Result<(), StoreError> {
    for (key, replaced, old_until) in &judged.first_used {
        sqlx::query("UPDATE key SET ends_at = NULL WHERE id = $1")
            .bind(key.blob())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        sqlx::query("UPDATE key SET ends_at = $1 WHERE id = $2 AND revoked_at IS NULL AND (ends_at IS NULL OR ends_at > $1)")
            .bind(old_until.0 as i64)
            .bind(replaced.blob())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
    }
    Ok(())
}
