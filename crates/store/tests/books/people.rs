//! Links, sessions, keys, identities, refusals.

use gangline_guard::{
    Began, Factors, Job, act,
    audit::RefusedAttempt,
    authenticate::{Vouched, identity, vouched},
    permit::permit,
    policy::on,
};
use gangline_store::{
    Ended, NewEnrolment, NewLink, NewSession, Once, RecordQuery, RotationError, SequenceError, StoreError,
    VouchedPerson,
};
use gangline_types::{AccountId, EnrolmentId, Hash, Label, LinkId, MachineId, SessionId, Text};
use gangline_wire::{
    Action, SigningKey,
    api::{account::Role, enrol::KeyKind},
};

use crate::world::{NOW, OLD_UNTIL, Someone, World, id, key_of};

pub async fn a_link_works_once(world: World) {
    let store = &world.store;
    assert_eq!(store.has_operator().await.unwrap(), None);
    let operator = world.someone(Role::Operator).await;
    assert_eq!(store.has_operator().await.unwrap(), Some(operator.account));

    let secret = Hash([42; 32]);
    let link = NewLink { id: LinkId::from_bytes(id(2, 99)), secret, expires_at: NOW.plus(60) };
    let invite = |account, role| {
        let on = on::Invitation { account: Some(account), role, name: Label::lossy("someone 1") };
        let permit = permit::<act::Invite>(&gangline_guard::Actor::job(Job::Setup), on, NOW).unwrap();
        store.invite(permit, AccountId::from_bytes([98; 16]), link.clone())
    };
    let nobody = AccountId::from_bytes([99; 16]);
    for (account, role) in [(nobody, Role::Operator), (operator.account, Role::Renter)] {
        let refused = invite(account, role).await;
        assert!(matches!(refused, Err(StoreError::Gone(_))), "{refused:?}");
    }
    invite(operator.account, Role::Operator).await.unwrap();
    assert!(store.link(&secret, NOW).await.unwrap().unwrap().usable);
    assert!(!store.link(&secret, NOW.plus(60)).await.unwrap().unwrap().usable);

    // Ten ask at once: one gets in.
    let asks = (0..10).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            let permit = permit::<act::UseLink>(&gangline_guard::Actor::nobody(), on::Network, NOW).unwrap();
            let new = NewSession {
                id: SessionId::from_bytes(id(8, n)),
                secret: Hash([100 + n as u8; 32]),
                expires_at: NOW.plus(3600),
                replaces: None,
            };
            store.use_link(permit, &secret, new).await.unwrap()
        })
    });
    let mut sessions = Vec::new();
    for ask in asks.collect::<Vec<_>>() {
        sessions.extend(ask.await.unwrap());
    }
    assert_eq!(sessions.len(), 1, "one link, one session");
    assert!(!store.link(&secret, NOW).await.unwrap().unwrap().usable);
    let won = sessions[0].session.as_bytes()[15];
    let shown = Hash([100 + won; 32]);
    let row = store.session(&shown, NOW).await.unwrap().unwrap();
    let known = (row.record.account, row.record.role, row.record.began);
    assert_eq!(known, (operator.account, Role::Operator, Began::Link));
    assert!(store.session(&shown, NOW.plus(3600)).await.unwrap().is_none(), "a session that ran out");
    // Its use is noted now and then.
    assert!(store.session(&shown, NOW.plus(400)).await.unwrap().is_some());

    let own = permit::<act::ReadAccount>(
        &gangline_guard::authenticate::session(row.record, &Default::default(), Factors::One),
        on::Account { account: operator.account },
        NOW,
    )
    .unwrap();
    assert_eq!(store.account_name(&own).await.unwrap().as_str(), "someone 1");
    store.end_session(own).await.unwrap();
    assert!(store.session(&shown, NOW).await.unwrap().is_none());

    let operate = permit::<act::Operate>(&operator.browser, on::Network, NOW).unwrap();
    let accounts = store.accounts(&operate).await.unwrap();
    assert_eq!(accounts.len(), 1);
    assert_eq!((accounts[0].machines, accounts[0].clusters, accounts[0].seen_at), (0, 0, Some(NOW)));
}

pub async fn a_session_ends_when_it_lies_idle_and_at_its_end(world: World) {
    const HOUR: u64 = 3600;
    world.someone(Role::Operator).await;
    world.someone(Role::Renter).await;
    let alive = async |n: u8, at: u64| {
        world.store.session(&Hash([n ^ 0x55; 32]), NOW.plus(at)).await.unwrap().is_some()
    };
    // Asked for in this order: a use that is found is written down, and the clock of idleness begins anew.
    for (who, at, expected) in [
        (1, HOUR / 2 - 1, true),
        (1, HOUR - 1, false),
        (2, 8 * HOUR - 1, true),
        (2, 16 * HOUR - 2, true),
        (2, 24 * HOUR - 2, false),
    ] {
        assert_eq!(alive(who, at).await, expected, "the session of {who} after {at} s");
    }
    // Used all the time, it ends all the same: these were made for a week.
    world.someone(Role::Supplier).await;
    for hours in 1..7 * 24 {
        assert!(alive(3, hours * HOUR).await, "after {hours} h");
    }
    assert!(!alive(3, 7 * 24 * HOUR).await);
}

pub async fn a_key_is_decided_once(world: World) {
    let supplier = world.someone(Role::Supplier).await;
    let store = &world.store;
    let (key, machine) = world.key(&supplier, KeyKind::Machine).await;
    let record = store.key(key.public().id()).await.unwrap().unwrap();
    assert_eq!((record.account, record.machine, record.revoked_at), (supplier.account, Some(machine), None));
    assert_eq!(store.machine_public_key(machine).await.unwrap(), Some(*key.public().as_bytes()));

    // A second request of a key takes the place of its first; a decision is made once.
    let asked = key_of(77);
    let ask = |n: u32| NewEnrolment {
        id: EnrolmentId::from_bytes(id(4, n)),
        public_key: asked.public(),
        kind: KeyKind::CommandLine,
        host: Label::lossy("laptop"),
        summary: Text::lossy(""),
        code: format!("SAME-{n}"),
        expires_at: NOW.plus(600),
    };
    let permit_to_ask = || {
        let actor = vouched("https://issuer", Vouched::Subject("x"));
        permit::<act::RequestEnrolment>(&actor, on::Network, NOW)
    };
    assert!(permit_to_ask().is_err(), "only a key asks");
    let new_key = || {
        // Any key may ask for itself.
        let actor = crate::world::asking(&asked);
        permit::<act::RequestEnrolment>(&actor, on::Network, NOW).unwrap()
    };
    store.request_enrolment(new_key(), ask(501)).await.unwrap();
    store.request_enrolment(new_key(), ask(502)).await.unwrap();
    assert!(store.enrolment_by_code("SAME-501", NOW).await.unwrap().is_none());
    let row = store.enrolment_by_code("SAME-502", NOW).await.unwrap().unwrap();
    let decide = |approve: bool| {
        let permit = permit::<act::DecideEnrolment>(&supplier.browser, row.resource, NOW).unwrap();
        store.decide_enrolment(permit, approve, MachineId::from_bytes([0; 16]))
    };
    decide(false).await.unwrap();
    assert!(matches!(decide(true).await, Err(StoreError::Gone(_))));
    assert!(store.key(asked.public().id()).await.unwrap().is_none(), "a denied key is none of ours");
    assert!(store.enrolment(row.resource.enrolment, NOW).await.unwrap().is_some());

    let resource = store.key_resource(key.public().id()).await.unwrap().unwrap();
    store.revoke_key(permit::<act::RevokeKey>(&supplier.browser, resource, NOW).unwrap()).await.unwrap();
    assert_eq!(store.key(key.public().id()).await.unwrap().unwrap().revoked_at, Some(NOW));
    let own = permit::<act::ReadAccount>(&supplier.browser, on::Account { account: supplier.account }, NOW);
    let keys = store.keys_of(&own.unwrap()).await.unwrap();
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0].revoked_at, Some(NOW));
}

pub async fn a_key_takes_the_place_of_another(world: World) {
    let supplier = world.someone(Role::Supplier).await;
    let machine = world.machine(&supplier).await;
    let (old, new) = (machine.key.public(), key_of(88).public());
    let resource = world.store.key_resource(old.id()).await.unwrap().unwrap();
    let rotate = |to: u32| {
        let permit = permit::<act::RotateKey>(&machine.actor, resource, NOW).unwrap();
        let (store, new) = (world.store.clone(), key_of(to).public());
        async move { store.rotate_key(permit, &new, NOW.plus(600)).await }
    };
    assert_eq!(rotate(88).await.unwrap(), NOW.plus(600));
    assert_eq!(rotate(88).await.unwrap(), NOW.plus(600), "asked again, as the answer was lost");
    assert!(matches!(rotate(89).await, Err(RotationError::ThirdKey { .. })));
    let record = world.store.key(new.id()).await.unwrap().unwrap();
    assert_eq!((record.machine, record.ends_at), (Some(machine.machine), Some(NOW.plus(600))));
    // Its first use ends the old one after the overlap.
    world.signed(&key_of(88), 1).await.unwrap();
    assert_eq!(world.store.key(new.id()).await.unwrap().unwrap().ends_at, None);
    assert_eq!(world.store.key(old.id()).await.unwrap().unwrap().ends_at, Some(OLD_UNTIL));
    let keys = world.store.machine_public_keys(machine.machine).await.unwrap();
    assert_eq!(keys.len(), 2);
    // Who revokes one revokes its line.
    store_revokes(&world, &supplier, old.id()).await;
    let ended = world.store.revoked_since(gangline_types::UnixSeconds(0)).await.unwrap();
    let keys: Vec<Ended> = ended.iter().map(|one| one.ended).collect();
    assert!(keys.contains(&Ended::Key(old.id())) && keys.contains(&Ended::Key(new.id())), "{keys:?}");
    assert!(world.store.key(new.id()).await.unwrap().unwrap().revoked_at.is_some());
    assert!(world.store.machine_public_keys(machine.machine).await.unwrap().is_empty());
}

async fn store_revokes(world: &World, who: &Someone, key: gangline_types::KeyId) {
    let resource = world.store.key_resource(key).await.unwrap().unwrap();
    let permit = permit::<act::RevokeKey>(&who.browser, resource, NOW).unwrap();
    world.store.revoke_key(permit).await.unwrap();
}

pub async fn a_number_counts_once(world: World) {
    let supplier = world.someone(Role::Supplier).await;
    let (key, _) = world.key(&supplier, KeyKind::Machine).await;
    let world = std::sync::Arc::new(world);
    let tries = (0..12u64).map(|n| {
        let (world, key) = (world.clone(), key.clone());
        // Three numbers, each four times, all at once.
        tokio::spawn(async move { world.signed(&key, 10 + n % 3).await.map(|_| ()) })
    });
    let (mut fresh, mut replayed) = (0, 0);
    for one in tries.collect::<Vec<_>>() {
        match one.await.unwrap() {
            Ok(()) => fresh += 1,
            Err(SequenceError::Replayed(_)) => replayed += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!((fresh, replayed), (3, 9));
    // And it stays so over a restart.
    let again = std::sync::Arc::into_inner(world).unwrap().reopened().await;
    assert!(matches!(again.signed(&key, 11).await, Err(SequenceError::Replayed(_))));
    assert!(again.signed(&key, 13).await.is_ok());
}

pub async fn a_provider_names_one_account(world: World) {
    let issuer = "https://idp.example";
    let person = |n: u32, role: Role| VouchedPerson {
        issuer: issuer.into(),
        subject: "ada".into(),
        name: Label::lossy("Ada"),
        role,
        is_strong: role == Role::Supplier,
        provider_session: Some(identity(issuer, Vouched::Session("there"))),
        new_account: AccountId::from_bytes(id(1, n)),
    };
    let once = |n: u8| Once { hash: Hash([n; 32]), expires_at: NOW.plus(600) };
    let session = |n: u32| NewSession {
        id: SessionId::from_bytes(id(3, n)),
        secret: Hash([n as u8; 32]),
        expires_at: NOW.plus(3600),
        replaces: None,
    };
    let on_it = on::Identity { identity: identity(issuer, Vouched::Subject("ada")) };
    // Two tabs at once, both new to us: one account, two sessions.
    let tabs = [1u32, 2].map(|n| {
        let store = world.store.clone();
        let (person, session) = (person(n, Role::Renter), session(n));
        tokio::spawn(async move {
            let permit =
                permit::<act::SignIn>(&vouched(issuer, Vouched::Subject("ada")), on_it, NOW).unwrap();
            store.sign_in(permit, person, once(n as u8), session).await.unwrap().unwrap()
        })
    });
    let mut accounts = Vec::new();
    for tab in tabs {
        accounts.push(tab.await.unwrap().account);
    }
    assert_eq!(accounts[0], accounts[1]);
    let sign_in = |n: u32, used: u8, role: Role| {
        let permit = permit::<act::SignIn>(&vouched(issuer, Vouched::Subject("ada")), on_it, NOW).unwrap();
        world.store.sign_in(permit, person(n, role), once(used), session(n))
    };
    assert!(sign_in(3, 1, Role::Renter).await.unwrap().is_none(), "a sign-in that was used");
    assert!(world.store.is_used(&Hash([1; 32])).await.unwrap());
    assert!(!world.store.is_used(&Hash([3; 32])).await.unwrap());
    let promoted = sign_in(4, 4, Role::Supplier).await.unwrap().unwrap();
    assert_eq!((promoted.account, promoted.role), (accounts[0], Role::Supplier));
    // What the provider signed of its strength is known at each request.
    for (n, is_strong) in [(1, false), (4, true)] {
        let row = world.store.session(&Hash([n; 32]), NOW).await.unwrap().unwrap();
        assert_eq!(row.record.began, Began::Provider { is_strong });
    }
    let own = permit::<act::ReadAccount>(
        &gangline_guard::authenticate::session(promoted, &Default::default(), Factors::One),
        on::Account { account: promoted.account },
        NOW,
    );
    assert!(world.store.came_from_provider(&own.unwrap()).await.unwrap());

    let end = |once: Option<Once>| {
        let actor = vouched(issuer, Vouched::Session("there"));
        let there = on::Identity { identity: identity(issuer, Vouched::Session("there")) };
        let permit = permit::<act::EndSessions>(&actor, there, NOW).unwrap();
        world.store.end_vouched_sessions(permit, once, "logged out there")
    };
    assert_eq!(end(Some(once(9))).await.unwrap(), Some(3));
    assert_eq!(end(Some(once(9))).await.unwrap(), None, "a message that was used");
    assert_eq!(end(None).await.unwrap(), Some(0));
    assert!(world.store.session(&Hash([4; 32]), NOW).await.unwrap().is_none());
}

pub async fn refusals_are_kept_and_swept(world: World) {
    let operator = world.someone(Role::Operator).await;
    let attempts: Vec<RefusedAttempt> = (0..3)
        .map(|n| RefusedAttempt {
            at: NOW.plus(n),
            actor: format!("nobody {n}"),
            key: None,
            account: None,
            count: 1,
            action: Action::Operate,
            request: "GET /".into(),
            address: "192.0.2.1".into(),
            code: "unsigned".into(),
            message: "no signature".into(),
        })
        .collect();
    world.store.refused(&attempts).await.unwrap();
    let operate = permit::<act::Operate>(&operator.browser, on::Network, NOW).unwrap();
    let all = RecordQuery { limit: 100, ..RecordQuery::default() };
    let rows = world.store.refusals(&operate, &all).await.unwrap();
    assert_eq!(
        rows.iter().map(|r| r.actor.as_str()).collect::<Vec<_>>(),
        ["nobody 2", "nobody 1", "nobody 0"]
    );
    assert_eq!(world.store.refusals_since(&operate, NOW.plus(1)).await.unwrap(), 2);
    let later = NOW.plus(91 * 24 * 3600);
    let reconcile = |at| world.job::<act::Reconcile>(Job::Reconciler, at);
    let day = 24 * 3600;
    world.store.sweep(&reconcile(NOW.plus(day)), 90 * day, 60).await.unwrap();
    assert_eq!(world.store.refusals(&operate, &all).await.unwrap()[0].address, "192.0.2.0/24");
    world.store.sweep(&reconcile(later), 90 * day, 7 * day).await.unwrap();
    assert!(world.store.refusals(&operate, &all).await.unwrap().is_empty());
}

pub async fn permitted_acts_are_found_by_key_account_action_thing_and_time(world: World) {
    let operator = world.someone(Role::Operator).await;
    let supplier = world.someone(Role::Supplier).await;
    let (machine, other) = (world.machine(&supplier).await, world.machine(&supplier).await);
    let gpus = world.gpus(&machine, 2).await;
    for (n, gpu) in [gpus[0], gpus[1], gpus[0]].into_iter().enumerate() {
        let on = on::Gpu { gpu, machine: machine.machine, account: machine.account };
        let permit = permit::<act::LabelGpu>(&machine.actor, on, NOW.plus(n as u64 * 3_600)).unwrap();
        world.store.label_gpu(permit, &Label::lossy(&format!("name {n}"))).await.unwrap();
    }
    let operate = permit::<act::Operate>(&operator.browser, on::Network, NOW).unwrap();
    let search = async |query: RecordQuery| {
        let query = RecordQuery { limit: if query.limit == 0 { 100 } else { query.limit }, ..query };
        let rows = world.store.acts(&operate, &query).await.unwrap();
        assert!(rows.windows(2).all(|pair| pair[0].id > pair[1].id));
        rows
    };
    let labels = RecordQuery { action: Some("label_gpu".into()), ..RecordQuery::default() };
    assert_eq!(search(labels.clone()).await.len(), 3);
    let on_gpu = RecordQuery { resource: Some(gpus[0].to_string()), ..labels.clone() };
    assert_eq!(search(on_gpu.clone()).await.len(), 2);
    let by = |key: &SigningKey| RecordQuery { key: Some(key.public().id()), ..RecordQuery::default() };
    assert!(search(by(&machine.key)).await.iter().filter(|a| a.action == "label_gpu").count() == 3);
    assert!(search(by(&other.key)).await.iter().all(|a| a.action != "label_gpu"));
    let of_account = RecordQuery { account: Some(supplier.account), ..labels.clone() };
    assert_eq!(search(of_account).await.len(), 3);
    let of_operator = RecordQuery { account: Some(operator.account), ..labels.clone() };
    assert!(search(of_operator).await.is_empty());
    let within = |from: u64, to: u64| RecordQuery {
        from: Some(NOW.plus(from)),
        to: Some(NOW.plus(to)),
        ..labels.clone()
    };
    assert_eq!(search(within(0, 7_201)).await.len(), 3);
    assert_eq!(search(within(1, 7_200)).await.len(), 1);
    assert!(search(within(7_201, 9_000)).await.is_empty());
    assert!(search(within(0, 0)).await.is_empty());
    // A page follows the one before.
    let all = search(RecordQuery::default()).await;
    let mut pages = Vec::new();
    let mut before = None;
    loop {
        let page = search(RecordQuery { before, limit: 3, ..RecordQuery::default() }).await;
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        pages.extend(page.iter().map(|row| row.id));
    }
    assert_eq!(pages, all.iter().map(|row| row.id).collect::<Vec<_>>());
}
