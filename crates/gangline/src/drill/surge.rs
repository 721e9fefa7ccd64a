//! The surge of 01:05: thousands of forged writes at once. None lands, each is attributed, and it is noticed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use gangline_types::KeyId;
use gangline_wire::{Endpoint, Nothing, api::operate::RecordsQuery, endpoints as e, sig};
use gangline_worker::client::{self, Client, now};
use serde_json::json;

use super::{
    report::Row,
    tenant::{PATIENCE, Tenant},
};
use crate::stage::fresh_key;

/// Writers at once.
const WRITERS: u32 = 16;

/// How a write is forged.
#[derive(Clone, Copy)]
enum Forgery {
    /// Signed by an enrolled key of somebody else.
    Foreign,
    /// In the victim's name, signed by the attacker.
    InItsName,
    /// By a key that nobody enrolled.
    Unknown,
    /// A copy of one that the victim sent, with another number.
    Renumbered,
    /// In the victim's name, for another body than the one it goes with.
    OtherBody,
}

const FORGERIES: [Forgery; 5] =
    [Forgery::Foreign, Forgery::InItsName, Forgery::Unknown, Forgery::Renumbered, Forgery::OtherBody];

/// What a writer needs.
struct Scene {
    http: reqwest::Client,
    origin: String,
    authority: String,
    target: String,
    thief: Client,
    unknown: Client,
    victim_key: KeyId,
    thief_key: KeyId,
    stolen: Vec<(&'static str, String)>,
    landed: AtomicU32,
    sent: AtomicU32,
    answers: std::sync::Mutex<BTreeMap<String, u32>>,
}

impl Scene {
    fn headers(&self, n: u32, body: &[u8]) -> Vec<(&'static str, String)> {
        let own = |client: &Client, body: &[u8]| client.signature("PUT", &self.target, "", body).to_vec();
        match FORGERIES[n as usize % FORGERIES.len()] {
            Forgery::Foreign => own(&self.thief, body),
            Forgery::InItsName => {
                let mut headers = own(&self.thief, body);
                for (_, value) in &mut headers {
                    *value = value.replace(&self.thief_key.to_string(), &self.victim_key.to_string());
                }
                headers
            }
            Forgery::Unknown => own(&self.unknown, body),
            Forgery::Renumbered => {
                let mut headers = self.stolen.clone();
                for (name, value) in &mut headers {
                    if *name == sig::SEQUENCE_HEADER {
                        *value = (now().0 * 1_000 + u64::from(n)).to_string();
                    }
                }
                headers
            }
            Forgery::OtherBody => self.stolen.clone(),
        }
    }

    async fn write(&self, n: u32) -> anyhow::Result<()> {
        let body = serde_json::to_vec(&json!({"label": format!("forged {n}")}))?;
        let mut request =
            self.http.put(format!("{}{}", self.origin, self.target)).header("host", &self.authority);
        for (name, value) in self.headers(n, &body) {
            request = request.header(name, value);
        }
        let answer = request.header("content-type", "application/json").body(body).send().await?;
        let status = answer.status().as_u16();
        self.sent.fetch_add(1, Ordering::Relaxed);
        if status < 300 {
            self.landed.fetch_add(1, Ordering::Relaxed);
        }
        let code = answer.json::<serde_json::Value>().await.unwrap_or_default();
        let words = format!("{status} {}", code["code"].as_str().unwrap_or("?"));
        *self.answers.lock().unwrap_or_else(|e| e.into_inner()).entry(words).or_default() += 1;
        Ok(())
    }
}

/// Attempts that the operator's records attribute to these keys since then.
async fn attributed(t: &Tenant, keys: &[KeyId], from: gangline_types::UnixSeconds) -> anyhow::Result<u64> {
    let mut count = 0;
    for key in keys {
        let mut before = None;
        loop {
            let query = RecordsQuery {
                key: Some(*key),
                from: Some(from),
                before,
                limit: Some(500),
                ..RecordsQuery::default()
            };
            let rows = t.command.call::<e::Refusals>(&[], &query, &Nothing {}).await?;
            count += rows.iter().map(|row| row.count).sum::<u64>();
            match rows.last() {
                Some(last) if rows.len() == 500 => before = Some(last.number),
                _ => break,
            }
        }
    }
    Ok(count)
}

/// Plays it.
///
/// # Errors
/// When the network does not answer.
pub async fn run(t: &mut Tenant, writes: u32) -> anyhow::Result<Row> {
    let unknown = fresh_key()?;
    let gpu = t.victim.gpus[2];
    let target = e::GpuLabel::path(&[&gpu]);
    let before = t.shown().await?;
    let keys = [t.thief.key.public().id(), t.victim.key.public().id(), unknown.public().id()];
    // Records have whole seconds: none of those before counts.
    let from = now().seconds().plus(1);
    while now().seconds() < from {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let scene = Arc::new(Scene {
        http: client::http().timeout(Duration::from_secs(60)).build()?,
        origin: t.origin.clone(),
        authority: t.command.authority().to_owned(),
        stolen: t.victim.client.signature("PUT", &target, "", b"{\"label\":\"kept\"}").to_vec(),
        target,
        thief: Client::new(&t.origin, Some(t.thief.key.clone()))?,
        unknown: Client::new(&t.origin, Some(unknown))?,
        victim_key: keys[1],
        thief_key: keys[0],
        landed: AtomicU32::new(0),
        sent: AtomicU32::new(0),
        answers: std::sync::Mutex::default(),
    });
    let began = Instant::now();
    let next = Arc::new(AtomicU32::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (scene, next) = (Arc::clone(&scene), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= writes {
                        return anyhow::Ok(());
                    }
                    scene.write(n).await?;
                }
            })
        })
        .collect();
    // The surge as such; one that follows another within ten minutes is folded, and still counted by its key.
    let told = t
        .noticed(began, |i| {
            let by_key = i.what == "foreign_touch" && i.key == Some(keys[0]) && i.last_at >= from;
            by_key || ["surge", "refusals"].contains(&i.what.as_str())
        })
        .await?;
    for writer in writers {
        writer.await.context("a writer broke off")??;
    }
    let took = began.elapsed();
    let (sent, landed) = (scene.sent.load(Ordering::Relaxed), scene.landed.load(Ordering::Relaxed));
    let counting = Instant::now();
    let mut found = attributed(t, &keys, from).await?;
    while found < u64::from(sent) && counting.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(250)).await;
        found = attributed(t, &keys, from).await?;
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let after = t.shown().await?;
    let changed = before.iter().filter(|name| !after.contains(name)).count();
    let answers = scene.answers.lock().unwrap_or_else(|e| e.into_inner()).clone();
    let answers: Vec<String> = answers.iter().map(|(words, count)| format!("{count} x {words}")).collect();
    let noticed = match &told {
        Some((incident, seconds)) => {
            format!("noticed as {} of {} after {seconds:.2} s", incident.what, incident.subject)
        }
        None => "NOT noticed as a surge".to_owned(),
    };
    Ok(Row::new(
        "surge",
        f64::from(landed) + changed as f64,
        0.0,
        "forged writes that landed",
        sent == writes && found == u64::from(sent) && told.is_some(),
        format!(
            "{sent} forged writes in {:.1} s ({}), {found} attributed to the keys they were shown with; {noticed}; {changed} rows changed",
            took.as_secs_f64(),
            answers.join(", ")
        ),
    ))
}
