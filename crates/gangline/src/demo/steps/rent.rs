//! `rent`: a renter logs in and hires a cluster, while the period runs that `snapshot` waits for. Then the
//! sandbox is looked at from the host's side of the kernel.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use gangline_types::GpuId;
use gangline_wire::api::cluster::{ClusterState, ClusterView};

use super::Found;
use crate::demo::{
    fleet::Fleet,
    proc,
    scene::Scene,
    world::{World, gangline},
};
use crate::stage::browser::Browser;

/// Ports that Ray uses unless told otherwise: its store, dashboard, client, agents, metrics.
const RAY_PORTS: [u16; 7] = [6379, 8265, 10001, 52365, 44217, 44227, 8000];

/// A cluster that runs.
pub struct Hired {
    /// As its renter sees it.
    pub view: ClusterView,
    /// From the first word of logging in to the answer that it runs.
    pub took: Duration,
}

/// Begins to hire, in the background.
pub fn begin(world: &mut World) -> anyhow::Result<()> {
    let gpu = *world.their_gpus().first().context("no GPU is proven")?;
    let (fleet, scene, folder) = (Arc::clone(&world.fleet), world.scene.clone(), world.folder.clone());
    let (data, origin) = (world.rent_data(), world.origin.clone());
    let browser = world.browser("rae")?.clone();
    world.hiring = Some(tokio::spawn(hire(fleet, scene, folder, data, origin, browser, gpu)));
    Ok(())
}

async fn hire(
    fleet: Arc<Fleet>,
    scene: Scene,
    folder: PathBuf,
    data: PathBuf,
    origin: String,
    mut browser: Browser,
    gpu: GpuId,
) -> anyhow::Result<Hired> {
    let began = Instant::now();
    let rent = |name: &str, words: &[&str]| {
        let mut args: Vec<OsString> =
            vec!["rent".into(), "--data".into(), data.clone().into(), "--json".into()];
        args.extend(words.iter().map(OsString::from));
        gangline(&fleet, &scene, &folder, name, args, &[])
    };
    let mut login = rent("rent-login", &["login", &origin])?;
    let shown = login.event("code", Duration::from_secs(30)).await.context("the login showed no code")?;
    let text = |name: &str| shown[name].as_str().unwrap_or_default().to_owned();
    browser
        .approve(&text("url"), &text("user_code"), &text("fingerprint"))
        .await
        .context("the renter could not approve")?;
    login.finish(Duration::from_secs(30)).await?.good("rent login")?;
    // A worker offers its GPU with the first words it exchanges after the proof.
    let gpu = gpu.to_string();
    let mut last = String::new();
    for _ in 0..10 {
        let hiring = rent("rent-hire", &["hire", "--gpu", &gpu, "--software-ok", "--hours", "1"])?;
        let ended = hiring.finish(Duration::from_secs(270)).await?;
        if ended.code == Some(0) {
            let view: ClusterView = serde_json::from_value(ended.json()?)
                .context("rent hire told something else than a cluster")?;
            return Ok(Hired { view, took: began.elapsed() });
        }
        last = ended.words();
        if !last.contains("none_fits") {
            break;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    bail!("no cluster could be hired: {last}")
}

/// Why there will be no cluster, where that can be told beforehand.
async fn cure(world: &World) -> anyhow::Result<()> {
    ensure!(
        world.scene.has_ray(),
        "there is no Ray environment in {}: make it with `cargo xtask demo`, or name one in GANGLINE_RAY_HOME",
        world.scene.ray_home.display()
    );
    let machine = world.machines.first().context("no machine joined")?;
    let status = world.status(machine).await?;
    let why = status["status"]["no_renter_work"].as_str();
    ensure!(
        why.is_none(),
        "{}'s machine takes no renter work: {}; install podman (or bubblewrap 0.8) and run the demonstration as root",
        machine.owner,
        why.unwrap_or_default()
    );
    Ok(())
}

pub async fn run(world: &mut World) -> anyhow::Result<Found> {
    cure(world).await?;
    world.narrator.waiting("waiting until Ray answers in the sandbox");
    let hiring = world.hiring.take().context("nobody began to hire")?;
    let hired = hiring.await.context("hiring broke off")??;
    let began = Instant::now();
    ensure!(hired.view.state == ClusterState::Running, "the cluster is {}", hired.view.state);
    let view = hired.view;
    world.narrator.say(&format!(
        "{} runs on {} after {:.0} s, asked for while the snapshot was awaited.",
        view.id,
        view.gpu,
        hired.took.as_secs_f64()
    ));
    world.cluster = Some(view.clone());

    let machine = world
        .machines
        .iter()
        .find(|machine| machine.gpus.contains(&view.gpu))
        .context("the cluster is on another machine")?;
    let place = machine.sandboxes();
    let inside: Vec<u32> = proc::members(&place.prefix)
        .into_iter()
        .filter(|pid| proc::shares_namespace(*pid, "user").is_ok_and(|shared| !shared))
        .collect();
    ensure!(!inside.is_empty(), "no process is in a control group named {}*", place.prefix);
    let mut users = BTreeSet::new();
    let mut looked = 0;
    for pid in &inside {
        let Ok(confined) = proc::confinement(*pid) else { continue };
        for kind in ["net", "pid", "mnt", "ipc", "uts"] {
            ensure!(
                !proc::shares_namespace(*pid, kind)?,
                "process {pid} of the cluster shares the host's {kind} namespace"
            );
        }
        ensure!(
            confined.seccomp == "2" && confined.no_new_privileges == "1",
            "process {pid} is not confined: {confined:?}"
        );
        ensure!(confined.capabilities == 0 && confined.user != 0, "process {pid} has rights: {confined:?}");
        users.insert(confined.user);
        looked += 1;
    }
    let ports = ports(world, &inside).await?;
    let took = hired.took + began.elapsed();
    let evidence = format!(
        "{} runs on {} {:.1} s after the login began; {looked} processes read back: own user (host uid {:?}), net, pid, mount, ipc and uts namespaces, system call filter, no capabilities; {ports}",
        view.id,
        view.gpu,
        hired.took.as_secs_f64(),
        users.first().copied().unwrap_or_default()
    );
    Ok(Found { evidence, took: Some(took) })
}

/// Ray listens inside its own network and nowhere else.
async fn ports(world: &World, inside: &[u32]) -> anyhow::Result<String> {
    let ours = proc::tree(&world.fleet.pids());
    let sockets: BTreeSet<u64> = ours.iter().flat_map(|pid| proc::sockets(*pid)).collect();
    let host = proc::listening("/proc/net");
    let server: u16 = world
        .origin
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok())
        .context("the server has a port")?;
    let open: BTreeSet<u16> =
        host.iter().filter(|(_, inode)| sockets.contains(inode)).map(|(port, _)| *port).collect();
    ensure!(
        open == BTreeSet::from([server]),
        "ports {open:?} are open on the host; only the server's {server} may be"
    );
    let own: BTreeSet<u16> = inside
        .iter()
        .flat_map(|pid| proc::listening(&format!("/proc/{pid}/net")))
        .map(|(port, _)| port)
        .collect();
    ensure!(!own.is_empty(), "nothing listens inside the sandbox: the check would be empty");
    let taken: BTreeSet<u16> = host.iter().map(|(port, _)| *port).collect();
    let mut tried = 0;
    for port in own.iter().copied().chain(RAY_PORTS).filter(|port| !taken.contains(port)) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let reached =
            tokio::time::timeout(Duration::from_secs(1), tokio::net::TcpStream::connect(address)).await;
        ensure!(!matches!(reached, Ok(Ok(_))), "port {port} of the cluster is reachable from the host");
        tried += 1;
    }
    Ok(format!(
        "Ray listens on {} ports inside, {tried} tried from the host and none reached; the host has the server's port {server} and no other of ours",
        own.len()
    ))
}
