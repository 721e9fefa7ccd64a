//! Cheats, forgeries and malformed messages against the verifier; each refusal beside a success.

use std::sync::LazyLock;

use gangline_types::{GpuId, Hash};
use proptest::prelude::*;

use crate::{
    Challenge, Commitment, CpuProver, GpuKey, MatrixParams, NotTheirs, Opening, ParamsError, Prover,
    ProverError, Rejection, Signed, StepOpening, Verified, binding,
    chacha::Key,
    field,
    product::multiply,
    prove::{Held, Step, operands},
    signed,
    transcript::{Draw, step_key},
    verify,
};

fn hash(label: &str) -> Hash {
    blake3::hash(label.as_bytes()).into()
}

fn nonce(number: u32) -> Hash {
    hash(&format!("nonce {number}"))
}

fn challenge(n: u32, steps: u32, rows: u32) -> Challenge {
    Challenge {
        params: MatrixParams { n, steps, rows },
        beacon: hash("beacon"),
        binding: binding(&[1; 32], GpuId::from_bytes([2; 16])),
    }
}

/// A chain in which `cheat(step, product)` alters every true product before it is committed.
fn committed(challenge: &Challenge, mut cheat: impl FnMut(u32, &mut [i32])) -> Held {
    committed_from(challenge, |step, key| {
        let mut product = true_product(challenge, key);
        cheat(step, &mut product);
        product
    })
}

fn committed_from(challenge: &Challenge, mut product: impl FnMut(u32, &Key) -> Vec<i32>) -> Held {
    let mut step = 0;
    Held::walk(challenge, &mut |_| {}, |key| {
        step += 1;
        Ok(Step::new(challenge.params.n, product(step - 1, key)))
    })
    .unwrap()
}

fn true_product(challenge: &Challenge, key: &Key) -> Vec<i32> {
    let n = challenge.params.n as usize;
    let (a, b) = operands(key, n);
    multiply(&a, &b, n)
}

/// The best opening a cheat can give: `y = A(Br)`, which needs no product, and the rows he committed.
fn open_with_true_y(held: &Held, nonce: &Hash) -> Opening {
    let digest = held.challenge.digest();
    held.open_with(nonce, |step, r| {
        let before = step.checked_sub(1).map_or(Hash::default(), |s| held.commitment.roots[s]);
        verify::product_with(&step_key(&digest, step as u32, &before), held.challenge.params.n, r)
    })
}

/// The opening of somebody who answers `y = C r` from what he committed.
fn open_with_own_y(held: &Held, nonce: &Hash) -> Opening {
    let n = held.challenge.params.n as usize;
    held.open_with(nonce, |step, r| {
        held.steps[step].product.chunks_exact(n).map(|row| field::dot_i32(row, r)).collect()
    })
}

fn judge(held: &Held, nonce: &Hash, opening: &Opening) -> Result<Verified, Rejection> {
    crate::verify(&held.challenge, &held.commitment, nonce, opening)
}

fn code(result: Result<Verified, Rejection>) -> &'static str {
    result.map_or_else(|rejection| rejection.code(), |_| "accepted")
}

#[test]
fn an_honest_proof_is_accepted_once_and_shows_its_work() {
    for (n, steps, rows) in [(64, 1, 1), (64, 3, 64), (192, 2, 8)] {
        let challenge = challenge(n, steps, rows);
        let mut prover = CpuProver::new();
        prover.warm_up(&challenge.params).unwrap();
        let mut seen = Vec::new();
        let commitment = prover.commit(&challenge, &mut |done| seen.push(done)).unwrap();
        assert_eq!(seen, (1..=steps).collect::<Vec<_>>());
        let opening = prover.open(&nonce(1)).unwrap();
        let shown = crate::verify(&challenge, &commitment, &nonce(1), &opening);
        let expected = Verified {
            macs: u64::from(n).pow(3) * u64::from(steps),
            memory_bytes: 6 * u64::from(n).pow(2),
            rows_opened: steps * rows,
        };
        assert_eq!(shown, Ok(expected));
        let bytes: usize =
            opening.steps.iter().map(|s| 8 * s.y.len() + 4 * s.rows.len() + 32 * s.paths.len()).sum();
        assert_eq!(bytes as u64, challenge.params.opening_bytes());
        assert!(matches!(prover.open(&nonce(1)), Err(ProverError::NothingCommitted)));
    }
}

#[test]
fn the_binding_and_every_field_of_the_challenge_count() {
    let held = committed(&challenge(64, 2, 4), |_, _| {});
    let opening = open_with_own_y(&held, &nonce(1));
    assert!(judge(&held, &nonce(1), &opening).is_ok());
    assert!(judge(&held, &nonce(2), &opening).is_err(), "other nonce");
    let original = held.challenge;
    let others = [
        Challenge { beacon: hash("another beacon"), ..original },
        Challenge { binding: binding(&[9; 32], GpuId::from_bytes([2; 16])), ..original },
        Challenge { binding: binding(&[1; 32], GpuId::from_bytes([9; 16])), ..original },
    ];
    for other in others {
        // The old transcript word for word, and the old products opened under the new challenge.
        let again = Held { challenge: other, ..committed(&original, |_, _| {}) };
        for opening in [opening.clone(), open_with_own_y(&again, &nonce(1))] {
            let result = crate::verify(&other, &again.commitment, &nonce(1), &opening);
            assert!(result.as_ref().is_err_and(Rejection::is_wrong_bits), "{result:?}");
        }
        assert_ne!(committed(&other, |_, _| {}).commitment, held.commitment);
    }
}

#[test]
fn no_bit_of_a_transcript_can_be_flipped() {
    let held = committed(&challenge(64, 2, 2), |_, _| {});
    let opening = open_with_own_y(&held, &nonce(1));
    let check = |commitment: &Commitment, nonce: &Hash, opening: &Opening, challenge: &Challenge| {
        crate::verify(challenge, commitment, nonce, opening).is_ok()
    };
    assert!(check(&held.commitment, &nonce(1), &opening, &held.challenge));
    let flip = |hash: &mut Hash, bit: usize| hash.0[bit / 8] ^= 1 << (bit % 8);
    for bit in 0..256 {
        for step in 0..2 {
            let mut other = held.commitment.clone();
            flip(&mut other.roots[step], bit);
            assert!(!check(&other, &nonce(1), &opening, &held.challenge), "root {step}, bit {bit}");
        }
        let mut other = nonce(1);
        flip(&mut other, bit);
        assert!(!check(&held.commitment, &other, &opening, &held.challenge), "nonce, bit {bit}");
        let mut other = held.challenge;
        flip(&mut other.beacon, bit);
        assert!(!check(&held.commitment, &nonce(1), &opening, &other), "beacon, bit {bit}");
        let mut other = held.challenge;
        flip(&mut other.binding, bit);
        assert!(!check(&held.commitment, &nonce(1), &opening, &other), "binding, bit {bit}");
    }
    let mut other = opening.clone();
    let refused = |other: &Opening| !check(&held.commitment, &nonce(1), other, &held.challenge);
    for step in 0..2 {
        for (i, bit) in (0..opening.steps[step].y.len()).flat_map(|i| (0..64).map(move |bit| (i, bit))) {
            other.steps[step].y[i] ^= 1 << bit;
            assert!(refused(&other), "step {step}, y {i}, bit {bit}");
            other.steps[step].y[i] ^= 1 << bit;
        }
        for (i, bit) in (0..opening.steps[step].rows.len()).flat_map(|i| (0..32).map(move |bit| (i, bit))) {
            other.steps[step].rows[i] ^= 1 << bit;
            assert!(refused(&other), "step {step}, entry {i}, bit {bit}");
            other.steps[step].rows[i] ^= 1 << bit;
        }
        for (i, bit) in (0..opening.steps[step].paths.len()).flat_map(|i| (0..256).map(move |bit| (i, bit))) {
            flip(&mut other.steps[step].paths[i], bit);
            assert!(refused(&other), "step {step}, sibling {i}, bit {bit}");
            flip(&mut other.steps[step].paths[i], bit);
        }
    }
    assert_eq!(other, opening);
}

#[test]
fn y_without_the_product_is_worth_nothing() {
    // The hole of a protocol that checks only y = A(Br): no product was ever made.
    let challenge = challenge(64, 2, 4);
    let mut held = committed_from(&challenge, |_, _| vec![0; 64 * 64]);
    assert_eq!(code(judge(&held, &nonce(1), &open_with_true_y(&held, &nonce(1)))), "row_disagrees_with_y");
    assert_eq!(code(judge(&held, &nonce(1), &open_with_own_y(&held, &nonce(1)))), "wrong_product");

    // The right rows made once it is known which are wanted: they are not the committed ones.
    let digest = challenge.digest();
    let mut before = Hash::default();
    for (step, root) in held.commitment.roots.clone().into_iter().enumerate() {
        held.steps[step].product = true_product(&challenge, &step_key(&digest, step as u32, &before));
        before = root;
    }
    assert_eq!(code(judge(&held, &nonce(1), &open_with_true_y(&held, &nonce(1)))), "row_not_committed");
}

#[test]
fn a_step_left_out_or_made_out_of_order_is_always_found() {
    let challenge = challenge(64, 4, 1);
    for left_out in 0..4 {
        let held = committed(&challenge, |step, product| {
            if step == left_out {
                product.fill(0);
            }
        });
        for number in 0..20 {
            let result = judge(&held, &nonce(number), &open_with_true_y(&held, &nonce(number)));
            assert!(matches!(result, Err(Rejection::RowDisagrees { step, .. }) if step == left_out));
        }
    }
    // All steps at once on four devices: their matrices would have to be known before the roots are.
    let digest = challenge.digest();
    let held = committed_from(&challenge, |step, _| {
        true_product(&challenge, &step_key(&digest, step, &Hash::default()))
    });
    for opening in [open_with_true_y(&held, &nonce(1)), open_with_own_y(&held, &nonce(1))] {
        assert!(judge(&held, &nonce(1), &opening).is_err_and(|r| r.is_wrong_bits()));
    }
    // Two steps changed places.
    let mut held = committed(&challenge, |_, _| {});
    held.commitment.roots.swap(1, 2);
    held.steps.swap(1, 2);
    assert!(judge(&held, &nonce(1), &open_with_own_y(&held, &nonce(1))).is_err());
}

#[test]
fn matrices_with_a_cheaper_product_are_refused_and_ours_have_none() {
    let challenge = challenge(64, 1, 4);
    let n = 64;
    let hankel: Vec<i8> = (0..n * n).map(|i| ((i / n + i % n) * 37 % 251) as i8).collect();
    let rank_one: Vec<i8> = (0..n * n).map(|i| ((i / n) % 11) as i8 * ((i % n) % 9) as i8).collect();
    for cheap in [&hankel, &rank_one] {
        let held = committed_from(&challenge, |_, _| multiply(cheap, cheap, n));
        assert_eq!(code(judge(&held, &nonce(1), &open_with_own_y(&held, &nonce(1)))), "wrong_product");
        let with_true_y = open_with_true_y(&held, &nonce(1));
        assert_eq!(code(judge(&held, &nonce(1), &with_true_y)), "row_disagrees_with_y");
    }
    assert_eq!(rank(&rank_one, n), 1);
    let (a, b) = operands(&step_key(&challenge.digest(), 0, &Hash::default()), n);
    for matrix in [a, b] {
        assert_eq!(rank(&matrix, n), n);
        let like_a_neighbour = |step: usize| {
            matrix.iter().zip(&matrix[step..]).filter(|(x, y)| x == y).count() as f64 / (n * n) as f64
        };
        // Hankel, Toeplitz and repeated rows or columns; chance gives 1/256.
        for step in [n - 1, n + 1, n, 1] {
            assert!(like_a_neighbour(step) < 0.01, "distance {step}");
        }
    }
}

/// Rank modulo p, by elimination.
fn rank(matrix: &[i8], n: usize) -> usize {
    let mul = |x: u64, y: u64| field::reduce(i128::from(x) * i128::from(y));
    let inverse = |x: u64| {
        let (mut result, mut power, mut e) = (1, x, field::P - 2);
        while e > 0 {
            if e & 1 == 1 {
                result = mul(result, power);
            }
            power = mul(power, power);
            e >>= 1;
        }
        result
    };
    let mut rows: Vec<Vec<u64>> = matrix
        .chunks_exact(n)
        .map(|row| row.iter().map(|x| field::reduce(i128::from(*x))).collect())
        .collect();
    let mut rank = 0;
    for column in 0..n {
        let Some(pivot) = (rank..n).find(|i| rows[*i][column] != 0) else { continue };
        rows.swap(rank, pivot);
        let scale = inverse(rows[rank][column]);
        let above = rows[rank].clone();
        for row in &mut rows[rank + 1..] {
            let factor = mul(row[column], scale);
            for (x, y) in row.iter_mut().zip(&above) {
                *x = field::reduce(i128::from(*x) - i128::from(mul(factor, *y)));
            }
        }
        rank += 1;
    }
    rank
}

#[test]
fn an_opening_made_before_the_nonce_is_refused() {
    let challenge = challenge(64, 2, 8);
    let guess = nonce(77);
    // Only the rows that the guessed nonce would open are computed.
    let whole = committed(&challenge, |_, _| {});
    let guessed = open_with_own_y(&whole, &guess);
    let held = committed(&challenge, |step, product| {
        for row in product.chunks_exact_mut(64) {
            if !guessed.steps[step as usize].rows.chunks_exact(64).any(|shown| shown == row) {
                row.fill(0);
            }
        }
    });
    // The roots are other roots now, so even the guessed nonce draws other rows.
    for nonce in [guess, nonce(1), nonce(2)] {
        assert!(judge(&held, &nonce, &guessed).is_err());
        assert!(judge(&held, &nonce, &open_with_true_y(&held, &nonce)).is_err());
    }
}

/// The chance that `opened` distinct rows of `n` miss all of `skipped`.
fn missed(n: u32, opened: u32, skipped: u32) -> f64 {
    (0..opened).map(|i| f64::from((n - i).saturating_sub(skipped)) / f64::from(n - i)).product()
}

#[test]
fn skipped_rows_are_found_as_often_as_the_arithmetic_says() {
    const TRIALS: u32 = 1500;
    // Share of rows skipped in each step, opened rows a step.
    for (share, rows) in [(0.02, 16), (0.05, 16), (0.10, 16), (0.25, 4), (0.10, 32)] {
        let challenge = challenge(128, 2, rows);
        let skipped = (128.0f64 * share).round() as usize;
        let held = committed(&challenge, |_, product| {
            // Any rows will do; the draw does not know them.
            product.chunks_exact_mut(128).skip(5).take(skipped).for_each(|row| row.fill(0));
        });
        let accepted = (0..TRIALS)
            .filter(|i| judge(&held, &nonce(*i), &open_with_true_y(&held, &nonce(*i))).is_ok())
            .count();
        let got = accepted as f64 / f64::from(TRIALS);
        let exact = missed(128, rows, skipped as u32).powi(2);
        let bound = (1.0 - skipped as f64 / 128.0).powi(2 * rows as i32);
        let sigma = (exact * (1.0 - exact) / f64::from(TRIALS)).sqrt();
        println!(
            "skipped {share}, {rows} rows x 2 steps: accepted {got:.4}, exact {exact:.5}, bound {bound:.5}"
        );
        assert!(exact <= bound);
        assert!(
            (got - exact).abs() <= 5.0 * sigma + 2.0 / f64::from(TRIALS),
            "{share}: {got} against {exact}"
        );
    }
}

#[test]
fn the_joining_size_meets_its_goals() {
    let MatrixParams { n, steps, rows } = MatrixParams::JOINING.check().unwrap();
    // Text is 4/3 of the bytes and a few names; commitment and challenge are below 2 kB.
    assert!(MatrixParams::JOINING.opening_bytes() * 4 / 3 + 4000 <= 1_200_000);
    let total = n * steps;
    for (share, goal) in [(0.10, 1e-6), (0.05, 0.0012), (0.02, 0.06)] {
        let skipped = (f64::from(total) * share) as u32;
        // Gathered in as few steps as possible, in all, or in any number between.
        for used in skipped.div_ceil(n)..=steps {
            let spread = skipped / used;
            let chance = missed(n, rows, spread).powi(used as i32);
            assert!(chance <= goal, "{share} of all rows over {used} steps: {chance}");
        }
    }
    // One false entry is enough to spoil a row.
    let challenge = challenge(64, 1, 64);
    let held = committed(&challenge, |_, product| product[64 * 9 + 3] += 1);
    let result = judge(&held, &nonce(1), &open_with_true_y(&held, &nonce(1)));
    assert_eq!(result, Err(Rejection::RowDisagrees { step: 0, row: 9 }));
}

#[test]
fn a_device_that_computes_wrongly_sends_nothing() {
    let held = committed(&challenge(64, 1, 64), |_, product| product[7] ^= 1);
    let error = held.open(&nonce(1)).unwrap_err();
    assert!(
        matches!(error, ProverError::WrongProduct(Rejection::WrongProduct { step: 0, row: 0 })),
        "{error:?}"
    );
}

#[test]
fn sizes_outside_the_limits_are_refused_everywhere() {
    type Is = fn(&ParamsError) -> bool;
    let side: Is = |e| matches!(e, ParamsError::Side(_));
    let steps: Is = |e| matches!(e, ParamsError::Steps(_));
    let rows: Is = |e| matches!(e, ParamsError::Rows { .. });
    let kept: Is = |e| matches!(e, ParamsError::Kept(_));
    let opening: Is = |e| matches!(e, ParamsError::Opening(_));
    for ((n, step_count, row_count), is) in [
        ((0, 1, 1), side),
        ((63, 1, 1), side),
        ((96, 1, 1), side),
        ((8256, 1, 1), side),
        ((u32::MAX, 1, 1), side),
        ((64, 0, 1), steps),
        ((64, 65, 1), steps),
        ((64, 1, 0), rows),
        ((64, 1, 65), rows),
        ((512, 1, 257), rows),
        ((8192, 64, 1), kept),
        ((2048, 64, 256), opening),
    ] {
        let params = MatrixParams { n, steps: step_count, rows: row_count };
        assert!(params.check().is_err_and(|e| is(&e)), "{params:?}");
        let text = format!(r#"{{"n":{n},"steps":{step_count},"rows":{row_count}}}"#);
        assert!(serde_json::from_str::<MatrixParams>(&text).is_err());
        let challenge = Challenge { params, ..challenge(64, 1, 1) };
        let empty = (Commitment { roots: vec![] }, Opening { steps: vec![] });
        let result = crate::verify(&challenge, &empty.0, &nonce(1), &empty.1);
        assert_eq!(code(result), "params_out_of_range");
        let mut prover = CpuProver::new();
        assert!(matches!(prover.commit(&challenge, &mut |_| {}), Err(ProverError::Params(_))));
        assert!(matches!(prover.warm_up(&params), Err(ProverError::Params(_))));
    }
    for (n, steps, rows) in [(64, 1, 1), (8192, 4, 1), (1024, 64, 32), (4096, 16, 16)] {
        let params = MatrixParams { n, steps, rows };
        assert_eq!(params.check(), Ok(params));
    }
}

#[test]
fn messages_survive_json_and_nothing_has_a_second_spelling() {
    let held = committed(&challenge(64, 2, 3), |_, _| {});
    let opening = open_with_own_y(&held, &nonce(1));
    let text = serde_json::to_string(&opening).unwrap();
    assert_eq!(serde_json::from_str::<Opening>(&text).unwrap(), opening);
    let back: Challenge = serde_json::from_str(&serde_json::to_string(&held.challenge).unwrap()).unwrap();
    assert_eq!(back, held.challenge);
    let back: Commitment = serde_json::from_str(&serde_json::to_string(&held.commitment).unwrap()).unwrap();
    assert_eq!(back, held.commitment);

    let step = r#"{"y":"","rows":"","paths":""}"#;
    let steps = |count| format!(r#"{{"steps":[{}]}}"#, vec![step; count].join(","));
    assert_eq!(serde_json::from_str::<Opening>(&steps(64)).unwrap().steps.len(), 64);
    for bad in [
        steps(65),
        r#"{"steps":[{"y":"AAAA","rows":"","paths":""}]}"#.into(), // three bytes
        r#"{"steps":[{"y":"","rows":"AAAAAA","paths":""}]}"#.into(), // no padding
        r#"{"steps":[{"y":"","rows":"AAAAAB==","paths":""}]}"#.into(), // stray bits
        r#"{"steps":[{"y":[],"rows":"","paths":""}]}"#.into(),
        r#"{"steps":[{"y":"","rows":""}]}"#.into(),
        r#"{"steps":[{"y":"","rows":"","paths":"","more":1}]}"#.into(),
        r#"{"steps":7}"#.into(),
    ] {
        assert!(serde_json::from_str::<Opening>(&bad).is_err(), "{bad}");
    }
    let roots = vec![hash("root"); 65];
    assert!(serde_json::from_value::<Commitment>(serde_json::json!({ "roots": roots })).is_err());
    let schema = serde_json::to_value(schemars::schema_for!(Opening)).unwrap();
    assert_eq!(schema["$defs"]["StepOpening"]["properties"]["y"]["contentEncoding"], "base64");
}

#[test]
fn the_example_of_the_specification() {
    let challenge = Challenge {
        params: MatrixParams { n: 64, steps: 2, rows: 3 },
        beacon: Hash([1; 32]),
        binding: binding(&[2; 32], GpuId::from_bytes([3; 16])),
    };
    let (a, b) = operands(&step_key(&challenge.digest(), 0, &Hash::default()), 64);
    let held = committed(&challenge, |_, _| {});
    let nonce = Hash([4; 32]);
    let opening = open_with_own_y(&held, &nonce);
    let draw = Draw::new(&challenge.digest(), &held.commitment.roots, &nonce);
    let rows = draw.rows(&challenge.params, opening.steps.iter().map(|s| s.y.as_slice()));
    // Only for its hash: a proof that is signed is bound to the key that signs.
    let signed = signed::digest(&challenge, &held.commitment, &nonce, &opening);
    let got = [
        ("binding", challenge.binding.to_string()),
        ("challenge digest", challenge.digest().to_string()),
        ("A_0, row 0, first 8", format!("{:?}", &a[..8])),
        ("B_0, column 0, first 8", format!("{:?}", &b[..8])),
        ("C_0, row 0, first 4", format!("{:?}", &held.steps[0].product[..4])),
        ("root_0", held.commitment.roots[0].to_string()),
        ("root_1", held.commitment.roots[1].to_string()),
        ("r_0, first 2", format!("{:?}", &draw.vector(0, 64)[..2])),
        ("y_0, first 2", format!("{:?}", &opening.steps[0].y[..2])),
        ("rows of step 0", format!("{:?}", rows[0])),
        ("rows of step 1", format!("{:?}", rows[1])),
        ("first sibling of step 1", opening.steps[1].paths[0].to_string()),
        ("what a key signs of it", signed.to_string()),
    ];
    let specification = include_str!("../../../docs/PROOF.md");
    for (what, value) in got {
        let line = format!("| {what} | `{value}` |");
        assert!(specification.contains(&line), "docs/PROOF.md has no line {line}");
    }
}

fn gpu() -> GpuId {
    GpuId::from_bytes([2; 16])
}

/// An honest proof bound to the key of [`gpu`] on a machine, with its nonce.
fn bound_to(machine: u8) -> (GpuKey, Held, Hash, Opening) {
    let key = GpuKey::derive(&[machine; 32], gpu());
    let held = committed(&Challenge { binding: key.binding(), ..challenge(64, 2, 3) }, |_, _| {});
    let opening = open_with_own_y(&held, &nonce(1));
    (key, held, nonce(1), opening)
}

#[test]
fn a_signature_is_of_one_key_over_one_proof() {
    let (key, held, nonce, opening) = bound_to(1);
    let sign = |key: &GpuKey| Signed {
        key: key.public(),
        signature: key.sign_matrix(&held.challenge, &held.commitment, &nonce, &opening),
    };
    let check = |signed: &Signed, gpu| signed.check(gpu, &held.challenge, &held.commitment, &nonce, &opening);
    let right = sign(&key);
    assert_eq!(check(&right, gpu()), Ok(()));
    // The other two of the three that belong together: another key, also where it says to be this one, and another GPU.
    let other = sign(&GpuKey::derive(&[9; 32], gpu()));
    assert_eq!(check(&other, gpu()), Err(NotTheirs::Binding));
    let as_ours = Signed { key: key.public(), ..other };
    assert_eq!(check(&as_ours, gpu()), Err(NotTheirs::Signature));
    assert_eq!(check(&right, GpuId::from_bytes([3; 16])), Err(NotTheirs::Binding));
    // Another machine's opening.
    let (_, _, _, of_another) = bound_to(2);
    let copied = right.check(gpu(), &held.challenge, &held.commitment, &nonce, &of_another);
    assert_eq!(copied, Err(NotTheirs::Signature));
    // Items that move from one vector to the next are another statement: each has its length before it.
    let digest = |opening: &Opening| signed::digest(&held.challenge, &held.commitment, &nonce, opening);
    let mut moved = opening.clone();
    let last = moved.steps[0].y.pop().unwrap();
    moved.steps[0].rows.splice(0..0, [last as i32, (last >> 32) as i32]);
    assert_ne!(digest(&moved), digest(&opening));
    let mut fewer = held.commitment.clone();
    fewer.roots.pop();
    assert_ne!(signed::digest(&held.challenge, &fewer, &nonce, &opening), digest(&opening));
}

static HONEST: LazyLock<(Held, Opening)> = LazyLock::new(|| {
    let held = committed(&challenge(64, 2, 3), |_, _| {});
    let opening = open_with_own_y(&held, &nonce(1));
    (held, opening)
});

fn lengths(right: usize) -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(right), 1 => 0..2 * right + 2]
}

proptest! {
    #[test]
    fn malformed_shapes_are_refused_without_a_panic(
        n in prop_oneof![Just(64u32), Just(128), any::<u32>()],
        steps in prop_oneof![Just(2u32), 0u32..5, any::<u32>()],
        rows in prop_oneof![Just(3u32), 0u32..70, any::<u32>()],
        roots in lengths(2),
        shapes in prop::collection::vec((lengths(64), lengths(3 * 64), lengths(3 * 6)), 0..4),
        word in prop_oneof![Just(0u64), Just(field::P - 1), Just(field::P), any::<u64>()],
    ) {
        let challenge = Challenge { params: MatrixParams { n, steps, rows }, ..challenge(64, 2, 3) };
        let commitment = Commitment { roots: vec![hash("root"); roots] };
        let steps = shapes
            .into_iter()
            .map(|(y, rows, paths)| StepOpening {
                y: vec![word; y],
                rows: vec![word as i32; rows],
                paths: vec![hash("sibling"); paths],
            })
            .collect();
        let rejection = crate::verify(&challenge, &commitment, &nonce(1), &Opening { steps }).unwrap_err();
        prop_assert!(!rejection.to_string().is_empty() && !rejection.code().is_empty());
    }

    #[test]
    fn any_change_of_an_honest_opening_is_refused(
        step in 0usize..2, what in 0..6, place in any::<prop::sample::Index>(), value in any::<u64>(),
    ) {
        let (held, honest) = &*HONEST;
        let mut opening = honest.clone();
        let open = &mut opening.steps[step];
        match what {
            0 => *place.get_mut(&mut open.y) = value,
            1 => *place.get_mut(&mut open.rows) = value as i32,
            2 => place.get_mut(&mut open.paths).0[(value % 32) as usize] ^= 1 << (value >> 8 & 7),
            3 => open.y.truncate(place.index(64)),
            4 => open.rows.rotate_left(64 * (1 + place.index(2))),
            // The same element modulo p, spelt differently.
            _ => *place.get_mut(&mut open.y) += field::P,
        }
        prop_assume!(opening != *honest);
        let rejection = judge(held, &nonce(1), &opening).unwrap_err();
        prop_assert_eq!(rejection.is_wrong_bits(), !matches!(rejection.code(), "element_not_reduced" | "wrong_length"));
        if what == 5 {
            prop_assert_eq!(rejection.code(), "element_not_reduced");
        }
    }

    #[test]
    fn no_bit_of_a_signed_proof_can_be_flipped(place in any::<prop::sample::Index>(), which in 0..10) {
        let (key, held, mut nonce, mut opening) = bound_to(1);
        let (mut challenge, mut commitment, mut of) = (held.challenge, held.commitment, gpu());
        let signature = key.sign_matrix(&challenge, &commitment, &nonce, &opening);
        let mut signed = Signed { key: key.public(), signature };
        let flip = |hash: &mut Hash| {
            let bit = place.index(256);
            hash.0[bit / 8] ^= 1 << (bit % 8);
        };
        match which {
            0 => flip(&mut signed.key.0),
            1 => flip(&mut nonce),
            2 => flip(&mut challenge.beacon),
            3 => flip(&mut challenge.binding),
            4 => flip(place.get_mut(&mut commitment.roots)),
            5 => *place.get_mut(&mut opening.steps[0].y) ^= 1 << place.index(64),
            6 => *place.get_mut(&mut opening.steps[1].rows) ^= 1 << place.index(32),
            7 => flip(place.get_mut(&mut opening.steps[1].paths)),
            8 => {
                let mut id = *of.as_bytes();
                id[place.index(16)] ^= 1 << place.index(8);
                of = GpuId::from_bytes(id);
            }
            _ => {
                let mut text = serde_json::to_string(&signed.signature).unwrap().into_bytes();
                let at = 1 + place.index(85);
                text[at] = if text[at] == b'A' { b'B' } else { b'A' };
                signed.signature = serde_json::from_slice(&text).unwrap();
            }
        }
        prop_assert!(signed.check(of, &challenge, &commitment, &nonce, &opening).is_err());
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in r#"\{"steps":\[\{"y":"[A-Za-z0-9+/=]{0,40}","rows":"[A-Za-z0-9+/=]{0,40}","paths":".{0,20}"\}\]\}"#) {
        let _ = serde_json::from_str::<Opening>(&text);
    }
}
