//! A second verifier, in another language and written from `docs/PROOF.md` alone, agrees with this one: the
//! specification suffices. Needs the Python environment that `cargo xtask test --only proof` makes.

use std::{
    ops::ControlFlow,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use gangline_proof::{
    MatrixParams, Signed,
    epoch::{ChainParams, Challenge, CpuProver, GpuKey, MemoryParams, Params, Prover, Transcript},
};
use gangline_types::{GpuId, Hash};

const REGIONS: MemoryParams = MemoryParams { regions: 2, stay: 2, ..MemoryParams::whole(2048, 8) };

fn transcript(memory: MemoryParams, matrix: Option<MatrixParams>) -> Transcript {
    let gpu = GpuId::from_bytes([0x5a; 16]);
    let key = GpuKey::derive(&[1; 32], gpu);
    let params = Params {
        memory,
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

/// What the second verifier says of a transcript.
fn second(transcript: &impl serde::Serialize) -> bool {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let python = std::env::var_os("GANGLINE_SECOND_VERIFIER_PYTHON")
        .expect("GANGLINE_SECOND_VERIFIER_PYTHON names no Python; run `cargo xtask test --only proof`");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/heavy_proof_second_verifier/verify.py");
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("gangline-second-verifier-{}-{number}.json", std::process::id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, serde_json::to_vec(transcript).expect("JSON")).expect("a file");
    let output = Command::new(python).arg(script).arg(&file).output().expect("the second verifier");
    std::fs::remove_file(&file).expect("the file");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() || said.contains("does not hold: "),
        "the second verifier broke down: {said}"
    );
    output.status.success()
}

/// Both verifiers' verdicts.
fn judged(transcript: &Transcript) -> (bool, bool) {
    (transcript.check().is_ok(), second(transcript))
}

/// A joining proof as it is published, as far as it is verified.
#[derive(Clone, serde::Serialize)]
struct Joining {
    gpu: GpuId,
    challenge: gangline_proof::Challenge,
    commitment: gangline_proof::Commitment,
    nonce: Hash,
    opening: gangline_proof::Opening,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed: Option<Signed>,
}

impl Joining {
    fn new(params: MatrixParams) -> Self {
        use gangline_proof::Prover as _;
        let gpu = GpuId::from_bytes([0x5a; 16]);
        let key = GpuKey::derive(&[1; 32], gpu);
        let challenge = gangline_proof::Challenge { params, beacon: Hash([3; 32]), binding: key.binding() };
        let mut prover = gangline_proof::CpuProver::default();
        let commitment = prover.commit(&challenge, &mut |_| ()).expect("the work");
        let nonce = Hash([4; 32]);
        let opening = prover.open(&nonce).expect("the opening");
        let signature = key.sign_matrix(&challenge, &commitment, &nonce, &opening);
        let signed = Some(Signed { key: key.public(), signature });
        Self { gpu, challenge, commitment, nonce, opening, signed }
    }

    /// Both verifiers' verdicts.
    fn judged(&self) -> (bool, bool) {
        let Self { gpu, challenge, commitment, nonce, opening, signed } = self;
        let by =
            signed.as_ref().is_none_or(|by| by.check(*gpu, challenge, commitment, nonce, opening).is_ok());
        (by && gangline_proof::verify(challenge, commitment, nonce, opening).is_ok(), second(self))
    }
}

#[test]
fn a_second_verifier_agrees_on_joining_proofs() {
    let honest = Joining::new(MatrixParams { n: 128, steps: 3, rows: 4 });
    assert_eq!(honest.judged(), (true, true));
    assert_eq!(Joining { signed: None, ..honest.clone() }.judged(), (true, true));
    type Touch = fn(&mut Joining);
    let touches: [(Touch, bool); 7] = [
        (|t| t.nonce.0[7] ^= 1, false),
        (|t| t.commitment.roots[1].0[0] ^= 1, false),
        (|t| t.opening.steps[2].y[5] ^= 1, false),
        (|t| t.opening.steps[0].rows[9] ^= 1, false),
        (|t| t.challenge.beacon.0[1] ^= 1, false),
        // Without a signature nothing says whose it is.
        (|t| t.gpu = GpuId::from_bytes([0x5b; 16]), true),
        (|t| t.signed.as_mut().expect("it is signed").key.0.0[3] ^= 1, true),
    ];
    for (touch, without) in touches {
        let mut touched = honest.clone();
        touch(&mut touched);
        assert_eq!(touched.judged(), (false, false));
        let touched = Joining { signed: None, ..touched };
        assert_eq!(touched.judged(), (without, without));
    }
}

#[test]
fn a_second_verifier_agrees() {
    let matrix = Some(MatrixParams { n: 64, steps: 2, rows: 3 });
    for (memory, matrix) in [(MemoryParams::whole(1024, 8), None), (REGIONS, None), (REGIONS, matrix)] {
        let honest = transcript(memory, matrix);
        assert_eq!(judged(&honest), (true, true));
        type Touch = fn(&mut Transcript);
        let touches: [Touch; 7] = [
            |t| t.nonce.0[7] ^= 1,
            |t| t.commitment.last_walk.0[0] ^= 1,
            |t| t.opening.walk.states[5] ^= 1,
            |t| t.opening.alu.paths[3].0[9] ^= 1,
            |t| t.challenge.beacon.0[1] ^= 1,
            |t| t.challenge.params.memory.stay ^= 6,
            |t| t.gpu = GpuId::from_bytes([0x5b; 16]),
        ];
        for touch in touches {
            let mut touched = honest.clone();
            touch(&mut touched);
            assert_eq!(judged(&touched), (false, false));
        }
    }
    // A row of large matrices has leaves of several chunks, and a tree that is deeper.
    let large = Some(MatrixParams { n: 512, steps: 2, rows: 2 });
    assert_eq!(judged(&transcript(REGIONS, large)), (true, true));
}
