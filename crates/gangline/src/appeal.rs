//! `gangline appeal`: appeals against a standing. A supplier opens one; whoever runs `appeal verify` with a registered key
//! judges the re-run of every appeal that was put before that key, and signs what it finds.
//!
//! A verifier trusts nothing but bits: it fetches the transcript, checks that it is the one the appeal names, and verifies
//! it as `gangline verify proof` does.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use gangline_guard::log::entry::published_hash;
use gangline_rules::appeals::message;
use gangline_types::{GpuId, Hash, Text};
use gangline_wire::{
    Nothing, SigningKey,
    api::appeal::{PublicAppeal, SignedVerdict, Verifier, VerifierChange},
    endpoints::{AppealVerdict, PublicAppeals, PublicEpochTranscript, VerifierSet, Verifiers},
};
use gangline_worker::{agent, client::Client, enrol::load_or_make_key};

use crate::{inert::inert_line, problem::Problem, rent::state::State};

/// What `appeal` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Appeal against the standing of one of this machine's GPUs; its worker must be running to be measured again.
    Open {
        /// The GPU.
        gpu: GpuId,
        /// Folder with this machine's key [default: gangline/worker in the state folder].
        #[arg(long, value_name = "DIR", env = "GANGLINE_WORKER_DATA")]
        data: Option<PathBuf>,
    },
    /// Show a network's appeals.
    List {
        /// The server, for example `http://127.0.0.1:7700`.
        url: String,
        /// Print them as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Judge the re-runs of a network's appeals with a verifier's key, and hand the verdicts in.
    Verify {
        /// The server.
        url: String,
        /// The verifier's own key; made where there is none. Its public half is for the network's operator to register.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Look once instead of every few seconds.
        #[arg(long)]
        once: bool,
        /// How often to look, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
        every: u64,
    },
    /// Show the verifiers that appeals are put before, or register or end one; for operators.
    Verifiers {
        /// Register the verifier with this public key, 64 hex digits.
        #[arg(long, value_name = "KEY", requires = "name")]
        add: Option<Hash>,
        /// What to call it.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// End the verifier with this public key.
        #[arg(long, value_name = "KEY", conflicts_with = "add")]
        end: Option<Hash>,
        /// Folder with this operator's key and login [default: gangline/rent in the state folder].
        #[arg(long, value_name = "DIR", env = "GANGLINE_RENT_DATA")]
        data: Option<PathBuf>,
    },
}

/// Runs what was asked.
pub fn main(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(args.command))
}

async fn run(command: Command) -> anyhow::Result<()> {
    let none = Nothing {};
    match command {
        Command::Open { gpu, data } => {
            let data = agent::DataDir::resolve(data.as_deref()).map_err(agent::AgentError::from)?;
            println!("{}", line(&agent::appeal(&data, gpu).await?));
        }
        Command::List { url, json } => {
            let all = all(&Client::new(&url, None)?).await?;
            if json {
                println!("{}", serde_json::to_string_pretty(&all)?);
            } else if all.is_empty() {
                println!("nobody has appealed");
            }
            for appeal in all.iter().filter(|_| !json) {
                println!("{}", line(appeal));
            }
        }
        Command::Verify { url, key, once, every } => {
            let (key, _) = load_or_make_key(&key)?;
            println!("verifier {}", Hash(*key.public().as_bytes()));
            let client = Client::new(&url, None)?;
            loop {
                match judge_all(&client, &key).await {
                    Ok(()) => {}
                    Err(why) if once => return Err(why),
                    Err(why) => tracing::warn!("{why:#}"),
                }
                if once {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_secs(every)).await;
            }
        }
        Command::Verifiers { add, name, end, data } => {
            let client = State::open(data)?.client()?;
            let change = add.map(|key| (key, true)).or(end.map(|key| (key, false)));
            let all = match change {
                Some((key, on)) => {
                    let name = Text::new(name.as_deref().unwrap_or_default())
                        .map_err(|why| Problem::usage(format!("the name cannot be used: {why}")))?;
                    let change = VerifierChange { verifier: Verifier { key, name }, on };
                    let answer = client.call::<VerifierSet>(&[], &none, &change).await;
                    answer.with_context(|| Problem::new("the verifier was not changed"))?
                }
                None => {
                    let answer = client.call::<Verifiers>(&[], &none, &none).await;
                    answer.with_context(|| Problem::new("the verifiers were not listed"))?
                }
            };
            for verifier in &all {
                println!("{} {}", verifier.key, inert_line(verifier.name.as_str()));
            }
        }
    }
    Ok(())
}

async fn all(client: &Client) -> anyhow::Result<Vec<PublicAppeal>> {
    let answer = client.call::<PublicAppeals>(&[], &Nothing {}, &Nothing {}).await;
    answer.with_context(|| Problem::new("could not ask for the network's appeals"))
}

fn line(appeal: &PublicAppeal) -> String {
    let right = appeal.verdicts.iter().filter(|verdict| verdict.right).count();
    let state = match appeal.upheld {
        Some(true) => "upheld",
        Some(false) => "dismissed",
        None if appeal.proof.is_none() => "open, and the GPU has not answered its re-run yet",
        None => "open",
    };
    format!(
        "{} of {}: {state}; {right} of {} verdicts found the re-run right, {} of {} verifiers are needed",
        appeal.id,
        appeal.gpu,
        appeal.verdicts.len(),
        appeal.quorum,
        appeal.verifiers.len()
    )
}

/// Judges every open re-run that was put before this key and that it has not judged.
async fn judge_all(client: &Client, key: &SigningKey) -> anyhow::Result<()> {
    let own = Hash(*key.public().as_bytes());
    for appeal in all(client).await? {
        let is_its = appeal.verifiers.iter().any(|verifier| verifier.key == own);
        let has_judged = appeal.verdicts.iter().any(|verdict| verdict.verifier == own);
        let (Some(proof), Some(digest), None) = (appeal.proof, appeal.digest, appeal.upheld) else {
            continue;
        };
        if !is_its || has_judged {
            continue;
        }
        let answer = client.call::<PublicEpochTranscript>(&[&proof], &Nothing {}, &Nothing {}).await;
        let transcript = answer.with_context(|| format!("could not ask for the transcript of {proof}"))?;
        let found = published_hash(&serde_json::to_vec(&transcript)?);
        anyhow::ensure!(
            found == digest,
            "the transcript of {proof} is {found}, and the appeal names {digest}"
        );
        let checked = transcript.check().map(|_| transcript.gpu == appeal.gpu);
        let right = matches!(checked, Ok(true));
        let verdict = SignedVerdict {
            verifier: own,
            digest,
            right,
            signature: Text::lossy(&hex(&key.sign(&message(appeal.id, &digest, right).0))),
        };
        let answer = client.call::<AppealVerdict>(&[&appeal.id], &Nothing {}, &verdict).await;
        let after = answer.with_context(|| format!("the verdict on {} was not taken", appeal.id))?;
        println!("{}: {}; {}", appeal.id, if right { "right" } else { "wrong" }, line(&after));
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
