//! Setting a password and signing in with it, where browsers have no passkeys and there is no provider.

use axum::{
    http::{StatusCode, header},
    response::Response,
};
use gangline_guard::{Refusal, act, password, policy::on, secret::Secret};
use gangline_pages::{Done, paths};
use gangline_store::NewSession;
use gangline_types::SessionId;
use gangline_wire::{Endpoint, endpoints as e};

use super::{account::replaced, cookie, done, enter::SESSION_SECONDS, go_on};
use crate::{
    app::Counted, edge, error::ApiError, people::password::Passwords, request::Ctx,
    routes::account::own_account,
};

/// Where there is something better, there are no such pages.
fn passwords<E: Endpoint>(ctx: &Ctx<E>) -> Result<&Passwords, ApiError> {
    ctx.app.passwords.as_ref().ok_or_else(ApiError::hidden)
}

fn not_taken(why: impl std::fmt::Display) -> ApiError {
    ApiError::bad_hint(
        StatusCode::UNPROCESSABLE_ENTITY,
        "weak_password",
        format!("the password was not set: {why}"),
        "take several words that do not belong together, or let a password manager make one",
    )
}

/// Sets it. Whoever came by a one-time link need not know the old one: that is how a forgotten one is replaced.
pub async fn set(ctx: Ctx<e::PasswordSet>) -> Result<Response, ApiError> {
    let account = ctx.actor.principal().account().ok_or(Refusal::NotSignedIn)?;
    let permit = ctx.permit::<act::ManageWaysIn>(on::Account { account })?;
    let passwords = passwords(&ctx)?;
    ctx.app.count(Counted::Passwords, account)?;
    let read = own_account(&ctx)?;
    let this = ctx.actor.principal().session();
    let by_link = ctx
        .app
        .store
        .sessions_of(&read)
        .await?
        .iter()
        .any(|session| Some(session.session) == this && session.how == "link");
    let known = ctx.app.store.own_password(&read).await?;
    if let Some(known) = known.filter(|_| !by_link)
        && !passwords.is(&ctx.body.current, Some(&known.hash)).await?
    {
        return Err(Refusal::BadPassword.into());
    }
    let login = password::login(&ctx.body.login).ok_or_else(|| {
        ApiError::bad(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad_login",
            "a name to sign in with has 3 to 64 small letters, digits, dots, dashes or underscores",
        )
    })?;
    let name = ctx.app.store.account_name(&read).await?;
    let about = [name.as_str(), login.as_str(), ctx.app.origin.as_str(), &account.to_string()];
    password::check(&ctx.body.password, &about).map_err(not_taken)?;
    if passwords.is_breached(&ctx.body.password).await? {
        return Err(not_taken("it is in a list of passwords that were breached elsewhere"));
    }
    let hash = passwords.hash(&ctx.body.password).await?;
    ctx.app.store.set_password(permit, &login, &hash, this).await?;
    Ok(done(paths::ACCOUNT, Done::PasswordSet))
}

/// Signs in whoever knows it.
pub async fn sign_in(ctx: Ctx<e::PasswordSignIn>) -> Result<Response, ApiError> {
    let passwords = passwords(&ctx)?;
    ctx.app.count(Counted::SignIns, ctx.peer.ip())?;
    let permit = ctx.permit::<act::UsePassword>(on::Network)?;
    // By name as well, whether there is such a one or not: guessing from many addresses is slow too.
    let login = password::login(&ctx.body.login).ok_or(Refusal::BadPassword)?;
    ctx.app.count(Counted::Passwords, login.as_str())?;
    let known = ctx.app.store.password(login.as_str()).await?;
    let fits = ctx.body.password.len() <= password::BYTES_MAX
        && passwords.is(&ctx.body.password, known.as_ref().map(|row| row.hash.as_str())).await?;
    let known = known.filter(|_| fits).ok_or(Refusal::BadPassword)?;
    let secret = Secret::from_random(edge::random());
    let session = NewSession {
        id: SessionId::from_bytes(edge::random()),
        secret: secret.stored(),
        expires_at: ctx.now.plus(SESSION_SECONDS),
        replaces: replaced(&ctx),
    };
    ctx.app.store.sign_in_by_password(permit, &known, session).await?.ok_or(Refusal::BadPassword)?;
    let mut response = go_on(paths::CONSOLE);
    response.headers_mut().insert(header::SET_COOKIE, cookie::session(&secret));
    Ok(response)
}
