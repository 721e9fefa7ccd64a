//! Hostile text in every field of every request that the network's own description names: bodies, path
//! parts, queries, forms, headers. Each must be refused, or stored as nothing but text.

use std::collections::BTreeMap;

use anyhow::Context;
use gangline_types::{ClusterId, GpuId, ProofId};
use serde_json::Value;

use super::{
    Mallory,
    samples::{HOSTILE, percent, sample, strings},
};
use crate::stage::{html, http1::Answer};

/// How answers ended, by status.
#[derive(Default)]
struct Tally {
    statuses: BTreeMap<u16, u32>,
    bad: Vec<String>,
}

impl Tally {
    fn add(&mut self, what: &str, answer: &Answer) {
        *self.statuses.entry(answer.status).or_default() += 1;
        // A server that breaks has let the text reach something; one that is busy has not looked at it.
        if answer.status >= 500 || answer.status == 429 {
            self.bad.push(format!("{what} is answered {}", answer.words()));
        }
        if answer.head.to_ascii_lowercase().contains("\nx-account-id") {
            self.bad.push(format!("{what} put a header into the answer"));
        }
        if String::from_utf8_lossy(&answer.body).contains("<script>alert(1)")
            && !answer.head.contains("application/json")
        {
            self.bad.push(format!("{what} put a script into a page"));
        }
    }
    fn words(&self) -> String {
        let counts: Vec<String> =
            self.statuses.iter().map(|(status, count)| format!("{count} x {status}")).collect();
        match self.bad.first() {
            None => counts.join(", "),
            Some(first) => format!("{} bad, for example: {first}", self.bad.len()),
        }
    }
}

/// The attacker's own GPU, made by an honest inventory.
async fn own_gpu(m: &Mallory) -> anyhow::Result<GpuId> {
    let answer = m
        .signed_json("PUT", "/api/v1/machine/inventory", &super::forge::inventory(m, "llvmpipe", "software"))
        .await?;
    let gpu = answer.json()["gpus"][0]["gpu"].as_str().map(str::to_owned);
    Ok(gpu.with_context(|| format!("the attacker's inventory is answered {}", answer.words()))?.parse()?)
}

pub async fn run(m: &Mallory) -> anyhow::Result<()> {
    let gpu = own_gpu(m).await?;
    let document = m.plain("GET", "/openapi.json", b"").await?.json();
    let paths = document["paths"].as_object().context("/openapi.json has no paths")?.clone();
    let slot = super::forge::slot(m).to_string();
    let ids = move |pattern: &str| {
        let known = [
            ("^gpu_", gpu.to_string()),
            ("^clu_", ClusterId::from_bytes([1; 16]).to_string()),
            ("^prf_", ProofId::from_bytes([1; 16]).to_string()),
            ("^[0-9a-f]", slot.clone()),
        ];
        known.into_iter().find(|(start, _)| pattern.starts_with(start)).map(|(_, id)| id)
    };
    let public_key = m.key.public().to_string();
    let (mut bodies, mut fields) = (Tally::default(), 0);
    let (mut places, mut parts) = (Tally::default(), 0);
    for (path, methods) in &paths {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let method = method.to_ascii_uppercase();
            let is_session = operation["security"][0].get("session").is_some();
            let is_open = operation["security"].as_array().is_some_and(Vec::is_empty);
            // Leaving would end the attack; events never end.
            if path.ends_with("/leave") || path == "/events" || is_session {
                continue;
            }
            let own = path
                .replace("{gpu}", &gpu.to_string())
                .replace("{cluster}", &ids("^clu_").unwrap_or_default());
            let own = own
                .replace("{proof}", &ids("^prf_").unwrap_or_default())
                .replace("{period}", "0")
                .replace("{path}", "api/version");
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            if schema.is_object() {
                let mut base = sample(schema, &document, &ids, 0);
                if base.get("public_key").is_some() {
                    base["public_key"] = public_key.clone().into();
                }
                // Enough to try each kind of text, few enough for the limits on new keys.
                let is_scarce = path.contains("enrolments") || path.ends_with("/key/rotate");
                let hostile = if is_scarce { &HOSTILE[..4] } else { &HOSTILE[..] };
                for at in strings(&base) {
                    fields += 1;
                    for text in hostile {
                        let mut body = base.clone();
                        if let Some(field) = body.pointer_mut(&at) {
                            *field = (*text).into();
                        }
                        let answer = m.signed_json(&method, &own, &body).await?;
                        bodies.add(&format!("{method} {path} with {text:?} in {at}"), &answer);
                    }
                }
            }
            for (target, what) in targets(path, &own, operation) {
                parts += 1;
                let answer = if is_open {
                    m.plain(&method, &target, b"").await?
                } else {
                    m.signed(&method, &target, &[], b"").await?
                };
                places.add(&format!("{method} {path} with hostile text in {what}"), &answer);
            }
        }
    }
    m.tell(
        format!("writes {} hostile texts into {fields} fields of JSON bodies", HOSTILE.len()),
        bodies.bad.is_empty() && fields > 20,
        bodies.words(),
    );
    m.tell(
        format!("writes them into {parts} places of paths and queries"),
        places.bad.is_empty() && parts > 20,
        places.words(),
    );
    pages(m, gpu).await?;
    inert(m).await
}

/// Addresses with hostile text in one of their parts.
fn targets(path: &str, own: &str, operation: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap_or_default();
        for text in HOSTILE {
            let text = percent(text);
            found.push(match parameter["in"].as_str() {
                Some("path") => {
                    let fill = |part: &str| {
                        if part == format!("{{{name}}}") { text.clone() } else { part.to_owned() }
                    };
                    let kept: Vec<String> = path.split('/').map(fill).collect();
                    let filled: Vec<String> = kept
                        .iter()
                        .zip(own.split('/'))
                        .map(|(part, own)| if part.starts_with('{') { own.to_owned() } else { part.clone() })
                        .collect();
                    (filled.join("/"), format!("its part {name}"))
                }
                _ => (format!("{own}?{name}={text}"), format!("its parameter {name}")),
            });
        }
    }
    found
}

/// Forms and pages, in the attacker's own session.
async fn pages(m: &Mallory, gpu: GpuId) -> anyhow::Result<()> {
    let console = m.form("GET", "/console", &[]).await?;
    let page = String::from_utf8_lossy(&console.body).into_owned();
    let csrf = html::forms(&page).into_iter().flat_map(|form| form.fields).find(|(name, _)| name == "csrf");
    let csrf = csrf.context("the attacker's console has no form token")?.1;
    let mut tally = Tally::default();
    for text in HOSTILE {
        let label = format!("/console/gpus/{gpu}/label");
        for (target, field) in [
            (label.as_str(), "label"),
            ("/theme", "theme"),
            ("/theme", "back"),
            ("/approve", "decision"),
            ("/console/invite", "name"),
        ] {
            let answer =
                m.form("POST", target, &[("csrf", &csrf), (field, text), ("role", "supplier")]).await?;
            tally.add(&format!("{target} with {text:?} in {field}"), &answer);
        }
        let answer = m.form("GET", &format!("/approve?code={}", percent(text)), &[]).await?;
        tally.add("/approve with a hostile code", &answer);
    }
    for away in [
        "//gangline.example/",
        "https://gangline.example/",
        "/\\gangline.example",
        "/%0d%0aset-cookie:%20a=b",
    ] {
        let answer = m.form("POST", "/theme", &[("csrf", &csrf), ("theme", "dark"), ("back", away)]).await?;
        let head = answer.head.to_ascii_lowercase();
        let to = head.lines().find_map(|line| line.strip_prefix("location: ")).unwrap_or("/").to_owned();
        if !to.starts_with('/')
            || to.starts_with("//")
            || to.starts_with("/\\")
            || head.contains("set-cookie: a=b")
        {
            tally.bad.push(format!("/theme leads away to {to}"));
        }
        tally.add("/theme with another site to go back to", &answer);
    }
    m.tell(
        "writes them into every form of its console and of the pages",
        tally.bad.is_empty(),
        tally.words(),
    );
    Ok(())
}

/// Nothing of it was carried out.
async fn inert(m: &Mallory) -> anyhow::Result<()> {
    let mut tally = Tally::default();
    let own = format!("/api/v1/public/gpus?limit=200&q={}", percent("DROP TABLE"));
    for target in [
        "/",
        "/snapshots",
        "/api/v1/public/gpus?limit=200",
        own.as_str(),
        "/api/v1/public/network",
        "/readyz",
    ] {
        let answer = m.plain("GET", target, b"").await?;
        if answer.status != 200 {
            tally.bad.push(format!("{target} is answered {}", answer.words()));
        }
        tally.add(target, &answer);
    }
    let ran = std::path::Path::new("/tmp/gangline-was-here").exists();
    m.tell("looks whether any of it was carried out", tally.bad.is_empty() && !ran, tally.words());
    Ok(())
}
