//! What a network's log says of proofs and epochs: each verdict with the hash of what it was over, bells and tables of calibration.
//!
//! The log is read once, and on from there, as `gangline audit verify` reads it, so it holds together; bells and tables are checked here. Judges no
//! proof.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
};

use gangline_guard::log::{
    Edge, Entry as LogEntry, Event,
    entry::{TableStep, published_hash},
    leaf_hash,
};
use gangline_rules::bells::{self, Bell};
use gangline_types::{GpuId, Hash, Hour, ProofId, UnixMillis};
use gangline_wire::{api::epoch::PublicCalibration, endpoints::PublicCalibrations};
use serde::Serialize;

use super::{Difference, Stopped, fetch::Public};
use crate::audit::Reader;

/// What the log says of proofs and epochs.
#[derive(Default)]
pub struct Logged {
    /// What was judged of every proof, of joining and of epochs.
    pub verdicts: HashMap<ProofId, Verdict>,
    /// Beacons of bells that hold, by their moment.
    pub beacons: HashMap<UnixMillis, Hash>,
    /// Tables of calibration that were promoted, by version.
    pub promoted: HashMap<u32, Hash>,
    /// For which work which deadlines were set; none where not all tables are published any more.
    pub deadlines: Option<HashSet<(Hash, u64)>>,
    /// The last bell.
    pub last: Option<Bell>,
    /// The tree of which that bell was made.
    pub edge: Edge,
    /// Hashes of entries since.
    pub leaves: VecDeque<Hash>,
}

/// What was judged of a proof: as the log has it, or as it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whose it is.
    pub gpu: GpuId,
    /// Whether it passed.
    pub accepted: bool,
    /// Hash of the whole transcript; none where the proof was never opened.
    pub transcript: Option<Hash>,
}

impl Verdict {
    /// What is published of a GPU's proof.
    pub fn published(gpu: GpuId, accepted: bool, transcript: Option<&impl Serialize>) -> Self {
        let hash = |whole| published_hash(&serde_json::to_vec(whole).unwrap_or_default());
        Self { gpu, accepted, transcript: transcript.map(hash) }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, of {}, ", if self.accepted { "accepted" } else { "refused" }, self.gpu)?;
        match &self.transcript {
            Some(hash) => write!(f, "over the transcript with SHA-256 {hash}"),
            None => f.write_str("without a transcript"),
        }
    }
}

/// A network's log, read on and on.
pub struct Log {
    reader: Reader,
    /// What it has said so far.
    pub says: Logged,
}

impl Log {
    /// Nothing of it yet.
    ///
    /// # Errors
    /// When it could not be asked.
    pub fn new(public: &Public) -> Result<Self, Stopped> {
        let reader = Reader::new(public.base()).map_err(Stopped::CouldNotAsk)?;
        Ok(Self { reader, says: Logged::default() })
    }

    /// Reads on to its end as it is now; all of it must hold together.
    pub async fn read_on(&mut self, public: &Public) -> Result<(), Stopped> {
        let (says, mut wrong) = (&mut self.says, None);
        let mut note = |at: u64, entry: &LogEntry| {
            if let Err(found) = says.note(at, entry) {
                wrong.get_or_insert(found);
            }
        };
        if let Some(finding) = self.reader.read_on(&mut note).await.map_err(Stopped::CouldNotAsk)? {
            return Err(Difference::new("log", "one that holds together", finding).into());
        }
        if let Some(found) = wrong {
            return Err(found.into());
        }
        let none = Default::default();
        let tables = public.ask::<PublicCalibrations>(&[], &none, &Default::default()).await?;
        Ok(self.says.set_deadlines(&tables)?)
    }
}

impl Logged {
    /// Takes note of the next entry, which is at this place.
    pub fn note(&mut self, at: u64, entry: &LogEntry) -> Result<(), Difference> {
        self.leaves.push_back(leaf_hash(&entry.to_bytes()));
        match entry.event {
            Event::Bell { hour, millis, size, root, salt } => {
                self.check_bell(at, Bell { hour: Hour(hour), at: UnixMillis(millis), size, root, salt })?;
            }
            Event::Verdict { gpu, proof, accepted, transcript } => {
                self.verdicts.insert(proof, Verdict { gpu, accepted, transcript });
            }
            Event::Calibration { version, step: TableStep::Promoted, digest } => {
                self.promoted.insert(version, digest);
            }
            _ => {}
        }
        Ok(())
    }

    /// A bell: at the moment that its salt gives, made of the log as it was, promising the one before. The log only grows, so no bell is made of
    /// less of it than the one before, and no older tree has to be kept.
    fn check_bell(&mut self, place: u64, bell: Bell) -> Result<(), Difference> {
        let name = |field: &str| format!("bell of hour {}, {field}", bell.hour.0);
        let sizes = self.edge.size()..=place;
        if !sizes.contains(&bell.size) {
            let expected = format!("at least {} and at most {place}", sizes.start());
            return Err(Difference::new(name("size"), expected, bell.size));
        }
        while self.edge.size() < bell.size
            && let Some(leaf) = self.leaves.pop_front()
        {
            self.edge.push(leaf, &mut |_| {});
        }
        let root = self.edge.root();
        if root != bell.root {
            return Err(Difference::new(name("root"), root, bell.root));
        }
        let moment = bells::moment(bell.hour, &bell.salt);
        if moment != bell.at {
            return Err(Difference::new(name("moment"), moment.0, bell.at.0));
        }
        if let Some(last) = self.last {
            if last.hour >= bell.hour {
                return Err(Difference::new(name("hour"), "a later one than before", last.hour.0));
            }
            if !bells::promises((bell.hour, &bell.salt), (last.hour, &last.salt)) {
                let expected = format!("one that gives that of hour {}", last.hour.0);
                return Err(Difference::new(name("salt"), expected, bell.salt));
            }
        }
        self.last = Some(bell);
        self.beacons.insert(bell.at, bell.beacon());
        Ok(())
    }

    /// Takes the deadlines of tables that were promoted, each as the log has it.
    pub fn set_deadlines(&mut self, tables: &[PublicCalibration]) -> Result<(), Difference> {
        self.deadlines = None;
        let mut set = HashSet::new();
        for (version, digest) in &self.promoted {
            let Some(public) = tables.iter().find(|public| public.table.version == *version) else {
                // Only so many are published.
                return Ok(());
            };
            let table = crate::calibration::meant(&public.table);
            if table.digest() != *digest {
                let name = format!("calibration {version}, digest");
                return Err(Difference::new(name, digest, table.digest()));
            }
            set.extend(table.entries.iter().map(|entry| (entry.key.work, entry.deadline_millis())));
        }
        self.deadlines = Some(set);
        Ok(())
    }

    /// Compares what is published of a proof, called `what`, with its verdict's entry: nothing may be cut off, put in or changed since.
    pub fn check_verdict(&self, what: &str, proof: ProofId, published: Verdict) -> Result<(), Difference> {
        let logged = self.verdicts.get(&proof);
        if logged == Some(&published) {
            return Ok(());
        }
        let logged = logged.map_or_else(|| "nothing".to_owned(), Verdict::to_string);
        let name = format!("{what} {proof} of {}, verdict", published.gpu);
        Err(Difference::new(name, format!("{logged}, as the log says"), published))
    }
}

#[cfg(test)]
#[path = "logged_tests.rs"]
mod tests;
