//! What cheats would pay on real devices, by arithmetic from their data sheets: the table of `docs/PROOF.md`. No device
//! is measured here; those that can be are in `heavy_proof_timing.rs`.

use gangline_proof::epoch::Params;

/// A device: 32-bit integer operations a second, random reads of 64 bytes a second (half of what its memory gives in
/// order), bytes of memory, and random reads a second from the host's memory (half of its bus).
struct Device {
    name: &'static str,
    operations: f64,
    reads: f64,
    memory: u64,
    host_reads: f64,
}

const fn device(name: &'static str, tera_operations: f64, gb_s: f64, gb: u64, bus_gb_s: f64) -> Device {
    Device {
        name,
        operations: tera_operations * 1e12,
        reads: gb_s * 1e9 / 2.0 / 64.0,
        memory: gb * 1_000_000_000,
        host_reads: bus_gb_s * 1e9 / 2.0 / 64.0,
    }
}

/// Integer rate: lanes that add 32-bit integers each clock, times the boost clock.
const DEVICES: [Device; 9] = [
    device("GTX 1060 6 GB", 2.2, 192.0, 6, 16.0),
    device("RTX 3060", 3.2, 360.0, 12, 32.0),
    device("RTX 4090", 20.6, 1008.0, 24, 32.0),
    device("RTX 5090", 52.0, 1792.0, 32, 64.0),
    device("RX 7900 XTX", 15.4, 960.0, 24, 32.0),
    device("A100 80 GB", 9.7, 2039.0, 80, 32.0),
    device("H100 PCIe", 12.8, 2000.0, 80, 64.0),
    device("H200", 16.7, 4800.0, 141, 64.0),
    device("MI300X", 41.0, 5300.0, 192, 64.0),
];

/// Operations of a double round, and of a step of the ALU chain.
const ROUND: f64 = 96.0;
const ALU_STEP: f64 = 28.0;

struct Times {
    fill: f64,
    reads: f64,
    /// All reads made anew instead.
    recomputed: f64,
    /// All reads from the host's memory instead.
    host: f64,
    alu: f64,
    /// Visits to a region in both walks.
    visits: f64,
    /// All regions fetched whole for all their visits.
    fetched: f64,
}

impl Times {
    fn of(device: &Device, params: &Params) -> Self {
        let blocks_per_second = device.operations / (f64::from(params.memory.rounds) * ROUND);
        let visits =
            2 * params.walk.segments * params.walk.steps / params.memory.regions / params.memory.stay;
        Self {
            fill: f64::from(params.memory.blocks) / blocks_per_second,
            reads: params.reads() as f64 / device.reads,
            recomputed: params.reads() as f64 / blocks_per_second,
            host: params.reads() as f64 / device.host_reads,
            alu: params.alu.total_steps() as f64 * ALU_STEP / device.operations,
            visits: f64::from(visits),
            fetched: f64::from(visits) * f64::from(params.memory.blocks) / (2.0 * device.host_reads),
        }
    }
    fn honest(&self) -> f64 {
        self.fill + self.reads + self.alu
    }
    /// A share of the memory is not held; its blocks are made when they are wanted, at the same time as the others are
    /// read: the best that can be done.
    fn recomputing(&self, share: f64) -> f64 {
        (1.0 - share) * self.fill + f64::max((1.0 - share) * self.reads, share * self.recomputed) + self.alu
    }
    /// Regions that make up a share are filled anew for every visit.
    fn refilling(&self, share: f64) -> f64 {
        (1.0 - share) * self.fill + self.reads + share * self.visits * self.fill + self.alu
    }
    /// Regions that make up a share are fetched whole from the host's memory for every visit, at all that the bus gives,
    /// while others are walked over.
    fn fetching(&self, share: f64) -> f64 {
        self.fill + f64::max(self.reads, share * self.fetched) + self.alu
    }
    /// A share lies in the host's memory and is read over the bus, at the same time as the others.
    fn spilling(&self, share: f64) -> f64 {
        self.fill + f64::max((1.0 - share) * self.reads, share * self.host) + self.alu
    }
}

/// The largest share in steps of a thousandth that is in time.
fn hidden(deadline: f64, time: impl Fn(f64) -> f64) -> f64 {
    (0..=1000)
        .map(|i| f64::from(i) / 1000.0)
        .take_while(|share| time(*share) <= deadline)
        .last()
        .unwrap_or(0.0)
}

#[test]
fn claiming_a_quarter_more_memory_is_late_on_every_device() {
    println!(
        "device | honest s (fill + walks + ALU) | never filling | hidden: not held | hidden: at the host"
    );
    for device in DEVICES {
        let params = Params::of_gpu(device.memory).check().expect("within limits");
        let times = Times::of(&device, &params);
        let deadline = 1.15 * times.honest();
        let (not_held, at_host) =
            (hidden(deadline, |s| times.recomputing(s)), hidden(deadline, |s| times.spilling(s)));
        println!(
            "{} | {:.2} ({:.2} + {:.2} + {:.2}) | {:.1} x | {:.1} % | {:.1} %",
            device.name,
            times.honest(),
            times.fill,
            times.reads,
            times.alu,
            times.recomputing(1.0) / times.honest(),
            100.0 * not_held,
            100.0 * at_host
        );
        let name = device.name;
        // Computing is at least six times as dear as reading, and the whole stays within the hour's budget.
        assert!(times.recomputed >= 6.0 * times.reads, "{name}");
        assert!((0.6..=8.0).contains(&times.honest()), "{name}: {}", times.honest());
        // Never filling, holding only four fifths, or putting a fifth elsewhere: late. A claim of 1.25 x is one of these.
        assert!(times.recomputing(1.0) > 2.0 * deadline, "{name}");
        assert!(not_held < 0.2, "{name}: {not_held}");
        assert!(at_host < 0.2, "{name}: {at_host}");
        let (refilled, fetched) =
            (hidden(deadline, |s| times.refilling(s)), hidden(deadline, |s| times.fetching(s)));
        assert!(refilled < 0.2, "{name}: {refilled}");
        assert!(fetched < 0.2, "{name}: {fetched}");
        // In between nothing is cheaper.
        assert!((200..=1000).all(|i| times.recomputing(f64::from(i) / 1000.0) > deadline), "{name}");
    }
}

/// With as few rounds and reads as were first planned, not holding the memory was the cheap way.
#[test]
fn fewer_rounds_or_reads_would_make_cheating_pay() {
    let h100 = &DEVICES[6];
    let mut params = Params::of_gpu(h100.memory);
    params.memory.rounds = 16;
    let times = Times::of(h100, &params);
    assert!(times.recomputed < 2.0 * times.reads);
    let mut params = Params::of_gpu(h100.memory);
    (params.walk.units, params.walk.segments) = (4096, 2);
    assert!(params.check().is_err());
    let times = Times::of(h100, &params);
    assert!(times.recomputing(1.0) < 0.2 * times.honest());
}
