//! Judging proofs: what is asked of a claim, what a verdict leads to, and when a GPU is asked again.
//! Acts with the verifier's own permit; nothing else writes a standing.

use gangline_guard::{Actor, Job, Permit, act, permit::permit, policy::on};
use gangline_proof::MatrixParams;
use gangline_rules::{
    floors,
    standing::{Failure, JOINING_PROOFS, Outcome, Shown, judge},
};
use gangline_store::ProofRow;
use gangline_types::{GpuClaim, GpuId, Standing, Text, UnixSeconds};
use gangline_wire::api::proof::Verdict;

use crate::{app::App, edge, error::ApiError};

/// Roots later than this are late. Slowness costs nothing; this only ends waiting.
pub const DEADLINE_SECONDS: u64 = 60;
/// How long after the roots an opening is taken, in seconds.
const OPENING_SECONDS: u64 = 60;
/// A GPU that stays unproven after its joining proofs is asked again so long after the last, in seconds.
const AGAIN_UNPROVEN_SECONDS: u64 = 60;

/// From this floor on, in million multiply-adds a second, a claim is one of a fast GPU: a GTX 1080 Ti and up.
const FAST_MMACS: u64 = 50_000;

/// What is asked of a claim: enough work that a software device cannot pass for what is claimed, and more of a claim to be fast, so
/// that its time is not mostly latency. 1,024 in twelve steps is 12.9 thousand million multiply-adds; 2,048 in three is
/// 25.8 thousand million and more than any floor needs ([`floors::telling_macs`] is at most 18.1); in sixteen it is 137, at
/// the floor itself 2.7 s. All open 64 rows or more: skipping a tenth of the work passes one time in 850 at most. A claim that no
/// rate is asked for, which is one of a software device, is asked `software`.
pub fn params(claim: &GpuClaim, software: MatrixParams) -> MatrixParams {
    let floor = floors::floor(claim).rate_mmacs;
    let needed = floors::telling_macs(floor);
    if needed == 0 {
        software
    } else if floor >= FAST_MMACS {
        MatrixParams::LARGE
    } else if needed <= MatrixParams::JOINING.macs() {
        MatrixParams::JOINING
    } else {
        MatrixParams::MIDDLING
    }
}

/// The verifier's own permit.
pub fn verifier(now: UnixSeconds) -> Result<Permit<act::Judge>, ApiError> {
    Ok(permit::<act::Judge>(&Actor::job(Job::Verifier), on::Network, now)?)
}

/// Whether the network wants a proof of this GPU now.
pub async fn is_wanted(app: &App, gpu: GpuId, now: UnixSeconds) -> Result<bool, ApiError> {
    let Some(row) = app.store.gpu(gpu).await? else { return Ok(false) };
    let permit = verifier(now)?;
    if row.standing == Standing::Suspect {
        // Where its joining proofs carry its claim, or what it is shown as, its epochs have to clear it.
        let joining = app.store.outcomes(&permit, gpu, row.round).await?;
        if judge(&row.claim, &joining).standing == Standing::Proven {
            return Ok(false);
        }
    }
    let last = app.store.last_proof(&permit, gpu, row.round).await?;
    Ok(wants(row.standing, last.judged, now.since(last.judged_at), app.config.rerun_seconds))
}

/// The rule: `judged` proofs of this series were judged, the last `seconds_since` ago. A suspect GPU may have been moved,
/// cooled or repaired: its re-run is three more, one after the other.
fn wants(standing: Standing, judged: u32, seconds_since: u64, rerun_seconds: u64) -> bool {
    match standing {
        Standing::Unproven => (judged as usize) < JOINING_PROOFS || seconds_since >= AGAIN_UNPROVEN_SECONDS,
        Standing::Suspect => {
            !(judged as usize).is_multiple_of(JOINING_PROOFS) || seconds_since >= rerun_seconds
        }
        Standing::Proven | Standing::Quarantined | Standing::Retired => false,
    }
}

/// Writes a verdict down and what follows from it.
pub async fn conclude(
    app: &App,
    row: &ProofRow,
    outcome: Outcome,
    opened: Option<(&gangline_proof::Opening, Option<&gangline_proof::Signature>)>,
    now: UnixSeconds,
) -> Result<Verdict, ApiError> {
    let judge_permit = verifier(now)?;
    let profile = outcome.verdict.as_ref().map(Shown::profile).unwrap_or_default();
    let finding: Text<240> = Text::lossy(&match &outcome.verdict {
        Ok(shown) => format!(
            "right: {} multiply-adds in {} ms, {} million a second",
            shown.macs, shown.elapsed_millis, profile.matrix_mmacs
        ),
        Err(Failure::WrongBits(what)) => format!("wrong bits: {what}"),
        Err(Failure::Late) => format!("late: no roots within {DEADLINE_SECONDS} s"),
        Err(Failure::Abandoned) => "the roots were never opened".to_owned(),
    });
    app.metrics.judged(match &outcome.verdict {
        Ok(_) => "right",
        Err(Failure::WrongBits(_)) => "wrong_bits",
        Err(Failure::Late) => "late",
        Err(Failure::Abandoned) => "abandoned",
    });
    app.store.judge_proof(&judge_permit, row.proof, &outcome, &finding, opened).await?;
    let gpu = app.store.gpu(row.gpu).await?.ok_or_else(ApiError::hidden)?;
    let claims = format!("{}, driver {}", gpu.claim.model, gpu.claim.driver);
    app.noticer.judged(now, claims, outcome.verdict.is_err());
    let outcomes = app.store.outcomes(&judge_permit, row.gpu, gpu.round).await?;
    // All joining proofs are asked before a GPU is proven or suspect, so that its profile is a lower bound
    // over all of them; forged bits need no second look.
    let (standing, mut reason) = super::epochs::settle(app, row.gpu, now).await?;
    if outcomes.len() < JOINING_PROOFS && standing != Standing::Quarantined {
        reason = Text::lossy(&format!("{} of {JOINING_PROOFS} joining proofs judged", outcomes.len()));
    }
    app.changed();
    app.nudge(gpu.resource.machine);
    let again = wants(standing, outcomes.len() as u32, 0, app.config.rerun_seconds);
    Ok(Verdict { accepted: outcome.verdict.is_ok(), finding, profile, standing, reason, again })
}

/// Judges what ran out of time: late without roots, abandoned without an opening.
pub async fn judge_overdue(app: &App, now: UnixSeconds) -> Result<(), ApiError> {
    let permit = verifier(now)?;
    let millis = edge::now_millis();
    for row in app.store.overdue_proofs(&permit, millis).await? {
        let failure = if row.commitment.is_none() { Failure::Late } else { Failure::Abandoned };
        if failure == Failure::Abandoned && millis.0 < row.deadline_at.0 + OPENING_SECONDS * 1000 {
            continue;
        }
        conclude(app, &row, Outcome { proof: row.proof, verdict: Err(failure) }, None, now).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_tells_a_software_device_from_every_claim() {
        for reference in floors::table() {
            let claim = GpuClaim {
                slot: gangline_types::Hash::default(),
                model: Text::lossy(&reference.words.join(" ")),
                kind: gangline_types::AdapterKind::Discrete,
                backend: gangline_types::Backend::Vulkan,
                driver: Text::default(),
                pci_vendor: 0,
                pci_device: 0,
                memory_bytes: 0,
            };
            let asked = params(&claim, MatrixParams::JOINING);
            assert!(asked.check().is_ok());
            assert!(
                asked.macs() >= floors::telling_macs(floors::floor(&claim).rate_mmacs),
                "{}",
                claim.model
            );
            let rows = (asked.rows * asked.steps) as i32;
            assert!(0.9f64.powi(rows) <= 0.0012, "{rows} rows let a tenth be skipped too often");
        }
    }

    #[test]
    fn proofs_are_wanted_until_three_are_judged_and_then_now_and_then() {
        let wants = |standing, judged, since| wants(standing, judged, since, 1_200);
        assert!(wants(Standing::Unproven, 0, u64::MAX));
        assert!(wants(Standing::Unproven, 2, 0));
        assert!(!wants(Standing::Unproven, 3, 0));
        assert!(wants(Standing::Unproven, 3, AGAIN_UNPROVEN_SECONDS));
        assert!(!wants(Standing::Suspect, 3, AGAIN_UNPROVEN_SECONDS));
        assert!(wants(Standing::Suspect, 3, 1_200));
        assert!(wants(Standing::Suspect, 4, 0) && wants(Standing::Suspect, 5, 0));
        assert!(!wants(Standing::Suspect, 6, 1_199));
        assert!(!wants(Standing::Quarantined, 3, u64::MAX));
        assert!(!wants(Standing::Proven, 3, u64::MAX));
    }
}
