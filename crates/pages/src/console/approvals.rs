//! Dangerous acts that were asked for, for the operators who decide on them. It shows who asks for what exactly; who may
//! decide is told with each row and decided elsewhere, at each post.

use askama::Template;
use gangline_types::{ApprovalId, UnixSeconds};

use crate::{
    chrome::{Chrome, draw},
    ui,
};

/// What the page shows.
#[derive(Clone, Debug, Default)]
pub struct ApprovalsView {
    /// The time the page is drawn for.
    pub now: UnixSeconds,
    /// Acts, newest first.
    pub rows: Vec<ApprovalRow>,
}

/// One act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalRow {
    /// Its id.
    pub id: ApprovalId,
    /// What it does, in words.
    pub act: String,
    /// To what, whole. May hold text from outside.
    pub what: String,
    /// Name of the account that asks.
    pub account: String,
    /// Host and fingerprint of the key it was asked with; none for a browser.
    pub key: Option<(String, String)>,
    /// When.
    pub asked_at: UnixSeconds,
    /// Who may approve, in words.
    pub approver: String,
    /// How it stands.
    pub state: ApprovalState,
}

/// How an act stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApprovalState {
    /// Nobody has decided.
    Waiting {
        /// Until when it waits.
        until: UnixSeconds,
        /// Whether the viewer may approve it.
        may_approve: bool,
    },
    /// It can be done.
    Approved {
        /// By whom.
        by: String,
        /// From when on.
        from: UnixSeconds,
        /// Until when.
        until: UnixSeconds,
        /// The form that does it, where the viewer asked for it in a browser and it can be done now.
        form: Option<(String, Vec<(String, String)>)>,
    },
    /// Somebody said no.
    Declined {
        /// Who.
        by: String,
        /// When.
        at: UnixSeconds,
    },
    /// It was done.
    Done {
        /// Who had approved it.
        by: String,
        /// When.
        at: UnixSeconds,
    },
    /// Nobody decided, or it was not done, in time.
    Lapsed,
}

#[derive(Template)]
#[template(path = "console/approvals.html")]
struct Page<'a> {
    c: &'a Chrome,
    v: &'a ApprovalsView,
}

/// Draws the page.
pub fn approvals(chrome: &Chrome, view: &ApprovalsView) -> String {
    draw(Page { c: chrome, v: view })
}
