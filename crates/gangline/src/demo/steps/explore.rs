//! `explore`: what anyone can see, and that no path leads from a GPU to its owner.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::demo::world::World;
use crate::stage::{browser::Browser, html, http1};

/// Everything that must not be public: ids as the consoles show them, keys and fingerprints.
async fn forbidden(world: &mut World) -> anyhow::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let people: Vec<&'static str> = world.browsers.keys().copied().collect();
    for who in people {
        let console = world.browser(who)?.get("/console").await?;
        ensure!(console.status == 200, "{who}'s console answers {}", console.status);
        for prefix in ["acct", "mach", "key"] {
            found.extend(html::ids(&console.text, prefix));
        }
    }
    ensure!(
        found.iter().any(|id| id.starts_with("acct_")),
        "no console shows an account: the check would be empty"
    );
    for machine in &world.machines {
        let key = machine.key()?.public();
        found.extend([key.id().to_string(), key.fingerprint(), key.to_string()]);
        found.insert(format!("{}'s machine", machine.owner));
    }
    Ok(found)
}

/// Addresses of every operation that answers without a credential, with real ids filled in.
async fn open_addresses(world: &World) -> anyhow::Result<Vec<String>> {
    let request = http1::bytes("GET", "/openapi.json", world.authority(), &[], b"");
    let openapi = http1::send(world.authority(), &request).await?.json();
    let gpus = world.their_gpus();
    let mut proofs = Vec::new();
    for gpu in &gpus {
        let request =
            http1::bytes("GET", &format!("/api/v1/public/gpus/{gpu}/proofs"), world.authority(), &[], b"");
        let list = http1::send(world.authority(), &request).await?.json();
        proofs.extend(
            list.as_array().into_iter().flatten().filter_map(|proof| proof["id"].as_str().map(str::to_owned)),
        );
    }
    let periods: Vec<String> = world.snapshots.iter().map(|head| head.period.to_string()).collect();
    let tiles = log_tiles(world).await?;
    let mut out = Vec::new();
    for (path, methods) in openapi["paths"].as_object().context("/openapi.json has no paths")? {
        let open = methods["get"]["security"].as_array().is_some_and(Vec::is_empty);
        // Events never end by themselves, and a one-time link is a secret.
        if !open || path == "/events" || path.contains("{token}") {
            continue;
        }
        let (name, values): (&str, Vec<String>) =
            match path.split_once('{').and_then(|(_, rest)| rest.split_once('}')) {
                None => ("", vec![String::new()]),
                Some(("gpu", _)) => ("{gpu}", gpus.iter().map(ToString::to_string).collect()),
                Some(("proof", _)) => ("{proof}", proofs.clone()),
                Some(("period", _)) => ("{period}", periods.clone()),
                Some(("path", _)) if path.starts_with("/log/tile/") => ("{path}", tiles.clone()),
                Some((other, _)) => {
                    anyhow::bail!("the open address {path} has a part {other} that this check does not know")
                }
            };
        out.extend(
            values
                .into_iter()
                .map(|value| if name.is_empty() { path.clone() } else { path.replace(name, &value) }),
        );
    }
    for extra in ["/?q=llvmpipe", "/?q=gpu_", "/api/v1/public/gpus?q=acct_", "/api/v1/public/gpus?limit=200"]
    {
        out.push(extra.to_owned());
    }
    Ok(out)
}

/// Names of the first tile of the log's hashes and of its entries, as wide as the log's checkpoint says.
async fn log_tiles(world: &World) -> anyhow::Result<Vec<String>> {
    let request = http1::bytes("GET", "/log/checkpoint", world.authority(), &[], b"");
    let answer = http1::send(world.authority(), &request).await?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let size: u64 = text
        .lines()
        .nth(1)
        .and_then(|size| size.parse().ok())
        .with_context(|| format!("the log's checkpoint says no size: {text:?}"))?;
    ensure!(size > 0, "nothing that was done so far is in the log");
    // A full tile of the layout holds 256; a partial one names its width.
    let width = if size < 256 { format!(".p/{size}") } else { String::new() };
    Ok(vec![format!("0/000{width}"), format!("entries/000{width}")])
}

/// Whether a JSON value holds this text anywhere.
fn holds(value: &Value, text: &str) -> bool {
    match value {
        Value::String(found) => found.contains(text),
        Value::Array(values) => values.iter().any(|value| holds(value, text)),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains(text) || holds(value, text)),
        _ => false,
    }
}

pub async fn run(world: &mut World) -> anyhow::Result<String> {
    let mut visitor = Browser::new(&world.origin)?;
    let explorer = visitor.get("/").await?;
    ensure!(explorer.status == 200, "the explorer answers {}", explorer.status);
    for count in ["connected", "proven", "rentable"] {
        ensure!(
            explorer.text.contains(&format!("data-live=\"{count}\"")),
            "the explorer has no count of {count} GPUs"
        );
    }
    let policy =
        explorer.headers.get("content-security-policy").and_then(|p| p.to_str().ok()).unwrap_or_default();
    ensure!(
        policy.contains("default-src 'none'") || policy.contains("default-src 'self'"),
        "the explorer's policy is {policy:?}"
    );
    ensure!(!policy.contains("unsafe-inline"), "the explorer's policy lets inline script run");
    ensure!(
        explorer.text.contains("Demonstration"),
        "the explorer does not say that this is a demonstration"
    );
    let gpu = *world.their_gpus().first().context("no GPU joined")?;
    let page = visitor.get(&format!("/gpu/{gpu}")).await?;
    ensure!(page.status == 200 && page.text.contains("class=\"heat\""), "the page of {gpu} has no heat map");

    let forbidden = forbidden(world).await?;
    let addresses = open_addresses(world).await?;
    let mut bytes = 0;
    for address in &addresses {
        let answer =
            http1::send(world.authority(), &http1::bytes("GET", address, world.authority(), &[], b""))
                .await?;
        let is_tile = address.starts_with("/log/tile/");
        ensure!(answer.status < if is_tile { 300 } else { 500 }, "{address} answers {}", answer.words());
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let all = format!("{}\n{text}", answer.head);
        bytes += all.len();
        for secret in &forbidden {
            ensure!(!all.contains(secret.as_str()), "{address} holds {secret}");
        }
        for prefix in ["acct", "mach", "key", "enr"] {
            ensure!(html::ids(&all, prefix).is_empty(), "{address} holds an id that begins with {prefix}_");
        }
        // This host's own name is an address too; a machine's could only be in the data.
        if address.starts_with("/api/v1/public") {
            ensure!(!holds(&answer.json(), "127.0.0.1"), "{address} holds a network address");
        }
    }
    Ok(format!(
        "connected, proven and rentable are counted apart; {gpu} has its heat map; {} public answers ({} KiB) hold none of {} account, machine and key ids, keys, fingerprints and machine names, and no address",
        addresses.len(),
        bytes / 1024,
        forbidden.len()
    ))
}
