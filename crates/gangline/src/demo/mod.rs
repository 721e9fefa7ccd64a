//! `gangline demo`: a whole network on this machine, as separate processes on loopback: a server, two
//! suppliers' machines, a renter and an attacker. It plays the people: it opens the pages a browser would
//! open and presses their buttons. Every step is checked by looking, not assumed.
//!
//! Refuses to fake: where Ray or a sandbox is missing, the step that needs it fails and says what to
//! install. Knows no inside of the server: it sees what its users see.

mod fleet;
mod proc;
mod process;
mod report;
mod scene;
mod steps;
mod tamper;
mod world;

use std::path::PathBuf;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{problem::Problem, stage::attacker};
use report::{Narrator, Report};
use world::World;

/// What `demo` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write the steps, each with what was seen, as JSON to this file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Leave the network running at the end and print its links; Ctrl-C ends it.
    #[arg(long)]
    keep: bool,
    /// Play the attacker: a plan on standard input, what stopped each attempt on standard output.
    #[arg(long, hide = true)]
    attacker: bool,
}

/// Runs the demonstration.
///
/// # Errors
/// When a step does not hold.
pub fn main(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if args.attacker {
        return runtime.block_on(attacker::main());
    }
    let outcome = runtime.block_on(run(args));
    // What still waits in the background is of no interest any more.
    runtime.shutdown_background();
    outcome
}

/// Ctrl-C and SIGTERM, listened to from the moment this is made.
struct Interrupt(Signal, Signal);

impl Interrupt {
    fn listen() -> std::io::Result<Self> {
        Ok(Self(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
    }
    async fn asked(&mut self) {
        tokio::select! { _ = self.0.recv() => {} _ = self.1.recv() => {} }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let mut interrupt = Interrupt::listen().context("could not listen for Ctrl-C")?;
    let narrator = Narrator::new();
    let mut world = World::new(narrator.clone())?;
    let mut report = Report::default();
    let finished = tokio::select! {
        () = steps::all(&mut world, &mut report) => true,
        () = interrupt.asked() => false,
    };
    if !finished {
        narrator.say("Interrupted: ending everything that was started...");
        world.end(&mut interrupt).await;
        return Err(Problem::new("the demonstration was interrupted; nothing of it is left").into());
    }
    report.close();
    narrator.table(&report);
    let written = args.report.as_deref().map(|file| report.write(file)).transpose();
    if args.keep {
        world.links().await.iter().for_each(|line| narrator.say(line));
        interrupt.asked().await;
        narrator.say("Ending everything...");
    }
    world.end(&mut interrupt).await;
    written?;
    match report.failed() {
        failed if failed.is_empty() => Ok(()),
        failed => Err(Problem::new(format!("not every step held: {}", failed.join(", "))).into()),
    }
}
