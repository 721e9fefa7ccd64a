//! Calibration by vectors: what a model's memory, bandwidth and rates should be, from measured peaks and from
//! makers' figures.
//!
//! Knows no files; a name that stands for several devices claims the weakest of them.

use std::collections::BTreeMap;

use super::{
    Basis, Expected, Measured, Resource, TOLERANCE, TOLERANCE_MEMORY, Verdict, judge, names, nearest,
};
use crate::{
    reference::{self, Peaks, Spec, signature},
    robust::{Permille, ratio, times},
};

/// What a benchmark reaches of a maker's bandwidth: the median over the devices that are in both tables is
/// 0.88 (0.74 GTX 1080, 0.82 T4, 0.94 A100). Of the fp32 figure it is 1.00.
const BANDWIDTH_REACHED: Permille = 880;
/// How far below that honest devices lie, since clocks, memory types and drivers differ: 1.35 times accepts
/// all but four of the 27 devices in both tables (two boards sold with slower memory, two older compute cards
/// with error correction or without boost).
const TOLERANCE_PUBLISHED: Permille = 1_350;
/// How far the ratio of int32 to fp32 rate may lie from its architecture's, either way.
const TOLERANCE_SIGNATURE: Permille = 1_350;

/// Where a vector comes from, and so what it is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Figures of the kind makers publish: compared with makers' figures as they are.
    Published,
    /// Measured peaks: compared with measured peaks, else with what is usually reached of makers' figures.
    Peaks,
}

struct Known {
    name: String,
    words: Vec<String>,
    published: bool,
    architecture: Option<String>,
    expected: Vec<Expected>,
}

/// Every profile that vectors are compared with.
pub struct Profiles {
    specs: Vec<Spec>,
    peaks: Vec<Known>,
}

fn expect(resource: Resource, value: u64, tolerance_permille: Permille, basis: Basis) -> Expected {
    Expected { resource, value, tolerance_permille, basis, samples: 1 }
}

/// What a maker's figures ask of a vector.
fn of_spec(spec: &Spec, source: Source) -> Vec<Expected> {
    let (tolerance, bandwidth) = match source {
        Source::Published => (TOLERANCE, spec.bandwidth_mbps),
        Source::Peaks => (TOLERANCE_PUBLISHED, times(spec.bandwidth_mbps, BANDWIDTH_REACHED)),
    };
    vec![
        expect(Resource::Memory, spec.memory_mib, TOLERANCE_MEMORY, Basis::Published),
        expect(Resource::Bandwidth, bandwidth, tolerance, Basis::Published),
        expect(Resource::Fp32, spec.fp32_mflops, tolerance, Basis::Published),
    ]
}

/// The weakest of several, resource by resource.
fn weakest(all: impl IntoIterator<Item = Vec<Expected>>) -> Vec<Expected> {
    let mut least: BTreeMap<Resource, Expected> = BTreeMap::new();
    let mut samples: BTreeMap<Resource, usize> = BTreeMap::new();
    for expected in all.into_iter().flatten() {
        *samples.entry(expected.resource).or_default() += expected.samples;
        let entry = least.entry(expected.resource).or_insert(expected);
        if expected.value < entry.value {
            *entry = expected;
        }
    }
    least.into_values().map(|e| Expected { samples: samples[&e.resource], ..e }).collect()
}

impl Profiles {
    /// Profiles from makers' figures and measured peaks.
    pub fn new(specs: Vec<Spec>, peaks: &[Peaks]) -> Self {
        let mut devices: BTreeMap<Vec<String>, (String, Vec<Vec<Expected>>)> = BTreeMap::new();
        for one in peaks {
            // Only a name that is one whole device: some drivers call every device the same.
            let words = names::words(&one.device);
            if words.is_empty() {
                continue;
            }
            let values = [
                (Resource::Bandwidth, one.bandwidth_mbps),
                (Resource::Fp32, one.fp32_mflops),
                (Resource::Int32, one.int32_miops),
            ];
            let measured = values.into_iter().filter_map(|(resource, value)| {
                Some(expect(resource, value.filter(|value| *value > 0)?, TOLERANCE, Basis::Calibrated))
            });
            let entry = devices.entry(words).or_default();
            entry.0.clone_from(&one.device);
            entry.1.push(measured.collect());
        }
        let known = devices.into_iter().map(|(words, (name, measured))| Known {
            architecture: specs
                .iter()
                .find(|s| names::words(&s.name) == words)
                .map(|s| s.architecture.clone()),
            name,
            words,
            published: false,
            expected: weakest(measured),
        });
        Self { peaks: known.collect(), specs }
    }

    /// The makers' figures.
    pub fn specs(&self) -> &[Spec] {
        &self.specs
    }

    fn claimed(&self, claim: &str, source: Source) -> Option<Known> {
        let words = names::words(claim);
        if source == Source::Peaks
            && let Some(known) = self.peaks.iter().find(|known| known.words == words)
        {
            return Some(Known {
                name: known.name.clone(),
                words,
                published: known.published,
                architecture: known.architecture.clone(),
                expected: known.expected.clone(),
            });
        }
        let exact = |spec: &&Spec| names::words(&spec.name) == words;
        let mut named: Vec<&Spec> = self.specs.iter().filter(exact).collect();
        if named.is_empty() {
            named = self.specs.iter().filter(|s| names::names(&words, &names::words(&s.name))).collect();
        }
        let first = named.first()?;
        let one_architecture = named.iter().all(|spec| spec.architecture == first.architecture);
        Some(Known {
            name: first.name.clone(),
            words,
            published: true,
            architecture: one_architecture.then(|| first.architecture.clone()),
            expected: weakest(named.iter().map(|spec| of_spec(spec, source))),
        })
    }

    /// Every profile that would be an over-claim of this one: at least one resource larger by `permille`
    /// thousandths than what is expected of it, or than what was measured where nothing is.
    pub fn larger(&self, own: &str, source: Source, measured: &[Measured], permille: Permille) -> Vec<&str> {
        let known = self.expect(own, source);
        let of = |resource| {
            let expected = known.iter().find(|e| e.resource == resource).map(|e| e.value);
            expected.or_else(|| Some(measured.iter().find(|m| m.resource == resource)?.value))
        };
        let is_larger = |claimed: &[Expected]| {
            claimed.iter().any(|claimed| {
                let is_measured = measured.iter().any(|m| m.resource == claimed.resource);
                is_measured && of(claimed.resource).is_some_and(|own| ratio(claimed.value, own) >= permille)
            })
        };
        match source {
            Source::Peaks => {
                let larger = self.peaks.iter().filter(|known| is_larger(&known.expected));
                larger.map(|known| known.name.as_str()).collect()
            }
            Source::Published => {
                let modern = reference::modern(&self.specs).into_iter();
                let larger = modern.filter(|spec| is_larger(&of_spec(spec, source)));
                larger.map(|spec| spec.name.as_str()).collect()
            }
        }
    }

    /// What a claim should show; empty where nothing is known of it.
    pub fn expect(&self, claim: &str, source: Source) -> Vec<Expected> {
        self.claimed(claim, source).map(|known| known.expected).unwrap_or_default()
    }

    /// Judges a vector by what is claimed.
    pub fn judge(&self, claim: &str, source: Source, measured: &[Measured]) -> Verdict {
        let known = self.claimed(claim, source);
        let expected = known.as_ref().map(|known| known.expected.as_slice()).unwrap_or_default();
        let mut verdict = judge(claim, expected, measured);
        let specs = self.specs.iter().map(|spec| (spec.name.clone(), of_spec(spec, source)));
        let peaks = self.peaks.iter().filter(|_| source == Source::Peaks);
        let peaks = peaks.map(|known| (known.name.clone(), known.expected.clone()));
        verdict.agrees_with = nearest(peaks.chain(specs), measured, 5);
        let of = |resource| measured.iter().find(|m| m.resource == resource).map(|m| m.value);
        if let (Some(int32), Some(fp32), Some(architecture)) =
            (of(Resource::Int32), of(Resource::Fp32), known.and_then(|known| known.architecture))
            && let Some(usual) = signature(&architecture)
        {
            let found = ratio(int32, fp32);
            let off = ratio(found, usual).max(ratio(usual, found));
            verdict.signature_fits = Some(off <= TOLERANCE_SIGNATURE);
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::Decision;

    fn vector(bandwidth: u64, fp32: u64, int32: u64) -> Vec<Measured> {
        let all = [(Resource::Bandwidth, bandwidth), (Resource::Fp32, fp32), (Resource::Int32, int32)];
        all.into_iter()
            .filter(|(_, value)| *value > 0)
            .map(|(resource, value)| Measured { resource, value })
            .collect()
    }

    #[test]
    fn a_card_that_measures_as_another_is_not_the_other() {
        let profiles = Profiles::new(reference::specs(), &reference::peaks());
        let gtx_1060 = vector(159_970, 4_259_790, 1_410_440);
        let check = |claim: &str, decision, decided_by, fits| {
            let found = profiles.judge(claim, Source::Peaks, &gtx_1060);
            assert_eq!((found.decision, found.decided_by), (decision, decided_by), "{}", found.reason);
            assert_eq!(found.signature_fits, fits, "{claim}");
            found
        };
        let found =
            check("NVIDIA GeForce GTX 1060 3GB", Decision::Accepted, Some(Resource::Bandwidth), Some(true));
        assert_eq!(found.agrees_with[0].profile, "NVIDIA GeForce GTX 1060 3GB");
        check("GeForce RTX 2080 Ti", Decision::Rejected, Some(Resource::Int32), Some(false));
        check("NVIDIA GeForce RTX 4090", Decision::Rejected, Some(Resource::Fp32), None);
        check("Tesla T4", Decision::Rejected, Some(Resource::Int32), Some(false));
        check("GeForce GT 630", Decision::Accepted, Some(Resource::Bandwidth), Some(false));
        check("Fancy Card 9000", Decision::NotJudged, None, None);
    }

    #[test]
    fn a_device_never_measured_is_judged_by_its_makers_figures() {
        let peaks = reference::peaks();
        let mut judged = 0;
        let mut rejected = vec![];
        for left_out in &peaks {
            let Some(bandwidth) = left_out.bandwidth_mbps else { continue };
            let words = names::words(&left_out.device);
            let others: Vec<Peaks> =
                peaks.iter().filter(|other| names::words(&other.device) != words).cloned().collect();
            let profiles = Profiles::new(reference::specs(), &others);
            let measured = vector(bandwidth, left_out.fp32_mflops.unwrap(), 0);
            let found = profiles.judge(&left_out.device, Source::Peaks, &measured);
            match found.decision {
                Decision::NotJudged => {}
                Decision::Accepted => judged += 1,
                Decision::Rejected => {
                    judged += 1;
                    rejected.push(left_out.device.clone());
                }
            }
        }
        rejected.dedup();
        println!("{judged} judged, rejected: {rejected:?}");
        assert!(judged >= 25);
        assert!(rejected.len() <= 4, "{rejected:?}");
    }

    #[test]
    fn published_figures_carry_their_own_name_and_no_larger_one() {
        let profiles = Profiles::new(reference::specs(), &[]);
        let small = profiles.specs().iter().find(|s| s.name == "GeForce RTX 3060 12 GB").unwrap().clone();
        let measured: Vec<Measured> = of_spec(&small, Source::Published)
            .iter()
            .map(|e| Measured { resource: e.resource, value: e.value })
            .collect();
        let judged = |claim| profiles.judge(claim, Source::Published, &measured).decision;
        assert_eq!(judged("GeForce RTX 3060 12 GB"), Decision::Accepted);
        assert_eq!(judged("GeForce RTX 3060"), Decision::Accepted);
        assert_eq!(judged("GeForce RTX 4090"), Decision::Rejected);
    }
}
