//! Ways into one's own account: passkeys, and the sessions that are open.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use gangline_guard::{Permit, Refusal, act, policy::on, secret::Secret};
use gangline_pages::{AccountView, Done, PasskeyRow, SessionRow, paths};
use gangline_store::{NewPasskey, NewSession, PasskeyQuestion, Removed};
use gangline_types::{Label, PasskeyId, SessionId};
use gangline_wire::{Endpoint, endpoints as e};

use super::{chrome, cookie, done, enter::SESSION_SECONDS, go_on, page};
use crate::{
    app::Counted,
    edge,
    error::ApiError,
    people::passkey::{Answer, NewAnswer, Passkeys, Question},
    request::{Ctx, SESSION_COOKIE, cookie as shown_cookie},
    routes::account::own_account,
};

/// How long a browser may take to answer, in seconds: what `webauthn_rp` tells it.
const QUESTION_SECONDS: u64 = 300;

fn own<E: Endpoint>(ctx: &Ctx<E>) -> Result<Permit<act::ManageWaysIn>, ApiError> {
    let account = ctx.actor.principal().account().ok_or(Refusal::NotSignedIn)?;
    ctx.permit::<act::ManageWaysIn>(on::Account { account })
}

/// Whoever has shown one factor may add a first passkey. A further one takes more: that they came by a link, which an
/// operator gives to whoever has lost theirs. A provider's password alone does not come past somebody's passkey so.
/// Gives whether only a first one is kept.
async fn may_add<E: Endpoint>(ctx: &Ctx<E>, known: usize) -> Result<bool, ApiError> {
    if !ctx.actor.lacks_a_factor() {
        return Ok(false);
    }
    let this = ctx.actor.principal().session();
    let sessions = ctx.app.store.sessions_of(&own_account(ctx)?).await?;
    let by_link = sessions.iter().any(|one| Some(one.session) == this && one.how == "link");
    if !by_link && known > 0 { Err(Refusal::OneFactor.into()) } else { Ok(!by_link) }
}

/// What passkeys are for here; where browsers have none, there are no such pages.
fn passkeys<E: Endpoint>(ctx: &Ctx<E>) -> Result<&Passkeys, ApiError> {
    ctx.app.passkeys.as_ref().ok_or_else(ApiError::hidden)
}

/// Passkeys and sessions of whoever is signed in.
pub async fn show(ctx: Ctx<e::AccountPage>) -> Result<Response, ApiError> {
    let permit = own_account(&ctx)?;
    let this = ctx.actor.principal().session();
    let known = ctx.app.store.passkeys_of(&permit).await?;
    let sessions = ctx.app.store.sessions_of(&permit).await?;
    let view = AccountView {
        now: ctx.now,
        lacks_a_factor: ctx.actor.lacks_a_factor(),
        name: ctx.app.store.account_name(&permit).await?.to_string(),
        password: match ctx.app.passwords {
            Some(_) => Some(ctx.app.store.own_password(&permit).await?.map(|row| row.login.to_string())),
            None => None,
        },
        passkeys_at: ctx.app.passkeys.as_ref().map(|p| p.origin().to_owned()),
        passkeys: known
            .into_iter()
            .map(|row| PasskeyRow {
                id: row.id,
                name: row.name.to_string(),
                created_at: row.created_at,
                used_at: row.used_at,
            })
            .collect(),
        sessions: sessions
            .into_iter()
            .map(|row| SessionRow {
                id: row.session,
                how: row.how,
                created_at: row.created_at,
                seen_at: row.seen_at,
                is_this: Some(row.session) == this,
            })
            .collect(),
    };
    Ok(page(gangline_pages::account(&chrome(&ctx), &view)))
}

fn question(question: &Question, now: gangline_types::UnixSeconds) -> PasskeyQuestion {
    PasskeyQuestion {
        challenge: question.challenge,
        asked: question.asked.clone(),
        expires_at: now.plus(QUESTION_SECONDS),
    }
}

fn options(question: Question) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], question.options).into_response()
}

/// Asks the browser for a new passkey.
pub async fn ask_new(ctx: Ctx<e::PasskeyAsk>) -> Result<Response, ApiError> {
    let permit = own(&ctx)?;
    ctx.app.count(Counted::SignIns, ctx.peer.ip())?;
    let read = own_account(&ctx)?;
    let known: Vec<Vec<u8>> =
        ctx.app.store.passkeys_of(&read).await?.into_iter().map(|row| row.credential).collect();
    may_add(&ctx, known.len()).await?;
    let name = ctx.app.store.account_name(&read).await?;
    let name = if name.as_str().is_empty() { "account" } else { name.as_str() };
    let asked = passkeys(&ctx)?.ask_new(permit.on().account, name, &known)?;
    ctx.app.store.ask_for_passkey(&permit, question(&asked, ctx.now)).await?;
    Ok(options(asked))
}

/// Keeps the passkey that it made.
pub async fn add(ctx: Ctx<e::PasskeyAdd>) -> Result<Response, ApiError> {
    let permit = own(&ctx)?;
    let only_first = may_add(&ctx, ctx.app.store.passkeys_of(&own_account(&ctx)?).await?.len()).await?;
    let passkeys = passkeys(&ctx)?;
    let answer = NewAnswer::read(&ctx.body.credential)?;
    let account = Some(permit.on().account);
    let asked = ctx.app.store.take_passkey_question(answer.challenge()?, account, ctx.now).await?;
    let made = answer.check(passkeys, &asked.ok_or(Refusal::OtherSignIn)?)?;
    let name = ctx.body.name.clone().unwrap_or_else(|| Label::lossy("passkey"));
    let new = NewPasskey {
        id: PasskeyId::from_bytes(edge::random()),
        credential: made.credential,
        name,
        key: made.key,
        state: made.state,
        only_first,
    };
    ctx.app.store.add_passkey(permit, new).await?;
    Ok(done(paths::ACCOUNT, Done::PasskeyAdded))
}

/// Removes one, unless it is the only way in.
pub async fn remove(ctx: Ctx<e::PasskeyRemove>) -> Result<Response, ApiError> {
    let permit = own(&ctx)?;
    match ctx.app.store.remove_passkey(permit, ctx.param("passkey")?).await? {
        Removed::Gone => Ok(done(paths::ACCOUNT, Done::PasskeyRemoved)),
        Removed::NotThere => Err(ApiError::hidden()),
        Removed::OnlyWayIn => Err(ApiError::bad_hint(
            StatusCode::CONFLICT,
            "only_way_in",
            "this passkey is the only way into your account, so it stays",
            "add another passkey first; then this one can go",
        )),
    }
}

/// Ends a session of one's own; this one too.
pub async fn end_session(ctx: Ctx<e::SessionEndForm>) -> Result<Response, ApiError> {
    let permit = own(&ctx)?;
    let session: SessionId = ctx.param("session")?;
    let is_this = ctx.actor.principal().session() == Some(session);
    if !ctx.app.store.end_own_session(permit, session).await? {
        return Err(ApiError::hidden());
    }
    if !is_this {
        return Ok(done(paths::ACCOUNT, Done::SessionEnded));
    }
    let mut response = go_on(paths::EXPLORER);
    response.headers_mut().append(header::SET_COOKIE, cookie::no_session());
    Ok(response)
}

/// Asks the browser of anybody for a signature.
pub async fn ask(ctx: Ctx<e::PasskeySignInAsk>) -> Result<Response, ApiError> {
    ctx.app.count(Counted::SignIns, ctx.peer.ip())?;
    let permit = ctx.permit::<act::UsePasskey>(on::Network)?;
    let asked = passkeys(&ctx)?.ask()?;
    ctx.app.store.ask_by_passkey(&permit, question(&asked, ctx.now)).await?;
    Ok(options(asked))
}

/// Signs in whoever the passkey is of.
pub async fn sign_in(ctx: Ctx<e::PasskeySignIn>) -> Result<Response, ApiError> {
    ctx.app.count(Counted::SignIns, ctx.peer.ip())?;
    let permit = ctx.permit::<act::UsePasskey>(on::Network)?;
    let passkeys = passkeys(&ctx)?;
    let answer = Answer::read(&ctx.body.credential)?;
    let asked = ctx.app.store.take_passkey_question(answer.challenge()?, None, ctx.now).await?;
    let asked = asked.ok_or(Refusal::OtherSignIn)?;
    let unknown = || Refusal::BadPasskey("this network does not know the passkey".into());
    let known = ctx.app.store.passkey(&answer.credential()).await?.ok_or_else(unknown)?;
    let state = answer.check(passkeys, &asked, known.account, &known.key, &known.state)?;
    let secret = Secret::from_random(edge::random());
    let session = NewSession {
        id: SessionId::from_bytes(edge::random()),
        secret: secret.stored(),
        expires_at: ctx.now.plus(SESSION_SECONDS),
        replaces: replaced(&ctx),
    };
    ctx.app.store.sign_in_by_passkey(permit, &known, state, session).await?.ok_or_else(unknown)?;
    let mut response = go_on(paths::CONSOLE);
    response.headers_mut().insert(header::SET_COOKIE, cookie::session(&secret));
    Ok(response)
}

/// The session that this browser had before somebody signed in: it ends.
pub(super) fn replaced<E: Endpoint>(ctx: &Ctx<E>) -> Option<gangline_types::Hash> {
    shown_cookie(&ctx.head.headers, SESSION_COOKIE).and_then(Secret::parse).map(|secret| secret.stored())
}
