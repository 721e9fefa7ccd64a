//! Cookies that pages set.

use axum::http::HeaderValue;

use crate::{
    app::App,
    people::{SIGN_IN_SECONDS, Transaction},
    request::{SESSION_COOKIE, THEME_COOKIE},
};

/// How long a theme is remembered, in seconds: a year.
const THEME_SECONDS: u64 = 365 * 24 * 3600;
const SESSION_FLAGS: &str = "Path=/; Secure; HttpOnly; SameSite=Lax";

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("hex digits and words of ours are a header value")
}

/// Sets the session: no script sees it, and it ends with the browser or when the server says so.
pub fn session(secret: &gangline_guard::secret::Secret) -> HeaderValue {
    let mut cookie = value(format!("{SESSION_COOKIE}={}; {SESSION_FLAGS}", secret.reveal()));
    cookie.set_sensitive(true);
    cookie
}

/// Takes the session's cookie away.
pub fn no_session() -> HeaderValue {
    value(format!("{SESSION_COOKIE}=; {SESSION_FLAGS}; Max-Age=0"))
}

/// Name of the cookie of one sign-in through the identity provider.
pub const SIGN_IN_COOKIE: &str = "__Host-gangline-signin";
/// Name of the cookie with what the provider wants to see again when somebody signs out there.
pub const HINT_COOKIE: &str = "__Host-gangline-hint";
/// Longest value that browsers are sure to keep, in bytes, with room for name and flags.
const HINT_BYTES_MAX: usize = 3800;

/// Sets the cookie of one sign-in, for as long as that may take.
pub fn sign_in(transaction: &Transaction) -> HeaderValue {
    let sealed = transaction.seal();
    let mut cookie = value(format!("{SIGN_IN_COOKIE}={sealed}; {SESSION_FLAGS}; Max-Age={SIGN_IN_SECONDS}"));
    cookie.set_sensitive(true);
    cookie
}

/// Takes that cookie away.
pub fn no_sign_in() -> HeaderValue {
    value(format!("{SIGN_IN_COOKIE}=; {SESSION_FLAGS}; Max-Age=0"))
}

/// Hands the ID token to the browser whose owner it names, to be shown to the provider when they sign out. The
/// server keeps none, and takes none for anything else. Too long a one is left out.
pub fn hint(id_token: &str) -> Option<HeaderValue> {
    let is_token = id_token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if id_token.len() > HINT_BYTES_MAX || !is_token {
        return None;
    }
    let mut cookie = value(format!("{HINT_COOKIE}={id_token}; {SESSION_FLAGS}"));
    cookie.set_sensitive(true);
    Some(cookie)
}

/// Takes it away.
pub fn no_hint() -> HeaderValue {
    value(format!("{HINT_COOKIE}=; {SESSION_FLAGS}; Max-Age=0"))
}

/// Remembers a theme.
pub fn theme(app: &App, theme: gangline_pages::Theme) -> HeaderValue {
    let secure = if app.origin.starts_with("https://") { "; Secure" } else { "" };
    value(format!("{THEME_COOKIE}={}; Path=/; Max-Age={THEME_SECONDS}; SameSite=Lax{secure}", theme.as_str()))
}

/// Name of the cookie with what the last form did, for the next page.
pub const DONE_COOKIE: &str = "__Host-gangline-done";

/// Says what was done, for a minute or until a page has told it.
pub fn done(what: gangline_pages::Done) -> HeaderValue {
    value(format!("{DONE_COOKIE}={}; {SESSION_FLAGS}; Max-Age=60", what.as_str()))
}

/// It was told.
pub fn no_done() -> HeaderValue {
    value(format!("{DONE_COOKIE}=; {SESSION_FLAGS}; Max-Age=0"))
}
