//! Books that move from a folder into PostgreSQL: all of it, the same, or nothing at all.

use std::path::Path;

use gangline_guard::{Actor, Job, Permit, act, permit::permit, policy::on};
use gangline_rules::spans::SPAN;
use gangline_store::{Compared, DatabaseUrl, Store, StoreError};
use gangline_types::{GpuId, Hour, Minute};
use gangline_wire::{
    api::{account::Role, public::GpusQuery},
    beat::Epoch,
};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{
    lanes::open,
    ledger::{integrate, open_season, project_all, snapshot},
    postgres,
    spans::{TAKEN, pack, told},
    supply::prove,
    world::{Home, NOW, World},
};

/// Seconds after [`NOW`] by which all of it has happened.
const LATER: u64 = 60 * TAKEN as u64 + 900;

/// The folder of a world that has lived.
async fn lived() -> tempfile::TempDir {
    let world = World::sqlite().await;
    let supplier = world.someone(Role::Supplier).await;
    let machine = world.machine(&supplier).await;
    let gpus = world.gpus(&machine, 3).await;
    prove(&world, &machine, gpus[0], 1, 500).await;
    for tip in [1, 2] {
        open(&world, &machine, Epoch::of(NOW), &gpus, tip).await;
    }
    open_season(&world).await;
    // A month ago, so that it is packed; and now.
    for hours_ago in [24 * 40, 24 * 40 - 1, 0] {
        let minute = Minute(NOW.minute().0 - hours_ago * 60);
        world.beat(&gpus, minute, NOW).await;
    }
    // A whole span of snapshots, to be packed, and some more.
    for period in 0..TAKEN {
        let minute = Minute(NOW.minute().0 + period);
        let up = if period % 3 == 0 { &gpus[..2] } else { &gpus[..] };
        world.beat(up, minute, minute.start().plus(59)).await;
        snapshot(&world, period).await.unwrap();
    }
    integrate(&world).await;
    project_all(&world, LATER).await;
    let reconcile = world.job::<act::Reconcile>(Job::Reconciler, NOW);
    let (before, kept) = (Hour(NOW.minute().hour().0 - 24), Hour(0));
    for public in [false, true] {
        let packed = world.store.pack_uptime(&reconcile, public, before, kept, None).await.unwrap();
        assert!(packed.hours > 0 || public, "nothing was packed");
        pack(&world, public).await;
    }
    world.store.close().await;
    let World { home: Home::Folder(folder), .. } = world else { unreachable!() };
    folder
}

fn setup() -> Permit<act::MoveBooks> {
    permit::<act::MoveBooks>(&Actor::job(Job::Setup), on::Network, NOW).unwrap()
}

async fn moved(folder: &Path, target: &Store, url: &DatabaseUrl) -> Result<Vec<Compared>, StoreError> {
    Store::move_books(setup(), folder, target, url, |_, _| {}).await
}

async fn edit(file: &Path, statements: &[&'static str]) {
    let mut books =
        SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(file)).await.unwrap();
    for statement in statements {
        sqlx::query(*statement).execute(&mut books).await.unwrap();
    }
    books.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_it_is_there_and_goes_on() {
    let folder = lived().await;
    let here = Store::open(folder.path()).await.unwrap();
    let public = here.public().clone();
    let gpus = public.gpus(&GpusQuery::default()).await.unwrap().gpus;
    let all_hours = (Hour(0), Hour(NOW.minute().hour().0 + 1));
    let uptime = public.uptime(gpus[0].id, all_hours.0, all_hours.1).await.unwrap();
    assert_eq!(uptime.len(), 3);
    let totals = public.totals().await.unwrap();
    let ids: Vec<GpuId> = gpus.iter().map(|gpu| gpu.id).collect();
    let entries = told(&public, &ids).await;
    here.close().await;
    drop(here);

    let server = postgres::shared();
    let url: DatabaseUrl = server.url(&server.database().await).parse().unwrap();
    let target = World::connect(&url, 1).await.unwrap();
    let compared = moved(folder.path(), &target, &url).await.unwrap();
    assert!(compared.iter().all(|one| one.here == one.there));
    let rows = |what: &str| compared.iter().find(|one| one.what == what).unwrap().there.rows;
    assert_eq!((rows("gangline.gpu"), rows("gangline.uptime"), rows("gangline_public.uptime")), (3, 9, 9));
    assert_eq!((rows("gangline.beat_lane"), rows("gangline.uptime_chain")), (2, 6));
    assert_eq!(rows("the log's root"), rows("gangline.log_entry"));
    // What is packed moved as it is: a row of three GPUs, their sums, and the other periods as they were taken.
    assert_eq!(rows("roots of snapshots"), u64::from(TAKEN));
    for schema in ["gangline", "gangline_public"] {
        let rows =
            ["entries_packed", "entries_span", "entries"].map(|name| rows(&format!("{schema}.{name}")));
        assert_eq!(rows, [1, 1, u64::from(TAKEN) - SPAN as u64], "{schema}");
    }

    let there = target.public();
    assert_eq!(there.gpus(&GpusQuery::default()).await.unwrap().gpus, gpus);
    assert_eq!(there.uptime(gpus[0].id, all_hours.0, all_hours.1).await.unwrap(), uptime);
    assert_eq!(there.totals().await.unwrap(), totals);
    assert_eq!(told(there, &ids).await, entries);
    // Numbers that the database gives go on, and so do snapshots, the log and the projection.
    let home = Home::Folder(tempfile::tempdir().unwrap());
    let world = World { store: target, home, made: 100.into() };
    let newcomer = world.someone(Role::Supplier).await;
    let machine = world.machine(&newcomer).await;
    let more = world.gpus(&machine, 1).await;
    let minute = Minute(NOW.minute().0 + TAKEN);
    world.beat(&more, minute, minute.start().plus(59)).await;
    let next = snapshot(&world, TAKEN).await.unwrap();
    assert_eq!(next.previous_root, there_root(&world).await);
    assert!(integrate(&world).await > 0);
    project_all(&world, LATER + 100).await;
    assert_eq!(world.store.public().gpus(&GpusQuery::default()).await.unwrap().gpus.len(), 4);
    // What is a copy by now is no network any more, and does not move again.
    for refused in [
        Store::open(folder.path()).await.map(|_| ()),
        moved(folder.path(), &world.store, &url).await.map(|_| ()),
    ] {
        let refused = refused.unwrap_err();
        assert!(refused.to_string().contains("have moved to postgres://"), "{refused}");
    }
    world.store.close().await;
}

/// The root of the newest snapshot that the public sees.
async fn there_root(world: &World) -> gangline_types::Hash {
    world.store.public().newest_snapshots(1, 1).await.unwrap()[0].root
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_hold_together_moves_not_at_all() {
    let server = postgres::shared();
    let url: DatabaseUrl = server.url(&server.database().await).parse().unwrap();
    let target = World::connect(&url, 1).await.unwrap();
    let folder = lived().await;
    let books = folder.path().join("gangline.sqlite");
    let check = async |says: &str| {
        let refused = moved(folder.path(), &target, &url).await.unwrap_err();
        assert!(refused.to_string().contains(says), "{says}: {refused}");
    };
    edit(&books, &["CREATE TABLE stranger (x INTEGER)"]).await;
    check("the table stranger").await;
    edit(&books, &["DROP TABLE stranger", "ALTER TABLE account ADD COLUMN stranger INTEGER"]).await;
    check("account has other columns than gangline.account: [\"stranger\"]").await;
    edit(
        &books,
        &[
            "ALTER TABLE account DROP COLUMN stranger",
            "DROP TRIGGER log_entry_stays",
            "UPDATE log_entry SET entry = x'00' WHERE idx = 1",
        ],
    )
    .await;
    check("entries are not those that were signed").await;
    edit(&books, &["DROP TRIGGER log_entry_is_kept", "DELETE FROM log_entry WHERE idx > 0"]).await;
    check("entries were signed, and 1 are in the books").await;
    let holder = Store::open(folder.path()).await.unwrap();
    check("in use by another gangline serve").await;
    holder.close().await;
    drop(holder);

    // Nothing came of any of it: a whole folder still moves there, and a second one does not.
    let whole = lived().await;
    moved(whole.path(), &target, &url).await.unwrap();
    let other = lived().await;
    let refused = moved(other.path(), &target, &url).await.unwrap_err();
    assert!(refused.to_string().contains("it is not empty"), "{refused}");
    assert!(refused.hint().is_some());
    Store::open(other.path()).await.unwrap().close().await;
    target.close().await;
}
