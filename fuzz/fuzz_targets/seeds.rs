//! Writes what each target begins with: messages as honest senders write them. It is built as a target because
//! everything here is built with the fuzzer's flags: `GANGLINE_FUZZ_SEEDS=FOLDER seeds -runs=0`.
#![no_main]

mod honest;

use std::path::Path;

use gangline_guard::log::{Checkpoint, Entry, Event, witness::AddCheckpoint};
use gangline_types::{GpuId, Hash, MachineId, Minute, UnixSeconds};
use gangline_wire::{
    beat::{Answer, Beat, Chain, Epoch, EpochMaster, Link, Outcome, WorkerVersion},
    endpoints,
    sig::{Covered, digest, sign},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds().expect("the seeds are written"), |_data: &[u8]| {});

fn seeds() -> std::io::Result<()> {
    let folder = std::env::var("GANGLINE_FUZZ_SEEDS").expect("GANGLINE_FUZZ_SEEDS names a folder");
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let folder = Path::new(&folder).join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), bytes)
    };
    let key = honest::key();
    let covered = Covered {
        method: "POST",
        authority: "127.0.0.1:80",
        path: "/a",
        query: "x=1",
        body_digest: digest(b"{}"),
        sequence: 7,
    };
    let headers = sign(&covered, UnixSeconds(1_700_000_000), &key).map(|(_, value)| value);
    write("signature", "signed", headers.join("\n").as_bytes())?;
    write("signature", "key", key.public().to_string().as_bytes())?;

    let gpu = GpuId::from_bytes([2; 16]);
    let texts = [
        "{}".to_owned(),
        "{\"label\":\"a name\"}".to_owned(),
        format!("{{\"gpus\":[\"{gpu}\"]}}"),
        format!("{{\"beats\":[{{\"minute\":28333333,\"gpus\":[\"{gpu}\"]}}],\"worker_version\":\"0.1.0\"}}"),
        format!(
            "{{\"public_key\":\"{}\",\"kind\":\"machine\",\"host\":\"h\",\"summary\":\"s\"}}",
            key.public()
        ),
        "q=llvm&after=&limit=50&standing=proven".to_owned(),
        gpu.to_string(),
    ];
    for endpoint in 0..endpoints::ALL.len() {
        for (n, text) in texts.iter().enumerate() {
            let first = u8::try_from(endpoint).unwrap_or(u8::MAX);
            write("wire", &format!("{endpoint}-{n}"), &[&[first], text.as_bytes()].concat())?;
        }
    }

    let master = EpochMaster::of(&[1; 32], Epoch(7));
    let chain = Chain::from_seed([5; 32]);
    let alias = master.alias(MachineId::from_bytes([3; 16]), chain.tip());
    let beat = Beat {
        epoch: Epoch(7),
        alias,
        minute: Minute(10_080),
        worker: WorkerVersion::of("0.1.0"),
        gpus: 1,
        link: Link { slot: 0, count: 1, preimage: chain.value(1) },
    };
    write("beat", "beat", &beat.seal(&master.key(alias)))?;
    let answer = Answer::to(&beat, Outcome::Durable, 0, UnixSeconds(605_000));
    write("beat", "answer", &answer.seal(&master.key(alias)))?;

    write("transcript", "honest", &serde_json::to_vec(&honest::epoch())?)?;
    write("joining", "honest", &serde_json::to_vec(&honest::joining())?)?;
    for (old, size) in [(3, 3), (3, 5), (3, 300), (0, 5)] {
        write("witness", &format!("from-{old}-to-{size}"), honest::ask(old, size).to_string().as_bytes())?;
    }

    let checkpoint = Checkpoint { origin: "example.com/log".into(), size: 5, root: Hash([7; 32]) };
    let note = checkpoint.sign(&key);
    let add = AddCheckpoint { old_size: 3, proof: vec![Hash([1; 32]), Hash([2; 32])], note: note.clone() };
    write("log", "checkpoint", checkpoint.to_string().as_bytes())?;
    write("log", "note", note.to_string().as_bytes())?;
    write("log", "add", add.to_string().as_bytes())?;
    let event = Event::PolicyChange { matrix: Hash([8; 32]) };
    let entry = Entry { at: UnixSeconds(1_700_000_000), event, sealed: Hash([9; 32]) };
    write("log", "entry", &entry.to_bytes())?;
    let mut proof = [0; 16 + 96];
    (proof[7], proof[15]) = (3, 5);
    write("log", "proof", &proof)
}
