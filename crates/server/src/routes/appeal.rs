//! Appeals: a supplier opens one, the GPU is measured again, verifiers sign what they find.

use axum::http::StatusCode;
use gangline_guard::{act, policy::on};
use gangline_rules::appeals::{VERIFIERS_MAX, VERIFIERS_MIN, message};
use gangline_store::opened_appeal;
use gangline_types::{AppealId, GpuId, Standing};
use gangline_wire::{
    PublicKey,
    api::appeal::{PublicAppeal, Verifier},
    endpoints as e,
};

use crate::{
    app::Counted,
    edge,
    error::ApiError,
    jobs::proofs::verifier,
    request::Ctx,
    router::Api,
    routes::{calibration::unhex, machine::own},
};

pub(super) fn routes(api: Api) -> Api {
    api.json::<e::PublicAppeals, _, _>(all)
        .json::<e::AppealOpen, _, _>(open)
        .json::<e::AppealVerdict, _, _>(verdict)
        .json::<e::Verifiers, _, _>(verifiers)
        .json::<e::VerifierSet, _, _>(set_verifier)
}

async fn all(ctx: Ctx<e::PublicAppeals>) -> Result<Vec<PublicAppeal>, ApiError> {
    Ok(ctx.app.store.public().appeals(None).await?)
}

async fn open(ctx: Ctx<e::AppealOpen>) -> Result<PublicAppeal, ApiError> {
    let permit = own::<act::ProveGpu, _>(&ctx)?;
    let gpu: GpuId = ctx.param("gpu")?;
    let row = ctx.app.store.gpu(gpu).await?.filter(|row| row.resource.machine == permit.on().machine);
    let row = row.ok_or_else(ApiError::hidden)?;
    if !matches!(row.standing, Standing::Suspect | Standing::Quarantined) {
        return Err(ApiError::bad(
            StatusCode::CONFLICT,
            "nothing_to_appeal",
            format!("{gpu} is {}: an appeal is against being suspect or quarantined", row.standing),
        ));
    }
    let verifiers = ctx.app.store.verifiers().await?;
    if verifiers.len() < VERIFIERS_MIN {
        return Err(ApiError::bad_hint(
            StatusCode::CONFLICT,
            "too_few_verifiers",
            format!(
                "{} verifiers are registered, and an appeal is put before {VERIFIERS_MIN} at least",
                verifiers.len()
            ),
            "ask the network's operator to register some; the GPU is measured again meanwhile".to_owned(),
        ));
    }
    let appeal = opened_appeal(AppealId::from_bytes(edge::random()), gpu, verifiers, ctx.now);
    ctx.app.store.open_appeal(&permit, &appeal).await?;
    ctx.app.changed();
    ctx.app.nudge(permit.on().machine);
    Ok(appeal)
}

async fn verdict(ctx: Ctx<e::AppealVerdict>) -> Result<PublicAppeal, ApiError> {
    ctx.app.count(Counted::Verdicts, ctx.peer.ip())?;
    let appeal: AppealId = ctx.param("appeal")?;
    let known = ctx.app.store.appeal(appeal).await?.ok_or_else(ApiError::hidden)?;
    let given = &ctx.body;
    let is_its = known.verifiers.iter().any(|verifier| verifier.key == given.verifier);
    let key = PublicKey::from_bytes(&given.verifier.0).ok().filter(|_| is_its);
    let signature = unhex(given.signature.as_str()).unwrap_or_default();
    let signed = message(appeal, &given.digest, given.right);
    if !key.is_some_and(|key| key.verifies(&signed.0, &signature)) {
        return Err(ApiError::bad(
            StatusCode::FORBIDDEN,
            "no_verifier",
            "this is not signed by a verifier that the appeal was put before",
        ));
    }
    let appeal = ctx.app.store.add_verdict(&verifier(ctx.now)?, appeal, given).await?;
    ctx.app.changed();
    if appeal.upheld == Some(true)
        && let Some(row) = ctx.app.store.gpu(appeal.gpu).await?
    {
        ctx.app.nudge(row.resource.machine);
    }
    Ok(appeal)
}

async fn verifiers(ctx: Ctx<e::Verifiers>) -> Result<Vec<Verifier>, ApiError> {
    ctx.permit::<act::Operate>(on::Network)?;
    Ok(ctx.app.store.verifiers().await?)
}

async fn set_verifier(ctx: Ctx<e::VerifierSet>) -> Result<Vec<Verifier>, ApiError> {
    let permit = ctx.permit::<act::Operate>(on::Network)?;
    let refused = |code, why: String| ApiError::bad(StatusCode::UNPROCESSABLE_ENTITY, code, why);
    if PublicKey::from_bytes(&ctx.body.verifier.key.0).is_err() {
        return Err(refused("weak_key", "the verifier's key is no sound Ed25519 key".to_owned()));
    }
    if ctx.body.on && ctx.app.store.verifiers().await?.len() >= VERIFIERS_MAX {
        return Err(refused(
            "too_many",
            format!("{VERIFIERS_MAX} verifiers are registered, the most there can be"),
        ));
    }
    ctx.app.store.set_verifier(&permit, &ctx.body.verifier, ctx.body.on).await?;
    Ok(ctx.app.store.verifiers().await?)
}
