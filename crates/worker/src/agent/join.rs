//! Joining: everything that would go wrong is told first, the machine makes its key, shows a code, and
//! waits until a person has approved it in a browser.
//!
//! No secret and no id is ever an argument or an output of this.

use std::sync::atomic::{AtomicBool, Ordering};

use gangline_types::Label;
use gangline_wire::{api::enrol::KeyKind, endpoints::Me};

use super::{
    child::Executable,
    data::{BEATS, CLUSTERS, DataDir, Joined, KEY, KEY_NEXT, REGISTERED, SLOTS, STATUS},
    error::AgentError,
    host,
    preflight::{self, Severity, chain},
    report::Reporter,
    settings::Settings,
    shared::now,
};
use crate::{
    client::{Client, ClientError},
    enrol::{self, EnrolError, Step},
};

/// How to join.
#[derive(Clone, Debug)]
pub struct JoinOptions {
    /// The server's URL.
    pub url: String,
    /// Where this machine's key and settings are kept.
    pub data: DataDir,
    /// For the children that open adapters.
    pub executable: Executable,
}

/// Joins this machine to the network at the URL, or says that it already has.
///
/// # Errors
/// [`AgentError::Preflight`] with everything that must be cured; [`AgentError::Denied`] or
/// [`AgentError::Expired`]; [`AgentError::OtherNetwork`]; or what went wrong with data or server.
pub async fn join(options: &JoinOptions, reporter: &Reporter) -> Result<(), AgentError> {
    let JoinOptions { url, data, executable } = options;
    // Before anything is made: is this a server's URL?
    let anonymous = Client::new(url, None).map_err(|source| AgentError::Client { doing: "join", source })?;
    let url = anonymous.base().to_owned();
    if already(data, &url, reporter).await? {
        return Ok(());
    }
    reporter.say("Looking at this machine and the server...");
    let (seen, settings) = preflight::look(data, Some(&url), executable).await;
    let problems = preflight::judge(&seen);
    for problem in &problems {
        reporter.event(serde_json::json!({"event": "problem", "problem": problem}));
    }
    preflight::words(&problems).iter().for_each(|line| reporter.say(line));
    if problems.iter().any(|p| p.severity == Severity::Error) {
        return Err(AgentError::Preflight(problems));
    }
    let _lock = data.lock()?;
    Settings::write_defaults(data)?;
    let (key, made) = data.key_or_new()?;
    let fingerprint = key.public().fingerprint();
    let path = data.file(KEY);
    reporter.say(&format!(
        "This machine's key {} {}; it never leaves this machine.",
        if made { "was made:" } else { "is" },
        path.display()
    ));
    let probe = seen.probe.as_ref().and_then(|p| p.as_ref().ok());
    let facts = host::facts(&settings.name, probe.and_then(|p| p.nvidia_driver.as_deref()));
    let slot_key = data.slot_key(&key)?;
    let gpus = probe.map_or(0, |p| super::inventory::gpus(p, &slot_key).len());
    let summary = host::summary(&facts, gpus);
    let name =
        if facts.name.as_str().is_empty() { Label::lossy("unnamed machine") } else { facts.name.clone() };

    let client =
        Client::new(&url, Some(key)).map_err(|source| AgentError::Client { doing: "join", source })?;
    let mut minutes = 0;
    let away = AtomicBool::new(false);
    let outcome = enrol::enrol(&client, KeyKind::Machine, name, summary, |step| match step {
        Step::Code { ticket, fingerprint } => {
            minutes = ticket.expires_in_seconds / 60;
            let (link, code) = (inert(&ticket.verification_url_complete), inert(&ticket.user_code));
            reporter.event(serde_json::json!({
                "event": "code",
                "user_code": code,
                "url": link,
                "verification_url": inert(&ticket.verification_url),
                "fingerprint": fingerprint,
                "expires_in_seconds": ticket.expires_in_seconds,
            }));
            reporter.say("");
            reporter.say(&format!("  Open         {link}"));
            reporter.say(&format!("  and compare  {code}"));
            reporter.say(&format!("  key          {fingerprint}"));
            reporter.say("");
            reporter.say(&format!("Waiting for approval; the code ends in {minutes} minutes."));
        }
        Step::Away(error) => {
            let code = error.code().unwrap_or("away");
            reporter.event(serde_json::json!({"event": "waiting", "code": code, "why": chain(error)}));
            if !away.swap(true, Ordering::Relaxed) {
                reporter.say(&format!(
                    "The server did not answer ({}); it is asked again, more slowly.",
                    chain(error)
                ));
            }
        }
    })
    .await;
    match outcome {
        Ok(()) => {}
        Err(EnrolError::Denied) => {
            reporter.event(serde_json::json!({"event": "denied"}));
            return Err(AgentError::Denied);
        }
        Err(EnrolError::Expired) => {
            reporter.event(serde_json::json!({"event": "expired"}));
            return Err(AgentError::Expired { minutes });
        }
        // An earlier answer was lost on its way here, or the key has ended since.
        Err(EnrolError::Ask { source, .. }) if source.code() == Some("already_enrolled") => {
            match known(&client).await {
                Ok(()) => {}
                Err(error) if matches!(error.code(), Some("revoked_key" | "ended_key")) => {
                    forget_key(data)?;
                    return Err(AgentError::KeyEnded { why: error.to_string() });
                }
                Err(source) => {
                    return Err(AgentError::Client {
                        doing: "ask the server whether it knows this machine",
                        source,
                    });
                }
            }
        }
        Err(EnrolError::Ask { source, .. }) => {
            return Err(AgentError::Client { doing: "ask to join", source });
        }
        Err(EnrolError::NoKey) => return Err(AgentError::NotJoined { data: data.path().into() }),
    }
    // What belonged to another membership means nothing here.
    for file in [REGISTERED, BEATS, CLUSTERS, STATUS] {
        data.remove(file)?;
    }
    Joined { url: url.clone(), fingerprint: fingerprint.clone(), joined_at: now() }.store(data)?;
    reporter.event(serde_json::json!({"event": "joined", "url": url, "fingerprint": fingerprint}));
    reporter.say(&format!("Joined {url}."));
    reporter.say(&format!("  settings: {}", data.file(super::data::SETTINGS).display()));
    reporter.say("  next:     gangline worker run");
    Ok(())
}

/// Whether this machine already belongs to that network. A key that the network ended is put away, so
/// that a new one is made.
async fn already(data: &DataDir, url: &str, reporter: &Reporter) -> Result<bool, AgentError> {
    let Some(joined) = Joined::load(data)? else { return Ok(false) };
    if joined.url != url {
        return Err(AgentError::OtherNetwork { url: joined.url });
    }
    let Some(key) = data.key()? else { return Ok(false) };
    let client =
        Client::new(url, Some(key)).map_err(|source| AgentError::Client { doing: "join", source })?;
    match known(&client).await {
        Ok(()) => {
            reporter.event(serde_json::json!({"event": "joined", "already": true, "url": url, "fingerprint": joined.fingerprint}));
            reporter.say(&format!("This machine already belongs to {url} (key {}).", joined.fingerprint));
            reporter.say("  next: gangline worker run");
            Ok(true)
        }
        Err(error) => match error.code() {
            Some("revoked_key" | "ended_key") => {
                reporter.say(&format!("The network ended this machine's key ({error}); a new one is made."));
                forget_key(data)?;
                data.remove(super::data::JOINED)?;
                Ok(false)
            }
            Some("unknown_key") => {
                reporter.say(
                    "The network does not know this machine's key any more; it is asked to take it again.",
                );
                data.remove(super::data::JOINED)?;
                Ok(false)
            }
            _ => Err(AgentError::Client {
                doing: "ask the server whether it still knows this machine",
                source: error,
            }),
        },
    }
}

/// Puts away a key that the network has ended, and what belongs to it alone.
fn forget_key(data: &DataDir) -> Result<(), super::data::DataError> {
    [KEY, KEY_NEXT, SLOTS].into_iter().try_for_each(|file| data.remove(file))
}

/// Asks something that only a machine's key may ask and that changes nothing.
async fn known(client: &Client) -> Result<(), ClientError> {
    match client.call::<Me>(&[], &Default::default(), &Default::default()).await {
        // A machine may not read the account; to be told so it had to be known.
        Err(ClientError::Refused { status: 403 | 404, .. }) => Ok(()),
        other => other.map(drop),
    }
}

/// Text from outside on a terminal: nothing that could move the cursor.
fn inert(text: &str) -> String {
    gangline_types::Text::<512>::lossy(text).to_string()
}
