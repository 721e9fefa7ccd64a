//! Pages that say no: what went wrong, its stable code, and what helps. They show no cause from within.

use askama::Template;

use crate::{
    chrome::{Chrome, draw},
    paths, ui,
};

/// What an error page shows.
#[derive(Clone, Debug)]
pub struct ErrorView {
    /// HTTP status: 403, 404, 429, 500, 503 and any other.
    pub status: u16,
    /// Stable code, for example `not_found`.
    pub code: String,
    /// What happened, in a sentence.
    pub message: String,
    /// What helps, in a sentence, where something does.
    pub hint: Option<String>,
    /// Seconds after which trying again makes sense, where it is known (429, 503).
    pub retry_after_seconds: Option<u64>,
    /// Id under which the operator finds this in the log, where there is one.
    pub reference: Option<String>,
}

impl ErrorView {
    fn title(&self) -> &'static str {
        match self.status {
            400 => "That request makes no sense here",
            401 => "Please sign in",
            403 => "Not allowed",
            404 => "Nothing here",
            405 => "Not done that way",
            410 => "No longer here",
            413 => "Too large",
            429 => "Too many requests",
            500 => "Something broke on our side",
            503 => "Not available just now",
            _ => "That did not work",
        }
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct Page<'a> {
    c: &'a Chrome,
    v: &'a ErrorView,
}

/// Draws an error page.
pub fn error(chrome: &Chrome, view: &ErrorView) -> String {
    draw(Page { c: chrome, v: view })
}
