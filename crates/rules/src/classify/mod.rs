//! Classifying: whether what was measured carries what is claimed, which resource decided, and which known
//! profiles the measurement agrees with.
//!
//! Knows expectations and measurements; not where either came from, and nothing of files.

mod names;
pub mod times;
pub mod vectors;

pub use names::words;

use serde::Serialize;

use crate::robust::{Permille, ratio, times as multiply};

/// How much slower than expected still holds where the expectation was measured on the same profile, backend
/// and build: 1.15 times.
pub const TOLERANCE: Permille = 1_150;
/// Memory is there or it is not: 1.02 times covers what drivers keep for themselves and rounding.
pub const TOLERANCE_MEMORY: Permille = 1_020;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Memory in MiB.
    Memory,
    /// Memory bandwidth in MB/s.
    Bandwidth,
    /// Single-precision rate in MFLOPS.
    Fp32,
    /// 32-bit integer rate in MIOPS.
    Int32,
    /// A render's time in milliseconds: less is better.
    RenderTime,
}

impl Resource {
    /// Words for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Bandwidth => "memory bandwidth",
            Self::Fp32 => "fp32 rate",
            Self::Int32 => "int32 rate",
            Self::RenderTime => "render time",
        }
    }
    /// The unit of its values.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Memory => "MiB",
            Self::Bandwidth => "MB/s",
            Self::Fp32 => "MFLOPS",
            Self::Int32 => "MIOPS",
            Self::RenderTime => "ms",
        }
    }
    /// Whether more of it is worse.
    pub fn is_time(self) -> bool {
        self == Self::RenderTime
    }
}

/// How much an expectation is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Measured on this profile, backend and build, and honest runs lie close together.
    Calibrated,
    /// Measured on it, but honest runs spread widely or are few, so only what is far off fails.
    Wide,
    /// Never measured on it: carried over from the same profile under other conditions, so wider still.
    Related,
    /// The maker's figures.
    Published,
}

/// What a claim should show of one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Expected {
    /// The resource.
    pub resource: Resource,
    /// Its value, in the resource's unit.
    pub value: u64,
    /// How many times worse still holds.
    pub tolerance_permille: Permille,
    /// What it rests on.
    pub basis: Basis,
    /// Measurements behind it.
    pub samples: usize,
}

impl Expected {
    /// The worst value that still holds: for a time the most, for everything else the least.
    pub fn limit(&self) -> u64 {
        if self.resource.is_time() {
            return multiply(self.value, self.tolerance_permille);
        }
        (u128::from(self.value) * 1000).div_ceil(u128::from(self.tolerance_permille.max(1))) as u64
    }
}

/// What was measured of one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// The resource.
    pub resource: Resource,
    /// Its value, in the resource's unit.
    pub value: u64,
}

/// One resource compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was expected.
    #[serde(flatten)]
    pub expected: Expected,
    /// The worst value that still holds.
    pub limit: u64,
    /// What was measured.
    pub measured: u64,
    /// How many times better than the limit: 1,000 and more hold.
    pub margin_permille: Permille,
    /// Whether it holds.
    pub holds: bool,
}

impl Finding {
    /// Compares one measured value with what was expected.
    pub fn new(expected: Expected, measured: u64) -> Self {
        let limit = expected.limit();
        let (holds, margin_permille) = match expected.resource.is_time() {
            true => (measured <= limit, ratio(limit, measured)),
            false => (measured >= limit, ratio(measured, limit)),
        };
        Self { expected, limit, measured, margin_permille, holds }
    }
}

/// What a verdict says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Every resource carries the claim.
    Accepted,
    /// At least one does not.
    Rejected,
    /// Nothing is known of what was claimed, so nothing can fail.
    NotJudged,
}

/// A known profile near what was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Agreement {
    /// The profile.
    pub profile: String,
    /// The worst ratio over the resources, either way: 1,000 is the same.
    pub distance_permille: Permille,
    /// Whether that is within its tolerance.
    pub agrees: bool,
}

/// What follows for one measurement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What was claimed.
    pub claim: String,
    /// Whether it is carried.
    pub decision: Decision,
    /// The resource with the smallest margin.
    pub decided_by: Option<Resource>,
    /// All that were compared, the deciding one first.
    pub findings: Vec<Finding>,
    /// Known profiles near the measurement, nearest first.
    pub agrees_with: Vec<Agreement>,
    /// Whether the ratio of int32 to fp32 rate is that of the claimed architecture; none where either is
    /// unknown. It says whether the label fits, and fails nobody.
    pub signature_fits: Option<bool>,
    /// All of it in words.
    pub reason: String,
}

/// Judges what was measured by what was expected of a claim. Only resources on both sides are compared.
pub fn judge(claim: &str, expected: &[Expected], measured: &[Measured]) -> Verdict {
    let of = |resource| measured.iter().find(|measured| measured.resource == resource);
    let mut findings: Vec<Finding> = expected
        .iter()
        .filter_map(|expected| Some(Finding::new(*expected, of(expected.resource)?.value)))
        .collect();
    findings.sort_by_key(|finding| (finding.margin_permille, finding.expected.resource));
    let decision = match findings.first() {
        None => Decision::NotJudged,
        Some(_) if findings.iter().all(|finding| finding.holds) => Decision::Accepted,
        Some(_) => Decision::Rejected,
    };
    let reason = match findings.first() {
        None => format!("nothing is known of {claim:?} that could be compared with what was measured"),
        Some(worst) => in_words(claim, worst),
    };
    Verdict {
        claim: claim.to_owned(),
        decision,
        decided_by: findings.first().map(|finding| finding.expected.resource),
        findings,
        agrees_with: vec![],
        signature_fits: None,
        reason,
    }
}

fn in_words(claim: &str, worst: &Finding) -> String {
    let Finding { expected, limit, measured, holds, .. } = worst;
    let (name, unit) = (expected.resource.words(), expected.resource.unit());
    let bound = if expected.resource.is_time() { "at most" } else { "at least" };
    // Of times the median was learned; of rates the least, since one name may stand for several devices.
    let learned = if expected.resource.is_time() { "median" } else { "least" };
    let basis = match expected.basis {
        Basis::Calibrated | Basis::Wide if expected.samples == 1 => "one measurement".to_owned(),
        Basis::Calibrated => format!("the {learned} of {} measurements", expected.samples),
        Basis::Wide => format!("the {learned} of {} measurements that spread widely", expected.samples),
        Basis::Related => "carried over from the same profile under other conditions".to_owned(),
        Basis::Published => "the maker's figure".to_owned(),
    };
    let verdict = if *holds { "is carried" } else { "is not carried" };
    format!(
        "the claim {claim:?} {verdict}; {name} decides: {measured} {unit} measured, {} {unit} expected ({basis}), {bound} {limit} {unit} holds",
        expected.value
    )
}

/// How far a measurement lies from a profile: the worst ratio over the resources, either way. `None` where
/// they share none.
pub fn distance(expected: &[Expected], measured: &[Measured]) -> Option<Permille> {
    let ratios = expected.iter().filter_map(|expected| {
        let measured = measured.iter().find(|measured| measured.resource == expected.resource)?.value;
        Some(ratio(measured, expected.value).max(ratio(expected.value, measured)))
    });
    ratios.max()
}

/// The nearest of `profiles`, at most `most`; those that agree, or else the nearest one alone.
pub fn nearest(
    profiles: impl IntoIterator<Item = (String, Vec<Expected>)>,
    measured: &[Measured],
    most: usize,
) -> Vec<Agreement> {
    let near = profiles.into_iter().filter_map(|(profile, expected)| {
        let distance_permille = distance(&expected, measured)?;
        // As wide as its own tolerance, and never wider than 1.15: this is about likeness, not about mercy.
        let agrees = distance_permille <= TOLERANCE;
        Some(Agreement { profile, distance_permille, agrees })
    });
    let mut near: Vec<Agreement> = near.collect();
    near.sort_by(|a, b| (a.distance_permille, &a.profile).cmp(&(b.distance_permille, &b.profile)));
    near.dedup_by(|a, b| a.profile == b.profile);
    let agreeing = near.iter().filter(|agreement| agreement.agrees).count();
    near.truncate(agreeing.clamp(1, most.max(1)));
    near
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expected(resource: Resource, value: u64) -> Expected {
        Expected { resource, value, tolerance_permille: TOLERANCE, basis: Basis::Calibrated, samples: 20 }
    }
    fn measured(resource: Resource, value: u64) -> Measured {
        Measured { resource, value }
    }

    #[test]
    fn the_resource_with_the_smallest_margin_decides() {
        let claim = [expected(Resource::Fp32, 10_000), expected(Resource::Bandwidth, 400)];
        let check = |fp32, bandwidth, decision, decided_by| {
            let found = judge(
                "card",
                &claim,
                &[measured(Resource::Fp32, fp32), measured(Resource::Bandwidth, bandwidth)],
            );
            assert_eq!((found.decision, found.decided_by), (decision, Some(decided_by)), "{}", found.reason);
            found
        };
        check(9_900, 400, Decision::Accepted, Resource::Fp32);
        check(8_696, 400, Decision::Accepted, Resource::Fp32);
        check(90_000, 348, Decision::Accepted, Resource::Bandwidth);
        check(8_695, 400, Decision::Rejected, Resource::Fp32);
        let found = check(50_000, 200, Decision::Rejected, Resource::Bandwidth);
        let words = "memory bandwidth decides: 200 MB/s measured, 400 MB/s expected";
        assert!(found.reason.contains(words), "{}", found.reason);
        assert_eq!(found.findings[0].margin_permille, 574);
        let nothing = judge("card", &claim, &[measured(Resource::Memory, 1)]);
        assert_eq!((nothing.decision, nothing.decided_by), (Decision::NotJudged, None));
    }

    #[test]
    fn of_a_time_less_is_better() {
        let claim = [expected(Resource::RenderTime, 1_000)];
        let check = |millis, decision| {
            assert_eq!(judge("card", &claim, &[measured(Resource::RenderTime, millis)]).decision, decision);
        };
        check(1_150, Decision::Accepted);
        check(1_151, Decision::Rejected);
        check(1, Decision::Accepted);
    }

    #[test]
    fn the_nearest_profiles_are_named() {
        let profiles = || {
            [
                ("a".to_owned(), vec![expected(Resource::Fp32, 100)]),
                ("b".to_owned(), vec![expected(Resource::Fp32, 110)]),
            ]
        };
        let near = |value| {
            nearest(profiles(), &[measured(Resource::Fp32, value)], 5)
                .iter()
                .map(|a| (a.profile.clone(), a.agrees))
                .collect::<Vec<_>>()
        };
        assert_eq!(near(109), [("b".to_owned(), true), ("a".to_owned(), true)]);
        assert_eq!(near(1_000), [("b".to_owned(), false)]);
    }

    proptest! {
        /// More of anything never turns an acceptance into a rejection, and no value overflows.
        #[test]
        fn a_better_measurement_never_hurts(value: u64, tolerance in 1000..5000u64, found: u64, more: u64) {
            for resource in [Resource::Fp32, Resource::RenderTime] {
                let claim = [Expected { tolerance_permille: tolerance, ..expected(resource, value) }];
                let better = if resource.is_time() { found.saturating_sub(more) } else { found.saturating_add(more) };
                let before = judge("card", &claim, &[measured(resource, found)]).decision;
                let after = judge("card", &claim, &[measured(resource, better)]).decision;
                prop_assert!(before != Decision::Accepted || after == Decision::Accepted);
            }
        }
    }
}
