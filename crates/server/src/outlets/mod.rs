//! Telling people outside of incidents: a signed request to the operator's own program, and mails.
//!
//! Level by level, with no memory of its own: what an outlet was not told yet is looked for in the books, becomes
//! messages there, and what is due is taken and tried. Only whoever holds the lease plans and takes, and a message
//! that was taken is nobody else's until its time is over, so several servers do not send one twice. One that was
//! sent while the server died before it could be noted is sent once more under the same id.

pub mod mail;
pub mod webhook;
mod words;

use std::{sync::Arc, time::Duration};

use gangline_guard::{
    Actor, Job, Permit, act,
    notice::{
        Outlet,
        tell::{Retry, Unsaid, plan},
    },
    permit::permit,
    policy::on,
};
use gangline_store::{Claimed, Settled, Store};
use gangline_types::{UnixMillis, UnixSeconds};
use gangline_wire::SigningKey;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::{
    Config, app::App, edge, error::ApiError, metrics::Metrics, outbound::SetupError, refusals::inert,
};

pub use mail::Mailer;
pub use webhook::Webhook;

/// Messages of one outlet under way at once.
const UNDER_WAY_MAX: usize = 4;
/// A try that has not ended by then is broken off, in seconds.
const TRY_SECONDS: u64 = 30;
/// And by then it counts as broken off for everybody, in seconds.
const CLAIM_SECONDS: u64 = 60;
/// How long a stopping server waits for tries under way, in seconds.
const FINISH_SECONDS: u64 = 5;
/// How far back messages count for what fits into an hour.
const HOUR_SECONDS: u64 = 3_600;

/// Why outlets cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum OutletError {
    /// What this server asks others with.
    #[error("this server could not ask others")]
    Outbound(#[from] SetupError),
    /// The mail server's password.
    #[error("the mail server's password {file} cannot be used: {why}")]
    Password {
        /// Its file.
        file: std::path::PathBuf,
        /// Why.
        why: String,
    },
    /// An address of mails.
    #[error("{0} is no mail address")]
    Address(String),
    /// TLS towards the mail server.
    #[error("TLS towards the mail server cannot be set up: {0}")]
    Tls(String),
}

/// How a try failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// Worth another try.
    Now(String),
    /// The other side has said that it never will be.
    ForGood(String),
}

/// The ways out of this server. Cheap to clone.
#[derive(Clone, Default)]
pub struct Outlets {
    webhook: Option<Arc<Webhook>>,
    mail: Option<Arc<Mailer>>,
    retry: Retry,
    under_way: TaskTracker,
    room: [Arc<Room>; Outlet::ALL.len()],
}

/// Places for tries under way.
struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(UNDER_WAY_MAX)))
    }
}

impl Outlets {
    /// As configured; requests are signed with the network's key.
    ///
    /// # Errors
    /// When a file cannot be read, or an address is none.
    pub fn new(config: &Config, key: &SigningKey) -> Result<Self, OutletError> {
        let webhook = match &config.outlets.webhook {
            Some(url) => Some(Arc::new(Webhook::new(url.clone(), &config.outbound, key)?)),
            None => None,
        };
        let mail = match &config.outlets.mail {
            Some(mail) => Some(Arc::new(Mailer::new(mail, &config.outbound)?)),
            None => None,
        };
        Ok(Self { webhook, mail, retry: config.outlets.retry, ..Self::default() })
    }

    /// Where each outlet leads, for people; those that are configured.
    pub fn shown(&self) -> Vec<(Outlet, String)> {
        let webhook = self.webhook.as_ref().map(|w| (Outlet::Webhook, w.shown()));
        webhook.into_iter().chain(self.mail.as_ref().map(|m| (Outlet::Mail, m.shown()))).collect()
    }

    /// Waits a little for what is under way when the server stops.
    pub async fn finish(&self) {
        self.under_way.close();
        let _ = tokio::time::timeout(Duration::from_secs(FINISH_SECONDS), self.under_way.wait()).await;
    }

    async fn attempt(&self, outlet: Outlet, message: &Claimed) -> Result<(), Failed> {
        let away = || Failed::Now("it is not configured on this server".into());
        let sending = async {
            match outlet {
                Outlet::Webhook => self.webhook.as_ref().ok_or_else(away)?.send(message, edge::now()).await,
                Outlet::Mail => self.mail.as_ref().ok_or_else(away)?.send(message).await,
            }
        };
        match tokio::time::timeout(Duration::from_secs(TRY_SECONDS), sending).await {
            Ok(ended) => ended,
            Err(_) => Err(Failed::Now(format!("it took more than {TRY_SECONDS} s"))),
        }
    }
}

fn watcher(now: UnixSeconds) -> Result<Permit<act::Watch>, ApiError> {
    Ok(permit::<act::Watch>(&Actor::job(Job::Watcher), on::Network, now)?)
}

/// Makes the messages that are missing, and tries those that are due. The work of one job, under its lease.
pub async fn tell(app: &App) -> Result<(), ApiError> {
    for (outlet, _) in app.outlets.shown() {
        make(app, outlet).await?;
        try_due(app, outlet).await?;
    }
    Ok(())
}

async fn make(app: &App, outlet: Outlet) -> Result<(), ApiError> {
    let now = edge::now();
    let permit = watcher(now)?;
    let found = app.store.unsaid(&permit, outlet).await?;
    if found.is_empty() {
        return Ok(());
    }
    let unsaid: Vec<Unsaid> = found
        .iter()
        .map(|f| Unsaid {
            incident: f.incident.id,
            severity: f.incident.severity,
            opened_at: f.incident.opened_at,
            state: f.incident.state,
            count: f.incident.count,
            told_count: f.told_count,
        })
        .collect();
    let since = UnixSeconds(now.0.saturating_sub(HOUR_SECONDS));
    let sent = app.store.sent_lately(&permit, outlet, since).await?;
    let planned = plan(now, outlet, &unsaid, sent);
    if planned.is_empty() {
        return Ok(());
    }
    let messages: Vec<_> =
        planned.iter().map(|p| words::message(&app.origin, now, outlet, p, &found)).collect();
    app.store.make_deliveries(&permit, &messages).await?;
    Ok(())
}

async fn try_due(app: &App, outlet: Outlet) -> Result<(), ApiError> {
    let room = &app.outlets.room[outlet as usize].0;
    let places = room.available_permits() as u32;
    if places == 0 {
        return Ok(());
    }
    let now = edge::now_millis();
    let until = UnixMillis(now.0 + CLAIM_SECONDS * 1_000);
    let due = app.store.claim_deliveries(&watcher(now.seconds())?, outlet, now, until, places).await?;
    for message in due {
        // Only this job takes places, so there is one.
        let Ok(place) = room.clone().try_acquire_owned() else { break };
        let (outlets, store, metrics) = (app.outlets.clone(), app.store.clone(), app.metrics.clone());
        // Apart from the lease: a try takes longer than one holds, and what it ends with is for that try alone.
        app.outlets.under_way.spawn(async move {
            let ended = outlets.attempt(outlet, &message).await;
            if let Err(error) = settle(&outlets, &store, &metrics, outlet, &message, ended).await {
                tracing::error!(
                    delivery = %message.id,
                    error = &error as &dyn std::error::Error,
                    "how a message fared could not be noted; it will be tried again"
                );
            }
            drop(place);
        });
    }
    Ok(())
}

async fn settle(
    outlets: &Outlets,
    store: &Store,
    metrics: &Metrics,
    outlet: Outlet,
    message: &Claimed,
    ended: Result<(), Failed>,
) -> Result<(), ApiError> {
    let now = edge::now_millis();
    let settled = match ended {
        Ok(()) => Settled::Sent,
        Err(Failed::ForGood(error)) => Settled::Dead { error: inert(&error) },
        Err(Failed::Now(error)) => {
            let dice = u32::from_be_bytes(edge::random());
            match outlets.retry.wait_millis(message.tries, dice) {
                Some(wait) => Settled::Again { due_at: UnixMillis(now.0 + wait), error: inert(&error) },
                None => Settled::Dead { error: inert(&error) },
            }
        }
    };
    if store.settle_delivery(&watcher(now.seconds())?, message, &settled).await? {
        let outcome = match &settled {
            Settled::Sent => "sent",
            Settled::Again { error, .. } => {
                tracing::warn!(delivery = %message.id, outlet = outlet.as_str(), tries = message.tries, error, "a message did not arrive; will be tried again");
                "failed"
            }
            Settled::Dead { error } => {
                tracing::error!(delivery = %message.id, outlet = outlet.as_str(), tries = message.tries, error, "a message was given up");
                "dead"
            }
        };
        metrics.told(outlet.as_str(), outcome);
    }
    Ok(())
}

/// An error with its causes, in a line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
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
