//! Counters in the Prometheus text format. No label carries an id.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use gangline_types::public::NetworkTotals;

use crate::listen::Counters;

/// Counters of one process.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Minutes of GPUs credited.
    pub beats_credited: AtomicU64,
    /// Minutes of GPUs refused.
    pub beats_refused: AtomicU64,
    /// Snapshots taken.
    pub snapshots: AtomicU64,
    /// Refusals that were counted but not written down, for a flood of them.
    pub refusals_unrecorded: AtomicU64,
    /// Up to when the books have every beat, in seconds since 1970.
    pub beats_until: AtomicU64,
    /// Connections.
    pub connections: Arc<Counters>,
    /// Alarms, repeats too.
    pub alarms: AtomicU64,
    /// Requests that no detector saw, for a flood of them.
    pub unnoticed: AtomicU64,
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    refusals: Mutex<BTreeMap<String, u64>>,
    proofs: Mutex<BTreeMap<&'static str, u64>>,
    told: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

fn count<K: Ord>(map: &Mutex<BTreeMap<K, u64>>, key: K) {
    *map.lock().unwrap_or_else(|e| e.into_inner()).entry(key).or_default() += 1;
}

impl Metrics {
    /// A request to an endpoint was answered.
    pub fn answered(&self, endpoint: &'static str, status: u16) {
        count(&self.requests, (endpoint, status));
    }
    /// A request was refused with this code.
    pub fn refused(&self, code: &str) {
        count(&self.refusals, code.to_owned());
    }
    /// A proof was judged.
    pub fn judged(&self, outcome: &'static str) {
        count(&self.proofs, outcome);
    }
    /// A try to tell people outside ended so.
    pub fn told(&self, outlet: &'static str, outcome: &'static str) {
        count(&self.told, (outlet, outcome));
    }
    /// The text format.
    pub fn render(&self, totals: &NetworkTotals, tunnels: usize) -> String {
        let mut out = String::new();
        let mut gauge = |name: &str, kind: &str, help: &str, value: u64| {
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        };
        gauge("gangline_gpus_connected", "gauge", "GPUs that beat within three minutes.", totals.connected);
        gauge("gangline_gpus_proven", "gauge", "Connected GPUs whose standing is proven.", totals.proven);
        gauge("gangline_gpus_rentable", "gauge", "Proven GPUs that are offered and free.", totals.rentable);
        gauge("gangline_gpus_hired", "gauge", "GPUs that run a cluster.", totals.hired);
        gauge("gangline_tunnels_open", "gauge", "Open tunnels to clusters.", tunnels as u64);
        let of = |n: &AtomicU64| n.load(Ordering::Relaxed);
        gauge("gangline_connections_open", "gauge", "Open connections.", of(&self.connections.open));
        gauge(
            "gangline_connections_turned_away_total",
            "counter",
            "Connections closed at once, for a limit.",
            of(&self.connections.turned_away),
        );
        gauge(
            "gangline_tls_handshakes_failed_total",
            "counter",
            "Connections whose TLS did not come about.",
            of(&self.connections.handshakes_failed),
        );
        gauge(
            "gangline_beat_minutes_credited_total",
            "counter",
            "Minutes of GPUs credited.",
            of(&self.beats_credited),
        );
        gauge(
            "gangline_beat_minutes_refused_total",
            "counter",
            "Minutes of GPUs refused.",
            of(&self.beats_refused),
        );
        gauge("gangline_snapshots_total", "counter", "Snapshots taken.", of(&self.snapshots));
        gauge(
            "gangline_refusals_unrecorded_total",
            "counter",
            "Refusals counted but not written down, for a flood of them.",
            of(&self.refusals_unrecorded),
        );
        gauge("gangline_alarms_total", "counter", "Alarms, repeats too.", of(&self.alarms));
        gauge(
            "gangline_requests_unnoticed_total",
            "counter",
            "Requests that no detector saw, for a flood of them.",
            of(&self.unnoticed),
        );
        let locked = |e: &Mutex<BTreeMap<String, u64>>| e.lock().unwrap_or_else(|e| e.into_inner()).clone();
        out.push_str("# HELP gangline_refusals_total Refused requests by code.\n# TYPE gangline_refusals_total counter\n");
        for (code, n) in locked(&self.refusals) {
            let _ = writeln!(out, "gangline_refusals_total{{code=\"{code}\"}} {n}");
        }
        out.push_str(
            "# HELP gangline_proofs_total Judged proofs by outcome.\n# TYPE gangline_proofs_total counter\n",
        );
        for (outcome, n) in self.proofs.lock().unwrap_or_else(|e| e.into_inner()).iter() {
            let _ = writeln!(out, "gangline_proofs_total{{outcome=\"{outcome}\"}} {n}");
        }
        out.push_str(
            "# HELP gangline_messages_total Tries to tell people of incidents.\n# TYPE gangline_messages_total counter\n",
        );
        for ((outlet, outcome), n) in self.told.lock().unwrap_or_else(|e| e.into_inner()).iter() {
            let _ = writeln!(out, "gangline_messages_total{{outlet=\"{outlet}\",outcome=\"{outcome}\"}} {n}");
        }
        out.push_str(
            "# HELP gangline_requests_total Answered requests.\n# TYPE gangline_requests_total counter\n",
        );
        for ((endpoint, status), n) in self.requests.lock().unwrap_or_else(|e| e.into_inner()).iter() {
            let _ =
                writeln!(out, "gangline_requests_total{{endpoint=\"{endpoint}\",status=\"{status}\"}} {n}");
        }
        out
    }
}
