//! One GPU's page, from the public projection alone.

use axum::response::Response;
use gangline_pages::{AppealRow, EpochRow, GpuView, ProofRow, ShareRow};
use gangline_rules::uptime;
use gangline_types::{GpuId, Hour, Minute};
use gangline_wire::{Endpoint, api::public::HOURS_MAX, endpoints as e};

use super::{chrome, page};
use crate::{error::ApiError, request::Ctx};

/// Periods whose shares are listed.
const SHARES: u32 = 24;

pub async fn show(ctx: Ctx<e::GpuPageHtml>) -> Result<Response, ApiError> {
    let id: GpuId = ctx.param("gpu")?;
    let public = ctx.app.store.public();
    let gpu = public.gpu(id).await?.ok_or_else(ApiError::hidden)?;
    let to = Hour(ctx.now.minute().hour().0 + 1);
    let hours = public.uptime(id, Hour(to.0.saturating_sub(HOURS_MAX)), to).await?;
    let proofs = public
        .proofs(id)
        .await?
        .into_iter()
        .map(|proof| ProofRow { transcript_href: e::PublicTranscript::path(&[&proof.id]), proof });
    let epochs = public.epochs(id).await?.into_iter().map(|epoch| EpochRow {
        passed: epoch.accepted,
        finding: epoch.finding,
        judged_at: epoch.judged_at,
        deadline_millis: epoch.deadline_millis,
        transcript_href: epoch.transcript.then(|| e::PublicEpochTranscript::path(&[&epoch.id])),
    });
    let appeals = public.appeals(Some(id)).await?.into_iter().map(|appeal| AppealRow {
        state: match appeal.upheld {
            Some(true) => "upheld",
            Some(false) => "dismissed",
            None => "open",
        },
        opened_at: appeal.opened_at,
        transcript_href: appeal.proof.map(|proof| e::PublicEpochTranscript::path(&[&proof])),
        quorum: u64::from(appeal.quorum),
        verifiers: appeal
            .verifiers
            .into_iter()
            .map(|verifier| {
                let verdict = appeal.verdicts.iter().find(|verdict| verdict.verifier == verifier.key);
                (verifier.name, verdict.map(|verdict| verdict.right))
            })
            .collect(),
    });
    let mut shares = Vec::new();
    if let Some(season) = public.season().await? {
        for (period, entry) in public.gpu_entries(season.number, id, SHARES).await? {
            if let Some(snapshot) = public.snapshot(season.number, period).await? {
                shares.push(ShareRow { snapshot, entry });
            }
        }
    }
    // Up to the last minute that is recorded by now.
    let recorded = Minute(ctx.now.minute().0.saturating_sub(2));
    let up = public.intake_up(Hour(to.0.saturating_sub(HOURS_MAX)), to).await?;
    let outages = uptime::outages(up, recorded).into_iter().collect();
    let view = GpuView {
        now: ctx.now,
        gpu,
        uptime: hours,
        outages,
        proofs: proofs.collect(),
        epochs: epochs.collect(),
        appeals: appeals.collect(),
        shares,
    };
    Ok(page(gangline_pages::gpu(&chrome(&ctx), &view)))
}
