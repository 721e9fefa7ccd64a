//! Epochs: when the network says that the bell will ring, the GPUs are made ready in children of their own,
//! wait for the bell, and answer all at once. A renter's work comes first: the children end the moment a
//! cluster is here, and a GPU gives no more of its time to proving than its hour allows.
//!
//! Judges nothing: what an epoch is worth comes back as a verdict.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use gangline_proof::epoch::{Budget, GpuKey};
use gangline_types::GpuId;
use gangline_wire::{
    api::epoch::{
        BellGpu, BellRequest, EpochChallenge, EpochCommit, EpochNotice, EpochOpen, EpochReady, EpochVerdict,
    },
    endpoints::{EpochBegin, EpochOpened, EpochRoots},
};
use tokio::task::JoinSet;

use super::{
    backoff::Backoff,
    child::{ChildError, ProverChild},
    inventory::LocalGpu,
    preflight::chain,
    proving::{doing, problem, show},
    shared::Shared,
};
use crate::client::{self, ClientError};

/// The answer to a request for challenges comes with the bell: at most the notice and this much later.
const BELL_SECONDS_MAX: u64 = 60;
/// Enrolment has three epochs within minutes: the hour's budget allows as many times ten seconds.
const ENROLMENT_MILLIS: u64 = 3 * Budget::LIMIT_MILLIS;

/// Why an epoch was not answered.
#[derive(Debug, thiserror::Error)]
enum EpochFailure {
    #[error(transparent)]
    Child(#[from] ChildError),
    #[error("the server did not take a step of the epoch")]
    Server(#[from] ClientError),
}

/// What each GPU's hour has been spent on, and how long its last epoch took.
#[derive(Default)]
struct Spending {
    budgets: BTreeMap<GpuId, Budget>,
    last_millis: BTreeMap<GpuId, u64>,
}

impl Spending {
    /// Whether this GPU may answer another epoch now. The first hour of a worker holds its enrolment.
    fn may_start(&mut self, gpu: GpuId, first_hour: bool) -> bool {
        let expected = self.last_millis.get(&gpu).copied().unwrap_or(0);
        let budget = self.budgets.entry(gpu).or_insert_with(|| {
            Budget::with_limit(if first_hour { ENROLMENT_MILLIS } else { Budget::LIMIT_MILLIS })
        });
        match budget.may_start(client::now(), expected) {
            Ok(()) => true,
            Err(over) => {
                tracing::warn!(%gpu, why = %over, "no epoch is answered");
                false
            }
        }
    }
    fn spend(&mut self, gpu: GpuId, took: Duration) {
        let millis = took.as_millis() as u64;
        self.budgets.entry(gpu).or_default().spend(client::now(), millis);
        self.last_millis.insert(gpu, millis);
    }
    /// After the first hour every budget is the network's promise and no more.
    fn settle(&mut self) {
        for budget in self.budgets.values_mut() {
            let mut settled = Budget::new();
            let now = client::now();
            settled.spend(now, budget.spent_millis(now));
            *budget = settled;
        }
    }
}

/// Answers whenever the bell rings, until the worker stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut notices = shared.epochs();
    let mut backoff = Backoff::default();
    let mut spending = Spending::default();
    let started = Instant::now();
    let mut settled = false;
    loop {
        let notice: Option<EpochNotice> = notices.borrow_and_update().clone();
        let Some(notice) = notice.filter(|_| !is_busy(&shared)) else {
            tokio::select! {
                () = shared.stop.cancelled() => return,
                _ = notices.changed() => continue,
            }
        };
        let first_hour = started.elapsed() < Duration::from_secs(3600);
        if !first_hour && !settled {
            spending.settle();
            settled = true;
        }
        let gpus: Vec<GpuId> = notice.gpus.iter().map(|ready| ready.gpu).collect();
        let worked = tokio::select! {
            () = shared.stop.cancelled() => return,
            // The children end with the future that holds them.
            () = hired(&shared) => {
                tracing::info!("a renter's cluster comes first: the epoch is left");
                true
            }
            worked = round(&shared, notice, &mut spending, first_hour) => worked,
        };
        for gpu in gpus {
            show(&shared, gpu, None);
        }
        shared.expect_epoch(None);
        if worked {
            backoff.worked();
            continue;
        }
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(backoff.failed()) => {}
        }
    }
}

fn is_busy(shared: &Shared) -> bool {
    shared.read(|status| !status.clusters.is_empty())
}

/// Returns once a renter's cluster is on this machine.
async fn hired(shared: &Shared) {
    let mut news = shared.news();
    while !is_busy(shared) {
        if news.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A GPU that is ready.
struct Ready {
    gpu: GpuId,
    local: LocalGpu,
    child: ProverChild,
    key: GpuKey,
}

/// One epoch; whether every GPU got a verdict.
async fn round(shared: &Arc<Shared>, notice: EpochNotice, spending: &mut Spending, first_hour: bool) -> bool {
    let Some(machine_key) = shared.client.key() else { return false };
    let (mut ready, mut all_well) = (Vec::new(), true);
    let mut warming = JoinSet::new();
    for EpochReady { gpu, params } in notice.gpus {
        let Some((_, local)) = shared.gpus().into_iter().find(|(known, _)| *known == gpu) else { continue };
        if !spending.may_start(gpu, first_hour) {
            continue;
        }
        let (shared, key) = (Arc::clone(shared), GpuKey::derive(&machine_key.seed(), gpu));
        warming.spawn(async move {
            show(&shared, gpu, doing("getting ready for the bell", 0, 0));
            let child = async {
                let mut child = ProverChild::start_epochs(&shared.executable, &local.adapter).await?;
                child.epoch_warm_up(params).await?;
                Ok::<_, ChildError>(child)
            };
            match child.await {
                Ok(child) => Some(Ready { gpu, local, child, key }),
                Err(error) => {
                    failed(&shared, gpu, &EpochFailure::Child(error));
                    None
                }
            }
        });
    }
    while let Some(done) = warming.join_next().await {
        match done {
            Ok(Some(one)) => ready.push(one),
            _ => all_well = false,
        }
    }
    if ready.is_empty() {
        return all_well;
    }
    for one in &ready {
        show(shared, one.gpu, doing("waiting for the bell", 0, 0));
    }
    let gpus = ready.iter().map(|one| BellGpu { gpu: one.gpu, key: one.key.public() }).collect();
    let limit = Duration::from_secs(BELL_SECONDS_MAX);
    let begun = shared
        .client
        .call_waiting::<EpochBegin>(&[], &Default::default(), &BellRequest { gpus }, limit)
        .await;
    let challenges = match begun {
        Ok(begun) => begun.challenges,
        Err(error) => {
            let not_wanted = error.code() == Some("not_wanted");
            if !not_wanted {
                shared.failed("ask for an epoch's challenges", &error);
            }
            return not_wanted;
        }
    };
    shared.reached();
    let mut proving = JoinSet::new();
    for one in ready {
        let Some(challenge) = challenges.iter().find(|c| c.gpu == one.gpu).cloned() else { continue };
        let shared = Arc::clone(shared);
        proving.spawn(async move {
            let gpu = one.gpu;
            let (took, answered) = answer(&shared, one, challenge).await;
            (gpu, took, answered.map_err(|failure| failed(&shared, gpu, &failure)))
        });
    }
    while let Some(done) = proving.join_next().await {
        let Ok((gpu, took, answered)) = done else {
            all_well = false;
            continue;
        };
        spending.spend(gpu, took);
        let Ok(verdict) = answered else {
            all_well = false;
            continue;
        };
        shared.reached();
        shared.judged();
        if verdict.accepted {
            tracing::info!(%gpu, standing = %verdict.standing, finding = %verdict.finding, "an epoch passed");
        } else {
            tracing::warn!(%gpu, standing = %verdict.standing, finding = %verdict.finding, "an epoch did not pass");
        }
        problem(shared, gpu, (!verdict.accepted).then(|| verdict.finding.to_string()));
        shared.update(|s| {
            if let Some(g) = s.gpus.iter_mut().find(|g| g.gpu == gpu) {
                g.standing = verdict.standing;
                g.reason = verdict.reason.to_string();
                g.proof = None;
            }
        });
    }
    all_well
}

fn failed(shared: &Shared, gpu: GpuId, failure: &EpochFailure) {
    show(shared, gpu, None);
    if let EpochFailure::Server(error) = failure {
        shared.failed("answer an epoch", error);
        if error.is_passing() {
            return;
        }
    }
    let why = chain(failure);
    tracing::error!(%gpu, why, "an epoch was not answered");
    problem(shared, gpu, Some(why));
}

/// One epoch from challenge to verdict, and how long the GPU worked.
async fn answer(
    shared: &Shared,
    mut one: Ready,
    given: EpochChallenge,
) -> (Duration, Result<EpochVerdict, EpochFailure>) {
    let began = Instant::now();
    let committed = commit(shared, &mut one, &given).await;
    let took = began.elapsed();
    let (nonce, commitment, wait) = match committed {
        Ok(committed) => committed,
        Err(failure) => return (took, Err(failure)),
    };
    show(shared, one.gpu, doing("opening", 5, 5));
    let opened = async {
        tokio::time::sleep(wait).await;
        let opening = one.child.epoch_open(nonce).await?;
        let signature = one.key.sign(&given.challenge, &commitment, &nonce, &opening);
        let open = EpochOpen { opening, signature };
        Ok(shared.client.call::<EpochOpened>(&[&given.proof], &Default::default(), &open).await?)
    };
    (took, opened.await)
}

type Committed = (gangline_types::Hash, gangline_proof::epoch::Commitment, Duration);

async fn commit(shared: &Shared, one: &mut Ready, given: &EpochChallenge) -> Result<Committed, EpochFailure> {
    let (gpu, proof) = (one.gpu, given.proof);
    tracing::info!(%gpu, %proof, deadline_millis = given.deadline_millis, "the bell rang");
    let mut bar = shared.bars.bar(one.local.claim.model.to_string(), 5);
    let progress = |part: u32| {
        const PARTS: [&str; 5] =
            ["filling memory", "walking it", "mixing", "multiplying", "walking it again"];
        let words = PARTS.get(part as usize).copied().unwrap_or("proving");
        bar.doing(words);
        bar.at(u64::from(part), 5);
        show(shared, gpu, doing(words, part, 5));
    };
    let commitment = one.child.epoch_commit(given.challenge, progress).await?;
    let roots = EpochCommit { commitment: commitment.clone() };
    let receipt = shared.client.call::<EpochRoots>(&[&proof], &Default::default(), &roots).await?;
    Ok((receipt.nonce, commitment, Duration::from_millis(receipt.open_in_millis)))
}
