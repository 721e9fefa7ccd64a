//! Epochs: for whom the bell rings and when, what a verdict leads to, and who missed it. Acts with the
//! verifier's own permit.

use gangline_guard::{Permit, act, log::entry::published_hash};
use gangline_proof::epoch::{Opening, Params, Signature, Transcript};
use gangline_rules::{
    bells,
    calibration::{Entry, Key, State, Table},
    epochs::{
        self, ENROLMENT_EPOCHS, Failure, HEARD_MAX, LATECOMER_MILLIS, OPENED_WITHIN_MILLIS, Outcome,
        TAKEN_MILLIS,
    },
    standing::{JOINING_PROOFS, Judgement, judge},
};
use gangline_store::{CalibrationRow, EpochRow, EpochStand};
use gangline_types::{
    AdapterKind, GpuClaim, GpuId, Hash, Hour, ProofId, Standing, Text, UnixMillis, UnixSeconds,
};
use gangline_wire::api::epoch::{EpochNotice, EpochReady, EpochVerdict};

use crate::{
    app::App,
    edge,
    error::ApiError,
    jobs::{
        bells::{Rota, tables},
        proofs::verifier,
    },
};

/// So long before the bell machines are told to get ready, in milliseconds.
pub const LEAD_MILLIS: u64 = 30_000;
/// A machine's own bell rings within this of being asked for, in milliseconds.
const OWN_MILLIS_MAX: u64 = 3_000;
/// Openings are waited for so long after the roots may come: their spread and a minute.
const OPENING_MILLIS: u64 = OPENED_WITHIN_MILLIS + 60_000;
/// Who missed a bell is looked for during this span after it, in milliseconds.
const MISSED_MILLIS: u64 = 900_000;

/// How much is asked of a claim: what a software device can do in a second, or nine tenths of the memory.
pub fn params(app: &App, claim: &GpuClaim) -> Params {
    match claim.kind {
        AdapterKind::Software | AdapterKind::Unknown => app.config.software_epoch,
        _ => Params::of_gpu(claim.memory_bytes),
    }
}

/// A bell for a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// At a moment of its machine's own: at enrolment, or the guided re-run of a GPU that is suspect.
    Own,
    /// The network's, in this hour.
    Hourly(Hour),
}

/// For which bell a GPU is called at this moment. A suspect one is measured again `rerun_seconds` after its last bell, beside
/// the network's: nobody waits an hour to clear.
pub fn call(stand: &EpochStand, rota: &Rota, rerun_seconds: u64, now: UnixMillis) -> Option<Call> {
    let judged_by_epochs = stand.standing == Standing::Suspect && stand.judged > 0;
    if stand.hired || stand.running {
        return None;
    }
    if stand.appealed && matches!(stand.standing, Standing::Suspect | Standing::Quarantined) {
        return Some(Call::Own);
    }
    if !(stand.standing == Standing::Proven || judged_by_epochs) {
        return None;
    }
    let hour = rota.hour(now);
    let bell = rota.moment(hour);
    let rings = bell.0.saturating_sub(LEAD_MILLIS) <= now.0 && now.0 <= bell.0 + LATECOMER_MILLIS;
    if rings && stand.last_hour.is_none_or(|last| last < hour) {
        return Some(Call::Hourly(hour));
    }
    let own = match stand.standing {
        Standing::Suspect => {
            stand.last_bell.is_none_or(|last| now.0.saturating_sub(last.0) >= rerun_seconds * 1000)
        }
        _ => stand.judged < ENROLMENT_EPOCHS,
    };
    own.then_some(Call::Own)
}

/// What a machine is told to get ready for: matrices too, for nobody knows before the bell whether they are asked.
pub async fn notice(app: &App, permit: &Permit<act::ProveGpu>) -> Result<Option<EpochNotice>, ApiError> {
    let (now, machine) = (edge::now_millis(), permit.on().machine);
    if app.quiet.is(machine, now) {
        return Ok(None);
    }
    let stands = app.store.epoch_stands(permit).await?;
    let called =
        stands.iter().filter(|stand| call(stand, &app.rota, app.config.rerun_seconds, now).is_some());
    let gpus: Vec<EpochReady> =
        called.map(|stand| EpochReady { gpu: stand.gpu, params: most(app, &stand.claim) }).collect();
    if gpus.is_empty() {
        app.quiet.until(machine, next_notice(&app.rota, now), now);
        return Ok(None);
    }
    Ok(Some(EpochNotice { gpus }))
}

/// The most that may be asked of a claim in an epoch.
fn most(app: &App, claim: &GpuClaim) -> Params {
    let plain = params(app, claim);
    if app.config.matrix_epochs_of_256 == 0 { plain } else { plain.with_matrices() }
}

/// What is asked of a claim under this beacon, of the key that is bound by `binding`.
pub fn drawn(app: &App, claim: &GpuClaim, beacon: &Hash, binding: &Hash) -> Params {
    match bells::has_matrix(beacon, binding, app.config.matrix_epochs_of_256) {
        true => most(app, claim),
        false => params(app, claim),
    }
}

/// When the next bell begins to be told of, for whoever waits.
pub fn next_notice(rota: &Rota, now: UnixMillis) -> UnixMillis {
    let hour = rota.hour(now).0;
    let told = |hour| UnixMillis(rota.moment(Hour(hour)).0.saturating_sub(LEAD_MILLIS));
    [told(hour), told(hour + 1)].into_iter().find(|at| at.0 > now.0).unwrap_or(UnixMillis(now.0 + 3_600_000))
}

/// The moment at which the bell rings for this call.
pub fn moment(call: Call, rota: &Rota, now: UnixMillis) -> UnixMillis {
    match call {
        Call::Hourly(hour) => rota.moment(hour),
        Call::Own => UnixMillis(now.0 + u64::from_le_bytes(edge::random::<8>()) % OWN_MILLIS_MAX),
    }
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
        Err(Failure::Unable(_)) => "epoch_unable",
    });
    let is_first = app.store.judge_epoch(&permit, &outcome, &finding, opened).await?;
    let in_time = match &outcome.verdict {
        Ok(shown) => Some(shown.elapsed_millis),
        Err(Failure::Late { elapsed_millis, .. }) if opened.is_some() => Some(*elapsed_millis),
        Err(_) => None,
    };
    if let Some((opening, signature)) = opened.filter(|_| is_first) {
        answer_appeal(app, &permit, row, (opening, signature), outcome.verdict.is_ok()).await?;
    }
    if let Some(elapsed_millis) = in_time.filter(|_| is_first) {
        watch(app, &permit, row, elapsed_millis).await?;
    }
    let (standing, reason) = settle_after(app, row.gpu, now, true).await?;
    Ok(EpochVerdict { accepted: outcome.verdict.is_ok(), finding, standing, reason })
}

/// Puts an epoch before the verifiers of this GPU's appeal, if one waits for it.
async fn answer_appeal(
    app: &App,
    permit: &Permit<act::Judge>,
    row: &EpochRow,
    (opening, signature): (&Opening, &Signature),
    in_time: bool,
) -> Result<(), ApiError> {
    let (Some(commitment), Some(nonce)) = (row.commitment.clone(), row.nonce) else { return Ok(()) };
    let transcript = Transcript::new(
        row.gpu,
        row.key,
        row.challenge,
        commitment,
        nonce,
        opening.clone(),
        signature.clone(),
    );
    let digest = published_hash(&serde_json::to_vec(&transcript).unwrap_or_default());
    app.store.answer_appeal(permit, row.gpu, row.proof, digest, in_time).await?;
    Ok(())
}

/// Counts a proof whose bits were right for every canary: what it would have done.
async fn watch(
    app: &App,
    permit: &Permit<act::Judge>,
    row: &EpochRow,
    elapsed_millis: u64,
) -> Result<(), ApiError> {
    let tables = tables(app).await?;
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
    settle_after(app, gpu, now, false).await
}

/// The same; `by_epoch` says that only an epoch was judged, so that nothing is written where nothing changes.
async fn settle_after(
    app: &App,
    gpu: GpuId,
    now: UnixSeconds,
    by_epoch: bool,
) -> Result<(Standing, Text<240>), ApiError> {
    let permit = verifier(now)?;
    let row = app.store.gpu(gpu).await?.ok_or_else(ApiError::hidden)?;
    let joining = app.store.outcomes(&permit, gpu, row.round).await?;
    let joined: Judgement = judge(&row.claim, &joining);
    let heard = app.store.epoch_outcomes(&permit, gpu, row.round, HEARD_MAX as u32).await?;
    let judgement = epochs::judge(joined, &row.claim, &heard, &kin(app, &row.claim).await?);
    let forged = judgement.standing == Standing::Quarantined;
    let fixed = matches!(row.standing, Standing::Quarantined | Standing::Retired);
    if fixed || joining.len() < JOINING_PROOFS && !forged {
        return Ok((row.standing, row.reason));
    }
    let same = (row.standing, &row.reason, row.profile, &row.shown_as)
        == (judgement.standing, &judgement.reason, judgement.profile, &judgement.shown_as);
    if !(by_epoch && same) {
        app.store.set_standing(&permit, gpu, &judgement).await?;
    }
    app.changed();
    app.nudge(row.resource.machine);
    Ok((judgement.standing, judgement.reason))
}

/// Medians that are promoted for the work that is asked of this claim: what else it may be shown as.
async fn kin(app: &App, claim: &GpuClaim) -> Result<Vec<Entry>, ApiError> {
    let work = params(app, claim).work();
    let tables = tables(app).await?;
    let entries = promoted(&tables).map(|table| table.entries.as_slice()).unwrap_or_default();
    Ok(entries.iter().filter(|entry| entry.key.work == work).cloned().collect())
}

/// Writes down that a GPU that was called does not answer, and what follows.
pub async fn missed(
    app: &App,
    stand: &EpochStand,
    call: Call,
    failure: Failure,
    now: UnixSeconds,
) -> Result<(), ApiError> {
    let hour = match call {
        Call::Hourly(hour) => Some(hour),
        Call::Own => None,
    };
    let bell = hour.map_or_else(edge::now_millis, |hour| app.rota.moment(hour));
    let outcome = Outcome { proof: ProofId::from_bytes(edge::random()), verdict: Err(failure) };
    let finding = Text::lossy(&outcome.in_words());
    app.metrics.judged("epoch_unable");
    app.store.miss_epoch(&verifier(now)?, stand.gpu, stand.round, (hour, bell), &outcome, &finding).await?;
    settle_after(app, stand.gpu, now, true).await?;
    Ok(())
}

/// Judges what ran out of time, and writes down who was there and did not answer the bell. Who left it for a renter is
/// held to nothing. A server that was not up before the bell accuses nobody.
pub async fn judge_overdue(app: &App, now: UnixMillis) -> Result<(), ApiError> {
    let permit = verifier(now.seconds())?;
    for row in app.store.overdue_epochs(&permit, UnixMillis(now.0.saturating_sub(TAKEN_MILLIS))).await? {
        let waits = row.commitment.is_some() && now.0 < row.bell.0 + TAKEN_MILLIS + OPENING_MILLIS;
        if !waits && !app.store.leave_to_renter(&permit, row.proof).await? {
            let outcome = Outcome { proof: row.proof, verdict: Err(Failure::Abandoned) };
            conclude(app, &row, outcome, None, now.seconds()).await?;
        }
    }
    let hour = app.rota.hour(now);
    let bell = app.rota.moment(hour);
    let over = (bell.0 + TAKEN_MILLIS..bell.0 + MISSED_MILLIS).contains(&now.0);
    if !over || app.started_at.0 + LEAD_MILLIS > bell.0 {
        return Ok(());
    }
    for (gpu, round) in app.store.absent_from(&permit, hour, bell).await? {
        let outcome = Outcome { proof: ProofId::from_bytes(edge::random()), verdict: Err(Failure::Absent) };
        let finding = Text::lossy(&outcome.in_words());
        app.store.miss_epoch(&permit, gpu, round, (Some(hour), bell), &outcome, &finding).await?;
        settle_after(app, gpu, now.seconds(), true).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use gangline_types::Backend;

    use super::*;
    use crate::config::Pace;

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
        EpochStand {
            gpu,
            claim,
            standing,
            round: 0,
            judged,
            last_hour: None,
            last_bell: Some(UnixMillis(500_000 * 3_600_000 - 60_000)),
            hired: false,
            appealed: false,
            running: false,
        }
    }

    #[test]
    fn the_bell_rings_three_times_at_enrolment_and_once_an_hour() {
        let rota = Rota::new(&[3; 32], Pace::Hourly);
        let bell = rota.moment(Hour(500_000));
        let before = UnixMillis(bell.0 - LEAD_MILLIS - 1);
        let check = |stand: &EpochStand, at: UnixMillis, expected| {
            assert_eq!(call(stand, &rota, 1_200, at), expected)
        };
        use Standing::*;
        check(&stand(Proven, 0), before, Some(Call::Own));
        check(&stand(Proven, 2), before, Some(Call::Own));
        check(&stand(Proven, 3), before, None);
        let hourly = Some(Call::Hourly(Hour(500_000)));
        for at in [UnixMillis(bell.0 - LEAD_MILLIS), bell, UnixMillis(bell.0 + LATECOMER_MILLIS)] {
            check(&stand(Proven, 3), at, hourly);
            check(&stand(Proven, 0), at, hourly);
            check(&stand(Suspect, 3), at, hourly);
            check(&stand(Suspect, 0), at, None);
            check(
                &EpochStand { last_hour: Some(Hour(500_000)), last_bell: Some(at), ..stand(Suspect, 3) },
                at,
                None,
            );
            check(&stand(Unproven, 0), at, None);
            check(&stand(Quarantined, 3), at, None);
            check(&EpochStand { hired: true, ..stand(Proven, 3) }, at, None);
            check(&EpochStand { appealed: true, ..stand(Quarantined, 3) }, at, Some(Call::Own));
            check(&EpochStand { running: true, ..stand(Proven, 3) }, at, None);
            check(&EpochStand { last_hour: Some(Hour(500_000)), ..stand(Proven, 3) }, at, None);
        }
        check(&stand(Proven, 3), UnixMillis(bell.0 + LATECOMER_MILLIS + 1), None);
        // A suspect is measured again before the next hour.
        let after = |millis| UnixMillis(bell.0 + LATECOMER_MILLIS + millis);
        let missed =
            EpochStand { last_hour: Some(Hour(500_000)), last_bell: Some(after(0)), ..stand(Suspect, 3) };
        check(&missed, after(1_200_000 - 1), None);
        check(&missed, after(1_200_000), Some(Call::Own));
    }

    #[test]
    fn the_next_notice_is_always_ahead_and_before_its_bell() {
        let rota = Rota::new(&[3; 32], Pace::Hourly);
        for offset in [0, 1, 1_799_999, 3_599_999] {
            let now = UnixMillis(500_000 * 3_600_000 + offset);
            let next = next_notice(&rota, now);
            assert!(next.0 > now.0 && next.0 < now.0 + 2 * 3_600_000);
        }
    }

    #[test]
    fn what_is_asked_is_told_apart_by_its_size() {
        assert_ne!(Params::SOFTWARE.work(), Params::of_gpu(24 << 30).work());
        assert!(Params::of_gpu(24 << 30).check().is_ok());
    }
}
