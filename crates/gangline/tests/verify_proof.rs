//! `verify proof`: a transcript in a file, judged without asking anybody.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod common;

use std::ops::ControlFlow;

use common::{run, told};
use gangline_proof::{self as matrix, Prover as _, Signed};
use gangline_proof::{
    MatrixParams,
    epoch::{ChainParams, Challenge, CpuProver, GpuKey, MemoryParams, Params, Prover, Transcript},
};
use gangline_types::{GpuId, Hash, ProofId, Text, UnixSeconds};
use gangline_wire::api::proof::Transcript as Joining;
use serde_json::Value;

fn transcript() -> Value {
    let gpu = GpuId::from_bytes([2; 16]);
    let key = GpuKey::derive(&[1; 32], gpu);
    let chain = ChainParams { units: 64, segments: 2, steps: 16, opened: 8 };
    let params = Params {
        memory: MemoryParams::whole(1024, 8),
        walk: chain,
        alu: chain,
        matrix: Some(MatrixParams { n: 64, steps: 1, rows: 4 }),
    };
    let challenge = Challenge { params, beacon: Hash([3; 32]), binding: key.binding() };
    let mut prover = CpuProver::new();
    let commitment = prover.commit(&challenge, &mut |_| ControlFlow::Continue(())).unwrap();
    let nonce = Hash([4; 32]);
    let opening = prover.open(&nonce).unwrap();
    let signature = key.sign(&challenge, &commitment, &nonce, &opening);
    let whole = Transcript::new(gpu, key.public(), challenge, commitment, nonce, opening, signature);
    serde_json::to_value(whole).unwrap()
}

/// A joining proof of this GPU under a machine's key.
fn joining(machine: u8, gpu: u8) -> Joining {
    let gpu = GpuId::from_bytes([gpu; 16]);
    let key = GpuKey::derive(&[machine; 32], gpu);
    let params = MatrixParams { n: 64, steps: 2, rows: 3 };
    let challenge = matrix::Challenge { params, beacon: Hash([3; 32]), binding: key.binding() };
    let mut prover = matrix::CpuProver::default();
    let commitment = prover.commit(&challenge, &mut |_| ()).unwrap();
    let nonce = Hash([4; 32]);
    let opening = prover.open(&nonce).unwrap();
    let signature = key.sign_matrix(&challenge, &commitment, &nonce, &opening);
    Joining {
        proof: ProofId::from_bytes([5; 16]),
        gpu,
        challenge,
        commitment,
        nonce,
        opening,
        signed: Some(Signed { key: key.public(), signature }),
        elapsed_millis: 7,
        judged_at: UnixSeconds(1_700_000_000),
        accepted: true,
        finding: Text::lossy("right"),
    }
}

fn check_joining(transcript: &Joining, json: bool) -> (i32, String, String) {
    check(&serde_json::to_value(transcript).unwrap(), json)
}

#[test]
fn a_joining_transcript_is_its_gpus_and_nobody_elses() {
    let honest = joining(1, 2);
    let (code, out, err) = check_joining(&honest, false);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(
        out.starts_with("The matrix proof of gpu_") && out.contains("is signed by this GPU's key"),
        "{out}"
    );
    assert!(out.contains("524288 exact int8 multiply-adds") && out.contains("6 rows"), "{out}");
    let verdict: Value = serde_json::from_str(&check_joining(&honest, true).1).unwrap();
    assert_eq!((&verdict["kind"], &verdict["signed"]), (&"matrix".into(), &true.into()));

    // Signed by another key, another machine's, of another GPU, and each part touched.
    type Touch = fn(&mut Joining);
    let touches: [(Touch, &str); 10] = [
        (
            |t| t.signed.as_mut().unwrap().signature = joining(9, 2).signed.unwrap().signature,
            "wrong_signature",
        ),
        (|t| t.signed = joining(9, 2).signed, "wrong_binding"),
        (|t| t.signed.as_mut().unwrap().key.0.0[31] ^= 1, "wrong_binding"),
        (|t| t.gpu = GpuId::from_bytes([9; 16]), "wrong_binding"),
        (|t| t.challenge.beacon.0[0] ^= 1, "wrong_signature"),
        (|t| t.challenge.params.rows ^= 1, "wrong_signature"),
        (|t| t.nonce.0[5] ^= 1, "wrong_signature"),
        (|t| t.commitment.roots[1].0[9] ^= 1, "wrong_signature"),
        (|t| t.opening.steps[0].y[3] ^= 1, "wrong_signature"),
        (|t| t.opening.steps[1].paths.swap(0, 1), "wrong_signature"),
    ];
    for (n, (touch, reason)) in touches.into_iter().enumerate() {
        let mut touched = joining(1, 2);
        touch(&mut touched);
        let (code, out, err) = check_joining(&touched, false);
        assert_eq!((code, out.as_str()), (1, ""), "{n}: {err}");
        assert!(err.starts_with("error: the matrix proof of gpu_") && err.contains(reason), "{n}: {err}");
    }

    // Signed by the right key, and false.
    let mut forged = joining(1, 2);
    forged.opening.steps[0].rows[0] ^= 1;
    let signature = GpuKey::derive(&[1; 32], forged.gpu).sign_matrix(
        &forged.challenge,
        &forged.commitment,
        &forged.nonce,
        &forged.opening,
    );
    forged.signed.as_mut().unwrap().signature = signature;
    let (code, _, err) = check_joining(&forged, false);
    assert!(code == 1 && err.contains("row_not_committed"), "{err}");

    // Half a signature cannot be read. One without any is judged by its bits, as those of older books are, and told for what
    // it is.
    let mut half = serde_json::to_value(&honest).unwrap();
    half["signed"].as_object_mut().unwrap().remove("signature");
    let (code, _, err) = check(&half, false);
    assert!(code == 2 && err.contains("missing field `signature`"), "{err}");
    let old = Joining { signed: None, ..joining(1, 2) };
    assert!(!serde_json::to_string(&old).unwrap().contains("signed"), "it is written as it was");
    let (code, out, _) = check_joining(&old, false);
    assert!(
        code == 0 && out.contains("it carries no signature, so whose it is, is the network's word"),
        "{out}"
    );
    let verdict: Value = serde_json::from_str(&check_joining(&old, true).1).unwrap();
    assert_eq!((&verdict["holds"], &verdict["signed"]), (&true.into(), &false.into()));
}

fn check(transcript: &Value, json: bool) -> (i32, String, String) {
    check_file(&serde_json::to_vec(transcript).unwrap(), json)
}

fn check_file(bytes: &[u8], json: bool) -> (i32, String, String) {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("proof.json");
    std::fs::write(&file, bytes).unwrap();
    let mut args = vec!["verify", "proof", file.to_str().unwrap()];
    if json {
        args.push("--json");
    }
    told(&run(state.path(), &args))
}

#[test]
fn a_transcript_in_a_file_is_judged_offline() {
    let honest = transcript();
    let (code, out, err) = check(&honest, false);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(
        out.contains("holds and is signed by this GPU's key") && out.contains("65536 bytes of memory"),
        "{out}"
    );
    assert!(out.contains("262144 exact int8 multiply-adds"), "{out}");

    let (code, out, _) = check(&honest, true);
    let verdict: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &verdict["holds"], &verdict["reads"]), (0, &true.into(), &4096.into()), "{out}");

    // As a network hands it out, beside what it says of it.
    let wrapped = serde_json::json!({ "elapsed_millis": 7, "transcript": honest });
    assert_eq!(check(&wrapped, false).0, 0);

    // As an editor of another system saves it.
    let saved = format!("\u{feff}{}", serde_json::to_string_pretty(&honest).unwrap().replace('\n', "\r\n"));
    assert_eq!(check_file(saved.as_bytes(), false).0, 0);
}

#[test]
fn a_transcript_that_was_touched_is_refused_with_the_reason() {
    type Touch = fn(&mut Value);
    let touches: [(Touch, &str); 5] = [
        (|t| t["nonce"] = Hash([5; 32]).to_string().into(), "wrong_signature"),
        (|t| t["gpu"] = GpuId::from_bytes([9; 16]).to_string().into(), "wrong_binding"),
        (|t| t["format"] = "gangline epoch proof 9".into(), "unknown_format"),
        (|t| t["key"] = Hash([0; 32]).to_string().into(), "wrong_binding"),
        (|t| t["commitment"]["alu"] = Hash([6; 32]).to_string().into(), "wrong_signature"),
    ];
    for (touch, reason) in touches {
        let mut touched = transcript();
        touch(&mut touched);
        let (code, out, err) = check(&touched, false);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(err.starts_with("error: the epoch proof of gpu_") && err.contains(reason), "{err}");
        let (code, out, _) = check(&touched, true);
        let verdict: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &verdict["holds"], &verdict["code"]), (1, &false.into(), &reason.into()));
    }
}

#[test]
fn what_is_no_transcript_is_bad_usage() {
    let mut extra = transcript();
    extra["elapsed_millis"] = 1.into();
    let mut endless = transcript();
    endless["challenge"]["params"]["memory"]["blocks"] = u32::MAX.into();
    for (not, expected) in [
        (extra, "error: this cannot be read as a transcript: unknown field `elapsed_millis`"),
        (endless, "error: this cannot be read as a transcript: memory blocks is 4294967295"),
        (serde_json::json!({}), "cannot be read as a transcript"),
        (serde_json::json!([1]), "cannot be read as a transcript"),
    ] {
        let (code, out, err) = check(&not, false);
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert!(err.contains(expected) && err.contains("hint: download one"), "{err}");
    }
    let state = tempfile::tempdir().unwrap();
    for (args, expected) in [
        (&["verify", "proof", "/nowhere/proof.json"][..], "could not read /nowhere/proof.json"),
        (&["verify", "proof", "x", "--from", "http://127.0.0.1:1"], "x is no id of a proof"),
        (&["verify", "proof"], "required"),
        (&["verify"], "required"),
    ] {
        let (code, out, err) = told(&run(state.path(), args));
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert!(err.contains(expected), "{err}");
    }
}
