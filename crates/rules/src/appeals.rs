//! Appeals: who decides about a re-run, and when it is decided.
//!
//! A supplier whose GPU is suspect or quarantined appeals; the GPU answers one more epoch, and verifiers of other people
//! judge its transcript, each for itself. Knows no transcripts, no keys' owners and no clock.

use gangline_types::{AppealId, Hash};

/// The fewest verifiers that an appeal can be put before: with fewer, one decides alone.
pub const VERIFIERS_MIN: usize = 3;
/// And the most.
pub const VERIFIERS_MAX: usize = 64;

/// How many of `verifiers` must agree: more than half.
pub fn quorum(verifiers: usize) -> usize {
    verifiers / 2 + 1
}

/// What a verifier signs: its verdict on a transcript with this digest (SHA-256 of its JSON as published).
pub fn message(appeal: AppealId, digest: &Hash, right: bool) -> Hash {
    let mut h = blake3::Hasher::new_derive_key("gangline 2026 verdict of an appeal");
    h.update(appeal.as_bytes()).update(&digest.0).update(&[u8::from(right)]);
    Hash(*h.finalize().as_bytes())
}

/// Whether an appeal is upheld (some) or still open (none), from the verdicts of different verifiers so far. Enough verifiers
/// who find the transcript right uphold it if it was in time; so many who find it wrong that the others are not
/// enough dismiss it.
pub fn decide(verifiers: usize, verdicts: &[bool], in_time: bool) -> Option<bool> {
    let right = verdicts.iter().filter(|right| **right).count();
    let wrong = verdicts.len() - right;
    if right >= quorum(verifiers) {
        return Some(in_time);
    }
    (verifiers.saturating_sub(wrong) < quorum(verifiers)).then_some(false)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn more_than_half_decide_and_one_liar_changes_nothing() {
        let check = |verifiers, verdicts: &[bool], expected| {
            assert_eq!(decide(verifiers, verdicts, true), expected, "{verdicts:?} of {verifiers}");
        };
        check(3, &[], None);
        check(3, &[true], None);
        check(3, &[true, false], None);
        check(3, &[true, false, true], Some(true));
        check(3, &[false, false], Some(false));
        check(4, &[true, true, false], None);
        check(4, &[false, false], Some(false));
        assert_eq!(decide(3, &[true, true], false), Some(false), "right, and late");
    }

    #[test]
    fn a_verdict_says_on_what_it_is() {
        let appeal = AppealId::from_bytes([1; 16]);
        let one = message(appeal, &Hash([2; 32]), true);
        assert_ne!(one, message(appeal, &Hash([2; 32]), false));
        assert_ne!(one, message(appeal, &Hash([3; 32]), true));
        assert_ne!(one, message(AppealId::from_bytes([2; 16]), &Hash([2; 32]), true));
    }

    proptest! {
        /// Once all have spoken it is decided, as more than half of them say; what is decided early stays so.
        #[test]
        fn it_ends_and_stays_ended(verdicts in prop::collection::vec(any::<bool>(), 3..20)) {
            let all = verdicts.len();
            let right = verdicts.iter().filter(|right| **right).count();
            prop_assert_eq!(decide(all, &verdicts, true), Some(right >= quorum(all)));
            for so_far in 0..all {
                if let Some(early) = decide(all, &verdicts[..so_far], true) {
                    prop_assert_eq!(Some(early), decide(all, &verdicts, true));
                }
            }
        }
    }
}
