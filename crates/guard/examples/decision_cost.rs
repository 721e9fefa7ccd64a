//! How long a decision takes: `cargo run --release -p gangline-guard --example decision_cost`. Prints the
//! median, and the 99th of 100, over batches, in nanoseconds of one thread's time.

use std::hint::black_box;
use std::time::Instant;

use gangline_guard::{Principal, Refusal, policy, policy::on};
use gangline_types::{AccountId, ClusterId, GpuId, KeyId, MachineId};
use gangline_wire::{Action, api::account::Role};

const BATCHES: usize = 400;
const DECISIONS: u32 = 50;

fn main() {
    let began = Instant::now();
    policy::ready().expect("the policies are sound");
    println!("read and validated once: {} us", began.elapsed().as_micros());

    let (account, other) = (AccountId::from_bytes([1; 16]), AccountId::from_bytes([2; 16]));
    let (machine, sibling) = (MachineId::from_bytes([3; 16]), MachineId::from_bytes([4; 16]));
    let (key, gpu, cluster) =
        (KeyId::from_bytes([5; 16]), GpuId::from_bytes([6; 16]), ClusterId::from_bytes([7; 16]));
    let one = Principal::Machine { machine, account, key };
    let renter = Principal::CommandLine { account, role: Role::Renter, key };
    let own_gpu = on::Gpu { gpu, machine, account }.into();
    let other_gpu = on::Gpu { gpu, machine: sibling, account: other }.into();
    let own_machine = on::Machine { machine, account }.into();
    let own_cluster = on::Cluster { cluster, renter: account, machine }.into();
    let network = on::Network.into();
    for (name, who, action, what) in [
        ("anyone reads what is public", Principal::Nobody, Action::ReadPublic, network),
        ("a machine beats", one, Action::Beat, own_machine),
        ("a machine names its GPU", one, Action::LabelGpu, own_gpu),
        ("a machine names another's (hidden)", one, Action::LabelGpu, other_gpu),
        ("a machine judges (refused)", one, Action::Judge, network),
        ("a renter releases their cluster", renter, Action::ReleaseCluster, own_cluster),
    ] {
        let decide = || -> Result<&'static str, Refusal> {
            policy::decide(black_box(&who), black_box(action), black_box(&what))
        };
        let mut each_ns: Vec<u128> = (0..BATCHES)
            .map(|_| {
                let began = Instant::now();
                for _ in 0..DECISIONS {
                    let _ = black_box(decide());
                }
                began.elapsed().as_nanos() / u128::from(DECISIONS)
            })
            .collect();
        each_ns.sort_unstable();
        println!("{name}: median {} ns, 99 % below {} ns", each_ns[BATCHES / 2], each_ns[BATCHES * 99 / 100]);
    }
}
