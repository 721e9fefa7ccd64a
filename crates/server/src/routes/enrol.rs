//! Keys that ask to be bound to an account.

use axum::http::StatusCode;
use gangline_guard::{act, policy::on, secret::user_code};
use gangline_store::NewEnrolment;
use gangline_types::EnrolmentId;
use gangline_wire::{
    api::enrol::{EnrolmentState, EnrolmentTicket},
    endpoints as e,
};

use crate::{app::Counted, edge, error::ApiError, request::Ctx, router::Api};

/// How long a code can be approved, in seconds.
const CODE_SECONDS: u64 = 900;
/// How often a key may ask how its request stands, in seconds.
const POLL_SECONDS: u64 = 2;

pub(super) fn routes(api: Api) -> Api {
    api.json::<e::Enrol, _, _>(enrol).json::<e::EnrolPoll, _, _>(poll)
}

async fn enrol(ctx: Ctx<e::Enrol>) -> Result<EnrolmentTicket, ApiError> {
    ctx.app.count(Counted::Enrolments, ctx.peer.ip())?;
    let permit = ctx.permit::<act::RequestEnrolment>(on::Network)?;
    if ctx.app.store.key(ctx.body.public_key.id()).await?.is_some() {
        return Err(ApiError::bad_hint(
            StatusCode::CONFLICT,
            "already_enrolled",
            "this key is enrolled, or was and has ended",
            "it needs no approval if it still works; if it was revoked, make a new one",
        ));
    }
    let new = NewEnrolment {
        id: EnrolmentId::from_bytes(edge::random()),
        public_key: ctx.body.public_key,
        kind: ctx.body.kind,
        host: ctx.body.host,
        summary: ctx.body.summary,
        code: user_code(edge::random()),
        expires_at: ctx.now.plus(CODE_SECONDS),
    };
    let origin = &ctx.app.origin;
    let ticket = EnrolmentTicket {
        enrolment: new.id,
        user_code: new.code.clone(),
        verification_url: format!("{origin}/approve"),
        verification_url_complete: format!("{origin}/approve?code={}", new.code),
        expires_in_seconds: CODE_SECONDS,
        interval_seconds: POLL_SECONDS,
    };
    ctx.app.store.request_enrolment(permit, new).await?;
    Ok(ticket)
}

async fn poll(ctx: Ctx<e::EnrolPoll>) -> Result<EnrolmentState, ApiError> {
    ctx.app.count(Counted::EnrolmentPolls, ctx.asker())?;
    let row = ctx.app.store.enrolment(ctx.body.enrolment, ctx.now).await?.ok_or_else(ApiError::hidden)?;
    // Only the key that asked may know: the request is signed by the key in its body.
    if Some(row.public_key.id()) != ctx.actor.principal().key() {
        return Err(ApiError::hidden());
    }
    Ok(row.state)
}
