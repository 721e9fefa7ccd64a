//! What writes hand to the projector from memory, so that it need not look for it in the books: only at the start, and after a
//! look that broke off, the books are asked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gangline_types::UnixSeconds;

/// More is not kept: the books are asked again.
const HANDED_MAX: usize = 2_000_000;
/// What comes is waited for at most so long, in seconds.
const WAIT_SECONDS: u64 = 60;

/// What was written and is not in the projection yet.
pub(crate) struct Handed<T>(Arc<Mutex<Waiting<T>>>);

struct Waiting<T> {
    rows: Vec<T>,
    /// All that the projection lacks is here.
    known: bool,
    /// Not before this, so that many at once become neighbours.
    due_at: UnixSeconds,
    /// So many were taken since there were none.
    taken: u64,
}

/// What a look takes.
pub(super) enum Taken<T> {
    /// Nothing yet.
    Wait,
    /// These, and whether that is all.
    Some(Vec<T>, bool),
    /// What the books say.
    Unknown,
}

impl<T> Default for Handed<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Waiting {
            rows: Vec::new(),
            known: false,
            due_at: UnixSeconds(0),
            taken: 0,
        })))
    }
}

impl<T> Clone for Handed<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Handed<T> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are in the books, committed.
    pub(super) fn hand(&self, rows: impl Iterator<Item = T>) {
        let mut waiting = self.waiting();
        waiting.rows.extend(rows);
        if waiting.rows.len() > HANDED_MAX {
            waiting.rows = Vec::new();
            waiting.known = false;
        }
    }

    /// Takes at most so many. When there are none left after so many as `per_second`, the next look waits a second, and so on.
    /// Until [`Self::taken`] is said, what was taken counts as lost.
    pub(super) fn take(&self, now: UnixSeconds, per_second: u64, at_most: usize) -> Taken<T> {
        let mut waiting = self.waiting();
        if waiting.known && now < waiting.due_at && waiting.due_at.since(now) <= WAIT_SECONDS {
            return Taken::Wait;
        }
        if !std::mem::replace(&mut waiting.known, false) {
            waiting.rows = Vec::new();
            waiting.taken = 0;
            return Taken::Unknown;
        }
        let left = waiting.rows.len().saturating_sub(at_most);
        let rows = if left == 0 { std::mem::take(&mut waiting.rows) } else { waiting.rows.split_off(left) };
        waiting.taken += rows.len() as u64;
        if left == 0 {
            let pause = std::mem::take(&mut waiting.taken) / per_second.max(1);
            waiting.due_at = now.plus(pause.min(WAIT_SECONDS));
        }
        Taken::Some(rows, left == 0)
    }

    /// Whether some wait that a look left.
    pub(super) fn more(&self) -> bool {
        self.waiting().taken > 0
    }

    /// What was taken is in the projection, committed.
    pub(super) fn taken(&self) {
        self.waiting().known = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(handed: &Handed<u32>, now: u64, expected: Option<&[u32]>) {
        match (handed.take(UnixSeconds(now), 2, usize::MAX), expected) {
            (Taken::Some(rows, all), Some(expected)) => assert_eq!((&rows[..], all), (expected, true)),
            (Taken::Unknown, None) => {}
            (Taken::Wait, _) => panic!("at {now} there is nothing to wait for"),
            (_, expected) => panic!("at {now} it is not {expected:?}"),
        }
    }

    #[test]
    fn what_was_handed_is_taken_once_and_after_a_look_that_broke_off_the_books_are_asked() {
        let handed = Handed::default();
        handed.hand([1].into_iter());
        check(&handed, 100, None);
        // That look broke off.
        check(&handed, 100, None);
        handed.taken();
        check(&handed, 100, Some(&[]));
        handed.taken();
        handed.hand([2, 3, 4, 5].into_iter());
        check(&handed, 100, Some(&[2, 3, 4, 5]));
        handed.taken();
        handed.hand([6].into_iter());
        assert!(matches!(handed.take(UnixSeconds(101), 2, usize::MAX), Taken::Wait));
        check(&handed, 102, Some(&[6]));
        handed.taken();
        // A clock that is set back keeps nobody waiting for longer than a minute.
        handed.hand(0..200);
        check(&handed, 200, Some(&(0..200).collect::<Vec<_>>()));
        handed.taken();
        check(&handed, 100, Some(&[]));
        handed.hand(0..HANDED_MAX as u32 + 1);
        handed.taken();
        handed.hand(0..HANDED_MAX as u32 + 1);
        check(&handed, 300, None);
    }
    #[test]
    fn what_a_look_leaves_the_next_one_takes_and_only_then_comes_the_pause() {
        let handed = Handed::default();
        check(&handed, 100, None);
        handed.taken();
        handed.hand(0..5);
        let mut found = Vec::new();
        for (left, is_all) in [(3, false), (1, false), (0, true)] {
            let Taken::Some(rows, all) = handed.take(UnixSeconds(100), 2, 2) else {
                panic!("nothing is given")
            };
            handed.taken();
            found.extend(rows);
            assert_eq!((all, handed.more(), 5 - found.len()), (is_all, !is_all, left));
        }
        found.sort_unstable();
        assert_eq!(found, [0, 1, 2, 3, 4]);
        handed.hand([5].into_iter());
        assert!(matches!(handed.take(UnixSeconds(101), 2, 2), Taken::Wait));
        check(&handed, 102, Some(&[5]));
    }
}
