//! What the steps share: the server, the machines, the people and their browsers, and the public API as
//! anyone sees it. Later steps find here what earlier ones made.
//!
//! Decides nothing; it is the scene's inventory.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use gangline_types::{
    GpuId, Hour, Minute,
    public::{PublicGpu, PublicSnapshot},
};
use gangline_wire::{
    SigningKey,
    api::{
        cluster::ClusterView,
        public::{GpusQuery, SnapshotsQuery, UptimeQuery},
    },
    endpoints::{PublicGpuUptime, PublicGpus, PublicSnapshots},
};
use gangline_worker::{client::Client, enrol, isolation::rootfs::RunFolder};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::{
    Interrupt,
    fleet::Fleet,
    process::{Ended, Process, Spec},
    report::Narrator,
    scene::Scene,
    steps::rent::Hired,
};
use crate::stage::browser::Browser;

/// A supplier's machine.
pub struct Machine {
    /// Whose it is, for people.
    pub owner: &'static str,
    /// Its worker's data folder.
    pub data: PathBuf,
    /// What its worker's environment adds.
    pub env: Vec<(String, OsString)>,
    /// Its worker.
    pub worker: Option<Process>,
    /// Its GPU, once registered.
    pub gpus: Vec<GpuId>,
    /// When its join was approved.
    pub approved_at: Option<Instant>,
}

impl Machine {
    /// The machine's key, read as its owner could.
    ///
    /// # Errors
    /// When there is none.
    pub fn key(&self) -> anyhow::Result<SigningKey> {
        enrol::load_key(&self.data.join("machine.key"))?
            .with_context(|| format!("{}'s machine has no key", self.owner))
    }
    /// Where its sandboxes live and how their names begin.
    pub fn sandboxes(&self) -> RunFolder {
        RunFolder::of(&self.data)
    }
}

/// The stolen request: the very bytes of one that a machine sent and the network took.
#[derive(Clone, Debug)]
pub struct Stolen {
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Everything there is.
pub struct World {
    /// Processes that run.
    pub fleet: Arc<Fleet>,
    /// Tells what happens.
    pub narrator: Narrator,
    /// What this machine offers.
    pub scene: Scene,
    /// The temporary folder of it all.
    pub folder: PathBuf,
    /// The server.
    pub server: Option<Process>,
    /// How the server is reached.
    pub origin: String,
    /// The operator's one-time link.
    pub operator_link: String,
    /// Browsers of the people who are signed in, by name.
    pub browsers: BTreeMap<&'static str, Browser>,
    /// The suppliers' machines.
    pub machines: Vec<Machine>,
    /// The attacker's machine.
    pub mallory: Option<Machine>,
    /// The cluster that is being hired.
    pub hiring: Option<JoinHandle<anyhow::Result<Hired>>>,
    /// The cluster that runs.
    pub cluster: Option<ClusterView>,
    /// Snapshots as they were seen.
    pub snapshots: Vec<PublicSnapshot>,
    /// The request that the attacker has a copy of.
    pub stolen: Option<Stolen>,
    /// Secrets that must be nowhere, with what they are.
    pub secrets: Vec<(String, String)>,
    _temporary: tempfile::TempDir,
}

impl World {
    /// An empty scene in a temporary folder.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(narrator: Narrator) -> anyhow::Result<Self> {
        let temporary = tempfile::Builder::new().prefix("gangline-demo-").tempdir();
        let temporary = temporary.context("could not make a temporary folder")?;
        let folder = temporary.path().to_owned();
        let logs = folder.join("logs");
        std::fs::create_dir(&logs).with_context(|| format!("could not make {}", logs.display()))?;
        Ok(Self {
            fleet: Arc::new(Fleet::new(logs)),
            narrator,
            scene: Scene::look()?,
            folder,
            server: None,
            origin: String::new(),
            operator_link: String::new(),
            browsers: BTreeMap::new(),
            machines: Vec::new(),
            mallory: None,
            hiring: None,
            cluster: None,
            snapshots: Vec::new(),
            stolen: None,
            secrets: Vec::new(),
            _temporary: temporary,
        })
    }

    /// Host and port of the server.
    pub fn authority(&self) -> &str {
        self.origin.trim_start_matches("http://")
    }

    /// Starts this very program with other words.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn gangline<S: Into<OsString>>(
        &self,
        name: &str,
        args: impl IntoIterator<Item = S>,
        env: &[(String, OsString)],
    ) -> anyhow::Result<Process> {
        gangline(&self.fleet, &self.scene, &self.folder, name, args, env)
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it cannot be started or does not end in time.
    pub async fn run<S: Into<OsString>>(
        &self,
        name: &str,
        args: impl IntoIterator<Item = S>,
        within: Duration,
    ) -> anyhow::Result<Ended> {
        self.gangline(name, args, &[])?.finish(within).await
    }

    /// One of the people's browsers.
    ///
    /// # Errors
    /// When that person has not signed in.
    pub fn browser(&mut self, who: &'static str) -> anyhow::Result<&mut Browser> {
        self.browsers.get_mut(who).with_context(|| format!("{who} has not signed in"))
    }

    /// The renter's data folder.
    pub fn rent_data(&self) -> PathBuf {
        self.folder.join("renter")
    }

    /// A client without a key: anyone.
    ///
    /// # Errors
    /// When the server's URL cannot be used.
    pub fn anyone(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&self.origin, None)?)
    }

    /// Every GPU of the explorer.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn gpus(&self) -> anyhow::Result<Vec<PublicGpu>> {
        let query = GpusQuery { limit: Some(200), ..GpusQuery::default() };
        Ok(self.anyone()?.call::<PublicGpus>(&[], &query, &Default::default()).await?.gpus)
    }

    /// Every snapshot.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn public_snapshots(&self) -> anyhow::Result<Vec<PublicSnapshot>> {
        let query = SnapshotsQuery { from: None, limit: Some(200) };
        Ok(self.anyone()?.call::<PublicSnapshots>(&[], &query, &Default::default()).await?.snapshots)
    }

    /// Minutes of the last hours that the public sees credited to a GPU.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn minutes(&self, gpu: GpuId) -> anyhow::Result<Vec<Minute>> {
        let now = gangline_worker::client::now().seconds().minute().hour();
        let query = UptimeQuery { from: Some(Hour(now.0.saturating_sub(8))), to: Some(Hour(now.0 + 1)) };
        let page = self.anyone()?.call::<PublicGpuUptime>(&[&gpu], &query, &Default::default()).await?;
        let credited = |hour: &gangline_types::public::PublicUptime| {
            let (start, bits) = (hour.hour.start().0, hour.bits);
            (0..60u8)
                .filter(move |m| bits.has(*m))
                .map(move |m| Minute(start + u32::from(m)))
                .collect::<Vec<_>>()
        };
        Ok(page.hours.iter().flat_map(credited).collect())
    }

    /// What `worker status` says of a machine.
    ///
    /// # Errors
    /// When it says nothing that can be read.
    pub async fn status(&self, machine: &Machine) -> anyhow::Result<Value> {
        status(&self.fleet, &self.scene, &self.folder, machine.owner, &machine.data).await
    }

    /// The suppliers' GPUs, in the order of their machines.
    pub fn their_gpus(&self) -> Vec<GpuId> {
        self.machines.iter().flat_map(|machine| machine.gpus.iter().copied()).collect()
    }

    /// What whoever keeps it running can open.
    pub async fn links(&mut self) -> Vec<String> {
        let mut lines = vec![format!("The network goes on at {} until Ctrl-C.", self.origin)];
        lines.push(format!("  explorer           {}/", self.origin));
        for (who, role, name) in [
            ("operator", "operator", "a guest"),
            ("operator", "supplier", "a guest"),
            ("operator", "renter", "a guest"),
        ] {
            let link = match self.browser(who) {
                Ok(browser) => {
                    browser.invite(role, name).await.unwrap_or_else(|error| format!("({error:#})"))
                }
                Err(error) => format!("({error:#})"),
            };
            lines.push(format!("  {:<18} {link}", format!("{role}'s console")));
        }
        let data = self.rent_data();
        let program = self.scene.program.display();
        lines.push("  (each link signs one browser in, once)".to_owned());
        lines.push(format!("  hire and connect   {program} rent --data {0} hire --software-ok && {program} rent --data {0} connect", data.display()));
        lines
    }

    /// Ends every process and removes every file. A second Ctrl-C makes it quick.
    pub async fn end(self, interrupt: &mut Interrupt) {
        if let Some(hiring) = &self.hiring {
            hiring.abort();
        }
        self.narrator.waiting("ending every process");
        let hurry = Arc::new(AtomicBool::new(false));
        let (fleet, flag) = (Arc::clone(&self.fleet), Arc::clone(&hurry));
        // Processes are waited for by this runtime, so the blocking part has a thread of its own.
        let mut ending = tokio::task::spawn_blocking(move || fleet.end(|| flag.load(Ordering::Relaxed)));
        loop {
            tokio::select! {
                _ = &mut ending => break,
                () = interrupt.asked() => hurry.store(true, Ordering::Relaxed),
            }
        }
        self.narrator.waiting("");
    }
}

/// Starts this very program; for tasks that cannot hold the world.
///
/// # Errors
/// When it cannot be started.
pub fn gangline<S: Into<OsString>>(
    fleet: &Arc<Fleet>,
    scene: &Scene,
    folder: &Path,
    name: &str,
    args: impl IntoIterator<Item = S>,
    env: &[(String, OsString)],
) -> anyhow::Result<Process> {
    let spec = Spec {
        name: name.to_owned(),
        program: scene.program.clone(),
        args: args.into_iter().map(Into::into).collect(),
        env: env.to_vec(),
        folder: folder.to_owned(),
        stdin: None,
    };
    Process::start(fleet, spec)
}

async fn status(
    fleet: &Arc<Fleet>,
    scene: &Scene,
    folder: &Path,
    owner: &str,
    data: &Path,
) -> anyhow::Result<Value> {
    let args: [OsString; 5] =
        ["worker".into(), "--data".into(), data.into(), "--json".into(), "status".into()];
    let ended = gangline(fleet, scene, folder, &format!("{owner}-status"), args, &[])?
        .finish(Duration::from_secs(20))
        .await?;
    let value = ended.good("worker status")?.json()?;
    ensure!(value["status"].is_object(), "worker status said {value}");
    Ok(value)
}

/// Asks again and again until there is an answer; says why there was none.
///
/// # Errors
/// The last reason, when there is no answer in time.
pub async fn until<T, F>(within: Duration, mut ask: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let end = Instant::now() + within;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(why) if Instant::now() >= end => {
                return Err(why.context(format!("waited {} s", within.as_secs())));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
        }
    }
}
