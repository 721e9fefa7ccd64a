//! What is open, and under what: a key, a session, an account, a machine. When one of them ends, all that is open
//! under it ends with it: requests that wait, answers that stream, connections that were upgraded.
//!
//! Every request of somebody gets a [`Live`] before its handler runs, the router watches it for the handler and
//! for the answer's body, and the connection itself can be taken only together with it
//! ([`Ctx::into_raw`](crate::request::Ctx::into_raw)): so no handler can forget it.
//!
//! Knows no SQL: what has ended is told to it by the job that looks ([`crate::jobs::revocations`]).

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes};
use gangline_guard::Principal;
use gangline_store::Ended;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Ends that are remembered for requests whose asker is being looked up.
const RECENT: usize = 4096;

/// How long an answer waits at most until what it ended is over on this server; the look comes after it then.
const FELT_WITHIN: Duration = Duration::from_secs(1);

/// A moment before the asker was looked up: what ends after it is felt.
#[derive(Clone, Copy, Debug)]
pub struct Moment(u64);

/// All that is open on this server.
#[derive(Clone, Default)]
pub struct Lives {
    inner: Arc<Mutex<Inner>>,
    look: Arc<Notify>,
    /// Looks that began, and the last of them that ended well.
    looks: Arc<watch::Sender<Looks>>,
}

#[derive(Clone, Copy, Default)]
struct Looks {
    begun: u64,
    done: u64,
}

/// A look that began: what was written before it is seen by it.
#[must_use]
pub struct Look(u64);

#[derive(Default)]
struct Inner {
    /// Ends so far.
    ends: u64,
    /// The last of them, each with its number.
    recent: VecDeque<(u64, Ended)>,
    holders: u64,
    held: HashMap<Ended, HashMap<u64, CancellationToken>>,
}

impl Inner {
    /// Whether one of these has ended since. One end too many is felt rather than one too few.
    fn has_ended(&self, since: Moment, under: &[Ended]) -> bool {
        let forgotten = self.ends - self.recent.len() as u64 > since.0;
        forgotten || self.recent.iter().any(|(number, ended)| *number > since.0 && under.contains(ended))
    }
}

/// What somebody is under.
fn under(who: &Principal) -> impl Iterator<Item = Ended> {
    [
        who.key().map(Ended::Key),
        who.session().map(Ended::Session),
        who.account().map(Ended::Account),
        who.machine().map(Ended::Machine),
    ]
    .into_iter()
    .flatten()
}

impl Lives {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Now; to be taken before the asker is looked up.
    pub fn moment(&self) -> Moment {
        Moment(self.lock().ends)
    }

    /// Holds something open under `who`, who was looked up after `since`. It is over already if one of those it
    /// is under ended in between.
    pub fn hold(&self, since: Moment, who: &Principal) -> Live {
        let under: Vec<Ended> = under(who).collect();
        let over = CancellationToken::new();
        if under.is_empty() {
            return Live(Arc::new(Held { over, registered: None }));
        }
        let mut inner = self.lock();
        if inner.has_ended(since, &under) {
            over.cancel();
        }
        inner.holders += 1;
        let holder = inner.holders;
        for ended in &under {
            inner.held.entry(*ended).or_default().insert(holder, over.clone());
        }
        drop(inner);
        Live(Arc::new(Held { over, registered: Some((self.clone(), holder, under)) }))
    }

    /// Whether one of those that `who` is under, who was looked up after `since`, has ended: for what is done in one go and
    /// holds nothing open.
    pub fn have_ended(&self, since: Moment, who: &Principal) -> bool {
        self.lock().has_ended(since, &under(who).collect::<Vec<_>>())
    }

    /// Ends all that is open under `ended`; how many that were.
    pub fn end(&self, ended: Ended) -> usize {
        let mut inner = self.lock();
        inner.ends += 1;
        let number = inner.ends;
        inner.recent.push_back((number, ended));
        if inner.recent.len() > RECENT {
            inner.recent.pop_front();
        }
        let held = inner.held.get(&ended).map(|held| held.values().cloned().collect::<Vec<_>>());
        drop(inner);
        let held = held.unwrap_or_default();
        held.iter().for_each(CancellationToken::cancel);
        held.len()
    }

    /// How many requests and connections of somebody are open.
    pub fn count(&self) -> usize {
        let inner = self.lock();
        let mut holders: Vec<u64> = inner.held.values().flat_map(|held| held.keys().copied()).collect();
        holders.sort_unstable();
        holders.dedup();
        holders.len()
    }

    /// Something may have ended here: look at once, not only at the next turn.
    pub fn look(&self) {
        self.look.notify_one();
    }

    /// The same, and waits until a look that began after this is through, a second at most: whoever is answered then
    /// finds over what the request ended, and nothing that comes after the answer is cut by it.
    pub async fn felt(&self) {
        let mut looks = self.looks.subscribe();
        let begun = looks.borrow_and_update().begun;
        self.look();
        let _ = tokio::time::timeout(FELT_WITHIN, looks.wait_for(|looks| looks.done > begun)).await;
    }

    /// Waits until somebody says so.
    pub async fn told_to_look(&self) {
        self.look.notified().await;
    }

    /// A look begins.
    pub fn look_begins(&self) -> Look {
        let mut begun = 0;
        self.looks.send_modify(|looks| {
            looks.begun += 1;
            begun = looks.begun;
        });
        Look(begun)
    }

    /// All that it found has been ended.
    pub fn look_done(&self, look: Look) {
        self.looks.send_modify(|looks| looks.done = looks.done.max(look.0));
    }
}

/// Something open. It counts as open until its last copy is dropped.
#[derive(Clone)]
pub struct Live(Arc<Held>);

struct Held {
    over: CancellationToken,
    registered: Option<(Lives, u64, Vec<Ended>)>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some((lives, holder, under)) = self.registered.take() else { return };
        let mut inner = lives.lock();
        for ended in under {
            if let Some(held) = inner.held.get_mut(&ended) {
                held.remove(&holder);
                if held.is_empty() {
                    inner.held.remove(&ended);
                }
            }
        }
    }
}

impl Live {
    /// Open under nobody: it never ends by revocation.
    pub fn of_nobody() -> Self {
        Self(Arc::new(Held { over: CancellationToken::new(), registered: None }))
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.0.over.is_cancelled()
    }

    /// Waits until it is.
    pub async fn over(&self) {
        self.0.over.cancelled().await;
    }

    /// A body that breaks off when this is over. One whose length is known is passed on as it is: it is written
    /// already.
    pub fn bind(self, body: Body) -> Body {
        if self.0.registered.is_none() || body.size_hint().exact().is_some() {
            return body;
        }
        let over = Box::pin(self.0.over.clone().cancelled_owned());
        Body::new(Bound { body, over, _live: self })
    }
}

/// A body that breaks off when what it is under ends.
struct Bound {
    body: Body,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
    _live: Live,
}

impl hyper::body::Body for Bound {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.over.as_mut().poll(cx).is_ready() {
            let ended = std::io::Error::other("what this was opened under has ended");
            return Poll::Ready(Some(Err(axum::Error::new(ended))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gangline_guard::{Actor, authenticate::session};
    use gangline_types::{AccountId, SessionId};
    use gangline_wire::api::account::Role;
    use http_body_util::BodyExt;

    fn person(n: u8) -> Actor {
        session(
            gangline_guard::SessionRecord {
                session: SessionId::from_bytes([n; 16]),
                account: AccountId::from_bytes([9; 16]),
                role: Role::Renter,
                signed_in_at: gangline_types::UnixSeconds(0),
                began: gangline_guard::Began::Passkey,
            },
            &gangline_guard::Freezes::default(),
            gangline_guard::Factors::Two,
        )
    }

    fn one(n: u8) -> Ended {
        Ended::Session(SessionId::from_bytes([n; 16]))
    }

    #[test]
    fn an_end_is_felt_by_what_is_under_it_and_by_nothing_else() {
        let lives = Lives::default();
        let hold = |n| lives.hold(lives.moment(), person(n).principal());
        let (first, second, copy) = (hold(1), hold(2), hold(1));
        assert_eq!(lives.count(), 3);
        assert_eq!(lives.end(one(1)), 2);
        assert!(first.is_over() && copy.is_over() && !second.is_over());
        assert_eq!(lives.end(Ended::Account(AccountId::from_bytes([9; 16]))), 3);
        assert!(second.is_over());
        drop((first, second, copy));
        assert_eq!((lives.count(), lives.lock().held.len()), (0, 0), "something is held for ever");
        assert_eq!(lives.end(one(1)), 0);
    }

    #[test]
    fn what_ended_while_the_asker_was_looked_up_is_over_at_once() {
        let lives = Lives::default();
        let before = lives.moment();
        lives.end(one(1));
        assert!(lives.hold(before, person(1).principal()).is_over());
        assert!(!lives.hold(before, person(2).principal()).is_over());
        assert!(lives.have_ended(before, person(1).principal()));
        assert!(!lives.have_ended(before, person(2).principal()));
        assert!(!lives.hold(lives.moment(), person(1).principal()).is_over(), "an end counts once");
        // More ends than are remembered: better one request too many is asked again than one too few.
        (0..=RECENT).for_each(|_| assert_eq!(lives.end(one(3)), 0));
        assert!(lives.hold(before, person(2).principal()).is_over());
        assert!(!lives.hold(before, &Principal::Nobody).is_over());
    }

    #[tokio::test]
    async fn whoever_waits_for_a_look_is_answered_after_one_that_began_later() {
        let lives = Lives::default();
        let early = lives.look_begins();
        let mut felt = std::pin::pin!(lives.felt());
        assert!(futures_util::poll!(&mut felt).is_pending());
        lives.look_done(early);
        assert!(
            futures_util::poll!(&mut felt).is_pending(),
            "a look that began before it may have missed it"
        );
        lives.told_to_look().await;
        let late = lives.look_begins();
        assert!(futures_util::poll!(&mut felt).is_pending());
        lives.look_done(late);
        assert!(futures_util::poll!(&mut felt).is_ready());
    }

    #[tokio::test]
    async fn a_streaming_body_breaks_off_and_a_written_one_does_not() {
        let lives = Lives::default();
        let live = || lives.hold(lives.moment(), person(1).principal());
        let endless = || Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let mut streaming = live().bind(endless());
        let mut of_nobody = Live::of_nobody().bind(endless());
        let mut written = live().bind(Body::from("done"));
        lives.end(one(1));
        assert!(streaming.frame().await.unwrap().is_err());
        assert_eq!(written.frame().await.unwrap().unwrap().into_data().unwrap(), "done");
        let pending = futures_util::poll!(std::pin::pin!(of_nobody.frame()));
        assert!(pending.is_pending());
    }
}
