//! What surrounds a page, from what the request shows; and the pages that say no.

use axum::{
    body::Body,
    http::{HeaderMap, Method, Request, Uri},
    response::Response,
};
use gangline_guard::Refusal;
use gangline_pages::{Chrome, Done, ErrorView, SignInView, Theme, paths};
use gangline_wire::{Endpoint, api::account::Role};

use super::{cookie::DONE_COOKIE, done};
use crate::{
    app::App,
    error::ApiError,
    request::{Ctx, DECLINED, THEME_COOKIE, cookie},
};

/// The role as the pages name it.
pub fn role(role: Role) -> gangline_pages::Role {
    match role {
        Role::Operator => gangline_pages::Role::Operator,
        Role::Supplier => gangline_pages::Role::Supplier,
        Role::Renter => gangline_pages::Role::Renter,
    }
}

/// The page to come back to: the one asked for, or the one whose form was sent.
fn shown_at(method: &Method, uri: &Uri) -> String {
    let path = uri.path();
    // A provider's answer is taken once and holds what nobody else should see.
    if path.starts_with(paths::SIGN_IN) {
        return paths::SIGN_IN.to_owned();
    }
    if matches!(*method, Method::GET | Method::HEAD) || path.starts_with("/enter/") {
        return uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    }
    let form =
        [paths::CONSOLE, paths::APPROVE, paths::ACCOUNT].into_iter().find(|page| path.starts_with(page));
    form.unwrap_or(paths::EXPLORER).to_owned()
}

fn surroundings(app: &App, method: &Method, uri: &Uri, headers: &HeaderMap) -> Chrome {
    Chrome {
        theme: cookie(headers, THEME_COOKIE).map(Theme::parse).unwrap_or_default(),
        path: shown_at(method, uri),
        role: None,
        csrf: None,
        provider: app.provider.as_ref().map(|p| p.name().to_owned()),
        passkeys_at: app.passkeys.as_ref().map(|p| p.origin().to_owned()),
        passwords: app.passwords.is_some(),
        banner: app.config.banner.clone(),
        done: cookie(headers, DONE_COOKIE).and_then(Done::parse),
    }
}

/// What surrounds an answer to this request while nobody is known to be signed in.
pub fn chrome_of(app: &App, request: &Request<Body>) -> Chrome {
    surroundings(app, request.method(), request.uri(), request.headers())
}

/// What surrounds the front page for whoever comes for the first time.
pub(super) fn first_visit(app: &App) -> Chrome {
    surroundings(app, &Method::GET, &Uri::from_static(paths::EXPLORER), &HeaderMap::new())
}

/// What surrounds a page for whoever asks.
pub fn chrome<E: Endpoint>(ctx: &Ctx<E>) -> Chrome {
    Chrome {
        role: ctx.session.as_ref().map(|s| role(s.role)),
        csrf: ctx.session.as_ref().map(|s| s.secret.form_token()),
        ..surroundings(&ctx.app, &ctx.head.method, &ctx.head.uri, &ctx.head.headers)
    }
}

/// The page that tells an error; whoever is not signed in is asked to.
pub fn error_response(chrome: &Chrome, error: &ApiError) -> Response {
    let status = error.status();
    if let ApiError::Refused(Refusal::NotSignedIn) = error {
        let reason = chrome.path.starts_with(paths::APPROVE).then(|| {
            "Approving binds a key to your account, so sign in first, then open this address again."
                .to_owned()
        });
        return super::html(
            status,
            gangline_pages::sign_in(chrome, &SignInView { reason, ..SignInView::default() }),
        );
    }
    // What waits for somebody is seen where it is decided.
    if let ApiError::Waiting(body) = error
        && body.code != DECLINED
    {
        return done(paths::APPROVALS, Done::Asked);
    }
    if let ApiError::Refused(refusal @ Refusal::StepUp { .. }) = error {
        let reason = format!(
            "{} Nothing was done. Sign in again, then do it once more.",
            sentence(&refusal.to_string())
        );
        return super::html(
            status,
            gangline_pages::sign_in(
                chrome,
                &SignInView { reason: Some(reason), again: true, ..SignInView::default() },
            ),
        );
    }
    if let ApiError::Refused(refusal @ Refusal::OneFactor) = error {
        let reason = format!(
            "{} Nothing was done. Sign in with a passkey; if you have none yet, add one on the page of your account.",
            sentence(&refusal.to_string())
        );
        let view = SignInView { reason: Some(reason), again: true, has_account: true };
        return super::html(status, gangline_pages::sign_in(chrome, &view));
    }
    let body = error.body();
    let view = ErrorView {
        status: status.as_u16(),
        code: body.code,
        message: sentence(&body.message),
        hint: body.hint.as_deref().map(sentence),
        retry_after_seconds: error.retry_after_seconds(),
        reference: None,
    };
    super::html(status, gangline_pages::error(chrome, &view))
}

/// A message of ours, which programs get bare, as a sentence for people.
fn sentence(message: &str) -> String {
    let mut chars = message.chars();
    let Some(first) = chars.next() else { return String::new() };
    let stop = if message.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{}{}{stop}", first.to_uppercase(), chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forms_answer_leads_back_to_its_page() {
        let check = |method: Method, uri: &str, expected: &str| {
            assert_eq!(shown_at(&method, &Uri::try_from(uri).unwrap()), expected);
        };
        check(Method::GET, "/?q=RTX", "/?q=RTX");
        check(Method::POST, "/console/invite", "/console");
        check(Method::POST, "/approve", "/approve");
        check(Method::POST, "/theme", "/");
        check(Method::GET, "/signin/callback?code=secret", "/signin");
        check(Method::POST, "/enter/abc", "/enter/abc");
    }

    #[test]
    fn messages_become_sentences() {
        assert_eq!(sentence("there is no such thing here"), "There is no such thing here.");
        assert_eq!(sentence("Done!"), "Done!");
        assert_eq!(sentence(""), "");
    }
}
