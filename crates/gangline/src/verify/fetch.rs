//! Asks the public endpoints, page by page.
//!
//! Keeps nothing of what it gave, and judges nothing, except that a list which does not move on is refused.

use gangline_types::{
    GpuId, Hour, MicroCredits, ProofId,
    public::{PublicGpu, PublicProof, PublicSeason, PublicSnapshot, PublicUptime},
};
use gangline_wire::{
    Endpoint,
    api::{
        proof::Transcript,
        public::{
            EntriesQuery, GpuPage, GpusQuery, HOURS_MAX, PAGE_MAX, SnapshotWithEntries, SnapshotsQuery,
            UptimeQuery,
        },
    },
    endpoints::{
        PublicEpochTranscript, PublicGpuProofs, PublicGpuUptime, PublicGpus, PublicSeasonNow,
        PublicSnapshotByPeriod, PublicSnapshots, PublicTranscript,
    },
};
use gangline_worker::client::{Client, ClientError};

use super::Stopped;
use crate::problem::{Problem, USAGE};

/// How often sums are asked for where a snapshot is taken meanwhile.
const TRIES: usize = 3;

/// One GPU with all that is published of it.
pub struct Gpu {
    /// The GPU itself.
    pub public: PublicGpu,
    /// Its uptime over the season's snapshots.
    pub hours: Vec<PublicUptime>,
    /// Its proofs, newest first.
    pub proofs: Vec<PublicProof>,
}

/// What a GPU is said to have of the season's shares.
pub struct Sums {
    /// The GPU.
    pub gpu: GpuId,
    /// Paid.
    pub share: MicroCredits,
    /// Held.
    pub held: MicroCredits,
}

/// What all the rest is looked at in, as of one moment.
pub struct Frame {
    /// The season.
    pub season: PublicSeason,
    /// Heads of its snapshots, oldest first.
    pub heads: Vec<PublicSnapshot>,
    /// Every GPU's sums over them.
    pub sums: Vec<Sums>,
    /// Whether no snapshot was taken while the sums were asked for: only then they are those of these snapshots.
    pub settled: bool,
}

/// A network's public face.
pub struct Public(Client);

impl Public {
    /// The network at `url`.
    ///
    /// # Errors
    /// When that is no server's URL.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        Ok(Self(Client::new(url, None)?))
    }
    /// Its URL.
    pub fn base(&self) -> &str {
        self.0.base()
    }

    pub(super) async fn ask<E: Endpoint>(
        &self,
        parameters: &[&(dyn std::fmt::Display + Sync)],
        query: &E::Query,
        none: &E::Request,
    ) -> Result<E::Response, Stopped> {
        let answer = self.0.call::<E>(parameters, query, none).await;
        answer.map_err(|error| could_not_ask::<E>(error))
    }

    /// Season, heads of snapshots and sums.
    pub async fn frame(&self) -> Result<Frame, Stopped> {
        let mut tries = 0;
        loop {
            tries += 1;
            let season = self.ask::<PublicSeasonNow>(&[], &Default::default(), &Default::default()).await?;
            let heads = self.heads().await?;
            let (mut sums, mut after) = (Vec::new(), None);
            loop {
                let page = self.gpus(after).await?;
                sums.extend(page.gpus.iter().map(|gpu| Sums {
                    gpu: gpu.id,
                    share: gpu.season_share,
                    held: gpu.season_held,
                }));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            let settled = self.heads().await?.len() == heads.len();
            if settled || tries == TRIES {
                return Ok(Frame { season, heads, sums, settled });
            }
        }
    }

    /// One snapshot with every entry of it.
    pub async fn snapshot(&self, period: u32) -> Result<SnapshotWithEntries, Stopped> {
        let mut query = EntriesQuery::default();
        let mut whole: Option<SnapshotWithEntries> = None;
        loop {
            let page = self.ask::<PublicSnapshotByPeriod>(&[&period], &query, &Default::default()).await?;
            let next = page.next;
            match &mut whole {
                None => whole = Some(page),
                Some(whole) => whole.entries.extend(page.entries),
            }
            match (next, whole.take()) {
                (None, Some(all)) => return Ok(SnapshotWithEntries { next: None, ..all }),
                (Some(next), so_far) if query.after.is_none_or(|after| next > after) => {
                    query.after = Some(next);
                    whole = so_far;
                }
                (next, _) => return Err(stuck("entries", next.map(|n| n.to_string()).unwrap_or_default())),
            }
        }
    }

    async fn heads(&self) -> Result<Vec<PublicSnapshot>, Stopped> {
        let mut heads: Vec<PublicSnapshot> = Vec::new();
        let mut query = SnapshotsQuery { from: None, limit: Some(PAGE_MAX) };
        loop {
            let page = self.ask::<PublicSnapshots>(&[], &query, &Default::default()).await?;
            heads.extend(page.snapshots);
            match page.next {
                None => return Ok(heads),
                Some(next) if query.from.is_none_or(|from| next > from) => query.from = Some(next),
                Some(next) => return Err(stuck("snapshots", next)),
            }
        }
    }

    /// The page of GPUs after this one; its `next` is after it too.
    pub async fn gpus(&self, after: Option<GpuId>) -> Result<GpuPage, Stopped> {
        let query = GpusQuery { limit: Some(PAGE_MAX), after, ..Default::default() };
        let page = self.ask::<PublicGpus>(&[], &query, &Default::default()).await?;
        match page.next {
            Some(next) if after.is_some_and(|after| next <= after) => Err(stuck("GPUs", next)),
            _ => Ok(page),
        }
    }

    /// All that is published of a GPU, its hours over these snapshots.
    pub async fn gpu(&self, public: PublicGpu, frame: &Frame) -> Result<Gpu, Stopped> {
        let hours = self.hours(public.id, &frame.season, &frame.heads).await?;
        let none = Default::default();
        let proofs = self.ask::<PublicGpuProofs>(&[&public.id], &none, &Default::default()).await?;
        Ok(Gpu { public, hours, proofs })
    }

    /// Uptime hours of one GPU from the season's start to its last snapshot.
    async fn hours(
        &self,
        gpu: GpuId,
        season: &PublicSeason,
        heads: &[PublicSnapshot],
    ) -> Result<Vec<PublicUptime>, Stopped> {
        let Some(last) = heads.last() else { return Ok(Vec::new()) };
        let (mut from, end) = (season.starts.hour().0, last.ends.hour().0.saturating_add(1));
        let mut hours = Vec::new();
        while from < end {
            let to = end.min(from.saturating_add(HOURS_MAX));
            let query = UptimeQuery { from: Some(Hour(from)), to: Some(Hour(to)) };
            let page = self.ask::<PublicGpuUptime>(&[&gpu], &query, &Default::default()).await?;
            hours.extend(page.hours);
            from = to;
        }
        Ok(hours)
    }

    /// An epoch proof's transcript; `None` where the network says that there is none.
    pub async fn epoch_transcript(
        &self,
        proof: ProofId,
    ) -> Result<Option<gangline_proof::epoch::Transcript>, Stopped> {
        let none = Default::default();
        match self.0.call::<PublicEpochTranscript>(&[&proof], &none, &Default::default()).await {
            Ok(transcript) => Ok(Some(transcript)),
            Err(ClientError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(could_not_ask::<PublicEpochTranscript>(error)),
        }
    }

    /// A proof's transcript; `None` where the network says that there is none.
    pub async fn transcript(&self, proof: ProofId) -> Result<Option<Transcript>, Stopped> {
        let none = Default::default();
        match self.0.call::<PublicTranscript>(&[&proof], &none, &Default::default()).await {
            Ok(transcript) => Ok(Some(transcript)),
            Err(ClientError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(could_not_ask::<PublicTranscript>(error)),
        }
    }
}

fn could_not_ask<E: Endpoint>(error: ClientError) -> Stopped {
    let what = format!("could not ask for {}", E::SPEC.path);
    Stopped::CouldNotAsk(anyhow::Error::new(error).context(what))
}

fn stuck(what: &str, at: impl std::fmt::Display) -> Stopped {
    let problem = Problem::new(format!("the list of {what} does not move on after {at}"));
    Stopped::CouldNotAsk(problem.code(USAGE).into())
}
