//! Batches on their way to the disk: when one is sent, and what is answered when it is there or will never be.

use std::sync::{atomic::Ordering, mpsc::TryRecvError};

use gangline_guard::beat::Line;
use gangline_types::UnixSeconds;
use gangline_wire::beat::Outcome;

use super::{BATCH_MAX, Engine, Pending, WAIT_SECONDS, Waiting};
use crate::intake::{
    Counters,
    committer::{Done, Job},
};

impl Engine {
    /// Forgets lanes whose epoch is over and those that were left; not while a beat on one of them is on its way to the disk, or it would be
    /// acknowledged and then be nobody's.
    fn forget(&mut self, now: UnixSeconds) {
        if !self.forgetting || self.flying.is_some() {
            return;
        }
        self.forgetting = false;
        let waits = self.pending.batch.lines().iter().filter_map(|line| match line {
            Line::Frame { alias, .. } => Some(*alias),
            _ => None,
        });
        self.ledger.forget(now, &waits.collect());
    }

    pub(super) fn commit(&mut self, now: UnixSeconds) {
        self.forget(now);
        let Some(since) = self.pending.since else { return };
        let full = self.pending.waiting.len() >= BATCH_MAX;
        if self.flying.is_some() || !(full || since.elapsed() >= self.linger()) {
            return;
        }
        let Pending { batch, waiting, reports, .. } = std::mem::take(&mut self.pending);
        self.last_size = waiting.len();
        self.flying = Some((waiting, reports));
        if let Some(commits) = &self.commits {
            // If its thread has ended, the next turn finds that out.
            let _ = commits.jobs.send(Job::Append(now.minute().hour(), batch));
        }
    }

    pub(super) fn flying_failed(&mut self) {
        let now = self.clock.now();
        let Some((waiting, reports)) = self.flying.take() else { return };
        for report in reports {
            let _ = report.send(false);
        }
        for Waiting { verified, to } in waiting {
            Counters::add(&self.counters.shed);
            self.say(&verified, to, Outcome::Busy, WAIT_SECONDS, now);
        }
    }

    /// Answers what has been committed; `false` if the journal has ended, so that nothing ever will be again.
    pub(super) fn commits_done(&mut self) -> bool {
        let Some(commits) = &self.commits else { return true };
        let Done { batch, result } = match commits.done.try_recv() {
            Ok(done) => done,
            Err(TryRecvError::Empty) => return true,
            Err(TryRecvError::Disconnected) => {
                tracing::error!("the journal of beats has ended; nothing can be acknowledged any more");
                self.flying_failed();
                return false;
            }
        };
        // Taken before anything can break off: a batch that is done is not waited for again.
        let flown = self.flying.take();
        let now = self.clock.now();
        match result {
            Ok(number) => {
                Counters::add(&self.counters.commits);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("beats can be written down again");
                }
                self.last_batch = number;
                for line in batch.lines() {
                    self.ledger.apply(line);
                }
                self.counters.waiting.store(self.ledger.waiting() as u64, Ordering::Relaxed);
                let (waiting, reports) = flown.unwrap_or_default();
                for report in reports {
                    let _ = report.send(true);
                }
                for Waiting { verified, to } in waiting {
                    self.say(&verified, to, Outcome::Durable, 0, now);
                }
            }
            Err(error) => {
                Counters::add(&self.counters.commits_failed);
                // Minutes in which nothing could be written are our outage.
                self.watch.whole = false;
                if !std::mem::replace(&mut self.failing, true) {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "beats cannot be written down; machines are told to come back");
                }
                self.flying = flown;
                self.flying_failed();
            }
        }
        true
    }
}
