//! Ways into one's own account: passkeys, and the sessions that are open. Adding and using a passkey is the one
//! thing here that needs a script; where there is none the page says so, and a one-time link works without.

use askama::Template;
use gangline_types::{PasskeyId, SessionId, UnixSeconds};

use crate::{
    chrome::{Chrome, draw},
    paths, ui,
};

/// What the page shows.
#[derive(Clone, Debug)]
pub struct AccountView {
    /// The time the page is drawn for.
    pub now: UnixSeconds,
    /// Whether two factors are asked for, and whoever looks has shown one: adding a passkey is all they can do.
    pub lacks_a_factor: bool,
    /// Name of the account; may be empty.
    pub name: String,
    /// Where people sign in with passwords: the name that goes with this account's, if it has one.
    pub password: Option<Option<String>>,
    /// Origin at which passkeys work; `None` where browsers have none.
    pub passkeys_at: Option<String>,
    /// The account's passkeys, newest first.
    pub passkeys: Vec<PasskeyRow>,
    /// Its sessions, the last used first.
    pub sessions: Vec<SessionRow>,
}

/// One passkey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasskeyRow {
    /// Its id.
    pub id: PasskeyId,
    /// What its owner calls it.
    pub name: String,
    /// Since when.
    pub created_at: UnixSeconds,
    /// When it last signed somebody in.
    pub used_at: Option<UnixSeconds>,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Its id.
    pub id: SessionId,
    /// How it began: `link`, `provider`, `passkey` or `password`.
    pub how: String,
    /// When.
    pub created_at: UnixSeconds,
    /// Last use.
    pub seen_at: UnixSeconds,
    /// Whether it is the one that looks at this page.
    pub is_this: bool,
}

#[derive(Template)]
#[template(path = "account.html")]
struct Page<'a> {
    c: &'a Chrome,
    v: &'a AccountView,
}

/// Draws the page.
pub fn account(chrome: &Chrome, view: &AccountView) -> String {
    draw(Page { c: chrome, v: view })
}
