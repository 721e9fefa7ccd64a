//! A server that can be killed and started again, and the comparison of what was acknowledged with what is public.

use std::{net::SocketAddr, path::Path, process::Command, time::Duration};

use gangline_wire::api::public::UptimePage;
use nix::sys::signal::Signal;
use sqlx::{
    Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

use super::{
    LIMIT,
    beater::Beater,
    gangline,
    network::{Machine, Person, Server, this_minute},
};

/// A server with its operator, and where it is found again.
pub struct World {
    pub folder: tempfile::TempDir,
    pub server: Option<Server>,
    listen: String,
    pub udp: SocketAddr,
    operator: Person,
}

const MORE: &[&str] = &["--snapshot-grace-seconds", "36000"];

impl World {
    pub async fn start(more: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), more).await
    }

    /// With its books in this folder.
    pub async fn start_in(folder: tempfile::TempDir, more: &[&str]) -> Self {
        let server = Server::start(folder.path(), &[MORE, more].concat());
        Self::of(folder, server).await
    }

    /// In another environment.
    pub async fn start_with(more: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start_with(folder.path(), "127.0.0.1:0", &[MORE, more].concat(), change);
        Self::of(folder, server).await
    }

    async fn of(folder: tempfile::TempDir, server: Server) -> Self {
        let operator = Person::enter(&server, &server.link.clone()).await;
        let (listen, udp) = (server.address.to_string(), server.beat_udp.expect("beats are taken by UDP"));
        Self { folder, server: Some(server), listen, udp, operator }
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub async fn beater(&self) -> Beater {
        Beater::open(&Machine::join(self.server(), &self.operator).await).await
    }

    pub fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        server.process.signal(Signal::SIGKILL);
        server.process.ended(LIMIT);
    }

    pub fn start_again(&mut self) {
        let udp = self.udp.to_string();
        let server = Server::start_at(
            self.folder.path(),
            &self.listen,
            &[MORE, &["--beat-udp-listen", &udp]].concat(),
        );
        self.server = Some(server);
    }

    /// Holds the journal, so that the server can write no beat down: this hour's file and the next one's, whether they
    /// are there yet or not, because a server goes on in another file when the hour turns.
    pub async fn hold_journal(&self) -> Vec<SqliteConnection> {
        let hour = this_minute().hour().0;
        let mut held = Vec::new();
        for hour in [hour, hour + 1] {
            held.push(hold(&self.folder.path().join(format!("journal-{hour}.sqlite"))).await);
        }
        held
    }

    /// What was acknowledged is public, and nothing is that was not sent.
    pub async fn audit(&self, beaters: &[Beater]) {
        for beater in beaters {
            self.server().until_up(beater.gpu, &beater.minutes()).await;
            let path = format!("/api/v1/public/gpus/{}/uptime", beater.gpu);
            let page: UptimePage = self.server().until(&path, |_| true).await;
            for hour in page.hours {
                for m in (0..60).filter(|m| hour.bits.has(*m)) {
                    let minute = hour.hour.start().0 + u32::from(m);
                    assert!(beater.sent.contains(&minute), "minute {minute} was credited and never sent");
                }
            }
        }
        // And anybody can see that each stands on a chain.
        let mut verify = gangline(self.folder.path());
        let told = verify.args(["verify", "uptime", &self.server().origin]).output().unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    }
}

/// Holds a database so that nobody else can write it. One that is not there yet is made.
pub async fn hold(file: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(Duration::from_secs(30));
    let mut held = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut held).await.unwrap();
    held
}

/// Lets what was held go again.
pub async fn let_go(held: impl IntoIterator<Item = SqliteConnection>) {
    for mut held in held {
        sqlx::query("ROLLBACK").execute(&mut held).await.unwrap();
        held.close().await.unwrap();
    }
}
