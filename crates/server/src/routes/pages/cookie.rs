//! Cookies that pages set.

use axum::http::HeaderValue;

use crate::{
    app::App,
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

/// Remembers a theme.
pub fn theme(app: &App, theme: gangline_pages::Theme) -> HeaderValue {
    let secure = if app.origin.starts_with("https://") { "; Secure" } else { "" };
    value(format!("{THEME_COOKIE}={}; Path=/; Max-Age={THEME_SECONDS}; SameSite=Lax{secure}", theme.as_str()))
}
