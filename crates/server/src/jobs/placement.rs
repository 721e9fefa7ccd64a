//! Keeps the offers in the order of choice, so that a hire looks at a handful of them. What it holds may be a
//! moment old: whoever hires asks the books about the GPU itself.

use std::sync::{Mutex, MutexGuard};

use gangline_guard::{Actor, Job, act, permit::permit, policy::on};
use gangline_rules::placement::{NoneFits, Offer, Wish, index::Index};
use gangline_store::TOLD_MAX;
use gangline_types::{GpuId, public::PublicGpu};

use crate::{app::App, edge, error::ApiError};

/// Changed rows taken in at once.
const ROWS: u32 = 2_000;

/// The index, and the place in the public projection that it has followed up to.
#[derive(Default)]
pub struct Placement {
    kept: Mutex<Kept>,
    /// Held by whoever follows: what two would read, each would read whole.
    following: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Kept {
    index: Index,
    after: Option<(i64, GpuId)>,
}

impl Placement {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(|e| e.into_inner())
    }
    /// The best `most` GPUs for a wish, as far as is known.
    pub fn best(&self, wish: &Wish, most: usize) -> Vec<GpuId> {
        self.kept().index.best(wish, most)
    }
    /// Why none fits, of so many registered GPUs, as far as is known.
    pub fn why(&self, wish: &Wish, registered: u64) -> NoneFits {
        self.kept().index.why(wish, registered)
    }
}

/// Takes in what changed since the last time.
pub async fn follow(app: &App) -> Result<(), ApiError> {
    let Ok(_following) = app.placement.following.try_lock() else { return Ok(()) };
    // What is there at the start is no news.
    let begun = app.placement.kept().after.is_some();
    let mut changed = Vec::new();
    let permit = permit::<act::Project>(&Actor::job(Job::Projector), on::Network, edge::now())?;
    while !app.stop.is_cancelled() {
        let after = app.placement.kept().after.unwrap_or((0, GpuId::from_bytes([0; 16])));
        let rows = app.store.public().changed_after(after, ROWS).await?;
        let Some((seq, last)) = rows.last().map(|(seq, gpu)| (*seq, gpu.id)) else {
            return super::projection::follow(app, &changed).await;
        };
        let rentable: Vec<GpuId> =
            rows.iter().filter(|(_, gpu)| gpu.rentable).map(|(_, gpu)| gpu.id).collect();
        let offers = app.store.offers_of(&permit, &rentable).await?;
        let offers: std::collections::HashMap<GpuId, _> = offers.into_iter().map(|o| (o.gpu, o)).collect();
        if begun && changed.len() < TOLD_MAX {
            changed.extend(rows.iter().map(|(_, gpu)| gpu.clone()));
        }
        let mut kept = app.placement.kept();
        for (_, gpu) in &rows {
            match offers.get(&gpu.id) {
                Some(offer) => kept.index.set(&as_offer(gpu, offer)),
                None => kept.index.remove(gpu.id),
            }
        }
        kept.after = Some((seq, last));
    }
    Ok(())
}

fn as_offer(gpu: &PublicGpu, offer: &gangline_wire::api::machine::Offer) -> Offer {
    Offer {
        gpu: gpu.id,
        kind: gpu.kind,
        profile: gpu.profile,
        memory_bytes: offer.memory_bytes,
        price_per_hour: offer.price_per_hour,
        hours_max: offer.hours_max,
        rentable: gpu.rentable,
    }
}
