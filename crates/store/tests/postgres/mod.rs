//! A PostgreSQL of the test's own: from the Debian package, on a socket in a temporary folder, without a port.
//! PostgreSQL does not run as root, so a test that does lends it the user that the package made.
#![allow(dead_code, clippy::unwrap_used)] // Each test uses its part, and all of it is for tests.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

const PASSWORD: &str = "owner of the test's books";

/// The folder of PostgreSQL's programs: the newest that Debian has installed, or where they are found.
fn programs() -> PathBuf {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = debian.map(|e| e.path().join("bin")).filter(|bin| bin.join("initdb").exists()).max();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = || std::env::split_paths(&path).find(|folder| folder.join("initdb").exists());
    newest
        .or_else(found)
        .expect("PostgreSQL's programs are not here: install the Debian package `postgresql`")
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// One of PostgreSQL's programs, as a user that it takes, and ended when this process ends.
pub fn program(name: &str) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.arg("--").arg(programs().join(name)).env("LC_ALL", "C").stdin(Stdio::null());
    command
}

pub fn succeed(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A server of PostgreSQL. Ends with its last holder.
pub struct Server {
    pub folder: tempfile::TempDir,
    pub process: Mutex<Option<Child>>,
    options: Vec<String>,
    databases: AtomicU32,
}

impl Server {
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::Builder::new().prefix("gl-pg").tempdir().unwrap();
        if is_root() {
            succeed(Command::new("chown").arg("postgres:postgres").arg(folder.path()));
        }
        folder
    }

    /// A new one, with options as `name=value`.
    pub fn new(options: &[&str]) -> Self {
        let folder = Self::folder();
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        if is_root() {
            succeed(Command::new("chown").arg("postgres:postgres").arg(&password));
        }
        succeed(
            program("initdb")
                .args([
                    "--auth=scram-sha-256",
                    "--username=owner",
                    "--encoding=UTF8",
                    "--no-locale",
                    "--no-sync",
                ])
                .arg(format!("--pwfile={}", password.display()))
                .arg("-D")
                .arg(folder.path().join("data")),
        );
        Self::started(folder, options)
    }

    /// A standby of `self`, that follows it until it is promoted.
    pub fn standby(&self, options: &[&str]) -> Self {
        let folder = Self::folder();
        succeed(
            program("pg_basebackup")
                .args([
                    "--write-recovery-conf",
                    "--checkpoint=fast",
                    "--wal-method=stream",
                    "--username=owner",
                ])
                .arg(format!("--host={}", self.socket().display()))
                .arg("-D")
                .arg(folder.path().join("data"))
                .env("PGPASSWORD", PASSWORD),
        );
        Self::started(folder, options)
    }

    fn started(folder: tempfile::TempDir, options: &[&str]) -> Self {
        let options = options.iter().map(|o| (*o).to_owned()).collect();
        let server = Self { folder, process: Mutex::new(None), options, databases: AtomicU32::new(0) };
        server.start();
        server
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn socket(&self) -> &Path {
        self.folder.path()
    }

    /// Starts it; waits until it answers.
    pub fn start(&self) {
        let mut command = program("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.socket()).args(["-c", "listen_addresses="]);
        for option in self.options.iter().map(String::as_str).chain(["max_connections=200", "fsync=off"]) {
            command.args(["-c", option]);
        }
        let log =
            std::fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        *self.process.lock().unwrap() = Some(child);
        let until = Instant::now() + Duration::from_secs(120);
        let mut ready = program("pg_isready");
        ready.arg("-q").arg("-h").arg(self.socket());
        while !ready.status().unwrap().success() {
            assert!(Instant::now() < until, "PostgreSQL did not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Ends it: `TERM` waits for clients, `INT` cuts them off, `QUIT` does not even finish writing, `KILL` is
    /// the power cord.
    pub fn stop(&self, signal: &str) {
        let Some(mut child) = self.process.lock().unwrap().take() else { return };
        let _ = Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status();
        child.wait().unwrap();
    }

    /// Makes a standby the primary.
    pub fn promote(&self) {
        succeed(program("pg_ctl").args(["promote", "-w", "-D"]).arg(self.data()));
    }

    /// This server's name as a host in an address.
    pub fn host(&self) -> String {
        self.socket().to_str().unwrap().replace('/', "%2F")
    }

    /// A fresh database: its name.
    pub async fn database(&self) -> String {
        let name = format!("books{}", self.databases.fetch_add(1, Ordering::Relaxed));
        succeed(self.client("createdb").arg(&name));
        name
    }

    /// Has a statement done by the owner.
    pub fn administer(&self, database: &str, statement: &str) {
        succeed(self.client("psql").args([
            "--no-psqlrc",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            database,
            "-c",
            statement,
        ]));
    }

    /// One of PostgreSQL's clients as the owner.
    fn client(&self, name: &str) -> Command {
        let mut command = program(name);
        command.env("PGHOST", self.socket()).env("PGUSER", "owner").env("PGPASSWORD", PASSWORD);
        command
    }

    /// The same for clients that know no address: socket's folder, user, password and database, with `|` between.
    pub fn by_parts(&self, database: &str) -> String {
        [self.socket().to_str().unwrap(), "owner", PASSWORD, database].join("|")
    }

    /// The address of a database on it.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://owner:{}@{}/{database}",
            PASSWORD.replace(' ', "%20").replace('\'', "%27"),
            self.host()
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop("INT");
        if is_root() {
            // What the other user made goes with the folder all the same: root may remove it.
            let _ = std::fs::remove_dir_all(self.folder.path());
        }
    }
}

/// The one that tests of this program share while any of them runs.
pub fn shared() -> Arc<Server> {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(|e| e.into_inner());
    shared.upgrade().unwrap_or_else(|| {
        let server = Arc::new(Server::new(&[]));
        *shared = Arc::downgrade(&server);
        server
    })
}
