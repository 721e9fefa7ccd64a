//! Proofs: when the network wants some, all GPUs it wants them of are made ready, challenged at once,
//! and answer each from a child process of its own.
//!
//! Judges nothing: what a proof is worth comes back as a verdict.

use std::{collections::BTreeMap, sync::Arc};

use gangline_proof::{Challenge, Commitment, GpuKey, MatrixParams, Opening, Signature};
use gangline_types::{GpuId, Hash};
use gangline_wire::{
    api::epoch::BellGpu,
    api::proof::{CommitRequest, GpuChallenge, OpenRequest, ProofRequest, Verdict},
    endpoints::{ProofBegin, ProofCommit, ProofOpen},
};
use tokio::task::JoinSet;

use super::{
    backoff::Backoff,
    child::{ChildError, ProverChild},
    inventory::LocalGpu,
    preflight::chain,
    shared::Shared,
    status::ProofStatus,
};
use crate::client::ClientError;

/// Why a proof was not made.
#[derive(Debug, thiserror::Error)]
enum ProofFailure {
    #[error(transparent)]
    Child(#[from] ChildError),
    #[error("the server did not take a step of the proof")]
    Server(#[from] ClientError),
}

/// Proves whenever proofs are wanted, until the worker stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut news = shared.news();
    let mut backoff = Backoff::default();
    // The size last asked of a GPU, to warm up for.
    let mut sizes = BTreeMap::new();
    loop {
        news.borrow_and_update();
        let wanted = wanted(&shared);
        if wanted.is_empty() {
            tokio::select! {
                () = shared.stop.cancelled() => return,
                _ = news.changed() => continue,
            }
        }
        let worked = tokio::select! {
            () = shared.stop.cancelled() => return,
            worked = round(&shared, wanted, &mut sizes) => worked,
        };
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

fn wanted(shared: &Shared) -> Vec<(GpuId, LocalGpu)> {
    let wanted: Vec<GpuId> = shared.read(|s| s.gpus.iter().filter(|g| g.wanted).map(|g| g.gpu).collect());
    shared.gpus().into_iter().filter(|(gpu, _)| wanted.contains(gpu)).collect()
}

pub(super) fn show(shared: &Shared, gpu: GpuId, proof: Option<ProofStatus>) {
    shared.update(|s| {
        if let Some(g) = s.gpus.iter_mut().find(|g| g.gpu == gpu) {
            g.proof = proof;
        }
    });
}

pub(super) fn doing(words: &str, step: u32, steps: u32) -> Option<ProofStatus> {
    Some(ProofStatus { doing: words.to_owned(), step, steps })
}

/// What went wrong with one GPU, until its next proof goes well.
pub(super) fn problem(shared: &Shared, gpu: GpuId, why: Option<String>) {
    let name = format!("{gpu} could not be proven: ");
    shared.update(|s| {
        s.problems.retain(|p| !p.starts_with(&name));
        s.problems.extend(why.map(|why| name + &why));
    });
}

/// A GPU whose child is ready.
struct Ready {
    gpu: GpuId,
    local: LocalGpu,
    child: ProverChild,
    key: GpuKey,
}

/// One round: children are made ready once and prove as long as the network wants it again. Returns
/// whether every GPU got a verdict.
async fn round(
    shared: &Arc<Shared>,
    wanted: Vec<(GpuId, LocalGpu)>,
    sizes: &mut BTreeMap<GpuId, MatrixParams>,
) -> bool {
    let Some(machine_key) = shared.client.key() else { return false };
    let mut all_well = true;
    let mut warming = JoinSet::new();
    for (gpu, local) in wanted {
        let (shared, key) = (Arc::clone(shared), GpuKey::derive(&machine_key.seed(), gpu));
        let size = sizes.get(&gpu).copied().unwrap_or(MatrixParams::JOINING);
        warming.spawn(async move {
            show(&shared, gpu, doing("getting ready", 0, 0));
            let mut bar = shared.bars.bar(local.claim.model.to_string(), 0);
            bar.doing("getting ready to prove");
            let ready = async {
                let mut child = ProverChild::start(&shared.executable, &local.adapter).await?;
                child.warm_up(size).await?;
                Ok::<_, ChildError>(child)
            };
            let ready = ready.await;
            if let Err(e) = &ready {
                failed(&shared, gpu, &ProofFailure::Child(ChildError::Failed(chain(e))));
            }
            ready.ok().map(|child| Ready { gpu, local, child, key })
        });
    }
    let mut ready = Vec::new();
    while let Some(done) = warming.join_next().await {
        match done {
            Ok(Some(one)) => ready.push(one),
            _ => all_well = false,
        }
    }
    while !ready.is_empty() {
        let keys = ready.iter().map(|one| BellGpu { gpu: one.gpu, key: one.key.public() }).collect();
        let request = ProofRequest { gpus: ready.iter().map(|one| one.gpu).collect(), keys };
        let begun = shared.client.call::<ProofBegin>(&[], &Default::default(), &request).await;
        let challenges = match begun {
            Ok(begun) => begun.challenges,
            Err(error) => {
                let not_wanted = error.code() == Some("not_wanted");
                if !not_wanted {
                    shared.failed("ask for challenges", &error);
                }
                shared.update(|s| {
                    for g in s.gpus.iter_mut().filter(|g| request.gpus.contains(&g.gpu)) {
                        g.proof = None;
                        // The next sync says of each whether it is wanted all the same.
                        g.wanted &= !not_wanted;
                    }
                });
                return not_wanted;
            }
        };
        shared.reached();
        let mut proving = JoinSet::new();
        for one in ready.drain(..) {
            let Some(challenge) = challenges.iter().find(|c| c.gpu == one.gpu).cloned() else {
                // Not wanted any more; the next sync says so too.
                show(shared, one.gpu, None);
                continue;
            };
            sizes.insert(one.gpu, challenge.challenge.params);
            proving.spawn(prove(Arc::clone(shared), one, challenge));
        }
        while let Some(done) = proving.join_next().await {
            match done {
                Ok(Some((one, true))) => ready.push(one),
                Ok(Some((_, false))) => {}
                _ => all_well = false,
            }
        }
    }
    all_well
}

fn failed(shared: &Shared, gpu: GpuId, failure: &ProofFailure) {
    show(shared, gpu, None);
    match failure {
        ProofFailure::Server(error) if error.is_passing() => shared.failed("prove", error),
        _ => {
            if let ProofFailure::Server(error) = failure {
                shared.failed("prove", error);
            }
            let why = chain(failure);
            tracing::error!(%gpu, why, "a proof was not made");
            problem(shared, gpu, Some(why));
        }
    }
}

/// One proof from challenge to verdict; the child comes back with whether another is wanted.
async fn prove(shared: Arc<Shared>, mut one: Ready, given: GpuChallenge) -> Option<(Ready, bool)> {
    let gpu = one.gpu;
    match steps(&shared, &mut one, given).await {
        Ok(verdict) => {
            shared.reached();
            shared.judged();
            if verdict.accepted {
                tracing::info!(%gpu, standing = %verdict.standing, matrix_mmacs = verdict.profile.matrix_mmacs, memory_bytes = verdict.profile.memory_bytes, finding = %verdict.finding, "a proof was accepted");
            } else {
                tracing::warn!(%gpu, standing = %verdict.standing, finding = %verdict.finding, "a proof was not accepted");
            }
            problem(&shared, gpu, (!verdict.accepted).then(|| verdict.finding.to_string()));
            shared.update(|s| {
                if let Some(g) = s.gpus.iter_mut().find(|g| g.gpu == gpu) {
                    g.standing = verdict.standing;
                    g.reason = verdict.reason.to_string();
                    g.wanted = verdict.again;
                    g.proof = None;
                }
            });
            Some((one, verdict.again))
        }
        Err(failure) => {
            failed(&shared, gpu, &failure);
            None
        }
    }
}

/// The signature over a proof; none where a server, which is older, has bound the challenge to the machine's key.
fn signature(
    key: &GpuKey,
    challenge: &Challenge,
    commitment: &Commitment,
    nonce: &Hash,
    opening: &Opening,
) -> Option<Signature> {
    let is_bound = challenge.binding == key.binding();
    is_bound.then(|| key.sign_matrix(challenge, commitment, nonce, opening))
}

async fn steps(shared: &Shared, one: &mut Ready, given: GpuChallenge) -> Result<Verdict, ProofFailure> {
    let GpuChallenge { gpu, proof, challenge, deadline_seconds } = given;
    let steps = challenge.params.steps;
    tracing::info!(%gpu, %proof, n = challenge.params.n, steps, deadline_seconds, "proving");
    let mut bar = shared.bars.bar(one.local.claim.model.to_string(), u64::from(steps));
    bar.doing("multiplying");
    show(shared, gpu, doing("multiplying", 0, steps));
    let progress = |step| {
        bar.at(u64::from(step), u64::from(steps));
        show(shared, gpu, doing("multiplying", step, steps));
    };
    let commitment = one.child.commit(challenge, progress).await?;
    let roots = CommitRequest { commitment };
    let receipt = shared.client.call::<ProofCommit>(&[&proof], &Default::default(), &roots).await?;
    bar.doing("opening");
    show(shared, gpu, doing("opening", steps, steps));
    let opening = one.child.open(receipt.nonce).await?;
    let signature = signature(&one.key, &challenge, &roots.commitment, &receipt.nonce, &opening);
    let open = OpenRequest { opening, signature };
    Ok(shared.client.call::<ProofOpen>(&[&proof], &Default::default(), &open).await?)
}

#[cfg(test)]
mod tests {
    use gangline_proof::{Signed, binding};

    use super::*;

    #[test]
    fn what_an_older_server_bound_to_the_machine_is_not_signed() {
        let gpu = GpuId::from_bytes([2; 16]);
        let key = GpuKey::derive(&[1; 32], gpu);
        let bound = |binding| Challenge { params: MatrixParams::JOINING, beacon: Hash([3; 32]), binding };
        let (commitment, nonce) = (Commitment { roots: vec![Hash([4; 32])] }, Hash([5; 32]));
        let opening = Opening { steps: vec![] };
        let sign = |challenge: &Challenge| signature(&key, challenge, &commitment, &nonce, &opening);
        let ours = bound(key.binding());
        let signed = Signed { key: key.public(), signature: sign(&ours).unwrap() };
        signed.check(gpu, &ours, &commitment, &nonce, &opening).unwrap();
        assert_eq!(sign(&bound(binding(&[9; 32], gpu))), None);
        assert_eq!(sign(&bound(GpuKey::derive(&[7; 32], gpu).binding())), None, "somebody else's");
    }
}
