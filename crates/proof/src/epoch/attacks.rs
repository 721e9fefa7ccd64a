//! Cheats against the verifier: each one tries, and is refused with a reason. Those whose bits are right and who are
//! only too slow are in `tests/heavy_proof_timing.rs`; what a cheat would pay is in `docs/PROOF.md`.

use gangline_types::{GpuId, Hash};
use proptest::prelude::*;

use super::{
    chain::{self, State},
    cpu::{Cpu, place_of},
    prove::{Chained, Engine},
    tests::{HONEST, SMALL, challenge, gpu, hash, key, on, proof_by, transcript},
    *,
};
use crate::{MatrixParams, chacha::Key, product, prove::operands, tree};

/// An engine that does as it should, but for what `How` says.
struct Cheat {
    cpu: Cpu,
    how: How,
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    /// Does everything right.
    Honest,
    /// Invents this many of 100 segments in a chain, and goes on from what it invented.
    Skip(Part, u32),
    /// Holds only the first so many blocks and reads those again for all others.
    Holds(u32),
    /// Walks over one region only, and fills no other.
    OneRegion,
    /// Reads a quarter of each block.
    Quarter,
    /// Gives the memory up after the first walk.
    GivesUp,
    /// Runs the ALU chain before the first walk is done, so without its root.
    AluAtOnce,
    /// Commits to nothing in a chain and does the work once the nonce is known.
    AfterTheNonce(Part),
    /// Makes no product.
    NoProduct,
    /// Makes no product, and computes the drawn rows once the nonce is known.
    RowsAfterTheNonce,
    /// Skips this many of 100 rows.
    SkipRows(u32),
    /// Multiplies other matrices than asked: Hankel, of rank one, or with the lowest bit or the lowest four cut off.
    Hankel,
    RankOne,
    Quantised(u32),
}

fn cheat(how: How) -> Cheat {
    Cheat { cpu: Cpu::default(), how }
}

impl Cheat {
    fn hash_states(&self, params: &Params, part: Part) -> Vec<Hash> {
        let chain = if part == Part::Alu { &params.alu } else { &params.walk };
        let kept = self.cpu.states[place_of(part)].chunks_exact(chain.segments as usize);
        (0u32..).zip(kept).map(|(u, states)| tree::unit_leaf(chain.units, u, states.as_flattened())).collect()
    }
}

impl Engine for Cheat {
    fn prepare(&mut self, params: &Params, watch: &mut Watch<'_>) -> Result<(), ProverError> {
        self.cpu.prepare(params, watch)
    }

    fn fill(&mut self, params: &Params, key: &Key, watch: &mut Watch<'_>) -> Result<(), ProverError> {
        self.cpu.fill(params, key, watch)?;
        for i in 0..self.cpu.blocks.len() {
            match self.how {
                How::Holds(held) => self.cpu.blocks[i] = self.cpu.blocks[i % held as usize],
                How::OneRegion => {
                    self.cpu.blocks[i] = self.cpu.blocks[i % params.memory.region_blocks() as usize]
                }
                How::Quarter => self.cpu.blocks[i][4..].fill(0),
                _ => {}
            }
        }
        Ok(())
    }

    fn chain(
        &mut self,
        params: &Params,
        part: Part,
        key: &Key,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<Hash>, ProverError> {
        let key = if part == Part::Alu && self.how == How::AluAtOnce { &[7; 8] } else { key };
        if part == Part::LastWalk && self.how == How::GivesUp {
            self.cpu.blocks.fill([0; 16]);
        }
        let leaves = self.cpu.chain(params, part, key, watch)?;
        match self.how {
            How::Skip(of, percent) if of == part => {
                let chain = if part == Part::Alu { &params.alu } else { &params.walk };
                let segments = chain.segments as usize;
                let total = chain.units as usize * segments;
                let (skipped, mut made) = (total * percent as usize / 100, 0);
                // Any segments will do; the draw does not know them. 7919 is prime, so this spreads them.
                let invented: Vec<bool> = (0..total).map(|i| (i * 7919) % total < skipped).collect();
                for unit in 0..chain.units {
                    let mut state = chain::start(key, unit);
                    for segment in 0..segments {
                        let at = unit as usize * segments + segment;
                        if invented[at] {
                            made += 1;
                            state[0] = state[0].wrapping_add(1);
                        } else {
                            let mut one = [state];
                            let step = match part {
                                Part::Alu => chain::Step::Alu { key },
                                _ => chain::Step::Walk { memory: &self.cpu.memory },
                            };
                            chain::segment(params, step, &[segment as u32], &mut one);
                            state = one[0];
                        }
                        self.cpu.states[place_of(part)][at] = state;
                    }
                }
                assert_eq!(made, skipped);
                Ok(self.hash_states(params, part))
            }
            How::AfterTheNonce(of) if of == part => {
                let right = std::mem::take(&mut self.cpu.states[place_of(part)]);
                self.cpu.states[place_of(part)] = vec![State::default(); right.len()];
                let leaves = self.hash_states(params, part);
                self.cpu.states[place_of(part)] = right;
                Ok(leaves)
            }
            _ => Ok(leaves),
        }
    }

    fn multiply(&mut self, params: &Params, step: u32, key: &Key) -> Result<Vec<Hash>, ProverError> {
        self.cpu.multiply(params, step, key)?;
        let n = params.matrix.unwrap().n as usize;
        let (a, b) = operands(key, n);
        let other = |f: &dyn Fn(usize, i8) -> i8| -> Vec<i32> {
            let change = |m: &[i8]| m.iter().enumerate().map(|(i, x)| f(i, *x)).collect::<Vec<i8>>();
            product::multiply(&change(&a), &change(&b), n)
        };
        let committed = match self.how {
            How::NoProduct | How::RowsAfterTheNonce => vec![0; n * n],
            How::SkipRows(percent) => {
                let mut product = self.cpu.products[step as usize].clone();
                product
                    .chunks_exact_mut(n)
                    .skip(3)
                    .take(n * percent as usize / 100)
                    .for_each(|row| row.fill(0));
                product
            }
            How::Hankel => other(&|i, _| ((i / n + i % n) * 37 % 251) as i8),
            How::RankOne => other(&|i, _| ((i / n) % 11) as i8 * ((i % n) % 9) as i8),
            How::Quantised(bits) => other(&|_, x| x >> bits << bits),
            _ => self.cpu.products[step as usize].clone(),
        };
        let leaves =
            committed.chunks_exact(n).zip(0u32..).map(|(row, i)| tree::leaf(n as u32, i, row)).collect();
        if self.how != How::RowsAfterTheNonce {
            self.cpu.products[step as usize] = committed;
        }
        Ok(leaves)
    }

    fn worked(&mut self) {
        self.cpu.worked();
    }
    fn states(&mut self, params: &Params, part: Part, units: &[u32]) -> Result<Vec<u32>, ProverError> {
        self.cpu.states(params, part, units)
    }
    fn rows(&mut self, params: &Params, step: u32, rows: &[u32]) -> Result<Vec<i32>, ProverError> {
        self.cpu.rows(params, step, rows)
    }
    fn release(&mut self) {
        self.cpu.release();
    }
}

/// What the verifier says of a whole proof by this cheat.
fn judged(how: How) -> Result<Verified, Rejection> {
    let (challenge, nonce) = (challenge(SMALL), hash("nonce"));
    let (commitment, opening) = proof_by(cheat(how), &challenge, &nonce);
    verify(&challenge, &commitment, &nonce, &opening)
}

#[test]
fn every_shortcut_is_refused_with_its_reason() {
    assert!(judged(How::Honest).is_ok());
    for (how, code) in [
        (How::Holds(512), "wrong_segment"),
        (How::Holds(900), "wrong_segment"),
        (How::OneRegion, "wrong_segment"),
        (How::Quarter, "wrong_segment"),
        (How::GivesUp, "wrong_segment"),
        (How::AluAtOnce, "wrong_segment"),
        (How::AfterTheNonce(Part::Walk), "unit_not_committed"),
        (How::AfterTheNonce(Part::Alu), "unit_not_committed"),
        (How::AfterTheNonce(Part::LastWalk), "unit_not_committed"),
        (How::NoProduct, "row_disagrees_with_y"),
        (How::RowsAfterTheNonce, "row_not_committed"),
        (How::Hankel, "row_disagrees_with_y"),
        (How::RankOne, "row_disagrees_with_y"),
        (How::Quantised(1), "row_disagrees_with_y"),
        (How::Quantised(4), "row_disagrees_with_y"),
        (How::SkipRows(90), "row_disagrees_with_y"),
        (How::Skip(Part::Walk, 90), "wrong_segment"),
        (How::Skip(Part::Alu, 90), "wrong_segment"),
        (How::Skip(Part::LastWalk, 90), "wrong_segment"),
    ] {
        let rejection = judged(how).unwrap_err();
        assert_eq!(rejection.code(), code, "{rejection}");
        assert!(rejection.is_wrong_bits());
    }
    assert!(matches!(judged(How::GivesUp), Err(Rejection::WrongSegment { part: Part::LastWalk, .. })));
    assert!(matches!(judged(How::AluAtOnce), Err(Rejection::WrongSegment { part: Part::Alu, .. })));
}

#[test]
fn a_device_that_computes_wrongly_sends_nothing() {
    let mut prover = Chained::new(cheat(How::Quarter));
    prover.commit(&challenge(SMALL), &mut on).unwrap();
    let error = Prover::open(&mut prover, &hash("nonce")).unwrap_err();
    assert!(matches!(error, ProverError::Wrong(Rejection::WrongSegment { .. })), "{error:?}");
}

#[test]
fn skipped_work_is_found_as_often_as_the_arithmetic_says() {
    const TRIALS: u32 = 1000;
    for (percent, opened) in [(2, 64), (5, 64), (10, 16), (10, 64), (25, 8)] {
        for part in [Part::Walk, Part::Alu] {
            let mut params = Params { matrix: None, ..SMALL };
            params.walk = ChainParams { units: 128, segments: 5, steps: 4, opened };
            params.memory.stay = 1;
            params.alu = ChainParams { units: 128, segments: 5, steps: 2, opened };
            let challenge = challenge(params);
            let mut prover = Chained::new(cheat(How::Skip(part, percent)));
            let commitment = prover.commit(&challenge, &mut on).unwrap();
            let accepted = (0..TRIALS)
                .filter(|i| {
                    let nonce = hash(&format!("nonce {i}"));
                    verify(&challenge, &commitment, &nonce, &prover.peek(&nonce).unwrap()).is_ok()
                })
                .count();
            let got = accepted as f64 / f64::from(TRIALS);
            let exact = (1.0 - f64::from(640 * percent / 100) / 640.0).powi(opened as i32);
            let sigma = (exact * (1.0 - exact) / f64::from(TRIALS)).sqrt();
            println!(
                "{percent} % of the {} skipped, {opened} opened: accepted {got:.4}, arithmetic {exact:.4}",
                part.name()
            );
            assert!((got - exact).abs() <= 5.0 * sigma + 2.0 / f64::from(TRIALS), "{got} against {exact}");
        }
    }
    // The sizes that are asked open 64 segments of the ALU chain and 64 of both walks together: a tenth skipped of
    // either passes with 0.12 % at most, however it is spread over the walks.
    for params in [Params::SOFTWARE, Params::of_gpu(80 << 30)] {
        assert!(0.9f64.powi(params.alu.opened as i32) <= 0.0012);
        for first in 0..=20 {
            let (first, last) = (f64::from(first) / 100.0, f64::from(20 - first) / 100.0);
            let opened = params.walk.opened as i32;
            assert!((1.0 - first).powi(opened) * (1.0 - last).powi(opened) <= 0.0012);
        }
    }
    let matrix = Params::MATRIX;
    assert!(0.9f64.powi((matrix.rows * matrix.steps) as i32) <= 0.0012);
}

#[test]
fn skipped_rows_of_products_are_found_as_often_as_the_arithmetic_says() {
    const TRIALS: u32 = 300;
    for (percent, rows) in [(2, 8), (5, 8), (10, 8), (25, 4)] {
        let matrix = MatrixParams { n: 128, steps: 2, rows };
        let challenge = challenge(Params { matrix: Some(matrix), ..SMALL });
        let mut prover = Chained::new(cheat(How::SkipRows(percent)));
        let commitment = prover.commit(&challenge, &mut on).unwrap();
        let accepted = (0..TRIALS)
            .filter(|i| {
                let nonce = hash(&format!("nonce {i}"));
                verify(&challenge, &commitment, &nonce, &prover.peek(&nonce).unwrap()).is_ok()
            })
            .count();
        let got = accepted as f64 / f64::from(TRIALS);
        let skipped = 128 * percent / 100;
        // Distinct rows of 128 that miss all skipped ones, in both steps.
        let missed: f64 = (0..rows).map(|i| f64::from(128 - i - skipped) / f64::from(128 - i)).product();
        let exact = missed.powi(2);
        let sigma = (exact * (1.0 - exact) / f64::from(TRIALS)).sqrt();
        println!("{percent} % of rows skipped, {rows} x 2 opened: accepted {got:.4}, arithmetic {exact:.4}");
        assert!((got - exact).abs() <= 5.0 * sigma + 2.0 / f64::from(TRIALS), "{got} against {exact}");
    }
}

/// The chance that a segment of `steps` reads touches only blocks that are held is `share^steps`; the verifier
/// recomputes whole segments.
#[test]
fn memory_that_is_not_there_is_found_by_nearly_every_walker() {
    let mut params = Params { matrix: None, ..SMALL };
    params.memory = MemoryParams::whole(1024, 8);
    params.walk = ChainParams { units: 128, segments: 4, steps: 16, opened: 4 };
    let challenge = challenge(params);
    for (held, trials) in [(1000, 300), (922, 300)] {
        let mut prover = Chained::new(cheat(How::Holds(held)));
        let commitment = prover.commit(&challenge, &mut on).unwrap();
        let accepted = (0..trials)
            .filter(|i| {
                let nonce = hash(&format!("nonce {i}"));
                verify(&challenge, &commitment, &nonce, &prover.peek(&nonce).unwrap()).is_ok()
            })
            .count();
        let got = accepted as f64 / f64::from(trials);
        // Eight opened segments of 16 reads in all.
        let exact = (f64::from(held) / 1024.0).powi(128);
        println!("{held} of 1,024 blocks held: accepted {got:.4}, arithmetic {exact:.4}");
        assert!((got - exact).abs() < 0.12, "{got} against {exact}");
    }
    // As asked of a GPU: 2 x 64 segments of 256 reads or more. Holding 99.9 % passes once in 13 million.
    let asked = Params::of_gpu(24 << 30).walk;
    assert!(0.999f64.powi((2 * asked.opened * asked.steps) as i32) < 1e-7);
}

#[test]
fn other_challenges_keys_and_gpus_make_a_proof_worthless() {
    let honest = &*HONEST;
    assert!(honest.check().is_ok());
    let other_gpu = GpuId::from_bytes([9; 16]);
    let mut params = SMALL;
    params.walk.opened = 5;
    for other in [
        // Replay in a later epoch, and a proof made before the beacon was known.
        Challenge { beacon: hash("another beacon"), ..honest.challenge },
        // Another machine's proof, and another GPU's of this machine.
        Challenge { binding: GpuKey::derive(&[9; 32], gpu()).binding(), ..honest.challenge },
        Challenge { binding: GpuKey::derive(&[1; 32], other_gpu).binding(), ..honest.challenge },
    ] {
        let result = verify(&other, &honest.commitment, &honest.nonce, &honest.opening);
        assert!(result.as_ref().is_err_and(Rejection::is_wrong_bits), "{result:?}");
        // Signed anew by whoever holds the right key, it is no better.
        let mut again = transcript(other, honest.commitment.clone(), honest.nonce, honest.opening.clone());
        assert!(again.check().is_err());
        again.signature = honest.signature.clone();
        assert!(again.check().is_err());
    }
    let less = Challenge { params, ..honest.challenge };
    assert!(verify(&less, &honest.commitment, &honest.nonce, &honest.opening).is_err());
    let result = verify(&honest.challenge, &honest.commitment, &hash("another nonce"), &honest.opening);
    assert!(result.is_err_and(|r| r.is_wrong_bits()));
    // One proof under two keys: the second key's name on it, and the second key's signature.
    let thief = GpuKey::derive(&[9; 32], gpu());
    let stolen = Transcript { key: thief.public(), ..honest.clone() };
    assert_eq!(stolen.check().unwrap_err().code(), "wrong_binding");
    let signature = thief.sign(&honest.challenge, &honest.commitment, &honest.nonce, &honest.opening);
    let stolen = Transcript { signature, ..honest.clone() };
    assert_eq!(stolen.check().unwrap_err().code(), "wrong_signature");
    let renamed = Transcript { gpu: other_gpu, ..honest.clone() };
    assert_eq!(renamed.check().unwrap_err().code(), "wrong_binding");
}

/// What cannot be shown, and is said so in the specification: a proof that a faster device made for this key is as good
/// as one made here. It holds while the faster device is at the owner's service, and only once at a time.
#[test]
fn a_faster_device_at_the_owners_service_can_answer_for_a_gpu() {
    let (challenge, nonce) = (challenge(SMALL), hash("nonce"));
    let (commitment, opening) = proof_by(Cpu::default(), &challenge, &nonce); // somewhere else
    let relayed = transcript(challenge, commitment, nonce, opening);
    assert!(relayed.check().is_ok());
}

#[test]
fn no_bit_of_a_transcript_can_be_flipped() {
    let honest = &*HONEST;
    let refused = |challenge: &Challenge, commitment: &Commitment, nonce: &Hash, opening: &Opening| {
        verify(challenge, commitment, nonce, opening).is_err()
    };
    let same = |opening: &Opening| !refused(&honest.challenge, &honest.commitment, &honest.nonce, opening);
    let flip = |hash: &mut Hash, bit: usize| hash.0[bit / 8] ^= 1 << (bit % 8);
    assert!(same(&honest.opening));
    for bit in 0..256 {
        let mut nonce = honest.nonce;
        flip(&mut nonce, bit);
        assert!(refused(&honest.challenge, &honest.commitment, &nonce, &honest.opening), "nonce, bit {bit}");
        for which in 0..2 {
            let mut other = honest.challenge;
            flip(if which == 0 { &mut other.beacon } else { &mut other.binding }, bit);
            assert!(
                refused(&other, &honest.commitment, &honest.nonce, &honest.opening),
                "challenge, bit {bit}"
            );
        }
        for which in 0..5 {
            let mut other = honest.commitment.clone();
            let root = match which {
                0 => &mut other.walk,
                1 => &mut other.alu,
                2 => &mut other.last_walk,
                step => &mut other.matrix[step - 3],
            };
            flip(root, bit);
            assert!(
                refused(&honest.challenge, &other, &honest.nonce, &honest.opening),
                "root {which}, bit {bit}"
            );
        }
    }
    let mut opening = honest.opening.clone();
    fn of(opening: &mut Opening, which: usize) -> &mut ChainOpening {
        match which {
            0 => &mut opening.walk,
            1 => &mut opening.alu,
            _ => &mut opening.last_walk,
        }
    }
    for which in 0..3 {
        for (i, bit) in
            (0..of(&mut opening, which).states.len()).flat_map(|i| (0..32).map(move |bit| (i, bit)))
        {
            of(&mut opening, which).states[i] ^= 1 << bit;
            assert!(!same(&opening), "chain {which}, word {i}, bit {bit}");
            of(&mut opening, which).states[i] ^= 1 << bit;
        }
        for (i, bit) in
            (0..of(&mut opening, which).paths.len()).flat_map(|i| (0..256).map(move |bit| (i, bit)))
        {
            flip(&mut of(&mut opening, which).paths[i], bit);
            assert!(!same(&opening), "chain {which}, sibling {i}, bit {bit}");
            flip(&mut of(&mut opening, which).paths[i], bit);
        }
    }
    assert_eq!(opening, honest.opening);
}

proptest! {
    #[test]
    fn no_bit_of_a_signed_transcript_can_be_flipped(place in any::<prop::sample::Index>(), which in 0..12) {
        let mut other = HONEST.clone();
        let flip = |hash: &mut Hash| {
            let bit = place.index(256);
            hash.0[bit / 8] ^= 1 << (bit % 8);
        };
        match which {
            0 => flip(&mut other.key.0),
            1 => flip(&mut other.nonce),
            2 => flip(&mut other.challenge.beacon),
            3 => flip(&mut other.challenge.binding),
            4 => flip(&mut other.commitment.last_walk),
            5 => *place.get_mut(&mut other.opening.walk.states) ^= 1,
            6 => flip(place.get_mut(&mut other.opening.alu.paths)),
            7 => *place.get_mut(&mut other.opening.matrix[0].y) ^= 1,
            8 => *place.get_mut(&mut other.opening.matrix[1].rows) ^= 1,
            9 => {
                let mut id = *other.gpu.as_bytes();
                id[place.index(16)] ^= 1 << place.index(8);
                other.gpu = GpuId::from_bytes(id);
            }
            10 => {
                let mut text = serde_json::to_string(&other.signature).unwrap().into_bytes();
                let at = 1 + place.index(85);
                text[at] = if text[at] == b'A' { b'B' } else { b'A' };
                other.signature = serde_json::from_slice(&text).unwrap();
            }
            _ => other.challenge.params.alu.steps ^= 1 << place.index(3),
        }
        // Neither as it is, nor signed anew by the right key.
        prop_assert!(other.check().is_err());
        if which != 0 && which != 9 && which != 10 {
            other.signature = key().sign(&other.challenge, &other.commitment, &other.nonce, &other.opening);
            prop_assert!(other.check().is_err());
        }
    }
}
