//! An appeal against a real server, decided by three verifiers that are processes of their own, one of which lies; and
//! `gangline verify` over the epochs that it leaves behind.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod live;

use std::{ops::ControlFlow, path::Path, process::Command, time::Duration};

use gangline_proof::{
    self as matrix,
    epoch::{CpuProver, GpuKey, Opening, Prover},
};
use gangline_rules::appeals::message;
use gangline_types::{Hash, Seconds, Standing, Text, public::PublicGpu};
use gangline_wire::{
    Nothing,
    api::{appeal::*, enrol::*, epoch::*, machine::*, proof::*},
    endpoints::*,
};
use gangline_worker::{client::Client, enrol::load_or_make_key};
use live::{
    Running, finish, gangline,
    network::{Machine, Person, Server, call, enrolment_of, new_key},
};

/// Where the lying verifier finds its server and key; set for that process alone.
const LIAR: &str = "GANGLINE_TEST_LIAR";

async fn prove(machine: &Machine) {
    use matrix::Prover as _;
    let asked = ProofRequest { gpus: vec![machine.gpu], keys: vec![] };
    let begun = call::<ProofBegin>(&machine.client, &asked).await.unwrap();
    let challenge = &begun.challenges[0];
    let mut prover = matrix::CpuProver::default();
    let commitment = prover.commit(&challenge.challenge, &mut |_| ()).unwrap();
    let none = Nothing {};
    let receipt = machine
        .client
        .call::<ProofCommit>(&[&challenge.proof], &none, &CommitRequest { commitment })
        .await
        .unwrap();
    let opening = prover.open(&receipt.nonce).unwrap();
    let open = OpenRequest { opening, signature: None };
    machine.client.call::<ProofOpen>(&[&challenge.proof], &none, &open).await.unwrap();
}

/// Answers the next bell, with this change to the opening.
async fn epoch(machine: &Machine, change: impl Fn(&mut Opening)) -> EpochVerdict {
    let report = SyncReport { paused: false, offers: vec![], clusters: vec![], wait: Seconds(0) };
    let orders = call::<Sync>(&machine.client, &report).await.unwrap();
    assert!(orders.epoch.is_some(), "it was not called");
    let (gpu, key) = (machine.gpu, GpuKey::derive(&machine.key.seed(), machine.gpu));
    let asked = BellRequest { gpus: vec![BellGpu { gpu, key: key.public() }], unable: vec![] };
    let begun = call::<EpochBegin>(&machine.client, &asked).await.unwrap();
    let EpochChallenge { proof, challenge, .. } = begun.challenges[0].clone();
    let mut prover = CpuProver::new();
    let commitment = prover.commit(&challenge, &mut |_| ControlFlow::Continue(())).unwrap();
    let (none, roots) = (Nothing {}, EpochCommit { commitment: commitment.clone() });
    let receipt = machine.client.call::<EpochRoots>(&[&proof], &none, &roots).await.unwrap();
    let mut opening = prover.open(&receipt.nonce).unwrap();
    change(&mut opening);
    let signature = key.sign(&challenge, &commitment, &receipt.nonce, &opening);
    machine.client.call::<EpochOpened>(&[&proof], &none, &EpochOpen { opening, signature }).await.unwrap()
}

/// The process of a verifier that says the opposite of what is so, once there is something to say. Without its
/// variable it is no verifier, and nothing is tested.
#[tokio::test]
async fn a_verifier_that_lies() {
    let Ok(told) = std::env::var(LIAR) else { return };
    let (url, file) = told.split_once(' ').unwrap();
    let (key, _) = load_or_make_key(Path::new(file)).unwrap();
    let (client, none) = (Client::new(url, None).unwrap(), Nothing {});
    loop {
        for appeal in call::<PublicAppeals>(&client, &none).await.unwrap() {
            let Some(digest) = appeal.digest else { continue };
            let signature: String =
                key.sign(&message(appeal.id, &digest, false).0).iter().map(|b| format!("{b:02x}")).collect();
            let verdict = SignedVerdict {
                verifier: Hash(*key.public().as_bytes()),
                digest,
                right: false,
                signature: Text::new(&signature).unwrap(),
            };
            client.call::<AppealVerdict>(&[&appeal.id], &none, &verdict).await.unwrap();
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_verifiers_decide_of_whom_one_lies() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let operator = Person::enter(&server, &server.link).await;
    let machine = Machine::join(&server, &operator).await;
    for _ in 0..3 {
        prove(&machine).await;
    }
    assert!(epoch(&machine, |_| {}).await.accepted);
    let forged = epoch(&machine, |opening| opening.alu.states[0] ^= 1).await;
    assert_eq!(forged.standing, Standing::Quarantined);

    // Verifiers make keys of their own; the operator registers them.
    let cli = new_key();
    let ticket =
        call::<Enrol>(&server.client(&cli), &enrolment_of(&cli, KeyKind::CommandLine)).await.unwrap();
    operator.approve(&ticket.user_code, &cli.public().fingerprint()).await;
    let files = ["one.key", "two.key", "three.key"].map(|name| folder.path().join(name));
    let verify = |file: &Path, more: &[&str]| {
        let mut command = gangline(folder.path());
        command.args(["appeal", "verify", &server.origin, "--every", "1", "--key"]).arg(file).args(more);
        command
    };
    for (n, file) in files.iter().enumerate() {
        let told = finish(&mut verify(file, &["--once"]));
        assert_eq!(told.code, 0, "{}", told.err);
        let key: Hash = told.out.trim().strip_prefix("verifier ").expect("its key").parse().unwrap();
        let verifier = Verifier { key, name: Text::new(&format!("Verifier {n}")).unwrap() };
        let change = VerifierChange { verifier, on: true };
        call::<VerifierSet>(&server.client(&cli), &change).await.unwrap();
    }

    let none = Nothing {};
    let appeal = machine.client.call::<AppealOpen>(&[&machine.gpu], &none, &none).await.unwrap();
    assert!(epoch(&machine, |_| {}).await.accepted);
    const APPEALS: &str = "/api/v1/public/appeals";
    let of = |all: &Vec<PublicAppeal>| all.iter().find(|one| one.id == appeal.id).cloned();
    // The liar speaks first.
    let mut liar = Command::new(std::env::current_exe().unwrap());
    liar.args(["--exact", "--nocapture", "a_verifier_that_lies"])
        .env(LIAR, format!("{} {}", server.origin, files[2].display()));
    let mut liar = Running::start(&mut liar);
    server.until(APPEALS, |all| of(all).is_some_and(|one| one.verdicts.len() == 1)).await;
    assert_eq!(liar.ended(live::LIMIT), 0, "{}", liar.err());
    let mut honest = [&files[0], &files[1]].map(|file| Running::start(&mut verify(file, &[])));
    let decided = server.until(APPEALS, |all| of(all).is_some_and(|one| one.upheld.is_some())).await;
    let decided = of(&decided).unwrap();
    assert_eq!((decided.upheld, decided.quorum), (Some(true), 2));
    let right: Vec<bool> = decided.verdicts.iter().map(|verdict| verdict.right).collect();
    assert_eq!(right, [false, true, true]);
    for process in &mut honest {
        process.signal(nix::sys::signal::Signal::SIGTERM);
    }

    // It is proven anew, its page tells who found what, and anybody can check all of it.
    for _ in 0..3 {
        prove(&machine).await;
    }
    let path = format!("/api/v1/public/gpus/{}", machine.gpu);
    server.until(&path, |gpu: &PublicGpu| gpu.standing == Standing::Proven).await;
    let (_, page) = server.get(&format!("/gpu/{}", machine.gpu)).await;
    assert!(page.contains("Verifier 2") && page.contains("found it wrong"), "{page}");
    let told = finish(gangline(folder.path()).args(["audit", "verify", &server.origin, "--list"]));
    assert_eq!(told.code, 0, "{}", told.err);
    let count = |words: &str| told.out.lines().filter(|line| line.contains(words)).count();
    assert_eq!((count("kind appeal_verdict"), count("kind appeal,")), (3, 3), "{}", told.out);
    let told = finish(gangline(folder.path()).args(["verify", &server.origin, "--json"]));
    assert_eq!(told.code, 0, "{}{}", told.out, told.err);
    let report: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert!(report["checked"]["epochs"].as_u64().unwrap() >= 3, "{report}");
    server.stop();
}
