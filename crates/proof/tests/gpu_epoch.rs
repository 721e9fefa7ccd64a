//! The prover of epoch proofs on every adapter of this machine, against the reference on the processor.

use std::{ops::ControlFlow, time::Instant};

use gangline_proof::{
    MatrixParams,
    epoch::{Challenge, CpuProver, GpuKey, Params, Part, Progress, Prover, ProverError, SIZES, verify},
    gpu::{Adapter, EpochProver, Route, adapters},
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

fn on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn challenge(params: Params) -> Challenge {
    let gpu = GpuId::from_bytes([2; 16]);
    let binding = GpuKey::derive(&[1; 32], gpu).binding();
    Challenge {
        params: params.check().expect("within limits"),
        beacon: blake3::hash(b"beacon").into(),
        binding,
    }
}

const SMALL: Params = SIZES[0];

#[test]
fn every_adapter_agrees_with_the_processor_bit_for_bit() {
    let nonce: Hash = blake3::hash(b"nonce").into();
    for adapter in all() {
        let mut gpu = EpochProver::open(adapter.index).unwrap();
        assert_eq!(gpu.adapter(), &adapter);
        let mut cpu = CpuProver::new();
        for (i, params) in SIZES.into_iter().chain([SMALL]).enumerate() {
            // Both routes; one buffer at first, then as many as 64 KiB pieces make.
            gpu.set_route(if i % 2 == 0 { Route::Int8 } else { Route::F32 });
            if i == 1 {
                gpu.set_buffer_bytes_max(1 << 16);
            }
            if params.memory_bytes() > 28 << 16 {
                gpu = EpochProver::open(adapter.index).unwrap();
            }
            let challenge = challenge(params);
            gpu.warm_up(&params, &mut on).unwrap();
            assert_eq!(gpu.held_bytes(), params.memory_bytes());
            let commitment = gpu.commit(&challenge, &mut on).unwrap();
            assert_eq!(commitment, cpu.commit(&challenge, &mut on).unwrap(), "{adapter:?}, size {i}");
            assert_eq!(gpu.held_bytes(), 0, "memory is kept after the commitment");
            let opening = gpu.open(&nonce).unwrap();
            assert_eq!(opening, cpu.open(&nonce).unwrap(), "{adapter:?}, size {i}");
            assert!(verify(&challenge, &commitment, &nonce, &opening).is_ok());
            assert!(matches!(gpu.open(&nonce), Err(ProverError::NothingCommitted)));
        }
    }
}

#[test]
fn both_routes_give_the_same_bits_and_the_faster_is_chosen_by_the_callers_clock() {
    let params = Params { matrix: Some(MatrixParams { n: 2048, steps: 1, rows: 1 }), ..SMALL };
    let challenge = challenge(params);
    let mut gpu = EpochProver::open(all()[0].index).unwrap();
    let roots = [Route::Int8, Route::F32].map(|route| {
        gpu.set_route(route);
        gpu.commit(&challenge, &mut on).unwrap().matrix
    });
    assert_eq!(roots[0], roots[1]);
    // Each route runs three times between two readings of the clock; this clock makes one route look slow.
    for (slow, chosen) in [(0..6, Route::F32), (6..12, Route::Int8)] {
        let (mut now, mut asked) = (0, 0);
        let route = gpu.choose_route(&mut || {
            now += if slow.contains(&asked) { 1000 } else { 1 };
            asked += 1;
            now
        });
        assert_eq!((route.unwrap(), gpu.route()), (chosen, chosen));
    }
    let start = Instant::now();
    println!(
        "by the real clock: {:?}",
        gpu.choose_route(&mut || start.elapsed().as_micros() as u64).unwrap()
    );
}

#[test]
fn a_prover_that_is_told_to_stop_gives_its_memory_back_and_can_start_again() {
    let mut gpu = EpochProver::open(all()[0].index).unwrap();
    let challenge = challenge(SIZES[3]);
    for stop_in in [Part::Fill, Part::Walk, Part::Alu, Part::LastWalk] {
        gpu.warm_up(&challenge.params, &mut on).unwrap();
        let stopped = gpu.commit(&challenge, &mut |progress: Progress| {
            if progress.part == stop_in { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(stopped, Err(ProverError::Stopped(part)) if part == stop_in), "{stopped:?}");
        assert_eq!(gpu.held_bytes(), 0);
    }
    let stopped = gpu.warm_up(&challenge.params, &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(ProverError::Stopped(_))));
    assert_eq!(gpu.held_bytes(), 0);
    let commitment = gpu.commit(&challenge, &mut on).unwrap();
    assert_eq!(commitment, CpuProver::new().commit(&challenge, &mut on).unwrap());
}

#[test]
fn memory_that_the_device_cannot_address_is_refused_by_name() {
    let mut gpu = EpochProver::open(all()[0].index).unwrap();
    gpu.set_buffer_bytes_max(4096);
    let error = gpu.warm_up(&SIZES[3], &mut on).unwrap_err();
    assert!(matches!(error, ProverError::TooLarge { bytes: 4_194_304, .. }), "{error:?}");
    assert!(error.to_string().contains("buffers of 4096 bytes"), "{error}");
    assert!(gpu.commit(&challenge(SMALL), &mut on).is_ok());
}
