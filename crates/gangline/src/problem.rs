//! How a failure is told: `error:` what we were doing, `cause:` lines down to the first of them, and
//! where one helps a `hint:`. And the exit codes: 0 done, 1 failed, 2 bad usage or could not ask.
//!
//! Knows nothing of what failed. Whatever it prints has been made inert: causes may quote a server.

use std::{error::Error, fmt};

use gangline_worker::{agent::AgentError, client::ClientError};

use crate::inert::inert_line;

/// Exit code of a command that did not do what it was for.
pub const FAILED: u8 = 1;
/// Exit code of a command that was asked for something it cannot be, or could not ask.
pub const USAGE: u8 = 2;

/// A failure with a hint, or with another exit code than 1.
#[derive(Debug)]
pub struct Problem {
    what: String,
    hint: Option<String>,
    code: u8,
}

impl Problem {
    /// A failure of the work itself.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None, code: FAILED }
    }
    /// Something was asked that cannot be.
    pub fn usage(what: impl Into<String>) -> Self {
        Self { code: USAGE, ..Self::new(what) }
    }
    /// With what to do about it.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
    /// With this exit code.
    pub fn code(self, code: u8) -> Self {
        Self { code, ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}
impl Error for Problem {}

/// A message that ends in `(hint: ...)`, and that hint.
fn apart(text: &str) -> (&str, Option<&str>) {
    let split = text.strip_suffix(')').and_then(|text| text.split_once(" (hint: "));
    split.map_or((text, None), |(what, hint)| (what, Some(hint)))
}

/// What happened, without a hint: that gets a line of its own.
fn sentence(cause: &(dyn Error + 'static)) -> String {
    match cause.downcast_ref::<ClientError>() {
        Some(ClientError::Refused { body, .. }) => format!("{} ({})", body.message, body.code),
        _ => apart(&cause.to_string()).0.to_owned(),
    }
}

fn hint_of(error: &anyhow::Error) -> Option<String> {
    if let Some(hint) = error.downcast_ref::<Problem>().and_then(|problem| problem.hint.clone()) {
        return Some(hint);
    }
    error.chain().find_map(|cause| {
        if let Some(problem) = cause.downcast_ref::<Problem>() {
            return problem.hint.clone();
        }
        match cause.downcast_ref::<ClientError>() {
            Some(ClientError::Refused { body, .. }) => body.hint.clone(),
            Some(ClientError::Unreachable { url, .. }) => {
                Some(format!("check that the server runs and that {url} is its address, then try again"))
            }
            Some(_) => None,
            None => apart(&cause.to_string()).1.map(str::to_owned),
        }
    })
}

/// The lines that tell `error`, without a line twice.
pub fn lines(error: &anyhow::Error) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = inert_line(&sentence(cause));
        // Some libraries put their cause into their own message as well.
        if !told.iter().any(|before| before.contains(&text)) {
            told.push(text);
        }
    }
    let mut out: Vec<String> = told
        .into_iter()
        .enumerate()
        .map(|(depth, text)| if depth == 0 { format!("error: {text}") } else { format!("cause: {text}") })
        .collect();
    out.extend(hint_of(error).map(|hint| format!("hint: {}", inert_line(&hint))));
    out
}

/// The exit code for `error`.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(problem) = error.downcast_ref::<Problem>() {
        return problem.code;
    }
    let bad_url = |cause: &(dyn Error + 'static)| {
        matches!(cause.downcast_ref::<ClientError>(), Some(ClientError::BadUrl { .. }))
    };
    if error.chain().any(bad_url) {
        return USAGE;
    }
    error.downcast_ref::<AgentError>().map_or(FAILED, AgentError::exit_code)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use gangline_wire::ErrorBody;

    use super::*;

    fn refused() -> ClientError {
        let body = ErrorBody {
            code: "unknown".into(),
            message: "no such cluster".into(),
            hint: Some("see rent list".into()),
            ..ErrorBody::default()
        };
        ClientError::Refused { status: 404, body: Box::new(body) }
    }

    #[test]
    fn a_refusal_is_told_once_with_its_hint() {
        let error = Err::<(), _>(refused()).context("could not look at clu_1").unwrap_err();
        let expected =
            ["error: could not look at clu_1", "cause: no such cluster (unknown)", "hint: see rent list"];
        assert_eq!(lines(&error), expected);
        assert_eq!(exit_code(&error), FAILED);
    }

    #[test]
    fn a_hint_within_a_message_gets_a_line_of_its_own() {
        let error = anyhow::Error::new(AgentError::NotJoined { data: "/d".into() });
        let [what, hint] = &lines(&error)[..] else { panic!("{:?}", lines(&error)) };
        assert_eq!(what, "error: /d holds no machine that joined a network");
        assert!(hint.starts_with("hint: `gangline worker join URL`") && !hint.ends_with(')'), "{hint}");
        assert_eq!(exit_code(&error), 4);
    }

    #[test]
    fn a_hint_survives_context_and_what_a_server_says_is_inert() {
        let error = Err::<(), _>(anyhow::Error::new(Problem::usage("no\u{1b}[2J").hint("do")))
            .context("above")
            .unwrap_err();
        assert_eq!(lines(&error), ["error: above", "cause: no␛[2J", "hint: do"]);
        assert_eq!(exit_code(&error), USAGE);
    }
}
