//! A device that takes a fixed time for each proof and is shared by those that use it at once, machines that answer with it, and networks whose
//! hours pass in seconds.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use gangline_proof::epoch::{Challenge, Commitment, CpuProver, GpuKey, Opening, Prover};
use gangline_rules::calibration::{Entry, Key, Table};
use gangline_server::{Config, config::Pace};
use gangline_types::{AdapterKind, Backend, GpuId, Hash, ProofId, Text, UnixMillis};
use gangline_wire::{
    SigningKey,
    api::{enrol::KeyKind, epoch::*, machine::*},
};
use tokio::sync::Mutex;

use crate::net::{self, Answer, Net};

pub const MODEL: &str = "llvmpipe (LLVM 15.0.6, 256 bits)";
pub const BEGIN: &str = "/api/v1/machine/epochs";
/// What the calibrated device needs for one proof, in milliseconds. Seconds, so that a machine that is busy with other
/// things for one of them makes nobody late who is not to be.
pub const MEDIAN_MILLIS: u64 = 5_000;
/// What a calibrated median allows.
pub const DEADLINE_MILLIS: u64 = MEDIAN_MILLIS * 1_150 / 1_000 + 500;

/// A network whose hours pass quickly, and who operates it.
pub struct Quick {
    pub net: Net,
    pub operator: SigningKey,
    since: u64,
    hour_millis: u64,
}

impl Quick {
    pub async fn start(hour_millis: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let since = UnixMillis(net::now().0 * 1000);
        let config = Config {
            bell_pace: Pace::Quick { since, hour_millis },
            alone_delay_seconds: 1,
            ..net::quick_config(folder.path())
        };
        Self::of(Net::start_in(folder, config).await).await
    }

    /// Of a network that has started.
    pub async fn of(net: Net) -> Self {
        let operator = net.enrol(&net.operator, KeyKind::CommandLine).await;
        let Pace::Quick { since, hour_millis } = net.config.bell_pace else { panic!("its hours are long") };
        Self { net, operator, since: since.0, hour_millis }
    }

    /// A machine of somebody new whose GPUs are proven.
    pub async fn machine(&self, name: &str, gpus: u8) -> Machine<'_> {
        let supplier = self.net.invite("supplier", name).await;
        let key = self.net.enrol(&supplier, KeyKind::Machine).await;
        let mut inventory = net::inventory(MODEL, AdapterKind::Software);
        let claim = inventory.gpus[0].clone();
        inventory.gpus = (0..gpus)
            .map(|n| gangline_types::GpuClaim { slot: Hash([n + 1; 32]), ..claim.clone() })
            .collect();
        let registered: Registered =
            self.net.call(&key, "PUT", "/api/v1/machine/inventory", &inventory).await.json();
        let gpus: Vec<GpuId> = registered.gpus.iter().map(|gpu| gpu.gpu).collect();
        for gpu in &gpus {
            for _ in 0..3 {
                assert!(self.net.prove_once(&key, *gpu).await.accepted);
            }
        }
        Machine { net: &self.net, quick: self, key, gpus, heard: AtomicU64::new(u64::MAX) }
    }

    /// Has the operator sign a table with this median for this model's work; it is a canary.
    pub async fn submit(&self, version: u32, model: &str, median_millis: u64) -> Answer {
        let entry = Entry { key: key_of(model), accounts: 5, median_millis };
        let table = Table { version, entries: vec![entry.clone()] };
        let wire = CalibrationTable {
            version,
            entries: vec![CalibrationEntry {
                model: entry.key.model,
                backend: entry.key.backend,
                build: entry.key.build,
                work: entry.key.work,
                accounts: entry.accounts,
                median_millis,
            }],
        };
        let hex: String = self.operator.sign(&table.digest().0).iter().map(|b| format!("{b:02x}")).collect();
        let body = CalibrationSubmit {
            table: wire,
            signer: Hash(*self.operator.public().as_bytes()),
            signature: Text::new(&hex).unwrap(),
        };
        self.net.call(&self.operator, "POST", "/api/v1/operate/calibrations", &body).await
    }

    pub async fn promote(&self, version: u32) -> Answer {
        let path = format!("/api/v1/operate/calibrations/{version}");
        let promote = CalibrationMove { promote: true };
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut answer = self.net.confirmed(&self.operator, "POST", &path, &promote).await;
        // The only operator waits a moment after approving.
        while answer.status == 403 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(100)).await;
            answer = self.net.call(&self.operator, "POST", &path, &promote).await;
        }
        answer
    }

    /// A promoted table with [`MEDIAN_MILLIS`], watched by a machine of twelve honest GPUs until it was fair sixty times.
    pub async fn calibrated(&self) {
        let honest = self.machine("Honest", 12).await;
        self.submit(1, MODEL, MEDIAN_MILLIS).await;
        self.watch(&honest).await;
        let promoted = self.promote(1).await;
        assert_eq!(promoted.status, 200, "{}", promoted.text());
    }

    /// Sixty proofs of a machine with twelve GPUs, at once after each bell.
    pub async fn watch(&self, honest: &Machine<'_>) {
        assert_eq!(honest.gpus.len(), 12);
        for _ in 0..5 {
            let verdicts = honest.answer_at_once().await;
            assert!(verdicts.iter().all(|verdict| verdict.accepted), "{verdicts:?}");
        }
    }
}

/// What medians of this model's software device are of.
pub fn key_of(model: &str) -> Key {
    Key {
        model: Text::new(model).unwrap(),
        backend: Backend::Vulkan,
        build: Text::new("a driver").unwrap(),
        work: net::small_epoch().work(),
    }
}

/// A device that makes real proofs, each in so many milliseconds of its time. Several at once share it, as programs share a
/// GPU: a slice of time for each in turn.
#[derive(Clone)]
pub struct Device {
    busy: Arc<Mutex<()>>,
    millis: u64,
}

impl Device {
    pub fn new(millis: u64) -> Self {
        Self { busy: Arc::default(), millis }
    }

    pub async fn prove(&self, challenge: &Challenge) -> (CpuProver, Commitment) {
        // Many: of several who begin together, the first is done by a slice for each of the others sooner.
        const SLICES: u64 = 40;
        let proved = prove(challenge);
        for _ in 0..SLICES {
            // Whoever waits longest is next.
            let _slice = self.busy.lock().await;
            tokio::time::sleep(Duration::from_millis(self.millis / SLICES)).await;
        }
        proved
    }
}

pub fn prove(challenge: &Challenge) -> (CpuProver, Commitment) {
    let mut prover = CpuProver::new();
    let commitment = prover.commit(challenge, &mut |_| ControlFlow::Continue(())).unwrap();
    (prover, commitment)
}

/// A machine and its key.
pub struct Machine<'a> {
    pub net: &'a Net,
    quick: &'a Quick,
    /// The last hour whose bell it waited for.
    heard: AtomicU64,
    pub key: SigningKey,
    pub gpus: Vec<GpuId>,
}

/// Roots that are in, and the nonce.
pub struct Committed {
    pub proof: ProofId,
    pub gpu_key: GpuKey,
    pub challenge: Challenge,
    pub commitment: Commitment,
    pub receipt: EpochReceipt,
}

impl Machine<'_> {
    pub fn gpu_key(&self, gpu: GpuId) -> GpuKey {
        GpuKey::derive(&self.key.seed(), gpu)
    }

    /// Waits for the beginning of an hour that passes quickly, before its bell.
    async fn next_hour(&self) {
        let Quick { since, hour_millis, .. } = *self.quick;
        loop {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            let into = now.as_millis() as u64 - since;
            let hour = into / hour_millis;
            let is_new = self.heard.load(Ordering::Relaxed) != hour && into % hour_millis < 500;
            if is_new || hour_millis >= 3_600_000 {
                self.heard.store(hour, Ordering::Relaxed);
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks for the next bell's challenges for these GPUs.
    pub async fn begin(&self, gpus: &[GpuId]) -> Vec<EpochChallenge> {
        self.next_hour().await;
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let bell = |gpu: &GpuId| BellGpu { gpu: *gpu, key: self.gpu_key(*gpu).public() };
            let asked = BellRequest { gpus: gpus.iter().map(bell).collect(), unable: vec![] };
            let answer = self.net.call(&self.key, "POST", BEGIN, &asked).await;
            if answer.status == 200 {
                return answer.json::<EpochChallenges>().challenges;
            }
            assert_eq!(answer.error().code, "not_wanted", "{}", answer.text());
            assert!(Instant::now() < deadline, "no bell rang: {}", answer.text());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn commit(&self, asked: &EpochChallenge, commitment: &Commitment) -> Answer {
        let roots = EpochCommit { commitment: commitment.clone() };
        self.net.call(&self.key, "POST", &format!("{BEGIN}/{}/commit", asked.proof), &roots).await
    }

    pub async fn committed(&self, asked: &EpochChallenge, commitment: Commitment) -> Committed {
        let receipt: EpochReceipt = self.commit(asked, &commitment).await.json();
        let gpu_key = self.gpu_key(asked.gpu);
        Committed { proof: asked.proof, gpu_key, challenge: asked.challenge, commitment, receipt }
    }

    /// Opens what was committed to, signed by the GPU's key.
    pub async fn open(&self, of: &Committed, opening: Opening) -> Answer {
        let signature = of.gpu_key.sign(&of.challenge, &of.commitment, &of.receipt.nonce, &opening);
        let with = EpochOpen { opening, signature };
        self.net.call(&self.key, "POST", &format!("{BEGIN}/{}/open", of.proof), &with).await
    }

    /// Answers one challenge with this device, relayed as it is.
    pub async fn answer(&self, asked: &EpochChallenge, device: &Device) -> (EpochVerdict, u64) {
        let (mut prover, commitment) = device.prove(&asked.challenge).await;
        let of = self.committed(asked, commitment).await;
        let opening = prover.open(&of.receipt.nonce).unwrap();
        (self.open(&of, opening).await.json(), of.receipt.elapsed_millis)
    }

    /// Answers the next bell with all GPUs, each on a device of its own that is as fast as the processor.
    pub async fn answer_at_once(&self) -> Vec<EpochVerdict> {
        let mut committed = vec![];
        for asked in self.begin(&self.gpus).await {
            let (prover, commitment) = prove(&asked.challenge);
            committed.push((prover, self.committed(&asked, commitment).await));
        }
        let mut verdicts = vec![];
        for (mut prover, of) in committed {
            let opening = prover.open(&of.receipt.nonce).unwrap();
            verdicts.push(self.open(&of, opening).await.json());
        }
        verdicts
    }
}
