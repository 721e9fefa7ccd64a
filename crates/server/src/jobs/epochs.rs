//! Epochs: for whom the bell rings and when, what a verdict leads to, and who missed it. Acts with the
//! verifier's own permit.

use gangline_guard::{Permit, act};
use gangline_proof::epoch::{Opening, Params, Signature};
use gangline_rules::{
    calibration::{Key, State, Table},
    epochs::{self, DECIDING, ENROLMENT_EPOCHS, Failure, LATECOMER_MILLIS, Outcome, TAKEN_MILLIS},
    standing::{JOINING_PROOFS, Judgement, judge},
};
use gangline_store::{CalibrationRow, EpochRow, EpochStand};
use gangline_types::{
    AdapterKind, GpuClaim, GpuId, Hash, Hour, ProofId, Standing, Text, UnixMillis, UnixSeconds,
};
use gangline_wire::api::epoch::{EpochNotice, EpochReady, EpochVerdict};

use crate::{app::App, edge, error::ApiError, jobs::proofs::verifier};

/// So long before the bell machines are told to get ready, in milliseconds.
pub const LEAD_MILLIS: u64 = 30_000;
/// A bell of enrolment rings within this of being asked for, in milliseconds.
const ENROLMENT_MILLIS_MAX: u64 = 3_000;
/// Openings are waited for so long after the roots may come: their spread and a minute.
const OPENING_MILLIS: u64 = 360_000;
/// Who missed a bell is looked for during this span after it, in milliseconds.
const MISSED_MILLIS: u64 = 900_000;

/// How much is asked of a claim: what a software device can do in a second, or nine tenths of the memory.
pub fn params(app: &App, claim: &GpuClaim) -> Params {
    match claim.kind {
        AdapterKind::Software | AdapterKind::Unknown => app.config.software_epoch,
        _ => Params::of_gpu(claim.memory_bytes),
    }
}

/// A hash of how much is asked: what medians are kept apart by.
pub fn work(params: &Params) -> Hash {
    let json = serde_json::to_vec(params).unwrap_or_default();
    let mut h = blake3::Hasher::new_derive_key("gangline 2026 work of an epoch");
    Hash(*h.update(&json).finalize().as_bytes())
}

/// A bell for a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// One of those at enrolment: at a moment of its machine's own.
    Enrolment,
    /// The network's, in this hour.
    Hourly(Hour),
}

/// For which bell a GPU is called at this moment.
pub fn call(stand: &EpochStand, secret: &[u8; 32], now: UnixMillis) -> Option<Call> {
    let judged_by_epochs = stand.standing == Standing::Suspect && stand.judged > 0;
    if stand.hired || stand.running || !(stand.standing == Standing::Proven || judged_by_epochs) {
        return None;
    }
    let hour = Hour((now.0 / 3_600_000) as u32);
    let bell = epochs::bell(secret, hour);
    let rings = bell.0.saturating_sub(LEAD_MILLIS) <= now.0 && now.0 <= bell.0 + LATECOMER_MILLIS;
    if rings && stand.last_hour.is_none_or(|last| last < hour) {
        return Some(Call::Hourly(hour));
    }
    (stand.standing == Standing::Proven && stand.judged < ENROLMENT_EPOCHS).then_some(Call::Enrolment)
}

/// What a machine is told to get ready for.
pub async fn notice(app: &App, permit: &Permit<act::ProveGpu>) -> Result<Option<EpochNotice>, ApiError> {
    let now = edge::now_millis();
    let stands = app.store.epoch_stands(permit).await?;
    let called = stands.iter().filter(|stand| call(stand, &app.beacon_secret, now).is_some());
    let gpus: Vec<EpochReady> =
        called.map(|stand| EpochReady { gpu: stand.gpu, params: params(app, &stand.claim) }).collect();
    Ok((!gpus.is_empty()).then_some(EpochNotice { gpus }))
}

/// When the next bell begins to be told of, for whoever waits.
pub fn next_notice(secret: &[u8; 32], now: UnixMillis) -> UnixMillis {
    let hour = (now.0 / 3_600_000) as u32;
    let told = |hour| UnixMillis(epochs::bell(secret, Hour(hour)).0.saturating_sub(LEAD_MILLIS));
    [told(hour), told(hour + 1)].into_iter().find(|at| at.0 > now.0).unwrap_or(UnixMillis(now.0 + 3_600_000))
}

/// The moment at which the bell rings for this call.
pub fn moment(call: Call, secret: &[u8; 32], now: UnixMillis) -> UnixMillis {
    match call {
        Call::Hourly(hour) => epochs::bell(secret, hour),
        Call::Enrolment => UnixMillis(now.0 + u64::from_le_bytes(edge::random::<8>()) % ENROLMENT_MILLIS_MAX),
    }
}

/// The beacon of a bell: the log's newest checkpoint and the network's secret, and for a machine's own bells
/// fresh randomness as well.
pub async fn beacon(app: &App, call: Call, bell: UnixMillis) -> Result<Hash, ApiError> {
    let checkpoint = app.store.public().log_checkpoint().await?.unwrap_or_default();
    let root = Hash(*blake3::hash(checkpoint.as_bytes()).as_bytes());
    let fresh = match call {
        Call::Hourly(_) => Hash::default(),
        Call::Enrolment => edge::random_hash(),
    };
    Ok(epochs::beacon(&app.beacon_secret, &root, bell, &fresh))
}

/// The table that sets deadlines.
pub fn promoted(tables: &[CalibrationRow]) -> Option<&Table> {
    tables.iter().find(|row| row.state == State::Promoted).map(|row| &row.table)
}

/// Writes a verdict down and what follows from it.
pub async fn conclude(
    app: &App,
    row: &EpochRow,
    outcome: Outcome,
    opened: Option<(&Opening, &Signature)>,
    now: UnixSeconds,
) -> Result<EpochVerdict, ApiError> {
    let permit = verifier(now)?;
    let finding: Text<240> = Text::lossy(&outcome.in_words());
    app.metrics.judged(match &outcome.verdict {
        Ok(_) => "epoch_right",
        Err(Failure::WrongBits(_)) => "epoch_wrong_bits",
        Err(Failure::Late { .. }) => "epoch_late",
        Err(Failure::Abandoned) => "epoch_abandoned",
        Err(Failure::Absent) => "epoch_absent",
    });
    let is_first = app.store.judge_epoch(&permit, &outcome, &finding, opened).await?;
    let in_time = match &outcome.verdict {
        Ok(shown) => Some(shown.elapsed_millis),
        Err(Failure::Late { elapsed_millis, .. }) if opened.is_some() => Some(*elapsed_millis),
        Err(_) => None,
    };
    if let Some(elapsed_millis) = in_time.filter(|_| is_first) {
        watch(app, &permit, row, elapsed_millis).await?;
    }
    let (standing, reason) = settle(app, row.gpu, now).await?;
    Ok(EpochVerdict { accepted: outcome.verdict.is_ok(), finding, standing, reason })
}

/// Counts a proof whose bits were right for every canary: what it would have done.
async fn watch(
    app: &App,
    permit: &Permit<act::Judge>,
    row: &EpochRow,
    elapsed_millis: u64,
) -> Result<(), ApiError> {
    let tables = app.store.calibrations().await?;
    let canaries = tables.iter().filter(|table| table.state == State::Canary);
    let Some(gpu) = app.store.gpu(row.gpu).await? else { return Ok(()) };
    let key = Key::of(&gpu.claim, row.work);
    for canary in canaries {
        let Some(entry) = canary.table.find(&key) else { continue };
        let would_fail = elapsed_millis > entry.deadline_millis();
        app.store.watch_calibration(permit, canary.table.version, would_fail).await?;
    }
    Ok(())
}

/// Derives a GPU's standing anew from its joining proofs and its last epochs, and writes it down. A quarantined
/// or retired GPU is left as it is, and so is one whose joining proofs are not all judged.
pub async fn settle(app: &App, gpu: GpuId, now: UnixSeconds) -> Result<(Standing, Text<240>), ApiError> {
    let permit = verifier(now)?;
    let row = app.store.gpu(gpu).await?.ok_or_else(ApiError::hidden)?;
    let joining = app.store.outcomes(&permit, gpu, row.round).await?;
    let joined: Judgement = judge(&row.claim, &joining);
    let last = app.store.epoch_outcomes(&permit, gpu, row.round, DECIDING as u32).await?;
    let judgement = epochs::judge(joined, &last);
    let forged = judgement.standing == Standing::Quarantined;
    let fixed = matches!(row.standing, Standing::Quarantined | Standing::Retired);
    if fixed || joining.len() < JOINING_PROOFS && !forged {
        return Ok((row.standing, row.reason));
    }
    app.store.set_standing(&permit, gpu, &judgement).await?;
    app.changed();
    app.nudge(row.resource.machine);
    Ok((judgement.standing, judgement.reason))
}

/// Judges what ran out of time, and writes down who was there and did not answer the bell. A server that was
/// not up before the bell accuses nobody.
pub async fn judge_overdue(app: &App, now: UnixMillis) -> Result<(), ApiError> {
    let permit = verifier(now.seconds())?;
    for row in app.store.overdue_epochs(&permit, UnixMillis(now.0.saturating_sub(TAKEN_MILLIS))).await? {
        let waits = row.commitment.is_some() && now.0 < row.bell.0 + TAKEN_MILLIS + OPENING_MILLIS;
        if !waits {
            let outcome = Outcome { proof: row.proof, verdict: Err(Failure::Abandoned) };
            conclude(app, &row, outcome, None, now.seconds()).await?;
        }
    }
    let hour = Hour((now.0 / 3_600_000) as u32);
    let bell = epochs::bell(&app.beacon_secret, hour);
    let over = (bell.0 + TAKEN_MILLIS..bell.0 + MISSED_MILLIS).contains(&now.0);
    if !over || app.started_at.0 + LEAD_MILLIS > bell.0 {
        return Ok(());
    }
    for (gpu, round) in app.store.absent_from(&permit, hour, bell).await? {
        let outcome = Outcome { proof: ProofId::from_bytes(edge::random()), verdict: Err(Failure::Absent) };
        let finding = Text::lossy(&outcome.in_words());
        app.store.miss_epoch(&permit, gpu, round, bell, &outcome, &finding).await?;
        settle(app, gpu, now.seconds()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use gangline_types::Backend;

    use super::*;

    const SECRET: [u8; 32] = [3; 32];

    fn stand(standing: Standing, judged: u32) -> EpochStand {
        let claim = GpuClaim {
            slot: Hash::default(),
            model: Text::default(),
            kind: AdapterKind::Discrete,
            backend: Backend::Vulkan,
            driver: Text::default(),
            pci_vendor: 0,
            pci_device: 0,
            memory_bytes: 24 << 30,
        };
        let gpu = GpuId::from_bytes([1; 16]);
        EpochStand { gpu, claim, standing, round: 0, judged, last_hour: None, hired: false, running: false }
    }

    #[test]
    fn the_bell_rings_three_times_at_enrolment_and_once_an_hour() {
        let bell = epochs::bell(&SECRET, Hour(500_000));
        let before = UnixMillis(bell.0 - LEAD_MILLIS - 1);
        let check =
            |stand: &EpochStand, at: UnixMillis, expected| assert_eq!(call(stand, &SECRET, at), expected);
        use Standing::*;
        check(&stand(Proven, 0), before, Some(Call::Enrolment));
        check(&stand(Proven, 2), before, Some(Call::Enrolment));
        check(&stand(Proven, 3), before, None);
        let hourly = Some(Call::Hourly(Hour(500_000)));
        for at in [UnixMillis(bell.0 - LEAD_MILLIS), bell, UnixMillis(bell.0 + LATECOMER_MILLIS)] {
            check(&stand(Proven, 3), at, hourly);
            check(&stand(Proven, 0), at, hourly);
            check(&stand(Suspect, 3), at, hourly);
            check(&stand(Suspect, 0), at, None);
            check(&stand(Unproven, 0), at, None);
            check(&stand(Quarantined, 3), at, None);
            check(&EpochStand { hired: true, ..stand(Proven, 3) }, at, None);
            check(&EpochStand { running: true, ..stand(Proven, 3) }, at, None);
            check(&EpochStand { last_hour: Some(Hour(500_000)), ..stand(Proven, 3) }, at, None);
        }
        check(&stand(Proven, 3), UnixMillis(bell.0 + LATECOMER_MILLIS + 1), None);
    }

    #[test]
    fn the_next_notice_is_always_ahead_and_before_its_bell() {
        for offset in [0, 1, 1_799_999, 3_599_999] {
            let now = UnixMillis(500_000 * 3_600_000 + offset);
            let next = next_notice(&SECRET, now);
            assert!(next.0 > now.0 && next.0 < now.0 + 2 * 3_600_000);
        }
    }

    #[test]
    fn what_is_asked_is_told_apart_by_its_size() {
        assert_ne!(work(&Params::SOFTWARE), work(&Params::of_gpu(24 << 30)));
        assert!(Params::of_gpu(24 << 30).check().is_ok());
    }
}
