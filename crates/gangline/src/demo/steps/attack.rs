//! `attack`: Mallory has an account, a machine and a key, and whatever leaked elsewhere: account ids, key
//! ids, a copy of a request. The attacker is a process of its own; here it gets its loot, and afterwards
//! everything it could have changed is compared with what it was.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use gangline_types::{GpuId, Standing, public::PublicGpu};
use gangline_wire::{
    Endpoint,
    endpoints::{GpuLabel, PublicGpuEpochs},
};
use gangline_worker::client::Client;
use serde_json::json;

use super::join;
use crate::demo::{
    process::{Process, Spec},
    world::{Stolen, World, until},
};
use crate::stage::{
    attacker::{Attempt, Phase, Plan, STOLEN_LABEL},
    html, http1,
    http1::Answer,
};

/// Whether the network said that this was a copy.
pub fn is_replayed(answer: &Answer) -> bool {
    answer.status == 401 && answer.code() == "replayed"
}

/// A request of Ada's machine that the network takes; its very bytes are the loot.
pub async fn steal(world: &World) -> anyhow::Result<Stolen> {
    let machine = world.machines.first().context("no machine joined")?;
    let gpu = machine.gpus.first().context("no GPU joined")?;
    let client = Client::new(&world.origin, Some(machine.key()?))?;
    let path = GpuLabel::path(&[gpu]);
    let body = serde_json::to_vec(&json!({"label": STOLEN_LABEL}))?;
    let mut headers = vec![("content-type", "application/json".to_owned())];
    headers.extend(client.signature("PUT", &path, "", &body));
    let bytes = http1::bytes("PUT", &path, world.authority(), &headers, &body);
    let answer = http1::send(world.authority(), &bytes).await?;
    ensure!(answer.status == 200, "the machine's own request is answered {}", answer.words());
    // The comparison begins with what the owner did.
    until(Duration::from_secs(15), || async {
        let shown = world.gpus().await?.into_iter().find(|shown| shown.id == *gpu);
        ensure!(
            shown.is_some_and(|shown| shown.label.as_str() == STOLEN_LABEL),
            "{gpu} is not shown with its owner's name"
        );
        Ok(())
    })
    .await?;
    Ok(Stolen { bytes })
}

/// What nobody but the owner and the network may change of a GPU, but how much memory it has shown.
fn unchanging(gpu: &PublicGpu) -> String {
    json!([
        gpu.label,
        gpu.model,
        gpu.kind,
        gpu.backend,
        gpu.memory_bytes,
        gpu.standing,
        gpu.profile.matrix_mmacs,
        gpu.registered_at
    ])
    .to_string()
}

/// The others' GPUs as the explorer shows them.
async fn theirs(world: &World) -> anyhow::Result<Vec<PublicGpu>> {
    let ids = world.their_gpus();
    let mut gpus = world.gpus().await?;
    gpus.retain(|gpu| ids.contains(&gpu.id));
    Ok(gpus)
}

/// How much memory each of the others' GPUs has shown.
async fn shown(world: &World) -> anyhow::Result<BTreeMap<GpuId, u64>> {
    Ok(theirs(world).await?.iter().map(|gpu| (gpu.id, gpu.profile.memory_bytes)).collect())
}

/// Whoever is shown with another memory than before has proven just that: machines go on proving meanwhile.
async fn is_proven(world: &World, before: &BTreeMap<GpuId, u64>) -> anyhow::Result<()> {
    let after = shown(world).await?;
    for (gpu, was) in before {
        let is = after.get(gpu).with_context(|| format!("{gpu} is gone"))?;
        if is == was {
            continue;
        }
        let epochs =
            world.anyone()?.call::<PublicGpuEpochs>(&[gpu], &Default::default(), &Default::default()).await?;
        ensure!(
            epochs.iter().any(|epoch| epoch.accepted && epoch.memory_bytes == *is),
            "{gpu} was shown with {was} bytes and is with {is}, which no epoch of its own has shown"
        );
    }
    Ok(())
}

/// Everything else that an attack could have changed: the others' GPUs, the snapshots, the accounts.
async fn books(world: &mut World) -> anyhow::Result<BTreeMap<String, String>> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for gpu in theirs(world).await? {
        all.insert(gpu.id.to_string(), unchanging(&gpu));
    }
    let known: Vec<u32> = world.snapshots.iter().map(|head| head.period).collect();
    for head in world.public_snapshots().await?.into_iter().filter(|head| known.contains(&head.period)) {
        all.insert(format!("snapshot {}", head.period), head.root.to_string());
    }
    let console = world.browser("operator")?.get("/console").await?;
    let accounts =
        console.text.split("id=\"h-accounts\"").nth(1).and_then(|rest| rest.split("</section>").next());
    let accounts = accounts.context("the operator's console lists no accounts")?;
    for row in accounts.split("<tr>").skip(2) {
        let id = html::ids(row, "acct").into_iter().next().unwrap_or_default();
        let name = row.split("<bdi>").nth(1).and_then(|rest| rest.split("</bdi>").next()).unwrap_or_default();
        let role = ["operator", "supplier", "renter"]
            .into_iter()
            .find(|role| row.contains(&format!("<td>{role}</td>")));
        all.insert(id, format!("{name}, {}", role.unwrap_or("no role")));
    }
    Ok(all)
}

/// How long the attacker may say nothing: whoever claims to be what it is not is given up to six challenges of a minute each, and on a
/// machine that is loaded it misses some.
const SILENT: Duration = Duration::from_secs(420);

/// Runs the attacker's process.
async fn act(world: &World, plan: &Plan) -> anyhow::Result<Vec<Attempt>> {
    let spec = Spec {
        name: format!("attacker-{}", plan.phase.word()),
        program: world.scene.program.clone(),
        args: ["demo", "--attacker"].map(Into::into).to_vec(),
        env: world.scene.software_only(),
        folder: world.folder.clone(),
        stdin: Some(serde_json::to_vec(plan)?),
    };
    let mut process = Process::start(&world.fleet, spec)?;
    let mut attempts = Vec::new();
    loop {
        let (_, line) = process.line(SILENT).await?;
        let attempt: Attempt =
            serde_json::from_str(&line).with_context(|| format!("the attacker said {line:?}"))?;
        if attempt.is_end() {
            break;
        }
        let verdict = if attempt.stopped { "stopped" } else { "NOT STOPPED" };
        world.narrator.say(&format!("{verdict}: {} -> {}", attempt.what, attempt.by));
        attempts.push(attempt);
    }
    process.finish(Duration::from_secs(20)).await?.good("the attacker")?;
    Ok(attempts)
}

pub async fn run(world: &mut World) -> anyhow::Result<String> {
    let env = world.scene.software_only();
    let mut machine = join::machine(world, "mallory", env)?;
    join::join(world, &mut machine).await.context("Mallory could not join like everybody else")?;
    world.mallory = Some(machine);
    world.stolen = Some(steal(world).await?);
    world.narrator.say("Mallory joined honestly and has a key of its own. Suppose that account ids, key ids and a copy of a request leaked to it.");
    let (before, memory) = (books(world).await?, shown(world).await?);

    let operator = world.browser("operator")?.get("/console").await?.text;
    let session = world.browser("mallory")?.session().context("Mallory has a session")?.to_owned();
    let mallory = world.mallory.as_ref().context("Mallory has a machine")?;
    let victim = world.machines.first().context("no machine joined")?;
    let stolen = world.stolen.as_ref().context("a request was stolen")?;
    let mut plan = Plan {
        origin: world.origin.clone(),
        data: mallory.data.clone(),
        session,
        accounts: html::ids(&operator, "acct"),
        keys: html::ids(&operator, "key"),
        victim_key: victim.key()?.public().id().to_string(),
        clusters: html::ids(&operator, "clu"),
        gpus: world.their_gpus(),
        stolen: STANDARD.encode(&stolen.bytes),
        phase: Phase::Targeted,
    };
    let key = mallory.key()?.public().id().to_string();
    let mut attempts = act(world, &plan).await?;

    let seen = world.browser("operator")?.get("/console").await?.text;
    let refusals = seen
        .split("id=\"h-refusals\"")
        .nth(1)
        .and_then(|rest| rest.split("</section>").next())
        .unwrap_or_default();
    let attributed = refusals.matches(key.as_str()).count();
    ensure!(attributed > 0, "the operator's console attributes no refusal to Mallory's key {key}");
    for code in ["not_found", "replayed", "wrong_digest", "bad_signature", "unsigned"] {
        ensure!(refusals.contains(code), "the operator's console shows no refusal {code}");
    }
    world.narrator.say(&format!("The operator's console shows {attributed} refusals of Mallory's key {key}, and the forged ones by whom they claimed to be."));

    let noticed = noticed(world, &key).await?;
    world.narrator.say(&noticed);

    plan.phase = Phase::Injection;
    attempts.extend(act(world, &plan).await?);
    let fake = attempts.iter().find_map(|attempt| attempt.gpu);
    let through: Vec<&Attempt> = attempts.iter().filter(|attempt| !attempt.stopped).collect();
    let list: Vec<String> =
        through.iter().map(|attempt| format!("{} ({})", attempt.what, attempt.by)).collect();
    ensure!(through.is_empty(), "not everything was stopped: {}", list.join("; "));
    // What comes last is shown: then so is all that came before it.
    let standing = until(Duration::from_secs(15), || standing(world, fake)).await?;
    let after = books(world).await?;
    is_proven(world, &memory).await?;
    for (name, value) in &before {
        let now = after.get(name);
        ensure!(now == Some(value), "{name} was {value} and is {}", now.map_or("gone", String::as_str));
    }
    ensure!(
        after.len() == before.len(),
        "something was added: {:?}",
        after.keys().filter(|k| !before.contains_key(*k)).collect::<Vec<_>>()
    );
    let gpus: Vec<GpuId> = fake.into_iter().collect();
    if let Some(machine) = &mut world.mallory {
        machine.gpus = gpus;
    }
    let requests: u64 = attempts.iter().map(|attempt| attempt.requests).sum();
    Ok(format!(
        "{} kinds of attack with {requests} requests, all stopped; {} rows of GPUs, snapshots and accounts are as before; {attributed} refusals attributed to the attacker's key on the operator's console; its writes were frozen by rule, and its beats were not; {standing}",
        attempts.len(),
        before.len()
    ))
}

/// The security page tells of the attacker's key, whose writes were frozen by rule. Then the operator lifts it,
/// to see what else is tried.
async fn noticed(world: &mut World, key: &str) -> anyhow::Result<String> {
    let (mut told, mut lifted, mut quiet) = (false, 0, 0);
    // The key is frozen for what it signed, the account for what was tried in its browser, and a rule that counts
    // may come to its end later: lifted is what stands there, until for three seconds nothing new does.
    for _ in 0..120 {
        let page = world.browser("operator")?.get("/console/security").await?.text;
        told |= page.contains("foreign touch") && page.matches(key).count() >= 2;
        let lifts: Vec<_> =
            html::forms(&page).into_iter().filter(|form| form.action.ends_with("/lift")).collect();
        for form in &lifts {
            world.browser("operator")?.press(form, &[]).await?;
            lifted += 1;
        }
        quiet = if lifts.is_empty() { quiet + 1 } else { 0 };
        if told && lifted >= 2 && quiet >= 12 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    ensure!(
        told && lifted > 0,
        "the operator's security page tells of no foreign touch by {key}, or nothing is frozen"
    );
    Ok(format!(
        "The operator's security page has an incident with Mallory's key, and {} made by rule. Suppose the operator lifts them, to see what else Mallory tries.",
        if lifted == 1 { "a freeze".to_owned() } else { format!("{lifted} freezes") }
    ))
}

async fn standing(world: &World, fake: Option<GpuId>) -> anyhow::Result<String> {
    let fake = fake.context("the attacker claimed no GPU")?;
    let gpu =
        world.gpus().await?.into_iter().find(|gpu| gpu.id == fake).context("the false claim is not shown")?;
    ensure!(
        gpu.standing == Standing::Suspect,
        "the false {} is {}: {}",
        gpu.model,
        gpu.standing,
        gpu.standing_reason
    );
    Ok(format!("its {} is {}: {}", gpu.model, gpu.standing, gpu.standing_reason))
}
