//! Approving a new key: the browser's half of RFC 8628.

use axum::{http::StatusCode, response::Response};
use gangline_guard::{Permit, Refusal, act, audit::RefusedAttempt, policy::on, secret::normalise_code};
use gangline_pages::{ApproveView, Asking, KeyRequest};
use gangline_store::EnrolmentRow;
use gangline_types::MachineId;
use gangline_wire::{
    Endpoint,
    api::enrol::{EnrolmentState, KeyKind},
    endpoints as e,
};

use super::{chrome, html, page};
use crate::{
    app::Counted, edge, error::ApiError, refusals::inert, request::Ctx, routes::account::own_account,
};

fn asking(kind: KeyKind) -> Asking {
    match kind {
        KeyKind::Machine => Asking::Machine,
        KeyKind::CommandLine => Asking::CommandLine,
    }
}

/// The guard's word on deciding this request; where it is no, who may.
fn may_decide<E: Endpoint>(
    ctx: &Ctx<E>,
    resource: on::Enrolment,
) -> Result<Permit<act::DecideEnrolment>, ApiError> {
    ctx.permit::<act::DecideEnrolment>(resource).map_err(|error| match error {
        ApiError::Refused(Refusal::Forbidden(_)) if resource.kind == KeyKind::Machine => ApiError::bad_hint(
            StatusCode::FORBIDDEN,
            "forbidden",
            "a machine asks for this key, and only a supplier's account can take a machine in",
            "sign in with a supplier's account; the operator makes links for one",
        ),
        other => other,
    })
}

pub async fn show(ctx: Ctx<e::ApprovePage>) -> Result<Response, ApiError> {
    let account = own_account(&ctx)?;
    let Some(typed) = ctx.query.code.as_deref() else {
        let view = ApproveView::Type { problem: None, code: String::new() };
        return Ok(page(gangline_pages::approve(&chrome(&ctx), &view)));
    };
    // 40 bits are enough only if they cannot be tried one after another.
    ctx.app.count(Counted::Codes, account.on().account)?;
    let row = match normalise_code(typed) {
        Some(code) => ctx.app.store.enrolment_by_code(&code, ctx.now).await?,
        None => None,
    };
    let Some(row) = row else { return Ok(no_such_code(&ctx, typed)) };
    may_decide(&ctx, row.resource)?;
    let account = ctx.app.store.account_name(&account).await?;
    let view = ApproveView::Decide(request(&ctx, row, account.to_string()));
    Ok(page(gangline_pages::approve(&chrome(&ctx), &view)))
}

fn request<E: Endpoint>(ctx: &Ctx<E>, row: EnrolmentRow, account: String) -> KeyRequest {
    let mut facts = vec![("Host".to_owned(), row.host.to_string())];
    if !row.summary.as_str().is_empty() {
        facts.push(("What it is".to_owned(), row.summary.to_string()));
    }
    KeyRequest {
        now: ctx.now,
        enrolment: row.resource.enrolment,
        code: row.code,
        asking: asking(row.resource.kind),
        fingerprint: row.public_key.fingerprint(),
        facts,
        address: None,
        asked_at: row.created_at,
        expires_at: row.expires_at,
        account,
    }
}

/// The form again, to be corrected; written down, since a code may also be guessed.
fn no_such_code(ctx: &Ctx<e::ApprovePage>, typed: &str) -> Response {
    let message = "no key asks with this code: it was mistyped, decided, or ran out after 15 minutes";
    ctx.app.recorder.record(
        &ctx.asker().to_string(),
        RefusedAttempt {
            at: ctx.now,
            actor: ctx.actor.principal().to_string(),
            key: None,
            account: ctx.actor.principal().account(),
            count: 1,
            action: e::ApprovePage::SPEC.action,
            request: "GET /approve".to_owned(),
            address: ctx.peer.ip().to_string(),
            code: "no_such_code".to_owned(),
            message: message.to_owned(),
        },
    );
    let problem = "No key asks with this code. Compare it with the terminal; a code that was used or is older than \
                   15 minutes works no more, and running the command again gives a new one.";
    let code = inert(typed).chars().take(16).collect();
    let view = ApproveView::Type { problem: Some(problem.to_owned()), code };
    html(StatusCode::NOT_FOUND, gangline_pages::approve(&chrome(ctx), &view))
}

pub async fn decide(ctx: Ctx<e::ApproveForm>) -> Result<Response, ApiError> {
    let approve = match ctx.body.decision.as_str() {
        "approve" => true,
        "deny" => false,
        _ => {
            return Err(ApiError::bad(
                StatusCode::BAD_REQUEST,
                "malformed",
                "the decision is neither approve nor deny",
            ));
        }
    };
    let row = ctx.app.store.enrolment(ctx.body.enrolment, ctx.now).await?.ok_or_else(ApiError::hidden)?;
    let permit = may_decide(&ctx, row.resource)?;
    if row.state != EnrolmentState::Pending {
        return Err(ApiError::bad_hint(
            StatusCode::CONFLICT,
            "conflict",
            "this request was decided or ran out",
            "run the command again to get a new code",
        ));
    }
    ctx.app.store.decide_enrolment(permit, approve, MachineId::from_bytes(edge::random())).await?;
    let asking = asking(row.resource.kind);
    let view = if approve { ApproveView::Approved(asking) } else { ApproveView::Denied(asking) };
    Ok(page(gangline_pages::approve(&chrome(&ctx), &view)))
}
