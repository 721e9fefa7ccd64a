//! Measures epoch proofs: seconds of each part on the processor and on every adapter, processor seconds of the
//! verifier with and without a matrix chain, bytes of the transcript.
//!
//! `cargo run -p gangline-proof --features gpu --example measure_epoch [-- --report FILE] [--verify-only]`
//!
//! The verifier's figures are processor time of the thread that verifies (from the kernel's own count, where there
//! is one), so a busy machine does not change them much; the provers' are by the clock.

use std::{collections::BTreeMap, ops::ControlFlow, time::Instant};

use gangline_proof::{
    MatrixParams,
    epoch::{Challenge, CpuProver, GpuKey, Params, Part, Progress, Prover, Transcript, verify},
    gpu::{EpochProver, adapters},
};
use gangline_types::{GpuId, Hash};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let report = arguments.iter().position(|a| a == "--report").and_then(|i| arguments.get(i + 1));
    let only = arguments.iter().any(|a| a == "--verify-only");
    let mut rows: Vec<Value> = Vec::new();
    let row = |name: &str, value: f64, goal: f64| {
        println!("{name}: {value:.4} (goal: at most {goal})");
        json!({"name": name, "value": value, "goal": goal, "ok": value <= goal})
    };

    let plain = Params::SOFTWARE;
    let large = plain.with_matrix(MatrixParams { n: 4096, steps: 1, rows: 24 });
    let joining = plain.with_matrix(Params::MATRIX);
    // What a GPU of 192 GB is asked, over less memory: the verifier does not notice.
    let asked = Params::of_gpu(192 << 30);
    let mut of_gpu = asked;
    (of_gpu.memory.blocks, of_gpu.walk.units) = (of_gpu.memory.regions * 2048, 64);
    (of_gpu.alu.units, of_gpu.alu.segments) = (1024, 2);
    let mut bytes_most = 0;
    let sizes = [
        ("verify_cpu_s", plain, 0.1),
        ("verify_cpu_192_gb_s", of_gpu, 0.1),
        ("verify_cpu_matrix_s", large, 0.5),
        ("verify_cpu_joining_s", joining, 0.5),
    ];
    for (name, params, goal) in sizes {
        let transcript = prove(name, &mut CpuProver::new(), params)?;
        let text = serde_json::to_vec(&transcript)?;
        bytes_most = bytes_most.max(text.len());
        rows.push(row(name, verifying(&transcript)?, goal));
        println!("  transcript of {} bytes", text.len());
        if name == "verify_cpu_s" {
            let seconds = rows.last().and_then(|row| row["value"].as_f64()).unwrap_or_default();
            println!("  600,000 of these an hour take {:.1} cores", seconds * 600_000.0 / 3600.0);
        }
    }
    bytes_most = bytes_most.max(asked.with_matrices().transcript_bytes() as usize);
    rows.push(row("transcript_bytes", bytes_most as f64, 1_200_000.0));

    let mut most_seconds: f64 = 0.0;
    for adapter in adapters().into_iter().filter(|_| !only) {
        println!("{adapter:?}");
        let mut prover = EpochProver::open(adapter.index)?;
        let clock = Instant::now();
        let route = prover.choose_route(&mut || clock.elapsed().as_micros() as u64)?;
        println!("  matrices by {route:?}");
        for params in [plain, joining] {
            let start = Instant::now();
            prove(&adapter.name, &mut prover, params)?;
            // One epoch an hour; opening and warm-up count as well.
            most_seconds = most_seconds.max(start.elapsed().as_secs_f64());
        }
    }
    if !only {
        rows.push(row("gpu_seconds_per_hour", most_seconds, 10.0));
    }
    if let Some(path) = report {
        std::fs::write(path, serde_json::to_vec_pretty(&json!({ "rows": rows }))?)?;
    }
    Ok(())
}

fn prove(name: &str, prover: &mut dyn Prover, params: Params) -> Result<Transcript, Failure> {
    let gpu = GpuId::from_bytes([2; 16]);
    let key = GpuKey::derive(&[1; 32], gpu);
    let challenge = Challenge {
        params: params.check()?,
        beacon: blake3::hash(b"measure").into(),
        binding: key.binding(),
    };
    let start = Instant::now();
    prover.warm_up(&params, &mut |_| ControlFlow::Continue(()))?;
    let warm_up = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let mut begun: BTreeMap<Part, f64> = BTreeMap::new();
    let commitment = prover.commit(&challenge, &mut |progress: Progress| {
        begun.entry(progress.part).or_insert_with(|| start.elapsed().as_secs_f64());
        ControlFlow::Continue(())
    })?;
    let commit = start.elapsed().as_secs_f64();
    let nonce: Hash = blake3::hash(b"nonce").into();
    let start = Instant::now();
    let opening = prover.open(&nonce)?;
    let open = start.elapsed().as_secs_f64();
    let ends: Vec<f64> = begun.values().skip(1).copied().chain([commit]).collect();
    let parts: Vec<String> = begun
        .iter()
        .zip(ends)
        .map(|((part, from), to)| format!("{} {:.3}", part.name(), to - from))
        .collect();
    println!("{name}: warm-up {warm_up:.2} s, commit {commit:.3} s ({}), open {open:.3} s", parts.join(", "));
    let signature = key.sign(&challenge, &commitment, &nonce, &opening);
    Ok(Transcript::new(gpu, key.public(), challenge, commitment, nonce, opening, signature))
}

/// Processor seconds of one verification, the mean of ten.
fn verifying(transcript: &Transcript) -> Result<f64, Failure> {
    const TIMES: u32 = 10;
    let (clock, before) = (Instant::now(), on_processor());
    for _ in 0..TIMES {
        verify(&transcript.challenge, &transcript.commitment, &transcript.nonce, &transcript.opening)?;
    }
    let seconds = match (before, on_processor()) {
        (Some(before), Some(after)) => after - before,
        _ => clock.elapsed().as_secs_f64(),
    };
    Ok(seconds / f64::from(TIMES))
}

/// Seconds this thread has been on a processor, where the kernel tells.
fn on_processor() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}
