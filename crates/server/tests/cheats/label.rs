//! A claim that its proofs do not carry, from suspect over the re-run to what it has shown.

use gangline_server::Config;
use gangline_types::{AdapterKind, Standing, public::PublicGpu};
use gangline_wire::api::proof::{ProofChallenges, ProofRequest};

use crate::net::{self, Net};

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_says_it_is_a_gpu_is_suspect_and_after_its_re_run_what_it_has_shown() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { rerun_seconds: 2, ..net::quick_config(folder.path()) };
    let net = Net::start_in(folder, config).await;
    let supplier = net.invite("supplier", "Mallory").await;
    let (key, gpu) = net.machine(&supplier, "llvmpipe (LLVM 15.0.6)", AdapterKind::Integrated).await;
    net.beat(&key, gpu).await;
    for _ in 0..3 {
        let verdict = net.prove_once(&key, gpu).await;
        assert!(verdict.accepted, "its bits are right: {verdict:?}");
    }
    let path = format!("/api/v1/public/gpus/{gpu}");
    let suspect = net.until(&path, |g: &PublicGpu| g.standing == Standing::Suspect).await;
    assert!(suspect.standing_reason.as_str().contains("names a software device"), "{suspect:?}");
    assert!(!suspect.rentable && suspect.profile.matrix_mmacs == 0);
    // Its re-run: three more, and all of them decide.
    let began = std::time::Instant::now();
    let asked = ProofRequest { gpus: vec![gpu], keys: vec![] };
    let first = loop {
        let answer = net.call(&key, "POST", "/api/v1/machine/proofs", &asked).await;
        if answer.status == 200 {
            break answer.json::<ProofChallenges>();
        }
        assert!(began.elapsed().as_secs() < 60, "it was not asked again: {}", answer.text());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    let mut rates = vec![net.answer_proof(&key, &first.challenges[0]).await.profile.matrix_mmacs];
    for _ in 0..2 {
        rates.push(net.prove_once(&key, gpu).await.profile.matrix_mmacs);
    }
    let shown = net.until(&path, |g: &PublicGpu| g.standing == Standing::Proven).await;
    assert_eq!((shown.model.as_str(), shown.kind), ("unnamed device", AdapterKind::Unknown));
    assert_eq!(shown.claimed_model.as_str(), "llvmpipe (LLVM 15.0.6)");
    assert_eq!(Some(&shown.profile.matrix_mmacs), rates.iter().min(), "{rates:?}");
    let page = net.get(&format!("/gpu/{gpu}")).await.text();
    for words in
        ["unnamed device", "shown as what its proofs carry", "right bits", "not carried by its proofs"]
    {
        assert!(page.contains(words), "{words} is not on the page: {page}");
    }
    net.stop().await;
}
