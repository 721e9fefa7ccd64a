//! Approving a new key in the browser (RFC 8628): type the short code, look at who asks, decide.

use askama::Template;
use gangline_types::{EnrolmentId, UnixSeconds};

use crate::{
    chrome::{Chrome, draw},
    ui,
};

/// A step of approving.
#[derive(Clone, Debug)]
pub enum ApproveView {
    /// Type the code.
    Type {
        /// What was wrong with the last code, in a sentence.
        problem: Option<String>,
        /// The code as typed before, to be corrected; empty at first.
        code: String,
    },
    /// Look at who asks and decide.
    Decide(KeyRequest),
    /// It was approved: the key is bound to the account.
    Approved(Asking),
    /// It was denied: nothing was bound.
    Denied(Asking),
}

/// What wants a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    /// A supplier's machine: `gangline worker join`.
    Machine,
    /// A command line: `gangline rent`.
    CommandLine,
}

impl Asking {
    fn words(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::CommandLine => "command line",
        }
    }
}

/// A new key that waits for a decision.
#[derive(Clone, Debug)]
pub struct KeyRequest {
    /// The time the page is drawn for.
    pub now: UnixSeconds,
    /// Its id: the form sends it back, so that nothing but what the page shows can be approved by it.
    pub enrolment: EnrolmentId,
    /// The short code, as shown in the terminal.
    pub code: String,
    /// What asks.
    pub asking: Asking,
    /// Fingerprint of its public key, as shown in the terminal.
    pub fingerprint: String,
    /// What the host says about itself, name and value: host name, system, cores, memory, GPUs. Text
    /// from outside; nothing of it has been checked.
    pub facts: Vec<(String, String)>,
    /// The network address it asked from, as the server saw it, where it is known.
    pub address: Option<String>,
    /// When it asked.
    pub asked_at: UnixSeconds,
    /// When the code stops working.
    pub expires_at: UnixSeconds,
    /// Name of the account it would be bound to.
    pub account: String,
}

#[derive(Template)]
#[template(path = "approve.html")]
struct Page<'a> {
    c: &'a Chrome,
    v: &'a ApproveView,
}

/// Draws a step of approving.
pub fn approve(chrome: &Chrome, view: &ApproveView) -> String {
    draw(Page { c: chrome, v: view })
}
