//! `prove`: every GPU is proven, and a transcript is verified here, apart from the server.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gangline_types::{Standing, public::PublicGpu};
use gangline_wire::endpoints::{PublicGpuProofs, PublicTranscript};

use crate::demo::world::{World, until};

pub async fn run(world: &mut World) -> anyhow::Result<String> {
    world.narrator.say("Each GPU multiplies matrices grown from a seed nobody could know before, commits, and opens what is asked.");
    let ids = world.their_gpus();
    let mut proven: Vec<PublicGpu> = Vec::new();
    let mut seconds: f64 = 0.0;
    let first_approval =
        world.machines.iter().filter_map(|machine| machine.approved_at).min().unwrap_or_else(Instant::now);
    for id in &ids {
        world.narrator.waiting(&format!("waiting until {id} is proven"));
        let gpu = until(Duration::from_secs(150), || async {
            let gpus = world.gpus().await?;
            let gpu = gpus
                .into_iter()
                .find(|gpu| gpu.id == *id)
                .with_context(|| format!("the explorer lost {id}"))?;
            ensure!(gpu.standing == Standing::Proven, "{id} is {}: {}", gpu.standing, gpu.standing_reason);
            Ok(gpu)
        })
        .await?;
        seconds = seconds.max(first_approval.elapsed().as_secs_f64());
        ensure!(
            gpu.profile.matrix_mmacs > 0 && gpu.profile.memory_bytes > 0,
            "{id} is proven without a profile"
        );
        proven.push(gpu);
    }
    let anyone = world.anyone()?;
    let none = Default::default();
    let mut verified = 0;
    let mut millis = 0.0;
    for gpu in &proven {
        let proofs = anyone.call::<PublicGpuProofs>(&[&gpu.id], &none, &Default::default()).await?;
        let proof = proofs
            .iter()
            .find(|proof| proof.accepted)
            .with_context(|| format!("{} has no accepted proof", gpu.id))?;
        let transcript = anyone.call::<PublicTranscript>(&[&proof.id], &none, &Default::default()).await?;
        ensure!(transcript.gpu == gpu.id, "the transcript of {} is of {}", proof.id, transcript.gpu);
        let began = Instant::now();
        gangline_proof::verify(
            &transcript.challenge,
            &transcript.commitment,
            &transcript.nonce,
            &transcript.opening,
        )
        .with_context(|| format!("the transcript of {} does not verify", proof.id))?;
        millis += began.elapsed().as_secs_f64() * 1000.0;
        verified += 1;
    }
    let rates: Vec<String> = proven
        .iter()
        .map(|gpu| {
            format!("{:.2} thousand million multiply-adds a second", gpu.profile.matrix_mmacs as f64 / 1000.0)
        })
        .collect();
    Ok(format!(
        "{} GPUs proven within {seconds:.1} s of the first approval, at {}; {verified} transcripts verified here in {millis:.0} ms",
        proven.len(),
        rates.join(" and ")
    ))
}
