//! Who came and who fell silent is shown before the books have everybody's beats.

use gangline_guard::{Job, act};
use gangline_wire::api::account::Role;

use crate::world::{NOW, World};

pub async fn who_turned_is_shown_although_the_books_lag(world: World) {
    let supplier = world.someone(Role::Supplier).await;
    let machine = world.machine(&supplier).await;
    let gpus = world.gpus(&machine, 2).await;
    // The books have everybody's beats up to here and no further.
    let known = NOW.plus(60);
    let shown = async |seconds: u64| {
        let permit = world.job::<act::Project>(Job::Projector, NOW.plus(seconds));
        while world.store.project(&permit, known).await.unwrap().more {}
        let of = async |n: usize| world.store.public().gpu(gpus[n]).await.unwrap().unwrap().connected;
        [of(0).await, of(1).await]
    };
    world.beat(&gpus, NOW.minute(), known).await;
    assert_eq!(shown(60).await, [true, true]);
    assert_eq!(shown(400).await, [true, true], "who has not beaten since may have");
    let reconcile = world.job::<act::Reconcile>(Job::Reconciler, NOW.plus(400));
    world.store.turned(&reconcile, &[], &gpus[..1], NOW.plus(400)).await.unwrap();
    // With several servers nobody knows that alone.
    assert_eq!(shown(400).await, [world.store.is_shared(), true]);
    let at = NOW.plus(430);
    world.beat(&gpus[..1], at.minute(), at).await;
    world.store.turned(&reconcile, &gpus[..1], &[], at).await.unwrap();
    assert_eq!(shown(430).await, [true, true]);
}
