//! Error rates of proving by a resource vector: a simulation from real measurements.
//!
//! Vectors are makers' figures of real GPUs, noise is how far real runs of one model lie from their median.
//! A GPU proves a claim when each rate, moved by the noise of one run, is at least what is claimed divided by
//! the tolerance, and its memory is there. Nothing is drawn: every pair of GPUs meets every run of noise, so
//! the rates are exact for this data. Knows no clock and no files; none of it was measured on our proofs.

use crate::{
    classify::{
        TOLERANCE_MEMORY,
        times::{Conditions, SAMPLES_MIN},
    },
    reference::{Renders, Spec},
    robust::{Permille, Seeded, median},
};

/// An over-claim is larger than the truth by so much in at least one resource: 1.25 times.
pub const OVER_CLAIM: Permille = 1_250;
/// The seed of the halves in [`Noise::held_out`].
pub const SEED: u64 = 20_260_425;
/// Halves drawn there.
const SPLITS: usize = 32;

const PPB: u128 = 1_000_000_000;

/// A rate in thousand millionths: 1,000,000 is one in a thousand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ppb(pub u64);

impl Ppb {
    fn of(part: u128, whole: u128) -> Self {
        Self((part * PPB / whole.max(1)) as u64)
    }
}

/// How fast real runs were, compared with the median of their model: thousand millionths of it, rising.
#[derive(Clone, Debug)]
pub struct Noise {
    speeds: Vec<u64>,
}

/// The series that noise is taken from: one scene in one build, on models with enough runs.
fn series(renders: &[Renders]) -> impl Iterator<Item = &Renders> {
    renders.iter().filter(|r| {
        let conditions = (r.build.as_str(), r.scene.as_str());
        conditions == ("2.81", "classroom")
            && ["CUDA", "OPENCL"].contains(&r.api.as_str())
            && r.times_millis.len() >= SAMPLES_MIN
    })
}

/// What noise is taken from, for people.
pub fn conditions() -> Conditions {
    Conditions { api: "CUDA or OPENCL".to_owned(), build: "2.81".to_owned(), scene: "classroom".to_owned() }
}

impl Noise {
    fn sorted(mut speeds: Vec<u64>) -> Self {
        speeds.sort_unstable();
        Self { speeds }
    }
    fn speed(median: u64, millis: u64) -> u64 {
        (u128::from(median) * PPB / u128::from(millis.max(1))) as u64
    }

    /// Every run against the median of all runs of its model.
    pub fn whole(renders: &[Renders]) -> Self {
        let mut speeds = vec![];
        for one in series(renders) {
            let Some(median) = median(&one.times_millis) else { continue };
            speeds.extend(one.times_millis.iter().map(|millis| Self::speed(median, *millis)));
        }
        Self::sorted(speeds)
    }

    /// Every run against a median it had no part in: of the other half of its model's runs, over many halves.
    pub fn held_out(renders: &[Renders], seed: u64) -> Self {
        let mut rng = Seeded(seed);
        let mut speeds = vec![];
        for _ in 0..SPLITS {
            for one in series(renders) {
                let mut times = one.times_millis.clone();
                rng.shuffle(&mut times);
                let (known, unseen) = times.split_at(times.len() / 2);
                let Some(median) = median(known) else { continue };
                speeds.extend(unseen.iter().map(|millis| Self::speed(median, *millis)));
            }
        }
        Self::sorted(speeds)
    }

    /// Runs.
    pub fn runs(&self) -> usize {
        self.speeds.len()
    }

    /// Runs that are at least so fast.
    fn at_least(&self, speed: u128) -> u128 {
        let slower = self.speeds.partition_point(|found| u128::from(*found) < speed);
        (self.speeds.len() - slower) as u128
    }
}

/// Which resources a proof looks at, and how its noise is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// All of them; one run moves all its rates alike, as clocks and heat do.
    Vector,
    /// All of them, each with noise of its own.
    VectorApart,
    /// The fp32 rate alone, as a single benchmark does.
    Fp32,
}

/// Error rates of single proofs and of the rule "two of three".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// GPUs.
    pub models: usize,
    /// Pairs of a true and a claimed model that are over-claims.
    pub over_claims: u64,
    /// Honest GPUs rejected by one proof.
    pub honest_rejected_single: Ppb,
    /// By two of three.
    pub honest_rejected_two_of_three: Ppb,
    /// Over-claims accepted by one proof.
    pub over_claim_accepted_single: Ppb,
    /// By two of three.
    pub over_claim_accepted_two_of_three: Ppb,
}

fn vector(spec: &Spec) -> [u64; 3] {
    [spec.fp32_mflops, spec.bandwidth_mbps, spec.memory_mib]
}

/// Of `whole`, how many proofs of `truth` pass as `claim`.
fn passes(truth: [u64; 3], claim: [u64; 3], noise: &Noise, tolerance: Permille, test: Test) -> u128 {
    let n = noise.runs() as u128;
    // The least speed at which truth x speed >= claim / tolerance, rounded up.
    let needed =
        |i: usize| (u128::from(claim[i]) * 1000 * PPB).div_ceil(u128::from(truth[i]) * u128::from(tolerance));
    let memory = u128::from(truth[2]) * u128::from(TOLERANCE_MEMORY) >= u128::from(claim[2]) * 1000;
    match test {
        Test::Fp32 => noise.at_least(needed(0)) * n,
        _ if !memory => 0,
        Test::Vector => noise.at_least(needed(0).max(needed(1))) * n,
        Test::VectorApart => noise.at_least(needed(0)) * noise.at_least(needed(1)),
    }
}

/// Computes the error rates for these models, this noise and this tolerance. Zeros where there is no noise.
pub fn rates(models: &[&Spec], noise: &Noise, tolerance: Permille, test: Test) -> Rates {
    let whole = (noise.runs() as u128).pow(2);
    // Two of three pass with p^2 (3 - 2p); p in thousand millionths keeps the sums within 128 bits.
    let two_of_three = |p: u128| p * p * (3 * PPB - 2 * p);
    let (mut pairs, mut single, mut double) = (0u64, 0u128, 0u128);
    let (mut honest, mut honest_double) = (0u128, 0u128);
    for truth in models {
        let share = passes(vector(truth), vector(truth), noise, tolerance, test) * PPB / whole.max(1);
        honest += PPB - share;
        honest_double += PPB.pow(3) - two_of_three(share);
        for claim in models {
            let (truth, claim) = (vector(truth), vector(claim));
            let larger =
                |i: usize| u128::from(claim[i]) * 1000 >= u128::from(truth[i]) * u128::from(OVER_CLAIM);
            if !(0..3).any(larger) {
                continue;
            }
            pairs += 1;
            let share = passes(truth, claim, noise, tolerance, test) * PPB / whole.max(1);
            single += share;
            double += two_of_three(share);
        }
    }
    let (n, m) = (models.len() as u128, u128::from(pairs));
    Rates {
        models: models.len(),
        over_claims: pairs,
        honest_rejected_single: Ppb::of(honest, n * PPB),
        honest_rejected_two_of_three: Ppb::of(honest_double / PPB.pow(2), n * PPB),
        over_claim_accepted_single: Ppb::of(single, m * PPB),
        over_claim_accepted_two_of_three: Ppb::of(double / PPB.pow(2), m * PPB),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{classify::TOLERANCE, reference};

    fn spec(fp32: u64, bandwidth: u64, memory: u64) -> Spec {
        Spec {
            name: String::new(),
            maker: String::new(),
            architecture: String::new(),
            released: String::new(),
            memory_mib: memory,
            bandwidth_mbps: bandwidth,
            fp32_mflops: fp32,
        }
    }

    #[test]
    fn a_hand_made_world_has_the_rates_one_computes_by_hand() {
        // Four runs: two at the median, one 10 % and one 50 % slower.
        let noise = Noise::sorted(vec![1_000_000_000, 1_000_000_000, 900_000_000, 500_000_000]);
        let (small, large) = (spec(100, 100, 1_000), spec(130, 100, 1_000));
        let found = rates(&[&small, &large], &noise, TOLERANCE, Test::Vector);
        // An honest GPU fails with the slowest run alone; small passes as large with no run (1.3 > 1.15).
        assert_eq!((found.models, found.over_claims), (2, 1));
        assert_eq!(found.honest_rejected_single, Ppb(250_000_000));
        // 3 / 16 x 3 / 4 + 1 / 64 = 0.15625.
        assert_eq!(found.honest_rejected_two_of_three, Ppb(156_250_000));
        assert_eq!(found.over_claim_accepted_single, Ppb(0));
        let found = rates(&[&small, &large], &noise, 1_300, Test::Vector);
        assert_eq!(found.over_claim_accepted_single, Ppb(500_000_000));
        let apart = rates(&[&small, &large], &noise, TOLERANCE, Test::VectorApart);
        // 1 - (3 / 4)^2.
        assert_eq!(apart.honest_rejected_single, Ppb(437_500_000));
    }

    #[test]
    fn the_goals_are_held_on_the_shipped_measurements() {
        let (specs, renders) = (reference::specs(), reference::renders());
        let models = reference::modern(&specs);
        let noise = Noise::whole(&renders);
        let found = rates(&models, &noise, TOLERANCE, Test::Vector);
        println!("{} runs {found:?}", noise.runs());
        assert_eq!((found.models, found.over_claims), (507, 149_884));
        assert!(found.over_claim_accepted_single <= Ppb(1_000_000));
        assert!(found.honest_rejected_single <= Ppb(20_000_000));
        assert!(found.honest_rejected_two_of_three <= Ppb(2_000_000));
        // One benchmark alone lets about a quarter of the same over-claims through.
        let fp32 = rates(&models, &noise, TOLERANCE, Test::Fp32);
        assert!(fp32.over_claim_accepted_single > Ppb(200_000_000));
        let held_out = rates(&models, &Noise::held_out(&renders, SEED), TOLERANCE, Test::Vector);
        println!("seed {SEED}: held out {held_out:?}");
        assert!(held_out.honest_rejected_single <= Ppb(25_000_000));
        assert!(held_out.over_claim_accepted_single <= Ppb(1_000_000));
    }

    #[test]
    fn a_looser_tolerance_trades_one_error_for_the_other() {
        let (specs, renders) = (reference::specs(), reference::renders());
        let models: Vec<&Spec> = reference::modern(&specs).into_iter().step_by(5).collect();
        let noise = Noise::whole(&renders);
        let all: Vec<Rates> = [1_050, 1_100, 1_150, 1_200, 1_300]
            .map(|tolerance| rates(&models, &noise, tolerance, Test::Vector))
            .into();
        for pair in all.windows(2) {
            assert!(pair[0].honest_rejected_single >= pair[1].honest_rejected_single);
            assert!(pair[0].over_claim_accepted_single <= pair[1].over_claim_accepted_single);
        }
    }
}
