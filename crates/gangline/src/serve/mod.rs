//! `gangline serve`: runs the network. Settings come from flags, then the environment, then a file; the
//! reference in `docs/CONFIGURATION.md` is made from the same declaration.

mod reference;
pub mod settings;

use std::io::Write;

use anyhow::Context;
use gangline_server::{ServeError, serve_beside};
use tokio::{runtime::Handle, signal};

use crate::problem::Problem;
use settings::Settings;

/// What `serve` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File with settings, in TOML; flags and environment go before it.
    #[arg(long, value_name = "FILE", env = "GANGLINE_CONFIG")]
    config: Option<std::path::PathBuf>,
    /// Print one JSON line with address and links once the server listens.
    #[arg(long)]
    json: bool,
    /// Print a new one-time sign-in link for the operator.
    #[arg(long)]
    operator_link: bool,
    /// Print the reference of all settings, in Markdown, and end.
    #[arg(long, hide = true)]
    reference: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Runs the server until SIGTERM or Ctrl-C, then drains.
///
/// # Errors
/// When it cannot start or cannot end in order.
pub fn main(args: Args) -> anyhow::Result<()> {
    if args.reference {
        std::io::stdout().write_all(reference::markdown().as_bytes())?;
        return Ok(());
    }
    gangline_server::panics::log();
    let file = args.config.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
    let mut config = args.settings.or(file).into_config()?;
    config.operator_link = args.operator_link;
    raise_file_limit();
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let background = runtime("jobs", cores.clamp(1, 4))?;
    let requests = runtime("requests", cores.clamp(2, 8))?;
    let ended = requests.block_on(run(config, args.json, background.handle()));
    // Whatever still holds a connection of the other one ends first.
    drop(requests);
    ended
}

/// A runtime whose threads have this name.
fn runtime(name: &'static str, threads: usize) -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(threads).thread_name(name).enable_all();
    builder.build().with_context(|| format!("could not start the runtime of {name}"))
}

/// As many open files as this user may have: each kept connection is one.
fn raise_file_limit() {
    #[cfg(unix)]
    {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        if let Ok((now, most)) = getrlimit(Resource::RLIMIT_NOFILE)
            && now < most
        {
            // What cannot be raised stays as it is; the intake lives with fewer connections.
            let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
        }
    }
}

async fn run(config: gangline_server::Config, json: bool, background: &Handle) -> anyhow::Result<()> {
    // Before anything is opened: a signal that comes early still ends in order.
    let stop = stop_signal()?;
    let books = match &config.database {
        Some(database) => database.to_string(),
        None => config.data.display().to_string(),
    };
    let server = serve_beside(config, background).await.map_err(told)?;
    let mut out = std::io::stdout().lock();
    if json {
        let line = serde_json::json!({
            "event": "serving", "address": server.address, "origin": server.origin, "operator_link": server.operator_link,
            "beat_udp": server.beat_udp, "beat_http": server.beat_http, "replica": server.replica,
        });
        writeln!(out, "{line}")?;
    } else {
        writeln!(out, "Gangline serves {} (data in {books})", server.origin)?;
        if let Some(link) = &server.operator_link {
            writeln!(out, "Operator, sign in once with this link (it works for a day):\n  {link}")?;
        }
    }
    out.flush()?;
    drop(out);
    server.run(stop).await.map_err(told)
}

/// A failure of the server's, for people.
pub fn told(error: ServeError) -> anyhow::Error {
    let hint = error.hint();
    let problem = Problem::new(error.to_string());
    let problem = match hint {
        Some(hint) => problem.hint(hint),
        None => problem,
    };
    match std::error::Error::source(&error) {
        Some(cause) => anyhow::anyhow!("{}", chain(cause)).context(problem),
        None => problem.into(),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(unix)]
fn stop_signal() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut term = signal::unix::signal(signal::unix::SignalKind::terminate())
        .context("could not listen for SIGTERM")?;
    let mut interrupt =
        signal::unix::signal(signal::unix::SignalKind::interrupt()).context("could not listen for SIGINT")?;
    Ok(async move {
        tokio::select! { _ = term.recv() => {}, _ = interrupt.recv() => {} }
    })
}

#[cfg(not(unix))]
fn stop_signal() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    Ok(async {
        let _ = signal::ctrl_c().await;
    })
}
