//! Standing: what follows from a claim and the outcomes of its joining proofs.
//!
//! Two of three must pass. Wrong bits are fraud; slowness is not, and costs nothing that was earned: a
//! claim its proofs do not carry is `suspect`, is asked three more times, and then stands as what it has shown. Knows no transcripts (whether bits
//! are right is found elsewhere), no clock and no history beyond these outcomes.

use gangline_types::{AdapterKind, GpuClaim, Profile, ProofId, ShownAs, Standing, Text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    floors::{self, Floor},
    relabel,
};

/// Proofs asked at joining.
pub const JOINING_PROOFS: usize = 3;
/// How many of them must pass.
pub const JOINING_PASSES: usize = 2;

/// What an accepted transcript shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shown {
    /// Exact multiply-adds that were committed to.
    pub macs: u64,
    /// Bytes of device memory its matrices held.
    pub memory_bytes: u64,
    /// From challenge to last root, by the verifier's clock, in milliseconds.
    pub elapsed_millis: u64,
}

impl Shown {
    /// The profile of this one proof: a lower bound, because its whole time counts as the GPU's. A time of
    /// 0 ms counts as 1.
    pub fn profile(&self) -> Profile {
        // Multiply-adds a millisecond / 1000 = million multiply-adds a second.
        let matrix_mmacs = self.macs / self.elapsed_millis.max(1) / 1000;
        Profile { matrix_mmacs, memory_bytes: self.memory_bytes }
    }
}

/// Why a proof shows nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// The transcript is not that of the asked computation; what did not fit, in words.
    WrongBits(Text<240>),
    /// The deadline passed before the last root.
    Late,
    /// The machine stopped answering.
    Abandoned,
}

/// How one proof ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// The proof.
    pub proof: ProofId,
    /// What it shows, or why it shows nothing.
    pub verdict: Result<Shown, Failure>,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Judgement {
    /// The GPU's standing.
    pub standing: Standing,
    /// Why, in words for its owner and the public.
    pub reason: Text<240>,
    /// What was proven: that of the slowest proof that passed; zeros unless proven.
    pub profile: Profile,
    /// The proof that standing and rate come from, where one decided.
    pub proof: Option<ProofId>,
    /// What the GPU is shown as, where that is not what its machine claims.
    pub shown_as: Option<ShownAs>,
}

impl Judgement {
    fn without_profile(standing: Standing, reason: &str, proof: Option<ProofId>) -> Self {
        Self { standing, reason: Text::lossy(reason), profile: Profile::default(), proof, shown_as: None }
    }
}

/// Judges `claim` by its proofs, oldest first. Wrong bits count wherever they are; of the rest the last
/// three do, so that a GPU whose proofs were slow is asked again and judged by what it shows then. If three more after those
/// that made it suspect do not carry the claim either, it stands as what they have shown.
pub fn judge(claim: &GpuClaim, outcomes: &[Outcome]) -> Judgement {
    let forged = outcomes.iter().find_map(|outcome| match &outcome.verdict {
        Err(Failure::WrongBits(what)) => Some((outcome.proof, what)),
        _ => None,
    });
    if let Some((proof, what)) = forged {
        let reason = format!("{proof} was answered with wrong bits: {what}");
        return Judgement::without_profile(Standing::Quarantined, &reason, Some(proof));
    }
    let judgement = by_last(claim, outcomes);
    if judgement.standing != Standing::Suspect {
        return judgement;
    }
    relabelled(claim, outcomes).unwrap_or(judgement)
}

/// What a GPU is proven as whose re-run is over: the last three outcomes all came after those that made it suspect, and
/// two of them have right bits.
fn relabelled(claim: &GpuClaim, outcomes: &[Outcome]) -> Option<Judgement> {
    let began = (JOINING_PROOFS..=outcomes.len())
        .find(|until| by_last(claim, &outcomes[..*until]).standing == Standing::Suspect)?;
    if outcomes.len() < began + JOINING_PROOFS {
        return None;
    }
    let shown: Vec<(Profile, ProofId)> = outcomes[outcomes.len() - JOINING_PROOFS..]
        .iter()
        .filter_map(|outcome| Some((outcome.verdict.as_ref().ok()?.profile(), outcome.proof)))
        .collect();
    let (profile, proof) = least(&shown).filter(|(profile, _)| profile.matrix_mmacs > 0)?;
    if shown.len() < JOINING_PASSES {
        return None;
    }
    let claimed: String = claim.model.as_str().chars().take(40).collect();
    let reason = format!(
        "shown as what its proofs carry: it claims to be {claimed}, and {} of {JOINING_PROOFS} proofs of its re-run had right bits, the slowest at {} million multiply-adds a second; at least {} are needed for that name",
        shown.len(),
        profile.matrix_mmacs,
        floors::floor(claim).rate_mmacs
    );
    Some(Judgement {
        standing: Standing::Proven,
        reason: Text::lossy(&reason),
        profile,
        proof: Some(proof),
        shown_as: Some(relabel::unnamed()),
    })
}

/// The rate of the slowest, and the least memory.
fn least(shown: &[(Profile, ProofId)]) -> Option<(Profile, ProofId)> {
    let (slowest, proof) = shown.iter().copied().min_by_key(|(profile, id)| (profile.matrix_mmacs, *id))?;
    let memory_bytes = shown.iter().map(|(profile, _)| profile.memory_bytes).min()?;
    Some((Profile { matrix_mmacs: slowest.matrix_mmacs, memory_bytes }, proof))
}

/// What the last three outcomes say of a claim, none of which has wrong bits.
fn by_last(claim: &GpuClaim, outcomes: &[Outcome]) -> Judgement {
    if let Some(reason) = floors::impossible(claim) {
        return Judgement::without_profile(Standing::Suspect, reason.as_str(), None);
    }
    let last = &outcomes[outcomes.len().saturating_sub(JOINING_PROOFS)..];
    let floor = floors::floor(claim);
    let telling_macs = floors::telling_macs(floor.rate_mmacs);
    let mut small = 0;
    let mut passed: Vec<(Profile, ProofId)> = Vec::new();
    let mut slow: Vec<(Option<Shown>, ProofId)> = Vec::new();
    for outcome in last {
        match &outcome.verdict {
            Ok(shown) if floors::carries(&floor, shown) && shown.macs < telling_macs => small += 1,
            Ok(shown) if floors::carries(&floor, shown) => passed.push((shown.profile(), outcome.proof)),
            Ok(shown) => slow.push((Some(*shown), outcome.proof)),
            Err(Failure::Late) => slow.push((None, outcome.proof)),
            Err(_) => {}
        }
    }
    if passed.len() >= JOINING_PASSES {
        return proven(claim, &passed, last.len());
    }
    if slow.len() >= JOINING_PASSES {
        return too_slow(claim, &floor, &slow, last.len());
    }
    let passes = passed.len();
    let reason = match last.len() {
        0 => "no proof has been judged yet".to_owned(),
        judged if small > 0 => {
            let asked = "too few multiply-adds to tell this claim from a software device";
            format!("{small} of {judged} proofs held {asked}; {telling_macs} are needed")
        }
        judged if judged < JOINING_PROOFS => {
            format!(
                "{passes} of {judged} proofs passed so far; {JOINING_PASSES} of {JOINING_PROOFS} are needed"
            )
        }
        judged => {
            format!(
                "{passes} of {judged} proofs passed; {JOINING_PASSES} are needed, and it will be asked again"
            )
        }
    };
    Judgement::without_profile(Standing::Unproven, &reason, None)
}

fn proven(claim: &GpuClaim, passed: &[(Profile, ProofId)], judged: usize) -> Judgement {
    let (profile, proof) = least(passed).expect("two passed");
    let kind = match claim.kind {
        AdapterKind::Software => "proven as a software device, which is no GPU",
        _ => "its proofs carry its claim",
    };
    let rate = profile.matrix_mmacs;
    let reason = format!(
        "{kind}: {} of {judged} proofs passed, the slowest at {rate} million multiply-adds a second",
        passed.len()
    );
    Judgement {
        standing: Standing::Proven,
        reason: Text::lossy(&reason),
        profile,
        proof: Some(proof),
        shown_as: None,
    }
}

fn too_slow(claim: &GpuClaim, floor: &Floor, slow: &[(Option<Shown>, ProofId)], judged: usize) -> Judgement {
    if floor.rate_mmacs == 0 {
        // Nothing was claimed that could be untrue: too slow to be measured is not suspicious.
        let reason =
            format!("{} of {judged} proofs came after their deadline; it will be asked again", slow.len());
        return Judgement::without_profile(Standing::Unproven, &reason, None);
    }
    // Names are cut so that the figures always fit: 50 + 200 characters at most.
    let model: String = claim.model.as_str().chars().take(50).collect();
    let best = slow
        .iter()
        .filter_map(|(shown, proof)| Some((shown.as_ref()?, *proof)))
        .max_by_key(|(shown, _)| shown.profile().matrix_mmacs);
    let least = floor.rate_mmacs;
    let found = match best {
        Some((shown, _)) => format!(
            "its proofs must show {} of them with overhead allowed; the best showed {}",
            floors::asked_mmacs(least, shown.macs),
            shown.profile().matrix_mmacs
        ),
        None => "no proof came before its deadline".to_owned(),
    };
    let reason = format!("claims to be {model}, at least {least} million multiply-adds a second; {found}");
    Judgement::without_profile(Standing::Suspect, &reason, best.map(|(_, proof)| proof))
}

#[cfg(test)]
mod tests {
    use gangline_types::{Backend, Hash};
    use proptest::prelude::*;

    use super::*;

    fn claim(kind: AdapterKind, model: &str) -> GpuClaim {
        GpuClaim {
            slot: Hash::default(),
            model: Text::new(model).unwrap(),
            kind,
            backend: Backend::Vulkan,
            driver: Text::default(),
            pci_vendor: 0,
            pci_device: 0,
            memory_bytes: 0,
        }
    }
    fn outcomes(verdicts: &[Result<u64, Failure>]) -> Vec<Outcome> {
        let shown =
            |millis| Shown { macs: 4096 * 4096 * 4096, memory_bytes: 6 << 24, elapsed_millis: millis };
        let outcome = |(i, verdict): (usize, &Result<u64, Failure>)| Outcome {
            proof: ProofId::from_bytes([i as u8 + 1; 16]),
            verdict: verdict.clone().map(shown),
        };
        verdicts.iter().enumerate().map(outcome).collect()
    }
    fn thrice(millis: u64) -> [Result<u64, Failure>; 3] {
        [Ok(millis), Ok(millis), Ok(millis)]
    }
    fn check(
        claim: &GpuClaim,
        verdicts: &[Result<u64, Failure>],
        standing: Standing,
        reason: &str,
    ) -> Judgement {
        let judgement = judge(claim, &outcomes(verdicts));
        assert_eq!(judgement.standing, standing, "{}", judgement.reason);
        assert!(judgement.reason.as_str().contains(reason), "{}", judgement.reason);
        assert!(standing == Standing::Proven || judgement.profile == Profile::default());
        judgement
    }
    use Failure::{Abandoned, Late};

    #[test]
    fn a_software_device_is_proven_as_what_it_is() {
        let device = claim(AdapterKind::Software, "llvmpipe (LLVM 15.0.6, 256 bits)");
        let judgement = check(&device, &[Ok(3000), Ok(2800), Ok(3100)], Standing::Proven, "software device");
        assert_eq!(judgement.profile, Profile { matrix_mmacs: 22_167, memory_bytes: 6 << 24 });
        assert_eq!(judgement.proof, Some(ProofId::from_bytes([3; 16])));
        check(&device, &[Ok(3000), Err(Late), Ok(2800)], Standing::Proven, "2 of 3 proofs passed");
        check(&device, &[Err(Late), Err(Late), Ok(2800)], Standing::Unproven, "after their deadline");
    }

    #[test]
    fn a_software_device_that_claims_to_be_a_card_is_refused_by_its_proofs() {
        let fake = claim(AdapterKind::Discrete, "NVIDIA GeForce RTX 4090");
        for millis in [890, 5050, 50_000] {
            let reason = "claims to be NVIDIA GeForce RTX 4090, at least 241875 million";
            check(&fake, &thrice(millis), Standing::Suspect, reason);
        }
        let judgement = check(&fake, &[Ok(5000), Ok(4800)], Standing::Suspect, "the best showed 14316");
        assert!(judgement.reason.as_str().contains("must show 77736 "), "{}", judgement.reason);
        check(
            &claim(AdapterKind::Software, "RTX 4090"),
            &thrice(3000),
            Standing::Suspect,
            "claims to be RTX 4090",
        );
        check(&claim(AdapterKind::Discrete, "llvmpipe"), &[], Standing::Suspect, "names a software device");
        check(
            &claim(AdapterKind::Discrete, "llvmpipe"),
            &thrice(1),
            Standing::Suspect,
            "names a software device",
        );
    }

    #[test]
    fn a_real_card_passes_with_all_its_overhead_and_one_miss_costs_nothing() {
        let card = claim(AdapterKind::Discrete, "NVIDIA GeForce RTX 4090");
        check(&card, &[Ok(884), Ok(700), Ok(280)], Standing::Proven, "its proofs carry its claim");
        check(&card, &[Ok(5000), Ok(120), Ok(80)], Standing::Proven, "2 of 3");
        check(&card, &[Err(Abandoned), Ok(120), Ok(80)], Standing::Proven, "2 of 3");
        // Slow once, then asked again: the last three count.
        check(&card, &[Ok(5000), Ok(5000), Ok(5000), Ok(90), Ok(90)], Standing::Proven, "2 of 3");
    }

    #[test]
    fn a_re_run_that_does_not_carry_the_claim_either_proves_what_it_shows() {
        let fake = claim(AdapterKind::Discrete, "NVIDIA GeForce RTX 4090");
        let check = |verdicts: &[Result<u64, Failure>], standing, rate, words: &str| {
            let found = judge(&fake, &outcomes(verdicts));
            assert_eq!((found.standing, found.profile.matrix_mmacs), (standing, rate), "{}", found.reason);
            assert!(found.reason.as_str().contains(words), "{}", found.reason);
            found.shown_as
        };
        let slow = || Ok(5000);
        // Suspect through the re-run, until all three are judged; then the slowest of them counts.
        check(&[slow(), slow(), slow(), slow(), slow()], Standing::Suspect, 0, "the best showed");
        let words = "claims to be NVIDIA GeForce RTX 4090, and 3 of 3 proofs of its re-run had right bits, the slowest at 13421 million";
        let shown =
            check(&[Ok(4000), slow(), slow(), slow(), Ok(5120), Ok(4000)], Standing::Proven, 13_421, words);
        assert_eq!(
            shown.map(|shown| (shown.model.to_string(), shown.kind)),
            Some(("unnamed device".into(), AdapterKind::Unknown))
        );
        // One of three shows nothing: two suffice. With one of three, it is asked again.
        check(
            &[slow(), slow(), slow(), Err(Late), slow(), slow()],
            Standing::Proven,
            13_743,
            "2 of 3 proofs",
        );
        check(
            &[slow(), slow(), slow(), Err(Late), Err(Late), slow()],
            Standing::Suspect,
            0,
            "the best showed",
        );
        // It began slowly, is cool now and carries its claim after all.
        assert_eq!(
            check(
                &[slow(), slow(), slow(), slow(), Ok(90), Ok(90)],
                Standing::Proven,
                763_549,
                "carry its claim"
            ),
            None
        );
        // What is asked again for want of answers is no re-run.
        check(
            &[Err(Abandoned), Err(Abandoned), Err(Abandoned), slow(), slow()],
            Standing::Suspect,
            0,
            "the best showed",
        );
        check(
            &[Err(Abandoned), Err(Abandoned), Err(Abandoned), slow(), slow(), slow(), slow(), slow()],
            Standing::Proven,
            13_743,
            "re-run",
        );
        // A program that says it is a GPU is shown as what it is, too.
        let program = claim(AdapterKind::Discrete, "llvmpipe");
        assert_eq!(judge(&program, &outcomes(&vec![slow(); 5])).standing, Standing::Suspect);
        let found = judge(&program, &outcomes(&vec![slow(); 6]));
        assert_eq!(
            (found.standing, found.shown_as.map(|shown| shown.kind)),
            (Standing::Proven, Some(AdapterKind::Unknown))
        );
    }

    #[test]
    fn too_little_to_say_is_unproven() {
        let card = claim(AdapterKind::Discrete, "NVIDIA GeForce RTX 4090");
        check(&card, &[], Standing::Unproven, "no proof has been judged yet");
        check(&card, &[Ok(80)], Standing::Unproven, "1 of 1 proofs passed so far; 2 of 3 are needed");
        check(&card, &[Ok(80), Ok(5000)], Standing::Unproven, "1 of 2");
        check(&card, &[Ok(80), Ok(5000), Err(Abandoned)], Standing::Unproven, "asked again");
        check(&card, &[Err(Abandoned), Err(Abandoned), Err(Abandoned)], Standing::Unproven, "0 of 3");
        check(&card, &[Err(Late), Err(Late)], Standing::Suspect, "no proof came before its deadline");
    }

    #[test]
    fn a_proof_too_small_to_tell_proves_no_claim_but_shows_a_software_device() {
        let small = Shown { macs: 512 * 512 * 512, memory_bytes: 1 << 20, elapsed_millis: 60 };
        let small = |n| Outcome { proof: ProofId::from_bytes([n; 16]), verdict: Ok(small) };
        let outcomes = [small(1), small(2), small(3)];
        let judgement = judge(&claim(AdapterKind::Discrete, "NVIDIA GeForce RTX 4090"), &outcomes);
        assert_eq!(judgement.standing, Standing::Unproven, "{}", judgement.reason);
        assert!(judgement.reason.as_str().contains("3 of 3 proofs held too few"), "{}", judgement.reason);
        assert_eq!(judge(&claim(AdapterKind::Software, "llvmpipe"), &outcomes).standing, Standing::Proven);
    }

    #[test]
    fn wrong_bits_are_fraud_wherever_they_are() {
        let wrong = Err(Failure::WrongBits(Text::new("row 7 of step 2 is not the product").unwrap()));
        for model in ["NVIDIA GeForce RTX 4090", "llvmpipe"] {
            for kind in [AdapterKind::Discrete, AdapterKind::Software] {
                let card = claim(kind, model);
                let judgement =
                    check(&card, &[Ok(80), Ok(80), wrong.clone()], Standing::Quarantined, "row 7 of step 2");
                assert_eq!(judgement.proof, Some(ProofId::from_bytes([3; 16])));
                check(
                    &card,
                    &[wrong.clone(), Ok(80), Ok(80), Ok(80), Ok(80)],
                    Standing::Quarantined,
                    "wrong bits",
                );
            }
        }
    }

    proptest! {
        #[test]
        fn a_faster_proof_never_hurts_and_slowness_is_never_fraud(
            millis in prop::collection::vec(0..20_000u64, 3),
            which in 0..3usize,
            model in prop::sample::select(vec!["NVIDIA GeForce RTX 4090", "GeForce GT 630", "unheard of", "a100"]),
        ) {
            let card = claim(AdapterKind::Discrete, model);
            let verdicts: Vec<_> = millis.iter().map(|millis| Ok(*millis)).collect();
            let before = judge(&card, &outcomes(&verdicts));
            let mut faster = verdicts.clone();
            faster[which] = Ok(millis[which] / 2);
            let after = judge(&card, &outcomes(&faster));
            prop_assert!(before.standing != Standing::Quarantined);
            prop_assert!(before.standing != Standing::Proven || after.standing == Standing::Proven);
        }

        #[test]
        fn reasons_always_hold_their_figures(model in "[a-zA-Z0-9 ]{0,100}") {
            let card = claim(AdapterKind::Discrete, &format!("RTX {model}"));
            let judgement = judge(&card, &outcomes(&thrice(u64::MAX)));
            prop_assert!(judgement.reason.as_str().ends_with("the best showed 0"));
        }
    }
}
