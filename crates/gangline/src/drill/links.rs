//! The links of the chain, each played with real requests and measured.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use gangline_types::GpuId;
use gangline_wire::{
    Endpoint, Nothing,
    api::{
        enrol::KeyKind,
        operate::{Doer, RestoreRequest},
    },
    endpoints as e,
};
use gangline_worker::client::{self, Client, ClientError, now};
use serde_json::json;

use super::{
    report::Row,
    tenant::{PATIENCE, Tenant, enrol},
};
use crate::stage::{
    attacker::{Attempt, Mallory, Phase, Plan, STOLEN_LABEL, injection, targeted},
    html, http1, random,
};

/// Seconds within which what is foreign must be noticed, and a key felt to have ended.
const NOTICED_SECONDS: f64 = 5.0;
const REVOKED_SECONDS: f64 = 2.0;

/// The attacker of the shared attacks, with what leaked to it.
pub fn mallory(t: &Tenant) -> anyhow::Result<Mallory> {
    let plan = Plan {
        origin: t.origin.clone(),
        data: Default::default(),
        session: t.mallory.session().context("the attacker has no session")?.to_owned(),
        accounts: vec![],
        keys: vec![t.victim.key.public().id().to_string()],
        victim_key: t.victim.key.public().id().to_string(),
        clusters: vec![],
        gpus: t.victim.gpus.clone(),
        stolen: String::new(),
        phase: Phase::Targeted,
    };
    let client = Client::new(&t.origin, Some(t.thief.key.clone()))?;
    Ok(Mallory { plan, client, key: t.thief.key.clone(), requests: 0.into(), kept: Some(Mutex::default()) })
}

/// What the attempts came to: those that were not stopped, and requests in all.
fn through(attempts: &[Attempt]) -> (Vec<String>, u64) {
    let through = attempts.iter().filter(|attempt| !attempt.stopped);
    let words = through.map(|attempt| format!("{} ({})", attempt.what, attempt.by)).collect();
    (words, attempts.iter().map(|attempt| attempt.requests).sum())
}

fn of_attempts(name: &'static str, attempts: &[Attempt], stopped_by: &str) -> Row {
    let (through, requests) = through(attempts);
    let detail = if through.is_empty() {
        let by: std::collections::BTreeSet<&str> =
            attempts.iter().map(|attempt| attempt.by.as_str()).collect();
        let by: Vec<&str> = by.into_iter().take(6).collect();
        format!("{} kinds in {requests} requests, stopped by {stopped_by}: {}", attempts.len(), by.join("; "))
    } else {
        format!("not stopped: {}", through.join("; "))
    };
    Row::new(name, through.len() as f64, 0.0, "kinds that went through", !attempts.is_empty(), detail)
}

/// Names of the victim's GPUs that are other than they were.
async fn changed(t: &Tenant, before: &[(GpuId, String)]) -> anyhow::Result<usize> {
    // What was written would be public a moment later.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let after = t.shown().await?;
    Ok(before.iter().filter(|name| !after.contains(name)).count())
}

/// Asks whose a GPU is, everywhere.
pub async fn explorer_leak(t: &mut Tenant) -> anyhow::Result<Row> {
    let since = Instant::now();
    while t.listed(&t.victim.gpus[0].to_string()).await? == 0 {
        ensure!(since.elapsed() < PATIENCE, "the explorer never came to list the drill's GPUs");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let m = mallory(t)?;
    targeted::owners(&m, t.victim.gpus[0]).await?;
    let attempts = m.kept();
    // Events too: nothing that is pushed names an owner.
    let snapshots = m.plain("GET", "/api/v1/public/snapshots?limit=5", b"").await?;
    let ids = ["acct", "mach", "key"]
        .iter()
        .map(|prefix| html::ids(&String::from_utf8_lossy(&snapshots.body), prefix).len())
        .sum::<usize>();
    let (through, requests) = through(&attempts);
    let detail = match through.first() {
        None => {
            format!("{} answers hold no owner: the public projection has no column for one", requests + 1)
        }
        Some(first) => first.clone(),
    };
    Ok(Row::new(
        "explorer_leak",
        (ids + through.len()) as f64,
        0.0,
        "owners told",
        !attempts.is_empty(),
        detail,
    ))
}

/// Writes with everything that might pass for a token.
pub async fn shared_token(t: &mut Tenant) -> anyhow::Result<Row> {
    let m = mallory(t)?;
    let before = t.shown().await?;
    targeted::without_a_key(&m, t.victim.gpus[0]).await?;
    // What one key signed, shown by another machine.
    let target = e::GpuLabel::path(&[&t.victim.gpus[0]]);
    let body = serde_json::to_vec(&json!({"label": "owned"}))?;
    let mut headers = vec![("content-type", "application/json".to_owned())];
    headers.extend(t.crowd[0].client.signature("PUT", "/api/v1/machine/leave", "", b""));
    let answer = m.send(&http1::bytes("PUT", &target, m.authority(), &headers, &body)).await?;
    m.tell(
        "the same with headers copied from another machine's request",
        answer.status == 401,
        answer.words(),
    );
    let changed = changed(t, &before).await?;
    let mut row = of_attempts("shared_token", &m.kept(), "a signature by the machine's own key");
    row.detail.push_str(&format!("; {changed} rows changed"));
    row.ok &= changed == 0;
    Ok(row)
}

/// Sends a copy of a victim's request, as it is and altered.
pub async fn stolen_request(t: &mut Tenant) -> anyhow::Result<Row> {
    let gpu = t.victim.gpus[0];
    let path = e::GpuLabel::path(&[&gpu]);
    let body = serde_json::to_vec(&json!({"label": STOLEN_LABEL}))?;
    let mut m = mallory(t)?;
    let mut headers = vec![("content-type", "application/json".to_owned())];
    headers.extend(t.victim.client.signature("PUT", &path, "", &body));
    let bytes = http1::bytes("PUT", &path, m.authority(), &headers, &body);
    let answer = m.send(&bytes).await?;
    ensure!(answer.status == 200, "the victim's own request is answered {}", answer.words());
    t.until_shown(&[(gpu, STOLEN_LABEL.to_owned())]).await?;
    let before = t.shown().await?;
    m.plan.stolen = STANDARD.encode(&bytes);
    targeted::copies(&m, gpu).await?;
    let changed = changed(t, &before).await?;
    let mut row = of_attempts("stolen_request", &m.kept(), "its number, its digest and its signature");
    row.detail.push_str(&format!("; {changed} rows changed"));
    row.ok &= changed == 0;
    Ok(row)
}

/// Hostile text in every field.
pub async fn injection(t: &mut Tenant) -> anyhow::Result<Row> {
    let m = mallory(t)?;
    let before = t.shown().await?;
    injection::run(&m).await?;
    let changed = changed(t, &before).await?;
    let mut row = of_attempts("injection", &m.kept(), "typed fields, bound values and inert text");
    row.detail.push_str(&format!("; {changed} rows of others changed"));
    row.ok &= changed == 0;
    // The shared attack describes its machine anew.
    let registered =
        t.thief.client.call::<e::DescribeInventory>(&[], &Nothing {}, &super::tenant::inventory(1)).await?;
    t.thief.gpus = registered.gpus.iter().map(|gpu| gpu.gpu).collect();
    Ok(row)
}

/// Writes standing and status, where there is no such field.
pub async fn metadata_status(t: &mut Tenant) -> anyhow::Result<Row> {
    let m = mallory(t)?;
    let own = t.thief.gpus[0];
    let anyone = Client::new(&t.origin, None)?;
    let standing = async || anyone.call::<e::PublicGpuById>(&[&own], &Nothing {}, &Nothing {}).await;
    let before = standing().await?;
    let label = e::GpuLabel::path(&[&own]);
    let mut claims = serde_json::to_value(super::tenant::inventory(1))?;
    claims["gpus"][0]["standing"] = "proven".into();
    claims["gpus"][0]["profile"] = json!({"matrix_mmacs": 1_000_000_000u64});
    for (what, method, path, body) in [
        (
            "names its GPU and says it is proven",
            "PUT",
            label.as_str(),
            json!({"label": "x", "standing": "proven"}),
        ),
        (
            "names its GPU and says it is connected",
            "PUT",
            label.as_str(),
            json!({"label": "x", "status": "up"}),
        ),
        ("describes its machine with a standing and a rate", "PUT", "/api/v1/machine/inventory", claims),
    ] {
        let answer = m.signed_json(method, path, &body).await?;
        m.tell(what, answer.status == 400, answer.words());
    }
    for verb in ["PUT", "POST", "PATCH"] {
        let path = format!("/api/v1/gpus/{own}/standing");
        let answer = m.signed_json(verb, &path, &json!({"standing": "proven"})).await?;
        m.tell(format!("{verb}s a standing of its own"), answer.status == 404, answer.words());
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let after = standing().await?;
    let same = before.standing == after.standing && before.profile == after.profile;
    let mut row = of_attempts("metadata_status", &m.kept(), "requests that have no such field");
    row.detail.push_str(&format!("; its GPU is {} as before", after.standing));
    row.ok &= same;
    Ok(row)
}

/// Another's GPU, with the owner named in headers; then what becomes of the attacker.
pub async fn header_owner_and_containment(t: &mut Tenant) -> anyhow::Result<(Row, Row)> {
    let mut m = mallory(t)?;
    let own = t.thief.gpus[0];
    let (status, code) = t.thief.name(own, "before").await?;
    ensure!(status == 200, "the attacker's own GPU cannot be named before the attack: {status} {code}");
    let before = t.shown().await?;
    // The victim's account id is in no answer; suppose it leaked.
    m.plan.accounts = vec![
        gangline_types::AccountId::from_bytes([7; 16]).to_string(),
        t.victim.key.public().id().to_string(),
    ];
    let key = t.thief.key.public().id();
    let began = Instant::now();
    targeted::with_headers(&m, t.victim.gpus[0]).await?;
    let noticed = t.noticed(began, |i| i.what == "foreign_touch" && i.key == Some(key)).await?;
    let changed_rows = changed(t, &before).await?;
    let mut header_owner = of_attempts("header_owner", &m.kept(), "an actor that only a signature makes");
    let seconds = noticed.as_ref().map_or(f64::INFINITY, |(_, seconds)| *seconds);
    header_owner.ok &= changed_rows == 0 && seconds <= NOTICED_SECONDS;
    header_owner.detail.push_str(&match &noticed {
        Some((incident, seconds)) => format!(
            "; noticed {seconds:.2} s after the first ({} with key, account, action and GPU, {} attempts so far); {changed_rows} rows changed",
            incident.incident, incident.count
        ),
        None => "; NOT noticed".to_owned(),
    });

    // Containment: what it may do as ever is frozen by rule, and nothing lands any more.
    let since = Instant::now();
    let mut landed = 0u32;
    let felt = loop {
        let (status, code) = t.thief.name(own, &format!("after {landed}")).await?;
        if code == "frozen" {
            break Some(since.elapsed().as_secs_f64());
        }
        landed += u32::from(status == 200);
        if since.elapsed() > PATIENCE {
            break None;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let anyone = Client::new(&t.origin, None)?;
    let mut after_freeze = 0u32;
    for n in 0..50 {
        after_freeze += u32::from(t.thief.name(own, &format!("contained {n}")).await?.0 == 200);
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let shown = anyone.call::<e::PublicGpuById>(&[&own], &Nothing {}, &Nothing {}).await?;
    let contained = !shown.label.as_str().starts_with("contained");
    let freezes = t.freezes(&[key.to_string()]).await?;
    let containment = Row::new(
        "containment",
        f64::from(after_freeze),
        0.0,
        "rows changed after containment",
        felt.is_some() && contained && freezes.len() == 1,
        match (felt, freezes.first()) {
            (Some(felt), Some(freeze)) => format!(
                "its next write of its own, {:.2} s after the first foreign touch, was refused as frozen (after {felt:.2} s of trying), by {} for {}; 50 more writes, {after_freeze} landed",
                began.elapsed().as_secs_f64() - since.elapsed().as_secs_f64() + felt,
                freeze.freeze,
                freeze.reason
            ),
            _ => "its writes were never frozen".to_owned(),
        },
    );
    Ok((header_owner, containment))
}

/// Heartbeats while key and account are frozen; where the network is the drill's own, while all of it is.
pub async fn heartbeats_during_freeze(t: &mut Tenant, local: bool) -> anyhow::Result<Row> {
    let key = t.victim.key.public().id().to_string();
    let mut freezes = vec![t.freeze(&key).await?];
    if local {
        freezes.push(t.freeze("fleet").await?);
    }
    let (status, code) = t.victim.name(t.victim.gpus[1], "frozen").await?;
    let frozen = (status, code.as_str()) == (403, "frozen");
    let (mut sent, mut lost) = (0u32, 0u32);
    for _ in 0..10 {
        for machine in [&t.victim, &t.thief, &t.crowd[0], &t.crowd[1]] {
            sent += machine.gpus.len() as u32;
            let credited = machine.beat().await.map_or(0, |receipt| receipt.credited);
            lost += (machine.gpus.len() as u32).saturating_sub(credited);
        }
    }
    for freeze in freezes {
        t.lift(freeze).await?;
    }
    let lifted = t.victim.name(t.victim.gpus[1], "thawed").await?.0 == 200;
    let lifted = lifted && t.until_shown(&[(t.victim.gpus[1], "thawed".to_owned())]).await? == 0;
    let what = if local { "its key, then the whole fleet frozen" } else { "its key frozen" };
    Ok(Row::new(
        "heartbeats_during_freeze",
        f64::from(lost),
        0.0,
        "GPU-minutes not taken",
        frozen && lifted,
        format!(
            "{} of {sent} GPU-minutes acknowledged from four machines with {what}; names were refused meanwhile and worked again after lifting",
            sent - lost
        ),
    ))
}

/// An account that reaches for more GPUs than it has, with more than one key.
pub async fn breadth(t: &mut Tenant) -> anyhow::Result<Row> {
    let before = t.shown().await?;
    let began = Instant::now();
    for (n, gpu) in t.victim.gpus.iter().enumerate() {
        let (status, _) = t.crowd[n % 2].name(*gpu, "owned").await?;
        ensure!(status == 404, "another's GPU was not hidden: {status}");
    }
    let noticed = t.noticed(began, |i| i.what == "breadth" && i.subject.starts_with("acct_")).await?;
    let mut frozen = None;
    if let Some((incident, _)) = &noticed {
        while frozen.is_none() && began.elapsed() < PATIENCE {
            frozen = t.freezes(std::slice::from_ref(&incident.subject)).await?.into_iter().next();
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
    let changed = changed(t, &before).await?;
    let seconds = noticed.as_ref().map_or(f64::INFINITY, |(_, seconds)| *seconds);
    Ok(Row::new(
        "breadth",
        if seconds.is_finite() { seconds } else { PATIENCE.as_secs_f64() },
        NOTICED_SECONDS,
        "s from the first touch to the alarm",
        changed == 0 && frozen.is_some() && noticed.is_some(),
        match (&noticed, &frozen) {
            (Some((incident, _)), Some(freeze)) => format!(
                "an account of 2 GPUs reached for {} with two keys; told of at {} distinct where {} are usual; the account is frozen by {}; {changed} rows changed",
                t.victim.gpus.len(),
                incident.seen,
                incident.usual,
                freeze.freeze
            ),
            _ => "not noticed, or not frozen".to_owned(),
        },
    ))
}

/// Somebody walks through ids in the explorer.
pub async fn enumeration(t: &mut Tenant) -> anyhow::Result<Row> {
    const IDS_MAX: u32 = 4_000;
    let anyone = client::http().build()?;
    let began = Instant::now();
    let (mut asked, mut noticed) = (0u32, None);
    while asked < IDS_MAX && noticed.is_none() {
        for _ in 0..21 {
            let url = format!("{}/api/v1/public/gpus/{}", t.origin, GpuId::from_bytes(random()?));
            let status = anyone.get(url).send().await?.status().as_u16();
            ensure!(status == 404 || status == 429, "a GPU that nobody has is answered {status}");
            asked += 1;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        noticed = t.incidents().await?.into_iter().find(|incident| incident.what == "enumeration");
    }
    if noticed.is_none() {
        noticed = t.noticed(Instant::now(), |i| i.what == "enumeration").await?.map(|(incident, _)| incident);
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(Row::new(
        "enumeration",
        if noticed.is_some() { seconds } else { PATIENCE.as_secs_f64() },
        NOTICED_SECONDS,
        "s from the first look-up to the alarm",
        noticed.is_some(),
        match noticed {
            Some(incident) => format!(
                "{asked} ids looked up, none of them guessed; noticed of {} at {} distinct misses where {} an hour are usual",
                incident.subject, incident.seen, incident.usual
            ),
            None => format!("{asked} ids looked up, and nobody noticed"),
        },
    ))
}

/// A stolen key renames everything; exactly that is undone, and what the owner did since stays.
pub async fn restore(t: &mut Tenant) -> anyhow::Result<Row> {
    let gpus = t.victim.gpus.clone();
    let mut wanted = Vec::new();
    for (n, gpu) in gpus.iter().enumerate() {
        let label = format!("drill {n}");
        let (status, code) = t.victim.name(*gpu, &label).await?;
        ensure!(status == 200, "the victim cannot name its own GPU: {status} {code}");
        wanted.push((*gpu, label));
    }
    // Whole seconds: what follows is after what came before.
    let since = now().seconds().plus(1);
    while now().seconds() < since {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for gpu in &gpus {
        ensure!(t.victim.name(*gpu, "owned").await?.0 == 200, "the stolen key does not work");
    }
    // The owner notices one of them and sets it right, in a browser.
    let console = t.owner.get("/console").await?;
    let form = console.form(&format!("/console/gpus/{}/label", gpus[0]))?;
    t.owner.press(&form, &[("label", "set by its owner")]).await?;
    wanted[0].1 = "set by its owner".to_owned();
    let doer = Doer::Key(t.victim.key.public().id());
    let wish = |dry_run| RestoreRequest { doer, since, dry_run };
    let began = Instant::now();
    let planned = t.command.call::<e::RestoreLabels>(&[], &Nothing {}, &wish(true)).await?;
    let done = t.confirmed::<e::RestoreLabels>(&[], &wish(false)).await?;
    let took = began.elapsed();
    let again = t.confirmed::<e::RestoreLabels>(&[], &wish(false)).await?;
    let wrong = t.until_shown(&wanted).await?;
    Ok(Row::new(
        "restore",
        wrong as f64,
        0.0,
        "names that are wrong afterwards",
        planned == done && done.restored.len() == gpus.len() - 1 && again.restored.is_empty(),
        format!(
            "{} names set by a stolen key, {} undone in {} ms as announced, 1 that the owner had set right since was left; a second time undoes nothing",
            gpus.len(),
            done.restored.len(),
            took.as_millis()
        ),
    ))
}

/// A key that is used all the time on one connection ends.
pub async fn revocation(t: &mut Tenant) -> anyhow::Result<Row> {
    let origin = t.origin.clone();
    let (client, key) = enrol(&origin, &mut t.owner, KeyKind::CommandLine).await?;
    client.call::<e::Me>(&[], &Nothing {}, &Nothing {}).await.context("a fresh key does not work")?;
    let console = t.owner.get("/console").await?;
    let form = console.form(&format!("/console/keys/{}/revoke", key.public().id()))?;
    let using = tokio::spawn(async move {
        let mut used = 0u32;
        loop {
            match client.call::<e::Me>(&[], &Nothing {}, &Nothing {}).await {
                Ok(_) => used += 1,
                Err(ClientError::Refused { status, body }) => {
                    return (used, Instant::now(), format!("{status} {}", body.code));
                }
                Err(why) => return (used, Instant::now(), why.to_string()),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    t.owner.press(&form, &[]).await?;
    let (used, ended, by) =
        tokio::time::timeout(PATIENCE, using).await.context("a revoked key worked on")??;
    Ok(Row::new(
        "revocation",
        ended.saturating_duration_since(began).as_secs_f64(),
        REVOKED_SECONDS,
        "s from the owner's click to the first refusal",
        by.ends_with("revoked_key"),
        format!("a key in use on one connection ({used} requests) was refused with {by}"),
    ))
}
