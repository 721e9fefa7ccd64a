//! Suppliers of one model who agree to answer slowly, so that slower devices pass as theirs.

use gangline_rules::calibration::ACCOUNTS_MIN;
use gangline_wire::api::epoch::*;

use super::device::{DEADLINE_MILLIS, Device, MEDIAN_MILLIS, MODEL, Machine, Quick};

/// How long who lies makes believe that its device needs: more than a promoted median may move at once.
const SLOW_MILLIS: u64 = MEDIAN_MILLIS * 5 / 4;

async fn learned(quick: &Quick) -> Vec<CalibrationEntry> {
    let path = "/api/v1/operate/calibrations/learned";
    quick.net.call(&quick.operator, "GET", path, &()).await.json::<CalibrationTable>().entries
}

/// All these answer the next bell so slowly.
async fn answer(machines: &[Machine<'_>], millis: u64) {
    let one = async |machine: &Machine<'_>| {
        let asked = machine.begin(&machine.gpus[..1]).await.remove(0);
        machine.answer(&asked, &Device::new(millis)).await
    };
    futures_util::future::join_all(machines.iter().map(one)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_moves_no_median_and_a_majority_moves_no_promoted_one() {
    let quick = Quick::start(3_000).await;
    quick.calibrated().await;
    // Accounts, however many GPUs each has: four honest ones (with the one that was watched), two that wait.
    let mut honest = vec![];
    for n in 0..3 {
        honest.push(quick.machine(&format!("Honest {n}"), 1).await);
    }
    let mut liars = vec![];
    for n in 0..2 {
        liars.push(quick.machine(&format!("Liar {n}"), 1).await);
    }
    tokio::join!(answer(&honest, 1_000), answer(&liars, SLOW_MILLIS));
    let table = learned(&quick).await;
    let entry = table.iter().find(|entry| entry.model.as_str() == MODEL).expect("six accounts are enough");
    assert!(entry.accounts as usize >= ACCOUNTS_MIN, "{entry:?}");
    assert!(entry.median_millis < MEDIAN_MILLIS, "two of six moved the median: {entry:?}");
    // A majority: what the network learns is what they say, for nothing bounds a software device.
    for n in 2..6 {
        liars.push(quick.machine(&format!("Liar {n}"), 1).await);
    }
    answer(&liars, SLOW_MILLIS).await;
    let table = learned(&quick).await;
    let moved = table.iter().find(|entry| entry.model.as_str() == MODEL).unwrap();
    assert!(moved.median_millis >= SLOW_MILLIS, "{moved:?}");
    // But it is a canary, and sets no deadline: promoted it would move one by more than 1.15 times, however fair it is.
    assert_eq!(quick.submit(2, MODEL, moved.median_millis).await.status, 200);
    let watchers = quick.machine("Watchers", 12).await;
    quick.watch(&watchers).await;
    let path = "/api/v1/operate/calibrations/2";
    let refused = quick.net.call(&quick.operator, "POST", path, &CalibrationMove { promote: true }).await;
    assert_eq!((refused.status, refused.error().code.as_str()), (409, "not_yet"), "{}", refused.text());
    assert!(refused.text().contains(&format!("moved from {MEDIAN_MILLIS} to")), "{}", refused.text());
    // The deadline is what it was.
    let asked = watchers.begin(&watchers.gpus[..1]).await.remove(0);
    assert_eq!(asked.deadline_millis, Some(DEADLINE_MILLIS));
    quick.net.stop().await;
}
