//! The conversation with the server: says how the clusters are and what is offered, learns what is
//! wanted, and waits for news; at once again when something changed here.

use std::{sync::Arc, time::Duration};

use gangline_types::{GpuId, Seconds, Standing};
use gangline_wire::{
    Nothing,
    api::machine::{Offer, SyncOrders, SyncReport},
    endpoints::Sync,
};
use tokio::time::Instant;

use super::{
    backoff::Backoff, clusters::Clusters, sandbox::NODE_MEMORY_BYTES_MIN, shared::Shared, status::Status,
};

/// How long the server may wait for news.
const WAIT_SECONDS: u64 = 20;
/// A request may take the wait and this much more.
const SLACK_SECONDS: u64 = 15;
/// An answer within this was not waited for.
const AT_ONCE: Duration = Duration::from_millis(500);
/// Changes that come close together are reported together.
const GATHER: Duration = Duration::from_millis(200);

/// What is for hire now.
pub(crate) fn offers(shared: &Shared, status: &Status, can_isolate: bool) -> Vec<Offer> {
    let rent = &shared.settings.rent;
    let share = shared.share();
    if !rent.enabled || status.paused || !can_isolate || share.memory_bytes < NODE_MEMORY_BYTES_MIN {
        return Vec::new();
    }
    let present: Vec<GpuId> = shared.gpus().into_iter().map(|(gpu, _)| gpu).collect();
    let proven = status.gpus.iter().filter(|g| g.standing == Standing::Proven && present.contains(&g.gpu));
    let offer = |gpu: GpuId| Offer {
        gpu,
        price_per_hour: rent.price(gpu),
        hours_max: rent.hours_max,
        memory_bytes: share.memory_bytes,
        cpus_millis: share.cpus_millis,
    };
    proven.map(|g| offer(g.gpu)).collect()
}

fn report(shared: &Shared, clusters: &Clusters, wait: u64) -> SyncReport {
    let status = shared.status();
    SyncReport {
        paused: status.paused,
        offers: offers(shared, &status, status.no_renter_work.is_none()),
        clusters: clusters.report(),
        wait: Seconds(wait),
    }
}

/// Takes what the server wants. Which proofs it wants is old news if one was judged since it was asked.
fn take(shared: &Shared, clusters: &Arc<Clusters>, orders: &SyncOrders, verdicts_before: u64) {
    shared.reached();
    if shared.verdicts() == verdicts_before {
        shared.update(|s| s.gpus.iter_mut().for_each(|g| g.wanted = orders.prove.contains(&g.gpu)));
        shared.expect_epoch(orders.epoch.clone());
    }
    clusters.apply(&orders.clusters);
}

/// Talks until the worker stops.
pub(crate) async fn run(shared: Arc<Shared>, clusters: Arc<Clusters>) {
    let mut backoff = Backoff::default();
    // A server that answers at once although nothing changed is asked less and less often.
    let mut repeats = Backoff::default();
    let mut news = clusters.news();
    let mut status = shared.news();
    loop {
        news.borrow_and_update();
        status.borrow_and_update();
        let said = report(&shared, &clusters, WAIT_SECONDS);
        let (asked, verdicts) = (Instant::now(), shared.verdicts());
        let limit = Duration::from_secs(WAIT_SECONDS + SLACK_SECONDS);
        let call = shared.client.call_waiting::<Sync>(&[], &Nothing {}, &said, limit);
        // Anything may change in the status; only what is reported is worth another request.
        let changed = async {
            loop {
                tokio::select! {
                    _ = news.changed() => {}
                    _ = status.changed() => {}
                }
                tokio::time::sleep(GATHER).await;
                if report(&shared, &clusters, WAIT_SECONDS) != said {
                    return;
                }
            }
        };
        let pause = tokio::select! {
            biased;
            () = shared.stop.cancelled() => return,
            answer = call => match answer {
                Ok(orders) => {
                    backoff.worked();
                    take(&shared, &clusters, &orders, verdicts);
                    if report(&shared, &clusters, WAIT_SECONDS) == said && asked.elapsed() < AT_ONCE {
                        repeats.failed()
                    } else {
                        repeats.worked();
                        Duration::ZERO
                    }
                }
                Err(error) => {
                    shared.failed("report to the server", &error);
                    backoff.failed()
                }
            },
            () = changed => Duration::ZERO,
        };
        if pause.is_zero() {
            continue;
        }
        // What changes here meanwhile is reported without waiting for the end of the pause.
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            _ = news.changed() => {}
        }
    }
}

/// Says once, within a few seconds, how everything is at the end.
pub(crate) async fn farewell(shared: &Shared, clusters: &Clusters) {
    let mut said = report(shared, clusters, 0);
    if said.clusters.is_empty() && said.offers.is_empty() {
        return;
    }
    // Nothing is for hire until the worker is back.
    said.offers.clear();
    let limit = Duration::from_secs(5);
    let call = shared.client.call_waiting::<Sync>(&[], &Nothing {}, &said, limit);
    if let Err(error) = call.await {
        tracing::warn!(
            error = super::preflight::chain(&error),
            "the server was not told that this worker ends; it will notice"
        );
    }
}
