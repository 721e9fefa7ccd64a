//! What a server's data folder may be instead of a good one: taken, not writable, full, damaged. It refuses
//! to start, says what to do, and changes nothing; or it goes on and loses nothing.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod live;

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    path::Path,
};

use live::{
    Tmpfs, Told, contents, finish, gangline,
    network::{Machine, Person, Server, minutes},
};

/// Starts a server that must not come up.
fn refused_start(data: &Path, listen: &str) -> Told {
    let told = finish(gangline(data).args(["serve", "--json", "--listen", listen, "--data"]).arg(data));
    assert_eq!(told.out, "", "it listened");
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_or_folder_that_another_server_has_is_refused_and_that_server_goes_on() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(folder.path(), &[]);

    let port = server.address.port();
    refused_start(other.path(), &server.address.to_string()).refused(
        1,
        &[
            &format!("error: cannot listen on 127.0.0.1:{port}\n"),
            "cause: Address already in use",
            &format!(
                "hint: another program listens on port {port}; stop it, or choose another with --listen"
            ),
        ],
    );

    let folder_taken = format!(
        "error: the data folder {} is in use by another gangline serve (process {})\n",
        folder.path().display(),
        server.process.pid()
    );
    let hint = "hint: stop that server first, or give this one another --data folder";
    refused_start(folder.path(), "127.0.0.1:0").refused(1, &[&folder_taken, hint]);

    assert_eq!(server.get("/readyz").await, (200, "ready\n".to_owned()));
    server.stop();
    // The lock ends with its process, so the folder is free again; and nothing stayed of what failed.
    Server::start(folder.path(), &[]).stop();
    Server::start(other.path(), &[]).stop();
}

#[test]
fn a_folder_that_cannot_be_written_is_refused_with_the_reason() {
    let disk = Tmpfs::mount("ro,size=1m");
    let plain = tempfile::NamedTempFile::new().unwrap();
    for (data, why) in [
        (disk.path.clone(), "Read-only file system"),
        (disk.path.join("new"), "Read-only file system"),
        (plain.path().to_owned(), "File exists"),
        (plain.path().join("new"), "Not a directory"),
    ] {
        let name = data.display();
        refused_start(&data, "127.0.0.1:0").refused(
            1,
            &[
                &format!("error: the data folder {name} cannot be used\ncause: {why}"),
                &format!(
                    "hint: make {name} a folder that this user can write, or give another --data folder"
                ),
            ],
        );
    }
}

#[test]
fn another_user_s_folder_is_refused_with_the_reason() {
    live::needs_root();
    let folder = tempfile::tempdir().unwrap();
    // Where the binary lies may be closed to others; its copy here is not.
    let program = folder.path().join("gangline");
    fs::copy(env!("CARGO_BIN_EXE_gangline"), &program).unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    for (path, mode) in [(folder.path(), 0o755), (&data, 0o755)] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    let mut command = std::process::Command::new("setpriv");
    live::environment(&mut command, folder.path());
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(&program);
    finish(command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data)).refused(
        1,
        &[
            &format!("error: the data folder {} cannot be used\ncause: Permission denied", data.display()),
            "hint: make ",
        ],
    );
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
}

/// Fills a file system to the last byte; the file that does it can be removed again.
fn fill(disk: &Path) -> std::path::PathBuf {
    let path = disk.join("filler");
    let mut file = fs::File::create(&path).unwrap();
    let mut piece = vec![0; 1 << 16];
    while !piece.is_empty() {
        if file.write_all(&piece).is_err() {
            piece.truncate(piece.len() / 2);
        }
    }
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_beats_keeps_what_was_acknowledged_and_recovers_by_itself() {
    let disk = Tmpfs::mount("size=32m,mode=0700");
    let data = disk.path.join("data");
    let mut server = Server::start(&data, &[]);
    let operator = Person::enter(&server, &server.link.clone()).await;
    let machine = Machine::join(&server, &operator).await;
    let mut minutes = minutes();
    let mut acknowledged = Vec::new();
    for minute in minutes.by_ref().take(3) {
        assert_eq!(machine.beat(minute).await.unwrap().credited, 1);
        acknowledged.push(minute);
    }
    server.until_up(machine.gpu, &acknowledged).await;

    let filler = fill(&disk.path);
    // What is left of the log's last page may still take a few.
    let (unheard, error) = loop {
        let minute = minutes.next().expect("a full disk refuses one of 300 beats");
        match machine.beat(minute).await {
            Ok(receipt) => {
                assert_eq!(receipt.credited, 1);
                acknowledged.push(minute);
            }
            Err(error) => break (minute, error),
        }
    };
    let gangline_worker::client::ClientError::Refused { status, body } = &error else { panic!("{error:?}") };
    assert_eq!((*status, body.code.as_str()), (507, "disk_full"), "{error}");
    assert_eq!(body.message, "the server has no space left to write this down, so it was not done");
    assert!(body.hint.as_deref().unwrap().contains("nothing that was acknowledged is lost"), "{body:?}");
    assert!(error.is_passing(), "a worker would not send the beat again");

    // It runs, says that it is not ready, and shows what it knows.
    let (status, text) = server.get("/readyz").await;
    assert!(status == 507 && text.contains("disk_full"), "{status} {text}");
    assert_eq!(server.get("/healthz").await.0, 200);
    assert_eq!(server.get(&format!("/gpu/{}", machine.gpu)).await.0, 200);
    server.process.assert_runs();

    fs::remove_file(filler).unwrap();
    // By itself: the very next beat is taken, and so is the one that was refused.
    for minute in [unheard, minutes.next().unwrap()] {
        assert_eq!(machine.beat(minute).await.unwrap().credited, 1);
        acknowledged.push(minute);
    }
    assert_eq!(server.get("/readyz").await.0, 200);
    server.until_up(machine.gpu, &acknowledged).await;

    // All of it is on disk.
    server.process.crash();
    let server = Server::start(&data, &[]);
    server.until_up(machine.gpu, &acknowledged).await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_on_a_full_disk_is_refused_and_a_later_one_works() {
    let disk = Tmpfs::mount("size=4m,mode=0700");
    let data = disk.path.join("data");
    let filler = fill(&disk.path);
    refused_start(&data, "127.0.0.1:0").refused(
        1,
        &[
            &format!("error: the data folder {} cannot be used\n", data.display()),
            "hint: free space on that disk",
        ],
    );
    // Now there is room for the beginning of a database, and no more.
    fs::File::options()
        .write(true)
        .open(&filler)
        .unwrap()
        .set_len(fs::metadata(&filler).unwrap().len() - (96 << 10))
        .unwrap();
    refused_start(&data, "127.0.0.1:0").refused(
        1,
        &["error: no space is left on the disk that holds the database\n", "hint: free space on that disk"],
    );
    fs::remove_file(filler).unwrap();
    Server::start(&data, &[]).stop();
}

/// Damages a file, says how.
type Damage = fn(&Path);

const DAMAGES: [(&str, Damage); 4] = [
    ("garbage from the start", |file| {
        let mut file = fs::File::options().write(true).open(file).unwrap();
        file.write_all(&[0x5a; 20_000]).unwrap();
    }),
    ("cut in the middle", |file| {
        let half = fs::metadata(file).unwrap().len() / 2;
        fs::File::options().write(true).open(file).unwrap().set_len(half).unwrap();
    }),
    ("some pages garbled", |file| {
        let mut file = fs::File::options().write(true).open(file).unwrap();
        file.seek(SeekFrom::Start(2 * 4096)).unwrap();
        file.write_all(&[0xa5; 3 * 4096]).unwrap();
    }),
    ("another program's file", |file| fs::write(file, "this is a shopping list\n".repeat(100)).unwrap()),
];

/// A folder whose server crashed with some beats in its write-ahead log, as a copy would have it.
async fn crashed() -> (tempfile::TempDir, Machine, gangline_types::Minute) {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), &[]);
    let operator = Person::enter(&server, &server.link.clone()).await;
    let machine = Machine::join(&server, &operator).await;
    let minute = live::network::this_minute();
    machine.beat(minute).await.unwrap();
    server.until_up(machine.gpu, &[minute]).await;
    server.process.crash();
    (folder, machine, minute)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database_is_refused_with_advice_and_left_as_it_is() {
    let (folder, machine, minute) = crashed().await;
    // Everything into the files themselves, so that they can be damaged; and once more with a log beside.
    Server::start(folder.path(), &[]).stop();
    let good = contents(folder.path());
    let restore = || {
        fs::remove_dir_all(folder.path()).unwrap();
        fs::create_dir(folder.path()).unwrap();
        good.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        let key = folder.path().join("network.key");
        fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    };
    let check = |file: &Path, what: &str| {
        let kept = |folder: &Path| {
            // The lock says who came last; shared memory and an empty log beside a database are no data.
            let mut files = contents(folder);
            let is_data = |path: &Path| !path.ends_with("lock") && !path.to_string_lossy().ends_with("-shm");
            files.retain(|(path, bytes)| {
                is_data(path) && (!bytes.is_empty() || !path.to_string_lossy().ends_with("-wal"))
            });
            files
        };
        let before = kept(folder.path());
        let told = refused_start(folder.path(), "127.0.0.1:0");
        let name = file.display();
        let error = format!("error: the database {name} is damaged: ");
        let hint =
            format!("hint: nothing was changed. Restore {name} from a backup; or save what can be read");
        assert!(told.code == 1 && told.err.contains(&error) && told.err.contains(&hint), "{what}: {told:?}");
        assert!(kept(folder.path()) == before, "{what}: something was changed");
    };
    for name in ["gangline.sqlite", "public.sqlite"] {
        let file = folder.path().join(name);
        for (what, damage) in DAMAGES {
            restore();
            damage(&file);
            check(&file, &format!("{name}: {what}"));
        }
    }
    // Books that are gone do not become a new network.
    let main = folder.path().join("gangline.sqlite");
    restore();
    fs::write(&main, "").unwrap();
    check(&main, "empty");
    fs::remove_file(&main).unwrap();
    check(&main, "gone");

    // A restored copy is the whole network again.
    restore();
    let server = Server::start(folder.path(), &[]);
    server.until_up(machine.gpu, &[minute]).await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database_with_a_log_beside_it_is_left_as_it_is() {
    let (folder, machine, minute) = crashed().await;
    let address = machine.client.base().strip_prefix("http://").unwrap().to_owned();
    // What the first server wrote goes into the file; of what the second one writes, the log alone has it.
    Server::start(folder.path(), &[]).stop();
    let mut server = Server::start_at(folder.path(), &address, &[]);
    machine.beat(gangline_types::Minute(minute.0 - 1)).await.unwrap();
    server.process.crash();

    let main = folder.path().join("gangline.sqlite");
    let log = folder.path().join("gangline.sqlite-wal");
    assert!(fs::metadata(&log).unwrap().len() > 0, "the crash left no log: the test would show nothing");
    let mut pages = fs::read(&main).unwrap();
    pages[4096..].fill(0x5a);
    fs::write(&main, &pages).unwrap();
    let held = fs::read(&log).unwrap();
    refused_start(folder.path(), "127.0.0.1:0")
        .refused(1, &["is damaged: ", "hint: nothing was changed. Restore "]);
    assert!(fs::read(&main).unwrap() == pages, "the damaged file was written");
    assert!(fs::read(&log).unwrap() == held, "the log beside it was written");
}
