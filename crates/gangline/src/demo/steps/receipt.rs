//! `receipt`: the cluster is given back; what is left is a receipt with two signatures, and nothing else.

use std::{ffi::OsString, time::Duration, time::Instant};

use anyhow::{Context, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use gangline_rules::metering;
use gangline_wire::api::cluster::{ClusterState, ClusterView, SignedReceipt};
use serde_json::Value;

use crate::demo::{
    proc,
    world::{World, until},
};

async fn rent(world: &World, name: &str, words: &[&str]) -> anyhow::Result<Value> {
    let mut args: Vec<OsString> =
        vec!["rent".into(), "--data".into(), world.rent_data().into(), "--json".into()];
    args.extend(words.iter().map(OsString::from));
    world.run(name, args, Duration::from_secs(150)).await?.good(name)?.json()
}

pub async fn run(world: &mut World) -> anyhow::Result<String> {
    let cluster = world.cluster.take().context("no cluster runs")?;
    let id = cluster.id.to_string();
    let machine = world
        .machines
        .iter()
        .find(|machine| machine.gpus.contains(&cluster.gpu))
        .context("the machine is gone")?;
    let place = machine.sandboxes();
    let before = proc::members(&place.prefix).len();
    let mounts_before = proc::mounts(&place.path.display().to_string()).len();
    let began = Instant::now();
    let view: ClusterView = serde_json::from_value(rent(world, "rent release", &["release", &id]).await?)?;
    let released = began.elapsed().as_secs_f64();
    ensure!(view.state == ClusterState::Released, "the cluster is {}", view.state);

    let signed: SignedReceipt = until(Duration::from_secs(30), || async {
        let signed: SignedReceipt =
            serde_json::from_value(rent(world, "rent receipt", &["receipt", &id]).await?)?;
        ensure!(signed.machine_signature.is_some(), "the machine has not signed the receipt");
        Ok(signed)
    })
    .await?;
    let receipt = &signed.receipt;
    let started = receipt.started_at.context("the receipt says that it never ran")?;
    ensure!(receipt.cluster == cluster.id && receipt.gpu == cluster.gpu, "the receipt is for something else");
    ensure!(
        receipt.used.0 == receipt.ended_at.since(started),
        "{} s are charged of {} s",
        receipt.used,
        receipt.ended_at.since(started)
    );
    let due = metering::cost(receipt.price_per_hour, receipt.used.0);
    ensure!(
        receipt.cost == due && view.cost == due && view.used == receipt.used,
        "{} s cost {due}, not {}",
        receipt.used,
        receipt.cost
    );
    let bytes = receipt.signing_bytes();
    let network = STANDARD.decode(&signed.network_signature)?;
    ensure!(signed.network_key.verifies(&bytes, &network), "the network's signature does not verify");
    let machines = STANDARD.decode(signed.machine_signature.as_deref().unwrap_or_default())?;
    ensure!(machine.key()?.public().verifies(&bytes, &machines), "the machine's signature does not verify");

    until(Duration::from_secs(20), || async {
        let (inmates, groups) = (proc::members(&place.prefix), proc::control_groups(&place.prefix));
        let mounts = proc::mounts(&place.path.display().to_string());
        ensure!(inmates.is_empty(), "{} processes of the cluster are left", inmates.len());
        ensure!(groups.is_empty(), "control groups are left: {}", groups.join(", "));
        ensure!(mounts.is_empty(), "mounts are left: {}", mounts.join(", "));
        ensure!(!place.path.exists(), "{} is left", place.path.display());
        Ok(())
    })
    .await?;
    Ok(format!(
        "released within {released:.1} s; {} s at {} an hour cost {}, as metered; the network's and the machine's signature verify; of {before} processes, {mounts_before} mounts, control group and folder nothing is left",
        receipt.used, receipt.price_per_hour, receipt.cost
    ))
}
