//! The log through the store's own writes: what is written, what is published, and what is found out when
//! somebody changes either file.

use gangline_guard::{
    Actor, Began, Factors, Freezes, Job, SessionRecord, act,
    authenticate::session,
    log::{
        Checkpoint, Edge, Entry, Event, Kind, TilePath,
        check::Checker,
        check::Seen,
        checkpoint::{origin_of, verifier_of},
        entry::Change,
        leaf_hash, tiles,
    },
    permit::permit,
    policy::on,
};
use gangline_types::{AccountId, GpuId, Hash, KeyId, Label, MachineId, SessionId, UnixSeconds};
use gangline_wire::{SigningKey, api::account::Role};
use zeroize::Zeroizing;

use crate::{Doer, NewLink, StoreError, sql::Id, sqlite::SqliteStore};

const NOW: UnixSeconds = UnixSeconds(1_795_000_000);
const OWNER: AccountId = AccountId::from_bytes([1; 16]);
const GPU: GpuId = GpuId::from_bytes([3; 16]);
const MACHINE: MachineId = MachineId::from_bytes([2; 16]);

fn key() -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([5; 32]))
}

fn sign(size: u64, root: Hash) -> String {
    Checkpoint { origin: origin_of(&key().public()), size, root }.sign(&key()).to_string()
}

struct World {
    store: SqliteStore,
    folder: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        for statement in [
            "INSERT INTO account (id, name, role, created_at) VALUES (?1, 'Ada', 'supplier', 0)",
            "INSERT INTO machine (id, account, joined_at) VALUES (?2, ?1, 0)",
            "INSERT INTO gpu (id, machine, slot, claim, registered_at) VALUES (?3, ?2, zeroblob(32), '{}', 0)",
        ] {
            let query = sqlx::query(statement).bind(OWNER.blob()).bind(MACHINE.blob()).bind(GPU.blob());
            query.execute(&store.write).await.unwrap();
        }
        Self { store, folder }
    }

    async fn label(&self, label: &str) {
        let who = session(
            SessionRecord {
                session: SessionId::from_bytes([4; 16]),
                account: OWNER,
                role: Role::Supplier,
                signed_in_at: NOW,
                began: Began::Passkey,
            },
            &Freezes::default(),
            Factors::Two,
        );
        let gpu = on::Gpu { gpu: GPU, machine: MACHINE, account: OWNER };
        let permit = permit::<act::LabelGpu>(&who, gpu, NOW).unwrap();
        self.store.label_gpu(permit, &Label::new(label).unwrap()).await.unwrap();
    }

    async fn integrate(&self) -> Result<u64, StoreError> {
        let permit = permit::<act::Project>(&Actor::job(Job::Projector), on::Network, NOW).unwrap();
        self.store.integrate(&permit, sign).await
    }

    async fn checkpoint(&self) -> Checkpoint {
        let note = self.store.public().log_checkpoint().await.unwrap().unwrap();
        Checkpoint::of_note(&note.parse().unwrap(), &verifier_of(&key().public())).unwrap()
    }

    /// Checks the whole public log as anyone could.
    async fn audit(&self, seen: Vec<Seen>) -> Result<Vec<Entry>, String> {
        let checkpoint = self.checkpoint().await;
        let size = checkpoint.size;
        let mut checker = Checker::new(checkpoint, seen).map_err(|f| f.to_string())?;
        let mut entries = Vec::new();
        let public = self.store.public();
        for path in tiles::paths_of(size) {
            let bytes = public.log_tile(path).await.unwrap().ok_or(format!("no {path}"))?;
            match path {
                TilePath::Entries { index, width } => {
                    let hashes = TilePath::Hashes { level: 0, index, width };
                    let hashes = public.log_tile(hashes).await.unwrap().ok_or(format!("no {hashes}"))?;
                    let hashes = tiles::tile_hashes(&hashes, width).ok_or("no hashes")?;
                    let bundle = tiles::bundle_entries(&bytes, width).ok_or("no bundle")?;
                    checker
                        .take(&bundle, &hashes, &mut |_, e| entries.push(*e))
                        .map_err(|f| f.to_string())?;
                    if entries.len() as u64 == size {
                        checker.end().map_err(|f| f.to_string())?;
                    }
                }
                TilePath::Hashes { level: 0, .. } => {}
                TilePath::Hashes { level, index, width } => {
                    let hashes = tiles::tile_hashes(&bytes, width).ok_or("no hashes")?;
                    checker.compare(level, index, &hashes).map_err(|f| f.to_string())?;
                }
            }
        }
        Ok(entries)
    }

    async fn seen(&self) -> Vec<Seen> {
        vec![Seen { checkpoint: self.checkpoint().await, whose: "seen before".into() }]
    }
}

#[tokio::test]
async fn what_is_written_is_published_and_holds_together() {
    let world = World::start().await;
    assert_eq!(world.integrate().await.unwrap(), 0);
    assert_eq!(world.checkpoint().await.size, 0, "even an empty log is signed");
    let before = world.seen().await;
    for n in 0..600 {
        world.label(&format!("name {n}")).await;
        if n % 100 == 50 {
            world.integrate().await.unwrap();
        }
    }
    world.label("name 599").await;
    world.integrate().await.unwrap();
    assert_eq!(world.integrate().await.unwrap(), 0);
    let entries = world.audit(before).await.unwrap();
    assert_eq!(entries.len(), 600, "what changes nothing leaves no entry");
    let event = Event::MetadataChange { gpu: GPU, change: Change::Set };
    assert!(entries.iter().all(|e| e.event == event && e.at == NOW));

    // The books open what the public copy has sealed, for the operator.
    let operator = session(
        SessionRecord {
            session: SessionId::from_bytes([9; 16]),
            account: AccountId::from_bytes([9; 16]),
            role: Role::Operator,
            signed_in_at: NOW,
            began: Began::Passkey,
        },
        &Freezes::default(),
        Factors::Two,
    );
    let permit = permit::<act::Operate>(&operator, on::Network, NOW).unwrap();
    let opening = world.store.log_opening(&permit, 7).await.unwrap().unwrap();
    assert_eq!(opening.seal(), entries[7].sealed);
    assert!(opening.text.contains(&OWNER.to_string()) && opening.text.contains("name 7"), "{}", opening.text);
    assert!(world.store.log_opening(&permit, 600).await.unwrap().is_none());

    // A part of a tile is served as a part, and what is not there is not.
    let public = world.store.public();
    let part = public.log_tile(TilePath::Hashes { level: 0, index: 1, width: 3 }).await.unwrap().unwrap();
    assert_eq!(part.len(), 96);
    for absent in
        ["0/002", "0/002.p/89", "0/003.p/1", "entries/002", "entries/002.p/89", "2/000.p/1", "7/000"]
    {
        assert_eq!(public.log_tile(absent.parse().unwrap()).await.unwrap(), None, "{absent}");
    }
}

#[tokio::test]
async fn a_write_that_fails_leaves_no_entry() {
    let world = World::start().await;
    let setup = Actor::job(Job::Setup);
    let new = AccountId::from_bytes([8; 16]);
    let invite = |account| {
        let on = on::Invitation { account, role: Role::Operator, name: Label::new("op").unwrap() };
        let permit = permit::<act::Invite>(&setup, on, NOW).unwrap();
        let link = NewLink {
            id: gangline_types::LinkId::from_bytes([7; 16]),
            secret: Hash([7; 32]),
            expires_at: NOW.plus(9),
        };
        world.store.invite(permit, new, link)
    };
    assert!(invite(Some(new)).await.is_err());
    invite(None).await.unwrap();
    world.integrate().await.unwrap();
    let entries = world.audit(vec![]).await.unwrap();
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!(entry.event, Event::RoleChange { role: Role::Operator });
}

#[tokio::test]
async fn the_policy_is_noted_when_it_changes() {
    let world = World::start().await;
    let note = async |matrix| {
        let permit = permit::<act::Project>(&Actor::job(Job::Projector), on::Network, NOW).unwrap();
        world.store.note_policy(&permit, Hash(matrix)).await.unwrap()
    };
    assert!(note([1; 32]).await && !note([1; 32]).await);
    world.label("between").await;
    assert!(!note([1; 32]).await && note([2; 32]).await && note([1; 32]).await);
    world.integrate().await.unwrap();
    let kinds: Vec<Kind> = world.audit(vec![]).await.unwrap().iter().map(|e| e.event.kind()).collect();
    assert_eq!(kinds, [Kind::PolicyChange, Kind::MetadataChange, Kind::PolicyChange, Kind::PolicyChange]);
}

#[tokio::test]
async fn an_edit_of_the_public_copy_is_found_and_named() {
    let world = World::start().await;
    for n in 0..5 {
        world.label(&format!("{n}")).await;
    }
    world.integrate().await.unwrap();
    let other = Entry {
        at: NOW,
        event: Event::Standing { gpu: GPU, standing: gangline_types::Standing::Proven },
        sealed: Hash([0; 32]),
    };
    sqlx::query("UPDATE log_entry SET entry = ? WHERE idx = 3")
        .bind(other.to_bytes())
        .execute(&world.store.public_write)
        .await
        .unwrap();
    let found = world.audit(vec![]).await.unwrap_err();
    assert!(found.starts_with("edit: entry 3 "), "{found}");
    // With its hash put right as well.
    let mut edge = Edge::default();
    for index in 0..5 {
        let path = TilePath::Entries { index: 0, width: 5 };
        let bundle = world.store.public().log_tile(path).await.unwrap().unwrap();
        edge.push(leaf_hash(&tiles::bundle_entries(&bundle, 5).unwrap()[index]), &mut |_| ());
    }
    sqlx::query("UPDATE log_tile SET hashes = ?")
        .bind(edge.partials()[0].to_bytes())
        .execute(&world.store.public_write)
        .await
        .unwrap();
    let found = world.audit(vec![]).await.unwrap_err();
    assert!(found.starts_with("edit: the 5 entries add up to"), "{found}");
    // And the server does not go on from there.
    world.label("more").await;
    assert!(matches!(world.integrate().await, Err(StoreError::Log(_))));
}

#[tokio::test]
async fn books_that_were_rolled_back_or_edited_sign_nothing() {
    let world = World::start().await;
    world.label("one").await;
    world.integrate().await.unwrap();
    let old = tempfile::tempdir().unwrap();
    let copy = old.path().join("gangline.sqlite");
    sqlx::query("VACUUM INTO ?").bind(copy.to_str().unwrap()).execute(&world.store.write).await.unwrap();
    world.label("two").await;
    world.integrate().await.unwrap();
    let seen = world.seen().await;

    // An entry of the log cannot be changed by mistake.
    for statement in ["UPDATE log_entry SET entry = x'00'", "DELETE FROM log_entry"] {
        assert!(sqlx::query(statement).execute(&world.store.write).await.is_err(), "{statement}");
    }

    // The public copy is gone: it is made anew, with the very checkpoint that was signed.
    let World { store, folder } = world;
    store.close().await;
    drop(store);
    let public_files = ["public.sqlite", "public.sqlite-wal", "public.sqlite-shm"];
    for file in public_files {
        let _ = std::fs::remove_file(folder.path().join(file));
    }
    let world = World { store: SqliteStore::open(folder.path()).await.unwrap(), folder };
    assert_eq!(world.integrate().await.unwrap(), 2);
    assert_eq!(world.seen().await, seen);

    // The books are an older copy: what is published is more than they know of.
    let World { store, folder } = world;
    store.close().await;
    drop(store);
    for file in ["gangline.sqlite", "gangline.sqlite-wal", "gangline.sqlite-shm"] {
        let _ = std::fs::remove_file(folder.path().join(file));
    }
    std::fs::copy(&copy, folder.path().join("gangline.sqlite")).unwrap();
    let world = World { store: SqliteStore::open(folder.path()).await.unwrap(), folder };
    world.label("other two").await;
    let Err(StoreError::Log(finding)) = world.integrate().await else { panic!("it went on") };
    assert!(finding.contains("rolled back"), "{finding}");
    assert_eq!(world.seen().await, seen, "nothing was signed");

    // Without the public copy nobody here can know; whoever saw the log before does.
    let World { store, folder } = world;
    store.close().await;
    drop(store);
    for file in public_files {
        let _ = std::fs::remove_file(folder.path().join(file));
    }
    let world = World { store: SqliteStore::open(folder.path()).await.unwrap(), folder };
    world.integrate().await.unwrap();
    let found = world.audit(seen.clone()).await.unwrap_err();
    assert!(found.starts_with("fork: the log signed two trees of 2 entries"), "{found}");
    world.label("three").await;
    world.integrate().await.unwrap();
    let found = world.audit(seen).await.unwrap_err();
    assert!(found.starts_with("fork: the first 2 entries now have root"), "{found}");
}

#[tokio::test]
async fn labels_go_back_to_what_they_were_without_one_actor() {
    let world = World::start().await;
    world.label("hers").await;
    let stolen = KeyId::from_bytes([6; 16]);
    // As a stolen key would have done it.
    for (before, after) in [("hers", "x"), ("x", "y")] {
        sqlx::query(
            "INSERT INTO label_history (gpu, at, key, actor, before, after) VALUES (?, ?, ?, 'thief', ?, ?)",
        )
        .bind(GPU.blob())
        .bind(NOW.0 as i64 + 5)
        .bind(stolen.blob())
        .bind(before)
        .bind(after)
        .execute(&world.store.write)
        .await
        .unwrap();
    }
    sqlx::query("UPDATE gpu SET label = 'y'").execute(&world.store.write).await.unwrap();
    let operator = session(
        SessionRecord {
            session: SessionId::from_bytes([9; 16]),
            account: AccountId::from_bytes([9; 16]),
            role: Role::Operator,
            signed_in_at: NOW,
            began: Began::Passkey,
        },
        &Freezes::default(),
        Factors::Two,
    );
    let operate = || permit::<act::Operate>(&operator, on::Network, NOW.plus(9)).unwrap();
    let restore = || {
        let on = on::Restoration { doer: Doer::Key(stolen), since: NOW };
        permit::<act::Restore>(&operator, on, NOW.plus(9)).unwrap()
    };
    let store = &world.store;
    assert_eq!(store.label_changes(&operate(), Doer::Key(stolen), NOW).await.unwrap().len(), 2);
    assert_eq!(store.label_changes(&operate(), Doer::Key(stolen), NOW.plus(6)).await.unwrap(), []);
    let planned = store.restorable_labels(&operate(), Doer::Key(stolen), NOW).await.unwrap();
    assert_eq!(planned.len(), 1);
    assert_eq!((planned[0].before.as_str(), planned[0].after.as_str()), ("y", "hers"));
    let act = store.begin_restore(&restore()).await.unwrap();
    let some = |after| {
        let permit = restore();
        async move { store.restore_some(&permit, act, after, 9, NOW).await.unwrap() }
    };
    assert_eq!(some(None).await, (planned, Some(GPU)));
    assert_eq!(some(Some(GPU)).await, (vec![], None));
    assert_eq!(some(None).await.0, [], "twice is once");
    store.complete_restore(restore(), act, 1).await.unwrap();
    let label: String = sqlx::query_scalar("SELECT label FROM gpu").fetch_one(&store.read).await.unwrap();
    assert_eq!(label, "hers");
    world.integrate().await.unwrap();
    let last = *world.audit(vec![]).await.unwrap().last().unwrap();
    assert_eq!(last.event, Event::MetadataChange { gpu: GPU, change: Change::Restored });
}
