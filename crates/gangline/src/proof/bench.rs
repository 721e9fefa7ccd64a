//! `gangline proof bench`: what one device of this machine does in an epoch, bit for bit against the processor, and what
//! cheating on it would cost.
//!
//! Measures and says so; judges nothing but bits and the goals of time and size.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::PathBuf,
    sync::{Arc, Barrier},
    time::Instant,
};

use anyhow::Context;
use gangline_proof::{
    MatrixParams,
    epoch::{CpuProver, Params, Part, Prover, SIZES},
    gpu::{Adapter, EpochProver, Route, adapters},
};
use gangline_types::{AdapterKind, Hash};
use serde::Deserialize;

use super::{
    measure::{challenge, cpu_seconds, go_on, transcript_bytes},
    roc::{Report, Row},
};
use crate::problem::Problem;

/// What `bench` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Index of the device, as the first lines say; by default the first that is no software device, else 0.
    #[arg(long, value_name = "INDEX")]
    device: Option<usize>,
    /// The memory to claim, in MiB: nine tenths of it are filled. By default what NVIDIA's library says the device has,
    /// and 64 for a software device.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    memory_mib: Option<u64>,
    /// Epochs of the whole memory, of which the spread is told.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    epochs: u32,
    /// Split memory into buffers of at most so many MiB, below what the driver binds at once.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=4096))]
    buffer_mib: Option<u64>,
    /// Write the rows as JSON to this file as well.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

const MIB: u64 = 1 << 20;
/// A software device's claim where none is named.
const SOFTWARE_MIB: u64 = 64;
/// Double rounds are 96 operations, steps of the ALU chain 28.
const ROUND_OPERATIONS: f64 = 96.0;
const STEP_OPERATIONS: f64 = 28.0;

/// Runs `bench`.
pub fn main(args: &Args) -> anyhow::Result<()> {
    let all = adapters();
    for adapter in &all {
        eprintln!(
            "device {}: {} ({}, {:?}, {}), buffers of at most {} MiB",
            adapter.index,
            adapter.name,
            adapter.kind.words(),
            adapter.backend,
            adapter.driver,
            adapter.buffer_bytes_max / MIB
        );
    }
    let real = all.iter().position(|adapter| adapter.kind != AdapterKind::Software);
    let index = args.device.or(real).unwrap_or(0);
    let adapter = all.get(index).cloned().ok_or_else(|| {
        Problem::new(format!("there is no device {index} here: {} were found", all.len()))
            .hint("on Debian, apt-get install mesa-vulkan-drivers libvulkan1 gives a software device")
    })?;
    let memory_mib = match args.memory_mib {
        Some(mib) => mib,
        None if adapter.kind == AdapterKind::Software => SOFTWARE_MIB,
        None => driver_mib(&adapter)?,
    };
    let bench = Bench {
        adapter,
        memory_bytes: memory_mib * MIB,
        buffer_bytes_max: args.buffer_mib.map(|mib| mib * MIB),
    };
    eprintln!("measuring device {index}, {memory_mib} MiB claimed");
    let mut rows = Vec::new();
    bench.bits(&mut rows)?;
    bench.matrices(&mut rows)?;
    bench.epochs(args.epochs, &mut rows)?;
    bench.sharing(&mut rows)?;
    bench.spilling(&mut rows)?;
    let label = format!(
        "measured on {} ({}, {:?}, {}), {memory_mib} MiB claimed",
        bench.adapter.name,
        bench.adapter.kind.words(),
        bench.adapter.backend,
        bench.adapter.driver
    );
    Report { label, rows }.finish(args.report.as_deref(), false)
}

/// A device as NVIDIA's library lists it.
#[derive(Deserialize)]
struct Nvidia {
    pci_address: String,
    memory_bytes: u64,
}

#[derive(Deserialize)]
struct Probed {
    nvidia: Vec<Nvidia>,
}

/// Memory in MiB, from what the worker asks in a process of its own.
fn driver_mib(adapter: &Adapter) -> anyhow::Result<u64> {
    let program = std::env::current_exe().context("finding this program")?;
    let output = std::process::Command::new(program)
        .arg("adapter-probe")
        .output()
        .context("asking for the device's memory")?;
    let line = output.stdout.split(|b| *b == b'\n').rfind(|line| line.first() == Some(&b'{'));
    let probed: Probed = serde_json::from_slice(line.unwrap_or_default())
        .context("the probe of this machine's devices answered nothing")?;
    // `00000000:01:00.0` there, `0000:01:00.0` here.
    let tail =
        |address: &str| address.get(address.len().saturating_sub(12)..).unwrap_or("").to_ascii_lowercase();
    let same = probed.nvidia.iter().find(|device| tail(&device.pci_address) == tail(&adapter.pci_address));
    let only = match &probed.nvidia[..] {
        [one] if adapter.pci_address.is_empty() => Some(one),
        _ => None,
    };
    match same.or(only) {
        Some(device) => Ok(device.memory_bytes / MIB),
        None => Err(Problem::new(format!("how much memory {} has is not known here", adapter.name))
            .hint("name it with --memory-mib")
            .into()),
    }
}

/// One device.
struct Bench {
    adapter: Adapter,
    memory_bytes: u64,
    buffer_bytes_max: Option<u64>,
}

/// Seconds of an epoch's parts.
struct Times {
    warm_up: f64,
    parts: BTreeMap<Part, f64>,
    commit: f64,
    open: f64,
    verify_cpu: f64,
    transcript_bytes: usize,
    buffers: usize,
}

impl Times {
    fn part(&self, part: Part) -> f64 {
        self.parts.get(&part).copied().unwrap_or(0.0).max(1e-9)
    }
}

impl Bench {
    fn open(&self) -> anyhow::Result<EpochProver> {
        let mut prover = EpochProver::open(self.adapter.index).context("opening the device")?;
        if let Some(bytes) = self.buffer_bytes_max {
            prover.set_buffer_bytes_max(bytes);
        }
        Ok(prover)
    }

    /// What an epoch asks of a device that claims so many bytes; of a software device as much work for each block as
    /// [`Params::SOFTWARE`] has.
    fn params(&self, bytes: u64) -> Params {
        if self.adapter.kind != AdapterKind::Software {
            return Params::of_gpu(bytes);
        }
        let mut params = Params::SOFTWARE;
        let blocks = (bytes / 10 * 9 / 64).clamp(1 << 14, 1 << 26) / 64 * 64;
        params.memory.blocks = blocks as u32;
        let of_segment = u64::from(params.walk.units * params.walk.steps);
        params.walk.segments = (4 * blocks).div_ceil(of_segment).clamp(1, 255) as u32;
        params
    }

    fn row(&self, name: impl Into<String>, value: f64, goal: Option<f64>, words: &str) -> Row {
        let row = Row::new(name, value, goal, &format!("measured on {}: {words}", self.adapter.name));
        eprintln!("  {}: {:.6} ({words})", row.name, row.value);
        row
    }

    /// Every kernel at every size, by both routes, in one buffer and in many, against the processor's bits.
    fn bits(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        let nonce = Hash([0x11; 32]);
        let mut cpu = CpuProver::new();
        let (mut tried, mut differ) = (0, 0);
        let mut whole = EpochProver::open(self.adapter.index).context("opening the device")?;
        for params in SIZES {
            let (_, challenge) = challenge(params, 3);
            let commitment = cpu.commit(&challenge, &mut go_on)?;
            let opening = cpu.open(&nonce)?;
            let mut in_pieces = EpochProver::open(self.adapter.index).context("opening the device")?;
            in_pieces.set_buffer_bytes_max(params.memory_bytes().div_ceil(7));
            for gpu in [&mut whole, &mut in_pieces] {
                for route in [Route::Int8, Route::F32] {
                    gpu.set_route(route);
                    gpu.warm_up(&params, &mut go_on)?;
                    let same = gpu.commit(&challenge, &mut go_on)? == commitment
                        && gpu.open(&nonce).is_ok_and(|opened| opened == opening);
                    tried += 1;
                    differ += u32::from(!same);
                }
            }
        }
        let words =
            format!("{differ} of {tried} proofs (sizes, routes, splits) differ from the processor's bits");
        rows.push(self.row("bits_that_differ", f64::from(differ), Some(0.0), &words));
        Ok(())
    }

    /// Exact int8 products by each route.
    fn matrices(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        for (route, name) in [(Route::Int8, "int8"), (Route::F32, "f32")] {
            for n in [1024u32, 4096] {
                let steps = if n == 1024 { 8 } else { 2 };
                let params = SIZES[0].with_matrix(MatrixParams { n, steps, rows: 4 });
                let mut prover = self.open()?;
                prover.set_route(route);
                let times = self.epoch(&mut prover, params, 5)?;
                rows.push(self.row(
                    format!("matrix_macs_s_{name}_{n}"),
                    params.macs() as f64 / times.part(Part::Matrix),
                    None,
                    &format!("multiply-adds a second of {steps} products of {n} by {name}, filling and hashing included"),
                ));
            }
        }
        Ok(())
    }

    /// One epoch, whose transcript must hold.
    fn epoch(&self, prover: &mut EpochProver, params: Params, n: u8) -> anyhow::Result<Times> {
        let (key, challenge) = challenge(params, n);
        let start = Instant::now();
        prover.warm_up(&params, &mut go_on)?;
        let (warm_up, buffers) = (start.elapsed().as_secs_f64(), prover.buffers());
        let start = Instant::now();
        let mut begun: BTreeMap<Part, f64> = BTreeMap::new();
        let commitment = prover.commit(&challenge, &mut |progress| {
            begun.entry(progress.part).or_insert_with(|| start.elapsed().as_secs_f64());
            ControlFlow::Continue(())
        })?;
        let commit = start.elapsed().as_secs_f64();
        let nonce = Hash([n ^ 0x77; 32]);
        let start = Instant::now();
        let opening = prover.open(&nonce)?;
        let open = start.elapsed().as_secs_f64();
        let (verify_cpu, verified) =
            cpu_seconds(|| gangline_proof::epoch::verify(&challenge, &commitment, &nonce, &opening))?;
        verified.context("an epoch of this device was refused")?;
        let transcript_bytes = transcript_bytes(&key, challenge, commitment, nonce, opening)?;
        let ends: Vec<f64> = begun.values().skip(1).copied().chain([commit]).collect();
        let parts = begun.iter().zip(ends).map(|((part, from), to)| (*part, to - from)).collect();
        Ok(Times { warm_up, parts, commit, open, verify_cpu, transcript_bytes, buffers })
    }

    /// Epochs over all of the memory.
    fn epochs(&self, count: u32, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        let params = self.params(self.memory_bytes).with_matrices();
        let mut prover = self.open()?;
        let clock = Instant::now();
        let route = prover.choose_route(&mut || clock.elapsed().as_micros() as u64)?;
        let mut all = Vec::new();
        for n in 0..count {
            all.push(self.epoch(&mut prover, params, n as u8)?);
        }
        self.told(&params, route, &all, rows);
        Ok(())
    }

    fn told(&self, params: &Params, route: Route, all: &[Times], rows: &mut Vec<Row>) {
        let best = |of: &dyn Fn(&Times) -> f64| all.iter().map(of).fold(f64::INFINITY, f64::min);
        let worst = |of: &dyn Fn(&Times) -> f64| all.iter().map(of).fold(0.0, f64::max);
        let (blocks, reads) = (f64::from(params.memory.blocks), params.walk.total_steps() as f64);
        let fill = best(&|t| t.part(Part::Fill));
        let (walk, last) = (best(&|t| t.part(Part::Walk)), best(&|t| t.part(Part::LastWalk)));
        let alu = best(&|t| t.part(Part::Alu));
        let steps = params.alu.total_steps() as f64;
        let held = format!(
            "{} MiB filled in {} buffers, the best of {}",
            params.memory_bytes() / MIB,
            all.first().map_or(0, |t| t.buffers),
            all.len()
        );
        let mut add = |name: &str, value: f64, goal: Option<f64>, words: &str| {
            rows.push(self.row(name, value, goal, words));
        };
        add("memory_bytes", params.memory_bytes() as f64, None, &held);
        add("fill_s", fill, None, &held);
        add("fill_bytes_s", blocks * 64.0 / fill, None, "bytes filled a second");
        let operations = blocks * f64::from(params.memory.rounds) * ROUND_OPERATIONS / fill;
        add("fill_operations_s", operations, None, "32-bit operations of ChaCha a second");
        add(
            "walk_reads_s",
            reads / walk,
            None,
            "blocks read at random a second, first walk, hashing of its states included",
        );
        add("last_walk_reads_s", reads / last, None, "the same of the last walk");
        add("walk_bytes_s", reads * 64.0 / last, None, "bytes read at random a second, last walk");
        add("alu_steps_s", steps / alu, None, "steps of the ALU chain a second, four words each");
        add("alu_operations_s", steps * STEP_OPERATIONS / alu, None, "32-bit operations of them a second");
        let macs = params.macs() as f64 / best(&|t| t.part(Part::Matrix));
        add("matrix_macs_s", macs, None, &format!("int8 multiply-adds a second by {route:?}"));
        let (make, read) = (fill / blocks, last / reads);
        add(
            "rho",
            make / read,
            None,
            "time to make a block over time to read one: at least 6 by docs/PROOF.md",
        );
        let k = params.reads() as f64 / blocks;
        let never = k * make / (make + k * read);
        add(
            "never_filling_x",
            never,
            None,
            "fill and walks without filling over the honest ones, by these rates",
        );
        add(
            "warm_up_s",
            worst(&|t| t.warm_up),
            None,
            "taking memory, compiling, running each kernel once; the worst",
        );
        add("epoch_s", best(&|t| t.commit), None, "challenge to last root with a matrix chain, the best");
        add(
            "gpu_seconds_per_hour",
            worst(&|t| t.commit + t.open),
            Some(10.0),
            "challenge to opening with a matrix chain, the worst",
        );
        let spread = worst(&|t| t.commit) / best(&|t| t.commit);
        add("epoch_spread_x", spread, None, &format!("the slowest over the fastest of {} epochs", all.len()));
        add("open_s", worst(&|t| t.open), None, "opening, its own check included; the worst");
        add(
            "verify_cpu_matrix_s",
            best(&|t| t.verify_cpu),
            Some(0.5),
            "verifying it, with its matrix chain, on this processor",
        );
        let bytes = worst(&|t| t.transcript_bytes as f64);
        add("transcript_bytes", bytes, Some(1_200_000.0), "the transcript as JSON");
    }

    /// Two identities of half the size at the same bell, against one of them alone.
    fn sharing(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        // What lies beside the memory is taken twice as well.
        let params = self.params(self.memory_bytes / 100 * 48);
        let alone = self.epoch(&mut self.open()?, params, 1)?.commit;
        let alone = alone.min(self.epoch(&mut self.open()?, params, 2)?.commit);
        let bell = Arc::new(Barrier::new(2));
        let run = |n: u8| -> anyhow::Result<f64> {
            let ready = self.open().and_then(|mut prover| {
                prover.warm_up(&params, &mut go_on)?;
                Ok(prover)
            });
            // Both come to the bell, whatever happened.
            bell.wait();
            Ok(self.epoch(&mut ready?, params, n)?.commit)
        };
        let times = std::thread::scope(|scope| {
            let both: Vec<_> = [3, 4].map(|n| scope.spawn(move || run(n))).into_iter().collect();
            both.into_iter()
                .map(|one| one.join().map_err(|_| anyhow::anyhow!("an identity's prover panicked"))?)
                .collect::<anyhow::Result<Vec<f64>>>()
        })?;
        let slower = times.iter().copied().fold(0.0, f64::max);
        rows.push(self.row(
            "two_identities_x",
            slower / alone,
            None,
            &format!(
                "the slower of two identities of {} MiB each at one bell over one alone ({alone:.3} s)",
                params.memory_bytes() / MIB
            ),
        ));
        Ok(())
    }

    /// Some of the memory in the host's instead, as one would who claims more than the device has.
    fn spilling(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        let params = self.params(self.memory_bytes / 2);
        let buffer = (params.memory_bytes() / 20).next_multiple_of(4096).min((1 << 31) - 1);
        let open = || -> anyhow::Result<EpochProver> {
            let mut prover = self.open()?;
            prover.set_buffer_bytes_max(buffer);
            Ok(prover)
        };
        let honest = self.epoch(&mut open()?, params, 1)?;
        for percent in [5u32, 10, 25] {
            let mut prover = open()?;
            let spilled = (honest.buffers as u32 * percent).div_ceil(100);
            if !prover.spill(spilled) {
                eprintln!(
                    "  kernels of this device cannot read the host's memory: spilling was not measured"
                );
                return Ok(());
            }
            let times = self.epoch(&mut prover, params, 2)?;
            let words = format!(
                "{spilled} of {} buffers of {} MiB in the host's memory: the whole epoch over the honest one ({:.3} s); its walks {:.2} x{}",
                honest.buffers,
                params.memory_bytes() / MIB / honest.buffers as u64,
                honest.commit,
                (times.part(Part::Walk) + times.part(Part::LastWalk))
                    / (honest.part(Part::Walk) + honest.part(Part::LastWalk)),
                if self.adapter.kind == AdapterKind::Software {
                    " (a software device's memory is the host's)"
                } else {
                    ""
                }
            );
            rows.push(self.row(
                format!("spilled_{percent}_percent_x"),
                times.commit / honest.commit,
                None,
                &words,
            ));
        }
        Ok(())
    }
}
