//! `serve`: the server starts, says that it is healthy, and its operator's link works once.

use std::{ffi::OsString, time::Duration};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::demo::{
    proc,
    process::Process,
    world::{World, until},
};
use crate::stage::{browser::Browser, http1};

/// What the pages say at their top.
const BANNER: &str = "One machine, periods of one minute instead of an hour, processor programs in place of GPUs where there are none; credits mean nothing here.";

/// Starts the server in `listen`; port 0 takes a free one.
pub async fn start(world: &World, listen: &str) -> anyhow::Result<(Process, Value)> {
    let data = world.folder.join("server");
    let words = [
        "serve",
        "--json",
        "--listen",
        listen,
        "--period-minutes",
        "1",
        "--snapshot-grace-seconds",
        "5",
        "--banner",
        BANNER,
        "--data",
    ];
    let args: Vec<OsString> = words.into_iter().map(OsString::from).chain([data.into_os_string()]).collect();
    let mut server = world.gangline("server", args, &[])?;
    let line = server.event("serving", Duration::from_secs(30)).await.context("the server did not start")?;
    Ok((server, line))
}

pub async fn run(world: &mut World) -> anyhow::Result<String> {
    let (server, line) = start(world, "127.0.0.1:0").await?;
    let text = |name: &str| {
        line[name].as_str().map(str::to_owned).with_context(|| format!("the server told no {name}"))
    };
    (world.origin, world.operator_link) = (text("origin")?, text("operator_link")?);
    let pid = server.pid;
    world.server = Some(server);
    world.narrator.say(&format!(
        "The server listens at {} and printed a one-time link for its operator.",
        world.origin
    ));

    let authority = world.authority().to_owned();
    let get = |target: &'static str| {
        let request = http1::bytes("GET", target, &authority, &[], b"");
        let authority = authority.clone();
        async move { http1::send(&authority, &request).await }
    };
    for target in ["/healthz", "/readyz"] {
        until(Duration::from_secs(10), || async {
            let answer = get(target).await?;
            ensure!(answer.status == 200, "{target} answers {}", answer.words());
            Ok(())
        })
        .await?;
    }
    let openapi = get("/openapi.json").await?.json();
    let version = openapi["openapi"].as_str().unwrap_or_default();
    ensure!(version.starts_with("3.1"), "/openapi.json is of version {version:?}, not 3.1");
    let operations: usize = openapi["paths"]
        .as_object()
        .map_or(0, |paths| paths.values().filter_map(Value::as_object).map(|path| path.len()).sum());

    let mut operator = Browser::new(&world.origin)?;
    let console = operator.enter(&world.operator_link).await.context("the operator could not sign in")?;
    ensure!(console.text.contains("Operator"), "the operator sees another page than a console");
    world
        .secrets
        .extend(operator.session().map(|secret| ("the operator's session".to_owned(), secret.to_owned())));
    let token = world.operator_link.rsplit('/').next().unwrap_or_default().to_owned();
    world.secrets.push(("the operator's link".to_owned(), token));
    let mut stranger = Browser::new(&world.origin)?;
    let path = world.operator_link.trim_start_matches(world.origin.as_str()).to_owned();
    let seen = stranger.get(&path).await?;
    let again = stranger.post(&path, &[]).await?;
    ensure!(
        again.status >= 400 && stranger.session().is_none(),
        "the operator's link worked twice (status {})",
        again.status
    );
    world.browsers.insert("operator", operator);
    let resident = proc::resident_kib(pid)? as f64 / 1024.0;
    Ok(format!(
        "healthy and ready at {}; OpenAPI {version} with {operations} operations; the operator's link signed one browser in and answered {} and {} to a second; {resident:.1} MB resident when idle",
        world.origin, seen.status, again.status
    ))
}
