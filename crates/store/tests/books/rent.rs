//! Clusters from hire to receipt, and that no GPU has two at once.

use gangline_guard::{Job, act, permit::permit, policy::on};
use gangline_store::{ClosedCluster, NewCluster, StoreError};
use gangline_types::{
    ClusterId, GpuId, MicroCredits, Seconds, Text,
    cluster::ClusterState,
    receipt::{EndedBecause, Receipt},
};
use gangline_wire::api::{account::Role, cluster::SignedReceipt, enrol::KeyKind};

use crate::{
    supply::offer,
    world::{Machine, NOW, World, id, key_of},
};

/// A cluster with this number on a GPU.
pub fn new_cluster(n: u32, machine: &Machine, gpu: GpuId) -> NewCluster {
    NewCluster {
        cluster: ClusterId::from_bytes(id(10, n)),
        gpu: on::Gpu { gpu, machine: machine.machine, account: machine.account },
        offer: offer(gpu),
        token: format!("token {n}"),
        until: NOW.plus(3600),
    }
}

pub async fn one_gpu_has_one_cluster(world: World) {
    let supplier = world.someone(Role::Supplier).await;
    let machine = world.machine(&supplier).await;
    let gpu = world.gpus(&machine, 1).await[0];
    let renter = world.someone(Role::Renter).await;
    let (key, _) = world.key(&renter, KeyKind::CommandLine).await;
    let cli = world.signed(&key, 1).await.unwrap();
    let asks = (0..8).map(|n| {
        let (store, new) = (world.store.clone(), new_cluster(n, &machine, gpu));
        let permit = permit::<act::Hire>(&cli, on::Network, NOW).unwrap();
        tokio::spawn(async move { store.hire(permit, &new).await })
    });
    let (mut hired, mut gone) = (0, 0);
    for ask in asks.collect::<Vec<_>>() {
        match ask.await.unwrap() {
            Ok(()) => hired += 1,
            Err(StoreError::Gone(_)) => gone += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!((hired, gone), (1, 7));
    let live = world.store.live_clusters(&world.job::<act::Reconcile>(Job::Reconciler, NOW)).await.unwrap();
    assert_eq!(live.len(), 1);
}

pub async fn a_cluster_from_hire_to_receipt(world: World) {
    let store = &world.store;
    let operator = world.someone(Role::Operator).await;
    let supplier = world.someone(Role::Supplier).await;
    let machine = world.machine(&supplier).await;
    let gpu = world.gpus(&machine, 1).await[0];
    let renter = world.someone(Role::Renter).await;
    let (key, _) = world.key(&renter, KeyKind::CommandLine).await;
    let cli = world.signed(&key, 1).await.unwrap();
    let new = new_cluster(1, &machine, gpu);
    let cluster = new.cluster;
    store.hire(permit::<act::Hire>(&cli, on::Network, NOW).unwrap(), &new).await.unwrap();
    let resource = store.cluster_resource(cluster).await.unwrap().unwrap();
    assert_eq!((resource.renter, resource.machine), (renter.account, machine.machine));
    let used = permit::<act::UseCluster>(&cli, resource, NOW).unwrap();
    assert_eq!(store.cluster(&used).await.unwrap().token.as_deref(), Some("token 1"));
    let supply = machine.permit::<act::Supply>(NOW.plus(5));
    assert_eq!(store.clusters_on(&supply).await.unwrap().len(), 1);

    let so = Text::lossy("it is so");
    let observe =
        |before, after| store.observe_cluster(&supply, cluster, before, after, None, &so, Some("{}"));
    assert!(observe(ClusterState::Requested, ClusterState::Running).await.unwrap());
    assert!(!observe(ClusterState::Requested, ClusterState::Starting).await.unwrap(), "no longer as it was");
    let running = store.cluster(&used).await.unwrap();
    assert_eq!((running.state, running.started_at), (ClusterState::Running, Some(NOW.plus(5))));

    let release = permit::<act::ReleaseCluster>(&cli, resource, NOW.plus(60)).unwrap();
    store.release_cluster(release, EndedBecause::Released).await.unwrap();
    let reconcile = world.job::<act::Reconcile>(Job::Reconciler, NOW.plus(70));
    // Metering ended when it was first asked to.
    store.expire_cluster(&reconcile, cluster).await.unwrap();
    let releasing = store.released_cluster(cluster, &reconcile).await.unwrap();
    assert_eq!((releasing.state, releasing.ended_at), (ClusterState::Releasing, Some(NOW.plus(60))));
    let mut receipt = SignedReceipt {
        receipt: Receipt {
            cluster,
            gpu,
            started_at: Some(NOW.plus(5)),
            ended_at: NOW.plus(60),
            used: Seconds(55),
            price_per_hour: MicroCredits(7),
            cost: MicroCredits(1),
            because: EndedBecause::Released,
        },
        network_key: key_of(0).public(),
        network_signature: "first".into(),
        machine_signature: None,
    };
    let closed = ClosedCluster {
        cluster,
        state: ClusterState::Released,
        because: EndedBecause::Released,
        ended_at: NOW.plus(60),
        detail: Text::lossy("over"),
        receipt: receipt.clone(),
    };
    assert!(store.close_cluster(&reconcile, &closed).await.unwrap());
    assert!(!store.close_cluster(&reconcile, &closed).await.unwrap(), "one receipt");
    assert_eq!(store.clusters_on(&supply).await.unwrap().len(), 1, "it waits for the second signature");
    receipt.machine_signature = Some("second".into());
    store.countersign(&supply, cluster, &receipt).await.unwrap();
    let forged = SignedReceipt { machine_signature: Some("third".into()), ..receipt.clone() };
    store.countersign(&supply, cluster, &forged).await.unwrap();
    let over = store.cluster(&used).await.unwrap();
    assert_eq!((over.receipt, over.token), (Some(receipt), None));
    assert!(store.clusters_on(&supply).await.unwrap().is_empty());
    let own = permit::<act::ReadAccount>(&cli, on::Account { account: renter.account }, NOW).unwrap();
    assert_eq!(store.clusters_of(&own).await.unwrap().len(), 1);
    let operate = permit::<act::Operate>(&operator.browser, on::Network, NOW).unwrap();
    assert_eq!(store.all_clusters(&operate).await.unwrap().len(), 1);
    // The GPU is free again.
    let hire = permit::<act::Hire>(&cli, on::Network, NOW).unwrap();
    store.hire(hire, &new_cluster(2, &machine, gpu)).await.unwrap();
}
