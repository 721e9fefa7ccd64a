//! Measures one proof of the size asked at joining, or `N STEPS ROWS` as arguments: seconds of every
//! prover, processor seconds of the verifier, bytes of the transcript.
//!
//! `cargo run -p gangline-proof --features gpu --example measure [N STEPS ROWS]`

use std::time::Instant;

use gangline_proof::{
    Challenge, CpuProver, MatrixParams, Prover, binding,
    gpu::{GpuProver, adapters},
    verify,
};
use gangline_types::{GpuId, Hash};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let numbers: Vec<u32> = std::env::args().skip(1).map(|a| a.parse()).collect::<Result<_, _>>()?;
    let params = match numbers[..] {
        [] => MatrixParams::JOINING,
        [n, steps, rows] => MatrixParams { n, steps, rows }.check()?,
        _ => return Err("expected nothing, or N STEPS ROWS".into()),
    };
    println!("{params:?}: {:.2} thousand million multiply-adds", params.macs() as f64 / 1e9);
    measure("reference on the processor", &mut CpuProver::new(), params)?;
    for adapter in adapters() {
        println!("{adapter:?}");
        let start = Instant::now();
        let mut prover = GpuProver::open(adapter.index)?;
        println!("  open {:.2} s", start.elapsed().as_secs_f64());
        measure(&adapter.name, &mut prover, params)?;
    }
    Ok(())
}

fn measure(name: &str, prover: &mut dyn Prover, params: MatrixParams) -> Result<(), Failure> {
    let start = Instant::now();
    prover.warm_up(&params)?;
    let warm_up = start.elapsed().as_secs_f64();
    let beacon: Hash = blake3::hash(b"measure").into();
    let challenge = Challenge { params, beacon, binding: binding(&[1; 32], GpuId::from_bytes([2; 16])) };
    let start = Instant::now();
    let commitment = prover.commit(&challenge, &mut |_| {})?;
    let commit = start.elapsed().as_secs_f64();
    let nonce: Hash = blake3::hash(b"nonce").into();
    let start = Instant::now();
    let opening = prover.open(&nonce)?;
    let open = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let shown = verify(&challenge, &commitment, &nonce, &opening)?;
    let check = start.elapsed().as_secs_f64();
    let text = serde_json::to_vec(&opening)?.len() + serde_json::to_vec(&commitment)?.len();
    println!("{name}:");
    println!(
        "  warm-up {warm_up:.2} s, commit {commit:.3} s ({:.2e} multiply-adds/s), open {open:.3} s",
        shown.macs as f64 / commit
    );
    println!(
        "  verify {check:.4} s on one core, opening {} bytes, as JSON with the commitment {text}",
        params.opening_bytes()
    );
    Ok(())
}
