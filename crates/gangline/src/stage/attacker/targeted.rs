//! Attacks on others' things by name: what was done to another network in April 2024, step by step, and
//! what would have been the next idea.

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use gangline_types::{ClusterId, GpuId};
use gangline_wire::{Endpoint, endpoints as e};
use gangline_worker::client::now;
use serde_json::{Value, json};

use super::{Mallory, STOLEN_LABEL};
use crate::stage::{html, http1};

/// Headers by which some server somewhere believes who is asking.
const OWNER_HEADERS: [&str; 9] = [
    "x-account-id",
    "x-user-id",
    "x-owner-id",
    "x-device-owner",
    "x-forwarded-user",
    "x-auth-user",
    "x-original-user",
    "userid",
    "token",
];

pub async fn run(m: &Mallory) -> anyhow::Result<()> {
    let victim = *m.plan.gpus.first().context("there is no victim")?;
    owners(m, victim).await?;
    metadata(m, victim).await?;
    copies(m, victim).await?;
    others(m, victim).await?;
    malformed(m, victim).await
}

/// The first step of April 2024: ask the explorer whose GPU it is.
///
/// # Errors
/// When nobody answers.
pub async fn owners(m: &Mallory, victim: GpuId) -> anyhow::Result<()> {
    let mut found = 0;
    let mut targets = vec![
        "/".to_owned(),
        "/api/v1/public/gpus?limit=200".to_owned(),
        format!("/?q={victim}"),
        format!("/gpu/{victim}"),
        format!("/api/v1/public/gpus/{victim}"),
        format!("/api/v1/public/gpus/{victim}/proofs"),
        format!("/api/v1/public/gpus?q={victim}&fields=owner&include=account"),
        format!("/api/v1/public/gpus/{victim}?expand=owner"),
    ];
    targets.extend(m.plan.accounts.iter().map(|account| format!("/api/v1/public/gpus?q={account}")));
    for target in &targets {
        let answer = m.plain("GET", target, b"").await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let ids: Vec<String> =
            ["acct", "mach", "key"].iter().flat_map(|prefix| html::ids(&text, prefix)).collect();
        // A page may repeat what was searched for; it must not add to it.
        found += ids.iter().filter(|id| !target.contains(id.as_str())).count();
        let listed = answer.json()["gpus"].as_array().map_or(0, Vec::len);
        found += if target.contains("?q=acct_") { listed } else { 0 };
    }
    m.tell(
        "asks the explorer and its API for the owner of a GPU, and for the GPUs of an owner",
        found == 0,
        format!("{found} owners in {} answers: the public projection has no such column", targets.len()),
    );
    Ok(())
}

/// The second: rewrite another machine's metadata.
async fn metadata(m: &Mallory, victim: GpuId) -> anyhow::Result<()> {
    with_headers(m, victim).await?;
    without_a_key(m, victim).await
}

fn label(victim: GpuId) -> anyhow::Result<(String, Vec<u8>)> {
    Ok((e::GpuLabel::path(&[&victim]), serde_json::to_vec(&json!({"label": "owned"}))?))
}

/// With its own key, and the owner in a header.
///
/// # Errors
/// When nobody answers.
pub async fn with_headers(m: &Mallory, victim: GpuId) -> anyhow::Result<()> {
    let (target, body) = label(victim)?;
    m.expect(
        "renames another's GPU with its own key",
        &m.signed("PUT", &target, &[], &body).await?,
        404,
        "not_found",
    );
    let mut worst = None;
    for account in &m.plan.accounts {
        let more: Vec<(&str, &str)> = OWNER_HEADERS.iter().map(|name| (*name, account.as_str())).collect();
        let answer = m.signed("PUT", &target, &more, &body).await?;
        if answer.status != 404 || worst.is_none() {
            worst = Some(answer);
        }
    }
    let worst = worst.context("no account leaked")?;
    m.expect(
        format!("the same with {} headers that name the owner, for each leaked account", OWNER_HEADERS.len()),
        &worst,
        404,
        "not_found",
    );
    Ok(())
}

/// With whatever might pass for a token.
///
/// # Errors
/// When nobody answers.
pub async fn without_a_key(m: &Mallory, victim: GpuId) -> anyhow::Result<()> {
    let (target, body) = label(victim)?;
    let bearer = format!("Bearer {}", m.plan.victim_key);
    m.expect(
        "the same without a signature, with the owner's key id as a bearer token",
        &unsigned(m, "PUT", &target, &[("authorization", bearer)], &body).await?,
        401,
        "unsigned",
    );
    m.expect("the same with no credential at all", &m.plain("PUT", &target, &body).await?, 401, "unsigned");
    let session = format!("__Host-gangline={}", m.plan.session);
    m.expect(
        "the same with its browser's session instead of a key",
        &unsigned(m, "PUT", &target, &[("cookie", session)], &body).await?,
        401,
        "unsigned",
    );
    let mut headers = m.client.signature("PUT", &target, "", &body);
    for (_, value) in &mut headers {
        *value = value.replace(&m.key.public().id().to_string(), &m.plan.victim_key);
    }
    m.expect(
        "the same signed with its own key under the owner's key id",
        &unsigned(m, "PUT", &target, &headers, &body).await?,
        401,
        "bad_signature",
    );
    Ok(())
}

async fn unsigned(
    m: &Mallory,
    method: &str,
    target: &str,
    headers: &[(&str, String)],
    body: &[u8],
) -> anyhow::Result<http1::Answer> {
    let mut all = vec![("content-type", "application/json".to_owned())];
    all.extend(headers.iter().cloned());
    m.send(&http1::bytes(method, target, m.authority(), &all, body)).await
}

/// A copy of a request, as it is and altered.
///
/// # Errors
/// When nobody answers.
pub async fn copies(m: &Mallory, victim: GpuId) -> anyhow::Result<()> {
    let stolen = STANDARD.decode(&m.plan.stolen).context("the loot is no base64")?;
    let text = String::from_utf8(stolen.clone()).context("the loot is no text")?;
    m.expect("sends a stolen request again, byte for byte", &m.send(&stolen).await?, 401, "replayed");
    let body = text.replace(STOLEN_LABEL, "mallory was");
    anyhow::ensure!(
        body != text && body.len() == text.len(),
        "the loot is not the request that was expected"
    );
    m.expect("sends it with another body", &m.send(body.as_bytes()).await?, 401, "wrong_digest");
    let digest = |body: &str| gangline_wire::sig::digest_header(&gangline_wire::sig::digest(body.as_bytes()));
    let (head, old) = text.split_once("\r\n\r\n").context("the loot has no body")?;
    let new = old.replace(STOLEN_LABEL, "mallory was");
    let both = format!("{}\r\n\r\n{new}", head.replace(&digest(old), &digest(&new)));
    m.expect(
        "sends it with another body and that body's digest",
        &m.send(both.as_bytes()).await?,
        401,
        "bad_signature",
    );
    let own = m.plan.gpus.iter().find(|gpu| **gpu != victim).copied().unwrap_or(GpuId::from_bytes([7; 16]));
    let other = text.replacen(&victim.to_string(), &own.to_string(), 1);
    m.expect("sends it to another GPU", &m.send(other.as_bytes()).await?, 401, "bad_signature");
    let line = text
        .lines()
        .find(|line| line.starts_with("gangline-sequence: "))
        .context("the loot has no number")?;
    let later = text.replace(line, &format!("gangline-sequence: {}", now().0 * 1000));
    m.expect("sends it with a later number", &m.send(later.as_bytes()).await?, 401, "bad_signature");
    let elsewhere = text.replacen(&format!("host: {}", m.authority()), "host: gangline.example", 1);
    m.expect(
        "sends it in the name of another server",
        &m.send(elsewhere.as_bytes()).await?,
        421,
        "other_authority",
    );
    Ok(())
}

/// Everything else of others that a machine's key might reach.
async fn others(m: &Mallory, victim: GpuId) -> anyhow::Result<()> {
    let minute = now().seconds().minute();
    let beats = json!({"beats": [{"minute": minute.0 - 200, "gpus": [victim]}], "worker_version": "0"});
    let answer = m.signed_json("POST", "/api/v1/machine/beats", &beats).await?;
    let credited = answer.json()["credited"].as_u64();
    let reason = answer.json()["refused"][0]["reason"].as_str().unwrap_or("no reason").to_owned();
    m.tell(
        "beats for another's GPU",
        answer.status == 200 && credited == Some(0),
        format!("0 minutes credited: {reason}"),
    );
    let proof = m.signed_json("POST", "/api/v1/machine/proofs", &json!({"gpus": [victim]})).await?;
    m.expect("asks for a challenge to another's GPU, to fail it", &proof, 404, "not_found");
    let offer = json!({"gpu": victim, "price_per_hour": 0, "hours_max": 168, "memory_bytes": 1u64 << 40, "cpus_millis": 64000});
    let before = m.plain("GET", &format!("/api/v1/public/gpus/{victim}"), b"").await?.json();
    let sync = json!({"paused": false, "offers": [offer], "clusters": [], "wait": 0});
    let answer = m.signed_json("POST", "/api/v1/machine/sync", &sync).await?;
    let after = m.plain("GET", &format!("/api/v1/public/gpus/{victim}"), b"").await?.json();
    let orders = answer.json()["clusters"].as_array().map_or(0, Vec::len);
    let same = before["rentable"] == after["rentable"] && orders == 0;
    m.tell(
        "offers another's GPU for nothing",
        same,
        format!("{}; the offer is not that GPU's, and no order came", answer.words()),
    );
    let hire = m.signed_json("POST", "/api/v1/clusters", &json!({"software_ok": true})).await?;
    m.expect("hires with a machine's key", &hire, 403, "forbidden");
    // Beside the ids that leaked, one that nobody has: both must be answered alike.
    let made_up = ClusterId::from_bytes([7; 16]).to_string();
    let (mut answers, mut unlike) = (0, Vec::new());
    for cluster in m.plan.clusters.iter().chain([&made_up]) {
        for (method, target) in [
            ("GET", format!("/api/v1/clusters/{cluster}")),
            ("DELETE", format!("/api/v1/clusters/{cluster}")),
            ("GET", format!("/api/v1/clusters/{cluster}/ray/api/version")),
            ("POST", format!("/api/v1/clusters/{cluster}/ray/api/jobs/")),
            ("GET", format!("/api/v1/machine/clusters/{cluster}/tunnel")),
        ] {
            let answer = m.signed(method, &target, &[], b"").await?;
            answers += 1;
            if answer.status != 404 {
                unlike.push(format!("{method} {target} is answered {}", answer.words()));
            }
        }
    }
    let by = unlike
        .first()
        .cloned()
        .unwrap_or_else(|| format!("404 not_found {answers} times, as for an id that nobody has"));
    m.tell("looks at, uses, ends and takes over a renter's cluster by its leaked id", unlike.is_empty(), by);
    let console = m
        .form(
            "POST",
            &format!("/console/gpus/{victim}/label"),
            &[("csrf", &csrf(m).await?), ("label", "owned")],
        )
        .await?;
    m.tell("renames another's GPU by the console's form", console.status == 404, console.words());
    let mut worst = 404;
    for key in &m.plan.keys {
        let answer = m.form("POST", &format!("/console/keys/{key}/revoke"), &[("csrf", "guessed")]).await?;
        worst = if answer.status == 403 { worst } else { answer.status };
    }
    m.tell("revokes others' keys by a form without its token", worst == 404, "403 csrf".to_owned());
    let invite = m
        .form("POST", "/console/invite", &[("csrf", &csrf(m).await?), ("role", "operator"), ("name", "me")])
        .await?;
    m.tell("invites itself as an operator", matches!(invite.status, 403 | 404), invite.words());
    Ok(())
}

/// The form token of the attacker's own console.
async fn csrf(m: &Mallory) -> anyhow::Result<String> {
    let console = m.form("GET", "/console", &[]).await?;
    let page = String::from_utf8_lossy(&console.body).into_owned();
    let fields = html::forms(&page).into_iter().flat_map(|form| form.fields);
    let found = fields.into_iter().find(|(name, _)| name == "csrf");
    Ok(found.context("the attacker's console has no form token")?.1)
}

/// What no honest client sends.
async fn malformed(m: &Mallory, victim: GpuId) -> anyhow::Result<()> {
    let target = e::GpuLabel::path(&[&victim]);
    let large = serde_json::to_vec(&json!({"label": "x".repeat(64 * 1024)}))?;
    m.expect(
        "sends a body of 64 KiB where 4 are taken",
        &m.signed("PUT", &target, &[], &large).await?,
        413,
        "too_large",
    );
    let mut weak = [0; 32];
    weak[0] = 1;
    let weak = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(weak);
    let body: Value = json!({"public_key": weak, "kind": "machine", "host": "h", "summary": "s"});
    m.expect(
        "enrols a weak key that verifies signatures nobody made",
        &m.signed_json("POST", "/api/v1/enrolments", &body).await?,
        400,
        "bad_key",
    );
    let twice = m.client.signature("PUT", &target, "", b"{}");
    let both: Vec<_> = twice.iter().chain(twice.iter()).cloned().collect();
    let answer = unsigned(m, "PUT", &target, &both, b"{}").await?;
    m.expect("sends every signature header twice", &answer, 400, "malformed_header");
    let old = super::samples::signed_at(m, "PUT", &target, b"{}", now().seconds().0 - 3600);
    m.expect(
        "signs an hour in the past",
        &unsigned(m, "PUT", &target, &old, b"{}").await?,
        401,
        "skewed_clock",
    );
    Ok(())
}
