//! Proofs: challenge, roots, opening, verdict. The clock is the server's; what is asked follows from the
//! claim; what is opened follows from a nonce that does not exist before the roots are in.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use gangline_guard::act;
use gangline_proof::{Challenge, GpuPublicKey, Signed, binding, verify};
use gangline_rules::standing::{Failure, Outcome, Shown};
use gangline_store::{GpuRow, NewProof};
use gangline_types::{GpuId, Hash, ProofId, Text, UnixMillis};
use gangline_wire::{
    api::{
        epoch::BellGpu,
        proof::{CommitReceipt, GpuChallenge, ProofChallenges, ProofRequest, Verdict},
    },
    endpoints as e,
};

use crate::{
    app::App,
    edge,
    error::ApiError,
    jobs::proofs::{DEADLINE_SECONDS, conclude, is_wanted, params},
    request::Ctx,
    router::Api,
    routes::machine::own,
};

pub(super) fn routes(api: Api) -> Api {
    api.json::<e::ProofBegin, _, _>(begin)
        .json::<e::ProofCommit, _, _>(commit)
        .json::<e::ProofOpen, _, _>(open)
}

/// A beacon nobody can foresee: the network's secret and fresh randomness.
fn beacon(app: &App) -> Hash {
    Hash(*blake3::keyed_hash(&app.beacon_secret, &edge::random::<32>()).as_bytes())
}

fn unprocessable(code: &'static str, message: String) -> ApiError {
    ApiError::bad(StatusCode::UNPROCESSABLE_ENTITY, code, message)
}

/// Refuses a key that is named for a GPU and not fit to be believed.
pub(super) fn believed(named: &BellGpu) -> Result<(), ApiError> {
    if named.key.is_sound() {
        return Ok(());
    }
    Err(unprocessable("weak_key", format!("the key of {} is no sound Ed25519 key", named.gpu)))
}

/// The keys that were named, each of one of the GPUs that are asked for and fit to be believed.
fn named(asked: &ProofRequest) -> Result<BTreeMap<GpuId, GpuPublicKey>, ApiError> {
    let mut keys = BTreeMap::new();
    for named in &asked.keys {
        let gpu = named.gpu;
        believed(named)?;
        if !asked.gpus.contains(&gpu) {
            let why = format!("there is a key for {gpu}, of which no proof is asked for");
            return Err(unprocessable("key_without_gpu", why));
        }
        if keys.insert(gpu, named.key).is_some() {
            return Err(unprocessable("gpu_twice", format!("there are two keys for {gpu}")));
        }
    }
    Ok(keys)
}

async fn begin(ctx: Ctx<e::ProofBegin>) -> Result<ProofChallenges, ApiError> {
    let permit = own::<act::ProveGpu, _>(&ctx)?;
    let machine_key = ctx.app.store.machine_public_key(permit.on().machine).await?;
    let machine_key = machine_key.ok_or_else(ApiError::hidden)?;
    let keys = named(&ctx.body)?;
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
    // One clock for all GPUs of the machine: they prove at once, or are not several. Each has a beacon of its own, for
    // transcripts are public and tell nobody which GPUs share a machine.
    let began_at = edge::now_millis();
    let new: Vec<NewProof> = gpus
        .iter()
        .map(|row| {
            let (gpu, key) = (row.resource.gpu, keys.get(&row.resource.gpu).copied());
            NewProof {
                proof: ProofId::from_bytes(edge::random()),
                gpu,
                round: row.round,
                challenge: Challenge {
                    params: params(&row.claim, ctx.app.config.software_joining),
                    beacon: beacon(&ctx.app),
                    binding: key.map_or_else(|| binding(&machine_key, gpu), |key| key.binding(gpu)),
                },
                key,
                began_at,
                deadline_at: UnixMillis(began_at.0 + DEADLINE_SECONDS * 1000),
            }
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
    let (challenge, opening, signature) = (row.challenge, ctx.body.opening, ctx.body.signature);
    // A worker that does not sign yet is judged as before, and its transcript says that it carries no signature.
    if let Some(signature) = &signature {
        let signed = row.key.map(|key| Signed { key, signature: signature.clone() });
        let is_theirs = signed
            .is_some_and(|signed| signed.check(row.gpu, &challenge, &commitment, &nonce, &opening).is_ok());
        if !is_theirs {
            let why = "the opening is not signed by the key that was named for this GPU when its challenge was asked for";
            return Err(unprocessable("wrong_signature", why.to_owned()));
        }
    }
    let verify = move || (verify(&challenge, &commitment, &nonce, &opening), opening);
    let (result, opening) = ctx.app.verifying.run(verify).await?;
    let verdict = match result {
        Ok(shown) => Ok(Shown { macs: shown.macs, memory_bytes: shown.memory_bytes, elapsed_millis }),
        // Bits that are well formed and false are forged; anything else was not an answer.
        Err(rejection) if rejection.is_wrong_bits() => {
            Err(Failure::WrongBits(Text::lossy(&rejection.to_string())))
        }
        Err(rejection) => {
            return Err(ApiError::bad(
                StatusCode::UNPROCESSABLE_ENTITY,
                rejection.code(),
                format!("the opening cannot be taken: {rejection}"),
            ));
        }
    };
    let opened = Some((&opening, signature.as_ref()));
    conclude(&ctx.app, &row, Outcome { proof: row.proof, verdict }, opened, ctx.now).await
}
