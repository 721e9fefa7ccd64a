//! The joining proofs and epochs of all GPUs, one GPU after another, each against what the log holds of it.
//!
//! The log is read when there is a verdict to compare, and on from there for those that came since. How a proof or an epoch is verified stands in
//! [`super::proofs`] and [`super::epochs`].

use gangline_types::public::{PublicEntry, PublicSnapshot};
use gangline_wire::api::epoch::PublicEpoch;

use super::{
    AGAIN_AFTER, Counts, Stopped, Which,
    epochs::{self, Seen},
    fetch::{Gpu, Public},
    logged::{Log, Logged},
    proofs::{self, Proven},
};

/// GPUs that wait for the log to be read on, at most.
const WAITING_MAX: usize = 256;

/// All of them.
pub struct Verdicts<'a> {
    public: &'a Public,
    which: Which,
    log: Option<Log>,
    seen: Seen,
    /// GPUs with a verdict that the log as it was read does not hold, with their epochs.
    waiting: Vec<(Gpu, Vec<PublicEpoch>)>,
}

/// Whether the log holds every verdict on a GPU that is to be compared.
fn holds(logged: &Logged, which: Which, gpu: &Gpu, listed: &[PublicEpoch]) -> bool {
    let proofs = gpu.proofs.iter().take(proofs::most(which)).map(|proof| proof.id);
    proofs.chain(listed.iter().map(|one| one.id)).all(|id| logged.verdicts.contains_key(&id))
}

impl<'a> Verdicts<'a> {
    /// On no GPU yet.
    pub fn new(public: &'a Public, which: Which) -> Self {
        Self { public, which, log: None, seen: Seen::default(), waiting: Vec::new() }
    }

    /// Verifies those on the next GPU, now or later.
    pub async fn take(&mut self, gpu: Gpu, proven: &mut Proven, counts: &mut Counts) -> Result<(), Stopped> {
        if self.which == Which::None {
            return Ok(());
        }
        let listed = epochs::listed(self.public, &gpu).await?;
        if listed.is_empty() && gpu.proofs.is_empty() {
            return self.check(&Logged::default(), &gpu, &listed, proven, counts).await;
        }
        // The log after the lists, for then it holds what they say.
        let log = self.log().await?;
        if holds(&log.says, self.which, &gpu, &listed) {
            self.check(&log.says, &gpu, &listed, proven, counts).await?;
        } else {
            self.waiting.push((Gpu { hours: Vec::new(), ..gpu }, listed));
        }
        self.log = Some(log);
        if self.waiting.len() < WAITING_MAX { Ok(()) } else { self.settle(proven, counts).await }
    }

    /// The log as it was read; taken, to be put back.
    async fn log(&mut self) -> Result<Log, Stopped> {
        if let Some(log) = self.log.take() {
            return Ok(log);
        }
        let mut log = Log::new(self.public)?;
        log.read_on(self.public).await?;
        Ok(log)
    }

    /// Reads the log on and verifies what waited for that.
    async fn settle(&mut self, proven: &mut Proven, counts: &mut Counts) -> Result<(), Stopped> {
        let mut log = self.log().await?;
        log.read_on(self.public).await?;
        if !self.waiting.iter().all(|(gpu, listed)| holds(&log.says, self.which, gpu, listed)) {
            // Verdicts come into the log within a second, and may be listed in less.
            tokio::time::sleep(AGAIN_AFTER).await;
            log.read_on(self.public).await?;
        }
        for (gpu, listed) in std::mem::take(&mut self.waiting) {
            self.check(&log.says, &gpu, &listed, proven, counts).await?;
        }
        self.log = Some(log);
        Ok(())
    }

    /// Verifies what still waits; no GPU comes any more.
    pub async fn end(&mut self, proven: &mut Proven, counts: &mut Counts) -> Result<(), Stopped> {
        if !self.waiting.is_empty() {
            self.settle(proven, counts).await?;
        }
        counts.bells = self.log.as_ref().map_or(0, |log| log.says.beacons.len());
        Ok(())
    }

    /// Verifies that the proof which an entry of a snapshot names carries it, and where it was not listed any more the proof itself.
    pub async fn entry(
        &mut self,
        head: &PublicSnapshot,
        entry: &PublicEntry,
        proven: &mut Proven,
        counts: &mut Counts,
    ) -> Result<(), Stopped> {
        let unseen = entry.proof.filter(|proof| !proven.checked.contains_key(proof));
        if let Some(proof) = unseen.filter(|_| self.which == Which::All) {
            let log = self.log().await?;
            proofs::check_older(self.public, &log.says, (entry.gpu, proof), proven, counts).await?;
            self.log = Some(log);
        }
        proofs::check_entry(head, entry, self.which, proven).map_err(Stopped::from)
    }

    async fn check(
        &mut self,
        logged: &Logged,
        gpu: &Gpu,
        listed: &[PublicEpoch],
        proven: &mut Proven,
        counts: &mut Counts,
    ) -> Result<(), Stopped> {
        let asked = (self.public, self.which);
        proofs::check_gpu(asked, logged, gpu, proven, counts).await?;
        if listed.is_empty() {
            return Ok(());
        }
        epochs::check_gpu(asked, logged, gpu, listed, &mut self.seen, proven, counts).await
    }
}
