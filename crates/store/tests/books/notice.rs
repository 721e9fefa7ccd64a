//! What was noticed, what is frozen for it, and who is told.

use gangline_guard::{
    Job, act,
    detect::{Alarm, What},
    freeze::Target,
    notice::{Event, Outlet, Raised, Subject},
    permit::permit,
    policy::on,
};
use gangline_store::{
    DeliveryState, IncidentRow, IncidentState, NewDelivery, NewFreeze, NewIncident, Settled, StoreError,
};
use gangline_types::{DeliveryId, FreezeId, IncidentId, KeyId, UnixMillis, UnixSeconds};
use gangline_wire::api::account::Role;

use crate::world::{NOW, World, id, key_of};

fn key(n: u8) -> KeyId {
    KeyId::from_bytes([n; 16])
}

fn raised(what: What, n: u8) -> Raised {
    Raised {
        alarm: Alarm { what, at: NOW, seen: 1.0, usual: 0.0 },
        subject: Subject::Key(key(n)),
        key: Some(key(n)),
        account: None,
        block: None,
        action: None,
        resource: Some("gpu_1".into()),
    }
}

impl World {
    async fn note(&self, what: What, n: u8, count: u64) -> IncidentId {
        let new =
            NewIncident { id: IncidentId::from_bytes(id(9, self.next())), raised: raised(what, n), count };
        let noted = self.store.note_incident(&self.job::<act::Watch>(Job::Watcher, NOW), &new).await.unwrap();
        assert_eq!(noted.opened, noted.id == new.id);
        noted.id
    }
}

pub async fn an_alarm_is_folded_until_it_is_closed(world: World) {
    let operator = world.someone(Role::Operator).await;
    let operate = || permit::<act::Operate>(&operator.browser, on::Network, NOW).unwrap();
    let contain = || permit::<act::Contain>(&operator.browser, on::Network, NOW).unwrap();
    let first = world.note(What::ForeignTouch, 1, 1).await;
    assert_eq!(world.note(What::ForeignTouch, 1, 21).await, first);
    let other = world.note(What::ForeignTouch, 2, 1).await;
    assert_ne!(other, first);
    let rows = world.store.incidents(&operate(), false).await.unwrap();
    let row = |id| rows.iter().find(|row: &&IncidentRow| row.id == id).unwrap();
    assert_eq!((rows.len(), row(first).count, row(first).state), (2, 22, IncidentState::Open));
    assert_eq!((row(first).key, row(first).resource.as_str()), (Some(key(1)), "gpu_1"));

    world.store.set_incident(contain(), first, IncidentState::Closed, "seen").await.unwrap();
    let again = world.store.set_incident(contain(), first, IncidentState::Closed, "seen").await;
    assert!(matches!(again, Err(StoreError::Gone(_))), "{again:?}");
    assert_ne!(world.note(What::ForeignTouch, 1, 1).await, first, "what happens from now on is another one");
    assert_eq!(world.store.incidents(&operate(), false).await.unwrap().len(), 2);
    assert_eq!(world.store.incidents(&operate(), true).await.unwrap().len(), 3);

    // Closed ones are kept for a while; those that are not closed for as long as they are not.
    let day = 24 * 3_600;
    let sweep = |at| world.job::<act::Reconcile>(Job::Reconciler, at);
    world.store.sweep(&sweep(NOW.plus(89 * day)), 90 * day, day).await.unwrap();
    assert_eq!(world.store.incidents(&operate(), true).await.unwrap().len(), 3);
    world.store.sweep(&sweep(NOW.plus(91 * day)), 90 * day, day).await.unwrap();
    assert_eq!(world.store.incidents(&operate(), true).await.unwrap().len(), 2);
}

pub async fn one_thing_is_frozen_once_and_thawed(world: World) {
    let operator = world.someone(Role::Operator).await;
    let halt = on::Halt { target: Target::Key(key(1)), seconds: None };
    let by_hand = permit::<act::Freeze>(&operator.browser, halt, NOW).unwrap();
    let lift = |freeze| {
        let on = on::Freeze { freeze, target: Target::Key(key(1)) };
        permit::<act::Thaw>(&operator.browser, on, NOW).unwrap()
    };
    let watch = world.job::<act::Watch>(Job::Watcher, NOW);
    let freeze = |n: u32, until: Option<UnixSeconds>| NewFreeze {
        id: FreezeId::from_bytes(id(8, n)),
        target: Target::Key(key(1)),
        until,
        reason: "a test".into(),
        incident: None,
    };
    let made = world.store.freeze_by_rule(&watch, &freeze(1, Some(NOW.plus(60)))).await.unwrap();
    assert_eq!(world.store.freeze(by_hand, &freeze(2, None)).await.unwrap(), made, "it is frozen already");
    assert_eq!(world.store.frozen(NOW).await.unwrap().len(), 1);
    world.store.thaw(lift(made)).await.unwrap();
    assert!(world.store.frozen(NOW).await.unwrap().is_empty());
    assert!(matches!(world.store.thaw(lift(made)).await, Err(StoreError::Gone(_))));
    let second = world.store.freeze_by_rule(&watch, &freeze(3, Some(NOW.plus(60)))).await.unwrap();
    assert_ne!(second, made);
    assert!(world.store.frozen(NOW.plus(60)).await.unwrap().is_empty(), "it ends by itself");
}

fn message(n: u32, event: Event, about: &[(IncidentId, Event, u64)]) -> NewDelivery {
    NewDelivery {
        id: DeliveryId::from_bytes(id(7, n)),
        outlet: Outlet::Webhook,
        event,
        subject: "a subject".into(),
        body: "{}".into(),
        about: about.to_vec(),
    }
}

pub async fn an_outlet_is_told_of_what_is_new_grew_or_closed(world: World) {
    let operator = world.someone(Role::Operator).await;
    let watch = || world.job::<act::Watch>(Job::Watcher, NOW);
    let unsaid = async |outlet| {
        let mut found: Vec<_> = world.store.unsaid(&watch(), outlet).await.unwrap();
        found.sort_by_key(|f| f.incident.id);
        found.into_iter().map(|f| (f.incident.id, f.told_count)).collect::<Vec<_>>()
    };
    let first = world.note(What::ForeignTouch, 1, 1).await;
    let second = world.note(What::Breadth, 2, 1).await;
    world.note(What::Unusual, 3, 1).await;
    let both = [(first, None), (second, None)];
    assert_eq!(unsaid(Outlet::Webhook).await, both, "what is only to be looked at is not told");
    let told = [(first, Event::Opened, 1), (second, Event::Opened, 1)];
    world.store.make_deliveries(&watch(), &[message(1, Event::Many, &told)]).await.unwrap();
    assert_eq!(unsaid(Outlet::Webhook).await, []);
    assert_eq!(unsaid(Outlet::Mail).await, both, "each outlet is told for itself");
    world.note(What::ForeignTouch, 1, 8).await;
    assert_eq!(unsaid(Outlet::Webhook).await, []);
    world.note(What::ForeignTouch, 1, 1).await;
    assert_eq!(unsaid(Outlet::Webhook).await, [(first, Some(1))], "ten times as often");
    let grew = message(2, Event::Grew, &[(first, Event::Grew, 10)]);
    world.store.make_deliveries(&watch(), &[grew]).await.unwrap();
    assert_eq!(unsaid(Outlet::Webhook).await, []);
    let contain = permit::<act::Contain>(&operator.browser, on::Network, NOW).unwrap();
    world.store.set_incident(contain, first, IncidentState::Closed, "").await.unwrap();
    assert_eq!(unsaid(Outlet::Webhook).await, [(first, Some(10))]);
    assert_eq!(unsaid(Outlet::Mail).await, [(second, None)], "it was over before anybody was told");
    let closed = message(3, Event::Closed, &[(first, Event::Closed, 10)]);
    world.store.make_deliveries(&watch(), &[closed]).await.unwrap();
    assert_eq!(unsaid(Outlet::Webhook).await, []);

    let lately = async |since| world.store.sent_lately(&watch(), Outlet::Webhook, since).await.unwrap();
    let sent = lately(UnixSeconds(NOW.0 - 1)).await;
    assert_eq!((sent.singles, sent.many_at), (2, Some(NOW)));
    let later = lately(NOW).await;
    assert_eq!((later.singles, later.many_at), (0, None));
}

pub async fn a_message_is_tried_by_one_and_given_up_once(world: World) {
    let operator = world.someone(Role::Operator).await;
    let watch = || world.job::<act::Watch>(Job::Watcher, NOW);
    let at = |seconds: u64| UnixMillis(NOW.0 * 1_000 + seconds * 1_000);
    let take = async |now: u64| {
        world.store.claim_deliveries(&watch(), Outlet::Webhook, at(now), at(now + 60), 4).await.unwrap()
    };
    let row = async || {
        let operate = permit::<act::Operate>(&operator.browser, on::Network, NOW).unwrap();
        world.store.deliveries(&operate).await.unwrap().remove(0)
    };
    world.store.make_deliveries(&watch(), &[message(1, Event::Opened, &[])]).await.unwrap();
    let elsewhere = world.store.claim_deliveries(&watch(), Outlet::Mail, at(0), at(60), 4).await.unwrap();
    assert_eq!(elsewhere, []);
    // Two at once: one gets it, and nobody else before its time is over.
    let (a, b) = tokio::join!(take(0), take(0));
    assert_eq!(a.len() + b.len(), 1);
    let broken_off = a.into_iter().chain(b).next().unwrap();
    assert_eq!((broken_off.tries, broken_off.body.as_str()), (1, "{}"));
    assert_eq!(take(59).await, []);
    let second = take(60).await.remove(0);
    assert_eq!(second.tries, 2);
    let settle =
        async |tried, how: &Settled| world.store.settle_delivery(&watch(), tried, how).await.unwrap();
    assert!(!settle(&broken_off, &Settled::Sent).await, "another try has begun since");
    assert!(settle(&second, &Settled::Again { due_at: at(100), error: "away".into() }).await);
    assert_eq!((row().await.state, row().await.error), (DeliveryState::Waiting, "away".into()));
    assert_eq!(take(99).await, []);
    let third = take(100).await.remove(0);
    assert!(settle(&third, &Settled::Dead { error: "gone".into() }).await);
    assert!(!settle(&third, &Settled::Sent).await, "it was settled");
    let dead = row().await;
    assert_eq!((dead.state, dead.tries, dead.settled_at), (DeliveryState::Dead, 3, Some(NOW)));
    assert_eq!(take(1_000_000).await, []);

    let contain = || permit::<act::Contain>(&operator.browser, on::Network, NOW).unwrap();
    world.store.send_again(contain(), dead.id).await.unwrap();
    assert!(matches!(world.store.send_again(contain(), dead.id).await, Err(StoreError::Gone(_))));
    let fresh = take(0).await.remove(0);
    assert_eq!((fresh.id, fresh.tries), (dead.id, 1));
    assert!(settle(&fresh, &Settled::Sent).await);
    assert_eq!((row().await.state, row().await.error), (DeliveryState::Sent, String::new()));
    let day = 24 * 3_600;
    let sweep = |at| world.job::<act::Reconcile>(Job::Reconciler, at);
    world.store.sweep(&sweep(NOW.plus(29 * day)), 90 * day, day).await.unwrap();
    row().await;
    world.store.sweep(&sweep(NOW.plus(31 * day)), 90 * day, day).await.unwrap();
    let operate = permit::<act::Operate>(&operator.browser, on::Network, NOW).unwrap();
    assert_eq!(world.store.deliveries(&operate).await.unwrap(), []);
}

pub async fn a_witness_is_asked_by_one_and_its_word_is_published(world: World) {
    use gangline_guard::log::{Checkpoint, VerifierKey, note::KeyUse};
    use gangline_store::{WitnessAnswer, WitnessState};
    use gangline_types::Hash;

    let operator = world.someone(Role::Operator).await;
    let operate = || permit::<act::Operate>(&operator.browser, on::Network, NOW).unwrap();
    let project = || world.job::<act::Project>(Job::Projector, NOW);
    let witness = |n: u32| VerifierKey::new(&format!("w{n}"), KeyUse::Witness, key_of(n).public()).unwrap();
    let at = |seconds: u64| UnixMillis(NOW.0 * 1_000 + seconds * 1_000);
    let claim = async |n: u32, size: u64, now: u64| {
        let fresh_since = NOW.plus(now.saturating_sub(60));
        world
            .store
            .claim_witness(&project(), &witness(n), size, fresh_since, at(now), at(now + 30))
            .await
            .unwrap()
    };
    let note = |size: u64| {
        Checkpoint { origin: "log".into(), size, root: Hash([7; 32]) }.sign(&key_of(0)).to_string()
    };
    let answer = async |n: u32, answer: WitnessAnswer, next: u64| {
        world.store.note_witness(&project(), &witness(n), &answer, at(next)).await.unwrap();
    };
    let signs = |n: u32, size: u64, seconds: u64| WitnessAnswer::Cosigned {
        size,
        note: note(size),
        at: NOW.plus(seconds),
        line: format!("line {n} {size}"),
    };
    assert_eq!(world.store.public().cosigned().await.unwrap(), None);
    let (a, b) = tokio::join!(claim(1, 9, 0), claim(1, 9, 0));
    assert_eq!(a.is_some() as u8 + b.is_some() as u8, 1, "one asks");
    assert!(claim(1, 9, 29).await.is_none());
    assert!(claim(1, 9, 30).await.is_some_and(|row| row.state == WitnessState::New), "it never answered");
    answer(1, signs(1, 9, 31), 31).await;
    assert!(claim(1, 9, 40).await.is_none(), "it has cosigned that");
    assert!(claim(1, 10, 40).await.is_some_and(|row| row.size == 9), "the log has grown");
    answer(1, signs(1, 10, 41), 41).await;
    assert!(claim(1, 10, 200).await.is_some(), "that was long ago");
    answer(1, WitnessAnswer::Refuses("another tree".into()), 260).await;
    assert!(claim(1, 11, 259).await.is_none(), "it is left alone");
    claim(2, 9, 0).await.unwrap();
    answer(2, signs(2, 9, 5), 5).await;
    let rows = world.store.witnesses(&operate()).await.unwrap();
    let states: Vec<_> = rows.iter().map(|row| (row.state, row.size, row.error.as_str())).collect();
    assert_eq!(states, [(WitnessState::Refuses, 10, "another tree"), (WitnessState::Signs, 9, "")]);

    // The newest of those that most have cosigned.
    let found = world.store.public().cosigned().await.unwrap().unwrap();
    assert_eq!((found.size, found.lines.len()), (9, 2));
    assert_eq!(found.signed(), format!("{}line 1 9\nline 2 9\n", note(9)));
    let newest = world.store.public().cosignatures(10).await.unwrap();
    assert_eq!(newest, [("line 1 10".to_owned(), NOW.plus(41))]);
    assert!(world.store.public().cosignatures(11).await.unwrap().is_empty());
    for size in 11..60 {
        answer(2, signs(2, size, size), size).await;
    }
    let found = world.store.public().cosigned().await.unwrap().unwrap();
    assert_eq!((found.size, found.lines.len()), (59, 1), "what is old is forgotten");

    let late = async |n: u32, since: u64, told_since: u64| {
        let (since, told_since) = (NOW.plus(since), UnixSeconds(NOW.0 - 1).plus(told_since));
        world.store.witness_is_late(&project(), &witness(n), since, told_since).await.unwrap()
    };
    assert!(!late(1, 41, 0).await, "it has cosigned since");
    assert!(late(1, 42, 0).await);
    assert!(!late(1, 42, 0).await, "that was told");
    assert!(late(1, 42, 2).await, "and is told again after a while");
    assert!(!late(3, 42, 0).await, "nobody asked it");
}
