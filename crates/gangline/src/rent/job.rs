//! `rent job`: the jobs of a cluster, and an end to one.
//!
//! Knows no output of a job; `rent submit` prints that.

use anyhow::Context;
use gangline_worker::client::Client;
use serde_json::json;

use super::{
    Output, Which,
    ray::{Job, JobId, Ray},
    show, table,
};
use crate::inert::inert_line;

/// What `rent job` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the jobs of a cluster.
    List(Which),
    /// Stop a job.
    Stop {
        /// The job.
        job: JobId,
        #[command(flatten)]
        which: Which,
    },
}

pub async fn run(client: &Client, output: Output, args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::List(which) => {
            let cluster = show::running(client, which).await?.id;
            let jobs = Ray::new(client, cluster)
                .jobs()
                .await
                .with_context(|| format!("could not list the jobs of {cluster}"))?;
            output.print(&jobs, || text(&jobs))
        }
        Command::Stop { job, which } => {
            let cluster = show::running(client, which).await?.id;
            let stopped = Ray::new(client, cluster)
                .stop(&job)
                .await
                .with_context(|| format!("could not stop {job} on {cluster}"))?;
            output.print(&json!({"job": job.to_string(), "stopped": stopped}), || {
                if stopped { format!("{job} is being stopped.\n") } else { format!("{job} had ended.\n") }
            })
        }
    }
}

fn text(jobs: &[Job]) -> String {
    if jobs.is_empty() {
        return "No job was submitted.\n".to_owned();
    }
    let row = |job: &Job| {
        vec![
            job.submission_id.as_deref().map_or("-".to_owned(), inert_line),
            job.status.word().to_owned(),
            inert_line(&job.entrypoint).chars().take(60).collect(),
        ]
    };
    table(&["JOB", "STATUS", "COMMAND"], &jobs.iter().map(row).collect::<Vec<_>>())
}
