//! The page of a one-time sign-in link. Opening it changes nothing (mail scanners and previews open
//! links too); pressing its button signs in and uses the link up.

use askama::Template;
use gangline_types::UnixSeconds;

use crate::{
    chrome::{Chrome, Role, draw},
    paths, ui,
};

/// What the page of a sign-in link shows.
#[derive(Clone, Debug)]
pub struct EnterView {
    /// The time the page is drawn for.
    pub now: UnixSeconds,
    /// The link's token, to be sent back in the form's address.
    pub token: String,
    /// Role of the account it opens.
    pub role: Role,
    /// Name of the account it opens; may be empty.
    pub name: String,
    /// When it stops working.
    pub expires_at: UnixSeconds,
}

#[derive(Template)]
#[template(path = "enter.html")]
struct Page<'a> {
    c: &'a Chrome,
    v: &'a EnterView,
}

/// Draws the page of a sign-in link.
pub fn enter(chrome: &Chrome, view: &EnterView) -> String {
    draw(Page { c: chrome, v: view })
}
