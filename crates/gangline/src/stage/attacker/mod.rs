//! The attacker: a process of its own with an account, a key and loot. Reads its plan from standard input
//! and prints one line of JSON for each kind of attack: what was tried, whether it was stopped, by what.
//!
//! Has no other way in than anybody: the network's port.

mod forge;
pub mod injection;
mod samples;
pub mod targeted;

use std::{
    path::PathBuf,
    sync::{Mutex, atomic::AtomicU64},
    time::Duration,
};

use anyhow::Context;
use gangline_types::GpuId;
use gangline_wire::SigningKey;
use gangline_worker::{client::Client, enrol};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::AsyncReadExt;

use super::http1::{self, Answer};

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Others' things, by name, one by one.
    Targeted,
    /// Hostile text in every field there is, and a false claim.
    Injection,
}

impl Phase {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Targeted => "targeted",
            Self::Injection => "injection",
        }
    }
}

/// What the attacker has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The network.
    pub origin: String,
    /// The attacker's own machine.
    pub data: PathBuf,
    /// The attacker's own browser session.
    pub session: String,
    /// Account ids that leaked.
    pub accounts: Vec<String>,
    /// Key ids that leaked.
    pub keys: Vec<String>,
    /// The victim's key id.
    pub victim_key: String,
    /// Cluster ids that leaked.
    pub clusters: Vec<String>,
    /// The victims' GPUs, which are public.
    pub gpus: Vec<GpuId>,
    /// A request that a victim's machine sent, its very bytes in base64.
    pub stolen: String,
    /// What to try.
    pub phase: Phase,
}

/// How often a request is sent again that the network had no time for.
const BUSY_TRIES: u32 = 60;

/// What the victim calls its GPU in the request that was stolen.
pub const STOLEN_LABEL: &str = "ada's first";

/// One kind of attack and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What was tried; empty at the end of all.
    pub what: String,
    /// Whether it was stopped.
    pub stopped: bool,
    /// By what: status and code.
    pub by: String,
    /// Requests it took.
    pub requests: u64,
    /// The attacker's own GPU with a false claim.
    #[serde(default)]
    pub gpu: Option<GpuId>,
}

impl Attempt {
    /// Whether nothing follows.
    pub fn is_end(&self) -> bool {
        self.what.is_empty()
    }
}

/// The attacker at work.
pub struct Mallory {
    /// What it has.
    pub plan: Plan,
    /// Signs with its key.
    pub client: Client,
    /// Its key.
    pub key: SigningKey,
    /// Requests since something was told.
    pub requests: AtomicU64,
    /// What became of the attacks, for whoever plays the attacker itself; otherwise it is printed.
    pub kept: Option<Mutex<Vec<Attempt>>>,
}

impl Mallory {
    /// Host and port of the network.
    pub fn authority(&self) -> &str {
        self.client.authority()
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// When nobody answers: that would be no refusal.
    pub async fn send(&self, bytes: &[u8]) -> anyhow::Result<Answer> {
        self.requests.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        http1::send_to(&self.plan.origin, bytes).await
    }

    /// Requests since the last call.
    fn count(&self) -> u64 {
        self.requests.swap(0, std::sync::atomic::Ordering::Relaxed)
    }

    /// A request signed with its own key, with further headers.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn signed(
        &self,
        method: &str,
        target: &str,
        more: &[(&str, &str)],
        body: &[u8],
    ) -> anyhow::Result<Answer> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut patience = BUSY_TRIES;
        loop {
            let mut headers = vec![("content-type", "application/json".to_owned())];
            headers.extend(self.client.signature(method, path, query, body));
            headers.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
            let answer = self.send(&http1::bytes(method, target, self.authority(), &headers, body)).await?;
            // Who is told to wait has not been looked at: an attacker has time.
            if answer.status != 429 || patience == 0 {
                return Ok(answer);
            }
            patience -= 1;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }

    /// The same with a JSON body.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn signed_json(&self, method: &str, target: &str, body: &Value) -> anyhow::Result<Answer> {
        self.signed(method, target, &[], &serde_json::to_vec(body)?).await
    }

    /// A request without any credential.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn plain(&self, method: &str, target: &str, body: &[u8]) -> anyhow::Result<Answer> {
        let headers = [("content-type", "application/json".to_owned())];
        self.send(&http1::bytes(method, target, self.authority(), &headers, body)).await
    }

    /// A form sent from the attacker's own browser.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn form(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let mut body = reqwest::Url::parse("http://form/")?;
        body.query_pairs_mut().extend_pairs(fields);
        let body = body.query().unwrap_or_default().to_owned();
        let headers = [
            ("content-type", "application/x-www-form-urlencoded".to_owned()),
            ("cookie", format!("__Host-gangline={}", self.plan.session)),
            ("origin", self.plan.origin.clone()),
        ];
        self.send(&http1::bytes(method, target, self.authority(), &headers, body.as_bytes())).await
    }

    /// Tells what became of one kind of attack.
    pub fn tell(&self, what: impl Into<String>, stopped: bool, by: impl Into<String>) {
        self.tell_of(what, stopped, by, None);
    }

    /// The same, naming the attacker's GPU.
    pub fn tell_of(&self, what: impl Into<String>, stopped: bool, by: impl Into<String>, gpu: Option<GpuId>) {
        let attempt = Attempt { what: what.into(), stopped, by: by.into(), requests: self.count(), gpu };
        match &self.kept {
            Some(kept) => kept.lock().unwrap_or_else(|e| e.into_inner()).push(attempt),
            None => say(&attempt),
        }
    }

    /// What became of the attacks so far, where it is kept.
    pub fn kept(&self) -> Vec<Attempt> {
        let kept = self.kept.as_ref();
        kept.map(|kept| kept.lock().unwrap_or_else(|e| e.into_inner()).clone()).unwrap_or_default()
    }

    /// Tells of one answer that should have been a refusal of this status and code.
    pub fn expect(&self, what: impl Into<String>, answer: &Answer, status: u16, code: &str) {
        self.tell(what, answer.status == status && answer.code() == code, answer.words());
    }
}

fn say(attempt: &Attempt) {
    println!("{}", serde_json::to_string(attempt).unwrap_or_default());
}

/// Carries out the plan on standard input.
///
/// # Errors
/// When the plan cannot be read, or the network does not answer at all.
pub async fn main() -> anyhow::Result<()> {
    let mut text = Vec::new();
    tokio::io::stdin().read_to_end(&mut text).await?;
    let plan: Plan = serde_json::from_slice(&text).context("the plan cannot be read")?;
    let file = plan.data.join("machine.key");
    let key = enrol::load_key(&file)?.with_context(|| format!("there is no key in {}", file.display()))?;
    let client = Client::new(&plan.origin, Some(key.clone()))?;
    let phase = plan.phase;
    let mallory = Mallory { plan, client, key, requests: 0.into(), kept: None };
    match phase {
        Phase::Targeted => targeted::run(&mallory).await?,
        Phase::Injection => {
            injection::run(&mallory).await?;
            forge::run(&mallory).await?;
        }
    }
    say(&Attempt::default());
    Ok(())
}
