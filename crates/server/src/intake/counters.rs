//! What the intake counts. No label, no id.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident = $metric:literal, $kind:literal;)+) => {
        /// Counters of one intake.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[doc = $doc])+ pub $name: AtomicU64),+ }
        impl Counters {
            /// Adds them in the Prometheus text format.
            pub fn render(&self, out: &mut String) {
                $(
                    let _ = write!(
                        out, "# HELP {0} {1}\n# TYPE {0} {2}\n{0} {3}\n",
                        $metric, concat!($($doc),+).trim(), $kind, self.$name.load(Ordering::Relaxed)
                    );
                )+
            }
        }
    };
}

counters! {
    /// Beats whose MAC was right.
    authentic = "gangline_beats_authentic_total", "counter";
    /// Beats acknowledged as durable, repeats included.
    durable = "gangline_beats_durable_total", "counter";
    /// Of those, repeats of what was on disk.
    repeated = "gangline_beats_repeated_total", "counter";
    /// Beats answered with too late or too early.
    untimely = "gangline_beats_untimely_total", "counter";
    /// Beats told to prove the machine's key again.
    reopen = "gangline_beats_reopen_total", "counter";
    /// Questions for an epoch by datagram that a lane of this network vouched for.
    openings = "gangline_beat_openings_total", "counter";
    /// Of those, copies of one that had been answered.
    openings_repeated = "gangline_beat_openings_repeated_total", "counter";
    /// Beats and questions put off or dropped: the machine's share or the queue was used up, or nothing could be written.
    shed = "gangline_beats_shed_total", "counter";
    /// Frames that were none or whose MAC was wrong; nothing else was done about them.
    unauthentic = "gangline_beats_unauthentic_total", "counter";
    /// Batches written into the journal.
    commits = "gangline_beat_commits_total", "counter";
    /// Batches that could not be written.
    commits_failed = "gangline_beat_commits_failed_total", "counter";
    /// Turns of the intake that broke off by a mistake of ours; what they were about was asked for again.
    broke_off = "gangline_beat_turns_broke_off_total", "counter";
    /// Open connections of the intake's own HTTP.
    connections = "gangline_beat_connections", "gauge";
    /// Machines that can beat now.
    lanes = "gangline_beat_lanes", "gauge";
    /// GPU-hours that wait to be folded into the books.
    waiting = "gangline_beats_unfolded", "gauge";
    /// Seconds by which the books are behind the oldest of these at most.
    behind = "gangline_beats_behind_seconds", "gauge";
}

impl Counters {
    /// Counts one.
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
