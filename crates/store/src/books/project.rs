//! Filling the public projection: from the books into rows that hold no owner. This is the one place
//! where private and public rows meet, and it goes one way.

use gangline_guard::{Permit, act};
use gangline_proof::{GpuPublicKey, Signed};
use gangline_rules::uptime::CONNECTED_SECONDS;
use gangline_types::{
    MicroCredits, Standing, Text, UnixSeconds,
    public::{NetworkTotals, PublicGpu, PublicProof},
};
use gangline_wire::api::proof::Transcript;

use crate::{
    Store, StoreError,
    books::{answered, machine::gpu_row},
    sql::Columns,
};

/// What a projection changed.
#[derive(Clone, Debug, Default)]
pub struct Projected {
    /// The totals as they are now.
    pub totals: NetworkTotals,
    /// GPUs whose standing or connection changed, at most [`TOLD_MAX`] of them.
    pub changed: Vec<PublicGpu>,
    /// There was more to do than one look takes on.
    pub more: bool,
}

/// Changed GPUs that one look tells of: watchers could not follow more.
pub const TOLD_MAX: usize = 200;

answered! { Store,
    /// Brings the public projection nearer to the books: what changed since the last look, at most some thousands
    /// of GPUs at once, so that nobody waits for it long. The books have all beats up to `beats_until`, which is at most
    /// now: whoever has not beaten since may have, and is not called silent before that is known.
    async fn project(
        &self,
        permit: &Permit<act::Project>,
        beats_until: UnixSeconds,
    ) -> Result<Projected, StoreError>;
}

/// The transcript of a judged proof as it is published; none if the proof was never opened.
pub(crate) fn transcript_of(row: &impl Columns) -> Result<Option<Transcript>, StoreError> {
    let parts = (row.json_or_none("commitment")?, row.hash("nonce").ok(), row.json_or_none("opening")?);
    let (Some(commitment), Some(nonce), Some(opening)) = parts else { return Ok(None) };
    let key = row.hash_or_none("gpu_key")?.map(GpuPublicKey);
    let signed = key.zip(row.json_or_none("signature")?).map(|(key, signature)| Signed { key, signature });
    Ok(Some(Transcript {
        proof: row.id("id")?,
        gpu: row.id("gpu")?,
        challenge: row.json("challenge")?,
        commitment,
        nonce,
        opening,
        signed,
        elapsed_millis: row.int_or_none("elapsed_millis")?.unwrap_or(0),
        judged_at: row.at("judged_at")?,
        accepted: row.flag_or_none("accepted")? == Some(true),
        finding: Text::lossy(&row.text("finding")?),
    }))
}

/// A GPU as anyone may see it now, from its row with its machine's `account`, `paused`, `left_at` and `simulated`,
/// and with `hired` and `offered`. What changes for every GPU all the time is left out and filled in when it is read.
pub(crate) fn public_gpu(row: &impl Columns, now: UnixSeconds) -> Result<PublicGpu, StoreError> {
    let gpu = gpu_row(row)?;
    let shown = gpu.shown();
    let is_claimed = shown.model == gpu.claim.model;
    let public = PublicGpu {
        id: gpu.resource.gpu,
        label: gpu.label,
        model: shown.model,
        kind: shown.kind,
        claimed_model: if is_claimed { Text::default() } else { gpu.claim.model },
        backend: gpu.claim.backend,
        memory_bytes: gpu.claim.memory_bytes,
        standing: gpu.standing,
        standing_reason: gpu.reason,
        profile: gpu.profile,
        connected: false,
        rentable: false,
        hired: false,
        simulated: row.flag("simulated")?,
        registered_at: row.at("registered_at")?,
        last_beat_at: UnixSeconds(0),
        last_proof_at: row.at("proof_at")?,
        uptime_minutes_day: 0,
        season_share: MicroCredits(0),
        season_held: MicroCredits(0),
    };
    turned_gpu(row, now, public)
}

/// A GPU of which nothing was rewritten since it was `known` so: only what its beats and hires change, from its row's `beat_at`,
/// `present`, `standing` and `offered`, with its machine's `paused` and `left_at`, and with `hired`.
pub(crate) fn turned_gpu(
    row: &impl Columns,
    now: UnixSeconds,
    known: PublicGpu,
) -> Result<PublicGpu, StoreError> {
    let beat_at = row.at("beat_at")?;
    let hired = row.flag("hired")?;
    let here = row.flag("present")? && row.int_or_none("left_at")?.is_none();
    let connected = here && beat_at.0 > 0 && now.since(beat_at) <= CONNECTED_SECONDS;
    let proven = row.word::<Standing>("standing")? == Standing::Proven;
    Ok(PublicGpu {
        connected,
        rentable: connected && proven && row.flag("offered")? && !hired && !row.flag("paused")?,
        hired,
        // While it is connected, its last beat is that of its uptime, which is kept apart.
        last_beat_at: if connected { UnixSeconds(0) } else { beat_at },
        ..known
    })
}

/// What a GPU is, as bits: 1 connected, 2 rentable, 4 hired, 8 simulated.
pub(crate) fn flags_of(gpu: &PublicGpu) -> i64 {
    gpu.connected as i64 + 2 * gpu.rentable as i64 + 4 * gpu.hired as i64 + 8 * gpu.simulated as i64
}

/// Whether those who watch GPUs care about the change.
pub(crate) fn is_news(before: Option<&PublicGpu>, after: &PublicGpu) -> bool {
    let watched = |gpu: &PublicGpu| (gpu.standing, gpu.connected, gpu.rentable, gpu.hired);
    before.is_none_or(|before| watched(before) != watched(after))
}

/// A judged proof as anyone may see it.
pub(crate) fn public_proof(row: &impl Columns) -> Result<PublicProof, StoreError> {
    let challenge: gangline_proof::Challenge = row.json("challenge")?;
    let outcome: gangline_rules::standing::Outcome = row.json("outcome")?;
    Ok(PublicProof {
        id: row.id("id")?,
        gpu: row.id("gpu")?,
        judged_at: row.at("judged_at")?,
        accepted: row.flag_or_none("accepted")? == Some(true),
        finding: Text::lossy(&row.text("finding")?),
        asked: Text::lossy(&format!("{} x {}", challenge.params.n, challenge.params.steps)),
        elapsed_millis: row.int_or_none("elapsed_millis")?.unwrap_or(0),
        profile: outcome.verdict.as_ref().map(|shown| shown.profile()).unwrap_or_default(),
    })
}
