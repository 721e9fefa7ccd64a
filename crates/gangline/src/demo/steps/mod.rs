//! The steps, in order: what each is called, what it needs, and what happens when one does not hold.

pub mod attack;
mod beat;
mod explore;
mod inventory;
mod job;
mod join;
mod prove;
mod receipt;
pub mod rent;
mod restart;
mod serve;
mod snapshot;
mod verify;

use std::time::{Duration, Instant};

use super::{process, report::Report, world::World};

/// What a step found.
pub struct Found {
    /// In a sentence, with what was measured.
    pub evidence: String,
    /// How long it took by itself, where that is not from its start to its end.
    pub took: Option<Duration>,
}

impl From<String> for Found {
    fn from(evidence: String) -> Self {
        Self { evidence, took: None }
    }
}

/// A step: its name, the steps it needs, and what a newcomer should know of it.
type Step = (&'static str, &'static [&'static str], &'static str);

const STEPS: [Step; 13] = [
    ("serve", &[], "the operator starts the network's server: one process with its database inside"),
    (
        "join",
        &["serve"],
        "two suppliers bring a machine each: its key is made on the spot, and a person approves it in a browser",
    ),
    ("inventory", &["join"], "each machine's worker tells what hardware it has; nothing is paid for a name"),
    (
        "prove",
        &["inventory"],
        "the network does not believe a claim: each GPU must do work that only it could do in that time",
    ),
    (
        "beat",
        &["inventory"],
        "each minute a machine signs a sign of life; acknowledged means written to disk",
    ),
    (
        "snapshot",
        &["prove", "beat"],
        "when a period ends, its budget is shared out by proven speed and uptime",
    ),
    ("verify", &["snapshot"], "anyone recomputes everything from public data, without trusting the operator"),
    ("explore", &["prove"], "anyone looks at the explorer; it must not know whose GPU is whose"),
    (
        "rent",
        &["prove"],
        "a renter logs in, hires a GPU, and gets a sandbox with Ray in it that nobody else can reach",
    ),
    ("job", &["rent"], "the renter runs programs: by our command, and by Ray's own unchanged one"),
    ("receipt", &["rent"], "the renter gives the cluster back: a signed receipt stays, and nothing else"),
    (
        "attack",
        &["prove"],
        "an attacker with an account of its own tries what worked on another network in April 2024",
    ),
    (
        "restart",
        &["prove", "beat"],
        "the server is killed without warning while machines beat, and comes back",
    ),
];

/// Runs every step.
pub async fn all(world: &mut World, report: &mut Report) {
    for (at, (name, needs, what)) in STEPS.into_iter().enumerate() {
        world.narrator.step(at + 1, STEPS.len(), name, what);
        if let Some(missing) = needs.iter().find(|needed| !report.held(needed)) {
            let why = format!("not run: it needs {missing}, which did not hold");
            world.narrator.failed(&why);
            report.add(name, false, Duration::ZERO, why);
            continue;
        }
        let began = Instant::now();
        match one(world, name).await {
            Ok(found) => {
                let took = found.took.unwrap_or_else(|| began.elapsed());
                world.narrator.held(&found.evidence, took);
                report.add(name, true, took, found.evidence);
            }
            Err(error) => {
                let why = crate::problem::lines(&error).join("; ");
                world.narrator.failed(&why);
                logs(world);
                report.add(name, false, began.elapsed(), why);
            }
        }
    }
}

async fn one(world: &mut World, name: &str) -> anyhow::Result<Found> {
    match name {
        "serve" => serve::run(world).await.map(Found::from),
        "join" => join::run(world).await.map(Found::from),
        "inventory" => inventory::run(world).await.map(Found::from),
        "prove" => {
            let found = prove::run(world).await?;
            // The renter hires while the period runs that the next step waits for.
            rent::begin(world)?;
            Ok(found.into())
        }
        "beat" => beat::run(world).await.map(Found::from),
        "snapshot" => snapshot::run(world).await.map(Found::from),
        "verify" => verify::run(world).await.map(Found::from),
        "explore" => explore::run(world).await.map(Found::from),
        "rent" => rent::run(world).await,
        "job" => job::run(world).await.map(Found::from),
        "receipt" => receipt::run(world).await.map(Found::from),
        "attack" => attack::run(world).await.map(Found::from),
        _ => restart::run(world).await.map(Found::from),
    }
}

/// The end of the logs of whatever runs.
fn logs(world: &World) {
    let mut named: Vec<(String, std::path::PathBuf)> = Vec::new();
    named.extend(world.server.iter().map(|server| (server.name.clone(), server.log.clone())));
    let machines = world.machines.iter().chain(&world.mallory);
    named.extend(
        machines
            .filter_map(|machine| machine.worker.as_ref())
            .map(|worker| (worker.name.clone(), worker.log.clone())),
    );
    for (name, log) in named {
        world.narrator.log(&name, &process::tail(&log, 12));
    }
}
