//! `gangline migrate`: a network that has lived in a data folder goes on in PostgreSQL as the same network.

use std::path::Path;

use gangline_types::public::PublicSnapshot;
use gangline_wire::{api::public::SnapshotList, beat::Outcome, endpoints::DescribeInventory};
use serde_json::Value;

use crate::{
    address_file,
    live::{
        Told,
        beater::{Beater, socket},
        finish, gangline,
        network::{Machine, Person, Server, call, inventory, this_minute},
    },
    postgres,
};

const MORE: &[&str] = &["--allow-simulated", "--period-minutes", "1", "--snapshot-grace-seconds", "1"];

fn migrate(data: &Path, to: &Path, more: &[&str]) -> Told {
    let mut command = gangline(data);
    command.args(["migrate", "--data"]).arg(data).arg("--database-file").arg(to).args(more);
    finish(&mut command)
}

async fn snapshots(server: &Server, at_least: usize) -> Vec<PublicSnapshot> {
    let enough = |list: &SnapshotList| list.snapshots.len() >= at_least;
    server.until::<SnapshotList>("/api/v1/public/snapshots", enough).await.snapshots
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_has_lived_goes_on_in_postgres_as_the_same_network() {
    let postgres = postgres::Server::new(&[]);
    let database = postgres.database().await;
    let work = tempfile::tempdir().unwrap();
    let data = work.path().join("data");
    let to = address_file(work.path(), "to", &postgres.url(&database));
    let seeded =
        finish(gangline(work.path()).args(["fleet", "seed", "--machines", "200", "--data"]).arg(&data));
    assert_eq!(seeded.code, 0, "{}", seeded.err);

    // It lives: people, a machine that beats, a name, a refusal, a key that is rotated away, a snapshot.
    let server = Server::start(&data, MORE);
    let operator = Person::enter(&server, &server.link.clone()).await;
    let machine = Machine::join(&server, &operator).await;
    let stranger = Machine::join(&server, &operator).await;
    let mut beater = Beater::open(&machine).await;
    let udp = socket(server.beat_udp.unwrap()).await;
    for n in 0..40 {
        assert_eq!(beater.send(&udp, n).await, Outcome::Durable);
    }
    machine.beat(this_minute()).await.unwrap();
    let label = format!("/console/gpus/{}/label", machine.gpu);
    let (status, page) = machine.supplier.form(&label, &[("label", "the one that moved")]).await;
    assert!(status < 400, "{status} {page}");
    let (status, _) = stranger.supplier.form(&label, &[("label", "mine")]).await;
    assert_eq!(status, 404, "a stranger sees it");
    let taken = snapshots(&server, 1).await;
    let (status, seen) = server.get("/log/checkpoint").await;
    assert_eq!(status, 200);
    let checkpoint = work.path().join("seen");
    std::fs::write(&checkpoint, &seen).unwrap();

    // Not while it runs.
    migrate(&data, &to, &[])
        .refused(1, &["in use by another gangline serve", "hint: stop that server first"]);
    let (listen, beats) = (server.address.to_string(), server.beat_udp.unwrap().to_string());
    server.stop();

    // Not from nowhere, and not to nowhere.
    migrate(&work.path().join("nothing"), &to, &[])
        .refused(1, &["there is no network in", "gangline.sqlite"]);
    let away = address_file(work.path(), "away", "postgres://nobody:x@%2Fnowhere/none");
    migrate(&data, &away, &[]).refused(1, &["connecting to the database"]);

    let told = migrate(&data, &to, &["--json"]);
    assert_eq!(told.code, 0, "{}", told.err);
    let report: Value = serde_json::from_str(&told.out).unwrap();
    let rows = report["compared"].as_array().unwrap();
    let of = |what: &str| {
        let row =
            rows.iter().find(|row| row["what"] == what).unwrap_or_else(|| panic!("{what}: {}", told.out));
        assert_eq!(row["here"], row["there"], "{what}");
        row["there"]["rows"].as_u64().unwrap()
    };
    assert_eq!(of("gangline.machine"), 202);
    assert_eq!(of("gangline_public.gpu"), 202);
    assert!(of("gangline.uptime") >= 1 && of("gangline.refusal") >= 1 && of("gangline.label_history") == 1);
    assert!(of("roots of snapshots") >= 1 && of("the log's root") == of("gangline.log_entry"));
    assert_eq!(of("tips of chains"), 1);

    // The folder is a copy by now: nobody goes on with it, and it does not move twice.
    let gone = ["have moved to postgres://owner@", "--database-file"];
    finish(gangline(&data).args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data)).refused(1, &gone);
    migrate(&data, &to, &[]).refused(1, &gone);
    std::fs::remove_file(data.join("moved-to")).unwrap();
    migrate(&data, &to, &[])
        .refused(1, &["it is not empty: gangline.account has rows", "nothing was changed"]);

    // The same network, at the same place: sessions, keys, numbers, lanes, log and snapshots go on.
    let more = [MORE, &["--beat-udp-listen", &beats, "--database-file", to.to_str().unwrap()]].concat();
    let server = Server::start_at(&data, &listen, &more);
    let (status, page) = machine.supplier.page("/console").await;
    assert_eq!(status, 200);
    assert!(page.contains("the one that moved"), "{page}");
    call::<DescribeInventory>(&machine.client, &inventory()).await.unwrap();
    let newcomer = Machine::join(&server, &operator).await;
    assert!(newcomer.gpu != machine.gpu);
    for n in 40..45 {
        assert_eq!(beater.send(&udp, n).await, Outcome::Durable, "the lane goes on");
    }
    server.until_up(machine.gpu, &beater.minutes()).await;
    let goes_on = snapshots(&server, taken.len() + 1).await;
    for old in &taken {
        assert!(goes_on.contains(old), "snapshot {} is another", old.period);
    }
    for args in [
        vec!["audit", "verify", &server.origin, "--seen", checkpoint.to_str().unwrap()],
        vec!["verify", "uptime", &server.origin],
        vec!["verify", &server.origin],
    ] {
        let told = finish(gangline(work.path()).args(&args));
        assert_eq!(told.code, 0, "{args:?}: {}{}", told.out, told.err);
    }
    server.stop();
}
