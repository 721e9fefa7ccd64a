//! Proofs: challenge, roots, opening, verdict. The clock is the server's; what is asked follows from the
//! claim; what is opened follows from a nonce that does not exist before the roots are in.

use axum::http::StatusCode;
use gangline_guard::{Actor, Job, Permit, act, permit::permit, policy::on};
use gangline_proof::{Challenge, MatrixParams, binding, verify};
use gangline_rules::{
    floors,
    standing::{Failure, JOINING_PROOFS, Outcome, Shown, judge},
};
use gangline_store::{GpuRow, NewProof, ProofRow};
use gangline_types::{GpuClaim, GpuId, Hash, ProofId, Standing, Text, UnixMillis, UnixSeconds};
use gangline_wire::{
    api::{
        machine::GPUS_MAX,
        proof::{CommitReceipt, GpuChallenge, ProofChallenges, Verdict},
    },
    endpoints as e,
};

use crate::{
    app::App,
    edge,
    error::ApiError,
    request::Ctx,
    router::Api,
    routes::machine::{bounded, own},
};

/// Roots later than this are late. Slowness costs nothing; this only ends waiting.
const DEADLINE_SECONDS: u64 = 60;
/// How long after the roots an opening is taken, in seconds.
const OPENING_SECONDS: u64 = 60;
/// A GPU that stays unproven after its joining proofs is asked again so long after the last, in seconds.
const AGAIN_UNPROVEN_SECONDS: u64 = 60;
/// And one that is suspect: it may have been moved, cooled or repaired.
const AGAIN_SUSPECT_SECONDS: u64 = 3600;

pub(super) fn routes(api: Api) -> Api {
    api.json::<e::ProofBegin, _, _>(begin)
        .json::<e::ProofCommit, _, _>(commit)
        .json::<e::ProofOpen, _, _>(open)
}

/// What is asked of a claim: enough work that a software device cannot pass for what is claimed.
/// 1,024 in twelve steps is 12.9 thousand million multiply-adds; 2,048 in three is 25.8 thousand million
/// and more than any floor needs ([`floors::telling_macs`] is at most 18.1). Both open 72 rows or more:
/// skipping a tenth of the work passes one time in two thousand at most.
pub fn params(claim: &GpuClaim) -> MatrixParams {
    let needed = floors::telling_macs(floors::floor(claim).rate_mmacs);
    if needed <= MatrixParams::JOINING.macs() {
        MatrixParams::JOINING
    } else {
        MatrixParams { n: 2048, steps: 3, rows: 24 }
    }
}

/// The verifier's own permit.
pub fn verifier(now: UnixSeconds) -> Result<Permit<act::Judge>, ApiError> {
    Ok(permit::<act::Judge>(&Actor::job(Job::Verifier), on::Network, now)?)
}

/// Whether the network wants a proof of this GPU now.
pub async fn is_wanted(app: &App, gpu: GpuId, now: UnixSeconds) -> Result<bool, ApiError> {
    let Some(row) = app.store.gpu(gpu).await? else { return Ok(false) };
    let last = app.store.last_proof(&verifier(now)?, gpu, row.round).await?;
    Ok(wants(row.standing, last.judged, now.since(last.judged_at)))
}

/// The rule: `judged` proofs of this series were judged, the last `seconds_since` ago.
fn wants(standing: Standing, judged: u32, seconds_since: u64) -> bool {
    match standing {
        Standing::Unproven => (judged as usize) < JOINING_PROOFS || seconds_since >= AGAIN_UNPROVEN_SECONDS,
        Standing::Suspect => seconds_since >= AGAIN_SUSPECT_SECONDS,
        Standing::Proven | Standing::Quarantined | Standing::Retired => false,
    }
}

/// A beacon nobody can foresee: the network's secret and fresh randomness.
fn beacon(app: &App) -> Hash {
    Hash(*blake3::keyed_hash(&app.beacon_secret, &edge::random::<32>()).as_bytes())
}

async fn begin(ctx: Ctx<e::ProofBegin>) -> Result<ProofChallenges, ApiError> {
    let permit = own::<act::ProveGpu, _>(&ctx)?;
    bounded("GPUs", ctx.body.gpus.len(), GPUS_MAX)?;
    let key = ctx.app.store.machine_public_key(permit.on().machine).await?.ok_or_else(ApiError::hidden)?;
    let mut gpus: Vec<GpuRow> = Vec::with_capacity(ctx.body.gpus.len());
    for gpu in &ctx.body.gpus {
        let row = ctx.app.store.gpu(*gpu).await?.filter(|g| g.resource.machine == permit.on().machine);
        let row = row.ok_or_else(ApiError::hidden)?;
        if !is_wanted(&ctx.app, *gpu, ctx.now).await? {
            return Err(ApiError::bad(
                StatusCode::CONFLICT,
                "not_wanted",
                format!("no proof of {gpu} is wanted now: it is {}", row.standing),
            ));
        }
        if ctx.app.store.has_running_proof(&permit, *gpu, edge::now_millis()).await? {
            return Err(ApiError::bad_hint(
                StatusCode::CONFLICT,
                "already_running",
                format!("a challenge to {gpu} is running"),
                format!("it ends by itself {DEADLINE_SECONDS} s after it began"),
            ));
        }
        gpus.push(row);
    }
    // One beacon and one clock for all GPUs of the machine: they prove at once, or are not several.
    let (beacon, began_at) = (beacon(&ctx.app), edge::now_millis());
    let new: Vec<NewProof> = gpus
        .iter()
        .map(|gpu| NewProof {
            proof: ProofId::from_bytes(edge::random()),
            gpu: gpu.resource.gpu,
            round: gpu.round,
            challenge: Challenge {
                params: params(&gpu.claim),
                beacon,
                binding: binding(&key, gpu.resource.gpu),
            },
            began_at,
            deadline_at: UnixMillis(began_at.0 + DEADLINE_SECONDS * 1000),
        })
        .collect();
    ctx.app.store.begin_proofs(permit, &new).await?;
    let challenges = new
        .into_iter()
        .map(|p| GpuChallenge {
            gpu: p.gpu,
            proof: p.proof,
            challenge: p.challenge,
            deadline_seconds: DEADLINE_SECONDS,
        })
        .collect();
    Ok(ProofChallenges { challenges })
}

async fn commit(ctx: Ctx<e::ProofCommit>) -> Result<CommitReceipt, ApiError> {
    let arrived = edge::now_millis();
    let permit = own::<act::ProveGpu, _>(&ctx)?;
    let row = ctx.app.store.proof(&permit, ctx.param("proof")?).await?.ok_or_else(ApiError::hidden)?;
    let elapsed_millis = arrived.0.saturating_sub(row.began_at.0).max(1);
    if row.judged {
        return Err(ApiError::bad(StatusCode::CONFLICT, "already_judged", "this proof was judged"));
    }
    if arrived > row.deadline_at {
        let outcome = Outcome { proof: row.proof, verdict: Err(Failure::Late) };
        conclude(&ctx.app, &row, outcome, None, ctx.now).await?;
        return Err(ApiError::bad(
            StatusCode::CONFLICT,
            "late",
            format!(
                "the roots came {elapsed_millis} ms after the challenge; {DEADLINE_SECONDS} s were allowed"
            ),
        ));
    }
    if ctx.body.commitment.roots.len() != row.challenge.params.steps as usize {
        return Err(ApiError::bad(
            StatusCode::UNPROCESSABLE_ENTITY,
            "wrong_root_count",
            "there must be one root for each step",
        ));
    }
    let nonce = edge::random_hash();
    ctx.app.store.commit_proof(&permit, row.proof, &ctx.body.commitment, nonce, elapsed_millis).await?;
    Ok(CommitReceipt { nonce, elapsed_millis })
}

async fn open(ctx: Ctx<e::ProofOpen>) -> Result<Verdict, ApiError> {
    let permit = own::<act::ProveGpu, _>(&ctx)?;
    let row = ctx.app.store.proof(&permit, ctx.param("proof")?).await?.ok_or_else(ApiError::hidden)?;
    let (Some(commitment), Some(nonce), Some(elapsed_millis)) =
        (row.commitment.clone(), row.nonce, row.elapsed_millis)
    else {
        return Err(ApiError::bad(StatusCode::CONFLICT, "not_committed", "the roots have to come first"));
    };
    if row.judged {
        return Err(ApiError::bad(StatusCode::CONFLICT, "already_judged", "this proof was judged"));
    }
    let (challenge, opening) = (row.challenge, ctx.body.opening);
    // Verifying takes tens of milliseconds of one core: not on the threads that answer requests.
    let (result, opening) =
        tokio::task::spawn_blocking(move || (verify(&challenge, &commitment, &nonce, &opening), opening))
            .await
            .map_err(|_| {
                ApiError::bad(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "verifier_failed",
                    "the verifier broke down; nothing was judged",
                )
            })?;
    let (verdict, keep) = match result {
        Ok(shown) => {
            (Ok(Shown { macs: shown.macs, memory_bytes: shown.memory_bytes, elapsed_millis }), Some(&opening))
        }
        // Bits that are well formed and false are forged; anything else was not an answer.
        Err(rejection) if rejection.is_wrong_bits() => {
            (Err(Failure::WrongBits(Text::lossy(&rejection.to_string()))), Some(&opening))
        }
        Err(rejection) => {
            return Err(ApiError::bad(
                StatusCode::UNPROCESSABLE_ENTITY,
                rejection.code(),
                format!("the opening cannot be taken: {rejection}"),
            ));
        }
    };
    conclude(&ctx.app, &row, Outcome { proof: row.proof, verdict }, keep, ctx.now).await
}

/// Writes a verdict down and what follows from it.
pub async fn conclude(
    app: &App,
    row: &ProofRow,
    outcome: Outcome,
    opening: Option<&gangline_proof::Opening>,
    now: UnixSeconds,
) -> Result<Verdict, ApiError> {
    let judge_permit = verifier(now)?;
    let profile = outcome.verdict.as_ref().map(Shown::profile).unwrap_or_default();
    let finding: Text<240> = Text::lossy(&match &outcome.verdict {
        Ok(shown) => format!(
            "right: {} multiply-adds in {} ms, {} million a second",
            shown.macs, shown.elapsed_millis, profile.matrix_mmacs
        ),
        Err(Failure::WrongBits(what)) => format!("wrong bits: {what}"),
        Err(Failure::Late) => format!("late: no roots within {DEADLINE_SECONDS} s"),
        Err(Failure::Abandoned) => "the roots were never opened".to_owned(),
    });
    app.metrics.judged(match &outcome.verdict {
        Ok(_) => "right",
        Err(Failure::WrongBits(_)) => "wrong_bits",
        Err(Failure::Late) => "late",
        Err(Failure::Abandoned) => "abandoned",
    });
    app.store.judge_proof(&judge_permit, row.proof, &outcome, &finding, opening).await?;
    let gpu = app.store.gpu(row.gpu).await?.ok_or_else(ApiError::hidden)?;
    let outcomes = app.store.outcomes(&judge_permit, row.gpu, gpu.round).await?;
    let judgement = judge(&gpu.claim, &outcomes);
    // All joining proofs are asked before a GPU is proven or suspect, so that its profile is a lower bound
    // over all of them; forged bits need no second look.
    let early = outcomes.len() < JOINING_PROOFS && judgement.standing != Standing::Quarantined;
    let (standing, reason) = if early {
        (gpu.standing, Text::lossy(&format!("{} of {JOINING_PROOFS} joining proofs judged", outcomes.len())))
    } else {
        app.store.set_standing(&judge_permit, row.gpu, &judgement).await?;
        (judgement.standing, judgement.reason)
    };
    app.changed();
    app.nudge(gpu.resource.machine);
    let again = wants(standing, outcomes.len() as u32, 0);
    Ok(Verdict { accepted: outcome.verdict.is_ok(), finding, profile, standing, reason, again })
}

/// Judges what ran out of time: late without roots, abandoned without an opening.
pub async fn judge_overdue(app: &App, now: UnixSeconds) -> Result<(), ApiError> {
    let permit = verifier(now)?;
    let millis = edge::now_millis();
    for row in app.store.overdue_proofs(&permit, millis).await? {
        let failure = if row.commitment.is_none() { Failure::Late } else { Failure::Abandoned };
        if failure == Failure::Abandoned && millis.0 < row.deadline_at.0 + OPENING_SECONDS * 1000 {
            continue;
        }
        conclude(app, &row, Outcome { proof: row.proof, verdict: Err(failure) }, None, now).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_tells_a_software_device_from_every_claim() {
        for reference in floors::table() {
            let claim = GpuClaim {
                slot: Hash::default(),
                model: Text::lossy(&reference.words.join(" ")),
                kind: gangline_types::AdapterKind::Discrete,
                backend: gangline_types::Backend::Vulkan,
                driver: Text::default(),
                pci_vendor: 0,
                pci_device: 0,
                memory_bytes: 0,
            };
            let asked = params(&claim);
            assert!(asked.check().is_ok());
            assert!(
                asked.macs() >= floors::telling_macs(floors::floor(&claim).rate_mmacs),
                "{}",
                claim.model
            );
            let rows = (asked.rows * asked.steps) as i32;
            assert!(0.9f64.powi(rows) <= 0.0012, "{rows} rows let a tenth be skipped too often");
        }
    }

    #[test]
    fn proofs_are_wanted_until_three_are_judged_and_then_now_and_then() {
        assert!(wants(Standing::Unproven, 0, u64::MAX));
        assert!(wants(Standing::Unproven, 2, 0));
        assert!(!wants(Standing::Unproven, 3, 0));
        assert!(wants(Standing::Unproven, 3, AGAIN_UNPROVEN_SECONDS));
        assert!(!wants(Standing::Suspect, 3, AGAIN_UNPROVEN_SECONDS));
        assert!(!wants(Standing::Quarantined, 3, u64::MAX));
        assert!(!wants(Standing::Proven, 3, u64::MAX));
    }
}
