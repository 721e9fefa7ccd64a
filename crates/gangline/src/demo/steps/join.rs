//! `join`: accounts by one-time links, machines by approval in a browser, keys that stay where they are made.

use std::{ffi::OsString, fs, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration, time::Instant};

use anyhow::{Context, bail, ensure};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

use crate::demo::{
    proc,
    process::Process,
    world::{Machine, World},
};
use crate::stage::{browser::Browser, html};

/// A cluster costs a thousandth of a credit a second: easy to check in one's head.
const PRICE_PER_HOUR_MICRO: u64 = 3_600_000;
/// Memory of one cluster where the machine has plenty.
const CLUSTER_BYTES: u64 = 3 << 30;

/// Invites somebody and signs their browser in.
pub async fn account(world: &mut World, role: &str, name: &'static str) -> anyhow::Result<()> {
    let link = world
        .browser("operator")?
        .invite(role, name)
        .await
        .with_context(|| format!("{name} could not be invited"))?;
    let mut browser = Browser::new(&world.origin)?;
    browser.enter(&link).await.with_context(|| format!("{name} could not sign in"))?;
    world.secrets.extend(browser.session().map(|secret| (format!("{name}'s session"), secret.to_owned())));
    world.browsers.insert(name, browser);
    Ok(())
}

/// Makes a machine's folder with its owner's settings; nothing has joined yet.
pub fn machine(world: &World, owner: &'static str, env: Vec<(String, OsString)>) -> anyhow::Result<Machine> {
    let data = world.folder.join(owner);
    fs::create_dir(&data).with_context(|| format!("could not make {}", data.display()))?;
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700))?;
    let memory = if world.scene.memory_bytes >= 4 * CLUSTER_BYTES { CLUSTER_BYTES } else { 0 };
    let ray = toml::Value::String(world.scene.ray_home.display().to_string());
    let settings = format!(
        "name = \"{owner}'s machine\"\n\n[rent]\nprice_per_hour_micro = {PRICE_PER_HOUR_MICRO}\nmemory_bytes_max = {memory}\nray_home = {ray}\n"
    );
    fs::write(data.join("worker.toml"), settings)
        .with_context(|| format!("could not write in {}", data.display()))?;
    world.fleet.sweep_later(data.clone());
    Ok(Machine { owner, data, env, worker: None, gpus: Vec::new(), approved_at: None })
}

/// What was seen of a machine that joined.
pub struct Joined {
    /// Its key's fingerprint.
    pub fingerprint: String,
    /// Processes whose command lines were looked at while it joined.
    pub looked: usize,
}

/// Joins it: the terminal shows a code, the owner compares and approves, the process ends well.
pub async fn join(world: &mut World, machine: &mut Machine) -> anyhow::Result<Joined> {
    let owner = machine.owner;
    let mut joining = start(world, machine)?;
    let shown = joining
        .event("code", Duration::from_secs(60))
        .await
        .with_context(|| format!("{owner}'s machine showed no code"))?;
    let text = |name: &str| shown[name].as_str().unwrap_or_default().to_owned();
    let (code, link, fingerprint) = (text("user_code"), text("url"), text("fingerprint"));
    world.narrator.say(&format!("{owner}'s terminal shows the code {code} and the key {fingerprint}; {owner} compares both in the browser and approves."));
    for (what, secret) in seeds(machine)? {
        world.secrets.push((what, secret));
    }
    let looked = no_secret_on_a_command_line(world)?;
    world
        .browser(owner)?
        .approve(&link, &code, &fingerprint)
        .await
        .with_context(|| format!("{owner} could not approve"))?;
    machine.approved_at = Some(Instant::now());
    joining.finish(Duration::from_secs(60)).await?.good("worker join")?;
    let file = machine.data.join("machine.key");
    let mode = fs::metadata(&file)
        .with_context(|| format!("{owner}'s machine has no key file"))?
        .permissions()
        .mode()
        & 0o777;
    ensure!(mode == 0o600, "{} has mode {mode:o}, not 600", file.display());
    Ok(Joined { fingerprint, looked })
}

/// The machine's secret key as it might be written somewhere.
fn seeds(machine: &Machine) -> anyhow::Result<[(String, String); 2]> {
    let seed = machine.key()?.seed();
    let hex: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
    let what = format!("the key of {}'s machine", machine.owner);
    Ok([(what.clone(), hex), (what, STANDARD_NO_PAD.encode(seed.as_ref()))])
}

fn start(world: &World, machine: &Machine) -> anyhow::Result<Process> {
    let data: PathBuf = machine.data.clone();
    let args: [OsString; 6] = [
        "worker".into(),
        "--data".into(),
        data.into(),
        "--json".into(),
        "join".into(),
        world.origin.clone().into(),
    ];
    world.gangline(&format!("{}-join", machine.owner), args, &machine.env)
}

pub async fn run(world: &mut World) -> anyhow::Result<String> {
    for (role, name) in [("supplier", "ada"), ("supplier", "ben"), ("renter", "rae"), ("supplier", "mallory")]
    {
        account(world, role, name).await?;
    }
    world.narrator.say("The operator invited two suppliers (ada, ben), a renter (rae), and without knowing it an attacker (mallory).");
    let mut joined = Vec::new();
    for owner in ["ada", "ben"] {
        // The first machine shows what this one really has; the second is always a software device.
        let env =
            if owner == "ada" && real_gpus(world).await? { Vec::new() } else { world.scene.software_only() };
        let mut machine = machine(world, owner, env)?;
        joined.push(join(world, &mut machine).await?);
        world.machines.push(machine);
    }
    let [ada, ben] = &joined[..] else { bail!("{} machines joined, not two", joined.len()) };
    ensure!(ada.fingerprint != ben.fingerprint, "both machines have the same key");
    let mut shown = Vec::new();
    for owner in ["ada", "ben"] {
        let console = world.browser(owner)?.get("/console").await?;
        ensure!(
            html::ids(&console.text, "key").len() == 1,
            "{owner}'s console does not show exactly one key"
        );
        shown.push(owner);
    }
    Ok(format!(
        "{} suppliers approved one machine each, keys {} and {}, files of mode 600; while they joined, no secret and no account, machine or key id was on the command lines of {} processes",
        shown.len(),
        ada.fingerprint,
        ben.fingerprint,
        ada.looked + ben.looked
    ))
}

/// Whether this machine has an adapter that is no program.
async fn real_gpus(world: &World) -> anyhow::Result<bool> {
    let data = world.folder.join("look");
    let args: [OsString; 5] =
        ["worker".into(), "--data".into(), data.into(), "--json".into(), "inventory".into()];
    let ended = world.run("inventory", args, Duration::from_secs(60)).await?.good("worker inventory")?;
    let value = ended.json()?;
    let gpus = value["gpus"].as_array().cloned().unwrap_or_default();
    Ok(gpus.iter().any(|gpu| gpu["kind"] != "software"))
}

/// Looks at the command line of every process of ours; how many there were.
pub fn no_secret_on_a_command_line(world: &World) -> anyhow::Result<usize> {
    let pids = proc::tree(&world.fleet.pids());
    for pid in &pids {
        let line = proc::command_line(*pid);
        for (what, secret) in &world.secrets {
            ensure!(!line.contains(secret.as_str()), "the command line of process {pid} holds {what}");
        }
        for prefix in ["acct", "mach", "key"] {
            ensure!(
                html::ids(&line, prefix).is_empty(),
                "the command line of process {pid} holds an id: {line}"
            );
        }
    }
    Ok(pids.len())
}
