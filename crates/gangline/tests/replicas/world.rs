//! A network of simulated machines that has moved into a database, and its servers.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use gangline_server::simulate::{Identity, Seed};
use gangline_types::{GpuId, cluster::ClusterState};
use gangline_wire::{
    SigningKey,
    api::{enrol::*, public::GpuPage},
    endpoints::{Enrol, EnrolPoll},
};
use gangline_worker::client::Client;
use sqlx::{Connection, PgConnection};

use crate::{
    address_file,
    live::{
        beater::{Beater, MINUTES, socket},
        finish, gangline,
        network::{Person, Server, call, enrolment_of, new_key},
    },
};

/// Machines that are made up.
pub const MACHINES: u32 = 24;
const MORE: &[&str] = &["--allow-simulated", "--period-minutes", "1", "--snapshot-grace-seconds", "1"];

/// Servers on one database; `None` where one was killed.
pub struct World {
    pub work: tempfile::TempDir,
    pub url: String,
    file: PathBuf,
    more: Vec<String>,
    pub servers: Vec<Option<Server>>,
    pub operator: Person,
}

impl World {
    /// So many servers on a database at `url`.
    pub async fn start(url: String, servers: usize) -> Self {
        Self::start_with(url, servers, &[]).await
    }

    /// The same with more settings.
    pub async fn start_with(url: String, servers: usize, more: &[&str]) -> Self {
        let work = tempfile::tempdir().unwrap();
        let file = address_file(work.path(), "database", &url);
        let first = work.path().join("0");
        let machines = MACHINES.to_string();
        let seeded = finish(
            gangline(work.path()).args(["fleet", "seed", "--machines", &machines, "--data"]).arg(&first),
        );
        assert_eq!(seeded.code, 0, "{}", seeded.err);
        // A folder gets its key with its first server.
        Server::start(&first, MORE).stop();
        let mut migrate = gangline(work.path());
        let moved = finish(migrate.args(["migrate", "--data"]).arg(&first).arg("--database-file").arg(&file));
        assert_eq!(moved.code, 0, "{}", moved.err);
        let more = more.iter().map(|one| (*one).to_owned()).collect();
        let mut world = Self { work, url, file, more, servers: Vec::new(), operator: Person::nobody() };
        for at in 0..servers {
            world.servers.push(None);
            world.start_again(at);
        }
        let server = world.at(0);
        world.operator = Person::enter(server, &server.link.clone()).await;
        world
    }

    /// Starts the server `at` with a folder that holds nothing but the network's key.
    pub fn start_again(&mut self, at: usize) {
        let folder = self.work.path().join(format!("{at}"));
        std::fs::create_dir_all(&folder).unwrap();
        let key = folder.join("network.key");
        if !key.exists() {
            std::fs::copy(self.work.path().join("0/network.key"), key).unwrap();
        }
        let file = self.file.to_str().unwrap();
        let more: Vec<&str> = self.more.iter().map(String::as_str).collect();
        self.servers[at] = Some(Server::start(
            &folder,
            &[MORE, &["--database-file", file, "--replica-listen", "127.0.0.1:0"], &more].concat(),
        ));
    }

    /// The file with the database's address.
    pub fn file(&self) -> &Path {
        &self.file
    }

    pub fn at(&self, at: usize) -> &Server {
        self.servers[at].as_ref().expect("it runs")
    }

    /// The place of the server that is called so.
    pub fn place_of(&self, replica: &str) -> Option<usize> {
        let called = |server: &Option<Server>| {
            server.as_ref().is_some_and(|server| server.replica.as_deref() == Some(replica))
        };
        self.servers.iter().position(called)
    }

    /// As the owner of the database.
    pub async fn database(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    /// All simulated machines open an epoch at one server each, and beat for this minute at another.
    pub async fn beaters(&self) -> Vec<(SigningKey, Beater)> {
        let seed = Seed::of("gangline");
        let mut beaters = Vec::new();
        for n in 0..MACHINES {
            let Identity { key, gpu, .. } = seed.identity(n);
            let count = self.servers.len();
            let (opens, beats) = (n as usize % count, (n as usize + 1) % count);
            let mut beater = Beater::open_for(&self.at(opens).client(&key), &key, gpu).await;
            let udp = socket(self.at(beats).beat_udp.unwrap()).await;
            beater.send_until_durable(&udp, MINUTES).await;
            beaters.push((key, beater));
        }
        beaters
    }

    /// Waits until the public sees so many rentable GPUs, asked at this server; which.
    pub async fn until_rentable(&self, at: usize, how_many: usize) -> Vec<GpuId> {
        let rentable = |page: &GpuPage| -> Vec<GpuId> {
            page.gpus.iter().filter(|gpu| gpu.rentable).map(|gpu| gpu.id).collect()
        };
        let enough = |page: &GpuPage| rentable(page).len() >= how_many;
        rentable(&self.at(at).until::<GpuPage>("/api/v1/public/gpus?limit=100", enough).await)
    }

    /// Somebody who rents, by a key that any server takes.
    pub async fn renter(&self) -> SigningKey {
        self.renter_and_person().await.0
    }

    /// The same, and their browser.
    pub async fn renter_and_person(&self) -> (SigningKey, Person) {
        let server = self.at(0);
        let person = Person::enter(server, &self.operator.link_for("renter", "Rae").await).await;
        let key = new_key();
        let client = server.client(&key);
        let ticket = call::<Enrol>(&client, &enrolment_of(&key, KeyKind::CommandLine)).await.unwrap();
        person.approve(&ticket.user_code, &key.public().fingerprint()).await;
        let poll = EnrolmentPoll { enrolment: ticket.enrolment, public_key: key.public() };
        assert_eq!(call::<EnrolPoll>(&client, &poll).await.unwrap(), EnrolmentState::Approved);
        (key, person)
    }

    pub fn client(&self, at: usize, key: &SigningKey) -> Client {
        self.at(at).client(key)
    }

    /// What was acknowledged is public at this server, the log and chains hold together, and each period has one
    /// snapshot with one entry of the log.
    pub async fn audit(&self, at: usize, beaters: &[&Beater]) {
        let server = self.at(at);
        for beater in beaters {
            server.until_up(beater.gpu, &beater.minutes()).await;
        }
        // Proofs are not asked after: machines that are made up have none.
        let told = finish(gangline(self.work.path()).args(["verify", "uptime", &server.origin]));
        assert_eq!(told.code, 0, "{}{}", told.out, told.err);
        // An entry may be on its way into the tree.
        crate::live::until("the log holds together", || {
            let told = finish(gangline(self.work.path()).args(["audit", "verify", &server.origin]));
            assert_ne!(told.code, 1, "{}{}", told.out, told.err);
            (told.code == 0).then_some(())
        });
        let mut database = self.database().await;
        for (what, twice) in [
            (
                "a snapshot was taken twice",
                "SELECT count(*) - (SELECT count(*) FROM gangline.snapshot) FROM gangline.log_entry WHERE kind = 'snapshot'",
            ),
            (
                "a GPU was hired twice at once",
                "SELECT count(*) FROM (SELECT gpu FROM gangline.cluster WHERE state IN ('requested', 'starting', 'running', 'releasing') GROUP BY gpu HAVING count(*) > 1) t",
            ),
            ("the log has a gap", "SELECT count(*) - coalesce(max(idx) + 1, 0) FROM gangline.log_entry"),
        ] {
            let count: i64 = sqlx::query_scalar(twice).fetch_one(&mut database).await.unwrap();
            assert_eq!(count, 0, "{what}");
        }
        let unfolded = async |database: &mut PgConnection| -> i64 {
            sqlx::query_scalar("SELECT count(*) FROM gangline.journal").fetch_one(database).await.unwrap()
        };
        // What is written each minute comes and goes; what nobody folds would stay.
        let limit = std::time::Instant::now() + crate::live::LIMIT;
        while unfolded(&mut database).await > 2 {
            assert!(std::time::Instant::now() < limit, "beats stay in the journal");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Whether a cluster in this state has its GPU.
pub fn holds(state: ClusterState) -> bool {
    matches!(
        state,
        ClusterState::Requested | ClusterState::Starting | ClusterState::Running | ClusterState::Releasing
    )
}

/// Ids once each.
pub fn distinct(ids: impl IntoIterator<Item = GpuId>) -> usize {
    ids.into_iter().collect::<std::collections::BTreeSet<_>>().len()
}
