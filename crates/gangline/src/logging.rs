//! Where log lines go: to stderr, for people on a terminal, as JSON for programs.
//!
//! Knows no command; results are not logged but printed on stdout by whoever has them.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::problem::Problem;

/// What is logged unless the environment says otherwise.
const DEFAULT_FILTER: &str = "warn,gangline=info";

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `filter` has the form `target=level,...`.
///
/// # Errors
/// When the filter cannot be read.
pub fn start(format: Format, filter: Option<&str>) -> anyhow::Result<()> {
    let filter = match filter {
        Some(text) => EnvFilter::try_new(text).with_context(|| {
            Problem::usage(format!("the log filter {text:?} cannot be read"))
                .hint("expected for example GANGLINE_LOG=info or GANGLINE_LOG=warn,gangline=debug")
        })?,
        None => EnvFilter::new(DEFAULT_FILTER),
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        Format::Json => lines.json().flatten_event(true).try_init(),
        Format::Text => {
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            lines.with_ansi(colours).with_target(false).compact().try_init()
        }
    };
    started.map_err(|why| anyhow::anyhow!("could not start logging: {why}"))
}
