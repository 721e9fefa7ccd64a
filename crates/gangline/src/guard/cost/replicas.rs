//! How soon a revocation at one server is felt by a request that waits at another: two servers, one database.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use gangline_types::Seconds;
use gangline_wire::{
    Nothing,
    api::{enrol::KeyKind, machine::SyncReport},
    endpoints as e,
};
use gangline_worker::client::{Client, ClientError};

use super::{
    Found,
    served::{patiently, serve},
};
use crate::drill::tenant::enrol;

/// Machines that one person approves here: fewer than codes that may be looked up at once.
const BY_PERSON: u32 = 15;
/// Longer than a request waits for news: one that ends by itself was not cut.
const WAIT: Duration = Duration::from_secs(60);

/// Measures it.
pub async fn measure(found: &mut Found, database: &Path, trials: u32) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("could not make a folder")?;
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    let database = ["--database-file", database.to_str().context("a file with a strange name")?];
    let mut one = serve(&here, &database).await?;
    std::fs::create_dir_all(&there)?;
    // A network has one key, which each of its servers holds; copying keeps the file's mode.
    std::fs::copy(here.join("network.key"), there.join("network.key")).context("the network's key")?;
    let other = serve(&there, &database).await?;
    let link = one.link.clone().context("the database is not empty: it has a network already")?;
    one.operator.enter(&link).await?;
    let (mut took, mut person) = (Vec::new(), None);
    for n in 0..trials {
        if n % BY_PERSON == 0 {
            person = Some(one.supplier(&format!("supplier {n}")).await?);
        }
        let origin = one.origin.clone();
        let owner = person.as_mut().context("nobody approves")?;
        let (_, key) = patiently(async || enrol(&origin, &mut *owner, KeyKind::Machine).await).await?;
        let client = Client::new(&other.origin, Some(key.clone()))?;
        let mut waits = tokio::spawn(async move {
            let report = SyncReport { paused: false, offers: vec![], clusters: vec![], wait: Seconds(30) };
            client.call_waiting::<e::Sync>(&[], &Nothing {}, &report, WAIT).await.map(|_| Instant::now())
        });
        let waits_on = tokio::time::timeout(Duration::from_millis(500), &mut waits).await.is_err();
        ensure!(waits_on, "a request of a machine with nothing to hear did not wait");
        let console = owner.get("/console").await?;
        let form = console.form(&format!("/console/keys/{}/revoke", key.public().id()))?;
        let began = Instant::now();
        owner.press(&form, &[]).await?;
        match waits.await.context("a request broke off")? {
            Err(ClientError::Refused { body, .. }) if body.code == "revoked_key" => {
                took.push(began.elapsed())
            }
            Err(why) => return Err(why.into()),
            Ok(_) => bail!("a request of a revoked key was answered as if nothing had been"),
        }
    }
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() * percent).div_ceil(100).max(1) - 1].as_secs_f64() * 1e3;
    found.add(
        "revocation_p99_ms",
        at(99),
        "ms",
        2_000.0,
        format!(
            "from the click at one server to the end of a request that waits at another of the same PostgreSQL; {trials} trials, p50 {:.0}, longest {:.0}",
            at(50),
            at(100)
        ),
    );
    other.server.stop()?;
    one.server.stop()
}
