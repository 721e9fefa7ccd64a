//! Ending a cluster from a console.

use axum::response::Response;
use gangline_guard::act;
use gangline_pages::{Done, paths};
use gangline_types::{ClusterId, receipt::EndedBecause};
use gangline_wire::endpoints as e;

use super::done;
use crate::{error::ApiError, jobs, request::Ctx};

pub async fn release(ctx: Ctx<e::ReleaseClusterForm>) -> Result<Response, ApiError> {
    let cluster: ClusterId = ctx.param("cluster")?;
    let resource = ctx.app.store.cluster_resource(cluster).await?.ok_or_else(ApiError::hidden)?;
    let permit = ctx.permit::<act::ReleaseCluster>(resource)?;
    ctx.app.store.release_cluster(permit, EndedBecause::Released).await?;
    jobs::clusters::announce(&ctx.app, &resource);
    Ok(done(paths::CONSOLE, Done::Released))
}
