//! What proofs lead to, through a server whose books are in PostgreSQL: appeals, and tables of calibration.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod appeals;
#[path = "cheats/device.rs"]
#[allow(dead_code)]
mod device;
mod net;
#[path = "../../store/tests/postgres/mod.rs"]
mod postgres;

use gangline_server::Config;
use gangline_types::Standing;
use gangline_wire::api::epoch::CalibrationMove;

/// A server with books of its own in this database server, and hours of so many milliseconds.
async fn start(postgres: &postgres::Server, pace: gangline_server::config::Pace) -> net::Net {
    let folder = tempfile::tempdir().unwrap();
    let database = Some(postgres.url(&postgres.database().await).parse().unwrap());
    let config =
        Config { database, bell_pace: pace, alone_delay_seconds: 1, ..net::quick_config(folder.path()) };
    net::Net::start_in(folder, config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_appeal_is_decided_in_postgresql_as_in_a_file() {
    let postgres = postgres::shared();
    appeals::decided(start(&postgres, gangline_server::config::Pace::Hourly).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_watched_promoted_sets_deadlines_and_is_withdrawn() {
    let postgres = postgres::shared();
    let since = gangline_types::UnixMillis(net::now().0 * 1000);
    let pace = gangline_server::config::Pace::Quick { since, hour_millis: 4_000 };
    let quick = device::Quick::of(start(&postgres, pace).await).await;
    quick.calibrated().await;
    let ada = quick.machine("Ada", 1).await;
    let asked = ada.begin(&ada.gpus).await.remove(0);
    assert_eq!(asked.deadline_millis, Some(device::DEADLINE_MILLIS));
    let (verdict, elapsed) = ada.answer(&asked, &device::Device::new(device::DEADLINE_MILLIS + 1_000)).await;
    assert!(!verdict.accepted && elapsed > device::DEADLINE_MILLIS, "{verdict:?}");
    assert_eq!(verdict.standing, Standing::Proven, "one miss costs nothing");
    let path = "/api/v1/operate/calibrations/1";
    let withdraw = CalibrationMove { promote: false };
    assert_eq!(quick.net.confirmed(&quick.operator, "POST", path, &withdraw).await.status, 200);
    let asked = ada.begin(&ada.gpus).await.remove(0);
    assert_eq!(asked.deadline_millis, None, "no table, no deadline");
    quick.net.stop().await;
}
