//! `rent login` and `rent whoami`: a key is made here, a person approves it in a browser, and from then
//! on this machine acts for that person's account.
//!
//! Knows no password and no token: there is none.

use anyhow::Context;
use gangline_types::{Label, Text};
use gangline_wire::{
    api::{account::Whoami, enrol::KeyKind},
    endpoints::Me,
};
use gangline_worker::{
    client::Client,
    enrol::{self, EnrolError, Step},
};
use serde_json::json;

use super::{Output, print_text, state::Login, state::State};
use crate::{inert::inert_line, problem::Problem};

/// What `rent login` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server, for example `http://127.0.0.1:7700`.
    #[arg(value_name = "URL")]
    url: String,
}

pub async fn run(state: &State, output: Output, args: Args) -> anyhow::Result<()> {
    let client = Client::new(&args.url, Some(state.key()?))?;
    let host = nix::unistd::gethostname().unwrap_or_default();
    let host = Label::lossy(&host.to_string_lossy());
    let summary = Text::lossy(&format!("gangline {} on {}", env!("CARGO_PKG_VERSION"), std::env::consts::OS));
    let mut said = Ok(());
    let enrolled = enrol::enrol(&client, KeyKind::CommandLine, host, summary, |step| {
        if said.is_ok() {
            said = tell(output, step);
        }
    });
    let enrolled = enrolled.await;
    said?;
    match enrolled {
        Ok(()) => {}
        Err(error @ (EnrolError::Denied | EnrolError::Expired)) => {
            let hint = "run `gangline rent login` again for a new code";
            return Err(error).context(Problem::new("this machine was not logged in").hint(hint));
        }
        Err(error) => return Err(error.into()),
    }
    let network_key =
        state.login()?.filter(|login| login.server == client.base()).and_then(|login| login.network_key);
    state.keep(&Login { server: client.base().to_owned(), network_key })?;
    let who = client.call::<Me>(&[], &Default::default(), &Default::default()).await;
    match output {
        Output::Json => print_text(&format!("{}\n", json!({"event": "joined"}))),
        Output::Text => print_text(&match who {
            Ok(who) => format!("Logged in as {} ({}).\n", inert_line(who.account.as_str()), who.role),
            // The approval stands; only the greeting could not be asked for.
            Err(_) => "Logged in.\n".to_owned(),
        }),
    }
}

fn tell(output: Output, step: Step<'_>) -> anyhow::Result<()> {
    match (step, output) {
        (Step::Code { ticket, fingerprint }, Output::Json) => {
            let line = json!({
                "event": "code",
                "user_code": ticket.user_code,
                "url": ticket.verification_url_complete,
                "fingerprint": fingerprint,
            });
            print_text(&format!("{line}\n"))
        }
        (Step::Code { ticket, fingerprint }, Output::Text) => print_text(&format!(
            "Open this link and approve this machine:\n\n  {}\n\nor type the code {} at {}\nThe page shows this \
             key: {fingerprint}. Approve it only if they are the same.\nThe code ends in {} minutes. Waiting...\n",
            inert_line(&ticket.verification_url_complete),
            inert_line(&ticket.user_code),
            inert_line(&ticket.verification_url),
            ticket.expires_in_seconds.div_ceil(60),
        )),
        (Step::Away(error), _) => {
            tracing::warn!(cause = %inert_line(&error.to_string()), "the server does not answer; asking again");
            Ok(())
        }
    }
}

pub async fn whoami(client: &Client, output: Output) -> anyhow::Result<()> {
    let who: Whoami = client
        .call::<Me>(&[], &Default::default(), &Default::default())
        .await
        .with_context(|| format!("could not ask {} whose key this is", client.base()))?;
    output.print(&who, || {
        format!(
            "{} ({}) at {}, by the {} key {}\n",
            inert_line(who.account.as_str()),
            who.role,
            client.base(),
            who.kind.words(),
            who.key
        )
    })
}
