//! The clusters of a running worker: each is a task that makes its sandbox, keeps it, and takes it down;
//! what is known of them outlives the worker.
//!
//! Decides nothing: orders are judged in `reconcile` and `policy`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use gangline_types::{ClusterId, GpuId, MicroCredits, Text, UnixSeconds, receipt::Receipt};
use gangline_wire::api::machine::{NodeOrder, ObservedCluster, Order};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    data::{CLUSTERS, DataDir, DataError},
    policy::{self, Situation},
    preflight::chain,
    reconcile::{self, Action, Known, Phase},
    sandbox,
    shared::{Shared, now},
    status::ClusterStatus,
    tunnel,
};
use crate::isolation::{ReadBack, RunningNode, Sandbox};

/// A hire ends here this long after its time, if the server did not end it before.
const LATE_SECONDS: u64 = 10;

/// Characters of evidence in a report.
const EVIDENCE_CHARS_MAX: usize = 4000;

/// Clusters and their tasks.
pub(crate) struct Clusters {
    shared: Arc<Shared>,
    sandbox: Option<Sandbox>,
    held: Mutex<BTreeMap<ClusterId, Held>>,
    tasks: Mutex<JoinSet<()>>,
    news: watch::Sender<u64>,
}

struct Held {
    known: Known,
    detail: String,
    evidence: Option<String>,
    receipt_signature: Option<String>,
    tunnel_open: bool,
    stop: CancellationToken,
    why_stopped: &'static str,
}

impl Held {
    fn new(known: Known, detail: String) -> Self {
        Self {
            known,
            detail,
            evidence: None,
            receipt_signature: None,
            tunnel_open: false,
            stop: CancellationToken::new(),
            why_stopped: "the worker ends",
        }
    }
}

/// What an earlier worker knew. What was live then is gone by now: its sandbox was swept.
pub(crate) fn load(data: &DataDir) -> Result<BTreeMap<ClusterId, Known>, DataError> {
    let mut known: BTreeMap<ClusterId, Known> = data.read_json(CLUSTERS)?.unwrap_or_default();
    for k in known.values_mut().filter(|k| k.phase.is_live()) {
        k.phase = Phase::Failed;
        k.ended_at = Some(now());
    }
    Ok(known)
}

impl Clusters {
    pub(crate) fn new(
        shared: Arc<Shared>,
        sandbox: Option<Sandbox>,
        known: BTreeMap<ClusterId, Known>,
    ) -> Self {
        let held = known.into_iter().map(|(id, k)| {
            let detail = if k.phase == Phase::Failed { "the worker ended while it ran" } else { "" };
            (id, Held::new(k, detail.to_owned()))
        });
        let this = Self {
            shared,
            sandbox,
            held: Mutex::new(held.collect()),
            tasks: Mutex::default(),
            news: watch::Sender::new(0),
        };
        this.changed(&mut this.held());
        this
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<ClusterId, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes whenever something is to be reported.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Why no renter's program can run here, beyond the owner's settings.
    pub(crate) fn no_isolation(&self) -> Option<String> {
        match &self.sandbox {
            Some(_) => None,
            None => self
                .shared
                .read(|s| Some(s.no_renter_work.clone().unwrap_or_else(|| "there is no sandbox".to_owned()))),
        }
    }

    /// What the server is told.
    pub(crate) fn report(&self) -> Vec<ObservedCluster> {
        let observed = |(id, h): (&ClusterId, &Held)| ObservedCluster {
            cluster: *id,
            state: h.known.phase.observed(h.known.started_at.is_some()),
            detail: Text::lossy(&h.detail),
            evidence: h.evidence.as_deref().map(Text::lossy),
            receipt_signature: h.receipt_signature.as_deref().map(Text::lossy),
        };
        self.held().iter().map(observed).collect()
    }

    /// Notes a change: on disk, in the status, and for whoever reports.
    fn changed(&self, held: &mut BTreeMap<ClusterId, Held>) {
        let known: BTreeMap<&ClusterId, &Known> = held.iter().map(|(id, h)| (id, &h.known)).collect();
        if let Err(e) = self.shared.data.write_json(CLUSTERS, &known, true) {
            tracing::error!(error = chain(&e), "could not note how the clusters are");
        }
        let status = |(id, h): (&ClusterId, &Held)| ClusterStatus {
            cluster: *id,
            gpu: h.known.gpu,
            state: h.known.phase.observed(h.known.started_at.is_some()),
            detail: h.detail.clone(),
            started_at: h.known.started_at,
            tunnel_open: h.tunnel_open,
        };
        let clusters = held.iter().map(status).collect();
        self.shared.update(|s| s.clusters = clusters);
        self.news.send_modify(|n| *n += 1);
    }

    fn change(&self, id: ClusterId, change: impl FnOnce(&mut Held)) {
        let mut held = self.held();
        if let Some(h) = held.get_mut(&id) {
            change(h);
            self.changed(&mut held);
        }
    }

    /// Brings what is here towards what is wanted.
    pub(crate) fn apply(self: &Arc<Self>, orders: &[Order]) {
        let mut held = self.held();
        let known: BTreeMap<ClusterId, Known> = held.iter().map(|(id, h)| (*id, h.known.clone())).collect();
        let gpus: Vec<GpuId> = self.shared.gpus().iter().map(|(id, _)| *id).collect();
        let taken: Vec<(GpuId, ClusterId)> = known
            .iter()
            .filter(|(_, k)| k.phase.is_live())
            .filter_map(|(id, k)| Some((k.gpu?, *id)))
            .collect();
        let no_isolation = self.no_isolation();
        let situation = Situation {
            rent: &self.shared.settings.rent,
            share: self.shared.share(),
            paused: self.shared.read(|s| s.paused),
            no_isolation: no_isolation.as_deref(),
            gpus: &gpus,
            taken: &taken,
            now: now(),
        };
        let actions = reconcile::decide(orders, &known, |order| {
            policy::check(order, &situation).map_err(|e| e.to_string())
        });
        if actions.is_empty() {
            return;
        }
        let mut dirty = false;
        let price = |gpu| self.shared.settings.rent.price(gpu);
        for action in actions {
            // Asked again for a signature that is on its way, or refused again, nothing is new.
            dirty |= !matches!(action, Action::Sign(..));
            match action {
                Action::Start(id, order) => {
                    tracing::info!(cluster = %id, gpu = %order.gpu, memory_bytes = order.memory_bytes, cpus_millis = order.cpus_millis, "a renter's cluster is started");
                    let fresh = Held::new(
                        fresh(Some(order.gpu), Phase::Starting, price(order.gpu)),
                        "accepted".to_owned(),
                    );
                    let stop = fresh.stop.clone();
                    held.insert(id, fresh);
                    let task = Arc::clone(self).live(id, *order, stop);
                    let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
                    while tasks.try_join_next().is_some() {}
                    tasks.spawn(task);
                }
                Action::Refuse(id, why) => {
                    tracing::warn!(cluster = %id, why, "a renter's cluster was refused");
                    held.insert(id, Held::new(fresh(None, Phase::Refused, MicroCredits(0)), why));
                }
                Action::Stop(id, why) => {
                    if let Some(h) = held.get_mut(&id) {
                        tracing::info!(cluster = %id, why, "a cluster is ended");
                        h.known.phase = Phase::Stopping;
                        h.known.ended_at.get_or_insert(now());
                        h.why_stopped = why;
                        h.detail = "being taken down".to_owned();
                        h.stop.cancel();
                    }
                }
                Action::MarkGone(id) => {
                    let h = held.entry(id).or_insert_with(|| {
                        Held::new(fresh(None, Phase::Gone, MicroCredits(0)), String::new())
                    });
                    h.known.phase = Phase::Gone;
                }
                Action::Sign(id, receipt) => {
                    let h = held.entry(id).or_insert_with(|| {
                        Held::new(fresh(None, Phase::Gone, MicroCredits(0)), String::new())
                    });
                    dirty |= self.sign(id, &receipt, h, known.get(&id));
                }
                Action::Forget(id) => {
                    held.remove(&id);
                }
            }
        }
        if dirty {
            self.changed(&mut held);
        }
    }

    /// Signs a receipt that is right; whether anything is new by that.
    fn sign(&self, id: ClusterId, receipt: &Receipt, held: &mut Held, known: Option<&Known>) -> bool {
        let before = (held.known.phase, held.receipt_signature.clone(), held.detail.clone());
        held.known.phase = Phase::Gone;
        (held.receipt_signature, held.detail) =
            match (reconcile::check_receipt(id, receipt, known), self.shared.client.key()) {
                (Ok(()), Some(key)) => {
                    let signature = STANDARD.encode(key.sign(&receipt.signing_bytes()));
                    (Some(signature), receipt.because.words().to_owned())
                }
                (Ok(()), None) => (None, "this machine has no key to sign with".to_owned()),
                (Err(why), _) => (None, format!("the receipt was not signed: {why}")),
            };
        let new = before != (held.known.phase, held.receipt_signature.clone(), held.detail.clone());
        if new && held.receipt_signature.is_some() {
            tracing::info!(cluster = %id, used_seconds = receipt.used.0, cost_micro = receipt.cost.0, "a receipt is signed");
        } else if new {
            tracing::error!(cluster = %id, why = held.detail, "a receipt was not signed");
        }
        new
    }

    /// One cluster from its order to its end.
    async fn live(self: Arc<Self>, id: ClusterId, order: NodeOrder, stop: CancellationToken) {
        let outcome = tokio::select! {
            made = self.make(id, &order) => made,
            // Dropping a start takes down what it made.
            () = stop.cancelled() => Err(None),
        };
        let (phase, detail) = match outcome {
            Ok(node) => self.keep(id, node, order.until, &stop).await,
            Err(Some(why)) => {
                tracing::error!(cluster = %id, why, "a cluster did not start");
                (Phase::Failed, why)
            }
            Err(None) => (Phase::Gone, self.held().get(&id).map_or("", |h| h.why_stopped).to_owned()),
        };
        self.change(id, |h| {
            h.known.phase = phase;
            h.known.ended_at.get_or_insert(now());
            h.detail = detail;
            h.tunnel_open = false;
        });
    }

    /// Makes the sandbox; an error is why not, none if there is no GPU or sandbox any more.
    async fn make(&self, id: ClusterId, order: &NodeOrder) -> Result<RunningNode, Option<String>> {
        let gpu = self.shared.gpus().into_iter().find(|(gpu, _)| *gpu == order.gpu).map(|(_, local)| local);
        let (Some(sandbox), Some(gpu)) = (&self.sandbox, gpu) else {
            return Err(Some("its GPU is not there any more".to_owned()));
        };
        let ray_home = self.shared.settings.ray_home(&self.shared.data);
        let spec = sandbox::spec(id, order, &gpu, sandbox.backend(), ray_home, &self.shared.executable)
            .map_err(|e| Some(sandbox::in_words(&e)))?;
        let mut bar = self.shared.bars.bar(id.to_string(), 0);
        let progress = |words: &str| {
            bar.doing(words);
            self.change(id, |h| {
                if h.known.phase == Phase::Starting {
                    h.detail = words.to_owned();
                }
            });
        };
        sandbox.start(spec, progress).await.map_err(|e| Some(sandbox::in_words(&e)))
    }

    /// A node that runs, until it is stopped, its time is over, or it ends by itself.
    async fn keep(
        self: &Arc<Self>,
        id: ClusterId,
        node: RunningNode,
        until: UnixSeconds,
        stop: &CancellationToken,
    ) -> (Phase, String) {
        let evidence = evidence(node.read_back());
        self.change(id, |h| {
            if h.known.phase == Phase::Starting {
                h.known.phase = Phase::Running;
                h.detail = "Ray answers".to_owned();
                h.known.started_at = Some(now());
            }
            h.evidence = Some(evidence);
        });
        tracing::info!(cluster = %id, "a cluster runs");
        let tunnel = {
            let this = Arc::clone(self);
            let shown = move |open| this.change(id, |h| h.tunnel_open = open);
            tunnel::keep_open(Arc::clone(&self.shared), id, node.opener(), shown)
        };
        let over = async {
            loop {
                match until.plus(LATE_SECONDS).since(now()) {
                    0 => return,
                    // The clock may be set meanwhile.
                    left => tokio::time::sleep(Duration::from_secs(left.min(30))).await,
                }
            }
        };
        let (phase, detail) = tokio::select! {
            () = tunnel => (Phase::Failed, "the way to its renter ended".to_owned()),
            status = node.wait_exit() => {
                let last = node.log().lines().into_iter().rev().find(|l| !l.trim().is_empty());
                let words = last.map(|l| format!("; its last words: {}", l.trim())).unwrap_or_default();
                tracing::error!(cluster = %id, %status, "a cluster fell over");
                (Phase::Failed, format!("the node ended by itself ({status}){words}"))
            }
            () = over => (Phase::Gone, "its hours ran out".to_owned()),
            () = stop.cancelled() => (Phase::Gone, self.held().get(&id).map_or("", |h| h.why_stopped).to_owned()),
        };
        // Its end is noted when nothing of it is left: until then the machine gave its memory and time.
        self.change(id, |h| {
            h.known.phase = Phase::Stopping;
            h.tunnel_open = false;
        });
        match node.stop().await {
            Ok(()) => (phase, detail),
            Err(e) => {
                let why = sandbox::in_words(&e);
                tracing::error!(cluster = %id, why, "a sandbox left something behind");
                self.shared
                    .update(|s| s.problems.push(format!("the sandbox of {id} left something behind: {why}")));
                (phase, detail)
            }
        }
    }

    /// Takes everything down and waits until it is.
    pub(crate) async fn stop_all(&self) {
        {
            let mut held = self.held();
            for h in held.values_mut().filter(|h| h.known.phase.is_live()) {
                h.stop.cancel();
            }
        }
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        while tasks.join_next().await.is_some() {}
    }
}

fn fresh(gpu: Option<GpuId>, phase: Phase, price_per_hour: MicroCredits) -> Known {
    Known { gpu, phase, price_per_hour, started_at: None, ended_at: None }
}

/// What was read back, as JSON that fits into a report: of many processes the first ones stay.
fn evidence(read_back: &ReadBack) -> String {
    let mut shown = read_back.clone();
    loop {
        let text = serde_json::to_string(&shown).unwrap_or_default();
        if text.chars().count() <= EVIDENCE_CHARS_MAX || shown.inmates.is_empty() {
            return text;
        }
        shown.inmates.pop();
    }
}
