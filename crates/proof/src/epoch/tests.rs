//! Epoch proofs on the reference prover: what holds, what a limit is, and that no message has a second
//! spelling. Cheats are in `attacks`.

use std::{ops::ControlFlow, sync::LazyLock};

use gangline_types::{GpuId, Hash};
use proptest::prelude::*;

use super::{
    prove::{Chained, Engine},
    *,
};
use crate::MatrixParams;

pub fn hash(label: &str) -> Hash {
    blake3::hash(label.as_bytes()).into()
}

pub fn gpu() -> GpuId {
    GpuId::from_bytes([2; 16])
}

pub fn key() -> GpuKey {
    GpuKey::derive(&[1; 32], gpu())
}

/// Small, and still with more than one of everything.
pub const SMALL: Params = Params {
    memory: MemoryParams { regions: 2, stay: 1, ..MemoryParams::whole(1024, 8) },
    walk: ChainParams { units: 128, segments: 3, steps: 8, opened: 6 },
    alu: ChainParams { units: 64, segments: 2, steps: 9, opened: 5 },
    matrix: Some(MatrixParams { n: 64, steps: 2, rows: 3 }),
};

pub fn challenge(params: Params) -> Challenge {
    Challenge { params, beacon: hash("beacon"), binding: key().binding() }
}

pub fn on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A whole proof by this engine, without the check that an honest prover makes of itself.
pub fn proof_by<E: Engine>(engine: E, challenge: &Challenge, nonce: &Hash) -> (Commitment, Opening) {
    let mut prover = Chained::new(engine);
    prover.commit(challenge, &mut on).unwrap();
    let (_, commitment, opening) = prover.open_unchecked(nonce).unwrap();
    (commitment, opening)
}

pub fn transcript(challenge: Challenge, commitment: Commitment, nonce: Hash, opening: Opening) -> Transcript {
    let signature = key().sign(&challenge, &commitment, &nonce, &opening);
    Transcript::new(gpu(), key().public(), challenge, commitment, nonce, opening, signature)
}

/// An honest transcript of [`SMALL`].
pub static HONEST: LazyLock<Transcript> = LazyLock::new(|| {
    let (challenge, nonce) = (challenge(SMALL), hash("nonce"));
    let (commitment, opening) = proof_by(cpu::Cpu::default(), &challenge, &nonce);
    transcript(challenge, commitment, nonce, opening)
});

#[test]
fn an_honest_proof_is_accepted_once_and_shows_its_work() {
    for matrix in [None, SMALL.matrix] {
        let challenge = challenge(Params { matrix, ..SMALL });
        let mut prover = CpuProver::new();
        prover.warm_up(&challenge.params, &mut on).unwrap();
        let mut seen = Vec::new();
        let commitment = prover
            .commit(&challenge, &mut |progress: Progress| {
                assert!(progress.done < progress.of);
                seen.push(progress.part);
                ControlFlow::Continue(())
            })
            .unwrap();
        seen.dedup();
        let mut parts = vec![Part::Fill, Part::Walk, Part::Alu, Part::Matrix, Part::LastWalk];
        parts.retain(|part| *part != Part::Matrix || matrix.is_some());
        assert_eq!(seen, parts);
        let opening = prover.open(&hash("nonce")).unwrap();
        let shown = verify(&challenge, &commitment, &hash("nonce"), &opening).unwrap();
        let expected = Verified {
            memory_bytes: 65_536,
            reads: 2 * 128 * 3 * 8,
            alu_steps: 64 * 2 * 9,
            macs: matrix.map_or(0, |_| 2 * 64 * 64 * 64),
            segments_opened: 17,
            rows_opened: matrix.map_or(0, |_| 6),
        };
        assert_eq!(shown, expected);
        assert!(matches!(prover.open(&hash("nonce")), Err(ProverError::NothingCommitted)));
        let transcript = transcript(challenge, commitment, hash("nonce"), opening);
        assert_eq!(transcript.check().unwrap(), shown);
        let text = serde_json::to_vec(&transcript).unwrap();
        assert!(text.len() as u64 <= challenge.params.transcript_bytes(), "{}", text.len());
        assert_eq!(Transcript::parse(&text).unwrap(), transcript);
        assert_eq!(fuzz_transcript(&text).unwrap(), shown);
    }
}

#[test]
fn a_prover_stops_at_once_in_every_part_and_can_start_again() {
    let challenge = challenge(SMALL);
    let mut prover = CpuProver::new();
    for stop_in in [Part::Fill, Part::Walk, Part::Alu, Part::Matrix, Part::LastWalk] {
        let mut asked_after = 0;
        let stopped = prover.commit(&challenge, &mut |progress: Progress| {
            if progress.part == stop_in {
                asked_after += 1;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        assert!(matches!(stopped, Err(ProverError::Stopped(part)) if part == stop_in), "{stopped:?}");
        assert_eq!(asked_after, 1, "it went on after it was told to stop");
        assert!(matches!(prover.open(&hash("nonce")), Err(ProverError::NothingCommitted)));
    }
    let commitment = prover.commit(&challenge, &mut on).unwrap();
    assert_eq!(commitment, HONEST.commitment);
}

#[test]
fn sizes_outside_the_limits_are_refused_everywhere() {
    let walk = |f: fn(&mut ChainParams)| {
        let mut params = SMALL;
        f(&mut params.walk);
        params
    };
    let alu = |f: fn(&mut ChainParams)| {
        let mut params = SMALL;
        f(&mut params.alu);
        params
    };
    let memory = |f: fn(&mut MemoryParams)| {
        let mut params = SMALL;
        f(&mut params.memory);
        params
    };
    for params in [
        memory(|m| m.blocks = 0),
        memory(|m| m.blocks = 1000),
        memory(|m| m.blocks = 1025),
        memory(|m| m.blocks = u32::MAX),
        memory(|m| m.rounds = 3),
        memory(|m| m.rounds = 1025),
        walk(|w| w.units = 63),
        walk(|w| w.units = 65),
        walk(|w| w.units = (1 << 20) + 64),
        walk(|w| w.segments = 0),
        walk(|w| w.segments = 256),
        alu(|a| a.steps = 0),
        alu(|a| a.steps = (1 << 15) + 1),
        alu(|a| a.opened = 0),
        alu(|a| a.opened = 257),
        // 2^20 units of 33 segments are 554 MB of states.
        alu(|a| (a.units, a.segments) = (1 << 20, 33)),
        alu(|a| (a.steps, a.opened) = (1 << 14, 129)),
        // Fewer than four reads a block.
        walk(|w| w.segments = 1),
        memory(|m| m.blocks = 2048),
        memory(|m| m.regions = 0),
        memory(|m| m.regions = 1),
        memory(|m| m.regions = 3),
        memory(|m| m.regions = 513),
        memory(|m| m.stay = 0),
        memory(|m| m.stay = 1 << 16),
        // Six rounds, and no whole number of them.
        memory(|m| m.stay = 2),
        memory(|m| m.stay = 5),
        // A visit reads 320 of 512 blocks.
        walk(|w| w.units = 320),
        Params { matrix: Some(MatrixParams { n: 65, steps: 1, rows: 1 }), ..SMALL },
        Params { matrix: Some(MatrixParams { n: 4096, steps: 4, rows: 24 }), ..SMALL },
    ] {
        assert!(params.check().is_err(), "{params:?}");
        let text = serde_json::to_string(&params).unwrap();
        assert!(serde_json::from_str::<Params>(&text).is_err(), "{text}");
        let bad = Challenge { params, ..HONEST.challenge };
        let result = verify(&bad, &HONEST.commitment, &HONEST.nonce, &HONEST.opening);
        assert_eq!(result.unwrap_err().code(), "params_out_of_range");
        let mut prover = CpuProver::new();
        assert!(matches!(prover.commit(&bad, &mut on), Err(ProverError::Params(_))));
        assert!(matches!(prover.warm_up(&params, &mut on), Err(ProverError::Params(_))));
    }
}

#[test]
fn every_size_that_is_asked_is_within_the_limits() {
    let gib = 1u64 << 30;
    for bytes in
        [0, gib, 2 * gib, 4 * gib, 8 * gib, 24 * gib, 80 * gib, 141 * gib, 192 * gib, 288 * gib, u64::MAX]
    {
        for params in [Params::of_gpu(bytes), Params::of_gpu(bytes).with_matrices()] {
            assert_eq!(params.check(), Ok(params), "{bytes}");
            if (1 << 27..250 * gib).contains(&bytes) {
                assert!(params.memory_bytes() as f64 > 0.8999 * bytes as f64, "{bytes}: {params:?}");
                assert!(params.memory_bytes() <= bytes / 10 * 9);
                // What lies beside the filled memory fits into the tenth that is left, from 6 GiB on.
                assert!(
                    bytes < 6 * gib || params.beside_bytes() < bytes / 10,
                    "{bytes}: {}",
                    params.beside_bytes()
                );
            }
        }
    }
    for params in [
        SMALL,
        Params::SOFTWARE,
        Params::SOFTWARE.with_matrix(Params::MATRIX),
        Params::SOFTWARE.with_matrix(MatrixParams { n: 4096, steps: 1, rows: 24 }),
    ] {
        assert_eq!(params.check(), Ok(params));
    }
    // The arithmetic of the specification: 14.4e12 operations and 25e9 reads a second, six times as dear.
    assert_eq!(Params::rounds_for(14_400_000_000_000, 25_000_000_000, 6), 37);
    assert_eq!(Params::rounds_for(u64::MAX, 0, 6), 1024);
    assert_eq!(Params::rounds_for(0, 1, 6), 4);
}

#[test]
fn keys_of_one_machines_gpus_are_strangers() {
    let other = GpuId::from_bytes([3; 16]);
    let (one, two) = (key(), GpuKey::derive(&[1; 32], other));
    assert_eq!(one.public(), key().public());
    assert_ne!(one.public(), two.public());
    assert_ne!(one.public(), GpuKey::derive(&[9; 32], gpu()).public());
    assert_ne!(one.binding(), one.public().binding(other));
    assert!(one.public().is_sound());
    assert!(!GpuPublicKey(Hash([0; 32])).is_sound());
    assert_eq!(format!("{one:?}"), "GpuKey([redacted])");
}

#[test]
fn messages_have_one_spelling() {
    let text = serde_json::to_string(&*HONEST).unwrap();
    for (from, to) in [
        ("\"nonce\"", "\"elapsed_millis\":5,\"nonce\""), // a prover's own time has no place
        ("\"rounds\":8", "\"rounds\":8,\"more\":1"),
        ("\"walk\":{\"units\"", "\"walk\":{\"unit\":1,\"units\""),
        ("gangline epoch proof 1", "gangline epoch proof 2"),
        ("\"matrix\":[\"", "\"matrix\":[\"\",\""),
    ] {
        assert!(text.contains(from), "{from} in {text}");
        let changed = text.replacen(from, to, 1);
        assert!(Transcript::parse(changed.as_bytes()).and_then(|t| t.check()).is_err(), "{to}");
    }
    let long = vec![b' '; Params::TRANSCRIPT_BYTES_MAX as usize + 1];
    assert!(matches!(Transcript::parse(&long), Err(Faulty::TooLong(_))));
    let schema = serde_json::to_value(schemars::schema_for!(Transcript)).unwrap();
    assert_eq!(schema["$defs"]["ChainOpening"]["properties"]["states"]["contentEncoding"], "base64");
}

#[test]
fn the_example_of_the_specification() {
    let key = GpuKey::derive(&[1; 32], gpu());
    let walk = ChainParams { units: 64, segments: 2, steps: 16, opened: 3 };
    let alu = ChainParams { units: 64, segments: 1, steps: 4, opened: 2 };
    let params = Params {
        memory: MemoryParams::whole(1024, 8),
        walk,
        alu,
        matrix: Some(MatrixParams { n: 64, steps: 1, rows: 1 }),
    };
    let (beacon, nonce) = (Hash([3; 32]), Hash([4; 32]));
    let challenge = Challenge { params, beacon, binding: key.binding() };
    let seed = challenge.seed();
    let (commitment, opening) = proof_by(cpu::Cpu::default(), &challenge, &nonce);
    let fill = messages::part_key(&seed, Part::Fill, None);
    let mut block = [[0; 16]];
    crate::chacha::fill_memory(&fill, 8, 0, &mut block);
    let start = messages::part_key(&seed, Part::Walk, None);
    let mut walker = [chain::start(&start, 0)];
    let begins = walker[0];
    chain::segment(&params, chain::Step::Walk { memory: &fill }, &[0], &mut walker);
    let alu_key = messages::part_key(&seed, Part::Alu, Some(&commitment.walk));
    let mut lane = [chain::start(&alu_key, 0)];
    chain::segment(&params, chain::Step::Alu { key: &alu_key }, &[0], &mut lane);
    let draw = Draw::new(&seed, &commitment, &nonce);
    let got = [
        ("public key of the GPU", key.public().0.to_string()),
        ("its binding", challenge.binding.to_string()),
        ("seed", seed.to_string()),
        ("block 0, first 4 words", format!("{:08x?}", &block[0][..4])),
        ("walker 0, start", format!("{begins:08x?}")),
        ("walker 0, after segment 0", format!("{:08x?}", walker[0])),
        ("root of the first walk", commitment.walk.to_string()),
        ("lane 0, after segment 0", format!("{:08x?}", lane[0])),
        ("root of the ALU chain", commitment.alu.to_string()),
        ("root of the product", commitment.matrix[0].to_string()),
        ("root of the last walk", commitment.last_walk.to_string()),
        ("(unit, segment) picks of the first walk", format!("{:?}", draw.picks(Part::Walk, &walk))),
        ("(unit, segment) picks of the ALU chain", format!("{:?}", draw.picks(Part::Alu, &alu))),
        ("what is signed", signed::digest(&challenge, &commitment, &nonce, &opening).to_string()),
    ];
    let specification = include_str!("../../../../docs/PROOF.md");
    let lines: Vec<String> = got.iter().map(|(what, value)| format!("| {what} | `{value}` |")).collect();
    for line in &lines {
        assert!(
            specification.contains(line),
            "docs/PROOF.md lacks one of these lines:\n{}",
            lines.join("\n")
        );
    }
}

fn lengths(right: usize) -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(right), 1 => 0..2 * right + 2]
}

proptest! {
    #[test]
    fn malformed_shapes_are_refused_without_a_panic(
        states in prop::array::uniform3(lengths(6 * 3 * 4)),
        paths in prop::array::uniform3(lengths(6 * 7)),
        roots in lengths(2),
        steps in lengths(2),
        word in any::<u32>(),
        numbers in prop::array::uniform8(prop_oneof![5 => Just(None), 1 => any::<u32>().prop_map(Some)]),
    ) {
        let mut challenge = challenge(SMALL);
        let Params { memory, walk, alu, .. } = &mut challenge.params;
        let places = [
            &mut memory.blocks, &mut memory.rounds, &mut walk.units, &mut walk.segments,
            &mut walk.steps, &mut walk.opened, &mut alu.units, &mut alu.opened,
        ];
        for (place, number) in places.into_iter().zip(numbers) {
            *place = number.unwrap_or(*place);
        }
        let chain = |i: usize| ChainOpening { states: vec![word; states[i]], paths: vec![hash("sibling"); paths[i]] };
        let step = crate::StepOpening { y: vec![], rows: vec![], paths: vec![] };
        let opening = Opening { walk: chain(0), alu: chain(1), last_walk: chain(2), matrix: vec![step; steps] };
        let commitment = Commitment { matrix: vec![hash("root"); roots], ..HONEST.commitment.clone() };
        let rejection = verify(&challenge, &commitment, &HONEST.nonce, &opening).unwrap_err();
        prop_assert!(!rejection.to_string().is_empty() && !rejection.code().is_empty());
        let signed = transcript(challenge, commitment, HONEST.nonce, opening);
        prop_assert!(signed.check().is_err());
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(fuzz_transcript(&bytes).is_err());
    }

    #[test]
    fn an_honest_text_with_anything_changed_is_refused(place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut text = serde_json::to_vec(&*HONEST).unwrap();
        let place = place.index(text.len());
        prop_assume!(text[place] != byte);
        text[place] = byte;
        prop_assert!(fuzz_transcript(&text).is_err());
    }
}
