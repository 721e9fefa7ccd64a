//! What the rest of the server asks of the intake.

use std::{sync::mpsc::TryRecvError, time::Instant};

use gangline_types::UnixSeconds;
use tokio::sync::oneshot;

use super::{Engine, Requester, WAITING_MAX};
use crate::intake::{Ask, Counters, committer::Job};

/// Questions answered before anything else gets its turn.
const QUESTIONS_AT_ONCE: usize = 256;

impl Engine {
    pub(super) fn questions(&mut self, now: UnixSeconds) {
        self.more = false;
        for _ in 0..QUESTIONS_AT_ONCE {
            let ask = match self.asked.try_recv() {
                Ok(ask) => ask,
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    // Nobody is left to ask: the server is gone without a word, in a test for example.
                    let (tell, _) = oneshot::channel();
                    self.stopping.get_or_insert(tell);
                    return;
                }
            };
            match ask {
                Ask::Frames(bytes, tell) => self.request(&bytes, Requester::Asker(tell), now),
                Ask::Report(mut batch, tell) => {
                    if self.pending.waiting.len() + self.pending.reports.len() >= WAITING_MAX {
                        Counters::add(&self.counters.shed);
                        let _ = tell.send(false);
                    } else {
                        self.pending.batch.append(&mut batch);
                        self.pending.reports.push(tell);
                        self.pending.since.get_or_insert_with(Instant::now);
                    }
                }
                Ask::Open(lanes, tell) => {
                    for lane in lanes {
                        self.ledger.open(&lane, &Default::default(), now);
                    }
                    let _ = tell.send(());
                }
                Ask::AnswerOpenings(answers) => {
                    for (lane, to, answer) in answers {
                        if let Some(lane) = lane {
                            self.ledger.open(&lane, &Default::default(), now);
                        }
                        self.outbox.push_opened(answer, to);
                    }
                }
                Ask::Learn(lanes) => {
                    for lane in lanes {
                        if !self.ledger.knows(lane.grant.alias()) {
                            self.ledger.open(&lane, &Default::default(), now);
                        }
                    }
                }
                Ask::End(aliases) => self.ledger.end(&aliases),
                Ask::Take(at_most, tell) => {
                    let taken = self.ledger.take(at_most, now, Instant::now());
                    if taken.is_first {
                        self.round_from = self.last_batch;
                        if let Some(commits) = &self.commits {
                            let _ = commits.jobs.try_send(Job::Part);
                        }
                    }
                    let until = taken.is_last.then_some(self.round_from);
                    let _ = tell.send((taken, until));
                }
                Ask::Turned(at_most, tell) => {
                    let _ = tell.send(self.ledger.turned(now, at_most));
                }
                Ask::Folded(until) => {
                    self.ledger.folded(now.minute());
                    if let (Some(batch), Some(commits)) = (until, &self.commits) {
                        // If its queue is full, the next fold brings another.
                        let _ = commits.jobs.try_send(Job::Discard(batch, now.minute().hour()));
                    }
                }
                Ask::Stop(tell) => self.stopping = Some(tell),
            }
        }
        self.more = true;
    }
}
