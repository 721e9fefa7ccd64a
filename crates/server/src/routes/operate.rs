//! What an operator does by command line.

use gangline_guard::{act, policy::on};
use gangline_wire::{
    api::operate::{RestoreReport, RestoredName},
    endpoints as e,
};

use crate::{error::ApiError, request::Ctx, router::Api};

pub(super) fn routes(api: Api) -> Api {
    api.json::<e::RestoreLabels, _, _>(restore)
}

async fn restore(ctx: Ctx<e::RestoreLabels>) -> Result<RestoreReport, ApiError> {
    let permit = ctx.permit::<act::Operate>(on::Network)?;
    let wish = ctx.body;
    let restored = if wish.dry_run {
        ctx.app.store.restorable_labels(&permit, wish.key, wish.since).await?
    } else {
        ctx.app.store.restore_labels(permit, wish.key, wish.since).await?
    };
    ctx.app.changed();
    let restored =
        restored.into_iter().map(|r| RestoredName { gpu: r.gpu, before: r.before, after: r.after }).collect();
    Ok(RestoreReport { restored })
}
