//! A new key in the place of an old one, for machines and command lines. The request is signed by the old key
//! and holds a proof by the new one; nobody is asked, and no identity changes.

use axum::http::{StatusCode, header};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gangline_guard::{Permit, Refusal, act, policy::on};
use gangline_store::RotationError;
use gangline_types::Seconds;
use gangline_wire::{
    Endpoint,
    api::enrol::{Rotation, Settled, rotation_bytes},
    endpoints as e,
};

use crate::{app::Counted, error::ApiError, request::Ctx, router::Api};

/// How long a new key may stay unused before it ends, in seconds: a day.
const UNUSED_SECONDS: u64 = 24 * 3600;

pub(super) fn routes(api: Api) -> Api {
    api.json::<e::KeyRotate, _, _>(rotate).json::<e::KeySettle, _, _>(settle)
}

/// The signing key itself, as a permit.
fn own_key<E: Endpoint>(ctx: &Ctx<E>) -> Result<Permit<act::RotateKey>, ApiError> {
    let principal = ctx.actor.principal();
    match (principal.key(), principal.account()) {
        (Some(key), Some(account)) => ctx.permit::<act::RotateKey>(on::Key { key, account }),
        _ => Err(Refusal::Unsigned.into()),
    }
}

async fn rotate(ctx: Ctx<e::KeyRotate>) -> Result<Rotation, ApiError> {
    let permit = own_key(&ctx)?;
    let old = permit.on().key;
    ctx.app.count(Counted::Rotations, old)?;
    let new = ctx.body.public_key;
    // The request's own signature covers the same authority.
    let authority = ctx.head.headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    let proof = URL_SAFE_NO_PAD.decode(ctx.body.proof.as_str()).unwrap_or_default();
    if !new.verifies(&rotation_bytes(authority, old, &new), &proof) {
        return Err(ApiError::bad_hint(
            StatusCode::UNPROCESSABLE_ENTITY,
            "key_not_held",
            "the proof does not show that whoever asks holds the new key",
            "the new key signs server, old key and new key, as `rotation_bytes` writes them",
        ));
    }
    let unused_until = ctx.now.plus(UNUSED_SECONDS);
    match ctx.app.store.rotate_key(permit, &new, unused_until).await {
        Ok(unused_until) => Ok(Rotation {
            key: new.id(),
            follows: old,
            overlap: Seconds(ctx.app.config.key_overlap_seconds),
            unused_until,
        }),
        Err(RotationError::Store(error)) => Err(error.into()),
        Err(error @ RotationError::Taken(_)) => Err(ApiError::bad_hint(
            StatusCode::CONFLICT,
            "key_taken",
            error.to_string(),
            "make a new key; each is enrolled once",
        )),
        Err(ref error @ RotationError::ThirdKey { other, ends_at }) => Err(ApiError::bad_hint(
            StatusCode::CONFLICT,
            "third_key",
            error.to_string(),
            match ends_at {
                Some(at) => format!("{other} ends by itself at {at}; wait, or revoke the keys and join anew"),
                None => format!("use {other}: it took this key's place"),
            },
        )),
    }
}

async fn settle(ctx: Ctx<e::KeySettle>) -> Result<Settled, ApiError> {
    let permit = own_key(&ctx)?;
    let ended = ctx.app.store.settle_rotation(permit).await?.ok_or_else(|| {
        ApiError::bad(
            StatusCode::CONFLICT,
            "nothing_to_settle",
            "this key took the place of no other that is still alive",
        )
    })?;
    Ok(Settled { ended })
}
