//! Transcripts and standings that were changed in one place each: what is said of them.

use std::{collections::HashSet, ops::ControlFlow};

use gangline_proof::epoch::{ChainParams, Challenge, CpuProver, GpuKey, MemoryParams, Params, Prover};
use gangline_types::Text;

use super::*;

/// An epoch of GPU `n` under this key and beacon, as published and as the log has it.
fn epoch(n: u8, key: &GpuKey, gpu: GpuId, beacon: Hash, bell: u64) -> (PublicEpoch, Transcript) {
    let chain = ChainParams { units: 64, segments: 2, steps: 16, opened: 4 };
    let memory = MemoryParams::whole(1024, 4);
    let params = Params { memory, walk: ChainParams { steps: 32, ..chain }, alu: chain, matrix: None };
    let challenge = Challenge { params, beacon, binding: key.public().binding(gpu) };
    let mut prover = CpuProver::new();
    let commitment = prover.commit(&challenge, &mut |_| ControlFlow::Continue(())).unwrap();
    let nonce = Hash([n; 32]);
    let opening = prover.open(&nonce).unwrap();
    let signature = key.sign(&challenge, &commitment, &nonce, &opening);
    let transcript = Transcript::new(gpu, key.public(), challenge, commitment, nonce, opening, signature);
    let public = PublicEpoch {
        id: ProofId::from_bytes([n; 16]),
        gpu,
        bell: UnixMillis(bell),
        judged_at: UnixSeconds(9),
        accepted: true,
        finding: Text::lossy("passed"),
        elapsed_millis: Some(900),
        deadline_millis: Some(1_000),
        memory_bytes: 64 * 1024,
        read_mbps: 1,
        alu_msteps: 1,
        transcript: true,
    };
    (public, transcript)
}

fn gpu(n: u8) -> GpuId {
    GpuId::from_bytes([n; 16])
}

/// What is said of these epochs, one after the other, once the log was told of them as they are.
fn said(epochs: &[(PublicEpoch, Transcript)], beacons: &[(u64, Hash)]) -> Result<Counts, Difference> {
    let beacons = beacons.iter().map(|(at, beacon)| (UnixMillis(*at), *beacon)).collect();
    let mut logged = Logged { beacons, ..Logged::default() };
    for (one, transcript) in epochs {
        let verdict = Verdict::published(one.gpu, one.accepted, Some(transcript));
        logged.verdicts.insert(one.id, verdict);
    }
    let (mut seen, mut counts) = (Seen::default(), Counts::default());
    for (one, transcript) in epochs {
        check_one(one, one.gpu, Some(transcript), &logged, &mut seen, &mut counts)?;
    }
    Ok(counts)
}

#[test]
fn gpus_of_one_bell_share_its_beacon_and_nothing_else() {
    let keys = [1, 2].map(|n| GpuKey::derive(&[9; 32], gpu(n)));
    let beacon = Hash([5; 32]);
    let one = epoch(1, &keys[0], gpu(1), beacon, 70);
    let two = epoch(2, &keys[1], gpu(2), beacon, 70);
    let both = said(&[one.clone(), two.clone()], &[(70, beacon)]).unwrap();
    assert_eq!((both.epochs, both.epochs_own_bell), (2, 0));
    assert_eq!(said(std::slice::from_ref(&one), &[]).unwrap().epochs_own_bell, 1);
    let check = |epochs: &[(PublicEpoch, Transcript)], beacons: &[(u64, Hash)], says: &str| {
        let found = said(epochs, beacons).expect_err(says);
        assert!(found.name.contains(says), "{says}: {} {} {}", found.name, found.expected, found.found);
    };
    check(std::slice::from_ref(&one), &[(70, Hash([6; 32]))], "beacon");
    // The same beacon at another bell.
    let later = epoch(3, &keys[1], gpu(2), beacon, 80);
    check(&[one.clone(), later], &[], "beacon");
    // One key for two GPUs of an owner makes other work of each, and is no fault of the network's.
    let borrowed = epoch(4, &keys[0], gpu(2), beacon, 70);
    assert_eq!(said(&[one.clone(), borrowed], &[(70, beacon)]).unwrap().epochs, 2);
    // One answer that counted twice.
    let again = (PublicEpoch { id: ProofId::from_bytes([5; 16]), ..one.0.clone() }, one.1.clone());
    check(&[one.clone(), again], &[], "roots");
    // One proof under two keys: signed anew it is of another binding and does not hold. Who tried and was refused does not make
    // the network disagree with itself.
    let (mut public, stolen) = two;
    let signature = keys[1].sign(&one.1.challenge, &one.1.commitment, &one.1.nonce, &one.1.opening);
    let stolen = Transcript { signature, key: stolen.key, gpu: gpu(2), ..one.1.clone() };
    check(&[one.clone(), (public.clone(), stolen.clone())], &[], "accepted");
    public.accepted = false;
    assert_eq!(said(&[one.clone(), (public, stolen)], &[]).unwrap().epochs, 2);
    // A deadline that no promoted table has.
    let set = |deadline| HashSet::from([(one.1.challenge.params.work(), deadline)]);
    for (deadline, holds) in [(1_000, true), (1_001, false)] {
        let mut logged = Logged { deadlines: Some(set(deadline)), ..Logged::default() };
        logged.verdicts.insert(one.0.id, Verdict::published(one.0.gpu, true, Some(&one.1)));
        let (mut seen, mut counts) = (Seen::default(), Counts::default());
        let said = check_one(&one.0, one.0.gpu, Some(&one.1), &logged, &mut seen, &mut counts);
        assert_eq!(
            said.map_err(|found| found.name.contains("deadline_millis")),
            if holds { Ok(()) } else { Err(true) }
        );
    }
    // Late, and called in time.
    let (mut late, transcript) = one;
    late.elapsed_millis = Some(1_001);
    check(&[(late, transcript)], &[], "accepted");
}

#[test]
fn a_rate_is_that_of_the_proof_or_the_part_that_bells_have_shown() {
    let answers: Vec<(UnixSeconds, Answer)> =
        (1..=6).map(|n| (UnixSeconds(n * 3_600), Answer::Missing)).collect();
    let rates = Rates { answers, begins: vec![UnixSeconds(0)], older: false };
    let check = |found, hours: u64, holds| {
        assert_eq!(
            rates.carry(1_000, found, UnixSeconds(hours * 3_600 + 60)),
            holds,
            "{found} after {hours} h"
        );
    };
    check(1_000, 6, true);
    check(1_001, 6, false);
    check(999, 6, false);
    check(0, 6, true);
    check(0, 3, false);
    // Where older epochs are published no more, nobody can say.
    assert!(Rates { older: true, ..rates.clone() }.carry(1_000, 300, UnixSeconds(9_000)));
    // A new series may have begun in between.
    let anew = Rates { begins: vec![UnixSeconds(0), UnixSeconds(4 * 3_600)], ..rates };
    assert!(anew.carry(1_000, 1_000, UnixSeconds(6 * 3_600 + 60)));
}
