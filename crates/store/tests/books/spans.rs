//! Old entries of snapshots are packed, and nothing of them is lost.

use gangline_guard::{Job, act};
use gangline_rules::{snapshot::check_inclusion, spans::SPAN};
use gangline_store::PublicStore;
use gangline_types::{GpuId, Minute, public::PublicEntry};
use gangline_wire::api::account::Role;

use crate::{
    ledger::{open_season, season, snapshot},
    supply::prove,
    world::{Home, NOW, World},
};

/// Snapshots that are taken: a whole span, and some of the next.
pub const TAKEN: u32 = SPAN as u32 + 3;

/// All that is told of the entries: whole lists, in pages of two, lines with their ways to the roots, and one GPU's.
pub async fn told(public: &PublicStore, gpus: &[GpuId]) -> Vec<Vec<PublicEntry>> {
    let mut all = Vec::new();
    for period in 0..TAKEN {
        let whole = public.entries(1, period, None, 100).await.unwrap();
        let mut pages = public.entries(1, period, None, 2).await.unwrap();
        pages.extend(public.entries(1, period, pages.last().map(|last| last.gpu), 100).await.unwrap());
        assert_eq!(whole, pages);
        let head = public.snapshot(1, period).await.unwrap().unwrap();
        let lines = public.lines(1, period, gpus, 100).await.unwrap();
        assert!(lines.iter().all(|(entry, way)| check_inclusion(&head, entry, way)));
        assert_eq!(lines.into_iter().map(|(entry, _)| entry).collect::<Vec<_>>(), whole);
        assert_eq!(head.gpus as usize, whole.len());
        all.push(whole);
    }
    for gpu in gpus {
        let newest_first = public.gpu_entries(1, *gpu, 200).await.unwrap();
        let of = |period: u32| all[period as usize].iter().find(|entry| entry.gpu == *gpu).cloned();
        let expected: Vec<_> = (0..TAKEN).rev().filter_map(|period| Some((period, of(period)?))).collect();
        assert_eq!(newest_first, expected);
    }
    all
}

/// Packs the first span, in the books or in the projection.
pub async fn pack(world: &World, is_public: bool) {
    let permit = world.job::<act::Reconcile>(Job::Reconciler, NOW);
    assert_eq!(world.store.packed_spans(&permit, is_public, 1).await.unwrap(), 0);
    world.store.pack_entries(&permit, is_public, &season(), 0).await.unwrap();
    assert_eq!(world.store.packed_spans(&permit, is_public, 1).await.unwrap(), 1);
}

pub async fn old_entries_are_packed_and_told_as_before(world: World) {
    let supplier = world.someone(Role::Supplier).await;
    let machine = world.machine(&supplier).await;
    let mut gpus = world.gpus(&machine, 4).await;
    gpus.sort_unstable();
    open_season(&world).await;
    let (store, public) = (world.store.clone(), world.store.public().clone());
    for period in 0..TAKEN {
        let at = Minute(NOW.minute().0 + period);
        // One is proven later than others, one is away every third minute, one never beats.
        if period == 0 || period == 5 {
            prove(&world, &machine, gpus[period as usize / 5], 40 + period, 1_000 + u64::from(period)).await;
        }
        let up = if period % 3 == 0 { &gpus[..2] } else { &gpus[..3] };
        world.beat(up, at, at.start().plus(59)).await;
        snapshot(&world, period).await.unwrap();
    }
    let project = world.job::<act::Project>(Job::Projector, NOW);
    while store.project(&project, NOW).await.unwrap().more {}
    let before = told(world.store.public(), &gpus).await;
    assert_eq!((before[0].len(), before[1].len()), (2, 3));
    assert!(before[1].iter().any(|entry| entry.share.0 > 0));

    for is_public in [true, false] {
        pack(&world, is_public).await;
        assert_eq!(told(world.store.public(), &gpus).await, before);
    }
    assert_eq!(public.season().await.unwrap(), Some(season()));
    drop((store, public));

    // A projection that is lost is filled from what is packed in the books.
    if let Home::Folder(folder) = &world.home {
        let file = folder.path().join("public.sqlite");
        world.store.close().await;
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", file.display()));
        }
        let world = world.reopened().await;
        while world.store.project(&world.job::<act::Project>(Job::Projector, NOW), NOW).await.unwrap().more {}
        assert_eq!(told(world.store.public(), &gpus).await, before);
    }
}
