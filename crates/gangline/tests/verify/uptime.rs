//! `verify uptime` as a process: it asks for one GPU after another, and a saved file says the same.

use gangline_types::public::{PublicChain, PublicLink};
use gangline_wire::{
    SigningKey,
    beat::{Chain, chain},
};
use zeroize::Zeroizing;

use super::*;

const GPUS: u8 = 5;
/// GPUs on a page of the list.
const PAGE: usize = 2;

/// A chain of a GPU that has shown sixty beats in hour 10.
fn shown(n: u8) -> PublicChain {
    let key = SigningKey::from_seed(&Zeroizing::new([n; 32]));
    let (chain, starts) = (Chain::from_seed([n; 32]), Minute(600));
    let signature = key.sign(&chain::signed_bytes(gpu(n), starts, chain.tip()));
    PublicChain {
        starts,
        tip: chain.tip().to_string(),
        public_key: Hash(*key.public().as_bytes()),
        signature: signature.iter().map(|b| format!("{b:02x}")).collect(),
        links: vec![PublicLink { hour: Hour(10), count: 60, preimage: chain.value(60).to_string() }],
    }
}

/// A network in which GPU `made_up` has minutes of two hours more, and which says nothing of GPU `away`.
fn network_of_five(made_up: u8, away: u8) -> Stub {
    let like = network().gpus[0].clone();
    let gpus: Vec<PublicGpu> = (1..=GPUS).map(|n| PublicGpu { id: gpu(n), ..like.clone() }).collect();
    Stub::start(
        move |asked| {
            let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
            let parts: Vec<&str> = path.strip_prefix("/api/v1/public/").unwrap().split('/').collect();
            let number = |id: &str| (1..=GPUS).find(|n| gpu(*n).to_string() == id).unwrap();
            let answer = match parts[..] {
                ["gpus"] => {
                    let after = query.split('&').find_map(|part| part.strip_prefix("after="));
                    let from = after.map_or(0, |id| usize::from(number(id)));
                    let page = gpus[from..].iter().take(PAGE).cloned().collect();
                    let next = (from + PAGE < gpus.len()).then(|| gpus[from + PAGE - 1].id);
                    serde_json::to_value(GpuPage { gpus: page, next })
                }
                ["gpus", id, _] if number(id) == away => {
                    return json(503, serde_json::json!({"code": "busy", "message": "come back later"}));
                }
                ["gpus", id, "uptime"] => {
                    let hours = if number(id) == made_up { 10..13 } else { 10..11 };
                    let (bits, none) = (UptimeHour::FULL, UptimeHour::default());
                    let hour = |hour| PublicUptime { hour: Hour(hour), bits, late: none, unchained: none };
                    serde_json::to_value(UptimePage { hours: hours.map(hour).collect() })
                }
                ["gpus", id, "chains"] => serde_json::to_value(vec![shown(number(id))]),
                _ => return text(404, "none"),
            };
            json(200, answer.unwrap())
        },
        &[],
    )
}

/// How many GPUs' chains a network was asked for.
fn looked_at(stub: &Stub) -> usize {
    stub.asked().iter().filter(|asked| asked.path.ends_with("/chains")).count()
}

fn uptime(work: &Path, from: &str, more: &[&str]) -> (i32, String, String) {
    told(&run(work, &[&["verify", "uptime", from], more].concat()))
}

#[test]
fn uptime_is_followed_through_all_pages_and_a_saved_file_says_the_same() {
    let (stub, work) = (network_of_five(0, 0), tempfile::tempdir().unwrap());
    let file = work.path().join("saved.json");
    let file = file.to_str().unwrap();
    let all = "300 minutes of 5 GPUs stand on 5 chains, 0 of them not shown yet; 0 stand on no chain\n";
    let said = uptime(work.path(), &stub.url, &["--save", file]);
    assert_eq!(said, (0, all.to_owned(), String::new()));
    assert_eq!(looked_at(&stub), 5);
    assert_eq!(uptime(work.path(), file, &[]), said);
    let one = gpu(3).to_string();
    let (code, out, _) = uptime(work.path(), &stub.url, &["--gpu", &one]);
    assert!(code == 0 && out.starts_with("60 minutes of 1 GPUs"), "{out}");
    assert_eq!(looked_at(&stub), 6);
    assert_eq!(uptime(work.path(), file, &["--gpu", &one]).1, out);
}

#[test]
fn minutes_that_nobody_beat_for_end_the_asking_unless_all_is_to_be_saved() {
    let (stub, work) = (network_of_five(2, 0), tempfile::tempdir().unwrap());
    let (code, out, err) = uptime(work.path(), &stub.url, &[]);
    let says =
        format!("credited that nobody beat for: {}, minutes on a chain up to hour 12: expected", gpu(2));
    assert!(code == 1 && err.contains(&says), "{out}{err}");
    assert!(out.starts_with("240 minutes of 2 GPUs stand on 2 chains"), "{out}");
    assert_eq!(looked_at(&stub), 2);

    let file = work.path().join("saved.json");
    let saved = uptime(work.path(), &stub.url, &["--save", file.to_str().unwrap()]);
    assert_eq!(saved, (code, out, err));
    assert_eq!(looked_at(&stub), 7);
    assert_eq!(uptime(work.path(), file.to_str().unwrap(), &[]), saved);
    let all: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(all.len(), 5);
}

#[test]
fn a_gpu_that_cannot_be_asked_for_is_no_answer_and_leaves_no_file() {
    let (stub, work) = (network_of_five(0, 4), tempfile::tempdir().unwrap());
    let file = work.path().join("saved.json");
    let (code, out, err) = uptime(work.path(), &stub.url, &["--save", file.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert!(err.contains("could not ask for everything") && err.contains("come back later (busy)"), "{err}");
    assert!(!file.exists());
    assert_eq!(uptime(work.path(), file.to_str().unwrap(), &[]).0, 2);
}
