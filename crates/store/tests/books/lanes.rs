//! Epochs that machines opened: their lanes, and the chains that they signed.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use gangline_guard::{Job, Permit, act, beat::Gate, permit::permit, policy::on};
use gangline_store::{ChainRow, Fold, FoldedLink, LaneRow, Store, StoreError};
use gangline_types::{GpuId, Hour, KeyId};
use gangline_wire::{
    api::account::Role,
    beat::{Alias, Epoch, Preimage},
};

use crate::{
    ledger::project_all,
    world::{Home, Machine, NOW, World},
};

/// A lane as a machine opens it, with chains whose tips say `tip`.
fn lane(machine: &Machine, epoch: Epoch, gpus: &[GpuId], tip: u8) -> (LaneRow, Vec<ChainRow>) {
    let tip = Preimage([tip; 16]);
    let permit = machine.permit::<act::Beat>(NOW);
    let (grant, _) = Gate::new([5; 32]).open(&permit, epoch, tip).unwrap();
    let chain = |gpu: &GpuId| ChainRow {
        gpu: *gpu,
        starts: NOW.minute(),
        tip,
        public_key: [1; 32],
        signature: [2; 64],
    };
    let gpus: Vec<_> = gpus.iter().map(|gpu| (*gpu, tip)).collect();
    let chains = gpus.iter().map(|(gpu, _)| chain(gpu)).collect();
    (LaneRow { grant, gpus }, chains)
}

async fn write_down(
    store: &Store,
    permit: Permit<act::Beat>,
    lane: LaneRow,
    chains: Vec<ChainRow>,
) -> Result<(), StoreError> {
    store.open_each_lane(vec![(permit, lane, chains)]).await.remove(0)
}

/// Opens an epoch.
pub async fn open(world: &World, machine: &Machine, epoch: Epoch, gpus: &[GpuId], tip: u8) -> Alias {
    let (lane, chains) = lane(machine, epoch, gpus, tip);
    let alias = lane.grant.alias();
    write_down(&world.store, machine.permit(NOW), lane, chains).await.unwrap();
    alias
}

async fn aliases(world: &World, from: Epoch) -> BTreeSet<u64> {
    let lanes = world.store.lanes(from).await.unwrap();
    let aliases: BTreeSet<u64> = lanes.iter().map(|lane| lane.grant.alias().0).collect();
    assert_eq!(aliases.len(), lanes.len(), "a lane is there twice");
    aliases
}

pub async fn a_lane_is_there_until_its_key_ends(world: World) {
    let ada = world.someone(Role::Supplier).await;
    let (one, other) = (world.machine(&ada).await, world.machine(&ada).await);
    let (ones, others) = (world.gpus(&one, 2).await, world.gpus(&other, 1).await);
    let epoch = Epoch::of(NOW);
    let (first, second) =
        tokio::join!(open(&world, &one, epoch, &ones, 1), open(&world, &other, epoch, &others, 2));
    let old = open(&world, &other, epoch.previous(), &others, 3).await;
    // Twice is once.
    assert_eq!(open(&world, &one, epoch, &ones, 1).await, first);
    let set = |some: &[Alias]| some.iter().map(|alias| alias.0).collect::<BTreeSet<u64>>();
    assert_eq!(aliases(&world, epoch).await, set(&[first, second]));
    assert_eq!(aliases(&world, epoch.previous()).await, set(&[first, second, old]));
    let known = world.store.lanes(epoch).await.unwrap();
    let known = known.iter().find(|lane| lane.grant.alias() == first).unwrap();
    assert_eq!(known.gpus, ones.iter().map(|gpu| (*gpu, Preimage([1; 16]))).collect::<Vec<_>>());
    assert_eq!(
        (known.grant.machine(), known.grant.key(), known.grant.epoch()),
        (one.machine, one.key.public().id(), epoch)
    );
    // Nobody opens one as somebody else, and who does keeps nobody else from it.
    let opening = |by: &Machine, (lane, chains)| (by.permit(NOW), lane, chains);
    let tried = vec![
        opening(&one, lane(&one, epoch, &ones, 1)),
        opening(&other, lane(&one, epoch, &ones, 4)),
        opening(&other, lane(&other, epoch, &others, 2)),
    ];
    let answers = world.store.open_each_lane(tried).await;
    assert!(matches!(answers[..], [Ok(()), Err(StoreError::Gone(_)), Ok(())]), "{answers:?}");
    // The same as another process finds it.
    let world = world.reopened().await;
    assert_eq!(aliases(&world, epoch.previous()).await, set(&[first, second, old]));

    // A chain is shown with the values that were.
    let link = FoldedLink {
        gpu: ones[0],
        hour: NOW.minute().hour(),
        tip: Preimage([1; 16]),
        count: 1,
        preimage: Preimage([7; 16]),
    };
    let fold = Fold { links: vec![link], taken_at: NOW, ..Fold::default() };
    let reconcile = world.job::<act::Reconcile>(Job::Reconciler, NOW);
    world.store.fold(&reconcile, &fold).await.unwrap();
    world.beat(&ones, NOW.minute(), NOW).await;
    project_all(&world, 1).await;
    let all = (Hour(0), Hour(NOW.minute().hour().0 + 1));
    let shown = world.store.public().chains(ones[0], all.0, all.1).await.unwrap();
    assert_eq!(shown.len(), 1);
    assert_eq!((&shown[0].public_key.0, shown[0].starts), (&[1; 32], NOW.minute()));
    assert_eq!(shown[0].links.len(), 1);

    // It ends with its key, and is told as long as it is asked for, also when more were opened meanwhile.
    assert!(world.store.ended_lanes(NOW).await.unwrap().is_empty());
    for (machine, ended) in [(&other, &[second, old][..]), (&one, &[second, old, first])] {
        let resource = on::Key { key: machine.key.public().id(), account: ada.account };
        let revoke = permit::<act::RevokeKey>(&ada.browser, resource, NOW.plus(5)).unwrap();
        world.store.revoke_key(revoke).await.unwrap();
        for _ in 0..2 {
            let told = world.store.ended_lanes(NOW).await.unwrap();
            assert_eq!(set(&told), set(ended));
        }
        assert!(world.store.ended_lanes(NOW.plus(6)).await.unwrap().is_empty());
    }
    assert!(aliases(&world, epoch.previous()).await.is_empty());
    // And with its epoch.
    let third = world.machine(&ada).await;
    let thirds = world.gpus(&third, 1).await;
    let third = open(&world, &third, epoch, &thirds, 5).await;
    assert_eq!(aliases(&world, epoch).await, set(&[third]));
    world.store.forget_lanes(&reconcile, Epoch(epoch.0 + 1)).await.unwrap();
    assert!(aliases(&world, Epoch(0)).await.is_empty());
    assert_eq!(world.store.public().chains(ones[0], all.0, all.1).await.unwrap().len(), 1);
}

pub async fn a_server_is_told_which_lanes_others_opened(world: World) {
    let ada = world.someone(Role::Supplier).await;
    let (one, other) = (world.machine(&ada).await, world.machine(&ada).await);
    let (ones, others) = (world.gpus(&one, 1).await, world.gpus(&other, 1).await);
    let told = async |store: &Store, since| {
        let lanes = store.lanes_opened(since).await.unwrap();
        lanes.iter().map(|lane| lane.grant.alias().0).collect::<BTreeSet<u64>>()
    };
    let opened = [
        open(&world, &one, Epoch::of(NOW), &ones, 1).await,
        open(&world, &other, Epoch::of(NOW), &others, 2).await,
    ];
    let both: BTreeSet<u64> = opened.iter().map(|alias| alias.0).collect();
    assert_eq!(told(&world.store, NOW).await, BTreeSet::new(), "its own");
    let Home::Database(_, url) = &world.home else { return };
    let second = World::connect(url, 2).await.unwrap();
    assert_eq!(told(&second, NOW).await, both);
    assert_eq!(told(&second, NOW.plus(1)).await, BTreeSet::new(), "longer ago");
    // Who opened it last knows it; the other is told, for it may have become another.
    let (again, chains) = lane(&one, Epoch::of(NOW), &ones, 1);
    write_down(&second, one.permit(NOW.plus(5)), again, chains).await.unwrap();
    assert_eq!(told(&world.store, NOW).await, [opened[0].0].into());
    assert_eq!(told(&second, NOW).await, [opened[1].0].into());
    // Not with a key that has ended.
    let resource = on::Key { key: other.key.public().id(), account: ada.account };
    world
        .store
        .revoke_key(permit::<act::RevokeKey>(&ada.browser, resource, NOW.plus(6)).unwrap())
        .await
        .unwrap();
    assert_eq!(told(&second, NOW).await, BTreeSet::new());
    second.close().await;
}

pub async fn who_asks_at_once_is_each_answered(world: World) {
    let ada = world.someone(Role::Supplier).await;
    let mut machines = Vec::new();
    for n in 0..24 {
        let machine = world.machine(&ada).await;
        machines.push((world.gpus(&machine, 1 + n % 3).await, machine));
    }
    let epoch = Epoch::of(NOW);
    // Each with a copy of its request, all at once; among them one whose key nobody knows.
    let both = machines.iter().flat_map(|one| [one, one]);
    let signed = join_all(both.clone().map(|(_, machine)| world.signed(&machine.key, 2)));
    let (signed, unknown) = tokio::join!(signed, world.store.key(KeyId::from_bytes([9; 16])));
    for copies in signed.chunks(2) {
        let fresh = copies.iter().filter(|one| one.is_ok()).count();
        assert_eq!(fresh, 1, "of a request and its copy {fresh} counted");
    }
    assert!(unknown.unwrap().is_none());
    let gpus = join_all(both.clone().map(async |(gpus, machine)| {
        assert_eq!(&world.store.own_gpus(&machine.permit::<act::Beat>(NOW)).await.unwrap(), gpus);
    }));
    let opened = join_all(both.map(|(gpus, machine)| open(&world, machine, epoch, gpus, 7)));
    let (_, opened) = tokio::join!(gpus, opened);
    let opened: BTreeSet<u64> = opened.iter().map(|alias| alias.0).collect();
    assert_eq!((opened.len(), aliases(&world, epoch).await), (24, opened));
    for (gpus, _) in &machines {
        world.beat(gpus, NOW.minute(), NOW).await;
        for gpu in gpus {
            let link = FoldedLink {
                gpu: *gpu,
                hour: NOW.minute().hour(),
                tip: Preimage([7; 16]),
                count: 1,
                preimage: Preimage([8; 16]),
            };
            let fold = Fold { links: vec![link], taken_at: NOW, ..Fold::default() };
            world.store.fold(&world.job::<act::Reconcile>(Job::Reconciler, NOW), &fold).await.unwrap();
        }
    }
    project_all(&world, 1).await;
    for gpu in machines.iter().flat_map(|(gpus, _)| gpus) {
        let hour = NOW.minute().hour();
        let shown = world.store.public().chains(*gpu, hour, Hour(hour.0 + 1)).await.unwrap();
        assert_eq!(shown.len(), 1, "{gpu} has {} chains", shown.len());
    }
}
