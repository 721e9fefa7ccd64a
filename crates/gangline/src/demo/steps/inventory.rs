//! `inventory`: the workers start, and what they are shown as is what they are.

use std::{ffi::OsString, time::Duration};

use anyhow::{Context, ensure};
use gangline_types::{AdapterKind, GpuId};

use super::join::no_secret_on_a_command_line;
use crate::demo::{
    proc,
    world::{Machine, World, until},
};

/// Starts a machine's worker.
pub fn start(world: &World, machine: &mut Machine) -> anyhow::Result<()> {
    let args: [OsString; 5] =
        ["worker".into(), "--data".into(), machine.data.clone().into(), "--json".into(), "run".into()];
    machine.worker = Some(world.gangline(&format!("{}-worker", machine.owner), args, &machine.env)?);
    Ok(())
}

/// Waits until its GPUs are registered.
pub async fn registered(world: &World, machine: &Machine) -> anyhow::Result<Vec<GpuId>> {
    until(Duration::from_secs(60), || async {
        let status = world.status(machine).await?;
        let gpus = status["status"]["gpus"].as_array().cloned().unwrap_or_default();
        let gpus: Result<Vec<GpuId>, _> =
            gpus.iter().map(|gpu| gpu["gpu"].as_str().unwrap_or_default().parse()).collect();
        let gpus = gpus?;
        ensure!(
            !gpus.is_empty(),
            "{}'s worker has registered no GPU: {}",
            machine.owner,
            status["status"]["problems"]
        );
        Ok(gpus)
    })
    .await
}

pub async fn run(world: &mut World) -> anyhow::Result<String> {
    let mut machines = std::mem::take(&mut world.machines);
    let started = machines.iter_mut().try_for_each(|machine| start(world, machine));
    world.machines = machines;
    started?;
    for at in 0..world.machines.len() {
        let gpus = registered(world, &world.machines[at]).await?;
        world.machines[at].gpus = gpus;
    }
    let mut words = Vec::new();
    for machine in &world.machines {
        let isolation =
            world.status(machine).await?["status"]["isolation"].as_str().unwrap_or("none").to_owned();
        let pid = machine.worker.as_ref().context("the worker runs")?.pid;
        let resident = proc::resident_kib(pid)? as f64 / 1024.0;
        for id in &machine.gpus {
            let gpu = until(Duration::from_secs(15), || async {
                let found = world.gpus().await?.into_iter().find(|gpu| gpu.id == *id);
                found.with_context(|| format!("the explorer does not show {id}"))
            })
            .await?;
            let program = ["llvmpipe", "lavapipe", "swiftshader"];
            let model = gpu.model.as_str().to_ascii_lowercase();
            let is_program = program.iter().any(|name| model.contains(name));
            ensure!(
                !is_program || gpu.kind == AdapterKind::Software,
                "{} is shown as a {}",
                gpu.model,
                gpu.kind.words()
            );
            world.narrator.say(&format!(
                "{}'s machine has {}, a {}; the explorer shows it as that.",
                machine.owner,
                gpu.model,
                gpu.kind.words()
            ));
            words.push(format!("{} of {} is a {}", gpu.model, machine.owner, gpu.kind.words()));
        }
        words.push(format!("sandbox {isolation}, worker {resident:.1} MB resident"));
    }
    let looked = no_secret_on_a_command_line(world)?;
    words.push(format!("{looked} command lines hold no secret"));
    Ok(words.join("; "))
}
