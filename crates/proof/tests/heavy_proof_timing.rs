//! Cheats whose bits are right and who are only too slow, measured on this machine's first adapter: in CI a software
//! device. One test, so that nothing else of this process runs beside what is measured; each figure is printed.
//!
//! What is compared is processor time where one process does the work, and the best of several tries by the clock where
//! devices are shared: other programs of the machine make both sides slower, not one.

#[path = "heavy_proof_timing/recompute.rs"]
mod recompute;

use std::{
    io::{BufRead, BufReader, Write},
    ops::ControlFlow,
    process::{Child, Command, Stdio},
    time::Instant,
};

use gangline_proof::{
    epoch::{Challenge, GpuKey, Params, Progress, Prover, Transcript},
    gpu::{EpochProver, adapters},
};
use gangline_types::{GpuId, Hash};

const ROLE: &str = "GANGLINE_TEST_ROLE";
const TEST: &str = "cheats_with_right_bits_are_too_slow";
/// The deadline is so many times the median of one device alone.
const TOLERANCE: f64 = 1.15;
/// Where one device alone takes so many times as long as a moment before, something else has started or ended.
const NOISE: f64 = 1.1;
/// So often it is measured again.
const ROUNDS_MAX: u32 = 6;

#[test]
fn cheats_with_right_bits_are_too_slow() {
    if let Ok(index) = std::env::var(ROLE) {
        return prove_at_the_bell(index.parse().expect("an index"));
    }
    assert!(
        !adapters().is_empty(),
        "no graphics adapter (on Debian: apt-get install mesa-vulkan-drivers libvulkan1)"
    );
    recompute::costs_more_than_holding();
    #[cfg(target_os = "linux")]
    sharing_a_device();
}

fn on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A child: gets ready, waits for the bell, proves, and prints how long the commitment took and the transcript.
fn prove_at_the_bell(index: usize) {
    let gpu = GpuId::from_bytes([index as u8; 16]);
    let key = GpuKey::derive(&[std::process::id() as u8; 32], gpu);
    let mut prover = EpochProver::open(index).expect("an adapter");
    let params = Params::SOFTWARE;
    prover.warm_up(&params, &mut on).expect("warm-up");
    println!("\nready");
    let mut bell = String::new();
    std::io::stdin().read_line(&mut bell).expect("the bell");
    let start = Instant::now();
    let challenge =
        Challenge { params, beacon: blake3::hash(bell.as_bytes()).into(), binding: key.binding() };
    let commitment = prover.commit(&challenge, &mut on).expect("the work");
    println!("\ntook {}", start.elapsed().as_secs_f64());
    let nonce: Hash = blake3::hash(b"nonce").into();
    let opening = prover.open(&nonce).expect("the opening");
    let signature = key.sign(&challenge, &commitment, &nonce, &opening);
    let transcript = Transcript::new(gpu, key.public(), challenge, commitment, nonce, opening, signature);
    println!("\ntranscript {}", serde_json::to_string(&transcript).expect("JSON"));
}

struct Identity {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Identity {
    /// A process of its own on the adapter with this index, its drivers listed by `manifests` if there are any.
    fn start(index: usize, manifests: Option<&std::ffi::OsStr>) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "--nocapture", TEST]).env(ROLE, index.to_string());
        if let Some(manifests) = manifests {
            command.env("VK_ICD_FILENAMES", manifests).env_remove("VK_DRIVER_FILES");
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut this = Self { child, lines };
        this.wait_for("ready");
        this
    }

    fn wait_for(&mut self, start: &str) -> String {
        for line in self.lines.by_ref() {
            if let Some(rest) = line.expect("its output").strip_prefix(start) {
                return rest.trim().to_owned();
            }
        }
        panic!("the process ended without {start:?}");
    }
}

/// Seconds of the slowest of these identities, all at the same bell. Each transcript holds: only time tells.
fn together(mut identities: Vec<Identity>) -> f64 {
    for identity in &mut identities {
        identity.child.stdin.take().expect("its input").write_all(b"the bell\n").expect("the bell");
    }
    let mut slowest: f64 = 0.0;
    for identity in &mut identities {
        slowest = slowest.max(identity.wait_for("took").parse().expect("seconds"));
        let transcript = identity.wait_for("transcript");
        Transcript::parse(transcript.as_bytes()).expect("a transcript").check().expect("an honest proof");
        assert!(identity.child.wait().expect("its end").success());
    }
    slowest
}

/// One device under several identities, all challenged at once as the whole network is: on one machine that lists it
/// twice, on two machines that share it, and as three GPUs where there is one.
#[cfg(target_os = "linux")]
fn sharing_a_device() {
    let manifest = std::fs::read_dir("/usr/share/vulkan/icd.d")
        .ok()
        .and_then(|dir| {
            let mut files = dir.filter_map(|file| Some(file.ok()?.path()));
            files.find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("lvp_icd")))
        })
        .expect("no manifest of the software Vulkan driver (on Debian: apt-get install mesa-vulkan-drivers)");
    let dir = std::env::temp_dir().join(format!("gangline-proof-timing-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    let copies = ["one.json", "two.json", "three.json"].map(|name| dir.join(name));
    for copy in &copies {
        std::fs::copy(&manifest, copy).expect("a copy");
    }
    let one = copies[0].as_os_str().to_owned();
    let thrice = std::env::join_paths(&copies).expect("paths");

    let best = |tries: usize, identities: &dyn Fn() -> Vec<Identity>| {
        (0..tries).map(|_| together(identities())).fold(f64::INFINITY, f64::min)
    };
    let alone = || best(2, &|| vec![Identity::start(0, Some(&one))]);
    let listed_twice: &dyn Fn() -> Vec<Identity> =
        &|| (0..2).map(|i| Identity::start(i, Some(&thrice))).collect();
    let two_machines: &dyn Fn() -> Vec<Identity> =
        &|| (0..2).map(|_| Identity::start(0, Some(&one))).collect();
    let three: &dyn Fn() -> Vec<Identity> = &|| (0..3).map(|i| Identity::start(i, Some(&thrice))).collect();
    for (name, identities) in [
        ("one device listed twice, two identities", listed_twice),
        ("two machines relaying to one device", two_machines),
        ("three GPUs claimed, one present", three),
    ] {
        // Other programs slow both sides alike, unless one starts or ends between them: so alone is measured before and after, the
        // slower of the two counts, and where they differ nothing was learned.
        for round in 1.. {
            let (before, shared, after) = (alone(), best(2, identities), alone());
            let (faster, slower) = (before.min(after), before.max(after));
            println!(
                "{name}: {shared:.2} s, {:.2} x of {before:.2} s before and {after:.2} s after",
                shared / slower
            );
            if shared > TOLERANCE * slower {
                break;
            }
            let noise = slower / faster;
            assert!(
                noise > NOISE && round < ROUNDS_MAX,
                "{name}: {shared} against {slower} s alone is in time ({noise:.2} x between two runs alone, round {round})"
            );
        }
    }
    std::fs::remove_dir_all(&dir).expect("the folder");
}
