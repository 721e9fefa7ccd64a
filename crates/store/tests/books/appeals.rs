//! Appeals from opening to outcome, and what a GPU is shown as.

use gangline_guard::{Job, act, log::Event, permit::permit, policy::on};
use gangline_rules::{
    epochs::{Outcome, Shown},
    standing::Judgement,
};
use gangline_store::{StoreError, opened_appeal};
use gangline_types::{AdapterKind, AppealId, GpuId, Hash, Profile, ShownAs, Standing, Text, UnixMillis};
use gangline_wire::api::{
    account::Role,
    appeal::{PublicAppeal, SignedVerdict, Verifier},
};

use crate::{
    epochs::new_epoch,
    ledger::{integrate, published},
    world::{Machine, NOW, World, id, key_of},
};

async fn stand(world: &World, gpu: GpuId, standing: Standing, shown_as: Option<ShownAs>) {
    let judgement = Judgement {
        standing,
        reason: Text::lossy("as the case says"),
        profile: Profile { matrix_mmacs: 40, memory_bytes: 1 << 20 },
        proof: None,
        shown_as,
    };
    let judge = world.job::<act::Judge>(Job::Verifier, NOW);
    world.store.set_standing(&judge, gpu, &judgement).await.unwrap();
}

async fn look(world: &World) {
    let project = world.job::<act::Project>(Job::Projector, NOW);
    while world.store.project(&project, NOW).await.unwrap().more {}
}

/// Opens the n-th appeal of a GPU, before three verifiers, and answers it.
async fn answered(world: &World, machine: &Machine, gpu: GpuId, n: u32, in_time: bool) -> PublicAppeal {
    let own = machine.permit::<act::ProveGpu>(NOW);
    let verifiers = world.store.verifiers().await.unwrap();
    assert_eq!(verifiers.len(), 3);
    let appeal = opened_appeal(AppealId::from_bytes(id(20, n)), gpu, verifiers, NOW);
    world.store.open_appeal(&own, &appeal).await.unwrap();
    let again = PublicAppeal { id: AppealId::from_bytes(id(21, n)), ..appeal.clone() };
    assert!(matches!(world.store.open_appeal(&own, &again).await, Err(StoreError::Gone(_))), "one at a time");
    let stands = world.store.epoch_stands(&own).await.unwrap();
    assert!(stands.iter().any(|stand| stand.gpu == gpu && stand.appealed));

    let judge = world.job::<act::Judge>(Job::Verifier, NOW);
    let epoch = new_epoch(gpu, 100 + n, None, UnixMillis(NOW.0 * 1000 + u64::from(n)));
    world.store.begin_epochs(&own, std::slice::from_ref(&epoch)).await.unwrap();
    let shown = Shown { memory_bytes: 1, reads: 1, alu_steps: 1, elapsed_millis: 1 };
    let outcome = Outcome { proof: epoch.proof, verdict: Ok(shown) };
    assert!(world.store.judge_epoch(&judge, &outcome, &Text::lossy("right"), None).await.unwrap());
    let digest = Hash([n as u8; 32]);
    let put = world.store.answer_appeal(&judge, gpu, epoch.proof, digest, in_time).await.unwrap().unwrap();
    assert_eq!((put.proof, put.digest, put.in_time), (Some(epoch.proof), Some(digest), in_time));
    // It waits for nothing more, and another GPU's answer is none of its.
    assert!(world.store.answer_appeal(&judge, gpu, epoch.proof, digest, true).await.unwrap().is_none());
    put
}

fn verdict(n: u32, appeal: &PublicAppeal, right: bool) -> SignedVerdict {
    SignedVerdict {
        verifier: Hash(*key_of(n).public().as_bytes()),
        digest: appeal.digest.unwrap(),
        right,
        signature: Text::default(),
    }
}

pub async fn an_appeal_is_decided_by_its_verifiers_once(world: World) {
    let supplier = world.someone(Role::Supplier).await;
    let machine = world.machine(&supplier).await;
    let gpus = world.gpus(&machine, 2).await;
    let operator = world.someone(Role::Operator).await;
    let operate = permit::<act::Operate>(&operator.browser, on::Network, NOW).unwrap();
    for n in 41..=44 {
        let name = Text::lossy(&format!("Verifier {n}"));
        let verifier = Verifier { key: Hash(*key_of(n).public().as_bytes()), name };
        world.store.set_verifier(&operate, &verifier, true).await.unwrap();
        if n == 44 {
            world.store.set_verifier(&operate, &verifier, false).await.unwrap();
        }
    }
    let judge = world.job::<act::Judge>(Job::Verifier, NOW);
    let say = async |appeal: &PublicAppeal, verdict: &SignedVerdict| {
        world.store.add_verdict(&judge, appeal.id, verdict).await
    };
    let standing = async |gpu: GpuId| world.store.gpu(gpu).await.unwrap().unwrap();
    stand(&world, gpus[0], Standing::Quarantined, None).await;
    stand(&world, gpus[1], Standing::Suspect, None).await;

    // Late: right, and dismissed.
    let late = answered(&world, &machine, gpus[0], 1, false).await;
    assert_eq!(say(&late, &verdict(41, &late, true)).await.unwrap().upheld, None);
    assert!(say(&late, &verdict(41, &late, true)).await.is_err(), "a verifier speaks once");
    assert!(say(&late, &verdict(44, &late, true)).await.is_err(), "it was not put before one that had ended");
    let other = SignedVerdict { digest: Hash([99; 32]), ..verdict(42, &late, true) };
    assert!(say(&late, &other).await.is_err(), "that is another transcript");
    assert_eq!(say(&late, &verdict(42, &late, true)).await.unwrap().upheld, Some(false));
    assert!(say(&late, &verdict(43, &late, true)).await.is_err(), "it is decided");
    assert_eq!((standing(gpus[0]).await.standing, standing(gpus[0]).await.round), (Standing::Quarantined, 0));

    // Right and in time, with one who says otherwise: upheld, and a new series begins; what it was shown as is forgotten.
    let shown_as = ShownAs { model: Text::lossy("Small card"), kind: AdapterKind::Discrete };
    stand(&world, gpus[1], Standing::Suspect, Some(shown_as)).await;
    let good = answered(&world, &machine, gpus[1], 2, true).await;
    for (n, right, upheld) in [(41, false, None), (42, true, None), (43, true, Some(true))] {
        assert_eq!(say(&good, &verdict(n, &good, right)).await.unwrap().upheld, upheld);
    }
    let anew = standing(gpus[1]).await;
    assert_eq!((anew.standing, anew.round, anew.profile), (Standing::Unproven, 1, Profile::default()));
    assert_eq!(anew.shown_as, None);
    assert!(anew.reason.as_str().contains("2 of 3 verifiers"), "{}", anew.reason);
    assert_eq!(world.store.epoch_outcomes(&judge, gpus[1], anew.round, 60).await.unwrap(), []);

    look(&world).await;
    let all = world.store.public().appeals(None).await.unwrap();
    assert_eq!(all.iter().map(|one| one.upheld).collect::<Vec<_>>().len(), 2);
    let of_one = world.store.public().appeals(Some(gpus[1])).await.unwrap();
    assert_eq!((of_one.len(), of_one[0].verdicts.len(), of_one[0].upheld), (1, 3, Some(true)));
    assert_eq!(world.store.appeal(good.id).await.unwrap().as_ref(), Some(&of_one[0]));
}

pub async fn a_gpu_is_shown_as_what_its_proofs_carry(world: World) {
    let supplier = world.someone(Role::Supplier).await;
    let machine = world.machine(&supplier).await;
    let gpu = world.gpus(&machine, 1).await[0];
    let shown = async || {
        look(&world).await;
        world.store.public().gpu(gpu).await.unwrap().unwrap()
    };
    stand(&world, gpu, Standing::Proven, None).await;
    let as_claimed = shown().await;
    assert_eq!((as_claimed.model.as_str(), as_claimed.claimed_model.as_str()), ("A card", ""));
    let less = ShownAs { model: Text::lossy("unnamed device"), kind: AdapterKind::Unknown };
    for _ in 0..2 {
        stand(&world, gpu, Standing::Proven, Some(less.clone())).await;
    }
    let relabelled = shown().await;
    assert_eq!((relabelled.model.as_str(), relabelled.claimed_model.as_str()), ("unnamed device", "A card"));
    assert_eq!(relabelled.kind, AdapterKind::Unknown);
    let models = world.store.public().models().await.unwrap();
    assert!(models.iter().all(|row| row.model.as_str() != "A card" || row.connected == 0), "{models:?}");
    // Shown as claimed again, and once more as less: what is new is in the log, and what is not new is there once.
    stand(&world, gpu, Standing::Proven, None).await;
    assert_eq!(shown().await.claimed_model.as_str(), "");
    integrate(&world).await;
    let relabelled: Vec<Event> = published(&world)
        .await
        .into_iter()
        .filter(|event| matches!(event, Event::Relabelled { .. }))
        .collect();
    assert_eq!(relabelled, [Event::Relabelled { gpu, matrix_mmacs: 40 }]);
    // A claim that says something else begins anew.
    stand(&world, gpu, Standing::Proven, Some(less)).await;
    let inventory = crate::world::inventory(1, "Another card");
    let permit = machine.permit::<act::DescribeMachine>(NOW);
    world.store.describe(permit, &inventory, &[GpuId::from_bytes(id(6, 999))]).await.unwrap();
    let row = world.store.gpu(gpu).await.unwrap().unwrap();
    assert_eq!((row.standing, row.shown_as), (Standing::Unproven, None));
}
