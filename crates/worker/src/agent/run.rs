//! The running worker: registers this machine's GPUs, then beats, proves, talks with the server and runs
//! renters' clusters until somebody ends it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use gangline_types::{GpuId, Hash};
use gangline_wire::endpoints::DescribeInventory;

use super::{
    backoff::Backoff,
    beats::{self, Buffer},
    child::{self, Executable},
    clusters::{self, Clusters},
    data::{DataDir, Joined, KEY, REGISTERED, STATUS},
    epochs,
    error::AgentError,
    host,
    intent::Intent,
    inventory::{self, LocalGpu},
    preflight::chain,
    progress::Bars,
    proving,
    report::Reporter,
    rotate, sandbox,
    settings::{Isolation, Settings},
    shared::{End, Shared, now},
    status::{GpuStatus, Status},
    sync,
};
use crate::client::Client;

/// Adapters are looked at again this often: a card that fell off the bus stops beating, a new one is
/// registered. Also how often standings are asked for anew.
const LOOK_AGAIN: Duration = Duration::from_secs(600);
/// Everything of a sandbox is gone within this, or the process ends all the same; the next start sweeps.
const STOP_WITHIN: Duration = Duration::from_secs(45);
const STATUS_EACH: Duration = Duration::from_secs(5);
/// Changes of the status that come together are written together.
const STATUS_GATHER: Duration = Duration::from_millis(200);

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The machine's data directory.
    pub data: DataDir,
    /// For the children and nodes.
    pub executable: Executable,
}

/// Why a worker ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Somebody asked it to: ctrl-c or SIGTERM.
    Asked,
    /// Its machine left the network.
    Left,
}

/// Runs until ctrl-c, SIGTERM, or the machine leaves; exit code 0 then.
///
/// # Errors
/// If the machine has not joined, another worker runs here, or the network ended its key.
pub async fn run(options: RunOptions, reporter: &Reporter) -> Result<Ended, AgentError> {
    let RunOptions { data, executable } = options;
    let not_joined = || AgentError::NotJoined { data: data.path().into() };
    let joined = Joined::load(&data)?.ok_or_else(not_joined)?;
    data.prepare()?;
    let fingerprint = data.key()?.ok_or_else(not_joined)?.public().fingerprint();
    let settings = Settings::load(&data)?;
    let intent = Intent::load(&data)?;
    let buffer = Buffer::load(&data)?;
    let known = clusters::load(&data)?;
    let _lock = data.lock()?;

    let failed = |source| AgentError::Client { doing: "start the worker", source };
    let client = Client::with_key_file(&joined.url, &data.file(KEY)).map_err(failed)?;
    let mut problems = Vec::new();
    match sandbox::sweep_leftovers(&data).await {
        Ok(found) if found.is_empty() => {}
        Ok(found) => {
            tracing::warn!(found = found.join(", "), "an earlier worker left this behind; it was removed")
        }
        Err(why) => {
            tracing::error!(why, "what an earlier worker left could not be removed");
            problems.push(format!("what an earlier worker left could not be removed: {why}"));
        }
    }
    let (sandbox, no_renter_work) = choose_sandbox(&data, &settings).await;
    let status = Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        server: joined.url.clone(),
        fingerprint: fingerprint.clone(),
        name: host::facts(&settings.name, None).name.to_string(),
        pid: std::process::id(),
        started_at: now(),
        updated_at: now(),
        paused: intent.paused,
        isolation: sandbox.as_ref().map(|s| s.backend().to_string()),
        no_renter_work,
        beats_buffered: buffer.len() as u32,
        problems,
        ..Status::default()
    };
    let bars = Bars::new(reporter.is_machine());
    let shared = Arc::new(Shared::new(client, data, settings, executable, bars, status));
    let clusters = Arc::new(Clusters::new(Arc::clone(&shared), sandbox, known));
    tracing::info!(server = joined.url, fingerprint, data = %shared.data.path().display(), "the worker runs");
    reporter.event(serde_json::json!({"event": "running", "server": joined.url, "fingerprint": fingerprint}));
    reporter.say(&format!("This machine works for {} (key {}); ctrl-c ends it.", joined.url, fingerprint));

    let writing = tokio::spawn(write_status(Arc::clone(&shared)));
    let listening = tokio::spawn(listen(Arc::clone(&shared)));
    let watching = tokio::spawn(watch_files(Arc::clone(&shared)));
    let rotating = Arc::clone(&shared);
    let rotating = tokio::spawn(async move { rotate::when_due(&rotating).await });
    let working = tokio::spawn(work(Arc::clone(&shared), Arc::clone(&clusters), buffer));
    shared.stop.cancelled().await;
    let end = settle(&shared).await;
    tracing::info!(why = ?end, "the worker ends");

    let down = async {
        clusters.stop_all().await;
        if end == End::Asked {
            sync::farewell(&shared, &clusters).await;
        }
        working.await
    };
    if tokio::time::timeout(STOP_WITHIN, down).await.is_err() {
        tracing::error!("something did not end in time; the next start removes what is left");
    }
    for task in [writing, listening, watching, rotating] {
        task.abort();
        let _ = task.await;
    }
    last_status(&shared, &end);
    match end {
        End::Asked => {
            reporter.event(serde_json::json!({"event": "stopped"}));
            Ok(Ended::Asked)
        }
        End::Left => {
            reporter.event(serde_json::json!({"event": "left"}));
            reporter.say("This machine left the network; the worker ends.");
            Ok(Ended::Left)
        }
        End::KeyEnded(why) => {
            reporter.event(serde_json::json!({"event": "key_ended", "why": why}));
            Err(AgentError::KeyEnded { why })
        }
    }
}

/// The sandbox, or why no renter work is taken.
async fn choose_sandbox(
    data: &DataDir,
    settings: &Settings,
) -> (Option<crate::isolation::Sandbox>, Option<String>) {
    if !settings.rent.enabled {
        return (None, Some("rent.enabled is false in worker.toml".to_owned()));
    }
    if settings.rent.isolation == Isolation::None {
        return (None, Some("rent.isolation is \"none\" in worker.toml".to_owned()));
    }
    let chosen = match sandbox::choose(data, settings.rent.isolation).await {
        Ok(chosen) => chosen,
        Err(why) => {
            tracing::warn!(
                why,
                "no renter's program can be isolated here; this machine proves and beats, and takes no renter work"
            );
            return (None, Some(why));
        }
    };
    let ray_home = settings.ray_home(data);
    if !ray_home.join("bin/python").exists() {
        let why =
            format!("there is no Ray environment in {} (rent.ray_home in worker.toml)", ray_home.display());
        tracing::warn!(why, "this machine proves and beats, and takes no renter work");
        return (Some(chosen), Some(why));
    }
    (Some(chosen), None)
}

/// A key that was ended a moment ago may be a machine that just left: `leave` tells the server first.
async fn settle(shared: &Shared) -> End {
    let end = shared.ended().unwrap_or(End::Asked);
    if !matches!(end, End::KeyEnded(_)) {
        return end;
    }
    for _ in 0..20 {
        if matches!(Joined::load(&shared.data), Ok(None)) {
            return End::Left;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    end
}

/// Registers, then everything at once until the worker stops.
async fn work(shared: Arc<Shared>, clusters: Arc<Clusters>, buffer: Buffer) {
    let mut backoff = Backoff::default();
    // GPUs must be known before they can beat; an earlier registration will do while the server is away.
    while shared.gpus().is_empty() {
        match look(&shared).await {
            Ok(true) => break,
            Ok(false) => {
                if remembered(&shared).await {
                    break;
                }
            }
            Err(()) => {}
        }
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(backoff.failed()) => {}
        }
    }
    let beating = tokio::spawn(beats::run(Arc::clone(&shared), buffer));
    let proving = tokio::spawn(proving::run(Arc::clone(&shared)));
    let ringing = tokio::spawn(epochs::run(Arc::clone(&shared)));
    let talking = tokio::spawn(sync::run(Arc::clone(&shared), clusters));
    let looking = tokio::spawn(look_again(Arc::clone(&shared)));
    for task in [beating, proving, ringing, talking, looking] {
        if let Err(e) = task.await {
            tracing::error!(error = %e, "a part of the worker failed");
            shared.end(End::Asked);
        }
    }
}

/// Looks at the adapters again from time to time, and soon while the server has not been told.
async fn look_again(shared: Arc<Shared>) {
    let mut backoff = Backoff::default();
    // Statuses are there only after a registration by this process.
    let mut told = shared.read(|s| !s.gpus.is_empty());
    loop {
        let wait = if told { LOOK_AGAIN } else { backoff.failed() };
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        told = look(&shared).await == Ok(true);
        if told {
            backoff.worked();
        }
    }
}

/// Adapters of this machine as they are now.
async fn local(shared: &Shared) -> Result<(Vec<LocalGpu>, Option<String>), ()> {
    const PROBLEM: &str = "the graphics adapters could not be listed: ";
    let probed = child::probe(&shared.executable).await;
    let why = probed.as_ref().err().map(|e| format!("{PROBLEM}{}", chain(e)));
    if let Some(why) = &why {
        tracing::error!(why, "no inventory");
    }
    shared.update(|s| {
        s.problems.retain(|p| !p.starts_with(PROBLEM));
        s.problems.extend(why);
    });
    let probe = probed.map_err(drop)?;
    let key = shared.client.key().ok_or(())?;
    let slot_key = shared.data.slot_key(&key).map_err(|e| {
        tracing::error!(error = chain(&e), "no inventory: the GPUs cannot be told apart");
    })?;
    Ok((inventory::gpus(&probe, &slot_key), probe.nvidia_driver))
}

/// Looks at the machine and tells the server. `Ok(false)`: the server was not told; an error: the
/// adapters could not be looked at.
async fn look(shared: &Shared) -> Result<bool, ()> {
    let (gpus, nvidia_driver) = local(shared).await?;
    let host = host::facts(&shared.settings.name, nvidia_driver.as_deref());
    let isolation = shared.read(|s| s.isolation.clone().filter(|_| s.no_renter_work.is_none()));
    let inventory = inventory::inventory(host, &gpus, isolation.as_deref());
    let registered = match shared.client.call::<DescribeInventory>(&[], &Default::default(), &inventory).await
    {
        Ok(registered) => registered,
        Err(error) => {
            shared.failed("register this machine's hardware", &error);
            return Ok(false);
        }
    };
    shared.reached();
    let by_slot: BTreeMap<Hash, GpuId> = registered.gpus.iter().map(|g| (g.slot, g.gpu)).collect();
    if let Err(e) = shared.data.write_json(REGISTERED, &by_slot, true) {
        tracing::error!(error = chain(&e), "could not note the GPUs' ids");
    }
    let together: Vec<_> = gpus
        .into_iter()
        .filter_map(|local| registered.gpus.iter().find(|r| r.slot == local.claim.slot).map(|r| (r, local)))
        .collect();
    for (r, local) in &together {
        tracing::info!(gpu = %r.gpu, model = %local.claim.model, kind = local.claim.kind.words(), standing = %r.standing, prove = r.prove, "registered");
    }
    if together.is_empty() {
        tracing::error!("no GPU of this machine is registered; nothing can be proven or beaten for");
    }
    let statuses = |s: &Status| -> Vec<GpuStatus> {
        together
            .iter()
            .map(|(r, local)| GpuStatus {
                gpu: r.gpu,
                model: local.claim.model.to_string(),
                kind: local.claim.kind.words().to_owned(),
                standing: r.standing,
                reason: r.reason.to_string(),
                wanted: r.prove,
                proof: s.gpus.iter().find(|g| g.gpu == r.gpu).and_then(|g| g.proof.clone()),
            })
            .collect()
    };
    shared.set_gpus(together.iter().map(|(r, local)| (r.gpu, local.clone())).collect());
    shared.update(|s| s.gpus = statuses(s));
    Ok(true)
}

/// Takes the GPU ids of an earlier registration for the adapters that are still there, so that beats are
/// kept for them while the server is away.
async fn remembered(shared: &Shared) -> bool {
    let by_slot: BTreeMap<Hash, GpuId> = match shared.data.read_json(REGISTERED) {
        Ok(known) => known.unwrap_or_default(),
        Err(e) => {
            tracing::error!(error = chain(&e), "could not read the GPUs' ids");
            return false;
        }
    };
    let Ok((gpus, _)) = local(shared).await else { return false };
    let known: Vec<_> = gpus.into_iter().filter_map(|g| Some((*by_slot.get(&g.claim.slot)?, g))).collect();
    let any = !known.is_empty();
    if any {
        tracing::info!(
            gpus = known.len(),
            "beats are kept for the GPUs of an earlier registration until the server is back"
        );
        shared.set_gpus(known);
    }
    any
}

/// Ctrl-c and SIGTERM end the worker in good order.
async fn listen(shared: Arc<Shared>) {
    #[cfg(unix)]
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            tracing::error!(%error, "SIGTERM cannot be heard");
            return;
        }
    };
    #[cfg(unix)]
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    #[cfg(not(unix))]
    let _ = tokio::signal::ctrl_c().await;
    shared.end(End::Asked);
}

/// Looks each second at what the owner wants: pause, resume, leave.
async fn watch_files(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        match Joined::load(&shared.data) {
            Ok(None) => shared.end(End::Left),
            Ok(Some(_)) => {}
            // Could not look: that is not "left".
            Err(e) => tracing::warn!(error = chain(&e), "could not look whether this machine left"),
        }
        match Intent::load(&shared.data) {
            Ok(intent) => shared.update(|s| {
                if s.paused != intent.paused {
                    tracing::info!(paused = intent.paused, "the owner changed his mind");
                }
                s.paused = intent.paused;
            }),
            Err(e) => tracing::warn!(error = chain(&e), "could not look at what the owner wants"),
        }
    }
}

/// Writes the status when it changes, and from time to time to show that the worker lives.
async fn write_status(shared: Arc<Shared>) {
    let mut news = shared.news();
    loop {
        news.borrow_and_update();
        let status = Status { updated_at: now(), ..shared.status() };
        if let Err(e) = shared.data.write_json(STATUS, &status, false) {
            tracing::warn!(error = chain(&e), "could not write the status");
        }
        tokio::select! {
            _ = news.changed() => tokio::time::sleep(STATUS_GATHER).await,
            () = tokio::time::sleep(STATUS_EACH) => {}
        }
    }
}

fn last_status(shared: &Shared, end: &End) {
    if *end == End::Left {
        // Nothing of the membership stays.
        let _ = shared.data.remove(STATUS);
        let _ = shared.data.remove(super::data::BEATS);
        let _ = shared.data.remove(super::data::LANE);
        let _ = shared.data.remove(super::data::CLUSTERS);
        let _ = shared.data.remove(REGISTERED);
        return;
    }
    let stopped = match end {
        End::KeyEnded(why) => format!("the network does not take this machine's key any more: {why}"),
        _ => "it was asked to end".to_owned(),
    };
    let status = Status { updated_at: now(), stopped: Some(stopped), ..shared.status() };
    if let Err(e) = shared.data.write_json(STATUS, &status, true) {
        tracing::warn!(error = chain(&e), "could not write the last status");
    }
}
