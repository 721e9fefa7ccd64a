//! What a signed write costs before the books are touched, and what a beat's check costs: one thread, the mean
//! of many. `cargo run --release -p gangline-guard --example write_cost`

use std::{hint::black_box, time::Instant};

use gangline_guard::{
    Freezes, KeyRecord, RecentSequences, RequestParts, act, authenticate, inspect, permit::permit, policy,
    policy::on,
};
use gangline_types::{AccountId, GpuId, MachineId, Minute, UnixSeconds};
use gangline_wire::{
    SigningKey,
    api::{account::Role, enrol::KeyKind},
    beat::{Beat, Chain, ClaimedBeat, Epoch, EpochMaster, Link, WorkerVersion},
    sig::{Claimed, Covered, Received, digest, sign},
};
use zeroize::Zeroizing;

/// Median of 20 batches, in microseconds of one.
fn per(name: &str, count: u64, mut work: impl FnMut(u64)) -> f64 {
    let mut each: Vec<f64> = (0..20)
        .map(|batch| {
            let start = Instant::now();
            (0..count).for_each(|n| work(batch * count + n));
            start.elapsed().as_secs_f64() * 1e6 / count as f64
        })
        .collect();
    each.sort_by(f64::total_cmp);
    println!("{name:<58} {:>8.2} us, least {:.2}", each[10], each[0]);
    each[10]
}

fn main() {
    policy::ready().expect("the policies are sound");
    let key = SigningKey::from_seed(&Zeroizing::new([1; 32]));
    let (account, machine) = (AccountId::from_bytes([1; 16]), MachineId::from_bytes([2; 16]));
    let record = KeyRecord {
        public_key: key.public(),
        kind: KeyKind::Machine,
        account,
        role: Role::Supplier,
        machine: Some(machine),
        revoked_at: None,
        ends_at: None,
    };
    let now = UnixSeconds(1_700_000_000);
    let frozen = Freezes::default();
    let body = vec![b'x'; 1024];
    let path = "/api/v1/gpus/gpu_01h2xcejqtf2nbrexx3vqjhp41/label";
    let request = |sequence: u64| {
        let covered = Covered {
            method: "PUT",
            authority: "gangline.example",
            path,
            query: "",
            body_digest: digest(&body),
            sequence,
        };
        sign(&covered, now, &key).map(|(_, value)| value)
    };
    per("sign a request with a body of 1 KiB", 500, |n| {
        black_box(request(n));
    });
    const REQUESTS: u64 = 500;
    let requests: Vec<[String; 4]> = (0..REQUESTS).map(request).collect();
    let parts = RequestParts { method: "PUT", authority: "gangline.example", path, query: "" };
    let claim = |n: u64| {
        let [content_digest, sequence, input, signature] = &requests[(n % REQUESTS) as usize];
        Claimed::parse(Received { content_digest, sequence, input, signature }).expect("it is well formed")
    };
    per("read its headers", REQUESTS, |n| {
        black_box(claim(n));
    });
    let claimed = claim(0);
    per("verify its signature and its body's digest", REQUESTS, |_| {
        let head =
            authenticate::signed(claimed.clone(), Some(&record), parts, now, &frozen).expect("it is signed");
        black_box(head.with_body(&body).expect("it is its body"));
    });
    let gpu = on::Gpu { gpu: GpuId::from_bytes([3; 16]), machine, account };
    let mut seen = RecentSequences::default();
    let mut next = 0;
    per("all of it: headers, signature, digest, number, policy, permit", REQUESTS, |n| {
        let head = authenticate::signed(claim(n), Some(&record), parts, now, &frozen).expect("it is signed");
        let authenticated = head.with_body(&body).expect("it is its body");
        next += 1;
        let actor = authenticated.into_actor(seen.take(next).expect("it is fresh"));
        black_box(permit::<act::LabelGpu>(&actor, gpu, now).expect("it may"));
    });

    let master = EpochMaster::of(&[1; 32], Epoch(7));
    let chain = Chain::from_seed([5; 32]);
    let alias = master.alias(machine, chain.tip());
    let beat = Beat {
        epoch: Epoch(7),
        alias,
        minute: Minute(10_080),
        worker: WorkerVersion::of("0.1.0"),
        gpus: 1,
        link: Link { slot: 0, count: 1, preimage: chain.value(1) },
    };
    let frame = beat.seal(&master.key(alias));
    per("check a beat: read, derive its key, verify, ranges", 20_000, |_| {
        let claimed = ClaimedBeat::read(black_box(&frame)).expect("it is a frame");
        let key = master.key(claimed.alias());
        black_box(claimed.verify(&key).expect("its key").expect("its ranges"));
    });
    per("inspect a field of a refused request", 2_000, |_| {
        black_box(inspect::resembles(black_box("NVIDIA GeForce RTX 4090, the second from the left")));
    });
}
