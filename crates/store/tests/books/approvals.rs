//! Dangerous acts: asked for, decided on, done once. And passkeys, which let somebody in.

use gangline_guard::{
    Actor, Permit, Refusal, Resource, act,
    approval::{APPROVE_SECONDS, DECLINED_SECONDS, digest},
    detect::{Alarm, What},
    freeze::Target,
    log::{Entry, Event, TilePath, entry::Step, tiles::bundle_entries},
    notice::{Raised, Subject},
    permit::permit,
    policy::on,
};
use gangline_store::{
    ApprovalRow, NewApproval, NewFreeze, NewIncident, NewPasskey, NewSession, PasskeyQuestion, RecordQuery,
    Removed, StoreError,
};
use gangline_types::{ApprovalId, FreezeId, Hash, IncidentId, Label, PasskeyId, SessionId, UnixSeconds};
use gangline_wire::{
    Action,
    api::{account::Role, enrol::KeyKind, operate::Approver},
};

use crate::world::{NOW, Someone, World, id};

/// A freeze of the whole fleet, and how it is asked to be lifted.
struct Frozen {
    on: on::Freeze,
    digest: Hash,
}

impl Frozen {
    async fn by(world: &World, operator: &Someone) -> Self {
        let halt = on::Halt { target: Target::Fleet, seconds: None };
        let permit = permit::<act::Freeze>(&operator.browser, halt, NOW).unwrap();
        let new = NewFreeze {
            id: FreezeId::from_bytes(id(20, world.next())),
            // What was permitted counts, and not this.
            target: Target::Account(operator.account),
            until: Some(NOW),
            reason: "a test".into(),
            incident: None,
        };
        let freeze = world.store.freeze(permit, &new).await.unwrap();
        let on = on::Freeze { freeze, target: Target::Fleet };
        let frozen = world.store.frozen(NOW).await.unwrap();
        assert_eq!((frozen[0].id, frozen[0].target, frozen[0].until), (freeze, Target::Fleet, None));
        Self { on, digest: digest(Action::Thaw, &on.into()) }
    }

    async fn ask(
        &self,
        world: &World,
        who: &Actor,
        approver: Approver,
        at: UnixSeconds,
    ) -> Result<ApprovalRow, StoreError> {
        let account = who.principal().account().unwrap();
        let permit = permit::<act::AskApproval>(who, on::Account { account }, at).unwrap();
        let approval = ApprovalId::from_bytes(id(21, world.next()));
        let raised = Raised {
            alarm: Alarm { what: What::ApprovalWanted, at, seen: 1.0, usual: 0.0 },
            subject: Subject::Approval(approval),
            key: None,
            account: Some(account),
            block: None,
            action: Some(Action::Thaw),
            resource: None,
        };
        let told = NewIncident { id: IncidentId::from_bytes(id(22, world.next())), raised, count: 1 };
        let new = NewApproval {
            id: approval,
            action: Action::Thaw,
            what: Resource::from(self.on).to_string(),
            digest: self.digest,
            approver,
            path: "/console/somewhere".into(),
            form: "a=b".into(),
            incident: (approver != Approver::Oneself).then_some(told),
        };
        world.store.ask_approval(permit, new).await
    }

    fn thaw(&self, who: &Actor, row: &ApprovalRow, at: UnixSeconds) -> Result<Permit<act::Thaw>, Refusal> {
        let who = row.approval().into_iter().fold(who.clone(), Actor::with_approval);
        permit::<act::Thaw>(&who, self.on, at)
    }
}

fn to_decide(row: &ApprovalRow) -> on::Approval {
    on::Approval { approval: row.id, asked_by: row.asked_by, approver: row.approver }
}

async fn approve(world: &World, who: &Someone, row: &ApprovalRow, delay: u64) -> Result<(), StoreError> {
    let permit = permit::<act::DecideApproval>(&who.browser, to_decide(row), NOW.plus(1)).unwrap();
    world.store.approve(permit, delay).await
}

async fn decline(world: &World, who: &Someone, row: &ApprovalRow) -> Result<(), StoreError> {
    let permit = permit::<act::DeclineApproval>(&who.browser, to_decide(row), NOW.plus(2)).unwrap();
    world.store.decline(permit).await
}

/// Whoever asked for this act, once another operator has approved it: it may be done at `NOW.plus(2)`.
pub async fn approved(
    world: &World,
    (asks, decides): (&Someone, &Someone),
    action: Action,
    what: Resource,
) -> Actor {
    let digest = digest(action, &what);
    let permit =
        permit::<act::AskApproval>(&asks.browser, on::Account { account: asks.account }, NOW).unwrap();
    let new = NewApproval {
        id: ApprovalId::from_bytes(id(21, world.next())),
        action,
        what: what.to_string(),
        digest,
        approver: Approver::Another,
        path: "/console/somewhere".into(),
        form: String::new(),
        incident: None,
    };
    let asked = world.store.ask_approval(permit, new).await.unwrap();
    approve(world, decides, &asked, 0).await.unwrap();
    let row = world.store.approval_of(asks.account, None, digest, NOW.plus(2)).await.unwrap().unwrap();
    row.approval().into_iter().fold(asks.browser.clone(), Actor::with_approval)
}

/// Steps of dangerous acts in the log, in order.
async fn steps(world: &World) -> Vec<Step> {
    let project = world.job::<act::Project>(gangline_guard::Job::Projector, NOW);
    world.store.integrate(&project, |size, root| format!("{size} {root}")).await.unwrap();
    let (mut entries, mut width) = (Vec::new(), 0);
    // A bundle is told only whole.
    while let Some(bundle) =
        world.store.public().log_tile(TilePath::Entries { index: 0, width: width + 1 }).await.unwrap()
    {
        width += 1;
        entries = bundle_entries(&bundle, width).unwrap();
    }
    let step = |bytes: &Vec<u8>| match Entry::from_bytes(bytes).unwrap().event {
        Event::DangerousAct { step, .. } => Some(step),
        _ => None,
    };
    entries.iter().filter_map(step).collect()
}

/// Whoever waits for another operator has them told, until it is decided, done, or over.
pub async fn that_an_act_waits_is_an_incident_until_it_does_not(world: World) {
    let (ada, ben) = (world.someone(Role::Operator).await, world.someone(Role::Operator).await);
    let operate = permit::<act::Operate>(&ada.browser, on::Network, NOW).unwrap();
    let open = async || {
        let all = world.store.incidents(&operate, false).await.unwrap();
        all.iter().filter(|i| i.what == "approval_wanted").map(|i| i.subject.clone()).collect::<Vec<_>>()
    };
    let closed = async |row: &ApprovalRow| {
        let all = world.store.incidents(&operate, true).await.unwrap();
        all.into_iter().find(|i| i.subject == row.id.to_string()).unwrap().note
    };
    let settle = async |at| {
        let reconcile = world.job::<act::Reconcile>(gangline_guard::Job::Reconciler, at);
        world.store.settle_lapsed(&reconcile).await.unwrap();
    };
    let frozen = Frozen::by(&world, &ada).await;
    let cora = world.someone(Role::Operator).await;
    frozen.ask(&world, &cora.browser, Approver::Oneself, NOW).await.unwrap();
    assert!(open().await.is_empty(), "its own person knows");
    let asked = frozen.ask(&world, &ben.browser, Approver::Another, NOW).await.unwrap();
    frozen.ask(&world, &ben.browser, Approver::Another, NOW.plus(1)).await.unwrap();
    assert_eq!(open().await, [asked.id.to_string()], "asking twice tells once");
    settle(NOW.plus(APPROVE_SECONDS - 1)).await;
    assert_eq!(open().await.len(), 1);
    approve(&world, &ada, &asked, 0).await.unwrap();
    assert!(open().await.is_empty());
    assert_eq!(closed(&asked).await, "approved");

    // What the only operator approves can be taken back until it is done, so it is told until then.
    let alone = frozen.ask(&world, &ada.browser, Approver::Alone, NOW).await.unwrap();
    approve(&world, &ada, &alone, 5).await.unwrap();
    assert_eq!(open().await, [alone.id.to_string()]);
    decline(&world, &ada, &alone).await.unwrap();
    assert!(open().await.is_empty());
    assert_eq!(closed(&alone).await, "declined");

    let later = NOW.plus(2 + DECLINED_SECONDS);
    let late = frozen.ask(&world, &ada.browser, Approver::Another, later).await.unwrap();
    assert_eq!(open().await, [late.id.to_string()]);
    settle(later.plus(APPROVE_SECONDS)).await;
    assert!(open().await.is_empty());
    assert_eq!(closed(&late).await, "it ran out");
}

pub async fn an_act_is_asked_for_decided_on_and_done_once(world: World) {
    let (ada, ben) = (world.someone(Role::Operator).await, world.someone(Role::Operator).await);
    let store = &world.store;
    let frozen = Frozen::by(&world, &ada).await;
    let asked = frozen.ask(&world, &ada.browser, Approver::Another, NOW).await.unwrap();
    assert_eq!((asked.asked_by, asked.key.is_none(), asked.form.as_str()), (ada.account, true, "a=b"));
    assert_eq!(asked.expires_at, NOW.plus(APPROVE_SECONDS));
    let again = frozen.ask(&world, &ada.browser, Approver::Another, NOW.plus(9)).await.unwrap();
    assert_eq!(again.id, asked.id, "what waits already");
    let operate = permit::<act::Operate>(&ada.browser, on::Network, NOW).unwrap();
    assert_eq!(store.approvals_waiting(&operate).await.unwrap(), 1);

    // Not before somebody approved; not by whoever asked; once.
    assert_eq!(frozen.thaw(&ada.browser, &asked, NOW).map(drop).unwrap_err().code(), "approval_needed");
    let own = permit::<act::DecideApproval>(&ada.browser, to_decide(&asked), NOW).map(drop);
    assert_eq!(own.unwrap_err().code(), "forbidden");
    approve(&world, &ben, &asked, 0).await.unwrap();
    let twice = approve(&world, &ben, &asked, 0).await;
    assert!(matches!(twice, Err(StoreError::Gone(_))), "{twice:?}");
    let of = |account, at| store.approval_of(account, None, frozen.digest, at);
    assert!(of(ben.account, NOW).await.unwrap().is_none(), "what another asked for");
    let approved = of(ada.account, NOW.plus(2)).await.unwrap().unwrap();
    assert_eq!(
        approved.decision.as_ref().map(|d| (d.by, d.ready_at)),
        Some((ben.account, Some(NOW.plus(1))))
    );
    let permits = [1, 2].map(|_| frozen.thaw(&ada.browser, &approved, NOW.plus(2)).unwrap());
    let [first, second] = permits;
    store.thaw(first).await.unwrap();
    assert!(store.frozen(NOW.plus(2)).await.unwrap().is_empty());
    let other = Frozen::by(&world, &ada).await;
    let reused = store.thaw(second).await;
    assert!(matches!(reused, Err(StoreError::Gone(_))), "{reused:?}");
    assert!(of(ada.account, NOW.plus(2)).await.unwrap().is_none(), "it was used");
    let fits = frozen.thaw(&ada.browser, &approved, NOW.plus(2)).unwrap();
    assert_eq!(fits.on().freeze, frozen.on.freeze);
    assert!(other.thaw(&ada.browser, &approved, NOW.plus(2)).is_err(), "approved of another freeze");

    // What is declined is not asked for again for a while, also after it was approved.
    let asked = other.ask(&world, &ada.browser, Approver::Another, NOW).await.unwrap();
    approve(&world, &ben, &asked, 0).await.unwrap();
    decline(&world, &ada, &asked).await.unwrap();
    let twice = decline(&world, &ben, &asked).await;
    assert!(matches!(twice, Err(StoreError::Gone(_))), "{twice:?}");
    let declined = store.approval(asked.id).await.unwrap().unwrap();
    assert_eq!(declined.approval(), None);
    assert_eq!(declined.expires_at, NOW.plus(2 + DECLINED_SECONDS));
    let again = other.ask(&world, &ada.browser, Approver::Another, NOW.plus(3)).await.unwrap();
    assert_eq!(again.id, asked.id);

    // A command line's is its key's alone.
    let (key, _) = world.key(&ada, KeyKind::CommandLine).await;
    let line = world.signed(&key, 1).await.unwrap();
    let by_key = other.ask(&world, &line, Approver::Oneself, NOW).await.unwrap();
    assert_eq!(
        by_key.key.as_ref().map(|(id, public, _)| (*id, *public)),
        Some((key.public().id(), key.public()))
    );
    assert!(
        store.approval_of(ada.account, Some(key.public().id()), other.digest, NOW).await.unwrap().is_some()
    );

    let rows = store.approvals(&operate).await.unwrap();
    assert_eq!(rows.len(), 3);
    let query = RecordQuery { limit: 100, ..RecordQuery::default() };
    let acts = store.acts(&operate, &query).await.unwrap();
    let thawed = acts.iter().filter(|row| row.action == "thaw").count();
    assert_eq!(thawed, 1, "a use that was refused left an audit row");
    let (asked, approved, declined, done) = (Step::Asked, Step::Approved, Step::Declined, Step::Done);
    assert_eq!(steps(&world).await, [asked, approved, done, asked, approved, declined, asked]);
}

pub async fn whoever_left_is_no_other_operator(world: World) {
    let ada = world.someone(Role::Operator).await;
    let store = &world.store;
    assert_eq!(store.other_operators(ada.account, NOW).await.unwrap(), 0);
    let ben = world.someone(Role::Operator).await;
    world.someone(Role::Renter).await;
    assert_eq!(store.other_operators(ada.account, NOW).await.unwrap(), 1);
    assert_eq!(store.other_operators(ada.account, NOW.plus(1)).await.unwrap(), 0, "not here since");
    // Sessions are swept, and who was here is still known.
    let reconcile = world.job::<act::Reconcile>(gangline_guard::Job::Reconciler, NOW.plus(8 * 24 * 3600));
    store.sweep(&reconcile, 1, 1).await.unwrap();
    assert_eq!(store.other_operators(ben.account, NOW).await.unwrap(), 1);

    // Alone: after the delay, by one's own approval, and not before.
    let frozen = Frozen::by(&world, &ada).await;
    let asked = frozen.ask(&world, &ada.browser, Approver::Alone, NOW).await.unwrap();
    let another = permit::<act::DecideApproval>(&ben.browser, to_decide(&asked), NOW).map(drop);
    assert!(another.is_err(), "what only whoever asked decides on");
    approve(&world, &ada, &asked, 600).await.unwrap();
    let approved = store.approval(asked.id).await.unwrap().unwrap();
    assert!(frozen.thaw(&ada.browser, &approved, NOW.plus(600)).is_err());
    let ready = frozen.thaw(&ada.browser, &approved, NOW.plus(601)).unwrap();
    store.thaw(ready).await.unwrap();
    let waiting_too_long = frozen.ask(&world, &ada.browser, Approver::Alone, NOW.plus(700)).await.unwrap();
    assert_ne!(waiting_too_long.id, asked.id, "what is done can be asked for again");
    let late =
        permit::<act::DecideApproval>(&ada.browser, to_decide(&waiting_too_long), NOW.plus(800)).unwrap();
    store.approve(late, 0).await.unwrap();

    // No more than twenty wait for one account.
    for n in 0..40u8 {
        let permit =
            permit::<act::AskApproval>(&ada.browser, on::Account { account: ada.account }, NOW).unwrap();
        let new = NewApproval {
            id: ApprovalId::from_bytes([100 + n; 16]),
            action: Action::Restore,
            what: format!("{n}"),
            digest: Hash([n; 32]),
            approver: Approver::Oneself,
            path: String::new(),
            form: String::new(),
            incident: None,
        };
        let asked = store.ask_approval(permit, new).await;
        assert_eq!(asked.is_ok(), n < 20, "{n}: {asked:?}");
    }
}

pub async fn a_passkey_is_kept_used_and_the_last_way_in_stays(world: World) {
    let ada = world.someone(Role::Supplier).await;
    let store = &world.store;
    let own =
        || permit::<act::ManageWaysIn>(&ada.browser, on::Account { account: ada.account }, NOW).unwrap();
    let question = |n: u8, until| PasskeyQuestion {
        challenge: [n; 16],
        asked: vec![n; 40],
        expires_at: NOW.plus(until),
    };
    // A question is answered once, in time, and by whom it was put to.
    store.ask_for_passkey(&own(), question(1, 60)).await.unwrap();
    let take = |n: u8, account, at| store.take_passkey_question([n; 16], account, NOW.plus(at));
    assert_eq!(take(1, None, 0).await.unwrap(), None, "put to somebody");
    assert_eq!(take(1, Some(ada.account), 60).await.unwrap(), None, "too late");
    assert_eq!(take(1, Some(ada.account), 0).await.unwrap(), Some(vec![1; 40]));
    assert_eq!(take(1, Some(ada.account), 0).await.unwrap(), None, "twice");
    let anybody = || permit::<act::UsePasskey>(&Actor::nobody(), on::Network, NOW).unwrap();
    store.ask_by_passkey(&anybody(), question(2, 60)).await.unwrap();
    assert_eq!(take(2, None, 0).await.unwrap(), Some(vec![2; 40]));

    let new = |n: u8| NewPasskey {
        id: PasskeyId::from_bytes([n; 16]),
        credential: vec![n; 32],
        name: Label::lossy("a phone"),
        key: vec![n; 70],
        state: vec![0],
        only_first: false,
    };
    let first = |n: u8| NewPasskey { only_first: true, ..new(n) };
    store.add_passkey(own(), first(1)).await.unwrap();
    assert!(store.add_passkey(own(), first(2)).await.is_err(), "a second one as the first");
    let same = store.add_passkey(own(), NewPasskey { id: PasskeyId::from_bytes([9; 16]), ..new(1) }).await;
    assert!(matches!(same, Err(StoreError::Gone(_))), "{same:?}");
    for n in 2..=11u8 {
        let kept = store.add_passkey(own(), new(n)).await;
        assert_eq!(kept.is_ok(), n <= 10, "passkey {n}: {kept:?}");
    }
    let read = permit::<act::ReadAccount>(&ada.browser, on::Account { account: ada.account }, NOW).unwrap();
    assert_eq!(store.passkeys_of(&read).await.unwrap().len(), 10);

    // A signature counts once: whoever comes with the old state is too late.
    let shown = store.passkey(&[1; 32]).await.unwrap().unwrap();
    assert_eq!((shown.account, shown.used_at), (ada.account, None));
    let session = |n: u8| NewSession {
        id: SessionId::from_bytes([n; 16]),
        secret: Hash([n; 32]),
        expires_at: NOW.plus(3600),
        replaces: None,
    };
    let sign_in = |state: u8, n: u8| store.sign_in_by_passkey(anybody(), &shown, vec![state], session(n));
    let record = sign_in(1, 51).await.unwrap().unwrap();
    assert_eq!((record.account, record.role, record.signed_in_at), (ada.account, Role::Supplier, NOW));
    assert!(sign_in(2, 52).await.unwrap().is_none(), "a copy of the authenticator");
    assert!(store.session(&Hash([51; 32]), NOW).await.unwrap().is_some());
    assert_eq!(store.passkey(&[1; 32]).await.unwrap().unwrap().used_at, Some(NOW));
    let how: Vec<String> = store.sessions_of(&read).await.unwrap().into_iter().map(|s| s.how).collect();
    assert!(how.contains(&"passkey".to_owned()) && how.contains(&"link".to_owned()), "{how:?}");

    // The last way in stays.
    for n in 2..=10u8 {
        let gone = store.remove_passkey(own(), PasskeyId::from_bytes([n; 16])).await.unwrap();
        assert!(matches!(gone, Removed::Gone), "passkey {n}: {gone:?}");
    }
    let last = store.remove_passkey(own(), PasskeyId::from_bytes([1; 16])).await.unwrap();
    assert!(matches!(last, Removed::OnlyWayIn), "{last:?}");
    let unknown = store.remove_passkey(own(), PasskeyId::from_bytes([2; 16])).await.unwrap();
    assert!(matches!(unknown, Removed::NotThere), "{unknown:?}");
}

pub async fn a_password_is_of_one_account_and_ends_what_it_replaces(world: World) {
    let (ada, ben) = (world.someone(Role::Supplier).await, world.someone(Role::Renter).await);
    let store = &world.store;
    let own = |who: &Someone| {
        permit::<act::ManageWaysIn>(&who.browser, on::Account { account: who.account }, NOW).unwrap()
    };
    let read = permit::<act::ReadAccount>(&ada.browser, on::Account { account: ada.account }, NOW).unwrap();
    let (name, other) = (Label::lossy("ada.l"), Label::lossy("ben.x"));
    assert!(store.own_password(&read).await.unwrap().is_none());
    let this = ada.browser.principal().session();
    store.set_password(own(&ada), &name, "first", this).await.unwrap();
    let taken = store.set_password(own(&ben), &name, "second", None).await;
    assert!(matches!(taken, Err(StoreError::Gone(_))), "{taken:?}");
    store.set_password(own(&ben), &other, "second", ben.browser.principal().session()).await.unwrap();
    let shown = store.password("ada.l").await.unwrap().unwrap();
    assert_eq!((shown.account, shown.hash.as_str(), shown.set_at), (ada.account, "first", NOW));
    assert!(!format!("{shown:?}").contains("first"), "a hash is printed");
    assert!(store.password("nobody").await.unwrap().is_none());

    let session = |n: u8| NewSession {
        id: SessionId::from_bytes([n; 16]),
        secret: Hash([n; 32]),
        expires_at: NOW.plus(3600),
        replaces: None,
    };
    let anybody = || permit::<act::UsePassword>(&Actor::nobody(), on::Network, NOW).unwrap();
    let record = store.sign_in_by_password(anybody(), &shown, session(61)).await.unwrap().unwrap();
    assert_eq!((record.account, record.role), (ada.account, Role::Supplier));
    let how: Vec<String> = store.sessions_of(&read).await.unwrap().into_iter().map(|s| s.how).collect();
    assert!(how.contains(&"password".to_owned()), "{how:?}");
    // Set anew: who came by the old one is out, and it signs nobody in, not even who was just being compared.
    store.set_password(own(&ada), &Label::lossy("ada.two"), "third", this).await.unwrap();
    assert!(store.session(&Hash([61; 32]), NOW).await.unwrap().is_none());
    assert_eq!(store.sessions_of(&read).await.unwrap().len(), 1);
    assert!(store.sign_in_by_password(anybody(), &shown, session(62)).await.unwrap().is_none());
    assert!(store.password("ada.l").await.unwrap().is_none());
    assert_eq!(store.own_password(&read).await.unwrap().unwrap().login.as_str(), "ada.two");
}
