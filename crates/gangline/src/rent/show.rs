//! `rent list`, `rent show`, `rent release`: clusters as their renter sees them, and their end.
//!
//! Knows no Ray.

use std::time::Duration;

use anyhow::Context;
use gangline_types::ClusterId;
use gangline_wire::{
    api::cluster::{ClusterQuery, ClusterState, ClusterView},
    endpoints::{ClusterById, ClusterRelease, Clusters},
};
use gangline_worker::client::{Client, ClientError};
use tokio::time::Instant;

use super::{Output, Which, no_cluster, print_text, table, time};
use crate::{inert::inert_line, problem::Problem};

/// The server waits 25 s for news; this is longer.
const WAIT: Duration = Duration::from_secs(45);
/// The server may restart meanwhile; for so long we keep asking.
const AWAY_MAX: Duration = Duration::from_secs(120);
/// The end of a node takes seconds; for so long we wait for it.
const RELEASE_MAX: Duration = Duration::from_secs(120);

/// What `rent release` is asked.
#[derive(Debug, clap::Args)]
pub struct ReleaseArgs {
    /// The cluster; needed where you have more than one.
    cluster: Option<ClusterId>,
}

/// All clusters of the account, newest first.
pub async fn all(client: &Client) -> anyhow::Result<Vec<ClusterView>> {
    client
        .call::<Clusters>(&[], &Default::default(), &Default::default())
        .await
        .with_context(|| format!("could not ask {} for your clusters", client.base()))
}

/// One cluster; with `unless`, once its state is another, or after 25 s.
pub async fn look(
    client: &Client,
    cluster: ClusterId,
    unless: Option<ClusterState>,
) -> Result<ClusterView, ClientError> {
    let query = ClusterQuery { unless };
    client.call_waiting::<ClusterById>(&[&cluster], &query, &Default::default(), WAIT).await
}

/// Waits until `done` holds of the cluster; `tell` sees every view. A server that is away for a while is
/// asked again.
pub async fn wait(
    client: &Client,
    mut view: ClusterView,
    mut tell: impl FnMut(&ClusterView),
    done: impl Fn(&ClusterView) -> bool,
) -> anyhow::Result<ClusterView> {
    let mut answered = Instant::now();
    let mut pause = Duration::from_millis(250);
    loop {
        tell(&view);
        if done(&view) {
            return Ok(view);
        }
        match look(client, view.id, Some(view.state)).await {
            Ok(next) => {
                // A server that does not wait must not be asked in a tight loop.
                if next.state == view.state && answered.elapsed() < Duration::from_secs(1) {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                (view, answered, pause) = (next, Instant::now(), Duration::from_millis(250));
            }
            Err(error) if error.is_passing() && answered.elapsed() < AWAY_MAX => {
                tracing::debug!(%error, "the server does not answer; asking again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(8));
            }
            Err(error) => return Err(error).with_context(|| format!("could not look at {}", view.id)),
        }
    }
}

/// The cluster to use: the one named, or the one that runs.
pub async fn running(client: &Client, which: Which) -> anyhow::Result<ClusterView> {
    match running_if_any(client, which).await? {
        Some(view) => Ok(view),
        None => Err(no_cluster()),
    }
}

/// As [`running`]; `None` where none is named and none runs.
pub async fn running_if_any(client: &Client, which: Which) -> anyhow::Result<Option<ClusterView>> {
    if let Some(cluster) = which.cluster {
        let view =
            look(client, cluster, None).await.with_context(|| format!("could not look at {cluster}"))?;
        if view.state != ClusterState::Running {
            let what =
                format!("{cluster} is {}, not running: {}", view.state, inert_line(view.detail.as_str()));
            return Err(Problem::new(what).hint("`gangline rent list` shows what you have").into());
        }
        return Ok(Some(view));
    }
    let mut running = all(client).await?.into_iter().filter(|view| view.state == ClusterState::Running);
    let first = running.next();
    let others: Vec<String> = running.map(|view| view.id.to_string()).collect();
    match (&first, others.is_empty()) {
        (Some(first), false) => {
            Err(Problem::usage(format!("more than one cluster runs: {}, {}", first.id, others.join(", ")))
                .hint("name one with --cluster ID")
                .into())
        }
        _ => Ok(first),
    }
}

pub async fn list(client: &Client, output: Output) -> anyhow::Result<()> {
    let clusters = all(client).await?;
    output.print(&clusters, || {
        if clusters.is_empty() {
            return "You have no clusters.\n".to_owned();
        }
        let row = |view: &ClusterView| {
            vec![
                view.id.to_string(),
                view.state.to_string(),
                inert_line(view.model.as_str()),
                format!("{} s", view.used),
                view.cost.to_string(),
                time(view.created_at),
            ]
        };
        table(
            &["CLUSTER", "STATE", "MODEL (CLAIMED)", "USED", "COST", "ASKED FOR"],
            &clusters.iter().map(row).collect::<Vec<_>>(),
        )
    })
}

pub async fn one(client: &Client, output: Output, cluster: ClusterId) -> anyhow::Result<()> {
    let view = look(client, cluster, None).await.with_context(|| format!("could not look at {cluster}"))?;
    output.print(&view, || text(&view))
}

/// A cluster, a line a fact.
pub fn text(view: &ClusterView) -> String {
    let at = |at: Option<_>| at.map_or("-".to_owned(), time);
    let facts = [
        ("cluster", view.id.to_string()),
        ("state", view.state.to_string()),
        ("detail", inert_line(view.detail.as_str())),
        ("GPU", view.gpu.to_string()),
        ("model (claimed)", inert_line(view.model.as_str())),
        ("price of an hour", view.price_per_hour.to_string()),
        ("asked for", time(view.created_at)),
        ("runs since", at(view.started_at)),
        ("ended", at(view.ended_at)),
        ("ends by itself", time(view.until)),
        ("used", format!("{} s", view.used)),
        ("cost", view.cost.to_string()),
        ("receipt", if view.receipt.is_some() { "yes" } else { "not yet" }.to_owned()),
    ];
    facts.iter().map(|(name, value)| format!("{name:<16}  {value}\n")).collect()
}

/// Asks for the end of `cluster` and waits until nothing of it is left.
pub async fn end(client: &Client, cluster: ClusterId) -> anyhow::Result<ClusterView> {
    let view = client
        .call::<ClusterRelease>(&[&cluster], &Default::default(), &Default::default())
        .await
        .with_context(|| format!("could not release {cluster}"))?;
    let ended = wait(client, view, |_| {}, |view| view.state.is_over());
    match tokio::time::timeout(RELEASE_MAX, ended).await {
        Ok(view) => view,
        Err(_) => Err(Problem::new(format!(
            "{cluster} is being released, and its machine has not said that it is gone"
        ))
        .hint(format!("it is not used any more; `gangline rent show {cluster}` tells when it is over"))
        .into()),
    }
}

pub async fn release(client: &Client, output: Output, args: ReleaseArgs) -> anyhow::Result<()> {
    let cluster = match args.cluster {
        Some(cluster) => cluster,
        None => {
            let mut open = all(client).await?.into_iter().filter(|view| !view.state.is_over());
            let first = open.next().ok_or_else(|| Problem::new("you have no cluster to release"))?.id;
            let others: Vec<String> = open.map(|view| view.id.to_string()).collect();
            if !others.is_empty() {
                let what = format!("you have more than one cluster: {first}, {}", others.join(", "));
                return Err(Problem::usage(what).hint("name the one to release").into());
            }
            first
        }
    };
    let view = end(client, cluster).await?;
    if output == Output::Json {
        return print_text(&(serde_json::to_string(&view)? + "\n"));
    }
    print_text(&format!("Released {cluster}: {} s used, {} credits.\n", view.used, view.cost))
}
