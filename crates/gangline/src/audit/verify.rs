//! The check itself: fetches in order, feeds the guard's checker, and tells what came out.

use anyhow::Context;
use gangline_guard::log::{
    Checked, Checker, Checkpoint, Edge, Entry, Finding, Note, NoteError, TILE_WIDTH, TilePath, VerifierKey,
    check::Seen,
    note::KeyUse,
    tiles::{TILE_HEIGHT, bundle_entries, paths_of, tile_hashes},
};
use gangline_types::UnixSeconds;
use gangline_worker::client::Client;
use serde::Serialize;

use super::{Source, Stopped, VerifyArgs, could_not_ask, note_of, source::get, state::State, unsigned};
use crate::{inert::inert_line, problem::Problem};

/// A witness's word.
#[derive(Debug, Serialize)]
struct Cosigned {
    witness: String,
    /// Entries that it has seen.
    size: u64,
    at_seconds: u64,
}

/// The result.
#[derive(Debug, Serialize)]
struct Report<'a> {
    source: &'a str,
    holds: bool,
    finding: Option<String>,
    log: Option<String>,
    entries: u64,
    kinds: Vec<(&'static str, u64)>,
    root: Option<String>,
    checkpoints_seen_before: usize,
    cosigned: Vec<Cosigned>,
    notes: Vec<String>,
}

/// What was established.
pub(super) struct Good {
    key: VerifierKey,
    checkpoint: Checkpoint,
    note: String,
    checked: Checked,
    cosigned: Vec<Cosigned>,
    notes: Vec<String>,
}

/// Checks a log and tells what came out.
pub async fn main(args: VerifyArgs) -> anyhow::Result<()> {
    if let Some(key) = args.witness_key.iter().find(|key| key.is_for() != KeyUse::Witness) {
        return Err(Problem::usage(format!("{} is not the key of a witness", key.name())).into());
    }
    let source = Source::of(&args.source)?;
    let state = args.state.as_deref().map(State::load).transpose()?.flatten();
    let mut list = |index: u64, entry: &Entry| {
        if args.list {
            let bytes = entry.to_bytes();
            let words = String::from_utf8_lossy(&bytes).replace("\n", ", ");
            println!(
                "{index}: {}",
                words.trim_start_matches("gangline log entry 1, ").trim_end_matches(", ")
            );
        }
    };
    let outcome = check(&source, &args, state.as_ref(), &mut list).await;
    let mut report = Report {
        source: &args.source,
        holds: outcome.is_ok(),
        finding: None,
        log: None,
        entries: 0,
        kinds: vec![],
        root: None,
        checkpoints_seen_before: 0,
        cosigned: vec![],
        notes: vec![],
    };
    let finding = match outcome {
        Ok(good) => {
            report.log = Some(good.key.to_string());
            report.entries = good.checked.entries;
            report.kinds = good.checked.kinds.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
            report.root = Some(good.checkpoint.root.to_string());
            report.checkpoints_seen_before = good.checked.seen;
            report.cosigned = good.cosigned;
            report.notes = good.notes;
            if let Some(path) = &args.state {
                State { key: good.key.to_string(), checkpoint: good.note }.keep(path)?;
            }
            None
        }
        Err(Stopped::Found(finding)) => Some(finding),
        Err(Stopped::CouldNotAsk(why)) => return Err(could_not_ask(why)),
    };
    report.finding = finding.as_ref().map(|finding| inert_line(&finding.to_string()));
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else if finding.is_none() {
        print!("{}", text(&report));
    }
    match finding {
        None => Ok(()),
        Some(finding) => {
            let what = Problem::new(format!("the log of {} does not hold together", args.source))
                .hint("keep what was fetched and the checkpoints: what the log has signed is proof");
            Err(anyhow::Error::new(finding).context(what))
        }
    }
}

fn text(report: &Report<'_>) -> String {
    let kinds: Vec<String> = report.kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let mut out = format!("{} entries checked", report.entries);
    if !kinds.is_empty() {
        out += &format!(": {}", kinds.join(", "));
    }
    out += &format!("\nlog {}\n", report.log.as_deref().unwrap_or_default());
    for cosigned in &report.cosigned {
        out += &format!(
            "{} cosigned the first {} entries at {} s since 1970\n",
            inert_line(&cosigned.witness),
            cosigned.size,
            cosigned.at_seconds
        );
    }
    for note in &report.notes {
        out += &format!("note: {}\n", inert_line(note));
    }
    let before = match report.checkpoints_seen_before {
        0 => String::new(),
        1 => " and goes on from the checkpoint seen before".to_owned(),
        many => format!(" and goes on from the {many} checkpoints seen before"),
    };
    out + &format!("The log holds together{before}.\n")
}

/// The log's key: as given, or as remembered, or as the log shows it.
async fn key_of(
    source: &Source,
    args: &VerifyArgs,
    state: Option<&State>,
    notes: &mut Vec<String>,
) -> Result<VerifierKey, Stopped> {
    let ask = |why: anyhow::Error| Stopped::CouldNotAsk(why);
    let remembered = state
        .map(|state| state.key.parse::<VerifierKey>().context("the state file's key cannot be read"))
        .transpose()
        .map_err(ask)?;
    if let (Some(given), Some(remembered)) = (&args.key, &remembered)
        && given != remembered
    {
        return Err(ask(Problem::usage("--key is another log's than the one in the state file").into()));
    }
    if let Some(key) = args.key.clone().or(remembered) {
        return Ok(key);
    }
    notes.push("the log's key is the one that it shows itself; compare it with one from elsewhere".into());
    shown_key(source).await
}

async fn shown_key(source: &Source) -> Result<VerifierKey, Stopped> {
    let shown = source.key().await.map_err(Stopped::CouldNotAsk)?;
    shown.parse().context("the key that the log shows cannot be read").map_err(Stopped::CouldNotAsk)
}

/// A checkpoint of this log from elsewhere, and who cosigned it.
struct Elsewhere {
    seen: Seen,
    note: Note,
}

fn elsewhere(text: &str, whose: String, key: &VerifierKey) -> Result<Elsewhere, Stopped> {
    let note = note_of(text, &whose)?;
    let checkpoint = Checkpoint::of_note(&note, key).map_err(unsigned(&whose))?;
    Ok(Elsewhere { seen: Seen { checkpoint, whose }, note })
}

async fn all_seen(
    args: &VerifyArgs,
    state: Option<&State>,
    key: &VerifierKey,
) -> Result<Vec<Elsewhere>, Stopped> {
    let mut seen = Vec::new();
    if let Some(state) = state {
        seen.push(elsewhere(&state.checkpoint, "the last check's".into(), key)?);
    }
    for path in &args.seen {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("could not read {}", path.display()))
            .map_err(Stopped::CouldNotAsk)?;
        seen.push(elsewhere(&text, path.display().to_string(), key)?);
    }
    for url in &args.witness {
        let client = Client::new(url, None).map_err(|why| Stopped::CouldNotAsk(why.into()))?;
        let path = format!("/checkpoint/{}", key.name());
        let bytes = get(&client, &path).await.map_err(Stopped::CouldNotAsk)?.ok_or_else(|| {
            let problem = Problem::new(format!("the witness at {url} has not cosigned this log"));
            Stopped::CouldNotAsk(problem.into())
        })?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        seen.push(elsewhere(&text, format!("the witness at {url}"), key)?);
    }
    Ok(seen)
}

pub(super) async fn check(
    source: &Source,
    args: &VerifyArgs,
    state: Option<&State>,
    visit: &mut impl FnMut(u64, &Entry),
) -> Result<Good, Stopped> {
    let mut notes = Vec::new();
    let key = key_of(source, args, state, &mut notes).await?;
    // Before the log's own: what others saw earlier cannot be more than what the log shows later.
    let seen = all_seen(args, state, &key).await?;
    let text = source.checkpoint().await.map_err(Stopped::CouldNotAsk)?;
    let own = elsewhere(&text, "the log's own".into(), &key)?;
    let checkpoint = own.seen.checkpoint.clone();
    let cosigned = cosignatures(args, &own, &seen)?;
    let seen: Vec<Seen> = seen.into_iter().map(|elsewhere| elsewhere.seen).collect();
    let mut checker = Checker::new(checkpoint.clone(), seen)?;
    feed(source, &checkpoint, &mut checker, visit).await?;
    Ok(Good { key, checkpoint, note: text, checked: checker.checked(), cosigned, notes })
}

/// A network's log that is read in several goes, each from where the last one ended.
pub struct Reader {
    source: Source,
    key: Option<VerifierKey>,
    edge: Edge,
}

impl Reader {
    /// At the beginning of the log of the network at `url`.
    ///
    /// # Errors
    /// When that is no server's URL.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        Ok(Self { source: Source::network(url)?, key: None, edge: Edge::default() })
    }

    /// Reads on to its end as it is now, which must hold together with all before: what is found out about it, none if it does. `visit`
    /// sees every entry since the last time. After a finding or an error there is nothing to read on.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn read_on(&mut self, visit: &mut impl FnMut(u64, &Entry)) -> anyhow::Result<Option<String>> {
        match self.go_on(visit).await {
            Ok(()) => Ok(None),
            Err(Stopped::Found(finding)) => Ok(Some(finding.to_string())),
            Err(Stopped::CouldNotAsk(why)) => Err(why),
        }
    }

    async fn go_on(&mut self, visit: &mut impl FnMut(u64, &Entry)) -> Result<(), Stopped> {
        let key = match &self.key {
            Some(key) => key.clone(),
            None => shown_key(&self.source).await?,
        };
        let text = self.source.checkpoint().await.map_err(Stopped::CouldNotAsk)?;
        let checkpoint = elsewhere(&text, "the log's own".into(), &key)?.seen.checkpoint;
        let mut checker = Checker::onwards(checkpoint.clone(), std::mem::take(&mut self.edge))?;
        feed(&self.source, &checkpoint, &mut checker, visit).await?;
        (self.key, self.edge) = (Some(key), checker.edge().clone());
        Ok(())
    }
}

/// Feeds a checker with what is there after the entries that it has.
async fn feed(
    source: &Source,
    checkpoint: &Checkpoint,
    checker: &mut Checker,
    visit: &mut impl FnMut(u64, &Entry),
) -> Result<(), Stopped> {
    let before = checker.edge().size();
    if checkpoint.size == before {
        return Ok(checker.end()?);
    }
    for path in paths_of(checkpoint.size) {
        // What was full before was compared then.
        let (TilePath::Entries { index, .. } | TilePath::Hashes { index, .. }) = path;
        let level = if let TilePath::Hashes { level, .. } = path { level } else { 0 };
        if index < before >> (TILE_HEIGHT * (level + 1)) {
            continue;
        }
        match path {
            TilePath::Entries { index, width } => {
                let leaves = TilePath::Hashes { level: 0, index, width };
                let entries = bundle_entries(&tile(source, path).await?, width);
                let hashes = tile_hashes(&tile(source, leaves).await?, width);
                let short = |path: TilePath| Finding::Short { what: format!("tile/{path}"), expected: width };
                let entries = entries.ok_or_else(|| short(path))?;
                let hashes = hashes.ok_or_else(|| short(leaves))?;
                let known = (checker.edge().size() % TILE_WIDTH as u64) as usize;
                checker.take(&entries[known..], &hashes[known..], visit)?;
            }
            TilePath::Hashes { level: 0, index, .. } => {
                // Taken with their entries; after the last of them all the leaves are there.
                if index == (checkpoint.size - 1) / TILE_WIDTH as u64 {
                    checker.end()?;
                }
            }
            TilePath::Hashes { level, index, width } => {
                let hashes = tile_hashes(&tile(source, path).await?, width).unwrap_or_default();
                checker.compare(level, index, &hashes)?;
            }
        }
    }
    Ok(())
}

async fn tile(source: &Source, path: TilePath) -> Result<Vec<u8>, Stopped> {
    let (TilePath::Hashes { width, .. } | TilePath::Entries { width, .. }) = path;
    match (source.tile(path).await.map_err(Stopped::CouldNotAsk)?, source) {
        (Some(bytes), _) => Ok(bytes),
        // A network that has signed for it and has not got it keeps something back.
        (None, Source::Network(_)) => {
            Err(Finding::Short { what: format!("tile/{path}"), expected: width }.into())
        }
        (None, Source::Folder(folder)) => {
            let problem = format!("{} holds no tile/{path}; the copy is not whole", folder.display());
            Err(Stopped::CouldNotAsk(Problem::new(problem).into()))
        }
    }
}

/// The newest cosignature of each witness that must be there.
fn cosignatures(args: &VerifyArgs, own: &Elsewhere, seen: &[Elsewhere]) -> Result<Vec<Cosigned>, Stopped> {
    let mut found = Vec::new();
    for key in &args.witness_key {
        let mut newest: Option<(u64, UnixSeconds)> = None;
        for Elsewhere { seen, note } in seen.iter().chain([own]) {
            match note.verify(key) {
                Ok(at) => newest = newest.max(Some((seen.checkpoint.size, at.unwrap_or_default()))),
                Err(NoteError::Unsigned(_)) => {}
                Err(why) => return Err(unsigned(&seen.whose)(why).into()),
            }
        }
        let (size, at) = newest.ok_or_else(|| {
            let why = NoteError::Unsigned(key.name().to_owned());
            Stopped::Found(Finding::Unsigned { whose: "no checkpoint has it".into(), why })
        })?;
        found.push(Cosigned { witness: key.name().to_owned(), size, at_seconds: at.0 });
    }
    Ok(found)
}
