//! A second verifier, in another language and written from `docs/PROOF.md` alone, agrees with this one: the
//! specification suffices. Needs the Python environment that `cargo xtask test --only proof` makes.

use std::{ops::ControlFlow, path::Path, process::Command};

use gangline_proof::{
    MatrixParams,
    epoch::{ChainParams, Challenge, CpuProver, GpuKey, MemoryParams, Params, Prover, Transcript},
};
use gangline_types::{GpuId, Hash};

fn transcript(matrix: Option<MatrixParams>) -> Transcript {
    let gpu = GpuId::from_bytes([0x5a; 16]);
    let key = GpuKey::derive(&[1; 32], gpu);
    let params = Params {
        memory: MemoryParams { blocks: 1024, rounds: 8 },
        walk: ChainParams { units: 192, segments: 2, steps: 16, opened: 9 },
        alu: ChainParams { units: 64, segments: 3, steps: 5, opened: 7 },
        matrix,
    };
    let challenge = Challenge {
        params: params.check().expect("within limits"),
        beacon: Hash([3; 32]),
        binding: key.binding(),
    };
    let mut prover = CpuProver::new();
    let commitment = prover.commit(&challenge, &mut |_| ControlFlow::Continue(())).expect("the work");
    let nonce = Hash([4; 32]);
    let opening = prover.open(&nonce).expect("the opening");
    let signature = key.sign(&challenge, &commitment, &nonce, &opening);
    Transcript::new(gpu, key.public(), challenge, commitment, nonce, opening, signature)
}

/// Both verifiers' verdicts.
fn judged(transcript: &Transcript) -> (bool, bool) {
    let python = std::env::var_os("GANGLINE_SECOND_VERIFIER_PYTHON")
        .expect("GANGLINE_SECOND_VERIFIER_PYTHON names no Python; run `cargo xtask test --only proof`");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/heavy_proof_second_verifier/verify.py");
    let file = std::env::temp_dir().join(format!("gangline-second-verifier-{}.json", std::process::id()));
    std::fs::write(&file, serde_json::to_vec(transcript).expect("JSON")).expect("a file");
    let output = Command::new(python).arg(script).arg(&file).output().expect("the second verifier");
    std::fs::remove_file(&file).expect("the file");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() || said.contains("does not hold: "),
        "the second verifier broke down: {said}"
    );
    (transcript.check().is_ok(), output.status.success())
}

#[test]
fn a_second_verifier_agrees() {
    for matrix in [None, Some(MatrixParams { n: 64, steps: 2, rows: 3 })] {
        let honest = transcript(matrix);
        assert_eq!(judged(&honest), (true, true));
        type Touch = fn(&mut Transcript);
        let touches: [Touch; 6] = [
            |t| t.nonce.0[7] ^= 1,
            |t| t.commitment.last_walk.0[0] ^= 1,
            |t| t.opening.walk.states[5] ^= 1,
            |t| t.opening.alu.paths[3].0[9] ^= 1,
            |t| t.challenge.beacon.0[1] ^= 1,
            |t| t.gpu = GpuId::from_bytes([0x5b; 16]),
        ];
        for touch in touches {
            let mut touched = honest.clone();
            touch(&mut touched);
            assert_eq!(judged(&touched), (false, false));
        }
    }
}
