//! What deciding costs before the books are touched, and what the log costs: processor time of one thread, medians of
//! many batches.

use std::{hint::black_box, time::Duration};

use gangline_guard::{
    Freezes, KeyRecord, RecentSequences, RequestParts, act, authenticate, inspect,
    log::{
        Checker, Checkpoint, Edge, Entry, Event,
        checkpoint::origin_of,
        entry::Change,
        leaf_hash,
        tiles::{TILE_WIDTH, Tile, Tiles},
        tree::{prove_inclusion, verify_inclusion},
    },
    permit::permit,
    policy,
    policy::on,
};
use gangline_types::{AccountId, GpuId, Hash, MachineId, Minute, UnixSeconds};
use gangline_wire::{
    SigningKey,
    api::{account::Role, enrol::KeyKind, machine::LabelWrite},
    beat::{Beat, Chain, ClaimedBeat, Epoch, EpochMaster, Link, WorkerVersion},
    body,
    sig::{Claimed, Covered, Received, digest, sign},
};
use zeroize::Zeroizing;

use super::Found;

/// Batches of which the middle one counts.
const BATCHES: usize = 21;

/// What this thread has had of a processor: what else the machine does costs it nothing.
fn had() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)
        .expect("a thread has a clock")
        .into()
}

/// The middle of 21 batches of so many, in microseconds of one.
fn per(count: u64, mut work: impl FnMut(u64)) -> f64 {
    let mut each: Vec<f64> = (0..BATCHES as u64)
        .map(|batch| {
            let start = had();
            (0..count).for_each(|n| work(batch * count + n));
            (had() - start).as_secs_f64() * 1e6 / count as f64
        })
        .collect();
    each.sort_by(f64::total_cmp);
    each[BATCHES / 2]
}

fn key() -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([1; 32]))
}

/// A signed write and its parts, and the check of a beat.
pub fn write(found: &mut Found) {
    policy::ready().expect("the policies are sound");
    let key = key();
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
    let sent = br#"{"label":"the second from the left"}"#;
    let gpu = GpuId::from_bytes([3; 16]);
    let path = format!("/api/v1/gpus/{gpu}/label");
    const REQUESTS: u64 = 500;
    let requests: Vec<[String; 4]> = (0..REQUESTS)
        .map(|sequence| {
            let covered = Covered {
                method: "PUT",
                authority: "gangline.example",
                path: &path,
                query: "",
                body_digest: digest(sent),
                sequence,
            };
            sign(&covered, now, &key).map(|(_, value)| value)
        })
        .collect();
    let parts = RequestParts { method: "PUT", authority: "gangline.example", path: &path, query: "" };
    let claim = |n: u64| {
        let [content_digest, sequence, input, signature] = &requests[(n % REQUESTS) as usize];
        Claimed::parse(Received { content_digest, sequence, input, signature }).expect("it is well formed")
    };
    let on = on::Gpu { gpu, machine, account };
    let (mut seen, mut next) = (RecentSequences::default(), 0);
    let whole = per(REQUESTS, |n| {
        let head = authenticate::signed(claim(n), Some(&record), parts, now, &frozen).expect("it is signed");
        let authenticated = head.with_body(sent).expect("it is its body");
        next += 1;
        let actor = authenticated.into_actor(seen.take(next).expect("it is fresh"));
        let write: LabelWrite = body::json(sent).expect("it is a label");
        let permit = permit::<act::LabelGpu>(&actor, on, now).expect("it may");
        black_box((write, permit.audit_entry()));
    });
    found.add(
        "signed_write_us",
        whole,
        "us",
        80.0,
        "headers read, Ed25519, digest, key's end and kind, clock, number, body into its type, policy, permit, audit row made",
    );
    let claimed = claim(0);
    let verified = per(REQUESTS, |_| {
        let head =
            authenticate::signed(claimed.clone(), Some(&record), parts, now, &frozen).expect("it is signed");
        black_box(head.with_body(sent).expect("it is its body"));
    });
    found.add("signature_us", verified, "us", None, "of it: signature and digest");
    let actor = authenticate::signed(claim(1), Some(&record), parts, now, &frozen)
        .and_then(|head| head.with_body(sent))
        .expect("it is signed")
        .into_actor(seen.take(next + 1).expect("it is fresh"));
    let decided = per(REQUESTS, |_| {
        black_box(permit::<act::LabelGpu>(&actor, on, now).expect("it may"));
    });
    found.add("policy_us", decided, "us", None, "of it: the policy's decision");

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
    let checked = per(20_000, |_| {
        let claimed = ClaimedBeat::read(black_box(&frame)).expect("it is a frame");
        let key = master.key(claimed.alias());
        black_box(claimed.verify(&key).expect("its key").expect("its ranges"));
    });
    found.add("beat_check_us", checked, "us", 1.0, "frame read, key derived, MAC, ranges");
    let inspected = per(2_000, |_| {
        black_box(inspect::resembles(black_box("NVIDIA GeForce RTX 4090, the second from the left")));
    });
    found.add("inspect_field_us", inspected, "us", None, "only of what is refused, a field of 49 characters");
}

/// The log of so many entries.
pub fn log(found: &mut Found, size: u64) {
    let entry = |n: u64| {
        let event = Event::MetadataChange { gpu: GpuId::from_bytes([1; 16]), change: Change::Set };
        Entry { at: UnixSeconds(n), event, sealed: Hash([n as u8; 32]) }.to_bytes()
    };
    let (mut edge, mut all, mut leaves) = (Edge::default(), Vec::<Tile>::new(), Vec::new());
    let start = had();
    for n in 0..size {
        let leaf = leaf_hash(&entry(n));
        leaves.push(leaf);
        edge.push(leaf, &mut |tile| all.push(tile));
    }
    let appended = (had() - start).as_secs_f64() * 1e6 / size as f64;
    let note = format!("written, hashed and appended; {} bytes each, {size} of them", entry(size).len());
    found.add("log_append_us", appended, "us", None, note);
    all.extend(edge.partials());
    let leaf_tiles: Vec<Vec<Hash>> =
        all.iter().filter(|tile| tile.level == 0).map(|tile| tile.hashes.clone()).collect();
    let mut tiles = Tiles::default();
    tiles.take_all(all);
    let root = edge.root();
    let at = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % size;
    let mut proofs = Vec::new();
    let proved =
        per(100, |n| proofs.push(prove_inclusion(&tiles, at(n), size).expect("the tiles are all here")));
    found.add("log_prove_us", proved, "us", None, "that one entry is in it");
    let verified = per(100, |n| {
        let index = at(n);
        assert!(verify_inclusion(&leaves[index as usize], index, size, &proofs[n as usize], &root));
    });
    found.add("log_verify_us", verified, "us", None, "the same, by whoever doubts it");
    let checkpoint = Checkpoint { origin: origin_of(&key().public()), size, root };
    let signed = per(20, |_| {
        black_box(checkpoint.sign(&key()));
    });
    found.add("log_sign_us", signed, "us", None, "a checkpoint, at most one each second");
    let mut checker = Checker::new(checkpoint, vec![]).expect("nothing was seen before");
    let start = had();
    for (n, hashes) in leaf_tiles.iter().enumerate() {
        let first = (n * TILE_WIDTH) as u64;
        let entries: Vec<Vec<u8>> = (first..first + hashes.len() as u64).map(entry).collect();
        checker.take(&entries, hashes, &mut |_, _| ()).expect("the log is honest");
    }
    checker.end().expect("the log is honest");
    let audited = (had() - start).as_secs_f64() * 1e6 / size as f64;
    found.add("log_audit_us", audited, "us", None, "an entry, when the whole log is checked from outside");
}
