//! `restart`: the server is killed with SIGKILL while beats come in. What it acknowledged is there when it
//! is back, machines come back by themselves, and what was refused before is refused still.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use gangline_types::{GpuId, Minute, Text};
use gangline_wire::{
    api::machine::{BeatReport, MinuteBeat},
    endpoints::Beats,
};
use gangline_worker::client::{Client, ClientError, now};
use nix::sys::signal::Signal;

use super::{attack, serve};
use crate::demo::world::{Machine, World, until};
use crate::stage::http1;

/// Late minutes a machine may still hand in, so many at most here: six hours less a margin.
const LATE_MINUTES: u32 = 340;
/// Acknowledged before the kill.
const ACKNOWLEDGED_MIN: usize = 40;

/// Between tries while the machine's requests are too many: its attacks before this may have used up its share.
const PAUSE: Duration = Duration::from_millis(250);

/// Hands in one late minute after another until the server is gone; gives those it acknowledged. A refusal is an
/// answer of a server that is there: one that passes is waited for, any other is the outcome.
async fn beat_until_gone(
    client: Client,
    gpu: GpuId,
    acknowledged: tokio::sync::watch::Sender<Vec<Minute>>,
) -> Result<(), ClientError> {
    let newest = now().seconds().minute().0;
    for minute in (newest.saturating_sub(LATE_MINUTES)..newest).map(Minute) {
        let beats = vec![MinuteBeat { minute, gpus: vec![gpu] }];
        let report = BeatReport { beats, worker_version: Text::lossy(env!("CARGO_PKG_VERSION")) };
        loop {
            match client.call::<Beats>(&[], &Default::default(), &report).await {
                Ok(receipt) if receipt.refused.is_empty() => {
                    acknowledged.send_modify(|known| known.push(minute))
                }
                Ok(_) => {}
                Err(refusal @ ClientError::Refused { .. }) if refusal.is_passing() => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(refusal @ ClientError::Refused { .. }) => return Err(refusal),
                Err(_) => return Ok(()),
            }
            break;
        }
    }
    Ok(())
}

async fn newest_beat(world: &World, machine: &Machine) -> anyhow::Result<(u64, String)> {
    let status = world.status(machine).await?;
    let minute = status["status"]["beat_acknowledged"].as_u64().unwrap_or(0);
    Ok((minute, status["status"]["connection"]["is"].as_str().unwrap_or_default().to_owned()))
}

pub async fn run(world: &mut World) -> anyhow::Result<String> {
    // The attacker's own machine may beat like any other; its GPU is the one that hands in late minutes.
    let beater = match &world.mallory {
        Some(machine) if !machine.gpus.is_empty() => machine,
        _ => world.machines.last().context("no machine joined")?,
    };
    let gpu = *beater.gpus.first().context("no GPU joined")?;
    let client = Client::new(&world.origin, Some(beater.key()?))?;
    let mut before: Vec<(GpuId, Vec<Minute>)> = Vec::new();
    for gpu in world.their_gpus() {
        before.push((gpu, world.minutes(gpu).await?));
    }
    let mut newest_before = Vec::new();
    for machine in &world.machines {
        newest_before.push(newest_beat(world, machine).await?.0);
    }
    let snapshots = world.public_snapshots().await?;

    // A copy that is not too old to be told by its age alone.
    if world.stolen.is_some() {
        world.stolen = Some(attack::steal(world).await?);
    }
    let (told, mut seen) = tokio::sync::watch::channel(Vec::new());
    let beating = tokio::spawn(beat_until_gone(client, gpu, told));
    let enough = seen.wait_for(|known| known.len() >= ACKNOWLEDGED_MIN);
    let enough = tokio::time::timeout(Duration::from_secs(60), enough).await;
    let Ok(count) = enough.context("too few beats were acknowledged")?.map(|known| known.len()) else {
        beating.await.context("the beats broke off")?.context("a beat was refused")?;
        bail!("the beats ended before {ACKNOWLEDGED_MIN} of them were acknowledged");
    };
    let mut server = world.server.take().context("no server runs")?;
    let killed = Instant::now();
    server.signal(Signal::SIGKILL);
    server.wait(Duration::from_secs(5)).await?;
    beating.await.context("the beats broke off")?.context("a beat was refused")?;
    let acknowledged = seen.borrow().clone();
    world.narrator.say(&format!("The server was killed with SIGKILL after {count} beats, with more on their way: {} were acknowledged in all.", acknowledged.len()));

    let (origin, authority) = (world.origin.clone(), world.authority().to_owned());
    let (server, line) = serve::start(world, &authority).await.context("the server did not come back")?;
    world.server = Some(server);
    let back = killed.elapsed().as_secs_f64();
    ensure!(line["origin"] == origin.as_str(), "the server came back at another address");
    ensure!(line["operator_link"].is_null(), "the server printed another operator link by itself");

    // Acknowledged is on disk; from the journal it comes into the books, and from there before the public.
    until(Duration::from_secs(60), || async {
        let public = world.minutes(gpu).await?;
        let lost = acknowledged.iter().filter(|minute| !public.contains(minute)).count();
        ensure!(lost == 0, "{lost} of {} acknowledged beats are not there", acknowledged.len());
        Ok(())
    })
    .await?;
    for (gpu, minutes) in &before {
        let after = world.minutes(*gpu).await?;
        ensure!(minutes.iter().all(|minute| after.contains(minute)), "{gpu} lost a minute that was public");
    }
    let after = world.public_snapshots().await?;
    ensure!(after.starts_with(&snapshots), "the snapshots are not those of before");

    for who in ["operator", "ada", "rae"] {
        let console = world.browser(who)?.get("/console").await?;
        ensure!(console.status == 200, "{who} is not signed in any more: {}", console.status);
    }
    let mut args: Vec<std::ffi::OsString> = vec!["rent".into(), "--data".into(), world.rent_data().into()];
    args.push("whoami".into());
    if world.rent_data().join("login.toml").exists() {
        world
            .run("rent-whoami", args, Duration::from_secs(30))
            .await?
            .good("rent whoami after the restart")?;
    }
    let replayed = match &world.stolen {
        Some(stolen) => {
            let answer = http1::send(&authority, &stolen.bytes).await?;
            ensure!(
                attack::is_replayed(&answer),
                "the stolen request is answered {} after the restart",
                answer.words()
            );
            format!("the stolen request is still refused ({})", answer.words())
        }
        None => "no request was stolen".to_owned(),
    };
    world.narrator.say(
        "Every acknowledged beat is there, sessions and keys work; now the workers come back by themselves.",
    );

    let mut back_again: f64 = 0.0;
    for (machine, before) in world.machines.iter().zip(&newest_before) {
        world.narrator.waiting(&format!("waiting until {}'s machine beats again", machine.owner));
        until(Duration::from_secs(120), || async {
            let (newest, connection) = newest_beat(world, machine).await?;
            ensure!(connection == "connected", "{}'s worker is {connection}", machine.owner);
            ensure!(newest > *before, "{}'s worker has not beaten since the restart", machine.owner);
            Ok(())
        })
        .await?;
        back_again = back_again.max(killed.elapsed().as_secs_f64());
    }
    Ok(format!(
        "killed with SIGKILL under beats, back after {back:.1} s with all of {} just acknowledged beats, every minute that was public, {} snapshots, and all sessions and keys; both workers beat again {back_again:.0} s after the kill, by themselves; {replayed}",
        acknowledged.len(),
        snapshots.len()
    ))
}
