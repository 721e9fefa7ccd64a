//! Signing in through the identity provider, out again, and out because the provider says so.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use gangline_guard::{
    Refusal, act,
    authenticate::{Vouched, identity, vouched},
    permit::permit,
    policy::on,
    secret::Secret,
};
use gangline_pages::{SignInView, paths};
use gangline_store::{NewSession, Once, VouchedPerson};
use gangline_types::{AccountId, SessionId};
use gangline_wire::{Endpoint, endpoints as e};

use super::{
    chrome,
    cookie::{self, HINT_COOKIE, SIGN_IN_COOKIE},
    enter::SESSION_SECONDS,
    go_on, page, theme,
};
use crate::{
    app::Counted,
    edge,
    error::ApiError,
    people::{Answer, Provider, Transaction},
    refusals::inert,
    request::{Ctx, cookie as shown_cookie},
};

/// Longest code, state or issuer taken from an answer, in bytes.
const ANSWER_BYTES_MAX: usize = 4096;

/// The provider; without one, there are no such pages.
fn provider<E: Endpoint>(ctx: &Ctx<E>) -> Result<&Provider, ApiError> {
    ctx.app.provider.as_deref().ok_or_else(ApiError::hidden)
}

/// Asks to sign in; whoever is goes on to the console, unless a factor is missing.
pub async fn show(ctx: Ctx<e::SignInPage>) -> Result<Response, ApiError> {
    let again = ctx.actor.lacks_a_factor();
    if ctx.session.is_some() && !again {
        return Ok(go_on(paths::CONSOLE));
    }
    Ok(page(gangline_pages::sign_in(&chrome(&ctx), &SignInView { again, ..SignInView::default() })))
}

/// Begins a sign-in and sends the browser to the provider.
pub async fn start(ctx: Ctx<e::SignInStart>) -> Result<Response, ApiError> {
    let provider = provider(&ctx)?;
    ctx.app.count(Counted::SignIns, ctx.peer.ip())?;
    let back = theme::back(ctx.query.back.as_deref().unwrap_or(paths::CONSOLE));
    let again = ctx.query.again.as_deref() == Some("yes");
    let transaction = Transaction::begin(provider.seal_key(), edge::random(), ctx.now, again, back);
    let url = provider.start(&transaction).await?;
    let mut response = go_on(url.as_str());
    response.headers_mut().insert(header::SET_COOKIE, cookie::sign_in(&transaction));
    Ok(response)
}

fn used_up() -> ApiError {
    ApiError::bad_hint(
        StatusCode::GONE,
        "sign_in_used",
        "this sign-in was used already",
        "if you used it yourself, you are signed in: see the console; otherwise start again",
    )
}

/// Ends it: the provider's code becomes claims, the claims an account, and a session of ours begins.
pub async fn finish(ctx: Ctx<e::SignInCallback>) -> Result<Response, ApiError> {
    let provider = provider(&ctx)?;
    ctx.app.count(Counted::SignIns, ctx.peer.ip())?;
    let answer = &ctx.query;
    let is_short = |text: &Option<String>| text.as_ref().is_none_or(|t| t.len() <= ANSWER_BYTES_MAX);
    let transaction = shown_cookie(&ctx.head.headers, SIGN_IN_COOKIE)
        .and_then(|sealed| Transaction::open(provider.seal_key(), sealed, ctx.now))
        .filter(|t| answer.state.as_deref().is_some_and(|state| t.is_state(state)))
        .filter(|_| [&answer.code, &answer.iss, &answer.error].into_iter().all(is_short))
        .ok_or(Refusal::OtherSignIn)?;
    if ctx.app.store.is_used(&transaction.used()).await? {
        return Err(used_up());
    }
    let Some(code) = answer.code.as_deref().filter(|_| answer.error.is_none()) else {
        let why = inert(answer.error.as_deref().unwrap_or("it sent no code"));
        return Err(ApiError::bad_hint(
            StatusCode::FORBIDDEN,
            "provider_refused",
            format!("{} did not sign you in ({why})", provider.name()),
            "start again, or ask whoever manages accounts there",
        ));
    };
    let signed_in =
        provider.finish(&transaction, Answer { code, issuer: answer.iss.as_deref() }, ctx.now).await?;

    let issuer = provider.issuer();
    let subject = Vouched::Subject(&signed_in.subject);
    let (actor, resource) = (vouched(issuer, subject), on::Identity { identity: identity(issuer, subject) });
    let mapped = match signed_in.mapped {
        Ok(mapped) => mapped,
        Err(refusal) => {
            // Whoever has lost their role loses what they are signed in with as well.
            let permit = permit::<act::EndSessions>(&actor, resource, ctx.now)?;
            ctx.app.store.end_vouched_sessions(permit, None, refusal.code()).await?;
            return Err(refusal.into());
        }
    };
    let permit = permit::<act::SignIn>(&actor, resource, ctx.now)?;
    let secret = Secret::from_random(edge::random());
    let session = NewSession {
        id: SessionId::from_bytes(edge::random()),
        secret: secret.stored(),
        expires_at: ctx.now.plus(SESSION_SECONDS),
        replaces: super::account::replaced(&ctx),
    };
    let person = VouchedPerson {
        issuer: issuer.to_owned(),
        subject: signed_in.subject.clone(),
        name: mapped.name,
        role: mapped.role,
        is_strong: signed_in.is_strong,
        provider_session: signed_in.session.as_deref().map(|sid| identity(issuer, Vouched::Session(sid))),
        new_account: AccountId::from_bytes(edge::random()),
    };
    let once = Once { hash: transaction.used(), expires_at: transaction.expires_at() };
    ctx.app.store.sign_in(permit, person, once, session).await?.ok_or_else(used_up)?;
    let back = if transaction.back().is_empty() { paths::CONSOLE } else { theme::back(transaction.back()) };
    let mut response = go_on(back);
    let headers = response.headers_mut();
    headers.append(header::SET_COOKIE, cookie::session(&secret));
    headers.append(header::SET_COOKIE, cookie::no_sign_in());
    headers.append(header::SET_COOKIE, cookie::hint(&signed_in.id_token).unwrap_or_else(cookie::no_hint));
    Ok(response)
}

/// The page from which the browser goes on to sign out at the provider too. Not a redirect: browsers hold those
/// that follow a form to the addresses that forms may go to, and ours may only come here.
pub fn sign_out_there<E: Endpoint>(ctx: &Ctx<E>) -> Response {
    let hint = shown_cookie(&ctx.head.headers, HINT_COOKIE);
    let Some(url) = ctx.app.provider.as_ref().and_then(|p| p.sign_out(hint)) else {
        return go_on(paths::EXPLORER);
    };
    let surroundings = gangline_pages::Chrome { role: None, csrf: None, ..chrome(ctx) };
    let mut response = page(gangline_pages::sign_out(&surroundings));
    if let Ok(value) = HeaderValue::try_from(format!("0;url={url}")) {
        response.headers_mut().insert(header::REFRESH, value);
    }
    response
}

/// Ends the sessions of whom the provider says to have signed out there.
pub async fn backchannel(ctx: Ctx<e::SignInBackchannel>) -> Result<Response, ApiError> {
    let provider = provider(&ctx)?;
    ctx.app.count(Counted::Logouts, ctx.peer.ip())?;
    let mut tokens = form_urlencoded::parse(&ctx.bytes).filter(|(name, _)| name == "logout_token");
    let (Some((_, token)), None) = (tokens.next(), tokens.next()) else {
        return Err(ApiError::bad(
            StatusCode::BAD_REQUEST,
            "malformed",
            "the body must be a form with one logout_token",
        ));
    };
    let said = provider.logout(&token, ctx.now).await?;
    // A session, where one is named: others of the same person go on. Else all of the person's.
    let whom = match (&said.session, &said.subject) {
        (Some(session), _) => Vouched::Session(session),
        (None, Some(subject)) => Vouched::Subject(subject),
        (None, None) => return Err(ApiError::hidden()),
    };
    let issuer = provider.issuer();
    let actor = vouched(issuer, whom);
    let permit =
        permit::<act::EndSessions>(&actor, on::Identity { identity: identity(issuer, whom) }, ctx.now)?;
    let once = Once { hash: said.once, expires_at: said.expires_at };
    let ended = ctx.app.store.end_vouched_sessions(permit, Some(once), "signed out at the provider").await?;
    let Some(ended) = ended else {
        return Err(Refusal::NotVouched("this logout token was used before".into()).into());
    };
    tracing::info!(provider = provider.name(), sessions = ended, "signed out at the provider");
    Ok(StatusCode::OK.into_response())
}
