//! A machine that beats by datagrams and keeps an account of what was acknowledged.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use gangline_types::{GpuId, Minute, Text};
use gangline_wire::{
    SigningKey,
    api::machine::{ChainStart, EpochGrant, EpochRequest},
    beat::{ANSWER_BYTES, Answer, Beat, Chain, ClaimedAnswer, Link, Outcome, WorkerVersion, chain},
    endpoints::BeatEpoch,
};
use gangline_worker::client::Client;
use tokio::net::UdpSocket;

use super::{
    LIMIT,
    network::{Machine, call, this_minute},
};

/// Minutes that a machine here can still beat for.
pub const MINUTES: u32 = 330;

/// A machine that beats by datagrams and keeps an account of what was acknowledged.
pub struct Beater {
    pub gpu: GpuId,
    pub grant: EpochGrant,
    pub chain: Chain,
    pub starts: Minute,
    /// The place in the chain that each minute's beat shows.
    pub shown: BTreeMap<u32, u16>,
    pub sent: BTreeSet<u32>,
    pub acknowledged: BTreeSet<u32>,
}

impl Beater {
    /// Opens an epoch for a machine.
    pub async fn open(machine: &Machine) -> Self {
        Self::open_for(&machine.client, &machine.key, machine.gpu).await
    }

    /// Opens an epoch for a machine that is this key and has this GPU.
    pub async fn open_for(client: &Client, key: &SigningKey, gpu: GpuId) -> Self {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let chain = Chain::from_seed(seed);
        let starts = Minute(this_minute().0 - MINUTES);
        let uptime_key = SigningKey::from_seed(&chain::uptime_seed(&key.seed(), gpu));
        let signature = uptime_key.sign(&chain::signed_bytes(gpu, starts, chain.tip()));
        let hex: String = signature.iter().map(|b| format!("{b:02x}")).collect();
        let start = ChainStart {
            gpu,
            tip: chain.tip(),
            uptime_key: uptime_key.public(),
            signature: Text::new(&hex).unwrap(),
        };
        let request = EpochRequest { starts, chains: vec![start] };
        let grant = call::<BeatEpoch>(client, &request).await.unwrap();
        let (shown, sent, acknowledged) = Default::default();
        Self { gpu, grant, chain, starts, shown, sent, acknowledged }
    }

    /// The frame of the n-th minute since the start. Each minute shows the next value of the chain, and the same one
    /// each time.
    pub fn beat(&mut self, n: u32) -> Beat {
        let next = self.shown.len() as u16 + 1;
        let count = *self.shown.entry(n).or_insert(next);
        let link = Link { slot: 0, count, preimage: self.chain.value(count) };
        let (epoch, alias) = (self.grant.epoch, self.grant.alias);
        let minute = Minute(self.starts.0 + n);
        Beat { epoch, alias, minute, worker: WorkerVersion::of("0.1.0"), gpus: 1, link }
    }

    /// The answer in what a socket heard; none where it is a late one to another machine that spoke through the same socket.
    pub fn heard(&self, bytes: &[u8]) -> Option<Answer> {
        assert_eq!(bytes.len(), ANSWER_BYTES);
        let claimed = ClaimedAnswer::read(bytes).unwrap();
        let is_ours = claimed.alias() == self.grant.alias;
        is_ours.then(|| claimed.verify(&self.grant.beat_key()).unwrap().unwrap())
    }

    /// An answer that can be to nobody else.
    pub fn read(&self, bytes: &[u8]) -> Answer {
        self.heard(bytes).expect("an answer to this machine")
    }

    /// Sends one beat until it is answered; what the answer was.
    pub async fn send(&mut self, socket: &UdpSocket, n: u32) -> Outcome {
        let beat = self.beat(n);
        self.sent.insert(beat.minute.0);
        let limit = Instant::now() + LIMIT;
        loop {
            assert!(Instant::now() < limit, "no answer to a beat");
            let _ = socket.send(&beat.seal(&self.grant.beat_key())).await;
            let mut bytes = [0; 100];
            let heard = tokio::time::timeout(Duration::from_millis(500), socket.recv(&mut bytes)).await;
            let Ok(Ok(length)) = heard else { continue };
            let Some(answer) = self.heard(&bytes[..length]) else { continue };
            if !answer.answers(&beat) {
                continue;
            }
            if answer.outcome == Outcome::Durable {
                self.acknowledged.insert(beat.minute.0);
            }
            return answer.outcome;
        }
    }

    /// Sends one beat until it is durable, however often it is put off or its lane is not known there yet.
    pub async fn send_until_durable(&mut self, socket: &UdpSocket, n: u32) {
        let limit = Instant::now() + LIMIT;
        while self.send(socket, n).await != Outcome::Durable {
            assert!(Instant::now() < limit, "beat {n} is never durable");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Sends one beat once; what is told about it within so long.
    pub async fn ask(&mut self, socket: &UdpSocket, n: u32, within: Duration) -> Option<Outcome> {
        let beat = self.beat(n);
        self.sent.insert(beat.minute.0);
        let _ = socket.send(&beat.seal(&self.grant.beat_key())).await;
        let until = tokio::time::Instant::now() + within;
        let mut bytes = [0; 100];
        while let Ok(Ok(length)) = tokio::time::timeout_at(until, socket.recv(&mut bytes)).await {
            let Some(answer) = self.heard(&bytes[..length]) else { continue };
            if answer.outcome == Outcome::Durable {
                self.acknowledged.insert(answer.minute.0);
            }
            if answer.answers(&beat) {
                return Some(answer.outcome);
            }
        }
        None
    }

    /// What was answered, until nothing comes for so long.
    pub async fn hear(&mut self, socket: &UdpSocket, quiet: Duration) -> Vec<Outcome> {
        let (mut told, mut bytes) = (Vec::new(), [0; 100]);
        while let Ok(Ok(length)) = tokio::time::timeout(quiet, socket.recv(&mut bytes)).await {
            let Some(answer) = self.heard(&bytes[..length]) else { continue };
            if answer.outcome == Outcome::Durable {
                self.acknowledged.insert(answer.minute.0);
            }
            told.push(answer.outcome);
        }
        told
    }

    /// Sends all of these until each is acknowledged, all at once and again after two seconds.
    pub async fn all(&mut self, socket: &UdpSocket, beats: std::ops::Range<u32>) {
        let limit = Instant::now() + LIMIT;
        loop {
            let left: Vec<u32> =
                beats.clone().filter(|n| !self.acknowledged.contains(&(self.starts.0 + n))).collect();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < limit, "{} beats are not acknowledged", left.len());
            for n in &left {
                let beat = self.beat(*n);
                self.sent.insert(beat.minute.0);
                let _ = socket.send(&beat.seal(&self.grant.beat_key())).await;
            }
            let again = tokio::time::Instant::now() + Duration::from_secs(2);
            let mut bytes = [0; 100];
            while let Ok(Ok(length)) = tokio::time::timeout_at(again, socket.recv(&mut bytes)).await {
                let Some(answer) = self.heard(&bytes[..length]) else { continue };
                if answer.outcome == Outcome::Durable {
                    self.acknowledged.insert(answer.minute.0);
                }
                if left.iter().all(|n| self.acknowledged.contains(&(self.starts.0 + n))) {
                    break;
                }
            }
        }
    }

    /// Keeps `window` frames on their way from the n-th minute on until told to stop.
    pub async fn load(&mut self, to: SocketAddr, from: u32, until: u32, stop: Arc<Mutex<bool>>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(to).await.unwrap();
        let mut n = from;
        while !*stop.lock().unwrap() {
            for at in n..(n + 16).min(until) {
                let beat = self.beat(at);
                self.sent.insert(beat.minute.0);
                let _ = socket.send(&beat.seal(&self.grant.beat_key())).await;
            }
            let mut bytes = [0; 100];
            while let Ok(Ok(length)) =
                tokio::time::timeout(Duration::from_millis(20), socket.recv(&mut bytes)).await
            {
                let Some(answer) = self.heard(&bytes[..length]) else { continue };
                if answer.outcome == Outcome::Durable {
                    self.acknowledged.insert(answer.minute.0);
                }
            }
            while n < until && self.acknowledged.contains(&(self.starts.0 + n)) {
                n += 1;
            }
            if n >= until {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// The minutes that were acknowledged.
    pub fn minutes(&self) -> Vec<Minute> {
        self.acknowledged.iter().copied().map(Minute).collect()
    }
}

/// A socket that speaks to one place.
pub async fn socket(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(to).await.unwrap();
    socket
}
