//! A machine that beats by frames, as a worker does, and lies where a test wants it to.

use std::{net::SocketAddr, time::Duration};

use gangline_types::{GpuId, Minute, Text};
use gangline_wire::{
    SigningKey,
    api::machine::{ChainStart, EpochGrant, EpochRequest},
    beat::{ANSWER_BYTES, Answer, Beat, Chain, ClaimedAnswer, Link, Outcome, WorkerVersion, chain},
};
use tokio::net::UdpSocket;

use super::{Answer as Reply, Net, now};

/// A machine with an open lane.
pub struct Beating {
    pub grant: EpochGrant,
    pub chain: Chain,
    pub count: u16,
}

pub fn request(key: &SigningKey, gpus: &[GpuId], chain: &Chain, starts: Minute) -> EpochRequest {
    let chains = gpus.iter().map(|gpu| {
        let uptime_key = SigningKey::from_seed(&chain::uptime_seed(&key.seed(), *gpu));
        let signature = uptime_key.sign(&chain::signed_bytes(*gpu, starts, chain.tip()));
        let hex: String = signature.iter().map(|b| format!("{b:02x}")).collect();
        ChainStart {
            gpu: *gpu,
            tip: chain.tip(),
            uptime_key: uptime_key.public(),
            signature: Text::new(&hex).unwrap(),
        }
    });
    EpochRequest { starts, chains: chains.collect() }
}

impl Beating {
    /// Opens the epoch for one GPU, from `back` minutes ago on.
    pub async fn open(net: &Net, key: &SigningKey, gpu: GpuId, back: u32) -> Self {
        Self::try_open(net, key, gpu, back).await.unwrap_or_else(|reply| panic!("{}", reply.text()))
    }

    pub async fn try_open(net: &Net, key: &SigningKey, gpu: GpuId, back: u32) -> Result<Self, Reply> {
        let mut seed = [0; 32];
        seed[..8]
            .copy_from_slice(&super::NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_le_bytes());
        let chain = Chain::from_seed(seed);
        let starts = Minute(now().minute().0 - back);
        let body = request(key, &[gpu], &chain, starts);
        let reply = net.call(key, "POST", "/api/v1/machine/beat-epoch", &body).await;
        if reply.status != 200 {
            return Err(reply);
        }
        Ok(Self { grant: reply.json(), chain, count: 0 })
    }

    /// The next beat, for this minute.
    pub fn beat(&mut self, minute: Minute) -> Beat {
        self.count += 1;
        let link = Link { slot: 0, count: self.count, preimage: self.chain.value(self.count) };
        let (epoch, alias) = (self.grant.epoch, self.grant.alias);
        Beat { epoch, alias, minute, worker: WorkerVersion::of("0.1.0"), gpus: 1, link }
    }

    pub fn seal(&self, beat: &Beat) -> Vec<u8> {
        beat.seal(&self.grant.beat_key()).to_vec()
    }

    /// The authentic answers in some bytes.
    pub fn answers(&self, bytes: &[u8]) -> Vec<Answer> {
        let read =
            |bytes| ClaimedAnswer::read(bytes).unwrap().verify(&self.grant.beat_key()).unwrap().unwrap();
        bytes.chunks(ANSWER_BYTES).map(read).collect()
    }

    /// By UDP; sent again while nobody answers.
    pub async fn by_udp(&self, to: SocketAddr, beat: &Beat) -> Answer {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let frame = self.seal(beat);
        for _ in 0..60 {
            socket.send_to(&frame, to).await.unwrap();
            let mut bytes = [0; 100];
            let heard = tokio::time::timeout(Duration::from_secs(1), socket.recv(&mut bytes)).await;
            if let Ok(Ok(length)) = heard {
                let answer = self.answers(&bytes[..length])[0];
                assert!(answer.answers(beat));
                return answer;
            }
        }
        panic!("no answer by UDP");
    }

    /// By HTTP, over the main port or another.
    pub async fn by_http(&self, net: &Net, origin: &str, beats: &[Beat]) -> Vec<Answer> {
        let body: Vec<u8> = beats.iter().flat_map(|beat| self.seal(beat)).collect();
        let response = net.http.post(format!("{origin}/api/v1/beat")).body(body).send().await.unwrap();
        let reply = Reply::of(response).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        self.answers(&reply.body)
    }

    pub async fn outcome(&self, net: &Net, beat: &Beat) -> Outcome {
        self.by_http(net, &net.origin, &[*beat]).await[0].outcome
    }
}
