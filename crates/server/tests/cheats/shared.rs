//! One device for several identities: of several machines that relay to it, or of one machine that claims more GPUs than
//! it has. The bell is one for the whole network, and the rate that counts is what its bells have shown.

use gangline_guard::log::{TilePath, tiles::paths_of};
use gangline_types::{GpuId, Standing, public::PublicGpu};
use gangline_wire::api::epoch::*;

use super::device::{DEADLINE_MILLIS, Device, MEDIAN_MILLIS, MODEL, Machine, Quick};
use crate::net::Net;

/// Hours of so many milliseconds.
const HOUR_MILLIS: u64 = 4_500;
/// A device that answers in time alone and not for two, each by more than a second.
const DEVICE_MILLIS: u64 = MEDIAN_MILLIS * 85 / 100;
/// One that answers in time for two and not for three, each by a second.
const FAST_MILLIS: u64 = DEADLINE_MILLIS * 41 / 100;

/// Every entry of the network's log, one after the other.
async fn log_text(net: &Net) -> String {
    let checkpoint = net.get("/log/checkpoint").await.text();
    let size = checkpoint.lines().nth(1).unwrap().parse().unwrap();
    let mut all = String::new();
    for path in paths_of(size).filter(|path| matches!(path, TilePath::Entries { .. })) {
        all += &net.get(&format!("/log/tile/{path}")).await.text();
    }
    all
}

/// Two machines answer one bell with one device that both relay to.
async fn relayed(machines: [&Machine<'_>; 2], device: &Device) -> [(EpochVerdict, u64); 2] {
    let one = async |machine: &Machine<'_>| {
        let asked = machine.begin(&machine.gpus[..1]).await.remove(0);
        assert_eq!(asked.deadline_millis, Some(DEADLINE_MILLIS));
        machine.answer(&asked, device).await
    };
    let (first, second) = tokio::join!(one(machines[0]), one(machines[1]));
    [first, second]
}

/// A machine answers one bell with one device for the first so many of its GPUs.
async fn for_all_of(machine: &Machine<'_>, gpus: usize, device: &Device) -> Vec<(EpochVerdict, u64)> {
    let asked = machine.begin(&machine.gpus[..gpus]).await;
    assert!(asked.iter().all(|one| one.challenge.beacon == asked[0].challenge.beacon), "all at one bell");
    futures_util::future::join_all(asked.iter().map(|one| machine.answer(one, device))).await
}

fn are_late(verdicts: &[(EpochVerdict, u64)]) {
    for (verdict, elapsed) in verdicts {
        assert!(!verdict.accepted, "one device answered for another in time: {verdict:?}");
        let words = format!("took {elapsed} ms; {DEADLINE_MILLIS} ms were allowed");
        assert!(verdict.finding.as_str().contains(&words), "{}", verdict.finding);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_paid_for_once_whether_two_machines_relay_to_it_or_one_claims_it_twice() {
    let quick = Quick::start(HOUR_MILLIS).await;
    quick.calibrated().await;
    let net = &quick.net;
    let (ada, eve) = (quick.machine("Ada", 1).await, quick.machine("Eve", 1).await);
    let (liar, proxies) = (quick.machine("Liar", 2).await, quick.machine("Proxies", 3).await);
    let all: Vec<GpuId> = [&ada.gpus, &eve.gpus, &liar.gpus].into_iter().flatten().copied().collect();
    let mut before = vec![];
    for gpu in &all {
        let proven = |g: &PublicGpu| g.standing == Standing::Proven;
        before.push(net.until(&format!("/api/v1/public/gpus/{gpu}"), proven).await);
    }
    // Alone, the device is as fast as it should be.
    let device = Device::new(DEVICE_MILLIS);
    let alone = for_all_of(&ada, 1, &device).await;
    assert!(alone[0].0.accepted, "{alone:?}");

    let (claimed_twice, fast) = (Device::new(DEVICE_MILLIS), Device::new(FAST_MILLIS));
    for _ in 0..5 {
        let (relayed, lied, proxied) = tokio::join!(
            relayed([&ada, &eve], &device),
            for_all_of(&liar, 2, &claimed_twice),
            for_all_of(&proxies, 2, &fast)
        );
        are_late(&relayed);
        are_late(&lied);
        // A proxy to a device that is twice as fast: two slow identities on it are honest, and no bell can tell.
        assert!(proxied.iter().all(|(verdict, _)| verdict.accepted), "{proxied:?}");
    }
    // Three are too many for it.
    are_late(&for_all_of(&proxies, 3, &fast).await);

    // All four are shown as less than they claim, and each pair is paid for one device and a quarter at most.
    let mut paid = vec![];
    for (gpu, before) in all.iter().zip(&before) {
        let path = format!("/api/v1/public/gpus/{gpu}");
        let now: PublicGpu = net.until(&path, |g: &PublicGpu| !g.claimed_model.as_str().is_empty()).await;
        assert_eq!((now.claimed_model.as_str(), now.standing), (MODEL, Standing::Proven), "{now:?}");
        assert!(now.model.as_str().ends_with(&format!("% of {MODEL}")), "{}", now.model);
        paid.push(now.profile.matrix_mmacs * 1000 / before.profile.matrix_mmacs.max(1));
        let page = net.get(&format!("/gpu/{gpu}")).await.text();
        for words in ["not carried by its proofs", "bells answered in time", "ms were allowed"] {
            assert!(page.contains(words), "{words} is not on the page");
        }
    }
    assert!(paid.chunks(2).all(|pair| pair.iter().sum::<u64>() <= 1_250), "{paid:?} thousandths of a device");
    assert!(log_text(net).await.contains("kind relabelled"));
    // What was forgiven before is not taken back: slowness costs nothing that was earned.
    let proxy = net.json::<PublicGpu>(&format!("/api/v1/public/gpus/{}", proxies.gpus[0])).await;
    assert_eq!(
        (proxy.standing, proxy.claimed_model.as_str()),
        (Standing::Proven, ""),
        "one miss costs nothing"
    );
    quick.net.stop().await;
}
