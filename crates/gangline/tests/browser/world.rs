//! A network in which everything that pages show is there: proven, suspect and unproven GPUs, snapshots,
//! a released cluster with its receipt, and somebody who was refused.

use base64::{Engine, engine::general_purpose::STANDARD};
use gangline_server::Config;
use gangline_types::{AdapterKind, ClusterId, GpuId, Hash, MicroCredits, Seconds, Standing, Text, public::*};
use gangline_wire::{
    SigningKey,
    api::{cluster::*, enrol::*, machine::*, public::SnapshotList},
};

use crate::net::{Browser, Net, inventory, new_key, quick_config};

/// What a driver that computes on the processor calls itself.
pub const SOFTWARE: &str = "llvmpipe (LLVM 15.0.6, 256 bits)";

pub struct World {
    pub net: Net,
    pub proven: GpuId,
    pub suspect: GpuId,
    /// A period whose snapshot shared something.
    pub period: u32,
    machines: Vec<(SigningKey, Vec<GpuId>)>,
    /// How many of the machines beat: one at first, and all but the last once there is a snapshot.
    awake: usize,
}

/// A machine with a GPU for each model, registered but not proven.
pub async fn machine(
    net: &Net,
    supplier: &Browser,
    models: &[(&str, AdapterKind)],
) -> (SigningKey, Vec<GpuId>) {
    let key = net.enrol(supplier, KeyKind::Machine).await;
    let mut whole = inventory(models[0].0, models[0].1);
    for (slot, (model, kind)) in models.iter().enumerate().skip(1) {
        let mut claim = inventory(model, *kind).gpus.remove(0);
        claim.slot = Hash([slot as u8 + 10; 32]);
        whole.gpus.push(claim);
    }
    let registered: Registered = net.call(&key, "PUT", "/api/v1/machine/inventory", &whole).await.json();
    (key, registered.gpus.iter().map(|g| g.gpu).collect())
}

/// A key that asks for approval.
pub async fn asks(net: &Net, kind: KeyKind) -> (SigningKey, EnrolmentTicket) {
    let key = new_key();
    let request = EnrolmentRequest {
        public_key: key.public(),
        kind,
        host: gangline_types::Label::new("attic").unwrap(),
        summary: Text::new("Debian 12, 2 cores, 4 GiB, 2 software devices").unwrap(),
    };
    let ticket = net.call(&key, "POST", "/api/v1/enrolments", &request).await.json();
    (key, ticket)
}

/// A new one-time link, as the operator's form gives it.
pub async fn link(net: &Net, fields: &[(&str, &str)]) -> String {
    let page = net.form(&net.operator, "/console/invite", fields).await.text();
    let at = page.find("/enter/").unwrap_or_else(|| panic!("no link in {page}"));
    format!("{}{}", net.origin, &page[at..at + "/enter/".len() + 64])
}

/// A further link to the account of this name.
pub async fn link_to(net: &Net, name: &str) -> String {
    let console = net.page(&net.operator, "/console").await.text();
    let named = format!("<bdi>{name}</bdi>");
    let row = console.split("<tr>").find(|row| row.contains(&named) && row.contains("name=\"account\""));
    link(net, &[("account", &crate::net::hidden(row.expect("a row of the account"), "account"))]).await
}

impl World {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let banner = "Software devices stand in for GPUs, and a snapshot is taken every minute.";
        let config = Config { banner: Some(banner.into()), ..quick_config(folder.path()) };
        let net = Net::start_in(folder, config).await;

        let ada = net.invite("supplier", "Ada").await;
        let two = [(SOFTWARE, AdapterKind::Software), (SOFTWARE, AdapterKind::Software)];
        let (honest, gpus) = machine(&net, &ada, &two).await;
        let mallory = net.invite("supplier", "Mallory").await;
        let claimed = [("NVIDIA GeForce GTX 1660", AdapterKind::Discrete)];
        let (liar, fakes) = machine(&net, &mallory, &claimed).await;
        let (late, lates) = machine(&net, &ada, &[(SOFTWARE, AdapterKind::Software)]).await;
        let (proven, suspect) = (gpus[0], fakes[0]);
        let world = Self {
            net,
            proven,
            suspect,
            period: 0,
            awake: 1,
            machines: vec![(honest, gpus), (liar, fakes), (late, lates)],
        };
        world.beat().await;
        world.fill().await
    }

    /// Proofs, a hire while they go on, a refusal, and the snapshot of a minute with something to share.
    async fn fill(mut self) -> Self {
        let (net, honest, liar) = (&self.net, &self.machines[0], &self.machines[1]);
        let prove = async |key, gpu| while net.prove_once(key, gpu).await.again {};
        prove(&honest.0, self.proven).await;
        let bob = net.invite("renter", "Bob").await;
        let hired = Hired::of(net, &honest.0, self.proven, net.enrol(&bob, KeyKind::CommandLine).await).await;
        self.beat().await;
        prove(&honest.0, honest.1[1]).await;
        self.beat().await;
        prove(&liar.0, self.suspect).await;
        hired.release(net, &honest.0).await;

        let label = |name| LabelWrite { label: gangline_types::Label::new(name).unwrap() };
        for (gpu, name) in [(honest.1[0], "attic-0"), (honest.1[1], "attic-1")] {
            let path = format!("/api/v1/gpus/{gpu}/label");
            net.call(&honest.0, "PUT", &path, &label(name)).await.json::<serde_json::Value>();
        }
        let path = format!("/api/v1/gpus/{}/label", self.proven);
        let refused = net.call(&liar.0, "PUT", &path, &label("mine now")).await;
        assert_eq!(refused.status, 404, "{}", refused.text());

        for (gpu, standing) in [(self.proven, Standing::Proven), (self.suspect, Standing::Suspect)] {
            net.until(&format!("/api/v1/public/gpus/{gpu}"), |g: &PublicGpu| g.standing == standing).await;
        }
        let shared = |list: &SnapshotList| list.snapshots.iter().any(|s| s.gpus > 0 && s.shared.0 > 0);
        loop {
            self.beat().await;
            let list: SnapshotList = net.json("/api/v1/public/snapshots").await;
            if shared(&list) {
                self.period = list.snapshots.iter().find(|s| s.shared.0 > 0).unwrap().period;
                self.awake = self.machines.len() - 1;
                break;
            }
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        }
        self
    }

    /// A sign of life of every machine that is awake.
    pub async fn beat(&self) {
        for (key, gpus) in &self.machines[..self.awake] {
            let beats = vec![MinuteBeat { minute: crate::net::now().minute(), gpus: gpus.clone() }];
            let report = BeatReport { beats, worker_version: Text::new("test").unwrap() };
            self.net.call(key, "POST", "/api/v1/machine/beats", &report).await.json::<BeatReceipt>();
        }
    }
}

/// A cluster that runs, and who hired it.
struct Hired {
    offer: Offer,
    cluster: ClusterId,
    renter: SigningKey,
}

impl Hired {
    async fn of(net: &Net, machine: &SigningKey, gpu: GpuId, renter: SigningKey) -> Self {
        let price_per_hour = MicroCredits(3_600_000);
        let offer = Offer { gpu, price_per_hour, hours_max: 2, memory_bytes: 1 << 30, cpus_millis: 1000 };
        let mut hired = Self { offer, cluster: ClusterId::from_bytes([0; 16]), renter };
        hired.sync(net, machine, None).await;
        hired.cluster = net.hire(&hired.renter, gpu).await.id;
        hired.sync(net, machine, Some((Observed::Running, None))).await;
        hired
    }

    /// One report of the machine: how the cluster is, and its signature under the receipt.
    async fn sync(
        &self,
        net: &Net,
        machine: &SigningKey,
        seen: Option<(Observed, Option<String>)>,
    ) -> SyncOrders {
        let seen = seen.map(|(state, signature)| ObservedCluster {
            cluster: self.cluster,
            state,
            detail: Text::default(),
            evidence: None,
            receipt_signature: signature.map(|s| Text::new(&s).unwrap()),
        });
        let (offers, clusters) = (vec![self.offer.clone()], seen.into_iter().collect());
        let report = SyncReport { paused: false, offers, clusters, wait: Seconds(0) };
        net.call(machine, "POST", "/api/v1/machine/sync", &report).await.json()
    }

    /// Released by its renter, gone, and its receipt signed by both sides.
    async fn release(self, net: &Net, machine: &SigningKey) {
        let path = format!("/api/v1/clusters/{}", self.cluster);
        net.call(&self.renter, "DELETE", &path, &()).await.json::<ClusterView>();
        let orders = self.sync(net, machine, Some((Observed::Gone, None))).await;
        let Want::Sign(receipt) = &orders.clusters[0].want else { panic!("{orders:?}") };
        let signature = STANDARD.encode(machine.sign(&receipt.signing_bytes()));
        self.sync(net, machine, Some((Observed::Gone, Some(signature)))).await;
        let closed: ClusterView = net.call(&self.renter, "GET", &path, &()).await.json();
        let signed = closed.receipt.expect("a released cluster has a receipt");
        assert!(signed.machine_signature.is_some(), "the machine has not signed the receipt");
    }
}
