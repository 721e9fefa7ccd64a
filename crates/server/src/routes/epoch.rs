//! Epoch proofs: the bell, roots, opening, verdict. The clock is the server's and starts with the bell, the
//! same for all GPUs of a machine and each hour the same for the whole network.

use axum::http::StatusCode;
use gangline_guard::act;
use gangline_proof::epoch::{Challenge, Rejection, Transcript};
use gangline_rules::{
    calibration::Key,
    epochs::{Failure, Outcome, Shown, TAKEN_MILLIS, opening_delay_millis},
};
use gangline_store::{EpochStand, NewEpoch};
use gangline_types::{GpuId, ProofId, Text};
use gangline_wire::{
    api::epoch::{EpochChallenge, EpochChallenges, EpochReceipt, EpochVerdict, PublicEpoch},
    endpoints as e,
};

use crate::{
    edge,
    error::ApiError,
    jobs::{
        bells,
        epochs::{self, Call, conclude},
    },
    request::Ctx,
    router::Api,
    routes::{machine::own, proof::believed},
};

pub(super) fn routes(api: Api) -> Api {
    api.json::<e::EpochBegin, _, _>(begin)
        .json::<e::EpochRoots, _, _>(commit)
        .json::<e::EpochOpened, _, _>(open)
        .json::<e::PublicGpuEpochs, _, _>(epochs_of)
        .json::<e::PublicEpochTranscript, _, _>(transcript)
}

async fn epochs_of(ctx: Ctx<e::PublicGpuEpochs>) -> Result<Vec<PublicEpoch>, ApiError> {
    let gpu: GpuId = ctx.param("gpu")?;
    let public = ctx.app.store.public();
    public.gpu(gpu).await?.ok_or_else(ApiError::hidden)?;
    Ok(public.epochs(gpu).await?)
}

async fn transcript(ctx: Ctx<e::PublicEpochTranscript>) -> Result<Transcript, ApiError> {
    let proof: ProofId = ctx.param("proof")?;
    ctx.app.store.public().epoch_transcript(proof).await?.ok_or_else(ApiError::hidden)
}

async fn begin(ctx: Ctx<e::EpochBegin>) -> Result<EpochChallenges, ApiError> {
    let permit = own::<act::ProveGpu, _>(&ctx)?;
    let app = &ctx.app;
    let stands = app.store.epoch_stands(&permit).await?;
    for unable in &ctx.body.unable {
        let stand = stands.iter().find(|stand| stand.gpu == unable.gpu).ok_or_else(ApiError::hidden)?;
        if let Some(call) = epochs::call(stand, &app.rota, app.config.rerun_seconds, edge::now_millis()) {
            epochs::missed(app, stand, call, Failure::Unable(unable.why.clone()), ctx.now).await?;
        }
    }
    if ctx.body.gpus.is_empty() {
        return Ok(EpochChallenges { challenges: vec![] });
    }
    let mut called: Vec<(&EpochStand, Call)> = Vec::with_capacity(ctx.body.gpus.len());
    for asked in &ctx.body.gpus {
        let stand = stands.iter().find(|stand| stand.gpu == asked.gpu).ok_or_else(ApiError::hidden)?;
        believed(asked)?;
        if called.iter().any(|(known, _)| known.gpu == asked.gpu) {
            return Err(ApiError::bad(
                StatusCode::UNPROCESSABLE_ENTITY,
                "gpu_twice",
                format!("{} is there twice", asked.gpu),
            ));
        }
        let Some(call) = epochs::call(stand, &app.rota, app.config.rerun_seconds, edge::now_millis()) else {
            return Err(ApiError::bad(
                StatusCode::CONFLICT,
                "not_wanted",
                format!("no epoch of {} is wanted now: it is {}", asked.gpu, stand.standing),
            ));
        };
        called.push((stand, call));
    }
    let Some(call) = called.iter().map(|(_, call)| *call).find(|call| *call != Call::Own) else {
        return ring(&ctx, &permit, &called, Call::Own).await;
    };
    ring(&ctx, &permit, &called, call).await
}

/// Waits for the bell and starts the clock of every GPU that was called.
async fn ring(
    ctx: &Ctx<e::EpochBegin>,
    permit: &gangline_guard::Permit<act::ProveGpu>,
    called: &[(&EpochStand, Call)],
    call: Call,
) -> Result<EpochChallenges, ApiError> {
    let app = &ctx.app;
    let bell = epochs::moment(call, &app.rota, edge::now_millis());
    let wait = std::time::Duration::from_millis(bell.0.saturating_sub(edge::now_millis().0));
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = app.stop.cancelled() => {
            return Err(ApiError::bad(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the server stops before the bell"));
        }
    }
    let beacon = match call {
        Call::Hourly(hour) => bells::ring(app, hour).await?.beacon(),
        Call::Own => bells::own_beacon(app, bell).await?,
    };
    let tables = bells::tables(app).await?;
    let promoted = epochs::promoted(&tables);
    let new: Vec<NewEpoch> = called
        .iter()
        .zip(&ctx.body.gpus)
        .map(|((stand, own_call), asked)| {
            let binding = asked.key.binding(stand.gpu);
            let params = epochs::drawn(app, &stand.claim, &beacon, &binding);
            let work = params.work();
            let entry = promoted.and_then(|table| table.find(&Key::of(&stand.claim, work)));
            NewEpoch {
                proof: ProofId::from_bytes(edge::random()),
                gpu: stand.gpu,
                round: stand.round,
                hour: match own_call {
                    Call::Hourly(hour) => Some(*hour),
                    Call::Own => None,
                },
                bell,
                challenge: Challenge { params, beacon, binding },
                key: asked.key,
                work,
                deadline_millis: entry.map(|entry| entry.deadline_millis()),
            }
        })
        .collect();
    app.store.begin_epochs(permit, &new).await?;
    let challenges = new
        .into_iter()
        .map(|e| EpochChallenge {
            gpu: e.gpu,
            proof: e.proof,
            challenge: e.challenge,
            deadline_millis: e.deadline_millis,
        })
        .collect();
    Ok(EpochChallenges { challenges })
}

async fn commit(ctx: Ctx<e::EpochRoots>) -> Result<EpochReceipt, ApiError> {
    let arrived = edge::now_millis();
    let permit = own::<act::ProveGpu, _>(&ctx)?;
    let row = ctx.app.store.epoch(&permit, ctx.param("proof")?).await?.ok_or_else(ApiError::hidden)?;
    if row.judged {
        return Err(ApiError::bad(StatusCode::CONFLICT, "already_judged", "this epoch was judged"));
    }
    let elapsed_millis = arrived.0.saturating_sub(row.bell.0).max(1);
    if elapsed_millis > TAKEN_MILLIS {
        let late = Failure::Late { elapsed_millis, deadline_millis: TAKEN_MILLIS };
        conclude(&ctx.app, &row, Outcome { proof: row.proof, verdict: Err(late) }, None, ctx.now).await?;
        return Err(ApiError::bad(
            StatusCode::CONFLICT,
            "late",
            format!("the roots came {elapsed_millis} ms after the bell; {TAKEN_MILLIS} ms are waited for"),
        ));
    }
    let nonce = edge::random_hash();
    ctx.app.store.commit_epoch(&permit, row.proof, &ctx.body.commitment, nonce, elapsed_millis).await?;
    let connected = ctx.app.totals.borrow().connected;
    let open_in_millis = opening_delay_millis(connected, &edge::random_hash());
    Ok(EpochReceipt { nonce, elapsed_millis, open_in_millis })
}

async fn open(ctx: Ctx<e::EpochOpened>) -> Result<EpochVerdict, ApiError> {
    let permit = own::<act::ProveGpu, _>(&ctx)?;
    let row = ctx.app.store.epoch(&permit, ctx.param("proof")?).await?.ok_or_else(ApiError::hidden)?;
    let (Some(commitment), Some(nonce), Some(elapsed_millis), false) =
        (row.commitment.clone(), row.nonce, row.elapsed_millis, row.judged)
    else {
        return Err(ApiError::bad(
            StatusCode::CONFLICT,
            "nothing_to_open",
            "this epoch has no roots yet, or it was judged",
        ));
    };
    let (opening, signature) = (ctx.body.opening.clone(), ctx.body.signature.clone());
    let whole = Transcript::new(
        row.gpu,
        row.key,
        row.challenge,
        commitment,
        nonce,
        opening.clone(),
        signature.clone(),
    );
    if whole.check_signature().is_err() {
        return Err(ApiError::bad(
            StatusCode::UNPROCESSABLE_ENTITY,
            "wrong_signature",
            "the opening is not signed by the key that was named before the bell",
        ));
    }
    let verify = move || {
        gangline_proof::epoch::verify(&whole.challenge, &whole.commitment, &whole.nonce, &whole.opening)
    };
    let verified = ctx.app.verifying.run(verify).await?;
    let verdict = match verified {
        Ok(shown) => match row.deadline_millis {
            Some(deadline_millis) if elapsed_millis > deadline_millis => {
                Err(Failure::Late { elapsed_millis, deadline_millis })
            }
            _ => Ok(Shown {
                memory_bytes: shown.memory_bytes,
                reads: shown.reads,
                alu_steps: shown.alu_steps,
                elapsed_millis,
            }),
        },
        // Bits that are well formed and false are forged; anything else was not an answer.
        Err(rejection) if rejection.is_wrong_bits() => {
            Err(Failure::WrongBits(Text::lossy(&rejection.to_string())))
        }
        Err(rejection) => return Err(malformed(&rejection)),
    };
    let outcome = Outcome { proof: row.proof, verdict };
    conclude(&ctx.app, &row, outcome, Some((&opening, &signature)), ctx.now).await
}

fn malformed(rejection: &Rejection) -> ApiError {
    ApiError::bad(
        StatusCode::UNPROCESSABLE_ENTITY,
        rejection.code(),
        format!("the opening cannot be taken: {rejection}"),
    )
}
