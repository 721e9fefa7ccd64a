//! `gangline witness`: watches logs and cosigns what only grows, for anyone to lean on. It answers requests
//! of c2sp.org/tlog-witness, looks at each log by itself, and shows the newest checkpoint that it cosigned.
//!
//! What it signs it keeps first, and it decides one request at a time: it never signs two trees of a log
//! that do not follow from each other, over restarts too.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use gangline_guard::log::{
    Checkpoint, Note, TilePath, VerifierKey,
    entry::published_hash,
    note::{KeyUse, is_name},
    tiles::{Tile, Tiles, paths_for_consistency, tile_hashes},
    tree::prove_consistency,
    witness::{AddCheckpoint, NotCosigned, Watched, consider},
};
use gangline_wire::SigningKey;
use gangline_worker::{client, enrol::load_or_make_key};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Mutex};

use super::{Source, state::State};
use crate::{inert::inert_line, problem::Problem};

/// Bytes of a request at most: 63 hashes and a note.
const REQUEST_BYTES_MAX: usize = 80 * 1024;
/// How long a request may take to arrive.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(20);
/// Connections at once.
const CONNECTIONS_MAX: usize = 256;

/// What `witness` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Networks whose logs to watch.
    #[arg(value_name = "URL", required = true)]
    urls: Vec<String>,
    /// Where to answer.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7780")]
    listen: SocketAddr,
    /// The witness's own key; made where there is none.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where to keep what was cosigned. It must not be lost: a witness without memory must get a new key.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// The witness's name in its cosignatures.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How often to look at each log, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
}

/// One log and its newest cosigned note.
#[derive(Clone)]
struct Kept {
    watched: Watched,
    note: Option<Note>,
}

struct Witness {
    name: String,
    key: SigningKey,
    folder: PathBuf,
    logs: Mutex<HashMap<String, Kept>>,
}

/// Why a checkpoint was not cosigned.
enum Refused {
    Decided(NotCosigned),
    Failed(anyhow::Error),
}

/// Runs a witness until it is stopped.
///
/// # Errors
/// When it cannot listen, or its key or memory cannot be used.
pub fn main(args: Args) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run(args))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let (key, _) = load_or_make_key(&args.key)?;
    let name = args.name.unwrap_or_else(|| format!("gangline.witness/{}", key.public().fingerprint()));
    if !is_name(&name) {
        return Err(Problem::usage("a witness's name has no space and no +").into());
    }
    let verifier =
        VerifierKey::new(&name, KeyUse::Witness, key.public()).context("the name cannot be used")?;
    let sources = args.urls.iter().map(|url| Source::network(url)).collect::<anyhow::Result<Vec<_>>>()?;
    std::fs::create_dir_all(&args.state)
        .with_context(|| format!("could not make the folder {}", args.state.display()))?;
    let logs = load(&args.state)?;
    let witness = Arc::new(Witness { name, key, folder: args.state, logs: Mutex::new(logs) });
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("could not listen on {}", args.listen))?;
    println!("witness {verifier}");
    println!("listening on http://{}", listener.local_addr()?);
    for (source, url) in sources.into_iter().zip(args.urls) {
        let witness = witness.clone();
        let every = Duration::from_secs(args.every);
        tokio::spawn(async move { watch(&witness, &source, &url, every).await });
    }
    tokio::select! {
        served = serve(listener, witness) => served,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

fn file_of(folder: &Path, origin: &str) -> PathBuf {
    folder.join(format!("{}.toml", published_hash(origin.as_bytes())))
}

fn load(folder: &Path) -> anyhow::Result<HashMap<String, Kept>> {
    let mut logs = HashMap::new();
    let listing = || format!("could not list {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(listing)? {
        let path = entry.with_context(listing)?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let Some(state) = State::load(&path)? else { continue };
        let read = || format!("{} does not hold what this witness wrote", path.display());
        let log: VerifierKey = state.key.parse().with_context(read)?;
        let mut kept = Kept { watched: Watched::new(log.clone()), note: None };
        if !state.checkpoint.is_empty() {
            let note: Note = state.checkpoint.parse().with_context(read)?;
            let checkpoint = Checkpoint::of_note(&note, &log).with_context(read)?;
            (kept.watched.size, kept.watched.root) = (checkpoint.size, checkpoint.root);
            kept.note = Some(note);
        }
        logs.insert(log.name().to_owned(), kept);
    }
    Ok(logs)
}

impl Witness {
    /// Decides, keeps, signs: the cosignature's line.
    async fn add(&self, request: &AddCheckpoint) -> Result<String, Refused> {
        let mut logs = self.logs.lock().await;
        let watched = |origin: &str| logs.get(origin).map(|kept| kept.watched.clone());
        let checkpoint = consider(watched, request).map_err(Refused::Decided)?;
        let log = logs[&checkpoint.origin].watched.log.clone();
        let at = client::now().seconds();
        // Only the log's own signature and ours are kept: what else came along is not ours to show.
        let mut note = Note::unsigned(request.note.text().to_owned());
        for line in request.note.signatures() {
            let mut alone = Note::unsigned(request.note.text().to_owned());
            alone.add(line.clone());
            if alone.verify(&log).is_ok() {
                note.add(line.clone());
            }
        }
        let line = note
            .cosignature(&self.name, &self.key, at)
            .ok_or_else(|| Refused::Failed(Problem::new("the witness has no usable name").into()))?;
        note.add(line.clone());
        State { key: log.to_string(), checkpoint: note.to_string() }
            .keep(&file_of(&self.folder, &checkpoint.origin))
            .map_err(Refused::Failed)?;
        let watched = Watched { log, size: checkpoint.size, root: checkpoint.root };
        logs.insert(checkpoint.origin, Kept { watched, note: Some(note) });
        Ok(line.to_string())
    }

    /// Remembers a log's key when it is first seen; from then on no other counts for that name.
    async fn meet(&self, shown: &str) -> anyhow::Result<String> {
        let log: VerifierKey = shown.parse().context("the key that the log shows cannot be read")?;
        let origin = log.name().to_owned();
        let mut logs = self.logs.lock().await;
        if !logs.contains_key(&origin) {
            State { key: log.to_string(), checkpoint: String::new() }
                .keep(&file_of(&self.folder, &origin))?;
            logs.insert(origin.clone(), Kept { watched: Watched::new(log), note: None });
        }
        Ok(origin)
    }

    /// Looks at a log once: how many entries are cosigned now.
    async fn look(&self, source: &Source, origin: &str) -> anyhow::Result<u64> {
        let old_size = self.logs.lock().await.get(origin).map_or(0, |kept| kept.watched.size);
        let note: Note = source.checkpoint().await?.parse().context("the checkpoint cannot be read")?;
        let checkpoint: Checkpoint = note.text().parse().context("the checkpoint cannot be read")?;
        let mut tiles = Tiles::default();
        if old_size > 0 && old_size < checkpoint.size {
            for path in paths_for_consistency(old_size, checkpoint.size) {
                let TilePath::Hashes { level, index, width } = path else { continue };
                let bytes = source.tile(path).await?;
                let hashes = bytes.and_then(|bytes| tile_hashes(&bytes, width));
                let hashes = hashes.with_context(|| format!("the log has no tile/{path}"))?;
                tiles.take(Tile { level, index, hashes });
            }
        }
        let proof = match old_size <= checkpoint.size {
            true => prove_consistency(&tiles, old_size, checkpoint.size)?,
            false => Vec::new(),
        };
        let size = checkpoint.size;
        match self.add(&AddCheckpoint { old_size, proof, note }).await {
            Ok(_) => Ok(size),
            Err(Refused::Decided(why)) => Err(why.into()),
            Err(Refused::Failed(why)) => Err(why),
        }
    }
}

async fn watch(witness: &Witness, source: &Source, url: &str, every: Duration) {
    let mut last: Result<u64, String> = Err(String::new());
    let mut origin = None;
    loop {
        if origin.is_none() {
            origin = match source.key().await {
                Ok(key) => witness.meet(&key).await.ok(),
                Err(_) => None,
            };
        }
        let looked = match &origin {
            Some(origin) => witness.look(source, origin).await.map_err(|why| inert_line(&format!("{why:#}"))),
            None => Err("it does not show its log's key".to_owned()),
        };
        // Told once when it changes.
        if looked.is_ok() != last.is_ok() || looked.is_err() && looked != last {
            match &looked {
                Ok(size) => tracing::info!(url, size, "cosigned"),
                Err(why) => tracing::error!(url, %why, "not cosigned"),
            }
        }
        last = looked;
        tokio::time::sleep(every).await;
    }
}

async fn serve(listener: TcpListener, witness: Arc<Witness>) -> anyhow::Result<()> {
    let room = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = room.clone().acquire_owned().await?;
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let witness = witness.clone();
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let witness = witness.clone();
                async move { Ok::<_, Infallible>(answer(&witness, request).await) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_TIME_MAX)
                .serve_connection(TokioIo::new(stream), answer);
            let _ = served.await;
            drop(place);
        });
    }
}

fn reply(status: u16, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

const TEXT: &str = "text/plain; charset=utf-8";

async fn answer(witness: &Witness, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    match (&parts.method, parts.uri.path()) {
        (&Method::POST, "/add-checkpoint") => {
            let read = Limited::new(body, REQUEST_BYTES_MAX).collect();
            let body = match tokio::time::timeout(REQUEST_TIME_MAX, read).await {
                Ok(Ok(body)) => body.to_bytes(),
                Ok(Err(_)) => return reply(413, TEXT, "the request is too long or broke off\n".into()),
                Err(_) => return reply(408, TEXT, "the request took too long\n".into()),
            };
            let request = std::str::from_utf8(&body).ok().and_then(|text| text.parse().ok());
            let Some(request) = request else {
                return reply(400, TEXT, "the request cannot be read\n".into());
            };
            match witness.add(&request).await {
                Ok(line) => reply(200, TEXT, line),
                Err(Refused::Decided(NotCosigned::Conflict { size })) => {
                    reply(409, "text/x.tlog.size", format!("{size}\n"))
                }
                Err(Refused::Decided(why)) => {
                    if matches!(why, NotCosigned::Fork { .. } | NotCosigned::BadProof { .. }) {
                        tracing::error!(%why, checkpoint = %inert_line(&request.note.to_string()), "refused to cosign");
                    }
                    match why {
                        NotCosigned::Fork { size, .. } => reply(409, "text/x.tlog.size", format!("{size}\n")),
                        other => reply(other.status(), TEXT, format!("{other}\n")),
                    }
                }
                Err(Refused::Failed(why)) => {
                    tracing::error!(why = %inert_line(&format!("{why:#}")), "could not keep a checkpoint");
                    reply(500, TEXT, "the witness could not keep it, so it did not sign it\n".into())
                }
            }
        }
        (&Method::GET, path) => {
            let logs = witness.logs.lock().await;
            let note = path
                .strip_prefix("/checkpoint/")
                .and_then(|origin| logs.get(origin))
                .and_then(|kept| kept.note.as_ref());
            match note {
                Some(note) => reply(200, TEXT, note.to_string()),
                None => reply(404, TEXT, "there is no such checkpoint\n".into()),
            }
        }
        _ => reply(405, TEXT, "only GET, and POST of /add-checkpoint\n".into()),
    }
}
