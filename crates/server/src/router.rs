//! The router, made from the table of endpoints: each handler is registered under its endpoint's type,
//! and a server with an endpoint that has no handler does not start.

use std::{collections::BTreeSet, future::Future, net::SocketAddr};

use axum::{
    Json, Router,
    body::Body,
    extract::{ConnectInfo, RawPathParams, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use gangline_guard::{
    Principal, Refusal,
    audit::RefusedAttempt,
    inspect::Inspection,
    notice::{Block, Outcome, Seen, watch::is_dull},
};
use gangline_wire::{Action, Credential, Endpoint, Media, Method, Spec, endpoints};
use tower_http::compression::{CompressionLayer, CompressionLevel};

use crate::{
    app::App,
    edge,
    error::ApiError,
    inspected::inspected,
    refusals::inert,
    request::{Ctx, Shown, cookie, receive},
    routes::pages,
};

/// Collects handlers.
pub struct Api {
    router: Router<App>,
    served: BTreeSet<&'static str>,
}

fn filter(method: Method) -> MethodFilter {
    match method {
        // axum answers HEAD with GET's handler.
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Put => MethodFilter::PUT,
        Method::Delete => MethodFilter::DELETE,
        Method::Any => MethodFilter::GET
            .or(MethodFilter::POST)
            .or(MethodFilter::PUT)
            .or(MethodFilter::DELETE)
            .or(MethodFilter::PATCH)
            .or(MethodFilter::HEAD)
            .or(MethodFilter::OPTIONS),
    }
}

impl Default for Api {
    fn default() -> Self {
        Self { router: Router::new(), served: BTreeSet::new() }
    }
}

impl Api {
    /// Serves a JSON endpoint.
    pub fn json<E: Endpoint, F, R>(self, handler: F) -> Self
    where
        F: Fn(Ctx<E>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<E::Response, ApiError>> + Send,
    {
        self.raw::<E, _, _>(move |ctx| {
            let reply = handler(ctx);
            async move { reply.await.map(|body| Json(body).into_response()) }
        })
    }

    /// Serves an endpoint that answers with something else.
    pub fn raw<E: Endpoint, F, R>(mut self, handler: F) -> Self
    where
        F: Fn(Ctx<E>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<Response, ApiError>> + Send,
    {
        let spec = E::SPEC;
        let serve = move |State(app): State<App>,
                          ConnectInfo(peer): ConnectInfo<SocketAddr>,
                          path: RawPathParams,
                          request: Request| {
            let handler = handler.clone();
            // Some kilobytes: what is between here and the connection passes a pointer on.
            Box::pin(async move {
                let path = path.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
                answer::<E, F, R>(app, peer, path, request, handler).await
            })
        };
        assert!(self.served.insert(spec.name), "{} is served twice", spec.name);
        // A tail of axum's matches at least one character; what is passed through may have none.
        if let Some(empty_tail) = spec.path.strip_suffix("{*path}") {
            let route: MethodRouter<App> = on(filter(spec.method), serve.clone());
            self.router = self.router.route(empty_tail, route);
        }
        let route: MethodRouter<App> = on(filter(spec.method), serve);
        self.router = self.router.route(spec.path, route);
        self
    }

    /// The router, if every endpoint of the table is served.
    ///
    /// # Panics
    /// If one is not: a mistake in our own code that no server should start with.
    pub fn finish(self, app: App) -> Router {
        let missing: Vec<_> =
            endpoints::ALL.iter().map(|d| d.spec.name).filter(|name| !self.served.contains(name)).collect();
        assert!(missing.is_empty(), "endpoints without a handler: {missing:?}");
        let compression = CompressionLayer::new().quality(CompressionLevel::Precise(5));
        self.router
            .merge(pages::assets())
            .fallback(no_such_path)
            .method_not_allowed_fallback(no_such_method)
            .layer(axum::middleware::from_fn_with_state(app.clone(), headers))
            .layer(compression)
            .with_state(app)
    }
}

async fn answer<E, F, R>(
    app: App,
    peer: SocketAddr,
    path: Vec<(String, String)>,
    request: Request,
    handler: F,
) -> Response
where
    E: Endpoint,
    F: Fn(Ctx<E>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Response, ApiError>> + Send,
{
    let spec = E::SPEC;
    let peer = origin(&app, peer, request.headers());
    let mut shown = Shown::nothing(peer.ip());
    let about = about(&path, request.uri().query());
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let chrome = (spec.media == Media::Html).then(|| pages::chrome_of(&app, &request));
    let result = match receive::<E>(&app, request, path, peer, &mut shown).await {
        Ok(ctx) => {
            let (live, principal) = (ctx.live.clone(), *ctx.actor.principal());
            let answered = tokio::select! {
                biased;
                answered = handler(ctx) => answered,
                () = live.over() => Err(over(&principal)),
            };
            answered.map(|response| response.map(|body| live.bind(body)))
        }
        Err(error) => Err(error),
    };
    // Who is refused a sign-in may have lost what they had by it.
    if (result.is_ok() || spec.action == Action::SignIn) && may_end_something(&spec) {
        app.lives.felt().await;
    }
    saw(&app, &spec, peer, &shown, about, &result);
    let response = match result {
        Ok(response) => response,
        Err(error) => {
            let found = || inspected(uri.path(), uri.query().unwrap_or(""), &shown.body);
            // A one-time link's secret is in its path; it is not written down.
            let path = if spec.path.contains("{token}") { spec.path.to_owned() } else { inert(uri.path()) };
            write_down(&app, &spec, peer, &shown, format!("{method} {path}"), found, &error);
            tell(chrome.as_ref(), &error)
        }
    };
    app.metrics.answered(spec.name, response.status().as_u16());
    response
}

/// Writes an error down: a refusal where it can be searched for, a failure of ours where we look. `found` is what an
/// inspection of what came finds in it.
fn write_down(
    app: &App,
    spec: &Spec,
    peer: SocketAddr,
    shown: &Shown,
    request: String,
    found: impl FnOnce() -> Option<Inspection>,
    error: &ApiError,
) {
    if is_recorded(spec, error) {
        let body = error.body();
        let mut message = inert(&body.message);
        if let Some(found) = found() {
            // Room for both in what is kept.
            message =
                inert(&message.chars().take(120).chain(format!(" [{found}]").chars()).collect::<String>());
        }
        app.recorder.record(
            &shown.asker.to_string(),
            RefusedAttempt {
                at: edge::now(),
                actor: shown.actor(),
                key: shown.key.or(shown.principal.and_then(|who| who.key())),
                account: shown.principal.and_then(|who| who.account()),
                count: 1,
                action: spec.action,
                request,
                address: peer.ip().to_string(),
                code: body.code,
                message,
            },
        );
    }
    if let ApiError::Store(cause) = error {
        tracing::error!(endpoint = spec.name, error = cause as &dyn std::error::Error, "failed");
    }
    if let ApiError::Away(cause) = error {
        tracing::warn!(endpoint = spec.name, error = cause as &dyn std::error::Error, "not asked");
    }
}

/// The same for what came by datagram and not over a route: everything of a request that is refused is written down and
/// shown to the detectors, whichever way it came.
pub(crate) fn note(
    app: &App,
    spec: &Spec,
    peer: SocketAddr,
    shown: &Shown,
    request: impl FnOnce() -> String,
    result: &Result<(), ApiError>,
) {
    let outcome = outcome(spec, result.as_ref().err());
    show(app, spec, peer, shown, None, outcome);
    let status = match result {
        Ok(()) => StatusCode::OK,
        Err(error) => {
            write_down(app, spec, peer, shown, request(), || None, error);
            error.status()
        }
    };
    app.metrics.answered(spec.name, status.as_u16());
}

/// Where a request comes from: the connection's other end, or whom a proxy of ours says that it was asked by. For
/// quotas, the record and detectors; who somebody is never follows from it.
fn origin(app: &App, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
    let fields =
        headers.get_all(header::FORWARDED).iter().map(|field| field.to_str().unwrap_or("unreadable"));
    SocketAddr::new(app.config.proxies.origin(peer.ip(), fields), peer.port())
}

/// How it is told that what the asker showed ended while the request waited.
pub(crate) fn over(who: &Principal) -> ApiError {
    match who.key() {
        Some(key) => Refusal::RevokedKey { key, at: edge::now() }.into(),
        None => Refusal::NotSignedIn.into(),
    }
}

/// Whether a key, a session or a machine may have ended by this request. The job that ends what was open under it
/// looks twice a second anyway; this makes it look at once.
fn may_end_something(spec: &Spec) -> bool {
    match spec.credential {
        Credential::Key => matches!(spec.action, Action::RevokeKey | Action::RetireMachine),
        _ => spec.method != Method::Get || spec.action == Action::SignIn,
    }
}

/// What a request is about: the id in its path, or the whole of one that it searches for.
fn about(path: &[(String, String)], query: Option<&str>) -> Option<String> {
    let named = path.iter().find(|(name, _)| ["gpu", "proof", "cluster", "key"].contains(&name.as_str()));
    let searched = || {
        let mut pairs = form_urlencoded::parse(query?.as_bytes());
        pairs
            .find(|(name, value)| name == "q" && value.starts_with("gpu_"))
            .map(|(_, value)| value.into_owned())
    };
    named.map(|(_, value)| value.clone()).or_else(searched).map(|id| id.chars().take(64).collect())
}

/// Shows an answered request to the detectors. Every request of every route passes here, so none can forget it.
fn saw(
    app: &App,
    spec: &Spec,
    peer: SocketAddr,
    shown: &Shown,
    about: Option<String>,
    result: &Result<Response, ApiError>,
) {
    let outcome = match result {
        Ok(response) if response.status() == StatusCode::NOT_FOUND => Outcome::NotFound,
        Ok(response) if response.status().is_client_error() => Outcome::Refused,
        result => outcome(spec, result.as_ref().err()),
    };
    show(app, spec, peer, shown, about, outcome);
}

/// How a request ended, for the detectors.
fn outcome(spec: &Spec, error: Option<&ApiError>) -> Outcome {
    match error {
        None => Outcome::Done,
        Some(ApiError::Refused(Refusal::Hidden)) => Outcome::NotFound,
        Some(ApiError::Refused(Refusal::NotSignedIn | Refusal::OneFactor)) => Outcome::NotNow,
        Some(error) if is_recorded(spec, error) => Outcome::Refused,
        Some(_) => Outcome::NotNow,
    }
}

fn show(app: &App, spec: &Spec, peer: SocketAddr, shown: &Shown, about: Option<String>, outcome: Outcome) {
    let asked = shown.trail.take();
    if asked.is_empty() && is_dull(spec.action, outcome) {
        return;
    }
    let who = shown.principal;
    app.noticer.saw(Seen {
        at: edge::now(),
        route: spec.name.into(),
        action: spec.action,
        writes: spec.method != Method::Get,
        by_somebody: !matches!(spec.credential, Credential::Nobody | Credential::MaybeSession),
        key: who.and_then(|who| who.key()),
        account: who.and_then(|who| who.account()),
        machine: who.and_then(|who| who.machine()),
        block: Block::of(peer.ip()),
        outcome,
        about,
        asked,
    });
}

/// Every refusal, and everything malformed that was sent to an endpoint that acts for somebody.
fn is_recorded(spec: &Spec, error: &ApiError) -> bool {
    let acts = !matches!(spec.credential, Credential::Nobody | Credential::MaybeSession)
        || spec.media == Media::Json && spec.method != Method::Get;
    match error {
        // What is no authentic frame is counted and nothing else.
        _ if spec.credential == Credential::Frame => false,
        ApiError::Refused(gangline_guard::Refusal::NotSignedIn) => false,
        ApiError::Refused(gangline_guard::Refusal::Hidden) => acts,
        ApiError::Refused(_) => true,
        ApiError::Bad { status, .. } => acts && *status != StatusCode::CONFLICT,
        ApiError::UnknownFields(_) => acts,
        ApiError::Store(_)
        | ApiError::Away(_)
        | ApiError::Waiting(_)
        | ApiError::NoRoom { .. }
        | ApiError::Busy { .. }
        | ApiError::BrokeOff(_) => false,
    }
}

/// An error as a page, where one surrounds it, and otherwise as JSON.
fn tell(chrome: Option<&gangline_pages::Chrome>, error: &ApiError) -> Response {
    let mut response = match chrome {
        Some(chrome) => pages::error_response(chrome, error),
        None => (error.status(), Json(error.body())).into_response(),
    };
    if let Some(seconds) = error.retry_after_seconds() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

async fn no_such_path(State(app): State<App>, request: Request) -> Response {
    let chrome = pages::chrome_of(&app, &request);
    let error = ApiError::hidden();
    if request.uri().path().starts_with("/api/") {
        return (error.status(), Json(error.body())).into_response();
    }
    pages::error_response(&chrome, &error)
}

async fn no_such_method(request: Request) -> Response {
    let error = ApiError::bad_hint(
        StatusCode::METHOD_NOT_ALLOWED,
        "wrong_method",
        format!("{} is not something that can be done here", inert(request.method().as_str())),
        "see /openapi.json for what can",
    );
    (error.status(), Json(error.body())).into_response()
}

fn is_html(kind: &HeaderValue) -> bool {
    kind.as_bytes().starts_with(b"text/html")
}

/// Headers that every answer carries, unless its handler has set its own.
async fn headers(State(app): State<App>, request: Request<Body>, next: axum::middleware::Next) -> Response {
    let told = cookie(request.headers(), pages::DONE_COOKIE).is_some();
    let mut response = next.run(request).await;
    // What was done is told once, by the first page that is drawn.
    let told = told && response.headers().get(header::CONTENT_TYPE).is_some_and(is_html);
    let headers = response.headers_mut();
    if told {
        headers.append(header::SET_COOKIE, pages::no_done());
    }
    if app.origin.starts_with("https://") {
        headers.insert(
            header::STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static("max-age=31536000; includeSubDomains"),
        );
    }
    for (name, value) in [
        ("content-security-policy", gangline_pages::CSP),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
        ("cache-control", "no-store"),
    ] {
        if !headers.contains_key(name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

/// The whole router of a server.
pub fn router(app: App) -> Router {
    crate::routes::all(Api::default()).finish(app)
}
