//! Questions that come at about the same time are answered together: one transaction and one commit for all of
//! them, or one statement, or one sum over many signatures. Nobody waits for company: the first question is answered
//! once everybody has asked who can ask now, and what comes meanwhile is the next group.
//!
//! Knows nothing of what is asked.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// Questions that wait, each with whom to tell.
type Waiting<Q, A> = Vec<(Q, oneshot::Sender<A>)>;

struct Queue<Q, A> {
    waiting: Waiting<Q, A>,
    /// A task answers; it takes up what waits.
    working: bool,
}

/// Answers questions of one kind together. Cheap to clone; clones are the same group.
pub struct Group<Q, A> {
    queue: Arc<Mutex<Queue<Q, A>>>,
    most: usize,
}

impl<Q, A> Clone for Group<Q, A> {
    fn clone(&self) -> Self {
        Self { queue: Arc::clone(&self.queue), most: self.most }
    }
}

impl<Q, A> std::fmt::Debug for Group<Q, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Group of at most {}", self.most)
    }
}

impl<Q: Send + 'static, A: Send + 'static> Group<Q, A> {
    /// A group of which at most so many questions, at least one, are answered at once.
    pub fn of(most: usize) -> Self {
        let queue = Queue { waiting: Vec::new(), working: false };
        Self { queue: Arc::new(Mutex::new(queue)), most: most.max(1) }
    }

    fn queue(&self) -> MutexGuard<'_, Queue<Q, A>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a question. What `together` gives answers several, in their order, and goes on when whoever asked has
    /// gone; none if it broke off.
    pub async fn ask<M, F, R>(&self, question: Q, together: M) -> Option<A>
    where
        M: FnOnce() -> F,
        F: Fn(Vec<Q>) -> R + Send + 'static,
        R: Future<Output = Vec<A>> + Send,
    {
        let (tell, told) = oneshot::channel();
        let idle = {
            let mut queue = self.queue();
            queue.waiting.push((question, tell));
            !std::mem::replace(&mut queue.working, true)
        };
        if idle {
            let (work, together) = (Work(self.clone()), together());
            tokio::spawn(async move {
                loop {
                    // Whoever is about to ask the same does so first: groups are as large as they can be without waiting.
                    tokio::task::yield_now().await;
                    let Some((questions, tells)) = work.next() else { break };
                    let answers = together(questions).await;
                    for (tell, answer) in tells.into_iter().zip(answers) {
                        // Whoever asked may have gone.
                        let _ = tell.send(answer);
                    }
                }
            });
        }
        told.await.ok()
    }
}

/// The task that answers. When it breaks off, whoever waits is told so, and the next question starts another.
struct Work<Q: Send + 'static, A: Send + 'static>(Group<Q, A>);

impl<Q: Send + 'static, A: Send + 'static> Work<Q, A> {
    fn next(&self) -> Option<(Vec<Q>, Vec<oneshot::Sender<A>>)> {
        let mut queue = self.0.queue();
        if queue.waiting.is_empty() {
            queue.working = false;
            return None;
        }
        let some = queue.waiting.len().min(self.0.most);
        Some(queue.waiting.drain(..some).unzip())
    }
}

impl<Q: Send + 'static, A: Send + 'static> Drop for Work<Q, A> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut queue = self.0.queue();
            queue.working = false;
            queue.waiting.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_comes_meanwhile_is_answered_together_and_in_order() {
        let group = Group::<u32, u32>::of(8);
        let rounds = Arc::new(AtomicUsize::new(0));
        let asked = (0..20u32).map(|n| {
            let (group, rounds) = (group.clone(), Arc::clone(&rounds));
            tokio::spawn(async move {
                let together = move |some: Vec<u32>| {
                    let rounds = Arc::clone(&rounds);
                    async move {
                        assert!(some.len() <= 8 && some.is_sorted());
                        rounds.fetch_add(1, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                        some.iter().map(|n| n * 2).collect()
                    }
                };
                group.ask(n, || together).await
            })
        });
        for (n, asked) in asked.collect::<Vec<_>>().into_iter().enumerate() {
            assert_eq!(asked.await.unwrap(), Some(n as u32 * 2));
        }
        assert!((3..=4).contains(&rounds.load(Ordering::Relaxed)), "{rounds:?} rounds for twenty questions");
    }

    #[tokio::test]
    async fn who_waits_for_what_breaks_off_is_told_and_the_next_is_answered() {
        let group = Group::<bool, bool>::of(8);
        let together = |some: Vec<bool>| async move {
            assert!(some.iter().all(|fine| *fine), "this question breaks it");
            some
        };
        assert_eq!(group.ask(false, || together).await, None);
        assert_eq!(group.ask(true, || together).await, Some(true));
        // Whoever asked goes away; what was asked is answered all the same.
        drop(tokio::spawn({
            let group = group.clone();
            async move { group.ask(true, || together).await }
        }));
        assert_eq!(group.ask(true, || together).await, Some(true));
    }
}
