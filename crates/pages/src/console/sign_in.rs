//! What whoever is not signed in sees in place of a console.

use askama::Template;

use crate::chrome::{Chrome, draw};

/// What the page shows that asks to sign in.
#[derive(Clone, Debug, Default)]
pub struct SignInView {
    /// What needs signing in, in a sentence; `None` for the console itself.
    pub reason: Option<String>,
}

#[derive(Template)]
#[template(path = "console/sign_in.html")]
struct Page<'a> {
    c: &'a Chrome,
    v: &'a SignInView,
}

/// Draws the page that asks to sign in.
pub fn sign_in(chrome: &Chrome, view: &SignInView) -> String {
    draw(Page { c: chrome, v: view })
}
