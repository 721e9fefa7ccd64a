//! What has to add up: uptime and snapshots, the log, the public projection, leases.

use std::sync::Arc;

use gangline_guard::{
    Job, act,
    log::{
        Checkpoint, Event, TilePath,
        checkpoint::{origin_of, verifier_of},
        tiles,
    },
    permit::permit,
    policy::on,
};
use gangline_rules::snapshot::{PeriodInput, take_in_groups};
use gangline_store::{EntryGroup, Lease, StoreError};
use gangline_types::{
    Hash, Hour, MicroCredits, Minute, Standing,
    public::{PublicSeason, PublicSnapshot},
};
use gangline_wire::api::{account::Role, public::GpusQuery};

use crate::{
    supply::prove,
    world::{Home, NOW, World, key_of},
};

/// Periods of a minute, so that a test has many.
fn season() -> PublicSeason {
    PublicSeason {
        number: 1,
        starts: NOW.minute(),
        ends: Minute(NOW.minute().0 + 120),
        period_minutes: 1,
        period_budget: MicroCredits(1_000_003),
    }
}

async fn snapshot(world: &World, period: u32) -> Result<PublicSnapshot, StoreError> {
    let from = Minute(NOW.minute().0 + period);
    let at = from.start().plus(660);
    let permit = world.job::<act::TakeSnapshot>(Job::Accountant, at);
    let compute = move |previous, inputs: Vec<PeriodInput>| {
        let mut groups = Vec::new();
        let head = take_in_groups(&season(), period, at, previous, &inputs, |group| {
            let records = group.records.to_vec();
            groups.push(EntryGroup { first: group.first, hash: group.hash, records });
        });
        (head, groups)
    };
    world.store.take_snapshot(permit, 1, from, Minute(from.0 + 1), compute).await
}

async fn open_season(world: &World) {
    let permit = world.job::<act::TakeSnapshot>(Job::Accountant, NOW);
    world.store.open_season(&permit, &season()).await.unwrap();
    world.store.open_season(&permit, &season()).await.unwrap();
    assert_eq!(world.store.season().await.unwrap(), Some(season()));
}

fn sign(size: u64, root: Hash) -> String {
    Checkpoint { origin: origin_of(&key_of(0).public()), size, root }.sign(&key_of(0)).to_string()
}

async fn integrate(world: &World) -> u64 {
    let permit = world.job::<act::Project>(Job::Projector, NOW);
    world.store.integrate(&permit, sign).await.unwrap()
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
async fn project_all(world: &World, at: u64) {
    let permit = world.job::<act::Project>(Job::Projector, NOW.plus(at));
    while world.store.project(&permit).await.unwrap().more {}
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
    assert_eq!(world.store.season_total(&own, 1).await.unwrap(), MicroCredits(2_000_006));
    assert_eq!(world.store.gpu_ids_of(&own).await.unwrap(), gpus);
    project_all(&world, 900).await;
    let public = world.store.public();
    let entries = public.entries(1, 0, None, 10).await.unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!((entries[0].proof, entries[0].share), (Some(proof), MicroCredits(1_000_003)));
    let rest = public.entries(1, 0, Some(gpus[0]), 10).await.unwrap();
    assert_eq!(rest, entries[1..]);
    let lines = public.lines(1, 0, &gpus).await.unwrap();
    assert_eq!(lines.iter().map(|(entry, _)| entry.clone()).collect::<Vec<_>>(), entries);
    assert_eq!(public.gpu(gpus[0]).await.unwrap().unwrap().season_share, MicroCredits(2_000_006));
    let list = world.store.public().snapshots(1, 0, None).await.unwrap();
    assert_eq!(list.snapshots, [first, taken.remove(0)]);
    assert_eq!(world.store.public().newest_snapshots(1, 1).await.unwrap()[0].period, 1);
    assert_eq!(world.store.public().gpu_entries(1, gpus[1], 9).await.unwrap().len(), 2);
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
    let entries = TilePath::Entries { index: 0, width: 2 };
    let bytes = world.store.public().log_tile(entries).await.unwrap().unwrap();
    let entries = tiles::bundle_entries(&bytes, 2).unwrap();
    let last = gangline_guard::log::Entry::from_bytes(&entries[1]).unwrap();
    assert_eq!(last.event, Event::PolicyChange { matrix });
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
        async move { store.project(&permit).await.unwrap() }
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
