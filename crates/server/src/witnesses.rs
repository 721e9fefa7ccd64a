//! Asking witnesses to cosign the log's checkpoints (c2sp.org/tlog-witness). A witness that refuses holds a tree
//! against this log, and one that is late watches over nothing: both open incidents.
//!
//! Decides nothing: what an answer means is the guard's, and what was answered is in the books, so that any server
//! goes on where another stopped.

use std::sync::Arc;

use gangline_guard::{
    Actor, Job, Permit, act,
    detect::{Alarm, What},
    log::{
        Checkpoint, Note, TilePath, VerifierKey,
        checkpoint::verifier_of,
        cosign::{Answered, read},
        tiles::{Tile, Tiles, paths_for_consistency, tile_hashes},
        tree::prove_consistency,
        witness::AddCheckpoint,
    },
    notice::{Raised, Subject},
    permit::permit,
    policy::on,
};
use gangline_store::{NewIncident, StoreError, WitnessAnswer};
use gangline_types::{IncidentId, UnixMillis, UnixSeconds};
use url::Url;

use crate::{
    app::App,
    config, edge,
    error::ApiError,
    outbound::{Outbound, SetupError},
    outlets::chain,
    refusals::inert,
};

/// A cosignature older than this is renewed though the log has not grown, in seconds: it shows that the witness lives.
const FRESH_SECONDS: u64 = 60;
/// A witness that was asked is asked by nobody else for so long, in milliseconds: longer than a request may take.
const CLAIM_MILLIS: u64 = 30_000;
/// One that did not decide is left alone for so long, in milliseconds,
const AWAY_MILLIS: u64 = 10_000;
/// and one that refuses for so long.
const REFUSED_MILLIS: u64 = 60_000;
/// People are told of a late witness once in so many seconds.
const LATE_EACH_SECONDS: u64 = 3_600;

/// The witnesses of this server. Cheap to clone.
#[derive(Clone)]
pub struct Witnesses {
    all: Arc<[(Url, VerifierKey)]>,
    outbound: Option<Outbound>,
    late_seconds: u64,
}

impl Witnesses {
    /// As configured.
    ///
    /// # Errors
    /// When the outbound guard cannot be set up.
    pub fn new(config: &config::Config) -> Result<Self, SetupError> {
        let all: Arc<[_]> = config.witnesses.all.iter().map(|w| (w.url.clone(), w.key.clone())).collect();
        let outbound = match all.is_empty() {
            true => None,
            false => {
                Some(Outbound::new(config.outbound.exceptions.clone(), config.outbound.ca_file.as_deref())?)
            }
        };
        Ok(Self { all, outbound, late_seconds: config.witnesses.late_seconds })
    }
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.all.len() as u64
    }
    /// Where each is asked, and its key.
    pub fn all(&self) -> &[(Url, VerifierKey)] {
        &self.all
    }
}

fn projector(now: UnixSeconds) -> Result<Permit<act::Project>, ApiError> {
    Ok(permit::<act::Project>(&Actor::job(Job::Projector), on::Network, now)?)
}

/// Has every witness asked that has not cosigned the newest checkpoint, and tells of those that are late. The work of
/// one job, under its lease.
pub async fn cosign(app: &App) -> Result<(), ApiError> {
    if app.witnesses.all.is_empty() {
        return Ok(());
    }
    let Some(text) = app.store.public().log_checkpoint().await? else { return Ok(()) };
    let note: Note = text.parse().map_err(|_| broken())?;
    let log = verifier_of(&app.key.public());
    let size = Checkpoint::of_note(&note, &log).map_err(|_| broken())?.size;
    let now = edge::now_millis();
    let permit = projector(now.seconds())?;
    let fresh_since = UnixSeconds(now.seconds().0.saturating_sub(FRESH_SECONDS));
    let until = UnixMillis(now.0 + CLAIM_MILLIS);
    for (url, witness) in app.witnesses.all.iter() {
        if let Some(known) = app.store.claim_witness(&permit, witness, size, fresh_since, now, until).await? {
            // Apart from the lease, which a slow witness would outlast; what it answers is good whoever asked.
            let (app, url, witness, note) = (app.clone(), url.clone(), witness.clone(), note.clone());
            tokio::spawn(async move {
                let answered = ask(&app, &url, &witness, &note, size, known.size).await;
                if let Err(error) = settle(&app, &witness, &note, size, answered).await {
                    tracing::error!(
                        witness = witness.name(),
                        error = &error as &dyn std::error::Error,
                        "a witness's answer could not be noted"
                    );
                }
            });
        }
        // Time in which this server was not there to ask is not the witness's.
        let asked_since = now.seconds().0.saturating_sub(app.witnesses.late_seconds);
        if app.started_at.seconds().0 <= asked_since {
            let told_since = UnixSeconds(now.seconds().0.saturating_sub(LATE_EACH_SECONDS));
            if app.store.witness_is_late(&permit, witness, UnixSeconds(asked_since), told_since).await? {
                raise(app, What::WitnessLate, witness, "").await?;
            }
        }
    }
    Ok(())
}

fn broken() -> StoreError {
    StoreError::Log("the published checkpoint is not one of this log's".into())
}

/// Asks a witness, and once more from the size that it says it knows.
async fn ask(app: &App, url: &Url, witness: &VerifierKey, note: &Note, size: u64, known: u64) -> Answered {
    let first = ask_from(app, url, witness, note, size, known).await;
    match first {
        Answered::Knows { size: known } => match ask_from(app, url, witness, note, size, known).await {
            Answered::Knows { .. } => Answered::Undecided("it names one size, and then another".into()),
            answered => answered,
        },
        answered => answered,
    }
}

async fn ask_from(
    app: &App,
    url: &Url,
    witness: &VerifierKey,
    note: &Note,
    size: u64,
    old_size: u64,
) -> Answered {
    let undecided = Answered::Undecided;
    let proof = match proof(app, old_size, size).await {
        Ok(proof) => proof,
        Err(why) => return undecided(why),
    };
    let body = AddCheckpoint { old_size, proof, note: note.clone() }.to_string();
    let to = format!("{}/add-checkpoint", url.as_str().trim_end_matches('/'));
    let Some(outbound) = &app.witnesses.outbound else { return undecided("nobody may be asked".into()) };
    let request = http::Request::post(to).header("content-type", "text/plain; charset=utf-8");
    let request = match request.body(body.into_bytes()) {
        Ok(request) => request,
        Err(error) => return undecided(error.to_string()),
    };
    match outbound.fetch(request).await {
        Ok(answer) => {
            let body = String::from_utf8_lossy(answer.body());
            read(answer.status().as_u16(), &body, note, size, old_size, witness)
        }
        Err(error) => undecided(chain(&error)),
    }
}

/// That the tree of `size` entries begins with that of `old_size`.
async fn proof(app: &App, old_size: u64, size: u64) -> Result<gangline_guard::log::Proof, String> {
    if old_size == 0 || old_size >= size {
        return Ok(Vec::new());
    }
    let mut tiles = Tiles::default();
    for path in paths_for_consistency(old_size, size) {
        let TilePath::Hashes { level, index, width } = path else { continue };
        let bytes = app.store.public().log_tile(path).await.map_err(|e| e.to_string())?;
        let hashes = bytes.and_then(|bytes| tile_hashes(&bytes, width));
        let hashes = hashes.ok_or_else(|| format!("the log has no tile/{path}"))?;
        tiles.take(Tile { level, index, hashes });
    }
    prove_consistency(&tiles, old_size, size).map_err(|e| e.to_string())
}

async fn settle(
    app: &App,
    witness: &VerifierKey,
    note: &Note,
    size: u64,
    answered: Answered,
) -> Result<(), ApiError> {
    let now = edge::now_millis();
    let (answer, pause) = match answered {
        Answered::Cosigned { at, line } => {
            (WitnessAnswer::Cosigned { size, note: note.to_string(), at, line }, 0)
        }
        Answered::Refused(why) => (WitnessAnswer::Refuses(inert(&why)), REFUSED_MILLIS),
        Answered::Undecided(why) => (WitnessAnswer::Away(inert(&why)), AWAY_MILLIS),
        Answered::Knows { .. } => (WitnessAnswer::Away("it knows another size".into()), AWAY_MILLIS),
    };
    let next = UnixMillis(now.0 + pause);
    app.store.note_witness(&projector(now.seconds())?, witness, &answer, next).await?;
    if let WitnessAnswer::Refuses(why) = &answer {
        tracing::error!(witness = witness.name(), why, "a witness refuses to cosign the log");
        raise(app, What::WitnessRefused, witness, why).await?;
    }
    Ok(())
}

/// Opens an incident about a witness, or counts into the one that is open.
async fn raise(app: &App, what: What, witness: &VerifierKey, why: &str) -> Result<(), ApiError> {
    let now = edge::now();
    let permit = permit::<act::Watch>(&Actor::job(Job::Watcher), on::Network, now)?;
    let raised = Raised {
        alarm: Alarm { what, at: now, seen: 1.0, usual: 0.0 },
        subject: Subject::Witness(witness.name().to_owned()),
        key: None,
        account: None,
        block: None,
        action: None,
        resource: (!why.is_empty()).then(|| why.to_owned()),
    };
    let new = NewIncident { id: IncidentId::from_bytes(edge::random()), raised, count: 1 };
    let noted = app.store.note_incident(&permit, &new).await?;
    if noted.opened {
        tracing::error!(incident = %noted.id, what = what.code(), witness = witness.name(), "an incident was opened");
    }
    Ok(())
}
