//! Machines, GPUs, beats, proofs, labels.

use gangline_guard::{Job, act, permit::permit, policy::on};
use gangline_proof::{Challenge, Commitment, GpuKey, MatrixParams, Opening, StepOpening};
use gangline_rules::standing::{Judgement, Outcome, Shown};
use gangline_store::{Doer, Fold, FoldedHour, FoldedLink, NewProof, RecordQuery, StoreError};
use gangline_types::{
    GpuId, Hash, Hour, Label, MicroCredits, Minute, Profile, ProofId, Standing, Text, UnixMillis,
    UnixSeconds, UptimeHour,
};
use gangline_wire::api::{account::Role, enrol::KeyKind, machine::Offer};

use gangline_wire::beat::Preimage;

use crate::world::{Machine, NOW, World, id, inventory};

pub fn offer(gpu: GpuId) -> Offer {
    Offer { gpu, price_per_hour: MicroCredits(7), hours_max: 4, memory_bytes: 1 << 30, cpus_millis: 500 }
}

/// Proves a GPU at this rate.
pub async fn prove(world: &World, machine: &Machine, gpu: GpuId, n: u32, rate: u64) -> ProofId {
    let proof = ProofId::from_bytes(id(7, n));
    let new = NewProof {
        proof,
        gpu,
        round: 0,
        challenge: Challenge {
            params: MatrixParams { n: 64, steps: 1, rows: 1 },
            beacon: Hash([1; 32]),
            binding: Hash([2; 32]),
        },
        key: None,
        began_at: UnixMillis(NOW.0 * 1000),
        deadline_at: UnixMillis(NOW.0 * 1000 + 60_000),
    };
    let store = &world.store;
    store.begin_proofs(machine.permit::<act::ProveGpu>(NOW), &[new]).await.unwrap();
    let permit = machine.permit::<act::ProveGpu>(NOW);
    let commitment = Commitment { roots: vec![Hash([3; 32])] };
    store.commit_proof(&permit, proof, &commitment, Hash([4; 32]), 100).await.unwrap();
    let judge = world.job::<act::Judge>(Job::Verifier, NOW);
    let shown = Shown { macs: 1 << 30, memory_bytes: 1 << 20, elapsed_millis: 100 };
    let outcome = Outcome { proof, verdict: Ok(shown) };
    assert!(store.judge_proof(&judge, proof, &outcome, &Text::lossy("right"), None).await.unwrap());
    let judgement = Judgement {
        standing: Standing::Proven,
        reason: Text::lossy("shown"),
        profile: Profile { matrix_mmacs: rate, memory_bytes: 1 << 20 },
        proof: Some(proof),
        shown_as: None,
    };
    store.set_standing(&judge, gpu, &judgement).await.unwrap();
    proof
}

pub async fn an_inventory_keeps_its_gpus(world: World) {
    let supplier = world.someone(Role::Supplier).await;
    let machine = world.machine(&supplier).await;
    let gpus = world.gpus(&machine, 2).await;
    prove(&world, &machine, gpus[0], 1, 1000).await;
    let describe = |count: u32, model: &'static str| {
        let fresh: Vec<GpuId> = (0..count).map(|n| GpuId::from_bytes(id(9, n))).collect();
        let (store, permit) = (world.store.clone(), machine.permit::<act::DescribeMachine>(NOW.plus(5)));
        async move { store.describe(permit, &inventory(count, model), &fresh).await.unwrap() }
    };
    // The same slots are the same GPUs, and what was proven stays proven.
    let again = describe(2, "A card").await;
    assert_eq!(again.iter().map(|g| g.gpu).collect::<Vec<_>>(), gpus);
    assert_eq!(again[0].standing, Standing::Proven);
    // One that is gone is not present; another claim is proven anew.
    let less = describe(1, "Another card").await;
    assert_eq!((less[0].gpu, less[0].standing), (gpus[0], Standing::Unproven));
    let there = world.store.gpus_on(&machine.permit::<act::Supply>(NOW)).await.unwrap();
    assert_eq!(there.iter().map(|g| (g.resource.gpu, g.round)).collect::<Vec<_>>(), [(gpus[0], 1)]);
    let own = on::Account { account: supplier.account };
    let own = permit::<act::ReadAccount>(&supplier.browser, own, NOW).unwrap();
    assert_eq!(world.store.gpus_of(&own, None, 10).await.unwrap().len(), 2);
    let machines = world.store.machines_of(&own, None, 10).await.unwrap();
    assert_eq!(machines[0].inventory, Some(inventory(1, "Another card")));
}

pub async fn an_account_s_machines_come_a_page_at_a_time(world: World) {
    let (supplier, other) = (world.someone(Role::Supplier).await, world.someone(Role::Supplier).await);
    let mut all = Vec::new();
    for n in 0..5 {
        let machine = world.machine(&supplier).await;
        all.push((machine.machine, world.gpus(&machine, 1 + n % 2).await));
    }
    let foreign = world.machine(&other).await;
    let own = on::Account { account: supplier.account };
    let own = permit::<act::ReadAccount>(&supplier.browser, own, NOW).unwrap();
    assert_eq!(world.store.count_machines_of(&own).await.unwrap(), 5);
    let (mut seen, mut gpus, mut after) = (Vec::new(), Vec::new(), None);
    loop {
        let page = world.store.machines_of(&own, after, 2).await.unwrap();
        let theirs = world.store.gpus_of(&own, after, 2).await.unwrap();
        assert!(theirs.iter().all(|g| page.iter().any(|m| m.resource.machine == g.resource.machine)));
        seen.extend(page.iter().map(|m| m.resource.machine));
        gpus.extend(theirs.iter().map(|g| g.resource.gpu));
        after = seen.last().copied();
        if page.len() < 2 {
            break;
        }
    }
    let sorted = |mut list: Vec<_>| {
        list.sort_unstable();
        list
    };
    assert_eq!(sorted(seen), sorted(all.iter().map(|(machine, _)| *machine).collect()));
    let mut expected: Vec<_> = all.into_iter().flat_map(|(_, gpus)| gpus).collect();
    gpus.sort_unstable();
    expected.sort_unstable();
    assert_eq!(gpus, expected);
    // Another account's machine is no place to go on from.
    assert!(world.store.machines_of(&own, Some(foreign.machine), 2).await.unwrap().is_empty());
}

pub async fn offers_are_noted(world: World) {
    let supplier = world.someone(Role::Supplier).await;
    let machine = world.machine(&supplier).await;
    let gpus = world.gpus(&machine, 1).await;
    let say = |paused: bool, offers: Vec<Offer>| {
        let (store, permit) = (world.store.clone(), machine.permit::<act::Supply>(NOW));
        async move { store.heard_of(&permit, paused, &offers).await.unwrap() }
    };
    assert!(!say(false, vec![]).await, "nothing new");
    assert!(say(false, vec![offer(gpus[0])]).await);
    assert!(!say(false, vec![offer(gpus[0])]).await);
    assert_eq!(world.store.gpu(gpus[0]).await.unwrap().unwrap().offer, Some(offer(gpus[0])));
    assert!(say(true, vec![offer(gpus[0])]).await, "pausing is news");
    let renter = world.someone(Role::Renter).await;
    let (key, _) = world.key(&renter, KeyKind::CommandLine).await;
    let cli = world.signed(&key, 1).await.unwrap();
    let hire = permit::<act::Hire>(&cli, on::Network, NOW).unwrap();
    assert!(world.store.candidates(&hire).await.unwrap().is_empty(), "a paused machine offers nothing");
    say(false, vec![offer(gpus[0])]).await;
    let found = world.store.candidates(&hire).await.unwrap();
    assert_eq!((found.len(), found[0].hired, &found[0].offer), (1, false, &offer(gpus[0])));
}

pub async fn a_machine_that_leaves_is_retired(world: World) {
    let operator = world.someone(Role::Operator).await;
    let supplier = world.someone(Role::Supplier).await;
    let machine = world.machine(&supplier).await;
    let gpus = world.gpus(&machine, 2).await;
    let operate = permit::<act::Operate>(&operator.browser, on::Network, NOW).unwrap();
    let later = NOW.plus(60);
    assert_eq!(world.store.machine_counts(&operate, later).await.unwrap(), (1, 0));
    world.beat(&gpus[..1], NOW.minute(), later).await;
    assert_eq!(world.store.machine_counts(&operate, later).await.unwrap(), (1, 1));
    let other = world.machine(&supplier).await;
    assert_eq!(world.store.machine_counts(&operate, later).await.unwrap(), (2, 1));
    let machines = async || {
        let accounts = world.store.accounts(&operate).await.unwrap();
        accounts.iter().find(|a| a.account == supplier.account).unwrap().machines
    };
    assert_eq!(machines().await, 2);
    world.store.retire_machine(other.permit::<act::RetireMachine>(NOW)).await.unwrap();
    assert_eq!((machines().await, world.store.machine_counts(&operate, later).await.unwrap()), (1, (1, 1)));
    let watch = world.job::<act::Watch>(Job::Watcher, NOW);
    let missing = async |since: u64| {
        let since = UnixSeconds(since);
        world.store.missing_machines(&watch, UnixSeconds(NOW.0 - 600), since).await.unwrap()
    };
    assert_eq!((missing(NOW.0 - 180).await, missing(NOW.0 + 61).await), ((1, 0), (1, 1)));
    world.store.retire_machine(machine.permit::<act::RetireMachine>(NOW)).await.unwrap();
    assert!(world.store.machine_resource(machine.machine).await.unwrap().is_none());
    assert_eq!(world.store.gpu(gpus[1]).await.unwrap().unwrap().standing, Standing::Retired);
    let key = world.store.key(machine.key.public().id()).await.unwrap().unwrap();
    assert_eq!(key.revoked_at, Some(NOW));
    let heard = world.store.heard_of(&machine.permit::<act::Supply>(NOW), false, &[]).await;
    assert!(matches!(heard, Err(StoreError::Gone(_))));
    assert_eq!((machines().await, world.store.machine_counts(&operate, later).await.unwrap()), (0, (0, 0)));
    assert_eq!(missing(NOW.0 + 61).await, (0, 0));
}

pub async fn a_beat_is_one_bit(world: World) {
    let supplier = world.someone(Role::Supplier).await;
    let machine = world.machine(&supplier).await;
    let gpus = world.gpus(&machine, 2).await;
    let minute = Minute(NOW.minute().0 + 59);
    let at = minute.start().plus(30);
    for _ in 0..2 {
        world.beat(&gpus[..1], minute, at).await;
        world.beat(&gpus[..1], Minute(minute.0 - 1), at).await;
    }
    world.store.project(&world.job::<act::Project>(Job::Projector, at), at).await.unwrap();
    let hour = minute.hour();
    let uptime = world.store.public().uptime(gpus[0], hour, Hour(hour.0 + 1)).await.unwrap();
    let bits = 0b11 << 58;
    assert_eq!(uptime.len(), 1);
    assert_eq!((uptime[0].bits.0, uptime[0].late.0, uptime[0].unchained.0), (bits, 0, bits));
    assert!(world.store.public().uptime(gpus[1], hour, Hour(hour.0 + 1)).await.unwrap().is_empty());
    assert_eq!(world.store.gpu(gpus[0]).await.unwrap().unwrap().beat_at, at);

    // The same minute with a chain is not without one any more; the deepest value is kept.
    let (tip, value) = (Preimage([1; 16]), |n: u8| Preimage([n; 16]));
    let chain = |count: u16| Fold {
        hours: vec![FoldedHour {
            gpu: gpus[0],
            hour,
            bits: UptimeHour(1 << 59),
            unchained: UptimeHour::default(),
        }],
        links: vec![FoldedLink { gpu: gpus[0], hour, tip, count, preimage: value(count as u8) }],
        up: vec![(hour, UptimeHour(1 << count))],
        taken_at: at,
    };
    let reconcile = world.job::<act::Reconcile>(Job::Reconciler, at);
    for count in [3, 5, 4] {
        world.store.fold(&reconcile, &chain(count)).await.unwrap();
    }
    let known = [(gpus[0], tip), (gpus[1], tip), (gpus[0], Preimage([2; 16]))];
    let deepest = world.store.newest_links(&known, hour).await.unwrap();
    assert!(world.store.newest_links(&known, Hour(hour.0 + 1)).await.unwrap().is_empty());
    assert_eq!((deepest.len(), deepest[0].count, deepest[0].preimage), (1, 5, value(5)));
    assert_eq!(world.store.intake_up(hour, hour).await.unwrap(), [(hour, UptimeHour(0b111 << 3))]);
    assert_eq!(world.store.own_gpus(&machine.permit::<act::Beat>(NOW)).await.unwrap(), gpus);
    world.store.project(&world.job::<act::Project>(Job::Projector, at.plus(1)), at.plus(1)).await.unwrap();
    let uptime = world.store.public().uptime(gpus[0], hour, Hour(hour.0 + 1)).await.unwrap();
    assert_eq!(uptime[0].unchained.0, 1 << 58);
    assert_eq!(world.store.public().intake_up(hour, Hour(hour.0 + 1)).await.unwrap().len(), 1);
    assert!(world.store.public().chains(gpus[0], hour, Hour(hour.0 + 1)).await.unwrap().is_empty());
}

pub async fn a_proof_is_judged_once(world: World) {
    let operator = world.someone(Role::Operator).await;
    let supplier = world.someone(Role::Supplier).await;
    let (machine, other) = (world.machine(&supplier).await, world.machine(&supplier).await);
    let gpu = world.gpus(&machine, 1).await[0];
    let proof = prove(&world, &machine, gpu, 1, 1234).await;
    let row = world.store.gpu(gpu).await.unwrap().unwrap();
    assert_eq!((row.standing, row.profile.matrix_mmacs), (Standing::Proven, 1234));
    let judge = world.job::<act::Judge>(Job::Verifier, NOW.plus(100));
    let late = Outcome { proof, verdict: Err(gangline_rules::standing::Failure::Late) };
    let again = world.store.judge_proof(&judge, proof, &late, &Text::lossy("late"), None).await.unwrap();
    assert!(!again, "one verdict");
    assert_eq!(world.store.outcomes(&judge, gpu, 0).await.unwrap().len(), 1);
    let last = world.store.last_proof(&judge, gpu, 0).await.unwrap();
    assert_eq!((last.judged, last.judged_at), (1, NOW));
    let none = world.store.last_proof(&judge, gpu, 1).await.unwrap();
    assert_eq!((none.judged, none.judged_at.0), (0, 0));

    // Roots are taken once, and only from the machine that was asked.
    let new = |n: u32, gpu: GpuId| NewProof {
        proof: ProofId::from_bytes(id(7, n)),
        gpu,
        round: 0,
        challenge: Challenge {
            params: MatrixParams { n: 64, steps: 1, rows: 1 },
            beacon: Hash([1; 32]),
            binding: Hash([2; 32]),
        },
        key: None,
        began_at: UnixMillis(NOW.0 * 1000),
        deadline_at: UnixMillis(NOW.0 * 1000 + 60_000),
    };
    let second = new(2, gpu);
    let stolen = world.store.begin_proofs(other.permit::<act::ProveGpu>(NOW), &[new(3, gpu)]).await;
    assert!(matches!(stolen, Err(StoreError::Gone(_))));
    world
        .store
        .begin_proofs(machine.permit::<act::ProveGpu>(NOW), std::slice::from_ref(&second))
        .await
        .unwrap();
    let (mine, theirs) = (machine.permit::<act::ProveGpu>(NOW), other.permit::<act::ProveGpu>(NOW));
    assert!(world.store.has_running_proof(&mine, gpu, UnixMillis(NOW.0 * 1000)).await.unwrap());
    assert!(world.store.proof(&theirs, second.proof).await.unwrap().is_none());
    let commitment = Commitment { roots: vec![Hash([3; 32])] };
    let commit = |permit| world.store.commit_proof(permit, second.proof, &commitment, Hash([5; 32]), 9);
    assert!(commit(&theirs).await.is_err());
    commit(&mine).await.unwrap();
    assert!(matches!(commit(&mine).await, Err(StoreError::Gone(_))));
    let read = world.store.proof(&mine, second.proof).await.unwrap().unwrap();
    assert_eq!((read.nonce, read.elapsed_millis, read.judged), (Some(Hash([5; 32])), Some(9), false));
    let overdue = world.store.overdue_proofs(&judge, UnixMillis(NOW.0 * 1000 + 60_001)).await.unwrap();
    assert_eq!(overdue.iter().map(|p| p.proof).collect::<Vec<_>>(), [second.proof]);
    let operate = permit::<act::Operate>(&operator.browser, on::Network, NOW).unwrap();
    let opened = world.store.log_opening(&operate, 0).await.unwrap().unwrap();
    assert!(opened.text.contains("a one-time link"), "{}", opened.text);
}

pub async fn a_joining_proof_s_signature_is_kept_and_published(world: World) {
    let supplier = world.someone(Role::Supplier).await;
    let machine = world.machine(&supplier).await;
    let gpu = world.gpus(&machine, 1).await[0];
    let (own, judge) = (machine.permit::<act::ProveGpu>(NOW), world.job::<act::Judge>(Job::Verifier, NOW));
    let key = GpuKey::derive(&[5; 32], gpu);
    let commitment = Commitment { roots: vec![Hash([3; 32])] };
    let step = StepOpening { y: vec![1, 2], rows: vec![-3], paths: vec![Hash([7; 32])] };
    let (nonce, opening) = (Hash([4; 32]), Opening { steps: vec![step] });
    // Signed; by a worker that named a key and signed nothing; and by one that named none.
    let signed = |n: u32| n == 1;
    let named = |n: u32| (n < 3).then(|| key.public());
    for n in 1..=3 {
        let params = MatrixParams { n: 64, steps: 1, rows: 1 };
        let challenge = Challenge { params, beacon: Hash([n as u8; 32]), binding: key.binding() };
        let new = NewProof {
            proof: ProofId::from_bytes(id(7, n)),
            gpu,
            round: 0,
            challenge,
            key: named(n),
            began_at: UnixMillis(NOW.0 * 1000),
            deadline_at: UnixMillis(NOW.0 * 1000 + 60_000),
        };
        let begin = machine.permit::<act::ProveGpu>(NOW);
        world.store.begin_proofs(begin, std::slice::from_ref(&new)).await.unwrap();
        world.store.commit_proof(&own, new.proof, &commitment, nonce, 100).await.unwrap();
        let row = world.store.proof(&own, new.proof).await.unwrap().unwrap();
        assert_eq!((row.key, row.nonce), (named(n), Some(nonce)));
        let shown = Shown { macs: 1 << 30, memory_bytes: 1 << 20, elapsed_millis: 100 };
        let outcome = Outcome { proof: new.proof, verdict: Ok(shown) };
        let signature = signed(n).then(|| key.sign_matrix(&challenge, &commitment, &nonce, &opening));
        let opened = Some((&opening, signature.as_ref()));
        let right = Text::lossy("right");
        assert!(world.store.judge_proof(&judge, new.proof, &outcome, &right, opened).await.unwrap());
    }
    let project = world.job::<act::Project>(Job::Projector, NOW);
    world.store.project(&project, NOW).await.unwrap();
    for n in 1..=3 {
        let published =
            world.store.public().transcript(ProofId::from_bytes(id(7, n))).await.unwrap().unwrap();
        assert_eq!(published.opening, opening);
        assert_eq!(published.check_signature(), Ok(signed(n)), "{n}");
        assert_eq!(published.signed.map(|signed| signed.key), named(n).filter(|_| signed(n)), "{n}");
    }
}

pub async fn labels_go_back(world: World) {
    let operator = world.someone(Role::Operator).await;
    let supplier = world.someone(Role::Supplier).await;
    let machine = world.machine(&supplier).await;
    let gpus = world.gpus(&machine, 2).await;
    let name = |gpu: GpuId, by: gangline_guard::Actor, label: &'static str, at: u64| {
        let on = on::Gpu { gpu, machine: machine.machine, account: supplier.account };
        let (store, permit) = (world.store.clone(), permit::<act::LabelGpu>(&by, on, NOW.plus(at)).unwrap());
        async move { store.label_gpu(permit, &Label::new(label).unwrap()).await.unwrap() }
    };
    name(gpus[0], supplier.browser.clone(), "mine", 0).await;
    name(gpus[0], machine.actor.clone(), "x", 10).await;
    name(gpus[1], machine.actor.clone(), "x", 11).await;
    name(gpus[1], supplier.browser.clone(), "yours", 12).await;
    let operate = || permit::<act::Operate>(&operator.browser, on::Network, NOW.plus(20)).unwrap();
    let key = Doer::Key(machine.key.public().id());
    let restore = || {
        let on = on::Restoration { doer: key, since: NOW };
        permit::<act::Restore>(&operator.browser, on, NOW.plus(20)).unwrap()
    };
    let changes = world.store.label_changes(&operate(), key, NOW).await.unwrap();
    assert_eq!(changes.iter().map(|c| c.before.as_str()).collect::<Vec<_>>(), ["mine", ""]);
    let planned = world.store.restorable_labels(&operate(), key, NOW).await.unwrap();
    // One GPU at a time, in the order of ids; the other one's last name is its owner's and stays.
    let store = &world.store;
    let act = store.begin_restore(&restore()).await.unwrap();
    let (mut done, mut after, mut steps) = (Vec::new(), None, 0);
    loop {
        let (some, last) = store.restore_some(&restore(), act, after, 1, NOW.plus(21)).await.unwrap();
        done.extend(some);
        if last.is_none() {
            break;
        }
        (after, steps) = (last, steps + 1);
    }
    assert_eq!((&planned, steps), (&done, 2));
    assert_eq!(done.iter().map(|r| (r.gpu, r.after.as_str())).collect::<Vec<_>>(), [(gpus[0], "mine")]);
    assert_eq!(world.store.gpu(gpus[1]).await.unwrap().unwrap().label.as_str(), "yours");

    // Whoever breaks off in the middle is found, once, and cannot go on behind our back.
    let reconcile = |at| world.job::<act::Reconcile>(Job::Reconciler, NOW.plus(at));
    assert!(store.broken_off(&reconcile(60), NOW.plus(21)).await.unwrap().is_empty(), "it goes on");
    store.complete_restore(restore(), act, done.len()).await.unwrap();
    assert!(store.broken_off(&reconcile(60), NOW.plus(60)).await.unwrap().is_empty(), "it is completed");
    let act = store.begin_restore(&restore()).await.unwrap();
    let (again, _) = store.restore_some(&restore(), act, None, 9, NOW.plus(30)).await.unwrap();
    assert!(again.is_empty(), "twice is once");
    let found = store.broken_off(&reconcile(60), NOW.plus(31)).await.unwrap();
    let [one] = &found[..] else { panic!("{found:?}") };
    assert_eq!((one.act, one.account, one.action.as_str()), (act, Some(operator.account), "restore"));
    assert!(store.give_up(&reconcile(60), act).await.unwrap());
    assert!(!store.give_up(&reconcile(60), act).await.unwrap(), "twice");
    for over in [
        store.restore_some(&restore(), act, None, 9, NOW).await.map(drop),
        store.complete_restore(restore(), act, 0).await,
    ] {
        assert!(matches!(over, Err(StoreError::Gone(_))), "{over:?}");
    }
    let all = RecordQuery { limit: 100, ..RecordQuery::default() };
    let acts = store.acts(&operate(), &all).await.unwrap();
    let rows: Vec<&str> = acts
        .iter()
        .rev()
        .filter(|row| row.action == "restore" || row.action == "reconcile")
        .map(|row| row.detail.split([':', ',']).next().unwrap())
        .collect();
    assert_eq!(rows, ["begun", "completed", "begun", "never completed"]);
}
