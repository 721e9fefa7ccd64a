//! Epochs: when they are opened, and what follows from the last of them for a GPU that was proven.
//!
//! One miss costs nothing; two of the last three make a GPU `suspect`, which the next epochs undo by
//! themselves. Who goes on missing bells is shown as and paid for what the bells have proven. Only false bits are fraud. Knows no transcripts, no clock and no history beyond these outcomes.

use gangline_types::{GpuClaim, Hash, Profile, ProofId, Standing, Text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    calibration::Entry,
    relabel::{self, Answer},
    standing::Judgement,
};

/// Epoch proofs asked at enrolment.
pub const ENROLMENT_EPOCHS: u32 = 3;
/// How many of the last decide, and how many misses of them make a GPU suspect.
pub const DECIDING: usize = 3;
/// See [`DECIDING`].
pub const MISSES_MAX: usize = 2;
/// Outcomes that are looked at, at most: a suspect GPU is measured up to four times an hour, and its rate follows from the
/// last [`relabel::BELLS`] bells of the network.
pub const HEARD_MAX: usize = 60;
/// Roots are taken until so long after the bell, deadline or not, in milliseconds: a late answer says by how
/// much, and ends waiting for the rest.
pub const TAKEN_MILLIS: u64 = 60_000;
/// Openings of the largest network are spread over so long, in milliseconds.
pub const OPENED_WITHIN_MILLIS: u64 = 900_000;
/// Whoever asks for a challenge later than this after the bell has missed it, in milliseconds.
pub const LATECOMER_MILLIS: u64 = 10_000;

/// How long after its roots a proof is opened, in milliseconds: openings of `gpus` GPUs are spread so that a
/// server verifies 20 a second (0.05 s of a processor each) while that takes no longer than fifteen minutes, and
/// more a second beyond 18,000 GPUs: 667 a second of 600,000, which are 34 cores (72 by what a whole unoptimised
/// server needs, docs/BENCHMARKS.md). `draw` says where in that span.
pub fn opening_delay_millis(gpus: u64, draw: &Hash) -> u64 {
    let span = (gpus.saturating_mul(50)).min(OPENED_WITHIN_MILLIS);
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
    /// It was there, and its machine said that it could not answer; why, in the machine's words.
    Unable(Text<160>),
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
            Err(Failure::Unable(why)) => format!("was not answered; its machine says: {why}"),
        }
    }
}

/// How one bell went for one GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// How it ended.
    pub outcome: Outcome,
    /// Whether it rang for the whole network at once, and not at a moment of its machine's own.
    pub network: bool,
}

/// What bells lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// It stands as it did.
    Held,
    /// Too many of the last were missed.
    Suspect,
    /// It goes on missing them and answers with right bits: proven as what the bells have shown.
    Relabelled,
}

/// What the bells that a GPU heard lead to, oldest first, `true` being the network's; and the part of its rate that it is
/// paid for, in thousandths. The last three decide, whoever rang them: fewer misses than two leave it as it is. Once the
/// network's own bells have cost it a part of its rate, two answers of the last three with right bits suffice to be
/// proven as that part, in time or not.
pub fn follows(heard: &[(Answer, bool)]) -> (Follows, u64) {
    let network: Vec<Answer> = heard.iter().filter(|(_, network)| *network).map(|(one, _)| *one).collect();
    let part = relabel::part(&network);
    let last = &heard[heard.len().saturating_sub(DECIDING)..];
    let missed = last.iter().filter(|(one, _)| *one != Answer::InTime).count();
    let unanswered = last.iter().filter(|(one, _)| *one == Answer::Missing).count();
    let follows = match (missed >= MISSES_MAX, part < 1000) {
        (false, false) => Follows::Held,
        (false, true) => Follows::Relabelled,
        (true, true) if unanswered < MISSES_MAX && part > 0 => Follows::Relabelled,
        (true, _) => Follows::Suspect,
    };
    (follows, part)
}

/// What follows for a GPU with this claim that stands as `joined` by its joining proofs, from the bells it heard, oldest
/// first. `kin` are the calibrated medians of the same work, which say what else it may be shown as.
pub fn judge(joined: Judgement, claim: &GpuClaim, heard: &[Heard], kin: &[Entry]) -> Judgement {
    let forged = heard.iter().find(|one| matches!(one.outcome.verdict, Err(Failure::WrongBits(_))));
    if let Some(Heard { outcome, .. }) = forged {
        let reason = format!("{} of an epoch: {}", outcome.proof, outcome.in_words());
        return Judgement {
            standing: Standing::Quarantined,
            reason: Text::lossy(&reason),
            profile: Profile::default(),
            proof: joined.proof,
            shown_as: None,
        };
    }
    if joined.standing != Standing::Proven {
        return joined;
    }
    let answers: Vec<(Answer, bool)> = heard.iter().map(|one| (Answer::of(one), one.network)).collect();
    let (follows, part) = follows(&answers);
    // What it showed at joining, or the part of it that the bells have shown: a suspect's shares are held by it until it
    // clears, and lost by nothing but fraud.
    let matrix_mmacs = relabel::cut(joined.profile.matrix_mmacs, part);
    let profile = Profile { matrix_mmacs, ..joined.profile };
    let last: Vec<&Outcome> =
        heard[heard.len().saturating_sub(DECIDING)..].iter().map(|one| &one.outcome).collect();
    match follows {
        Follows::Held => held(joined, &last),
        Follows::Suspect => {
            let misses: Vec<&&Outcome> = last.iter().filter(|outcome| outcome.verdict.is_err()).collect();
            let worst = misses.last().map(|worst| worst.in_words()).unwrap_or_default();
            let reason = format!(
                "{} of its last {} epochs were missed; the last one {worst}",
                misses.len(),
                last.len()
            );
            let (standing, reason) = (Standing::Suspect, Text::lossy(&reason));
            Judgement { standing, reason, profile, proof: joined.proof, shown_as: joined.shown_as }
        }
        Follows::Relabelled => {
            let network: Vec<Answer> = answers.iter().filter(|one| one.1).map(|one| one.0).collect();
            let network = &network[network.len().saturating_sub(relabel::BELLS)..];
            // A name that is nobody's word already stays what it is.
            let shown_as = joined.shown_as.or_else(|| Some(relabel::name(claim, network, part, kin)));
            let reason = relabelled_words(network, part, joined.profile.matrix_mmacs, matrix_mmacs);
            let standing = Standing::Proven;
            Judgement { standing, reason: Text::lossy(&reason), profile, proof: joined.proof, shown_as }
        }
    }
}

/// Why a GPU is shown as less: which resource, what was expected, what was measured, by which deadline.
fn relabelled_words(network: &[Answer], part: u64, joined_mmacs: u64, matrix_mmacs: u64) -> String {
    let in_time = network.iter().filter(|answer| **answer == Answer::InTime).count();
    let late = network.iter().rev().find_map(|answer| match answer {
        Answer::Late { elapsed_millis, deadline_millis } => Some((elapsed_millis, deadline_millis)),
        _ => None,
    });
    let measured = late.map_or_else(String::new, |(elapsed, deadline)| {
        format!("; memory and ALU chain took {elapsed} ms last, {deadline} ms were allowed")
    });
    format!(
        "shown as what its proofs carry: {in_time} of the network's last {} bells answered in time{measured}; {matrix_mmacs} of {joined_mmacs} million multiply-adds a second count ({}.{} %)",
        network.len(),
        part / 10,
        part % 10
    )
}

/// A proven GPU with what its last epochs have shown: memory is what the least of them held.
fn held(joined: Judgement, last: &[&Outcome]) -> Judgement {
    let shown = || last.iter().filter_map(|outcome| outcome.verdict.as_ref().ok());
    let Some(least) = shown().map(|shown| shown.memory_bytes).min() else { return joined };
    let reason = format!("{}; its epochs held {} MiB", joined.reason, least >> 20);
    let profile = Profile { memory_bytes: joined.profile.memory_bytes.max(least), ..joined.profile };
    Judgement { reason: Text::lossy(&reason), profile, ..joined }
}

#[cfg(test)]
mod tests {
    use gangline_types::{AdapterKind, Backend};
    use proptest::prelude::*;

    use super::*;

    fn joined(standing: Standing) -> Judgement {
        Judgement {
            standing,
            reason: Text::new("its proofs carry its claim").unwrap(),
            profile: Profile { matrix_mmacs: 7, memory_bytes: 9 },
            proof: Some(ProofId::from_bytes([9; 16])),
            shown_as: None,
        }
    }
    fn claim() -> GpuClaim {
        GpuClaim {
            slot: Hash::default(),
            model: Text::new("Large card").unwrap(),
            kind: AdapterKind::Discrete,
            backend: Backend::Vulkan,
            driver: Text::default(),
            pci_vendor: 0,
            pci_device: 0,
            memory_bytes: 24 << 30,
        }
    }
    /// Judged by bells of the whole network.
    fn judged(joined: Judgement, outcomes: &[Outcome]) -> Judgement {
        let heard = |outcome: &Outcome| Heard { outcome: outcome.clone(), network: true };
        judge(joined, &claim(), &outcomes.iter().map(heard).collect::<Vec<_>>(), &[])
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
            let found = judged(joined(Standing::Proven), &outcomes);
            assert_eq!(found.standing, standing, "{}", found.reason);
            assert!(found.reason.as_str().contains(words), "{}", found.reason);
            // What was shown at joining is kept: shares of a suspect are held by it.
            assert_eq!(found.profile.matrix_mmacs, 7);
        };
        check(&[], Standing::Proven, "carry");
        check(&[late()], Standing::Proven, "carry");
        check(&[late(), Ok(1000), Ok(1000)], Standing::Proven, "carry");
        check(&[late(), Err(Failure::Absent)], Standing::Suspect, "did not answer the bell");
        check(&[Ok(1000), late(), late()], Standing::Suspect, "took 2300 ms; 1650 ms were allowed");
        check(&[late(), Err(Failure::Abandoned), Ok(1000)], Standing::Suspect, "was not finished");
        let unable = || Err(Failure::Unable(Text::new("it holds 60 buffers").unwrap()));
        check(&[unable(), unable()], Standing::Suspect, "says: it holds 60 buffers");
        check(&[Ok(1000), late()], Standing::Proven, "its epochs held 16 MiB");
        // Two answers in time undo it.
        check(&[late(), late(), Ok(1000), Ok(1000)], Standing::Proven, "carry");
    }

    #[test]
    fn who_goes_on_missing_the_networks_bells_is_proven_as_what_they_have_shown() {
        let check = |heard: &[(Result<u64, Failure>, bool)], standing, rate, words: &str| {
            let all: Vec<Heard> = (0..)
                .zip(heard)
                .map(|(n, (verdict, network))| Heard {
                    outcome: outcome(n, verdict.clone()),
                    network: *network,
                })
                .collect();
            let found = judge(joined(Standing::Proven), &claim(), &all, &[]);
            assert_eq!((found.standing, found.profile.matrix_mmacs), (standing, rate), "{}", found.reason);
            assert!(found.reason.as_str().contains(words), "{}", found.reason);
            assert!(!found.reason.as_str().ends_with('…'), "the figures are all there: {}", found.reason);
            found.shown_as.map(|shown| shown.model.to_string())
        };
        let (own, all) = (false, true);
        let absent = || Err(Failure::Absent);
        // Two misses: suspect, at its full rate, which is held. Its own re-runs clear it once.
        check(&[(late(), all), (late(), all)], Standing::Suspect, 7, "2300 ms; 1650 ms");
        let rerun = [(late(), all), (late(), all), (Ok(900), own), (Ok(900), own)];
        assert_eq!(check(&rerun, Standing::Proven, 7, "carry"), None);
        // But not for ever: four misses of the network's own bells, and the rate is what those have shown. 1,650 ms are
        // allowed for a median of 1,178, and 2,300 were taken: 51.2 % of 7.
        let mut again = rerun.to_vec();
        again.extend(rerun.clone());
        let words = "0 of the network's last 4 bells answered in time; memory and ALU chain took 2300 ms last, 1650 ms were allowed";
        let shown = check(&again, Standing::Proven, 3, words);
        assert_eq!(shown.as_deref(), Some("51.2 % of Large card"));
        // Right bits, though late, suffice to be proven as that; not answering does not.
        check(&[(late(), all), (late(), all), (late(), all), (late(), all)], Standing::Proven, 3, "51.2 %");
        check(
            &[(late(), all), (late(), all), (absent(), all), (absent(), all)],
            Standing::Suspect,
            1,
            "missed",
        );
        // Who never answers has shown nothing.
        check(
            &[(absent(), all), (absent(), all), (absent(), all), (absent(), all)],
            Standing::Suspect,
            0,
            "missed",
        );
        // An answer that was too late to be opened shows nothing either: nobody knows its bits.
        let too_late = || Err(Failure::Late { elapsed_millis: 61_000, deadline_millis: TAKEN_MILLIS });
        let unopened = [(too_late(), all), (too_late(), all), (too_late(), all), (too_late(), all)];
        check(&unopened, Standing::Suspect, 0, "missed");
        // The network's bells forget: nine good ones leave three misses among the last twelve.
        let mut recovered = vec![(late(), all); 4];
        recovered.extend(vec![(Ok(900), all); 9]);
        check(&recovered, Standing::Proven, 7, "carry");
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
            judged(joined(Standing::Proven), &all).standing
        };
        assert_eq!(standing(&at_once(alone)), Standing::Proven);
        assert_eq!(standing(&at_once(2 * alone)), Standing::Suspect);
        // Serving one and letting the other miss the bell makes the other suspect.
        assert_eq!(standing(&Err(Failure::Absent)), Standing::Suspect);
    }

    #[test]
    fn false_bits_are_fraud_and_an_unproven_gpu_stays_unproven() {
        let forged = [outcome(1, Err(Failure::WrongBits(Text::new("segment 3 does not follow").unwrap())))];
        assert_eq!(judged(joined(Standing::Proven), &forged).standing, Standing::Quarantined);
        assert_eq!(judged(joined(Standing::Suspect), &[outcome(1, Ok(1))]).standing, Standing::Suspect);
        assert_eq!(judged(joined(Standing::Unproven), &[outcome(1, Ok(1))]).standing, Standing::Unproven);
    }

    #[test]
    fn openings_are_spread_and_a_small_network_does_not_wait() {
        assert_eq!(opening_delay_millis(3, &Hash([255; 32])), 0);
        assert!(opening_delay_millis(600_000, &Hash([255; 32])) < OPENED_WITHIN_MILLIS);
        // Before the next bell, however close that is.
        const { assert!(TAKEN_MILLIS + OPENED_WITHIN_MILLIS < 3_600_000 - crate::bells::WITHIN_SECONDS * 1000) };
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
            let before = judged(joined(Standing::Proven), &outcomes);
            prop_assert!(before.standing != Standing::Quarantined);
            let mut better = outcomes;
            if let Some(one) = better.get_mut(at) {
                *one = outcome(at as u8, Ok(900));
            }
            let after = judged(joined(Standing::Proven), &better);
            let is_whole = |found: &Judgement| found.standing == Standing::Proven && found.shown_as.is_none();
            prop_assert!(!is_whole(&before) || is_whole(&after));
            prop_assert!(after.profile.matrix_mmacs >= before.profile.matrix_mmacs);
        }
    }
}
