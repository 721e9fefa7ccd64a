//! What a write costs the server in all, and how much it leaves behind: a server of its own, with keys and books like any.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use gangline_types::{GpuId, Label};
use gangline_wire::{
    Endpoint, Nothing,
    api::{enrol::KeyKind, machine::LabelWrite, operate::RecordsQuery},
    endpoints as e,
};
use gangline_worker::client::{Client, ClientError};

use super::Found;
use crate::{
    bench::procs::Server,
    drill::tenant::{enrol, inventory},
    stage::browser::Browser,
};

/// Writes that one key sends: fewer than it may at once.
const BY_KEY: u32 = 500;
/// Machines that one person approves here: fewer than codes that may be looked up at once.
const BY_PERSON: u32 = 15;
/// How long what is written behind the answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A network that this command starts.
pub struct Started {
    pub server: Server,
    pub origin: String,
    pub operator: Browser,
    pub link: Option<String>,
}

/// Serves `data`; the first server of some books has an operator's link.
pub async fn serve(data: &Path, more: &[&str]) -> anyhow::Result<Started> {
    let data = data.to_str().context("a folder with a strange name")?;
    // What is written down is the same with and without freezes; a surge of our own must not stop itself.
    let args = ["serve", "--json", "--listen", "127.0.0.1:0", "--data", data, "--freeze-by-rule", "false"];
    let (server, line) = Server::ours(&[&args[..], more].concat())?;
    let said: serde_json::Value = serde_json::from_str(&line).context("a server said something else")?;
    let origin = said["origin"].as_str().context("a server told no origin")?.to_owned();
    let operator = Browser::new(&origin)?;
    Ok(Started { server, origin, operator, link: said["operator_link"].as_str().map(str::to_owned) })
}

impl Started {
    /// A new supplier in a browser.
    pub async fn supplier(&mut self, name: &str) -> anyhow::Result<Browser> {
        let link = self.operator.invite("supplier", name).await?;
        let mut browser = Browser::new(&self.origin)?;
        browser.enter(&link).await?;
        Ok(browser)
    }
}

/// Bytes of the books: the database, what waits to be written into it, and the published log.
fn bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => bytes(&entry.path()),
            _ => entry.metadata().map_or(0, |facts| facts.len()),
        })
        .sum()
}

/// Bytes of the books at rest: the server is ended, which brings everything into its files, and started again.
async fn at_rest(started: Started, data: &Path, operator: &Browser) -> anyhow::Result<(Started, u64)> {
    started.server.stop()?;
    let size = bytes(data);
    let mut again = serve(data, &[]).await?;
    again.operator = operator.moved_to(&again.origin);
    Ok((again, size))
}

/// Names GPUs, so often and by as many keys as that takes; gives microseconds of the server's processor for each.
async fn name(
    started: &Started,
    machines: &[(gangline_wire::SigningKey, GpuId)],
    by_each: u32,
) -> anyhow::Result<f64> {
    let before = started.server.cpu_micros();
    for (key, gpu) in machines {
        let client = Client::new(&started.origin, Some(key.clone()))?;
        for n in 0..by_each {
            let write = LabelWrite { label: Label::lossy(&format!("name {n}")) };
            client.call::<e::GpuLabel>(&[gpu], &Nothing {}, &write).await?;
        }
    }
    Ok((started.server.cpu_micros() - before) / f64::from(by_each) / machines.len() as f64)
}

/// Attempts on somebody else's GPU by one key, as fast as they go.
async fn refused(
    started: &Started,
    key: &gangline_wire::SigningKey,
    gpu: GpuId,
    count: u32,
) -> anyhow::Result<f64> {
    let before = started.server.cpu_micros();
    let client = Client::new(&started.origin, Some(key.clone()))?;
    let target = e::GpuLabel::path(&[&gpu]);
    let body = br#"{"label":"forged"}"#;
    // Signed for another body: refused after all that a right one goes through, and by no quota.
    let client = Arc::new(client);
    let next = Arc::new(AtomicU32::new(0));
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let (client, next, target) = (client.clone(), next.clone(), target.clone());
            let http = gangline_worker::client::http().build();
            tokio::spawn(async move {
                let http = http?;
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    let mut request = http.put(format!("{}{target}", client.base()));
                    for (name, value) in client.signature("PUT", "/api/v1/elsewhere", "", body) {
                        request = request.header(name, value);
                    }
                    let answer = request.body(body.to_vec()).send().await?;
                    ensure!(answer.status() == 401, "a forged request was answered {}", answer.status());
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for sender in senders {
        sender.await.context("a sender broke off")??;
    }
    Ok((started.server.cpu_micros() - before) / f64::from(count))
}

/// Waits until so many attempts of `key` are written down: in how many rows.
async fn written(command: &Client, key: gangline_types::KeyId, count: u64) -> anyhow::Result<u64> {
    let began = std::time::Instant::now();
    loop {
        let (mut rows, mut attempts, mut before) = (0, 0, None);
        loop {
            let query = RecordsQuery { key: Some(key), before, limit: Some(500), ..RecordsQuery::default() };
            let page = command.call::<e::Refusals>(&[], &query, &Nothing {}).await?;
            rows += page.len() as u64;
            attempts += page.iter().map(|row| row.count).sum::<u64>();
            match page.last() {
                Some(last) if page.len() == 500 => before = Some(last.number),
                _ => break,
            }
        }
        if attempts >= count {
            return Ok(rows);
        }
        ensure!(began.elapsed() < PATIENCE, "{attempts} of {count} refused attempts were written down");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Measures it.
pub async fn measure(found: &mut Found, writes: u32) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("could not make a folder")?;
    let data: PathBuf = folder.path().join("data");
    let mut started = serve(&data, &[]).await?;
    let link = started.link.clone().context("a new server has no operator's link")?;
    started.operator.enter(&link).await?;
    let origin = started.origin.clone();
    let (_, command_key) = enrol(&origin, &mut started.operator, KeyKind::CommandLine).await?;
    let (mut machines, mut person) = (Vec::new(), None);
    for n in 0..writes.div_ceil(BY_KEY).max(2) {
        if n % BY_PERSON == 0 {
            person = Some(started.supplier(&format!("supplier {n}")).await?);
        }
        let person = person.as_mut().context("nobody approves")?;
        let (client, key) = patiently(async || enrol(&origin, &mut *person, KeyKind::Machine).await).await?;
        let registered = client.call::<e::DescribeInventory>(&[], &Nothing {}, &inventory(1)).await?;
        machines.push((key, registered.gpus[0].gpu));
    }
    let by_each = writes / machines.len() as u32;
    let count = by_each * machines.len() as u32;
    let operator = started.operator.clone();
    let (started, before) = at_rest(started, &data, &operator).await?;
    let cost = name(&started, &machines, by_each).await?;
    found.add(
        "served_write_us",
        cost,
        "us",
        None,
        "processor time of the whole server for a permitted write: HTTP, all of the above, the key's row, number, name, \
         history, audit row and log entry in one durable commit, detectors, projection, answer",
    );
    let (started, after) = at_rest(started, &data, &operator).await?;
    let each = after.saturating_sub(before) as f64 / f64::from(count);
    found.add(
        "permitted_mb_per_million",
        each,
        "MB",
        None,
        format!("growth of all books after {count} names: audit row, history, log entry and its proof, published copy"),
    );
    let (thief, foreign) = (&machines[0].0, machines[1].1);
    let command = Client::new(&started.origin, Some(command_key.clone()))?;
    let cost = refused(&started, thief, foreign, writes).await?;
    found.add("served_refusal_us", cost, "us", None, "processor time of the whole server for a forged write");
    let rows = written(&command, thief.public().id(), u64::from(writes)).await?;
    let (started, folded) = at_rest(started, &data, &operator).await?;
    let each = folded.saturating_sub(after) as f64 / f64::from(writes);
    found.add(
        "refused_mb_per_million",
        each,
        "MB",
        None,
        format!("a flood by one key: {writes} attempts, all counted, in {rows} rows"),
    );
    started.server.stop()
}

/// Does it again where the network says that it was asked too often.
pub async fn patiently<T>(mut work: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let began = std::time::Instant::now();
    loop {
        match work().await {
            Err(why)
                if why.downcast_ref::<ClientError>().is_some_and(ClientError::is_passing)
                    && began.elapsed() < PATIENCE =>
            {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            done => return done,
        }
    }
}
