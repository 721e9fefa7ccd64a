//! `verify`: anyone's check agrees with the network, and with a copy in which one share was changed it
//! does not.

use std::{sync::atomic::Ordering, time::Duration};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::demo::{tamper::Tamper, world::World};

pub async fn run(world: &mut World) -> anyhow::Result<String> {
    let within = Duration::from_secs(120);
    let report = world.folder.join("verify.json");
    let args = ["verify", &world.origin, "--report"].map(std::ffi::OsString::from);
    let honest =
        world.run("verify", args.into_iter().chain([report.clone().into_os_string()]), within).await?;
    let honest = honest.good("gangline verify")?;
    let text = std::fs::read(&report).with_context(|| format!("could not read {}", report.display()))?;
    let found: Value = serde_json::from_slice(&text)?;
    ensure!(found["agrees"] == true, "it ended well and does not agree");
    let count = |name: &str| found["checked"][name].as_u64().unwrap_or(0);
    ensure!(
        count("proofs") > 0 && count("snapshots") > 0 && count("entries") > 0,
        "it checked nothing: {}",
        found["checked"]
    );
    world.narrator.say(&honest.lines.last().map(|(_, line)| line.clone()).unwrap_or_default());

    let period = world
        .snapshots
        .iter()
        .rev()
        .find(|head| head.gpus > 0)
        .context("no snapshot has a GPU in it")?
        .period;
    let tamper = Tamper::start(&world.origin, period).await?;
    let url = format!("http://{}", tamper.address);
    world.narrator.say(&format!(
        "Now through a man in the middle who adds a millionth of a credit to one share of period {period}."
    ));
    let changed = world.run("verify-tampered", ["verify", &url, "--proofs", "newest"], within).await?;
    ensure!(tamper.changed.load(Ordering::Relaxed) > 0, "nobody asked for the snapshot of period {period}");
    ensure!(
        changed.code == Some(1),
        "with a changed share it ended with {:?}: {}",
        changed.code,
        changed.words()
    );
    let told = changed.tail.iter().find(|line| line.starts_with("error:")).cloned().unwrap_or_default();
    ensure!(told.contains(&format!("snapshot {period} ")), "it did not name snapshot {period}: {told}");
    let names = told.split(": ").nth(2).unwrap_or(&told).to_owned();
    Ok(format!(
        "{} proofs, {} minutes and {} snapshots recomputed from public data agree (exit code 0); with one share changed by a millionth: exit code 1, \"{names}\"",
        count("proofs"),
        count("minutes"),
        count("snapshots")
    ))
}
