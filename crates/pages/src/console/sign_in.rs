//! What whoever is not signed in sees in place of a console, and the page on the way out through an identity
//! provider.

use askama::Template;

use crate::{
    chrome::{Chrome, draw},
    paths,
};

/// What the page shows that asks to sign in.
#[derive(Clone, Debug, Default)]
pub struct SignInView {
    /// What needs signing in, in a sentence; `None` for the console itself.
    pub reason: Option<String>,
    /// Whether somebody is signed in already, and is asked once more because of what they want to do.
    pub again: bool,
    /// Whether the way leads by the page of their account, where a passkey is added.
    pub has_account: bool,
}

#[derive(Template)]
#[template(path = "console/sign_in.html")]
struct Page<'a> {
    c: &'a Chrome,
    v: &'a SignInView,
    start: String,
}

/// Draws the page that asks to sign in.
pub fn sign_in(chrome: &Chrome, view: &SignInView) -> String {
    draw(Page { c: chrome, v: view, start: paths::sign_in(&chrome.path, view.again) })
}

#[derive(Template)]
#[template(path = "console/sign_out.html")]
struct OutPage<'a> {
    c: &'a Chrome,
}

/// Draws the page for whoever is signed out here and about to be at the identity provider. Its answer leads
/// there; the page itself, like every page, links to nothing elsewhere.
pub fn sign_out(chrome: &Chrome) -> String {
    draw(OutPage { c: chrome })
}
