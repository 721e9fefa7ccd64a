//! The prover on every adapter of this machine, against the reference on the processor.

use gangline_proof::{
    Challenge, CpuProver, MatrixParams, Prover, ProverError, binding,
    gpu::{Adapter, GpuProver, adapters},
    verify,
};
use gangline_types::{GpuId, Hash};

fn all() -> Vec<Adapter> {
    let all = adapters();
    assert!(
        !all.is_empty(),
        "no graphics adapter: these tests need one (on Debian: apt-get install mesa-vulkan-drivers libvulkan1 gives a software one)"
    );
    all
}

fn challenge(n: u32, steps: u32, rows: u32) -> Challenge {
    let beacon: Hash = blake3::hash(b"beacon").into();
    let binding = binding(&[1; 32], GpuId::from_bytes([2; 16]));
    Challenge { params: MatrixParams { n, steps, rows }, beacon, binding }
}

#[test]
fn every_adapter_agrees_with_the_processor_bit_for_bit() {
    let nonce: Hash = blake3::hash(b"nonce").into();
    for adapter in all() {
        let mut gpu = GpuProver::open(adapter.index).unwrap();
        assert_eq!(gpu.adapter(), &adapter);
        // 64: one tile; 192: a tree that is no power of two; 1088: two bands on a software device;
        // 64 again: smaller buffers after larger ones.
        for (n, steps, rows) in [(64, 3, 8), (192, 2, 8), (1088, 2, 8), (64, 1, 64)] {
            let challenge = challenge(n, steps, rows);
            let mut cpu = CpuProver::new();
            if steps == 2 {
                gpu.warm_up(&challenge.params).unwrap();
            }
            let mut seen = 0;
            let commitment = gpu.commit(&challenge, &mut |done| seen = done).unwrap();
            assert_eq!(seen, steps);
            assert_eq!(commitment, cpu.commit(&challenge, &mut |_| {}).unwrap(), "{adapter:?}, side {n}");
            let opening = gpu.open(&nonce).unwrap();
            assert_eq!(opening, cpu.open(&nonce).unwrap(), "{adapter:?}, side {n}");
            let shown = verify(&challenge, &commitment, &nonce, &opening).unwrap();
            assert_eq!(shown.macs, challenge.params.macs());
            assert!(matches!(gpu.open(&nonce), Err(ProverError::NothingCommitted)));
        }
    }
}

#[test]
fn adapters_are_told_apart_by_index_and_a_missing_one_is_named() {
    let all = all();
    for (place, adapter) in all.iter().enumerate() {
        assert_eq!(adapter.index, place);
        assert!(!adapter.name.is_empty() && adapter.buffer_bytes_max > 0);
        // A vendor that is on no bus has no PCI id.
        assert!(adapter.pci_vendor <= 0xffff);
    }
    match GpuProver::open(all.len()) {
        Err(error @ ProverError::NoAdapter { .. }) => {
            assert!(error.to_string().contains(&format!("{} found", all.len())), "{error}");
        }
        other => panic!("opened an adapter that is not there: {:?}", other.map(|p| p.adapter().clone())),
    }
}

/// Two copies of a driver's manifest make the loader list one device twice, with equal descriptions:
/// what a machine with two cards of one model looks like, and how somebody would try to prove one
/// device under two identities.
#[cfg(target_os = "linux")]
#[test]
fn a_device_listed_twice_is_two_adapters_that_prove_at_the_same_time() {
    if std::env::var_os("GANGLINE_TEST_LISTED_TWICE").is_some() {
        return prove_on_all_at_once();
    }
    let manifest = std::fs::read_dir("/usr/share/vulkan/icd.d")
        .ok()
        .and_then(|dir| {
            let mut files = dir.filter_map(|file| Some(file.ok()?.path()));
            files.find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("lvp_icd")))
        })
        .expect("no manifest of the software Vulkan driver (on Debian: apt-get install mesa-vulkan-drivers)");
    let dir = std::env::temp_dir().join(format!("gangline-proof-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let copies = ["one.json", "two.json"].map(|name| dir.join(name));
    for copy in &copies {
        std::fs::copy(&manifest, copy).unwrap();
    }
    // Drivers are found when the process starts using Vulkan, so this needs a process of its own.
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "a_device_listed_twice_is_two_adapters_that_prove_at_the_same_time"])
        .env("GANGLINE_TEST_LISTED_TWICE", "1")
        .env("VK_ICD_FILENAMES", std::env::join_paths(&copies).unwrap())
        .env_remove("VK_DRIVER_FILES")
        .output()
        .unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
}

#[cfg(target_os = "linux")]
fn prove_on_all_at_once() {
    let all = all();
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(Adapter { index: 1, ..all[0].clone() }, all[1]);
    let nonce: Hash = blake3::hash(b"nonce").into();
    let commitments: Vec<_> = std::thread::scope(|scope| {
        let provers: Vec<_> = all
            .iter()
            .map(|adapter| {
                scope.spawn(move || {
                    let mut gpu = GpuProver::open(adapter.index).expect("open");
                    let gpu_id = GpuId::from_bytes([adapter.index as u8; 16]);
                    let challenge = Challenge { binding: binding(&[1; 32], gpu_id), ..challenge(256, 3, 8) };
                    let commitment = gpu.commit(&challenge, &mut |_| {}).expect("commit");
                    let opening = gpu.open(&nonce).expect("opening");
                    verify(&challenge, &commitment, &nonce, &opening).expect("an honest proof");
                    (challenge, commitment, opening)
                })
            })
            .collect();
        provers.into_iter().map(|prover| prover.join().expect("a prover")).collect()
    });
    // Neither's transcript serves for the other.
    let [(first, ..), (_, commitment, opening)] = &commitments[..] else { panic!("two provers") };
    assert!(verify(first, commitment, &nonce, opening).is_err_and(|r| r.is_wrong_bits()));
}

#[test]
fn a_size_outside_the_limits_leaves_the_prover_usable() {
    let mut gpu = GpuProver::open(all()[0].index).unwrap();
    let bad = challenge(65, 1, 1);
    assert!(matches!(gpu.commit(&bad, &mut |_| {}), Err(ProverError::Params(_))));
    assert!(matches!(gpu.open(&bad.beacon), Err(ProverError::NothingCommitted)));
    assert!(gpu.commit(&challenge(64, 1, 1), &mut |_| {}).is_ok());
}
