//! More openings at once than the verifier may have waiting: nobody loses anything by that.

use gangline_proof::epoch::{ChainParams, Params, Prover};
use gangline_server::Config;
use gangline_types::Standing;
use gangline_wire::api::epoch::EpochVerdict;

use super::device::{Quick, prove};
use crate::net::{self, Net};

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_the_verifier_busy_hands_in_again_and_is_judged_by_when_its_roots_came() {
    let folder = tempfile::tempdir().unwrap();
    let small = net::small_epoch();
    let alu = ChainParams { units: 64, segments: 2, steps: 1 << 14, opened: 128 };
    let config = Config {
        verifying_max: 0,
        software_epoch: Params { alu, ..small },
        bell_pace: gangline_server::config::Pace::Quick {
            since: gangline_types::UnixMillis(net::now().0 * 1000),
            hour_millis: 3_600_000,
        },
        ..net::quick_config(folder.path())
    };
    let quick = Quick::of(Net::start_in(folder, config).await).await;
    let ada = quick.machine("Ada", 12).await;
    let mut committed = vec![];
    for asked in ada.begin(&ada.gpus).await {
        let (mut prover, commitment) = prove(&asked.challenge);
        let of = ada.committed(&asked, commitment).await;
        let opening = prover.open(&of.receipt.nonce).unwrap();
        committed.push((of, opening));
    }
    let hand_in = async |(of, opening): &(super::device::Committed, gangline_proof::epoch::Opening)| {
        let mut refused = 0;
        loop {
            let answer = ada.open(of, opening.clone()).await;
            if answer.status == 200 {
                return (answer.json::<EpochVerdict>(), refused);
            }
            assert_eq!((answer.status, answer.error().code.as_str()), (503, "verifier_busy"));
            assert!(answer.header("retry-after").is_some(), "it says when to come again");
            refused += 1;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let judged = futures_util::future::join_all(committed.iter().map(hand_in)).await;
    let refused: u32 = judged.iter().map(|(_, refused)| refused).sum();
    assert!(refused > 0, "twelve at once never found it busy");
    for (verdict, _) in &judged {
        assert!(verdict.accepted && verdict.standing == Standing::Proven, "{verdict:?}");
    }
    quick.net.stop().await;
}
