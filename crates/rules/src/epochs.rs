//! Epochs: when the bell rings, and what follows from the last of them for a GPU that was proven.
//!
//! One miss costs nothing; two of the last three make a GPU `suspect`, which the next epochs undo by
//! themselves. Only false bits are fraud. Knows no transcripts, no clock and no history beyond these outcomes.

use gangline_types::{Hash, Hour, Profile, ProofId, Standing, Text, UnixMillis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::standing::Judgement;

/// Epoch proofs asked at enrolment.
pub const ENROLMENT_EPOCHS: u32 = 3;
/// How many of the last decide, and how many misses of them make a GPU suspect.
pub const DECIDING: usize = 3;
/// See [`DECIDING`].
pub const MISSES_MAX: usize = 2;
/// The bell rings within the first so many seconds of an hour, so that every epoch ends within it.
const WITHIN_SECONDS: u64 = 3_000;
/// Roots are taken until so long after the bell, deadline or not, in milliseconds: a late answer says by how
/// much, and ends waiting for the rest.
pub const TAKEN_MILLIS: u64 = 60_000;
/// Whoever asks for a challenge later than this after the bell has missed it, in milliseconds.
pub const LATECOMER_MILLIS: u64 = 10_000;

/// The moment of an hour's epoch, the same for the whole network, so that one GPU cannot serve two identities.
/// `secret` is the network's: nobody else knows the moment before it.
pub fn bell(secret: &[u8; 32], hour: Hour) -> UnixMillis {
    let mut h = blake3::Hasher::new_derive_key("gangline 2026 moment of an epoch");
    h.update(secret).update(&hour.0.to_le_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&h.finalize().as_bytes()[..8]);
    let within = u64::from_le_bytes(first) % (WITHIN_SECONDS * 1000);
    UnixMillis(u64::from(hour.0) * 3_600_000 + within)
}

/// The beacon of an epoch: nobody can foresee it who lacks the secret, and nobody can say it was chosen to
/// please anybody, for the log's root is in it.
pub fn beacon(secret: &[u8; 32], log_root: &Hash, moment: UnixMillis, fresh: &Hash) -> Hash {
    let mut h = blake3::Hasher::new_keyed(secret);
    h.update(b"gangline 2026 beacon of an epoch").update(&log_root.0);
    h.update(&moment.0.to_le_bytes()).update(&fresh.0);
    Hash(*h.finalize().as_bytes())
}

/// How long after its roots a proof is opened, in milliseconds: openings of `gpus` GPUs are spread so that a
/// server verifies 20 a second (0.05 s of a processor each) while that takes no longer than five minutes, and
/// more a second beyond 6,000 GPUs. `draw` says where in that span.
pub fn opening_delay_millis(gpus: u64, draw: &Hash) -> u64 {
    let span = (gpus.saturating_mul(50)).min(300_000);
    let mut first = [0; 8];
    first.copy_from_slice(&draw.0[..8]);
    // Below a second nothing is gained by waiting.
    if span < 1_000 { 0 } else { u64::from_le_bytes(first) % span }
}

/// What an accepted epoch shows: lower bounds, for its whole time counts for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shown {
    /// Bytes that were filled, read at random, and still there at the end.
    pub memory_bytes: u64,
    /// Blocks of 64 bytes read at random.
    pub reads: u64,
    /// Steps of the ALU chain.
    pub alu_steps: u64,
    /// From the bell to the last root, in milliseconds.
    pub elapsed_millis: u64,
}

impl Shown {
    /// Random reads in MB/s.
    pub fn read_mbps(&self) -> u64 {
        (u128::from(self.reads) * 64 / 1000 / u128::from(self.elapsed_millis.max(1))) as u64
    }
    /// Steps of the ALU chain in millions a second.
    pub fn alu_msteps(&self) -> u64 {
        self.alu_steps / self.elapsed_millis.max(1) / 1000
    }
}

/// Why an epoch shows nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// The transcript is not that of the asked computation; what did not fit, in words.
    WrongBits(Text<240>),
    /// The bits are right, and came after the deadline.
    Late {
        /// From the bell to the last root, in milliseconds.
        elapsed_millis: u64,
        /// What was allowed.
        deadline_millis: u64,
    },
    /// No roots came, or they were never opened.
    Abandoned,
    /// It was there, and did not ask for its challenge.
    Absent,
}

/// How one epoch ended for one GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// The proof.
    pub proof: ProofId,
    /// What it shows, or why it shows nothing.
    pub verdict: Result<Shown, Failure>,
}

impl Outcome {
    /// In words for the GPU's page: which resource, what was expected, what was measured.
    pub fn in_words(&self) -> String {
        match &self.verdict {
            Ok(shown) => format!(
                "passed in {} ms: {} MiB held, {} MB/s read at random, {} million ALU steps a second, each at least",
                shown.elapsed_millis,
                shown.memory_bytes >> 20,
                shown.read_mbps(),
                shown.alu_msteps()
            ),
            Err(Failure::WrongBits(what)) => format!("wrong bits: {what}"),
            Err(Failure::Late { elapsed_millis, deadline_millis }) => format!(
                "late: filling and reading its memory and the ALU chain took {elapsed_millis} ms; {deadline_millis} ms were allowed, 1.15 times the median of its model, backend and driver, and the way"
            ),
            Err(Failure::Abandoned) => "began and was not finished".to_owned(),
            Err(Failure::Absent) => {
                "was missed: the machine was there and did not answer the bell".to_owned()
            }
        }
    }
}

/// What follows for a GPU that stands as `joined` by its joining proofs, from its epochs, oldest first. The last
/// three decide; fewer misses than two leave it as it is.
pub fn judge(joined: Judgement, outcomes: &[Outcome]) -> Judgement {
    let forged = outcomes.iter().find(|o| matches!(o.verdict, Err(Failure::WrongBits(_))));
    if let Some(outcome) = forged {
        let reason = format!("{} of an epoch: {}", outcome.proof, outcome.in_words());
        return Judgement {
            standing: Standing::Quarantined,
            reason: Text::lossy(&reason),
            profile: Profile::default(),
            proof: joined.proof,
        };
    }
    if joined.standing != Standing::Proven {
        return joined;
    }
    let last = &outcomes[outcomes.len().saturating_sub(DECIDING)..];
    let misses: Vec<&Outcome> = last.iter().filter(|outcome| outcome.verdict.is_err()).collect();
    let Some(worst) = misses.last().filter(|_| misses.len() >= MISSES_MAX) else { return joined };
    let reason = format!(
        "{} of its last {} epochs were missed; the last one {}",
        misses.len(),
        last.len(),
        worst.in_words()
    );
    Judgement {
        standing: Standing::Suspect,
        reason: Text::lossy(&reason),
        profile: Profile::default(),
        proof: joined.proof,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(standing: Standing) -> Judgement {
        Judgement {
            standing,
            reason: Text::new("its proofs carry its claim").unwrap(),
            profile: Profile { matrix_mmacs: 7, memory_bytes: 9 },
            proof: Some(ProofId::from_bytes([9; 16])),
        }
    }
    fn outcome(n: u8, verdict: Result<u64, Failure>) -> Outcome {
        let shown = |elapsed_millis| Shown {
            memory_bytes: 16 << 20,
            reads: 1 << 21,
            alu_steps: 1 << 28,
            elapsed_millis,
        };
        Outcome { proof: ProofId::from_bytes([n; 16]), verdict: verdict.map(shown) }
    }
    fn late() -> Result<u64, Failure> {
        Err(Failure::Late { elapsed_millis: 2_300, deadline_millis: 1_650 })
    }

    #[test]
    fn one_miss_costs_nothing_and_two_of_three_make_suspect_until_it_answers_again() {
        let check = |verdicts: &[Result<u64, Failure>], standing, words: &str| {
            let outcomes: Vec<Outcome> =
                verdicts.iter().enumerate().map(|(n, v)| outcome(n as u8, v.clone())).collect();
            let found = judge(joined(Standing::Proven), &outcomes);
            assert_eq!(found.standing, standing, "{}", found.reason);
            assert!(found.reason.as_str().contains(words), "{}", found.reason);
        };
        check(&[], Standing::Proven, "carry");
        check(&[late()], Standing::Proven, "carry");
        check(&[late(), Ok(1000), Ok(1000)], Standing::Proven, "carry");
        check(&[late(), Err(Failure::Absent)], Standing::Suspect, "did not answer the bell");
        check(&[Ok(1000), late(), late()], Standing::Suspect, "took 2300 ms; 1650 ms were allowed");
        check(&[late(), Err(Failure::Abandoned), Ok(1000)], Standing::Suspect, "was not finished");
        // Two answers in time undo it.
        check(&[late(), late(), Ok(1000), Ok(1000)], Standing::Proven, "carry");
    }

    #[test]
    fn one_device_under_two_identities_becomes_suspect_under_both() {
        // The bell is one for the whole network. A device that needs 1.1 s alone needs 2.2 s for each of two.
        let alone = 1_100;
        let deadline_millis = 1_650;
        let at_once = |elapsed_millis| match elapsed_millis <= deadline_millis {
            true => Ok(elapsed_millis),
            false => Err(Failure::Late { elapsed_millis, deadline_millis }),
        };
        let standing = |verdict: &Result<u64, Failure>| {
            let all: Vec<Outcome> = (0..3).map(|n| outcome(n, verdict.clone())).collect();
            judge(joined(Standing::Proven), &all).standing
        };
        assert_eq!(standing(&at_once(alone)), Standing::Proven);
        assert_eq!(standing(&at_once(2 * alone)), Standing::Suspect);
        // Serving one and letting the other miss the bell makes the other suspect.
        assert_eq!(standing(&Err(Failure::Absent)), Standing::Suspect);
    }

    #[test]
    fn false_bits_are_fraud_and_an_unproven_gpu_stays_unproven() {
        let forged = [outcome(1, Err(Failure::WrongBits(Text::new("segment 3 does not follow").unwrap())))];
        assert_eq!(judge(joined(Standing::Proven), &forged).standing, Standing::Quarantined);
        assert_eq!(judge(joined(Standing::Suspect), &[outcome(1, Ok(1))]).standing, Standing::Suspect);
        assert_eq!(judge(joined(Standing::Unproven), &[outcome(1, Ok(1))]).standing, Standing::Unproven);
    }

    #[test]
    fn the_bell_is_one_for_all_in_its_hour_and_unknown_without_the_secret() {
        let secret = [7; 32];
        let moments: Vec<u64> = (0..1000).map(|hour| bell(&secret, Hour(hour)).0 % 3_600_000).collect();
        assert!(moments.iter().all(|moment| *moment < WITHIN_SECONDS * 1000));
        assert!(moments.iter().any(|m| *m < 300_000) && moments.iter().any(|m| *m > 2_700_000));
        assert_ne!(bell(&secret, Hour(5)), bell(&[8; 32], Hour(5)));
        assert_eq!(bell(&secret, Hour(5)), bell(&secret, Hour(5)));
        let root = Hash([1; 32]);
        let of = |secret, root, millis| beacon(secret, root, UnixMillis(millis), &Hash::default());
        assert_ne!(of(&secret, &root, 1), of(&secret, &root, 2));
        assert_ne!(of(&secret, &root, 1), of(&secret, &Hash([2; 32]), 1));
        assert_ne!(of(&secret, &root, 1), of(&[8; 32], &root, 1));
    }

    #[test]
    fn openings_are_spread_and_a_small_network_does_not_wait() {
        assert_eq!(opening_delay_millis(3, &Hash([255; 32])), 0);
        assert!(opening_delay_millis(600_000, &Hash([255; 32])) < 300_000);
        assert_ne!(
            opening_delay_millis(600_000, &Hash([1; 32])),
            opening_delay_millis(600_000, &Hash([2; 32]))
        );
    }

    proptest! {
        /// Slowness and absence never take more than the listing, and an answer in time never hurts.
        #[test]
        fn slowness_is_never_fraud_and_a_pass_never_hurts(kinds in prop::collection::vec(0..4u8, 0..12), at in 0..12usize) {
            let verdict = |kind: &u8| match kind {
                0 => Ok(900),
                1 => late(),
                2 => Err(Failure::Abandoned),
                _ => Err(Failure::Absent),
            };
            let outcomes: Vec<Outcome> =
                kinds.iter().enumerate().map(|(n, kind)| outcome(n as u8, verdict(kind))).collect();
            let before = judge(joined(Standing::Proven), &outcomes).standing;
            prop_assert!(before != Standing::Quarantined);
            let mut better = outcomes;
            if let Some(one) = better.get_mut(at) {
                *one = outcome(at as u8, Ok(900));
            }
            let after = judge(joined(Standing::Proven), &better).standing;
            prop_assert!(before != Standing::Proven || after == Standing::Proven);
        }
    }
}
