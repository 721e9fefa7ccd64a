//! Who came and who fell silent is shown before the books have everybody's beats.

use gangline_guard::{Job, act};
use gangline_rules::uptime::CONNECTED_SECONDS;
use gangline_types::UnixSeconds;
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

pub async fn a_part_s_gpus_are_shown_when_it_is_folded_and_who_stays_away_by_the_oldest_part(world: World) {
    let supplier = world.someone(Role::Supplier).await;
    let machine = world.machine(&supplier).await;
    let gpus = world.gpus(&machine, 3).await;
    // All beat once; the first then stays away. The second's part is folded every two minutes, and is the newest; the third's is
    // folded for the first time while the oldest of all is five minutes behind.
    world.beat(&gpus[..2], NOW.minute(), NOW).await;
    let (behind, came) = (300, 400);
    let mut silent_after = None;
    for seconds in (1..=700).step_by(3) {
        let at = NOW.plus(seconds);
        if seconds % 120 == 1 {
            world.beat(&gpus[1..2], at.minute(), at).await;
        }
        if seconds == came {
            world.beat(&gpus[2..], at.minute(), at).await;
        }
        let known = UnixSeconds(at.0 - behind);
        let permit = world.job::<act::Project>(Job::Projector, at);
        while world.store.project(&permit, known).await.unwrap().more {}
        let of = async |n: usize| world.store.public().gpu(gpus[n]).await.unwrap().unwrap().connected;
        let shown = [of(0).await, of(1).await, of(2).await];
        assert_eq!(shown[1..], [true, seconds >= came], "after {seconds} s");
        if !shown[0] {
            silent_after.get_or_insert(seconds);
        } else {
            assert_eq!(silent_after, None, "the first came back without a beat");
        }
    }
    let silent_after = silent_after.expect("the first is shown as connected for ever");
    let expected = behind + CONNECTED_SECONDS;
    assert!((expected..expected + 6).contains(&silent_after), "silent after {silent_after} s");
}
