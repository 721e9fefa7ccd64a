//! What has to add up: uptime and snapshots, the log, the public projection, leases.

use std::sync::Arc;

use gangline_guard::{
    Job, act,
    beat::{Batch, Line},
    log::{
        Checkpoint, Entry, Event, TilePath,
        checkpoint::{origin_of, verifier_of},
        entry::TableStep,
        tiles,
    },
    permit::permit,
    policy::on,
};
use gangline_rules::{
    bells::Bell, calibration::Table, shares::Purse, snapshot::PeriodInput, standing::Judgement,
};
use gangline_store::{Announced, Lease, StoreError, TakenSnapshot, Told};
use gangline_types::{
    Hash, Hour, MicroCredits, Minute, Profile, Standing, Text, UnixMillis,
    public::{PublicSeason, PublicSnapshot},
};
use gangline_wire::api::{account::Role, public::GpusQuery};

use crate::{
    supply::prove,
    world::{Home, NOW, World, key_of},
};

/// Periods of a minute, so that a test has many.
pub fn season() -> PublicSeason {
    PublicSeason {
        number: 1,
        starts: NOW.minute(),
        ends: Minute(NOW.minute().0 + 120),
        period_minutes: 1,
        period_budget: MicroCredits(1_000_003),
    }
}

pub async fn snapshot(world: &World, period: u32) -> Result<PublicSnapshot, StoreError> {
    let from = Minute(NOW.minute().0 + period);
    let at = from.start().plus(660);
    let permit = world.job::<act::TakeSnapshot>(Job::Accountant, at);
    let compute =
        move |previous, inputs: Vec<PeriodInput>| TakenSnapshot::of(&season(), period, at, previous, &inputs);
    world.store.take_snapshot(permit, 1, from, Minute(from.0 + 1), compute).await
}

pub async fn open_season(world: &World) {
    let permit = world.job::<act::TakeSnapshot>(Job::Accountant, NOW);
    world.store.open_season(&permit, &season()).await.unwrap();
    world.store.open_season(&permit, &season()).await.unwrap();
    assert_eq!(world.store.season().await.unwrap(), Some(season()));
}

fn sign(size: u64, root: Hash) -> String {
    Checkpoint { origin: origin_of(&key_of(0).public()), size, root }.sign(&key_of(0)).to_string()
}

pub async fn integrate(world: &World) -> u64 {
    let permit = world.job::<act::Project>(Job::Projector, NOW);
    world.store.integrate(&permit, sign).await.unwrap()
}

/// Every event of a log that fits one bundle.
pub async fn published(world: &World) -> Vec<Event> {
    let note = world.store.public().log_checkpoint().await.unwrap().unwrap();
    let checkpoint = Checkpoint::of_note(&note.parse().unwrap(), &verifier_of(&key_of(0).public())).unwrap();
    let width = checkpoint.size as usize;
    let bytes = world.store.public().log_tile(TilePath::Entries { index: 0, width }).await.unwrap().unwrap();
    let entries = tiles::bundle_entries(&bytes, width).unwrap();
    entries.iter().map(|bytes| Entry::from_bytes(bytes).unwrap().event).collect()
}

pub async fn a_beat_is_in_a_snapshot_or_late(world: World) {
    const PERIODS: u32 = 40;
    let supplier = world.someone(Role::Supplier).await;
    let machine = world.machine(&supplier).await;
    let gpus = world.gpus(&machine, 3).await;
    open_season(&world).await;
    let world = Arc::new(world);
    // The beats of each minute come in while that minute's snapshot is being taken.
    let beating = gpus.iter().map(|gpu| {
        let (world, gpu) = (world.clone(), *gpu);
        tokio::spawn(async move {
            for n in 0..PERIODS {
                world.beat(&[gpu], Minute(NOW.minute().0 + n), NOW.plus(3600)).await;
            }
        })
    });
    let beating: Vec<_> = beating.collect();
    for period in 0..PERIODS {
        snapshot(&world, period).await.unwrap();
    }
    for one in beating {
        one.await.unwrap();
    }
    project_all(&world, 4300).await;
    let hour = NOW.minute().hour();
    for gpu in gpus {
        let uptime = world.store.public().uptime(gpu, hour, Hour(hour.0 + 1)).await.unwrap();
        assert_eq!(uptime[0].bits.0.count_ones(), PERIODS, "every acknowledged beat is kept");
        let entries = world.store.public().gpu_entries(1, gpu, PERIODS).await.unwrap();
        for n in 0..PERIODS {
            let late = uptime[0].late.0 >> n & 1 == 1;
            let counted = entries.iter().any(|(period, entry)| *period == n && entry.minutes == 1);
            assert_ne!(late, counted, "minute {n} is in its snapshot or late, and never both");
        }
    }
}

/// Looks until there is nothing more to follow.
pub async fn project_all(world: &World, at: u64) {
    let permit = world.job::<act::Project>(Job::Projector, NOW.plus(at));
    while world.store.project(&permit, NOW.plus(at)).await.unwrap().more {}
}

pub async fn a_period_has_one_snapshot(world: World) {
    let supplier = world.someone(Role::Supplier).await;
    let machine = world.machine(&supplier).await;
    let gpus = world.gpus(&machine, 2).await;
    let proof = prove(&world, &machine, gpus[0], 1, 500).await;
    open_season(&world).await;
    assert_eq!(world.store.last_snapshot(1).await.unwrap(), None);
    for period in [0, 1] {
        let minute = Minute(NOW.minute().0 + period);
        world.beat(&gpus, minute, minute.start()).await;
    }
    let first = snapshot(&world, 0).await.unwrap();
    assert_eq!((first.gpus, first.previous_root), (2, Hash::default()));
    let world = Arc::new(world);
    let both = [1, 1].map(|period| {
        let world = world.clone();
        tokio::spawn(async move { snapshot(&world, period).await })
    });
    let mut taken = Vec::new();
    for one in both {
        taken.extend(one.await.unwrap());
    }
    assert_eq!(taken.len(), 1, "a period keeps its one snapshot");
    assert_eq!(taken[0].previous_root, first.root);
    assert_eq!(world.store.last_snapshot(1).await.unwrap().as_ref(), Some(&taken[0]));
    let own = on::Account { account: supplier.account };
    let own = permit::<act::ReadAccount>(&supplier.browser, own, NOW).unwrap();
    assert_eq!(world.store.season_sums(&own, 1).await.unwrap().paid, MicroCredits(2_000_006));
    assert_eq!(world.store.gpu_ids_of(&own).await.unwrap(), gpus);
    project_all(&world, 900).await;
    let public = world.store.public();
    let entries = public.entries(1, 0, None, 10).await.unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!((entries[0].proof, entries[0].share), (Some(proof), MicroCredits(1_000_003)));
    let rest = public.entries(1, 0, Some(gpus[0]), 10).await.unwrap();
    assert_eq!(rest, entries[1..]);
    let lines = public.lines(1, 0, &gpus, 100).await.unwrap();
    assert_eq!(lines.iter().map(|(entry, _)| entry.clone()).collect::<Vec<_>>(), entries);
    assert_eq!(public.gpu(gpus[0]).await.unwrap().unwrap().season_share, MicroCredits(2_000_006));
    let list = world.store.public().snapshots(1, 0, None).await.unwrap();
    assert_eq!(list.snapshots, [first, taken.remove(0)]);
    assert_eq!(world.store.public().newest_snapshots(1, 1).await.unwrap()[0].period, 1);
    assert_eq!(world.store.public().gpu_entries(1, gpus[1], 9).await.unwrap().len(), 2);
}

/// What a suspect GPU earns is held, and paid when it is proven again: in the books, in public, and by the rule.
pub async fn what_a_suspect_earns_is_held(world: World) {
    let supplier = world.someone(Role::Supplier).await;
    let machine = world.machine(&supplier).await;
    let gpus = world.gpus(&machine, 2).await;
    for (n, gpu) in [(1, gpus[0]), (2, gpus[1])] {
        prove(&world, &machine, gpu, n, 500).await;
    }
    open_season(&world).await;
    let judge = world.job::<act::Judge>(Job::Verifier, NOW);
    let mut purse = Purse::default();
    let plan = [
        (Standing::Proven, 500),
        (Standing::Suspect, 500),
        (Standing::Suspect, 500),
        (Standing::Proven, 500),
        (Standing::Suspect, 500),
        (Standing::Quarantined, 0),
    ];
    let own = on::Account { account: supplier.account };
    for ((standing, matrix_mmacs), period) in plan.into_iter().zip(0..) {
        let judgement = Judgement {
            standing,
            reason: Text::lossy("as the plan says"),
            profile: Profile { matrix_mmacs, memory_bytes: 1 << 20 },
            proof: None,
            shown_as: None,
        };
        world.store.set_standing(&judge, gpus[0], &judgement).await.unwrap();
        let minute = Minute(NOW.minute().0 + period);
        world.beat(&gpus, minute, minute.start()).await;
        snapshot(&world, period).await.unwrap();
        project_all(&world, 900 + u64::from(period)).await;
        let (_, entry) = world.store.public().gpu_entries(1, gpus[0], 1).await.unwrap().remove(0);
        assert_eq!((entry.standing, entry.share.0 > 0), (standing, standing != Standing::Quarantined));
        purse.take(standing, entry.share);
        let public = world.store.public().gpu(gpus[0]).await.unwrap().unwrap();
        assert_eq!((public.season_share.0, public.season_held.0), (purse.paid, purse.held), "{period}");
        let permit = permit::<act::ReadAccount>(&supplier.browser, own, NOW).unwrap();
        let sums = world.store.season_sums(&permit, 1).await.unwrap();
        let other = world.store.public().gpu(gpus[1]).await.unwrap().unwrap().season_share.0;
        assert_eq!((sums.paid.0, sums.held.0), (purse.paid + other, purse.held), "{period}");
    }
    assert!(purse.paid > 0 && purse.held == 0);
}

/// An hour has one bell, whichever server rings it first, and steps of calibration are in the log.
pub async fn bells_and_tables_are_in_the_log(world: World) {
    let judge = world.job::<act::Judge>(Job::Verifier, NOW);
    let bell = |root: u8| Bell {
        hour: NOW.minute().hour(),
        at: UnixMillis(NOW.0 * 1000 + 7),
        size: 3,
        root: Hash([root; 32]),
        salt: Hash([4; 32]),
    };
    assert_eq!(world.store.ring_bell(&judge, &bell(1)).await.unwrap(), bell(1));
    assert_eq!(world.store.ring_bell(&judge, &bell(2)).await.unwrap(), bell(1));

    let operator = world.someone(Role::Operator).await;
    let permit = permit::<act::Operate>(&operator.browser, on::Network, NOW).unwrap();
    let table = |version| Table { version, entries: vec![] };
    for (version, learned) in [(1, true), (2, false)] {
        let signer = key_of(3).public();
        world.store.add_calibration(&permit, &table(version), signer, &[0; 64], learned).await.unwrap();
    }
    integrate(&world).await;
    let steps: Vec<Event> = published(&world)
        .await
        .into_iter()
        .filter(|event| matches!(event, Event::Bell { .. } | Event::Calibration { .. }))
        .collect();
    let step = |version, step| Event::Calibration { version, step, digest: table(version).digest() };
    let (hour, millis) = (NOW.minute().hour().0, NOW.0 * 1000 + 7);
    assert_eq!(
        steps,
        [
            Event::Bell { hour, millis, size: 3, root: Hash([1; 32]), salt: Hash([4; 32]) },
            step(1, TableStep::Learned),
            step(1, TableStep::Canary),
            step(2, TableStep::Canary),
        ]
    );
}

pub async fn the_log_has_no_gap(world: World) {
    let world = Arc::new(world);
    let writing = (0..6).map(|n| {
        let world = world.clone();
        tokio::spawn(async move {
            for _ in 0..5 {
                world.someone(if n % 2 == 0 { Role::Supplier } else { Role::Renter }).await;
            }
        })
    });
    let writing: Vec<_> = writing.collect();
    let mut seen = integrate(&world).await;
    for one in writing {
        one.await.unwrap();
        seen += integrate(&world).await;
    }
    assert_eq!(seen, 30, "each of thirty invitations has its entry");
    assert_eq!(integrate(&world).await, 0);
}

pub async fn the_log_is_published_and_opened(world: World) {
    assert_eq!(world.store.public().log_checkpoint().await.unwrap(), None);
    assert_eq!(integrate(&world).await, 0);
    let operator = world.someone(Role::Operator).await;
    let matrix = Hash([8; 32]);
    let project = world.job::<act::Project>(Job::Projector, NOW);
    assert!(world.store.note_policy(&project, matrix).await.unwrap());
    assert!(!world.store.note_policy(&project, matrix).await.unwrap());
    assert_eq!(integrate(&world).await, 2);
    let note = world.store.public().log_checkpoint().await.unwrap().unwrap();
    let checkpoint = Checkpoint::of_note(&note.parse().unwrap(), &verifier_of(&key_of(0).public())).unwrap();
    assert_eq!(checkpoint.size, 2);
    assert_eq!(published(&world).await[1], Event::PolicyChange { matrix });
    let hashes = TilePath::Hashes { level: 0, index: 0, width: 2 };
    assert_eq!(world.store.public().log_tile(hashes).await.unwrap().unwrap().len(), 64);
    let more = TilePath::Hashes { level: 0, index: 0, width: 3 };
    assert_eq!(world.store.public().log_tile(more).await.unwrap(), None);
    let operate = permit::<act::Operate>(&operator.browser, on::Network, NOW).unwrap();
    assert!(world.store.log_opening(&operate, 1).await.unwrap().is_some());
    assert!(world.store.log_opening(&operate, 2).await.unwrap().is_none());
}

pub async fn the_projection_shows_what_is_public(world: World) {
    let supplier = world.someone(Role::Supplier).await;
    let machine = world.machine(&supplier).await;
    let gpus = world.gpus(&machine, 3).await;
    prove(&world, &machine, gpus[0], 1, 500).await;
    world.beat(&gpus[..2], NOW.minute(), NOW).await;
    let project = |at: u64| {
        let (store, permit) = (world.store.clone(), world.job::<act::Project>(Job::Projector, NOW.plus(at)));
        async move { store.project(&permit, NOW.plus(at)).await.unwrap() }
    };
    let first = project(1).await;
    assert_eq!((first.totals.registered, first.totals.connected, first.totals.proven), (3, 2, 1));
    assert_eq!(first.changed.len(), 3);
    assert!(project(2).await.changed.is_empty(), "nothing changed");
    let silent = project(600).await;
    assert_eq!((silent.totals.connected, silent.changed.len()), (0, 2), "connection ages without a write");

    let public = world.store.public();
    assert_eq!(public.totals().await.unwrap(), silent.totals);
    let found = |query: GpusQuery| async move { public.gpus(&query).await.unwrap() };
    let all = found(GpusQuery::default()).await;
    assert_eq!(all.gpus.iter().map(|g| g.id).collect::<Vec<_>>(), gpus);
    let page = found(GpusQuery { limit: Some(2), ..Default::default() }).await;
    assert_eq!((page.gpus.len(), page.next), (2, Some(gpus[1])));
    let rest = found(GpusQuery { after: page.next, ..Default::default() }).await;
    assert_eq!(rest.gpus.len(), 1);
    for (text, hits) in
        [("a CARD", 3), (&gpus[2].to_string()[..], 1), ("%", 0), ("_", 0), ("' OR 1=1 --", 0), ("\\", 0)]
    {
        let query = GpusQuery { q: Some(text.to_owned()), ..Default::default() };
        // An id begins with `gpu_`, so a lone underscore would match as a wildcard.
        assert_eq!(found(query).await.gpus.len(), hits, "{text}");
    }
    let proven = GpusQuery { standing: Some(Standing::Proven), ..Default::default() };
    assert_eq!(found(proven).await.gpus.len(), 1);
    let places = public.changed_after((0, gangline_types::GpuId::from_bytes([0; 16])), 10).await.unwrap();
    assert_eq!(places.len(), 3);
    assert!(public.changed_after((places[2].0, places[2].1.id), 10).await.unwrap().is_empty());
    let one = public.gpu(gpus[0]).await.unwrap().unwrap();
    assert_eq!((one.standing, one.uptime_minutes_day), (Standing::Proven, 1));
    let models = public.models().await.unwrap();
    assert_eq!((models.len(), models[0].connected, models[0].proven), (1, 0, 0));
    let proofs = public.proofs(gpus[0]).await.unwrap();
    assert_eq!((proofs.len(), proofs[0].accepted), (1, true));
    assert!(public.transcript(proofs[0].id).await.unwrap().is_none(), "it was never opened");
    assert_eq!(public.connected_curve().await.unwrap().len(), 2);
    world.store.is_writable().await.unwrap();
}

pub async fn a_lease_is_one_holders(world: World) {
    let first = world.store.lease("accountant").await.unwrap().unwrap();
    assert_eq!(world.store.lease("accountant").await.unwrap(), Some(first), "its holder renews it");
    first.holding(async { world.someone(Role::Renter).await }).await;
    let Home::Database(_, url) = &world.home else {
        // One server has the folder, and every lease.
        return;
    };
    let other = World::connect(url, 2).await.unwrap();
    assert_eq!(other.lease("accountant").await.unwrap(), None, "held by another");
    world.store.give_leases_back().await.unwrap();
    let second = other.lease("accountant").await.unwrap().unwrap();
    assert_eq!(second, Lease { generation: first.generation + 1, ..first });
    // What the first began under its generation is refused from now on.
    let season = season();
    let permit = world.job::<act::TakeSnapshot>(Job::Accountant, NOW);
    let stale = first.holding(world.store.open_season(&permit, &season)).await;
    assert!(matches!(stale, Err(StoreError::LeaseLost { name: "accountant" })), "{stale:?}");
    second.holding(other.open_season(&permit, &season)).await.unwrap();
    assert_eq!(world.store.season().await.unwrap(), Some(season));
    other.close().await;
}

pub async fn what_a_server_left_behind_is_taken_over(world: World) {
    let permit = world.job::<act::Reconcile>(Job::Reconciler, NOW);
    assert!(world.store.left_behind(&permit).await.unwrap().is_none());
    let Home::Database(_, url) = &world.home else {
        // Its journal is in its folder, and comes back with it.
        let folder = tempfile::tempdir().unwrap();
        let refused = world.store.journal(folder.path()).map(|_| ()).unwrap_err();
        assert!(refused.hint().is_some(), "{refused}");
        return;
    };
    let other = World::connect(url, 2).await.unwrap();
    assert_eq!(
        other.announce("", 30).await.unwrap(),
        Announced { is_new: true, behind: 0 },
        "nobody else is up"
    );
    assert_eq!(world.store.announce("", 0).await.unwrap(), Announced { is_new: true, behind: 30 });
    assert_eq!(other.announce("", 0).await.unwrap(), Announced { is_new: false, behind: 0 });
    let folder = tempfile::tempdir().unwrap();
    let mut journal = other.journal(folder.path()).unwrap();
    journal.replay(|line| panic!("{line:?} was there before")).await.unwrap();
    let minute = NOW.minute();
    let mut numbers = Vec::new();
    for n in 0..3 {
        let mut batch = Batch::default();
        batch.up(Minute(minute.0 + n));
        numbers.push(journal.append(minute.hour(), &batch).await.unwrap());
    }
    assert!(numbers.is_sorted() && numbers[0] < numbers[2]);
    journal.discard(numbers[0], minute.hour()).await.unwrap();
    assert!(world.store.left_behind(&permit).await.unwrap().is_none(), "it is still up");
    assert!(other.left_behind(&permit).await.unwrap().is_none(), "its own is not left behind");
    other.retire().await.unwrap();
    let left = world.store.left_behind(&permit).await.unwrap().unwrap();
    let up: Vec<Line> = [1, 2].map(|n| Line::Up(Minute(minute.0 + n))).to_vec();
    assert_eq!((left.stream, left.last, &left.lines), ([2; 16], numbers[2], &up));
    // What it writes all the same, having only been away, is not forgotten with the rest.
    let mut batch = Batch::default();
    batch.up(Minute(minute.0 + 3));
    journal.append(minute.hour(), &batch).await.unwrap();
    world.store.forget_left_behind(&permit, &left).await.unwrap();
    let left = world.store.left_behind(&permit).await.unwrap().unwrap();
    assert_eq!(left.lines, [Line::Up(Minute(minute.0 + 3))]);
    world.store.forget_left_behind(&permit, &left).await.unwrap();
    assert!(world.store.left_behind(&permit).await.unwrap().is_none());
    journal.close().await;
    other.close().await;
}

pub async fn what_ended_is_told_to_every_server(world: World) {
    let Home::Database(_, url) = &world.home else {
        assert!(world.store.hear().await.unwrap().is_none(), "it is alone");
        return;
    };
    let other = World::connect(url, 2).await.unwrap();
    let mut hearing = other.hear().await.unwrap().unwrap();
    let renter = world.someone(Role::Renter).await;
    let own = on::Account { account: renter.account };
    world.store.end_session(permit::<act::ReadAccount>(&renter.browser, own, NOW).unwrap()).await.unwrap();
    assert_eq!(hearing.next().await.unwrap(), Told::Ended);
    drop(hearing);
    other.close().await;
}
