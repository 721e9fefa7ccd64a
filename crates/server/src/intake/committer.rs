//! The thread that writes the journal: one batch at a time, one commit a batch.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use gangline_guard::beat::Batch;
use gangline_store::{Journal, StoreError};
use gangline_types::Hour;

/// What it is asked.
pub(crate) enum Job {
    /// Write this into the file of that hour.
    Append(Hour, Batch),
    /// Everything so far is about to be folded.
    Part,
    /// Everything up to this batch is in the books.
    Discard(u64, Hour),
}

/// What became of a batch.
pub(crate) struct Done {
    /// The batch, as it was.
    pub batch: Batch,
    /// Its number, once it is on disk.
    pub result: Result<u64, StoreError>,
}

/// Its two ends.
pub(crate) struct Commits {
    pub jobs: SyncSender<Job>,
    pub done: Receiver<Done>,
}

/// Starts the thread; it ends when the sender of jobs does.
pub(crate) fn start(journal: Journal, waker: Arc<mio::Waker>) -> io::Result<(Commits, JoinHandle<()>)> {
    let (jobs, asked) = sync_channel::<Job>(4);
    let (tell, done) = sync_channel::<Done>(4);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("beats-journal".into()).spawn(move || {
        let mut journal = journal;
        while let Ok(job) = asked.recv() {
            match job {
                Job::Append(hour, batch) => {
                    let result = runtime.block_on(journal.append(hour, &batch));
                    if tell.send(Done { batch, result }).is_err() {
                        break;
                    }
                    let _ = waker.wake();
                }
                Job::Part => journal.part(),
                Job::Discard(folded, now) => {
                    if let Err(error) = runtime.block_on(journal.discard(folded, now)) {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "a journal of beats that is in the books could not be deleted; it will be tried again"
                        );
                    }
                }
            }
        }
        runtime.block_on(journal.close());
    })?;
    Ok((Commits { jobs, done }, thread))
}
