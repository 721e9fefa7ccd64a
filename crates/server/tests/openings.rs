//! Epochs that machines open by datagram, at a real server: what a request may not, a datagram may not either, and who has
//! never been let in gets no answer.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod net;

use std::time::{Duration, Instant};

use gangline_types::{AdapterKind, GpuId, UnixSeconds};
use gangline_wire::{
    SigningKey,
    api::{
        enrol::KeyKind,
        machine::{EpochGrant, EpochRequest},
        operate::RefusalView,
    },
    beat::{
        Alias, Chain, ClaimedOpened, Epoch, EpochMaster, NONCE_BYTES, OPENED_BYTES, Opened, Opening,
        OpeningOutcome, Outcome, Under, addresses_check,
    },
};
use net::{Net, beating::Beating, now};
use serde_json::Value;
use tokio::net::UdpSocket;

const PATIENCE: Duration = Duration::from_secs(60);

fn number() -> u64 {
    now().0 * 1_000_000 + net::NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

fn nonce() -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    nonce[..8].copy_from_slice(&number().to_le_bytes());
    nonce
}

fn chain() -> Chain {
    let mut seed = [3; 32];
    seed[..8].copy_from_slice(&number().to_le_bytes());
    Chain::from_seed(seed)
}

/// The lane that vouches.
fn seal(opening: &Opening, by: &EpochGrant) -> Vec<u8> {
    opening.seal(Under { epoch: by.epoch, alias: by.alias, key: &by.beat_key() }, &nonce())
}

/// A machine's side: a socket, and the lane that it had.
struct Asker<'a> {
    net: &'a Net,
    lane: EpochGrant,
    socket: UdpSocket,
}

impl<'a> Asker<'a> {
    async fn under(net: &'a Net, lane: &EpochGrant) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(net.beat_udp).await.unwrap();
        Self { net, lane: lane.clone(), socket }
    }

    fn sign(&self, key: &SigningKey, request: EpochRequest) -> Opening {
        let authority = self.net.address.to_string();
        Opening::sign(request, &authority, number(), now(), key).unwrap()
    }

    /// The next answer, if one comes in this time.
    async fn hear(&self, wait: Duration) -> Option<Opened> {
        let mut bytes = [0; 2000];
        let length = tokio::time::timeout(wait, self.socket.recv(&mut bytes)).await.ok()?.unwrap();
        assert_eq!(length, OPENED_BYTES);
        let answer = ClaimedOpened::read(&bytes[..length]).unwrap();
        Some(answer.unseal(&self.lane.beat_key()).unwrap().unwrap())
    }

    /// Asks anew until there is an answer: a lane vouches for one question a second. What is answered late is an answer too.
    async fn ask(&self, opening: impl Fn() -> Opening) -> OpeningOutcome {
        let until = Instant::now() + PATIENCE;
        let mut asked = vec![];
        while Instant::now() < until {
            let opening = opening();
            let datagram = seal(&opening, &self.lane);
            assert!(datagram.len() > OPENED_BYTES, "an answer is as long as its question");
            asked.push(opening.claimed.sequence);
            self.socket.send(&datagram).await.unwrap();
            while let Some(answer) = self.hear(Duration::from_millis(1200)).await {
                assert!(answer.server_time.0.abs_diff(now().0) < 60);
                if asked.contains(&answer.sequence) {
                    return answer.outcome;
                }
            }
        }
        panic!("no answer by datagram");
    }
}

async fn counter(net: &Net, name: &str) -> u64 {
    let metrics = net.get("/metrics").await.text();
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
}

async fn until_counter(net: &Net, name: &str, least: u64) {
    let until = Instant::now() + PATIENCE;
    while counter(net, name).await < least {
        assert!(Instant::now() < until, "{name} stays below {least}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn refusals(net: &Net, operator: &SigningKey) -> Vec<RefusalView> {
    net.call(operator, "GET", "/api/v1/operate/refusals", &Value::Null).await.json()
}

/// A network, an operator's command line, and a machine that has opened an epoch by HTTP.
async fn network() -> (Net, SigningKey, net::Browser, SigningKey, GpuId, Beating) {
    let net = Net::start().await;
    let operator = net.enrol(&net.operator, KeyKind::CommandLine).await;
    let ada = net.invite("supplier", "Ada").await;
    let (key, gpu) = net.machine(&ada, "llvmpipe", AdapterKind::Software).await;
    let lane = Beating::open(&net, &key, gpu, 10).await;
    (net, operator, ada, key, gpu, lane)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_opens_its_next_epoch_by_datagram_and_beats_under_it() {
    let (net, operator, _, key, gpu, mut before) = network().await;
    let asker = Asker::under(&net, &before.grant).await;
    let (chain, starts) = (chain(), now().minute());
    let request = net::beating::request(&key, &[gpu], &chain, starts);
    let OpeningOutcome::Opened { epoch, alias, key: beat_key, addresses } =
        asker.ask(|| asker.sign(&key, request.clone())).await
    else {
        panic!("it was not opened");
    };
    assert_ne!(alias, before.grant.alias);
    let known = (before.grant.udp.as_ref(), before.grant.http.as_ref().map(|url| url.as_str()));
    assert_eq!(addresses, addresses_check(known.0, known.1));
    let grant =
        EpochGrant { epoch, alias, key: gangline_types::Hash(*beat_key.as_bytes()), ..before.grant.clone() };
    // What HTTP gives for the same chain is the same lane.
    let by_http = net.call(&key, "POST", "/api/v1/machine/beat-epoch", &request).await;
    assert_eq!(EpochGrant { server_time: grant.server_time, ..by_http.json() }, grant);
    let mut after = Beating { grant, chain, count: 0 };
    let beat = after.beat(starts);
    assert_eq!(after.by_udp(net.beat_udp, &beat).await.outcome, Outcome::Durable);
    // The lane before goes on for what waited.
    let beat = before.beat(starts);
    assert_eq!(before.by_udp(net.beat_udp, &beat).await.outcome, Outcome::Durable);

    // A copy that comes later gets no answer, and is no attempt of anybody's.
    let again = Asker::under(&net, &after.grant).await;
    let (answered, request) = (
        counter(&net, "gangline_beat_openings_repeated_total").await,
        net::beating::request(&key, &[gpu], &after.chain, starts),
    );
    let copied = again.sign(&key, request);
    let datagram = seal(&copied, &after.grant);
    let mut heard = 0;
    let until = Instant::now() + PATIENCE;
    while counter(&net, "gangline_beat_openings_repeated_total").await == answered {
        assert!(Instant::now() < until, "the copy never came there");
        again.socket.send(&datagram).await.unwrap();
        heard += usize::from(again.hear(Duration::from_millis(1200)).await.is_some());
    }
    if heard == 0 {
        heard += usize::from(again.hear(PATIENCE).await.is_some());
    }
    heard += usize::from(again.hear(Duration::from_millis(300)).await.is_some());
    assert_eq!(heard, 1, "a copy was answered");
    assert_eq!(refusals(&net, &operator).await.len(), 0);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_may_not_a_datagram_may_not_either() {
    let (net, operator, ada, key, gpu, lane) = network().await;
    let bea = net.invite("supplier", "Bea").await;
    let (_, foreign) = net.machine(&bea, "llvmpipe", AdapterKind::Software).await;
    let renter = net.enrol(&net.invite("renter", "Cyd").await, KeyKind::CommandLine).await;
    let stranger = net::new_key();
    let asker = Asker::under(&net, &lane.grant).await;
    let chain = chain();
    let request = |key: &SigningKey, gpu| net::beating::request(key, &[gpu], &chain, now().minute());
    let good = || asker.sign(&key, request(&key, gpu));
    let at = |authority: &str, created: UnixSeconds| {
        Opening::sign(request(&key, gpu), authority, number(), created, &key).unwrap()
    };
    let address = net.address.to_string();
    let altered = || {
        let mut opening = good();
        opening.request.starts.0 -= 1;
        opening
    };
    let badly_chained = || {
        let mut request = request(&key, gpu);
        request.chains[0].signature =
            gangline_types::Text::new(&request.chains[0].signature.as_str().replace('0', "1")).unwrap();
        asker.sign(&key, request)
    };
    let twice = || {
        let mut request = request(&key, gpu);
        request.chains.push(request.chains[0].clone());
        asker.sign(&key, request)
    };
    let cases: [(&str, &dyn Fn() -> Opening); 9] = [
        ("other_authority", &|| at("example.org", now())),
        ("skewed_clock", &|| at(&address, UnixSeconds(now().0 - 1000))),
        ("bad_signature", &altered),
        ("unknown_key", &|| asker.sign(&stranger, request(&stranger, gpu))),
        ("forbidden", &|| asker.sign(&renter, request(&renter, gpu))),
        ("not_here", &|| asker.sign(&key, request(&key, foreign))),
        ("bad_chain", &badly_chained),
        ("chain_twice", &twice),
        ("bad_start", &|| {
            let mut request = request(&key, gpu);
            request.starts.0 += 100;
            asker.sign(&key, request)
        }),
    ];
    for (code, opening) in cases {
        assert_eq!(asker.ask(opening).await, OpeningOutcome::AskByHttp, "{code}");
        let until = Instant::now() + PATIENCE;
        loop {
            let refused = refusals(&net, &operator).await;
            if let Some(refused) = refused.iter().find(|refused| refused.code == code) {
                assert_eq!(refused.request, "DATAGRAM /api/v1/machine/beat-epoch");
                assert_eq!(refused.address, "127.0.0.1");
                break;
            }
            assert!(Instant::now() < until, "{code} is not written down: {refused:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert!(matches!(asker.ask(good).await, OpeningOutcome::Opened { .. }));
    // From the moment at which its key is revoked on.
    let done = net.form(&ada, &format!("/console/keys/{}/revoke", key.public().id()), &[]).await;
    assert!(done.status < 400, "{}", done.text());
    assert_eq!(asker.ask(good).await, OpeningOutcome::AskByHttp);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_lane_of_this_network_gets_no_answer() {
    let (net, operator, _, key, gpu, lane) = network().await;
    let asker = Asker::under(&net, &lane.grant).await;
    let request = net::beating::request(&key, &[gpu], &chain(), now().minute());
    let opening = asker.sign(&key, request);
    let good = seal(&opening, &lane.grant);
    let elsewhere = EpochMaster::of(&[9; 32], lane.grant.epoch).key(lane.grant.alias);
    let under = |epoch, alias| opening.seal(Under { epoch, alias, key: &lane.grant.beat_key() }, &nonce());
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let hostile = [
        opening.seal(Under { epoch: lane.grant.epoch, alias: lane.grant.alias, key: &elsewhere }, &nonce()),
        under(lane.grant.epoch, Alias(lane.grant.alias.0 ^ 1)),
        under(Epoch(lane.grant.epoch.0 - 1), lane.grant.alias),
        under(Epoch(lane.grant.epoch.0 - 40), lane.grant.alias),
        flipped(2),
        flipped(5),
        flipped(20),
        flipped(60),
        flipped(good.len() - 1),
        good[..good.len() - 1].to_vec(),
        [&good[..], &[0]].concat(),
        vec![0x47; 1500],
    ];
    let before = counter(&net, "gangline_beats_unauthentic_total").await;
    for datagram in &hostile {
        asker.socket.send(datagram).await.unwrap();
    }
    until_counter(&net, "gangline_beats_unauthentic_total", before + hostile.len() as u64).await;
    assert_eq!(asker.hear(Duration::from_millis(500)).await, None);
    assert_eq!(counter(&net, "gangline_beat_openings_total").await, 0);
    assert_eq!(refusals(&net, &operator).await.len(), 0, "what is nobody's is written down");
    // The very same one, whole, is answered.
    asker.socket.send(&good).await.unwrap();
    let answer = asker.hear(PATIENCE).await.expect("an answer");
    assert!(matches!(answer.outcome, OpeningOutcome::Opened { .. }));
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_ask_at_once_each_gets_its_own_answer() {
    let net = Net::start().await;
    let ada = net.invite("supplier", "Ada").await;
    let stranger = net::new_key();
    let (mut machines, starts) = (Vec::new(), now().minute());
    for _ in 0..12 {
        let (key, gpu) = net.machine(&ada, "llvmpipe", AdapterKind::Software).await;
        let lane = Beating::open(&net, &key, gpu, 10).await;
        machines.push((key, gpu, Asker::under(&net, &lane.grant).await, chain()));
    }
    let gpus: Vec<GpuId> = machines.iter().map(|(_, gpu, ..)| *gpu).collect();
    // Every third is refused, each of those at another step, between others that are not.
    let is_refused = |n: usize| n % 3 == 1;
    let openings = machines.iter().enumerate().map(|(n, (key, gpu, asker, chain))| {
        let mut request = net::beating::request(key, &[*gpu], chain, starts);
        match n {
            1 => asker.sign(&stranger, request),
            4 => asker.sign(key, net::beating::request(key, &[gpus[0]], chain, starts)),
            7 => {
                request.chains[0].tip = machines[0].3.tip();
                asker.sign(key, request)
            }
            10 => Opening::sign(request, "example.org", number(), now(), key).unwrap(),
            _ => asker.sign(key, request),
        }
    });
    let datagrams: Vec<_> =
        openings.zip(&machines).map(|(opening, (.., asker, _))| seal(&opening, &asker.lane)).collect();
    for ((.., asker, _), datagram) in machines.iter().zip(&datagrams) {
        asker.socket.send(datagram).await.unwrap();
    }
    for (n, (key, gpu, asker, chain)) in machines.into_iter().enumerate() {
        let answer = asker.hear(PATIENCE).await.unwrap_or_else(|| panic!("machine {n} has no answer"));
        let OpeningOutcome::Opened { epoch, alias, key: beat_key, .. } = answer.outcome else {
            assert!(is_refused(n) && answer.outcome == OpeningOutcome::AskByHttp, "{n}: {answer:?}");
            continue;
        };
        assert!(!is_refused(n), "machine {n} opened an epoch");
        // It is this machine's, for this GPU and this chain, and it beats under it.
        let request = net::beating::request(&key, &[gpu], &chain, starts);
        let by_http: EpochGrant = net.call(&key, "POST", "/api/v1/machine/beat-epoch", &request).await.json();
        assert_eq!((by_http.epoch, by_http.alias), (epoch, alias), "{n}");
        assert_eq!(by_http.beat_key().as_bytes(), beat_key.as_bytes(), "{n}");
        let mut lane = Beating { grant: by_http, chain, count: 0 };
        let beat = lane.beat(starts);
        assert_eq!(lane.by_udp(net.beat_udp, &beat).await.outcome, Outcome::Durable, "{n}");
    }
    net.stop().await;
}
