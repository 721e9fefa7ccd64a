//! Relabelling: what a GPU is shown as and paid for once its proofs did not carry what it claims.
//!
//! Two things decide, each never above what was proven. The *rate* follows the bells of the whole network: there one
//! device cannot answer for two, at a moment of a machine's own it could. The *name* follows the calibrated deadlines that
//! the answers would have met. Knows no transcripts, no tables of its own and no clock.

use gangline_types::{AdapterKind, GpuClaim, ShownAs, Text};

use crate::{
    calibration::{Entry, median_of_deadline},
    epochs::{Failure, Heard, TAKEN_MILLIS},
    robust::{Permille, times},
};

/// Bells of the whole network that a rate follows from, at most: half a day.
pub const BELLS: usize = 12;
/// With fewer misses among them, nothing is taken off: two make a GPU suspect, and its re-run may miss one.
pub const MISSES: usize = 4;
/// What a device is called of which nothing but its rates is known.
pub const UNNAMED: &str = "unnamed device";

/// How one bell was answered, as far as a rate follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Right and in time.
    InTime,
    /// Right, and late.
    Late {
        /// From the bell to the last root, in milliseconds.
        elapsed_millis: u64,
        /// What was allowed.
        deadline_millis: u64,
    },
    /// Nothing whose bits could be checked.
    Missing,
}

impl Answer {
    /// That of an outcome. An answer that came too late to be taken was never opened, so nobody knows its bits.
    pub fn of(heard: &Heard) -> Self {
        match heard.outcome.verdict {
            Ok(_) => Self::InTime,
            Err(Failure::Late { elapsed_millis, deadline_millis }) if elapsed_millis <= TAKEN_MILLIS => {
                Self::Late { elapsed_millis, deadline_millis }
            }
            Err(_) => Self::Missing,
        }
    }

    /// The part of the claim's work that this answer shows, in thousandths: the median's time over what it took.
    fn shown(self) -> Permille {
        match self {
            Self::InTime => 1000,
            Self::Late { elapsed_millis, deadline_millis } => {
                let median = median_of_deadline(deadline_millis);
                (u128::from(median) * 1000 / u128::from(elapsed_millis.max(1))).min(1000) as Permille
            }
            Self::Missing => 0,
        }
    }
}

/// The part of the rate it showed at joining that a GPU is paid for, in thousandths, from its answers to the bells of the
/// whole network, oldest first: all of it, until [`MISSES`] of the last [`BELLS`] were missed, and from there on the mean of
/// what the bells have shown.
///
/// So identities that share one device are paid for one device and a quarter at most, however they take turns: at each
/// bell their parts sum to one at most, and whoever is paid for more than its part missed fewer than four of twelve.
pub fn part(answers: &[Answer]) -> Permille {
    let last = &answers[answers.len().saturating_sub(BELLS)..];
    let misses = last.iter().filter(|answer| **answer != Answer::InTime).count();
    if misses < MISSES {
        return 1000;
    }
    last.iter().map(|answer| answer.shown()).sum::<Permille>() / last.len() as Permille
}

/// A rate cut to a part of it.
pub fn cut(rate: u64, part: Permille) -> u64 {
    times(rate, part.min(1000))
}

/// What a claim is shown as that is paid for a part of its rate: the fastest model that is known to do the same work through the same interface
/// within what the slowest of the late answers took, and else a part of what it claims.
pub fn name(claim: &GpuClaim, answers: &[Answer], part: Permille, kin: &[Entry]) -> ShownAs {
    let last = &answers[answers.len().saturating_sub(BELLS)..];
    let late = last.iter().filter_map(|answer| match answer {
        Answer::Late { elapsed_millis, .. } => Some(*elapsed_millis),
        _ => None,
    });
    let carried = late.max().and_then(|slowest| {
        kin.iter()
            .filter(|entry| entry.key.backend == claim.backend && entry.key.model != claim.model)
            .filter(|entry| slowest <= entry.deadline_millis())
            .min_by_key(|entry| (entry.median_millis, entry.key.model.clone()))
    });
    let model = match carried {
        Some(entry) => entry.key.model.clone(),
        None => {
            let claimed: String = claim.model.as_str().chars().take(100).collect();
            Text::lossy(&format!("{}.{} % of {claimed}", part / 10, part % 10))
        }
    };
    ShownAs { model, kind: claim.kind }
}

/// A device of which only rates are known: its name and kind are nobody's word any more.
pub fn unnamed() -> ShownAs {
    ShownAs { model: Text::lossy(UNNAMED), kind: AdapterKind::Unknown }
}

#[cfg(test)]
mod tests {
    use gangline_types::{Backend, Hash};
    use proptest::prelude::*;

    use super::*;
    use crate::calibration::Key;

    const IN_TIME: Answer = Answer::InTime;
    const LATE: Answer = Answer::Late { elapsed_millis: 2_000, deadline_millis: 1_400 };

    fn entry(model: &str, backend: Backend, median_millis: u64) -> Entry {
        let key = Key { model: Text::lossy(model), backend, build: Text::lossy("any"), work: Hash([1; 32]) };
        Entry { key, accounts: 5, median_millis }
    }

    #[test]
    fn a_rate_is_whole_until_four_bells_of_twelve_were_missed() {
        let check = |answers: &[Answer], expected| assert_eq!(part(answers), expected, "{answers:?}");
        check(&[], 1000);
        check(&[LATE, LATE, LATE], 1000);
        // The median that 1,400 ms are allowed for is 1,000 ms; twice as long is half the device.
        check(&[LATE; 4], 500);
        check(&[Answer::Missing; 4], 0);
        check(&[IN_TIME, IN_TIME, IN_TIME, IN_TIME, LATE, LATE, LATE, LATE], 750);
        // Old misses are forgotten.
        let mut recovered = vec![LATE; 4];
        recovered.extend([IN_TIME; 9]);
        check(&recovered, 1000);
        assert_eq!((cut(1_000_000, 500), cut(7, 1000), cut(u64::MAX, 5_000)), (500_000, 7, u64::MAX));
    }

    #[test]
    fn a_name_is_the_fastest_whose_deadline_the_answers_would_have_met() {
        let claim = GpuClaim {
            slot: Hash::default(),
            model: Text::lossy("Large card"),
            kind: AdapterKind::Discrete,
            backend: Backend::Vulkan,
            driver: Text::default(),
            pci_vendor: 0,
            pci_device: 0,
            memory_bytes: 24 << 30,
        };
        let kin = [
            entry("Large card", Backend::Vulkan, 1_000),
            entry("Middling card", Backend::Vulkan, 1_600),
            entry("Small card", Backend::Vulkan, 4_000),
            entry("Elsewhere", Backend::Metal, 1_500),
        ];
        let named = |answers: &[Answer], part| name(&claim, answers, part, &kin).model.to_string();
        // 2,000 ms are within the 2,240 that are allowed of the middling card.
        assert_eq!(named(&[LATE; 4], 500), "Middling card");
        let slow = Answer::Late { elapsed_millis: 4_500, deadline_millis: 1_400 };
        assert_eq!(named(&[LATE, slow, slow, slow], 222), "Small card");
        let slowest = Answer::Late { elapsed_millis: 40_000, deadline_millis: 1_400 };
        assert_eq!(named(&[slowest; 4], 25), "2.5 % of Large card");
        assert_eq!(named(&[Answer::Missing, Answer::Missing, IN_TIME, IN_TIME], 500), "50.0 % of Large card");
    }

    proptest! {
        /// However identities take turns on one device, which answers each bell for one of them in time, or for all of them
        /// so much later, they are paid for one and a quarter of it.
        #[test]
        fn identities_on_one_device_are_paid_for_one(
            turns in prop::collection::vec(0..8usize, BELLS..60),
            identities in 2..5usize,
        ) {
            let mut answers = vec![Vec::new(); identities];
            for turn in turns {
                for (at, one) in answers.iter_mut().enumerate() {
                    one.push(match turn {
                        turn if turn >= identities => Answer::Late {
                            elapsed_millis: 1_000 * identities as u64,
                            deadline_millis: 1_400,
                        },
                        turn if turn == at => Answer::InTime,
                        _ => Answer::Missing,
                    });
                }
            }
            let paid: Permille = answers.iter().map(|one| part(one)).sum();
            prop_assert!(paid <= 1_250, "{paid} thousandths of one device");
        }

        #[test]
        fn a_part_is_never_more_than_all_and_a_better_answer_never_hurts(
            kinds in prop::collection::vec(0..3u8, 0..20), at in 0..20usize, elapsed_millis: u64, deadline_millis: u64,
        ) {
            let mut answers: Vec<Answer> = kinds.iter().map(|kind| match kind {
                0 => Answer::InTime,
                1 => Answer::Late { elapsed_millis, deadline_millis },
                _ => Answer::Missing,
            }).collect();
            let before = part(&answers);
            prop_assert!(before <= 1000);
            if let Some(one) = answers.get_mut(at) {
                *one = Answer::InTime;
            }
            prop_assert!(part(&answers) >= before);
        }
    }
}
