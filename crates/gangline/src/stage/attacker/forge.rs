//! A false claim: a software device that calls itself an RTX 4090, and answers every challenge as well as
//! it can. Its proofs are right, and too slow for what it says it is.

use anyhow::{Context, ensure};
use gangline_proof::{MatrixParams, Prover, ProverError, gpu::GpuProver};
use gangline_types::{GpuId, Hash, Standing};
use gangline_wire::{
    api::proof::{CommitRequest, OpenRequest, ProofRequest},
    endpoints::{ProofBegin, ProofCommit, ProofOpen},
};
use gangline_worker::client::ClientError;
use serde_json::{Value, json};

use super::Mallory;

/// The model that is claimed.
const MODEL: &str = "NVIDIA GeForce RTX 4090";

/// The attacker's one slot.
pub fn slot(m: &Mallory) -> Hash {
    Hash(blake3::derive_key("gangline demo attacker's slot", m.key.public().as_bytes()))
}

/// An inventory with one adapter that is said to be this.
pub fn inventory(m: &Mallory, model: &str, kind: &str) -> Value {
    json!({
        "host": {"name": "mallory", "os": "Debian", "kernel": "6", "cpu": "a processor", "cores": 2, "memory_bytes": 1u64 << 33, "disks": [], "nvidia_driver": null},
        "gpus": [{"slot": slot(m), "model": model, "kind": kind, "backend": "vulkan", "driver": "550.54", "pci_vendor": 4318, "pci_device": 9860, "memory_bytes": 24u64 << 30}],
        "worker_version": "0", "isolation": [],
    })
}

/// Whether an answer came after its minute, as may be on a machine that is loaded: that proof is missed, and the next is asked for.
fn is_late<T>(answer: &Result<T, ClientError>) -> bool {
    answer.as_ref().is_err_and(|error| matches!(error.code(), Some("late" | "already_judged")))
}

pub async fn run(m: &Mallory) -> anyhow::Result<()> {
    let answer = m.signed_json("PUT", "/api/v1/machine/inventory", &inventory(m, MODEL, "discrete")).await?;
    ensure!(answer.status == 200, "the false inventory is answered {}", answer.words());
    let gpu: GpuId = answer.json()["gpus"][0]["gpu"].as_str().context("no GPU was registered")?.parse()?;
    // The fastest this machine has: cheating by slowness would show nothing.
    let opened = tokio::task::spawn_blocking(|| {
        let mut prover = GpuProver::open(0)?;
        prover.warm_up(&MatrixParams::JOINING)?;
        Ok::<_, ProverError>(prover)
    });
    let mut prover = opened.await??;
    let device = prover.adapter().name.clone();
    for _ in 0..6 {
        let asked = ProofRequest { gpus: vec![gpu], keys: vec![] };
        let begun = m.client.call::<ProofBegin>(&[], &Default::default(), &asked).await?;
        let given = begun.challenges.into_iter().next().context("no challenge came")?;
        let challenge = given.challenge;
        let made = tokio::task::spawn_blocking(move || {
            let commitment = prover.commit(&challenge, &mut |_| {})?;
            Ok::<_, ProverError>((prover, commitment))
        });
        let (mut back, commitment) = made.await??;
        let roots = CommitRequest { commitment };
        let committed = m.client.call::<ProofCommit>(&[&given.proof], &Default::default(), &roots).await;
        if is_late(&committed) {
            prover = back;
            continue;
        }
        let receipt = committed?;
        let opened = tokio::task::spawn_blocking(move || {
            let opening = back.open(&receipt.nonce)?;
            Ok::<_, ProverError>((back, opening))
        });
        let (back, opening) = opened.await??;
        prover = back;
        let open = OpenRequest { opening, signature: None };
        let opened = m.client.call::<ProofOpen>(&[&given.proof], &Default::default(), &open).await;
        if is_late(&opened) {
            continue;
        }
        let verdict = opened?;
        if !verdict.again {
            let by = format!("{}: {}", verdict.standing, verdict.reason);
            m.tell_of(
                format!("claims that its {device} is an {MODEL}, and proves it honestly"),
                verdict.standing == Standing::Suspect,
                by,
                Some(gpu),
            );
            return Ok(());
        }
    }
    m.tell_of(
        format!("claims that its {device} is an {MODEL}"),
        false,
        "the network never judged it",
        Some(gpu),
    );
    Ok(())
}
