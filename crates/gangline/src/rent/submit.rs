//! `rent submit`: a program on a cluster, from a folder on this machine to its last line of output.
//!
//! Knows no Ray beyond its Jobs API. A cluster hired for one job is released with it; one that was
//! there before is left as it was.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use anyhow::Context;
use gangline_types::ClusterId;
use gangline_worker::client::Client;
use serde_json::json;
use tokio::time::Instant;

use super::{
    Output, Which, hire,
    package::{Package, pack},
    print_text,
    ray::{Job, JobId, JobStatus, Ray},
    show,
    stop::Stop,
    tail::{Printed, follow},
};
use crate::{
    inert::{Inert, inert_line},
    problem::Problem,
};

/// A job that was asked to stop is given this long before Ray kills it; then its state is told.
const STOP_WAIT: Duration = Duration::from_secs(30);
/// The cluster may be out of reach for this long before we stop following a job.
const AWAY_MAX: Duration = Duration::from_secs(120);

/// What `rent submit` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Folder that goes along and in which the program runs.
    #[arg(long, value_name = "DIR", default_value = ".")]
    working_dir: PathBuf,
    /// Keep a cluster that was hired for this job.
    #[arg(long)]
    keep: bool,
    #[command(flatten, next_help_heading = "Where no cluster of yours runs, one is hired")]
    hire: hire::Args,
    /// The program and its arguments, after `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub async fn run(client: &Client, output: Output, args: Args) -> anyhow::Result<()> {
    let entrypoint = entrypoint(&args.command)?;
    let mut stop = Stop::listen()?;
    // Before anything is hired: a folder that cannot be packed costs nothing.
    let package = pack(&args.working_dir)?;
    if package.links_left_out > 0 {
        tracing::warn!(links = package.links_left_out, "links that lead out of the folder were left out");
    }
    let (cluster, hired) = match show::running_if_any(client, args.which).await? {
        Some(view) => (view.id, false),
        None => (hire::hire(client, &args.hire, &mut stop).await?.id, true),
    };
    let ended = submit(client, output, cluster, &entrypoint, package, &mut stop).await;
    if hired && !args.keep {
        match show::end(client, cluster).await {
            Ok(view) => {
                tell(output, &format!("Released {cluster}: {} s used, {} credits.", view.used, view.cost))
            }
            Err(error) if ended.is_ok() => return Err(error),
            Err(error) => {
                tracing::warn!(%cluster, cause = %inert_line(&format!("{error:#}")), "the cluster was not released")
            }
        }
    } else if hired {
        tell(output, &format!("{cluster} is kept. End it with: gangline rent release {cluster}"));
    }
    ended
}

/// Progress is for people: on stderr, so that stdout holds the job's output and nothing else.
fn tell(output: Output, text: &str) {
    if output == Output::Text {
        eprintln!("{text}");
    }
}

/// The command as one line for the shell that Ray starts: every argument stays one argument.
fn entrypoint(command: &[OsString]) -> anyhow::Result<String> {
    let quoted: Option<Vec<String>> = command.iter().map(|word| word.to_str().map(quote)).collect();
    Ok(quoted.ok_or_else(|| Problem::usage("the command is not UTF-8; Ray could not start it"))?.join(" "))
}

fn quote(word: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"_-./=:,@%+".contains(&c);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

async fn submit(
    client: &Client,
    output: Output,
    cluster: ClusterId,
    entrypoint: &str,
    package: Package,
    stop: &mut Stop,
) -> anyhow::Result<()> {
    let ray = Ray::new(client, cluster);
    let name = package.name();
    let known =
        ray.has_package(&name).await.with_context(|| format!("could not ask {cluster} for the package"))?;
    if !known {
        tell(
            output,
            &format!("Sending {} files, {} KiB...", package.files, package.zip.len().div_ceil(1024)),
        );
        ray.put_package(&name, package.zip)
            .await
            .with_context(|| format!("could not send the package to {cluster}"))?;
    }
    let job = JobId::random()?;
    ray.submit(&job, entrypoint, &name)
        .await
        .with_context(|| format!("could not submit the job to {cluster}"))?;
    match output {
        Output::Json => print_text(&format!(
            "{}\n",
            json!({"event": "submitted", "job": job.to_string(), "cluster": cluster})
        ))?,
        Output::Text => eprintln!("{job} is submitted to {cluster}. Ctrl-C stops it."),
    }

    let mut inert = Inert::default();
    let mut printed = Printed::default();
    let mut print = |text: &str| match output {
        _ if text.is_empty() => Ok(()),
        Output::Text => print_text(&inert.piece(text)),
        Output::Json => print_text(&format!("{}\n", json!({"event": "output", "text": text}))),
    };
    let followed = tokio::select! {
        over = until_over(ray, &job, &mut printed, &mut print) => Some(over?),
        () = stop.asked() => None,
    };
    let over = match followed {
        Some(over) => over,
        None => {
            tell(output, &format!("Stopping {job}..."));
            ray.stop(&job)
                .await
                .with_context(|| format!("could not stop {job}; it may still run on {cluster}"))?;
            let over = tokio::time::timeout(STOP_WAIT, until_over(ray, &job, &mut printed, &mut print));
            over.await.with_context(|| format!("{job} was asked to stop and has not ended yet"))??
        }
    };
    finish(output, &job, &over)
}

fn finish(output: Output, job: &JobId, over: &Job) -> anyhow::Result<()> {
    if output == Output::Json {
        let line = json!({"event": "ended", "job": job.to_string(), "status": over.status, "exit_code": over.driver_exit_code});
        print_text(&format!("{line}\n"))?;
    }
    let message = over.message.as_deref().unwrap_or_default();
    // Ray appends the end of the output, which has been printed.
    let message = message.split(", last available logs").next().unwrap_or_default();
    let message: String = inert_line(message.trim()).chars().take(400).collect();
    let why = if message.is_empty() { String::new() } else { format!(": {message}") };
    match over.status {
        JobStatus::Succeeded => {
            tell(output, &format!("{job} succeeded."));
            Ok(())
        }
        JobStatus::Stopped => Err(Problem::new(format!("{job} was stopped")).into()),
        _ => Err(Problem::new(format!("{job} failed{why}")).into()),
    }
}

/// Follows a job to its end: its output as it comes, again where it breaks, and at last what of it had
/// not come. Answers with the job as it ended.
async fn until_over(
    ray: Ray<'_>,
    job: &JobId,
    printed: &mut Printed,
    print: &mut impl FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<Job> {
    let mut pause = Duration::from_millis(200);
    let over = {
        let mut over = std::pin::pin!(until_it_says_so(ray, job));
        loop {
            // The job's own word ends this, not its output: that may break, and may never close.
            let followed = tokio::select! {
                over = &mut over => break over?,
                followed = follow(ray, job, printed, &mut *print) => followed,
            };
            if let Err(error) = followed {
                if error
                    .downcast_ref::<std::io::Error>()
                    .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
                {
                    return Err(error);
                }
                tracing::debug!(cause = %inert_line(&format!("{error:#}")), "the job's output broke off");
            }
            tokio::select! {
                over = &mut over => break over?,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    };
    // A job that never started has no log; its message says why.
    if let Ok(all) = ray.logs(job).await {
        print(printed.rest_of_all(&all))?;
    }
    Ok(over)
}

/// Asks how a job stands until it is over; soon at first, for short jobs, then each three seconds.
async fn until_it_says_so(ray: Ray<'_>, job: &JobId) -> anyhow::Result<Job> {
    let mut answered = Instant::now();
    let mut pause = Duration::from_millis(300);
    loop {
        match ray.job(job).await {
            Ok(view) if view.status.is_over() => return Ok(view),
            Ok(_) => answered = Instant::now(),
            Err(error) if answered.elapsed() < AWAY_MAX && is_passing(&error) => {}
            Err(error) => return Err(error).with_context(|| format!("could not ask how {job} stands")),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(3));
    }
}

fn is_passing(error: &anyhow::Error) -> bool {
    use gangline_worker::client::ClientError;
    error.chain().any(|cause| cause.downcast_ref::<ClientError>().is_some_and(ClientError::is_passing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_stays_one_argument() {
        let line =
            |words: &[&str]| entrypoint(&words.iter().map(OsString::from).collect::<Vec<_>>()).unwrap();
        assert_eq!(line(&["python", "job.py", "--n=3"]), "python job.py --n=3");
        assert_eq!(
            line(&["echo", "a b", "", "it's", "$(rm)", "x;y"]),
            r#"echo 'a b' '' 'it'\''s' '$(rm)' 'x;y'"#
        );
        let shell = std::process::Command::new("sh")
            .arg("-c")
            .arg(line(&["printf", "[%s]", "a b", "it's", "$X", "*"]))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&shell.stdout), "[a b][it's][$X][*]");
    }
}
