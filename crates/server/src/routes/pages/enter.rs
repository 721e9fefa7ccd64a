//! Signing in by a one-time link, and out again.

use axum::{
    http::{StatusCode, header},
    response::Response,
};
use gangline_guard::{Factors, act, policy::on, secret::Secret};
use gangline_pages::{EnterView, paths};
use gangline_store::NewSession;
use gangline_types::SessionId;
use gangline_wire::{Endpoint, endpoints as e};

use super::{chrome, chrome::role, cookie, go_on, page, sign_in};
use crate::{app::Counted, edge, error::ApiError, request::Ctx, routes::account::own_account};

/// How long a session lasts at most, in seconds: a week.
pub(super) const SESSION_SECONDS: u64 = 7 * 24 * 3600;

fn used_up() -> ApiError {
    ApiError::bad_hint(
        StatusCode::GONE,
        "link_used",
        "this link was used, ran out, or never was one",
        "ask the operator for a new one; if you used it yourself, you may still be signed in: see the console",
    )
}

/// The link's secret, if the address holds one. Every try counts, so that none can be found by trying.
fn shown_link<E: Endpoint>(ctx: &Ctx<E>) -> Result<Secret, ApiError> {
    ctx.app.count(Counted::Links, ctx.peer.ip())?;
    ctx.param_text("token").and_then(Secret::parse).ok_or_else(used_up)
}

/// Says what the link is for; opening it does not use it.
pub async fn show(ctx: Ctx<e::EnterPage>) -> Result<Response, ApiError> {
    let secret = shown_link(&ctx)?;
    let link =
        ctx.app.store.link(&secret.stored(), ctx.now).await?.filter(|l| l.usable).ok_or_else(used_up)?;
    let view = EnterView {
        now: ctx.now,
        token: secret.reveal(),
        role: role(link.role),
        name: link.name.to_string(),
        expires_at: link.expires_at,
    };
    Ok(page(gangline_pages::enter(&chrome(&ctx), &view)))
}

/// Uses it: the link ends, a session begins.
pub async fn sign_in(ctx: Ctx<e::EnterForm>) -> Result<Response, ApiError> {
    let link = shown_link(&ctx)?;
    let permit = ctx.permit::<act::UseLink>(on::Network)?;
    let secret = Secret::from_random(edge::random());
    let session = NewSession {
        id: SessionId::from_bytes(edge::random()),
        secret: secret.stored(),
        expires_at: ctx.now.plus(SESSION_SECONDS),
        replaces: super::account::replaced(&ctx),
    };
    ctx.app.store.use_link(permit, &link.stored(), session).await?.ok_or_else(used_up)?;
    // Where a link is not enough, what is missing is told and added on the account's page.
    let next = if ctx.app.factors == Factors::Two { paths::ACCOUNT } else { paths::CONSOLE };
    let mut response = go_on(next);
    response.headers_mut().insert(header::SET_COOKIE, cookie::session(&secret));
    Ok(response)
}

/// Ends the session.
pub async fn sign_out(ctx: Ctx<e::LeaveForm>) -> Result<Response, ApiError> {
    let from_provider = ctx.app.store.came_from_provider(&own_account(&ctx)?).await?;
    ctx.app.store.end_session(own_account(&ctx)?).await?;
    let mut response = if from_provider { sign_in::sign_out_there(&ctx) } else { go_on(paths::EXPLORER) };
    let headers = response.headers_mut();
    headers.append(header::SET_COOKIE, cookie::no_session());
    if from_provider {
        headers.append(header::SET_COOKIE, cookie::no_hint());
    }
    Ok(response)
}
