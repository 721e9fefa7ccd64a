//! Beats as a machine sends them, by each of their ways, to a real server: what is acknowledged is there, once,
//! and nothing that befalls the rest of the server holds one up.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod net;

use std::{net::SocketAddr, time::Duration};

use gangline_server::Config;
use gangline_types::{AdapterKind, GpuId, Minute, public::PublicChain};
use gangline_wire::{
    PublicKey,
    api::public::UptimePage,
    beat::{Beat, Outcome, Preimage, chain},
};
use net::{Net, beating::Beating, now, quick_config};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

/// A network whose snapshots leave minutes alone for a while, with an intake of its own.
async fn network() -> Net {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        period_minutes: 60,
        snapshot_grace_seconds: 3600,
        beat_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        ..quick_config(folder.path())
    };
    Net::start_in(folder, config).await
}

async fn minutes(net: &Net, gpu: GpuId) -> Vec<Minute> {
    let answer = net.get(&format!("/api/v1/public/gpus/{gpu}/uptime")).await;
    if answer.status == 404 {
        // It is registered and not public yet.
        return Vec::new();
    }
    let page: UptimePage = answer.json();
    let minute =
        |hour: &gangline_types::public::PublicUptime, m: u8| Minute(hour.hour.start().0 + u32::from(m));
    page.hours
        .iter()
        .flat_map(|hour| (0..60).filter(|m| hour.bits.has(*m)).map(move |m| minute(hour, m)))
        .collect()
}

async fn until_minutes(net: &Net, gpu: GpuId, expected: &[Minute]) {
    for _ in 0..600 {
        if minutes(net, gpu).await == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("expected {expected:?}, found {:?}", minutes(net, gpu).await);
}

/// A proven supplier's machine with one GPU.
async fn machine(net: &Net) -> (gangline_wire::SigningKey, GpuId) {
    net.machine(&net.invite("supplier", "Ada").await, "llvmpipe", AdapterKind::Software).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beat_counts_once_whichever_way_it_comes() {
    let net = network().await;
    let (key, gpu) = machine(&net).await;
    let mut m = Beating::open(&net, &key, gpu, 10).await;
    assert_eq!(m.grant.udp.as_ref().unwrap().port, net.beat_udp.port());
    let own = format!("http://{}", net.beat_http.unwrap());
    assert_eq!(m.grant.http.as_ref().unwrap().as_str(), own);
    let newest = now().minute();
    let at = |back: u32| Minute(newest.0 - back);
    let beats: Vec<Beat> = (0..6).rev().map(|back| m.beat(at(back))).collect();

    assert_eq!(m.by_udp(net.beat_udp, &beats[0]).await.outcome, Outcome::Durable);
    for origin in [&own, &net.origin] {
        let answers = m.by_http(&net, origin, &beats[1..4]).await;
        let told: Vec<_> = answers.iter().map(|a| (a.minute, a.outcome)).collect();
        assert_eq!(told, [4, 3, 2].map(|back| (at(back), Outcome::Durable)));
    }
    // Twice by each way, and the older ones after the newer.
    for beat in beats.iter().rev().chain(&beats) {
        assert_eq!(m.by_udp(net.beat_udp, beat).await.outcome, Outcome::Durable);
        assert_eq!(m.outcome(&net, beat).await, Outcome::Durable);
    }
    // The form before frames, for a minute that was beaten and for one that was not.
    net.beat(&key, gpu).await;
    let expected: Vec<Minute> = beats.iter().map(|b| b.minute).collect();
    let after_report = minutes(&net, gpu).await.len();
    assert!(after_report <= expected.len() + 1);
    let late = m.beat(Minute(newest.0 - 400));
    assert_eq!(m.outcome(&net, &late).await, Outcome::TooLate);
    let early = m.beat(Minute(newest.0 + 5));
    assert_eq!(m.outcome(&net, &early).await, Outcome::TooEarly);

    // A chain that anybody can follow to its tip, and that shows as many beats as were made.
    let path = format!("/api/v1/public/gpus/{gpu}/chains");
    let chains: Vec<PublicChain> = net
        .until(&path, |chains: &Vec<PublicChain>| {
            chains.first().and_then(|c| c.links.last()).is_some_and(|l| l.count >= 6)
        })
        .await;
    let shown = &chains[0];
    let value = |text: &str| serde_json::from_value::<Preimage>(text.into()).unwrap();
    let tip = value(&shown.tip);
    for link in &shown.links {
        assert_eq!(value(&link.preimage).back(link.count), tip);
    }
    let signature: Vec<u8> =
        (0..64).map(|i| u8::from_str_radix(&shown.signature[2 * i..2 * i + 2], 16).unwrap()).collect();
    let uptime_key = PublicKey::from_bytes(&shown.public_key.0).unwrap();
    assert!(uptime_key.verifies(&chain::signed_bytes(gpu, shown.starts, tip), &signature));
    assert_ne!(uptime_key, key.public(), "the machine's own key is published");
    let mut seen = minutes(&net, gpu).await;
    seen.retain(|m| *m <= newest);
    assert_eq!(seen, expected);

    // After an orderly end the journal is folded and all is there.
    let config = net.config.clone();
    let folder = net.stop().await;
    let net = Net::start_in(folder, config).await;
    let mut again = minutes(&net, gpu).await;
    again.retain(|m| *m <= newest);
    assert_eq!(again, expected);
    // The lane goes on.
    let next = m.beat(at(7));
    assert_eq!(m.by_udp(net.beat_udp, &next).await.outcome, Outcome::Durable);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_is_not_authentic_gets_nothing_and_does_nothing() {
    let net = network().await;
    let (key, gpu) = machine(&net).await;
    let mut m = Beating::open(&net, &key, gpu, 10).await;
    let beat = m.beat(now().minute());
    let good = m.seal(&beat);
    let mut hostile: Vec<Vec<u8>> =
        vec![vec![], vec![0; 64], good[..63].to_vec(), [&good[..], &[0]].concat()];
    for at in 0..64 {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        hostile.push(bad);
    }
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for bytes in &hostile {
        socket.send_to(bytes, net.beat_udp).await.unwrap();
        for origin in [net.origin.clone(), format!("http://{}", net.beat_http.unwrap())] {
            let response =
                net.http.post(format!("{origin}/api/v1/beat")).body(bytes.clone()).send().await.unwrap();
            assert!([401, 411, 413].contains(&response.status().as_u16()), "{}", response.status());
            assert!(response.bytes().await.unwrap().is_empty(), "a stranger was told something");
        }
    }
    // The first answer there is, is the one to the good frame: everything before it got none.
    let answer = m.by_udp(net.beat_udp, &beat).await;
    assert_eq!(answer.outcome, Outcome::Durable);
    let mut bytes = [0; 100];
    assert!(socket.try_recv(&mut bytes).is_err(), "a datagram without a MAC was answered");
    until_minutes(&net, gpu, &[beat.minute]).await;
    let metrics = net.get("/metrics").await.text();
    assert!(
        metrics.contains("gangline_beats_unauthentic_total")
            && metrics.contains("gangline_beats_durable_total 1\n")
    );
    let console = net.page(&net.operator, "/console").await.text();
    assert!(!console.contains("/api/v1/beat"), "a bad frame was written down");
    // Among others of one request it costs the good ones nothing.
    let more = m.beat(Minute(beat.minute.0 - 1));
    let body = [&hostile[10][..], &m.seal(&more)].concat();
    let response = net.http.post(format!("{}/api/v1/beat", net.origin)).body(body).send().await.unwrap();
    assert_eq!(m.answers(&response.bytes().await.unwrap()).len(), 1);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_its_own_gpus_and_only_with_their_keys() {
    let net = network().await;
    let (key, gpu) = machine(&net).await;
    let (other_key, other_gpu) =
        net.machine(&net.invite("supplier", "Bo").await, "llvmpipe", AdapterKind::Software).await;
    let chain = gangline_wire::beat::Chain::from_seed([1; 32]);
    let path = "/api/v1/machine/beat-epoch";
    let minute = now().minute();
    let check = |request: gangline_wire::api::machine::EpochRequest, code: &'static str| {
        let (net, key) = (&net, &key);
        async move {
            let reply = net.call(key, "POST", path, &request).await;
            assert_eq!((reply.status, reply.error().code.as_str()), (422, code));
        }
    };
    check(net::beating::request(&key, &[other_gpu], &chain, minute), "not_here").await;
    check(net::beating::request(&key, &[], &chain, minute), "no_gpus").await;
    check(net::beating::request(&key, &[gpu, gpu], &chain, minute), "chain_twice").await;
    check(net::beating::request(&key, &[gpu], &chain, Minute(minute.0 - 500)), "bad_start").await;
    let mut unsigned = net::beating::request(&key, &[gpu], &chain, minute);
    unsigned.starts = Minute(minute.0 - 1);
    check(unsigned, "bad_chain").await;
    // A frame of one machine under another's alias has another key.
    let mut m = Beating::open(&net, &key, gpu, 5).await;
    let other = Beating::open(&net, &other_key, other_gpu, 5).await;
    let mut beat = m.beat(minute);
    beat.alias = other.grant.alias;
    let response =
        net.http.post(format!("{}/api/v1/beat", net.origin)).body(m.seal(&beat)).send().await.unwrap();
    assert_eq!(response.status(), 401);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_ends_ends_its_lane() {
    let net = network().await;
    let ada = net.invite("supplier", "Ada").await;
    let (key, gpu) = net.machine(&ada, "llvmpipe", AdapterKind::Software).await;
    let mut m = Beating::open(&net, &key, gpu, 60).await;
    let newest = now().minute();
    let beat = m.beat(newest);
    assert_eq!(m.outcome(&net, &beat).await, Outcome::Durable);
    let done = net.form(&ada, &format!("/console/keys/{}/revoke", key.public().id()), &[]).await;
    assert!(done.status < 400, "{}", done.text());
    // Within two seconds; on a loaded machine the test waits for it longer than that.
    let mut count = 1;
    loop {
        let beat = m.beat(Minute(newest.0 - count));
        match m.outcome(&net, &beat).await {
            Outcome::OpenAgain => break,
            Outcome::Durable => count += 1,
            other => panic!("{other:?}"),
        }
        assert!(count < 59, "a key that has ended still beats");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let refused = Beating::try_open(&net, &key, gpu, 5).await.err().unwrap();
    assert_eq!(refused.error().code, "revoked_key");
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stepped_clock_credits_nothing_twice_and_loses_nothing() {
    let net = network().await;
    let (key, gpu) = machine(&net).await;
    let mut m = Beating::open(&net, &key, gpu, 60).await;
    let newest = now().minute();
    let clock = net.config.beat_clock.clone();
    let mut expected = Vec::new();
    // Forth over an hour, back before the start, and home: each beat of its own minute, as far as the clock lets it.
    for (step, back) in
        [(0, 40), (3600, 39), (3600, 38), (-3600, 37), (-3600, 0), (0, 36), (7 * 3600, 35), (0, 34)]
    {
        clock.step_to(step);
        let beat = m.beat(Minute(newest.0 - back));
        let outcome = m.outcome(&net, &beat).await;
        let minute_is = beat.minute.start().0 as i64 - (now().0 as i64 + step);
        match outcome {
            Outcome::Durable => expected.push(beat.minute),
            Outcome::TooEarly => assert!(minute_is > 0, "{minute_is}"),
            Outcome::TooLate => assert!(minute_is < -6 * 3600, "{minute_is}"),
            other => panic!("{other:?} at step {step}"),
        }
    }
    clock.step_to(0);
    expected.sort_unstable();
    assert!(expected.len() >= 5, "{expected:?}");
    until_minutes(&net, gpu, &expected).await;
    let config = net.config.clone();
    let net = Net::start_in(net.stop().await, config).await;
    assert_eq!(minutes(&net, gpu).await, expected);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_breaks_off_costs_no_beat_and_an_intake_that_cannot_go_on_ends_the_server() {
    let net = network().await;
    let (key, gpu) = machine(&net).await;
    let mut m = Beating::open(&net, &key, gpu, 60).await;
    let newest = now().minute();
    let own = format!("http://{}", net.beat_http.unwrap());
    let clock = net.config.beat_clock.clone();
    let mut expected = Vec::new();
    for back in (0..20).rev() {
        clock.break_off(back % 4);
        let beat = m.beat(Minute(newest.0 - back));
        assert_eq!(m.by_udp(net.beat_udp, &beat).await.outcome, Outcome::Durable);
        expected.push(beat.minute);
    }
    // Connections are taken again as well, and what broke off is told of.
    let repeat = m.beat(newest);
    assert_eq!(m.by_http(&net, &own, &[repeat]).await[0].outcome, Outcome::Durable);
    until_minutes(&net, gpu, &expected).await;
    let metrics = net.get("/metrics").await.text();
    let told = metrics.lines().find_map(|l| l.strip_prefix("gangline_beat_turns_broke_off_total "));
    assert_eq!(told.unwrap(), "30");

    // What was acknowledged is there again after the end, and the lane goes on.
    let config = net.config.clone();
    clock.break_off(u32::MAX);
    let (folder, why) = net.until_ended().await;
    assert!(matches!(why, gangline_server::ServeError::IntakeEnded), "{why}");
    clock.break_off(0);
    let net = Net::start_in(folder, config).await;
    assert_eq!(minutes(&net, gpu).await, expected);
    let beat = m.beat(Minute(newest.0 - 30));
    assert_eq!(m.by_udp(net.beat_udp, &beat).await.outcome, Outcome::Durable);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_and_floods_are_nobody_else_s_affair() {
    let net = network().await;
    let ada = net.invite("supplier", "Ada").await;
    let (key, gpu) = net.machine(&ada, "llvmpipe", AdapterKind::Software).await;
    let (loud_key, loud_gpu) = net.machine(&ada, "llvmpipe", AdapterKind::Software).await;
    let at = net.beat_http.unwrap();
    let mut silent = Vec::new();
    for n in 0..400 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        if n % 2 == 0 {
            stream.write_all(b"POST /api/v1/beat HTTP/1.1\r\ncontent-le").await.unwrap();
        }
        silent.push(stream);
    }
    let mut loud = Beating::open(&net, &loud_key, loud_gpu, 60).await;
    let newest = now().minute();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for n in 0..3_000u32 {
        let beat = loud.beat(Minute(newest.0 - n % 50));
        let _ = socket.send_to(&loud.seal(&beat), net.beat_udp).await;
        if loud.count > 2_000 {
            loud.count = 0;
        }
    }
    let mut m = Beating::open(&net, &key, gpu, 60).await;
    let mut expected = Vec::new();
    for back in (0..20).rev() {
        let beat = m.beat(Minute(newest.0 - back));
        assert_eq!(m.by_udp(net.beat_udp, &beat).await.outcome, Outcome::Durable);
        expected.push(beat.minute);
    }
    until_minutes(&net, gpu, &expected).await;
    // The flood was put off, and is told so.
    let metrics = net.get("/metrics").await.text();
    let shed = metrics.lines().find_map(|l| l.strip_prefix("gangline_beats_shed_total ")).unwrap();
    assert!(shed.parse::<u64>().unwrap() > 100, "{shed} were put off");
    // Who says nothing is closed.
    let mut gone = 0;
    for stream in &mut silent {
        let mut byte = [0; 1];
        let closed = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut byte)).await;
        gone += usize::from(matches!(closed, Ok(Ok(0) | Err(_))));
    }
    assert_eq!(gone, silent.len(), "silent connections are kept");
    net.stop().await;
}
