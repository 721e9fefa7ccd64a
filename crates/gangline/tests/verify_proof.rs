//! `verify proof`: a transcript in a file, judged without asking anybody.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod common;

use std::ops::ControlFlow;

use common::{run, told};
use gangline_proof::{
    MatrixParams,
    epoch::{ChainParams, Challenge, CpuProver, GpuKey, MemoryParams, Params, Prover, Transcript},
};
use gangline_types::{GpuId, Hash};
use serde_json::Value;

fn transcript() -> Value {
    let gpu = GpuId::from_bytes([2; 16]);
    let key = GpuKey::derive(&[1; 32], gpu);
    let chain = ChainParams { units: 64, segments: 2, steps: 16, opened: 8 };
    let params = Params {
        memory: MemoryParams { blocks: 1024, rounds: 8 },
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

fn check(transcript: &Value, json: bool) -> (i32, String, String) {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("proof.json");
    std::fs::write(&file, serde_json::to_vec(transcript).unwrap()).unwrap();
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
    for (not, expected) in [
        (extra, "unknown field `elapsed_millis`"),
        (serde_json::json!({}), "cannot be read as a transcript"),
        (serde_json::json!([1]), "cannot be read as a transcript"),
    ] {
        let (code, out, err) = check(&not, false);
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert!(err.contains(expected), "{err}");
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
