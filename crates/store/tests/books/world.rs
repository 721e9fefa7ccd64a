//! A network in the small, made through the store's own functions alone, so that it is the same in every database.

use std::sync::Arc;

use gangline_guard::{
    Actor, Factors, Freezes, Job, KeyRecord, Permit, RequestParts, act,
    authenticate::{self, session},
    permit::permit,
    policy::on,
};
use gangline_store::{
    DatabaseUrl, Fold, FoldedHour, NewEnrolment, NewLink, NewSession, SequenceError, Store, StoreError,
};
use gangline_types::{
    AccountId, AdapterKind, Backend, EnrolmentId, GpuClaim, GpuId, Hash, Label, LinkId, MachineId, Minute,
    SessionId, Text, UnixSeconds, UptimeHour,
};
use gangline_wire::{
    SigningKey,
    api::{
        account::Role,
        enrol::KeyKind,
        machine::{HostFacts, Inventory},
    },
    sig::{Claimed, Covered, Received, digest, sign},
};
use zeroize::Zeroizing;

use crate::postgres;

/// A whole hour.
pub const NOW: UnixSeconds = UnixSeconds(1_795_003_200);

/// Where a world's books are, and what has to live as long as they do.
/// Until when a key lives whose successor is used at [`NOW`].
pub const OLD_UNTIL: UnixSeconds = UnixSeconds(NOW.0 + 900);

pub enum Home {
    Folder(tempfile::TempDir),
    Database(Keep, DatabaseUrl),
}

/// Holds the server.
pub struct Keep(#[allow(dead_code)] Arc<postgres::Server>);

pub struct World {
    pub store: Store,
    pub home: Home,
    pub made: std::sync::atomic::AtomicU32,
}

/// An account with a browser and a command line.
pub struct Someone {
    pub account: AccountId,
    pub browser: Actor,
}

/// A machine with its key.
pub struct Machine {
    pub machine: MachineId,
    pub account: AccountId,
    pub key: SigningKey,
    pub actor: Actor,
}

pub fn id(kind: u8, n: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0] = kind;
    bytes[12..].copy_from_slice(&n.to_be_bytes());
    bytes
}

pub fn key_of(n: u32) -> SigningKey {
    let mut seed = [7; 32];
    seed[..4].copy_from_slice(&n.to_be_bytes());
    SigningKey::from_seed(&Zeroizing::new(seed))
}

/// The network's own key, and what the roles' passwords come from.
pub fn network() -> ([u8; 32], [u8; 32]) {
    (*key_of(0).public().as_bytes(), [9; 32])
}

impl World {
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        Self { store, home: Home::Folder(folder), made: 1.into() }
    }

    pub async fn postgres() -> Self {
        let server = postgres::shared();
        let url: DatabaseUrl = server.url(&server.database().await).parse().unwrap();
        let store = Self::connect(&url, 1).await.unwrap();
        Self { store, home: Home::Database(Keep(server), url), made: 1.into() }
    }

    pub async fn connect(url: &DatabaseUrl, replica: u8) -> Result<Store, StoreError> {
        let (network, secret) = network();
        Store::connect(url, network, &secret, [replica; 16]).await
    }

    /// The same world as another process would find it, once this one is closed.
    pub async fn reopened(mut self) -> Self {
        self.store.close().await;
        drop(self.store);
        self.store = match &self.home {
            Home::Folder(folder) => Store::open(folder.path()).await.unwrap(),
            Home::Database(_server, url) => Self::connect(url, 2).await.unwrap(),
        };
        self
    }

    pub fn next(&self) -> u32 {
        self.made.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    /// One of our own jobs.
    pub fn job<A: gangline_guard::Act<On = on::Network>>(&self, job: Job, at: UnixSeconds) -> Permit<A> {
        permit::<A>(&Actor::job(job), on::Network, at).unwrap()
    }

    /// Somebody new, who has come in by a link.
    pub async fn someone(&self, role: Role) -> Someone {
        let n = self.next();
        let account = AccountId::from_bytes(id(1, n));
        let secret = Hash([n as u8; 32]);
        let on = on::Invitation { account: None, role, name: Label::lossy(&format!("someone {n}")) };
        let invite = permit::<act::Invite>(&Actor::job(Job::Setup), on, NOW).unwrap();
        let link = NewLink { id: LinkId::from_bytes(id(2, n)), secret, expires_at: NOW.plus(60) };
        self.store.invite(invite, account, link).await.unwrap();
        let use_link = permit::<act::UseLink>(&Actor::nobody(), on::Network, NOW).unwrap();
        let new = NewSession {
            id: SessionId::from_bytes(id(3, n)),
            secret: Hash([n as u8 ^ 0x55; 32]),
            expires_at: NOW.plus(3600 * 24 * 7),
            replaces: None,
        };
        let record = self.store.use_link(use_link, &secret, new).await.unwrap().unwrap();
        Someone { account, browser: session(record, &Freezes::default(), Factors::One) }
    }

    /// Enrols a key of somebody.
    pub async fn key(&self, who: &Someone, kind: KeyKind) -> (SigningKey, MachineId) {
        let n = self.next();
        let key = key_of(n);
        let new = NewEnrolment {
            id: EnrolmentId::from_bytes(id(4, n)),
            public_key: key.public(),
            kind,
            host: Label::lossy("a host"),
            summary: Text::lossy("what it is"),
            code: format!("CODE-{n}"),
            expires_at: NOW.plus(600),
        };
        let (enrolment, code) = (new.id, new.code.clone());
        let asks = asking(&key);
        let ask = permit::<act::RequestEnrolment>(&asks, on::Network, NOW).unwrap();
        self.store.request_enrolment(ask, new).await.unwrap();
        assert!(self.store.enrolment_by_code(&code, NOW).await.unwrap().is_some());
        let decide =
            permit::<act::DecideEnrolment>(&who.browser, on::Enrolment { enrolment, kind }, NOW).unwrap();
        let machine = MachineId::from_bytes(id(5, n));
        self.store.decide_enrolment(decide, true, machine).await.unwrap();
        (key, machine)
    }

    /// A machine of somebody's.
    pub async fn machine(&self, who: &Someone) -> Machine {
        let (key, machine) = self.key(who, KeyKind::Machine).await;
        let actor = self.signed(&key, 1).await.unwrap();
        Machine { machine, account: who.account, key, actor }
    }

    /// The actor of a request with this number, signed by an enrolled key.
    pub async fn signed(&self, key: &SigningKey, sequence: u64) -> Result<Actor, SequenceError> {
        let record = self.store.key(key.public().id()).await?;
        self.store.take_sequence(request(key, sequence, record.as_ref()), OLD_UNTIL).await
    }

    /// Folds a beat of each of these GPUs for a minute, as found at `at`.
    pub async fn beat(&self, gpus: &[GpuId], minute: Minute, at: UnixSeconds) {
        let bits = UptimeHour::default().with(minute.of_hour());
        let hour = |gpu: &GpuId| FoldedHour { gpu: *gpu, hour: minute.hour(), bits, unchained: bits };
        let fold = Fold { hours: gpus.iter().map(hour).collect(), taken_at: at, ..Fold::default() };
        let reconcile = self.job::<act::Reconcile>(Job::Reconciler, at);
        let machines = self.store.fold(&reconcile, &fold).await.unwrap();
        self.store.note_beating(&reconcile, &machines).await.unwrap();
    }

    /// Gives a machine so many GPUs.
    pub async fn gpus(&self, machine: &Machine, how_many: u32) -> Vec<GpuId> {
        let ids: Vec<GpuId> = (0..how_many).map(|_| GpuId::from_bytes(id(6, self.next()))).collect();
        let inventory = inventory(how_many, "A card");
        let permit = machine.permit::<act::DescribeMachine>(NOW);
        let made = self.store.describe(permit, &inventory, &ids).await.unwrap();
        assert_eq!(made.iter().map(|g| g.gpu).collect::<Vec<_>>(), ids);
        ids
    }
}

impl Machine {
    pub fn permit<A: gangline_guard::Act<On = on::Machine>>(&self, at: UnixSeconds) -> Permit<A> {
        permit::<A>(&self.actor, on::Machine { machine: self.machine, account: self.account }, at).unwrap()
    }
}

fn headers(key: &SigningKey, sequence: u64) -> Claimed {
    let covered = Covered {
        method: "POST",
        authority: "test",
        path: "/",
        query: "",
        body_digest: digest(b""),
        sequence,
    };
    let headers = sign(&covered, NOW, key);
    let value = |name: &str| headers.iter().find(|(n, _)| *n == name).unwrap().1.as_str();
    Claimed::parse(Received {
        content_digest: value("content-digest"),
        sequence: value("gangline-sequence"),
        input: value("signature-input"),
        signature: value("signature"),
    })
    .unwrap()
}

const PARTS: RequestParts<'static> = RequestParts { method: "POST", authority: "test", path: "/", query: "" };

fn request(key: &SigningKey, sequence: u64, record: Option<&KeyRecord>) -> gangline_guard::Authenticated {
    authenticate::signed(headers(key, sequence), record, PARTS, NOW, &Freezes::default())
        .unwrap()
        .with_body(b"")
        .unwrap()
}

/// A key that asks for itself.
pub fn asking(key: &SigningKey) -> Actor {
    authenticate::signed_by_new_key(&headers(key, 1), &key.public(), PARTS, b"", NOW, &Freezes::default())
        .unwrap()
}

pub fn inventory(gpus: u32, model: &str) -> Inventory {
    Inventory {
        host: HostFacts {
            name: Label::lossy("host"),
            os: Text::lossy("Linux"),
            kernel: Text::lossy("6"),
            cpu: Text::lossy("a cpu"),
            cores: 2,
            memory_bytes: 1 << 30,
            disks: vec![],
            nvidia_driver: None,
        },
        gpus: (0..gpus)
            .map(|n| GpuClaim {
                slot: Hash([n as u8; 32]),
                model: Text::lossy(model),
                kind: AdapterKind::Discrete,
                backend: Backend::Vulkan,
                driver: Text::lossy("driver"),
                pci_vendor: 1,
                pci_device: 2,
                memory_bytes: 8 << 30,
            })
            .collect(),
        worker_version: Text::lossy("0"),
        isolation: vec![],
    }
}
