//! Epoch proofs from bell to verdict, tables of calibration, and machines that are made up.

use gangline_guard::{
    Job, act,
    log::{Event, entry::TableStep},
    permit::permit,
    policy::on,
};
use gangline_proof::epoch::{Challenge, Commitment, GpuPublicKey, Params};
use gangline_rules::{
    calibration::{Entry, Key, State, Table},
    epochs::{Failure, Heard, Outcome, Shown},
};
use gangline_store::{NewEpoch, SimulatedMachine};
use gangline_types::{
    AccountId, GpuId, Hash, Hour, KeyId, MachineId, Minute, Profile, ProofId, Standing, Text, UnixMillis,
    receipt::EndedBecause,
};
use gangline_wire::{
    Action,
    api::{account::Role, enrol::KeyKind},
};

use crate::{
    approvals::approved,
    ledger::{integrate, published},
    rent::new_cluster,
    world::{NOW, World, id, inventory, key_of},
};

fn challenge_of(gpu: GpuId) -> (Challenge, GpuPublicKey) {
    let key = GpuPublicKey(Hash(*key_of(99).public().as_bytes()));
    (Challenge { params: Params::SOFTWARE, beacon: Hash([1; 32]), binding: key.binding(gpu) }, key)
}

/// A challenge with this number, at the bell of an hour or at a moment of its machine's own.
pub fn new_epoch(gpu: GpuId, n: u32, hour: Option<Hour>, bell: UnixMillis) -> NewEpoch {
    let (challenge, key) = challenge_of(gpu);
    let (proof, work) = (ProofId::from_bytes(id(9, n)), Hash([4; 32]));
    NewEpoch { proof, gpu, round: 0, hour, bell, challenge, key, work, deadline_millis: Some(900) }
}

pub async fn an_epoch_is_judged_once(world: World) {
    let supplier = world.someone(Role::Supplier).await;
    let machine = world.machine(&supplier).await;
    let gpus = world.gpus(&machine, 2).await;
    let (own, judge) = (machine.permit::<act::ProveGpu>(NOW), world.job::<act::Judge>(Job::Verifier, NOW));
    let bell = UnixMillis(NOW.0 * 1000);
    let hour = NOW.minute().hour();
    let new = |gpu: GpuId, n: u32| new_epoch(gpu, n, Some(hour), bell);
    let epochs = [new(gpus[0], 1), new(gpus[1], 2)];
    world.store.begin_epochs(&own, &epochs).await.unwrap();
    let stands = world.store.epoch_stands(&own).await.unwrap();
    assert_eq!(
        stands.iter().map(|s| (s.gpu, s.running, s.judged)).collect::<Vec<_>>(),
        [(gpus[0], true, 0), (gpus[1], true, 0)]
    );
    assert!(world.store.begin_epochs(&own, &[new(gpus[0], 3)]).await.is_err(), "one bell rings once");
    let commitment =
        Commitment { walk: Hash([1; 32]), alu: Hash([2; 32]), matrix: vec![], last_walk: Hash([3; 32]) };
    let proof = epochs[0].proof;
    world.store.commit_epoch(&own, proof, &commitment, Hash([5; 32]), 700).await.unwrap();
    let again = world.store.commit_epoch(&own, proof, &commitment, Hash([6; 32]), 1).await;
    assert!(again.is_err(), "the clock stops once");
    let row = world.store.epoch(&own, proof).await.unwrap().unwrap();
    assert_eq!((row.elapsed_millis, row.nonce, row.judged), (Some(700), Some(Hash([5; 32])), false));
    // Another machine's is none of one's own.
    let stranger = world.machine(&supplier).await;
    let foreign = stranger.permit::<act::ProveGpu>(NOW);
    assert!(world.store.epoch(&foreign, proof).await.unwrap().is_none());

    let shown = Shown { memory_bytes: 1 << 30, reads: 1000, alu_steps: 10, elapsed_millis: 700 };
    let held = Outcome { proof, verdict: Ok(shown) };
    let finding = Text::lossy("as it should be");
    assert!(world.store.judge_epoch(&judge, &held, &finding, None).await.unwrap());
    assert!(!world.store.judge_epoch(&judge, &held, &finding, None).await.unwrap(), "a verdict is one");
    let overdue = world.store.overdue_epochs(&judge, UnixMillis(bell.0 + 1)).await.unwrap();
    assert_eq!(overdue.iter().map(|row| row.proof).collect::<Vec<_>>(), [epochs[1].proof]);
    let late = Outcome { proof: epochs[1].proof, verdict: Err(Failure::Abandoned) };
    assert!(world.store.judge_epoch(&judge, &late, &finding, None).await.unwrap());
    let heard = |outcome, network| Heard { outcome, network };
    assert_eq!(world.store.epoch_outcomes(&judge, gpus[0], 0, 3).await.unwrap(), [heard(held.clone(), true)]);
    assert_eq!(world.store.epoch_outcomes(&judge, gpus[1], 0, 3).await.unwrap(), [heard(late, true)]);
    assert!(
        world
            .store
            .epoch_stands(&own)
            .await
            .unwrap()
            .iter()
            .all(|s| s.judged == 1 && s.last_hour == Some(hour))
    );
    assert!(
        world.store.absent_from(&judge, Hour(hour.0 + 1), bell).await.unwrap().is_empty(),
        "nobody is proven"
    );
    let missed = Outcome { proof: ProofId::from_bytes(id(9, 7)), verdict: Err(Failure::Absent) };
    let next = UnixMillis(bell.0 + 3_600_000);
    world
        .store
        .miss_epoch(&judge, gpus[0], 0, (Some(Hour(hour.0 + 1)), next), &missed, &finding)
        .await
        .unwrap();
    assert_eq!(
        world.store.epoch_outcomes(&judge, gpus[0], 0, 1).await.unwrap(),
        [heard(missed.clone(), true)]
    );
    // One at a moment of its machine's own is told from the network's.
    let own_one = Outcome { proof: ProofId::from_bytes(id(9, 8)), verdict: Err(Failure::Absent) };
    let later = UnixMillis(next.0 + 1_200_000);
    world.store.miss_epoch(&judge, gpus[0], 0, (None, later), &own_one, &finding).await.unwrap();
    let all = world.store.epoch_outcomes(&judge, gpus[0], 0, 60).await.unwrap();
    assert_eq!(all, [heard(held, true), heard(missed, true), heard(own_one, false)]);

    let project = world.job::<act::Project>(Job::Projector, NOW);
    while world.store.project(&project, NOW).await.unwrap().more {}
    let public = world.store.public();
    let seen = public.epochs(gpus[0]).await.unwrap();
    assert_eq!(seen.len(), 3);
    assert!(public.epoch_transcript(proof).await.unwrap().is_none(), "it was never opened");
}

pub async fn an_epoch_is_left_to_a_renter(world: World) {
    let supplier = world.someone(Role::Supplier).await;
    let machine = world.machine(&supplier).await;
    let gpus = world.gpus(&machine, 3).await;
    let (own, judge) = (machine.permit::<act::ProveGpu>(NOW), world.job::<act::Judge>(Job::Verifier, NOW));
    let renter = world.someone(Role::Renter).await;
    let (key, _) = world.key(&renter, KeyKind::CommandLine).await;
    let cli = world.signed(&key, 1).await.unwrap();
    let hire = async |n: u32, gpu: GpuId| {
        let new = new_cluster(n, &machine, gpu);
        world.store.hire(permit::<act::Hire>(&cli, on::Network, NOW).unwrap(), &new).await.unwrap();
        new.cluster
    };
    // The last GPU was hired and is free again before the bell, the first two are hired while theirs runs.
    let before = hire(1, gpus[2]).await;
    let ended = async |cluster, at| {
        let resource = world.store.cluster_resource(cluster).await.unwrap().unwrap();
        let release = permit::<act::ReleaseCluster>(&cli, resource, at).unwrap();
        world.store.release_cluster(release, EndedBecause::Released).await.unwrap();
    };
    ended(before, NOW.plus(10)).await;
    let (hour, bell) = (NOW.minute().hour(), UnixMillis((NOW.0 + 60) * 1000));
    let epochs: Vec<NewEpoch> =
        (1..).zip(&gpus).map(|(n, gpu)| new_epoch(*gpu, n, Some(hour), bell)).collect();
    world.store.begin_epochs(&own, &epochs).await.unwrap();
    hire(2, gpus[0]).await;
    let brief = hire(3, gpus[1]).await;
    ended(brief, NOW.plus(90)).await;

    let left = async |n: usize| world.store.leave_to_renter(&judge, epochs[n].proof).await.unwrap();
    assert_eq!([left(0).await, left(1).await, left(2).await], [true, true, false]);
    assert!(!left(0).await, "it is gone");
    // It is as if the two had never been called; the third is held to its part.
    let overdue = world.store.overdue_epochs(&judge, UnixMillis(bell.0 + 1)).await.unwrap();
    assert_eq!(overdue.iter().map(|row| row.gpu).collect::<Vec<_>>(), [gpus[2]]);
    let mut stands = world.store.epoch_stands(&own).await.unwrap();
    stands.sort_by_key(|stand| gpus.iter().position(|gpu| *gpu == stand.gpu));
    assert_eq!(
        stands.iter().map(|s| (s.hired, s.running, s.last_hour)).collect::<Vec<_>>(),
        [(true, false, None), (true, false, None), (true, true, Some(hour))]
    );
    // What was judged stays.
    let judged = new_epoch(gpus[0], 4, Some(hour), bell);
    world.store.begin_epochs(&own, std::slice::from_ref(&judged)).await.unwrap();
    let missed = Outcome { proof: judged.proof, verdict: Err(Failure::Abandoned) };
    assert!(world.store.judge_epoch(&judge, &missed, &Text::lossy("it was not"), None).await.unwrap());
    assert!(!world.store.leave_to_renter(&judge, judged.proof).await.unwrap());
    assert_eq!(world.store.epoch_outcomes(&judge, gpus[0], 0, 9).await.unwrap().len(), 1);
}

pub async fn a_table_of_calibration_is_watched(world: World) {
    let operator = world.someone(Role::Operator).await;
    let operate = permit::<act::Operate>(&operator.browser, on::Network, NOW).unwrap();
    let claim = &inventory(1, "A card").gpus[0];
    let table = |version| Table {
        version,
        entries: vec![Entry { key: Key::of(claim, Hash([4; 32])), accounts: 5, median_millis: 800 }],
    };
    let signer = key_of(42);
    let add = async |version| {
        let table = table(version);
        let signature = signer.sign(&table.digest().0);
        world.store.add_calibration(&operate, &table, signer.public(), &signature, false).await
    };
    add(1).await.unwrap();
    assert!(add(1).await.is_err(), "a version is one table");
    add(2).await.unwrap();
    let judge = world.job::<act::Judge>(Job::Verifier, NOW);
    for would_fail in [false, true, false] {
        world.store.watch_calibration(&judge, 1, would_fail).await.unwrap();
    }
    let rows = world.store.calibrations().await.unwrap();
    assert_eq!(
        rows.iter().map(|row| (row.table.version, row.state)).collect::<Vec<_>>(),
        [(2, State::Canary), (1, State::Canary)]
    );
    assert_eq!((rows[1].watched.judged, rows[1].watched.failed, &rows[1].table), (3, 1, &table(1)));
    let project = world.job::<act::Project>(Job::Projector, NOW);
    while world.store.project(&project, NOW).await.unwrap().more {}
    let public = world.store.public().public_calibrations().await.unwrap();
    assert_eq!(
        public.iter().map(|one| (one.table.version, one.judged)).collect::<Vec<_>>(),
        [(2, 0), (1, 3)]
    );
}

pub async fn a_table_takes_the_place_of_another(world: World) {
    let (ada, ben) = (world.someone(Role::Operator).await, world.someone(Role::Operator).await);
    let operate = permit::<act::Operate>(&ada.browser, on::Network, NOW).unwrap();
    let table = |version| Table { version, entries: vec![] };
    for version in 1..=3 {
        let signer = key_of(3).public();
        world.store.add_calibration(&operate, &table(version), signer, &[0; 64], false).await.unwrap();
    }
    let change = async |version, promote| {
        let on = on::Calibration { version, table: table(version).digest(), promote };
        // To promote takes a second operator, to withdraw a fresh sign-in.
        let who = match promote {
            true => approved(&world, (&ada, &ben), Action::MoveCalibration, on.into()).await,
            false => ada.browser.clone(),
        };
        let permit = permit::<act::MoveCalibration>(&who, on, NOW.plus(2)).unwrap();
        world.store.move_calibration(permit).await
    };
    let states = async || {
        let mut rows = world.store.calibrations().await.unwrap();
        rows.sort_by_key(|row| row.table.version);
        rows.iter().map(|row| row.state).collect::<Vec<_>>()
    };
    use State::{Canary, Promoted, Withdrawn};
    change(1, true).await.unwrap();
    assert_eq!(states().await, [Promoted, Canary, Canary]);
    change(2, true).await.unwrap();
    assert_eq!(states().await, [Withdrawn, Promoted, Canary]);
    change(3, false).await.unwrap();
    change(2, false).await.unwrap();
    assert_eq!(states().await, [Withdrawn, Withdrawn, Withdrawn]);
    assert!(change(4, true).await.is_err(), "there is none of this version");
    integrate(&world).await;
    let steps: Vec<(u32, TableStep)> = published(&world)
        .await
        .into_iter()
        .filter_map(|event| match event {
            Event::Calibration { version, step, .. } => Some((version, step)),
            _ => None,
        })
        .skip(3)
        .collect();
    use TableStep as Step;
    let expected = [
        (1, Step::Promoted),
        (1, Step::Withdrawn),
        (2, Step::Promoted),
        (3, Step::Withdrawn),
        (2, Step::Withdrawn),
    ];
    assert_eq!(steps, expected, "what takes another's place ends it");
}

pub async fn made_up_machines_are_called_so(world: World) {
    let setup = world.job::<act::Simulate>(Job::Setup, NOW);
    assert!(!world.store.has_simulated().await.unwrap());
    let account = AccountId::from_bytes(id(1, 70));
    let made: Vec<_> = (0..3)
        .map(|n| {
            let public_key = *key_of(70 + n).public().as_bytes();
            let claim = inventory(1, "Simulated card").gpus[0].clone();
            let profile = Profile { matrix_mmacs: 5, memory_bytes: 1 << 30 };
            let (machine, gpu) = (MachineId::from_bytes(id(5, 70 + n)), GpuId::from_bytes(id(6, 70 + n)));
            let standing = Standing::Proven;
            (account, SimulatedMachine { machine, gpu, public_key, claim, standing, profile, offer: None })
        })
        .collect();
    for _ in 0..2 {
        world.store.add_simulated_account(&setup, account).await.unwrap();
        world.store.add_simulated(&setup, &made).await.unwrap();
    }
    assert!(world.store.has_simulated().await.unwrap());
    let key = world.store.key(KeyId::of_public_key(&made[0].1.public_key)).await.unwrap();
    assert!(key.is_some(), "its key signs like any other");
    let gpus: Vec<GpuId> = made.iter().map(|(_, made)| made.gpu).collect();
    world.beat(&gpus[..2], Minute(NOW.minute().0), NOW).await;
    let hour = world.store.hour_of_all(&setup, NOW.minute().hour()).await.unwrap();
    assert_eq!(hour.len(), 2);
    let project = world.job::<act::Project>(Job::Projector, NOW);
    while world.store.project(&project, NOW).await.unwrap().more {}
    let totals = world.store.public().totals().await.unwrap();
    assert_eq!((totals.registered, totals.simulated, totals.connected), (3, 3, 2));
}
