//! Questions that come at about the same time are answered together: one transaction and one commit for all of
//! them, or one statement, or one sum over many signatures. Nobody waits for company: the first question is answered
//! once everybody has asked who can ask now, and what comes meanwhile is the next group.
//!
//! Knows nothing of what is asked.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// Questions that wait: those of one asker in their order, and whom to tell.
type Asked<Q, A> = (Vec<Q>, oneshot::Sender<Vec<A>>);

struct Queue<Q, A> {
    waiting: VecDeque<Asked<Q, A>>,
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
        let queue = Queue { waiting: VecDeque::new(), working: false };
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
        self.ask_all(vec![question], together).await?.pop()
    }

    /// The same for several questions of one asker: an answer to each, in their order, or none if one of the groups that they
    /// were answered in broke off.
    pub async fn ask_all<M, F, R>(&self, questions: Vec<Q>, together: M) -> Option<Vec<A>>
    where
        M: FnOnce() -> F,
        F: Fn(Vec<Q>) -> R + Send + 'static,
        R: Future<Output = Vec<A>> + Send,
    {
        let count = questions.len();
        let told = self.wait(questions, together);
        let mut answers = Vec::with_capacity(count);
        for told in told {
            answers.append(&mut told.await.ok()?);
        }
        (answers.len() == count).then_some(answers)
    }

    /// Lets questions wait, as many together as are answered at once, and sees to it that somebody answers.
    fn wait<M, F, R>(&self, mut questions: Vec<Q>, together: M) -> Vec<oneshot::Receiver<Vec<A>>>
    where
        M: FnOnce() -> F,
        F: Fn(Vec<Q>) -> R + Send + 'static,
        R: Future<Output = Vec<A>> + Send,
    {
        let mut told = Vec::with_capacity(questions.len().div_ceil(self.most));
        if questions.is_empty() {
            return told;
        }
        let idle = {
            let mut queue = self.queue();
            while !questions.is_empty() {
                let rest = questions.split_off(questions.len().min(self.most));
                let (tell, answer) = oneshot::channel();
                queue.waiting.push_back((std::mem::replace(&mut questions, rest), tell));
                told.push(answer);
            }
            !std::mem::replace(&mut queue.working, true)
        };
        if idle {
            let (work, together) = (Work(self.clone()), together());
            tokio::spawn(async move {
                loop {
                    // Whoever is about to ask the same does so first: groups are as large as they can be without waiting.
                    tokio::task::yield_now().await;
                    let Some((questions, tells)) = work.next() else { break };
                    let mut answers = together(questions).await.into_iter();
                    for (count, tell) in tells {
                        // Whoever asked may have gone.
                        let _ = tell.send(answers.by_ref().take(count).collect());
                    }
                }
            });
        }
        told
    }
}

/// The task that answers. When it breaks off, whoever waits is told so, and the next question starts another.
struct Work<Q: Send + 'static, A: Send + 'static>(Group<Q, A>);

/// Whom to tell, and of how many answers.
type Tells<A> = Vec<(usize, oneshot::Sender<Vec<A>>)>;

impl<Q: Send + 'static, A: Send + 'static> Work<Q, A> {
    fn next(&self) -> Option<(Vec<Q>, Tells<A>)> {
        let mut queue = self.0.queue();
        let Some((mut questions, tell)) = queue.waiting.pop_front() else {
            queue.working = false;
            return None;
        };
        let mut tells = vec![(questions.len(), tell)];
        while let Some((mut more, tell)) =
            queue.waiting.pop_front_if(|(more, _)| questions.len() + more.len() <= self.0.most)
        {
            tells.push((more.len(), tell));
            questions.append(&mut more);
        }
        Some((questions, tells))
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

/// A step of several that go the same way: those that are in order go on together, and those that are refused stay so.
/// What comes is as many as went, in their order.
///
/// # Panics
/// When `together` does not answer each: what comes would be taken for others' answers.
pub async fn onward<T, U, E, F, R>(all: Vec<Result<T, E>>, together: F) -> Vec<Result<U, E>>
where
    F: FnOnce(Vec<T>) -> R,
    R: Future<Output = Vec<Result<U, E>>>,
{
    let mut going = Vec::with_capacity(all.len());
    let refused: Vec<Option<E>> = all
        .into_iter()
        .map(|one| match one {
            Ok(one) => {
                going.push(one);
                None
            }
            Err(error) => Some(error),
        })
        .collect();
    let count = going.len();
    let went = together(going).await;
    assert_eq!(went.len(), count, "a step did not answer each of those who took it");
    let mut went = went.into_iter();
    refused
        .into_iter()
        .filter_map(|refused| refused.map_or_else(|| went.next(), |error| Some(Err(error))))
        .collect()
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
    async fn what_one_asks_at_once_is_answered_in_order_and_never_in_too_large_a_group() {
        let group = Group::<u32, u32>::of(8);
        let together = |some: Vec<u32>| async move {
            assert!((1..=8).contains(&some.len()), "{some:?}");
            tokio::task::yield_now().await;
            some.iter().map(|n| n * 2).collect()
        };
        let ask = |from: u32, to: u32| {
            let group = group.clone();
            tokio::spawn(async move { group.ask_all((from..to).collect(), || together).await })
        };
        let asked = [ask(0, 20), ask(20, 23), ask(23, 23), ask(23, 31), ask(31, 32)];
        let mut answers = Vec::new();
        for asked in asked {
            answers.extend(asked.await.unwrap().unwrap());
        }
        assert!(answers.iter().copied().eq((0..32).map(|n| n * 2)), "{answers:?}");
        // Too few answers are none: nobody gets another's.
        let group = Group::<u32, u32>::of(8);
        assert_eq!(group.ask_all(vec![1, 2], || |_: Vec<u32>| async { vec![1] }).await, None);
    }

    #[tokio::test]
    async fn who_is_refused_stays_so_and_the_others_go_on_in_order() {
        let all = vec![Ok(1), Err("no"), Ok(3), Ok(4)];
        let went = onward(all, |some: Vec<u32>| async move {
            assert_eq!(some, [1, 3, 4]);
            some.into_iter().map(|n| if n == 3 { Err("late") } else { Ok(n * 2) }).collect()
        });
        assert_eq!(went.await, [Ok(2), Err("no"), Err("late"), Ok(8)]);
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
