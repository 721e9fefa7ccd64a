//! One GPU's page: its standing and why, what it claims against what it has proven, its uptime, proofs
//! and shares, and what a proof cannot show. Nothing here leads to its owner.

use askama::Template;
use gangline_types::{
    AdapterKind, Hour, Text, UnixSeconds, UptimeHour,
    public::{PublicEntry, PublicGpu, PublicProof, PublicSnapshot, PublicUptime},
};

use crate::{
    chrome::{Chrome, draw},
    heat::{DAYS, Heat},
    ui,
};

/// What a GPU's page shows.
#[derive(Clone, Debug)]
pub struct GpuView {
    /// The time the page is drawn for.
    pub now: UnixSeconds,
    /// The GPU.
    pub gpu: PublicGpu,
    /// Its uptime hours of the last 90 days, in any order; hours without a minute may be left out.
    pub uptime: Vec<PublicUptime>,
    /// Minutes in which the network itself took no beats: they count against nobody.
    pub outages: Vec<(Hour, UptimeHour)>,
    /// Its proofs, newest first.
    pub proofs: Vec<ProofRow>,
    /// Its epochs, newest first.
    pub epochs: Vec<EpochRow>,
    /// Appeals against its standing, newest first.
    pub appeals: Vec<AppealRow>,
    /// Its shares of the last periods, newest first.
    pub shares: Vec<ShareRow>,
}

/// One proof and where its transcript is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofRow {
    /// The proof.
    pub proof: PublicProof,
    /// Path of its transcript as JSON in the API.
    pub transcript_href: String,
}

/// One appeal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppealRow {
    /// What became of it, in a word.
    pub state: &'static str,
    /// When it was opened.
    pub opened_at: UnixSeconds,
    /// Path of the re-run's transcript, once it was answered.
    pub transcript_href: Option<String>,
    /// How many verifiers must agree.
    pub quorum: u64,
    /// Every verifier and what it found; none while it has not spoken.
    pub verifiers: Vec<(Text<64>, Option<bool>)>,
}

/// One epoch and where its transcript is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochRow {
    /// Whether it passed.
    pub passed: bool,
    /// Which resource, what was allowed, what was measured, in words.
    pub finding: gangline_types::Text<240>,
    /// When it was judged.
    pub judged_at: UnixSeconds,
    /// Milliseconds allowed; none where nothing was calibrated.
    pub deadline_millis: Option<u64>,
    /// Path of its transcript in the API; none where it was never opened.
    pub transcript_href: Option<String>,
}

/// The GPU's line in one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareRow {
    /// The snapshot.
    pub snapshot: PublicSnapshot,
    /// The GPU's line of it.
    pub entry: PublicEntry,
}

#[derive(Template)]
#[template(path = "gpu.html")]
struct Page<'a> {
    c: &'a Chrome,
    v: &'a GpuView,
    g: &'a PublicGpu,
    heat: Heat,
}

impl Page<'_> {
    fn is_software(&self) -> bool {
        self.g.kind == AdapterKind::Software
    }
    fn backend(&self) -> &'static str {
        match self.g.backend {
            gangline_types::Backend::Vulkan => "Vulkan",
            gangline_types::Backend::Metal => "Metal",
            gangline_types::Backend::Dx12 => "Direct3D 12",
        }
    }
}

/// Draws a GPU's page.
pub fn gpu(chrome: &Chrome, view: &GpuView) -> String {
    let heat = Heat::new(&view.uptime, &view.outages, view.gpu.registered_at, view.now);
    draw(Page { c: chrome, v: view, g: &view.gpu, heat })
}
