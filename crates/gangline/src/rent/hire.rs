//! `rent hire`: asks for a cluster and waits until it runs. Whoever stops waiting gives it back.
//!
//! Knows no price list: the network places the cluster and says what an hour costs.

use std::time::Duration;

use anyhow::Context;
use gangline_types::{GpuId, MicroCredits};
use gangline_wire::{
    api::cluster::{ClusterState, ClusterView, HireRequest},
    endpoints::HireCluster,
};
use gangline_worker::client::Client;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Output, credits, show, stop::Stop};
use crate::{inert::inert_line, problem::Problem};

/// What to hire.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(id = "hire")]
pub struct Args {
    /// This GPU and no other.
    #[arg(long, value_name = "ID")]
    gpu: Option<GpuId>,
    /// Least proven rate, in millions of multiply-adds a second.
    #[arg(long, value_name = "MMACS", default_value_t = 0)]
    min_rate: u64,
    /// A software device will do.
    #[arg(long)]
    software_ok: bool,
    /// Most an hour may cost, in credits.
    #[arg(long, value_name = "CREDITS", value_parser = credits)]
    max_price: Option<MicroCredits>,
    /// The hire ends by itself after this many hours [default: 1].
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u32).range(1..=168))]
    hours: Option<u32>,
}

impl Args {
    fn request(&self) -> HireRequest {
        HireRequest {
            gpu: self.gpu,
            matrix_mmacs_min: self.min_rate,
            software_ok: self.software_ok,
            price_per_hour_max: self.max_price,
            hours: self.hours,
        }
    }
}

pub async fn run(client: &Client, output: Output, args: &Args) -> anyhow::Result<()> {
    let view = hire(client, args, &mut Stop::listen()?).await?;
    output.print(&view, || {
        format!(
            "{id} runs on {gpu} at {price} credits an hour.\nRun a program on it:  gangline rent submit --cluster {id} \
             -- python job.py\nUse its Ray:          gangline rent connect --cluster {id}\nEnd it:               gangline rent \
             release {id}\n",
            id = view.id,
            gpu = view.gpu,
            price = view.price_per_hour
        )
    })
}

/// Hires a cluster and waits until it runs; if `stop` is asked meanwhile, gives it back.
///
/// # Errors
/// When nothing fits, when it does not start, or when the wait was stopped.
pub async fn hire(client: &Client, args: &Args, stop: &mut Stop) -> anyhow::Result<ClusterView> {
    let view = client
        .call::<HireCluster>(&[], &Default::default(), &args.request())
        .await
        .context("could not hire a cluster")?;
    let cluster = view.id;
    let spinner = spinner();
    let mut last = String::new();
    let tell = |view: &ClusterView| {
        let text = format!("{cluster} {}: {}", view.state, inert_line(view.detail.as_str()));
        if text != last {
            if spinner.is_hidden() {
                eprintln!("{text}");
            }
            spinner.set_message(text.clone());
            last = text;
        }
    };
    let settled = |view: &ClusterView| {
        view.state == ClusterState::Running || view.state == ClusterState::Releasing || view.state.is_over()
    };
    let waited = tokio::select! {
        waited = show::wait(client, view, tell, settled) => waited,
        () = stop.asked() => {
            spinner.finish_and_clear();
            eprintln!("Stopped; giving {cluster} back...");
            show::end(client, cluster).await?;
            return Err(Problem::new(format!("stopped before {cluster} ran; it is released")).into());
        }
    };
    spinner.finish_and_clear();
    let view = waited?;
    if view.state != ClusterState::Running {
        let what =
            format!("{cluster} did not run: it is {}: {}", view.state, inert_line(view.detail.as_str()));
        return Err(Problem::new(what).hint("nothing is charged for a cluster that never ran").into());
    }
    Ok(view)
}

/// A spinner on the terminal; hidden where stderr is none.
fn spinner() -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {wide_msg}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}
