//! Background jobs: each brings what is to what is wanted, takes no input, and is the same the first time
//! and on every retry. Each acts with a permit of its own under the same policy as everyone.
//!
//! Where several servers have one database, each job is done by the one that holds its lease; what it writes is
//! refused once another does. What a server keeps in its own memory is kept up by every one.

pub mod beats;
pub mod bells;
pub mod broken;
pub mod clusters;
pub mod epochs;
pub mod heirs;
pub mod log;
pub mod packing;
pub mod placement;
pub mod projection;
pub mod proofs;
pub mod replica;
pub mod revocations;
pub mod snapshots;
pub mod told;

use std::{future::Future, time::Duration};

use gangline_store::{HELD_SECONDS, StoreError};
use tokio::{runtime::Handle, task::JoinHandle};

use crate::{app::App, edge, error::ApiError, outlets, panics::caught, witnesses};

/// How often each job looks, in seconds.
const EVERY_SECONDS: u64 = 1;
/// How often what is past keeping is swept, in seconds.
const SWEEP_EVERY_SECONDS: u64 = 3600;
/// How often beats that wait are folded into the books, in milliseconds, if the last fold was short.
const FOLD_EVERY_MILLIS: u64 = 250;
/// How often the books are told of who came and who fell silent, where they lag, in seconds.
const TURNED_EVERY_SECONDS: u64 = 10;
/// How often the intake is told of lanes that were opened or have ended, in milliseconds.
const TELL_EVERY_MILLIS: u64 = 500;
/// At least so often the projection is brought up to date, in seconds: connection ages without a write, other servers
/// write, and the lease is renewed in time.
const PROJECT_EVERY_SECONDS: u64 = HELD_SECONDS as u64 / 2;
/// And at most so often, in milliseconds.
const PROJECT_PAUSE_MILLIS: u64 = 250;

/// Does a job again and again, on whichever server holds its lease.
async fn again<F, R>(app: App, name: &'static str, every: Duration, job: F)
where
    F: Fn(App) -> R,
    R: Future<Output = Result<(), ApiError>>,
{
    everywhere(app, name, every, |app| {
        let work = job(app.clone());
        async move {
            let Some(lease) = app.store.lease(name).await? else {
                tokio::time::sleep(Duration::from_secs(EVERY_SECONDS)).await;
                return Ok(());
            };
            match lease.holding(work).await {
                // Another server goes on with it.
                Err(ApiError::Store(StoreError::LeaseLost { .. })) => Ok(()),
                done => done,
            }
        }
    })
    .await;
}

/// Does a job again and again, on every server.
async fn everywhere<F, R>(app: App, name: &'static str, every: Duration, job: F)
where
    F: Fn(App) -> R,
    R: Future<Output = Result<(), ApiError>>,
{
    let mut failing = false;
    while !app.stop.is_cancelled() {
        match caught(job(app.clone())).await.unwrap_or_else(|broke_off| Err(ApiError::BrokeOff(broke_off))) {
            Ok(()) => {
                if std::mem::take(&mut failing) {
                    tracing::info!(job = name, "works again");
                }
            }
            Err(error) if app.stop.is_cancelled() => {
                tracing::debug!(job = name, error = &error as &dyn std::error::Error, "left at the end");
            }
            Err(error) => {
                // Once when it begins; it is tried again by itself.
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(
                        job = name,
                        error = &error as &dyn std::error::Error,
                        "failed; will be tried again"
                    );
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = app.stop.cancelled() => {}
        }
    }
}

/// Starts every job. What works through much at once runs in `background`, where no request waits behind it; what somebody
/// waits for, in the runtime of requests.
pub fn start(app: &App, background: &Handle) -> Vec<JoinHandle<()>> {
    let second = Duration::from_secs(EVERY_SECONDS);
    vec![
        background.spawn(everywhere(app.clone(), "placement", second, |app| async move {
            placement::follow(&app).await
        })),
        tokio::spawn(revocations::run(app.clone())),
        tokio::spawn(told::run(app.clone())),
        tokio::spawn(replica::run(app.clone())),
        background.spawn(again(app.clone(), "heir", second, |app| async move { heirs::inherit(&app).await })),
        background.spawn(again(app.clone(), "accountant", second, |app| async move {
            snapshots::take_due(&app).await
        })),
        background.spawn(again(app.clone(), "log", second, |app| async move { log::integrate(&app).await })),
        background.spawn(again(app.clone(), "verifier", second, |app| async move {
            proofs::judge_overdue(&app, edge::now()).await?;
            epochs::judge_overdue(&app, edge::now_millis()).await
        })),
        tokio::spawn(again(app.clone(), "reconciler", second, |app| async move {
            clusters::reconcile(&app).await?;
            broken::sweep(&app, edge::now()).await
        })),
        background.spawn(again(app.clone(), "cosigner", second, |app| async move {
            witnesses::cosign(&app).await
        })),
        background.spawn(again(
            app.clone(),
            "teller",
            second,
            |app| async move { outlets::tell(&app).await },
        )),
        background.spawn(again(
            app.clone(),
            "sweeper",
            Duration::from_secs(SWEEP_EVERY_SECONDS),
            |app| async move {
                beats::forget_lanes(&app).await?;
                let (permit, kept) = (clusters::reconciler(edge::now())?, &app.config.notice);
                let seconds = |days: u32| u64::from(days) * 24 * 3_600;
                let (refusals, addresses) =
                    (seconds(kept.refusals_kept_days), seconds(kept.addresses_kept_days));
                Ok(app.store.sweep(&permit, refusals, addresses).await?)
            },
        )),
        background.spawn(everywhere(
            app.clone(),
            "folder",
            Duration::from_millis(FOLD_EVERY_MILLIS),
            |app| async move { beats::fold_waiting(&app).await },
        )),
        background.spawn(everywhere(
            app.clone(),
            "turned",
            Duration::from_secs(TURNED_EVERY_SECONDS),
            |app| async move { beats::tell_turned(&app).await },
        )),
        tokio::spawn(everywhere(
            app.clone(),
            "lanes",
            Duration::from_millis(TELL_EVERY_MILLIS),
            |app| async move { beats::tell_lanes(&app).await },
        )),
        background.spawn(everywhere(app.clone(), "settler", second, |app| async move {
            let permit = clusters::reconciler(edge::now())?;
            Ok(app.store.settle_numbers(&permit).await?)
        })),
        background.spawn(again(
            app.clone(),
            "packer",
            Duration::from_secs(SWEEP_EVERY_SECONDS),
            |app| async move { packing::pack(&app).await },
        )),
        background.spawn(again(
            app.clone(),
            "projector",
            Duration::from_millis(PROJECT_PAUSE_MILLIS),
            |app| async move {
                let more = projection::project(&app).await?;
                placement::follow(&app).await?;
                if more {
                    return Ok(());
                }
                tokio::select! {
                    () = app.wait_changed() => {}
                    () = tokio::time::sleep(Duration::from_secs(PROJECT_EVERY_SECONDS)) => {}
                    () = app.stop.cancelled() => {}
                }
                Ok(())
            },
        )),
    ]
}
