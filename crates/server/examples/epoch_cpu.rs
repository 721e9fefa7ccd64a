//! What an epoch costs a server: its processor time from the request for a challenge to the transcript in the public
//! projection, with everything between: signatures, JSON, verifying, writes, the log, copying. The load runs in this process too, on
//! threads of another name, which are not counted.
//!
//! `cargo run --release -p gangline-server --example epoch_cpu -- [machines of eight GPUs] [rounds]`

#[path = "../tests/net/mod.rs"]
mod net;

use std::{ops::ControlFlow, time::Instant};

use anyhow::{Context, ensure};
use gangline_proof::epoch::{
    Challenge, Commitment, CpuProver, GpuKey, MemoryParams, Opening, Params, Prover,
};
use gangline_server::Config;
use gangline_types::{AdapterKind, GpuClaim, GpuId, Hash, ProofId};
use gangline_wire::{
    SigningKey,
    api::{enrol::KeyKind, epoch::*, machine::Registered},
};

const BEGIN: &str = "/api/v1/machine/epochs";
const GPUS: u8 = 8;

/// What a GPU with 24 GiB is asked, over so little memory that a processor answers it: the verifier recomputes as many steps
/// and blocks with as many rounds, and paths alone are shorter.
fn params() -> anyhow::Result<Params> {
    const REGION: u32 = 4096;
    let asked = Params::of_gpu(24 << 30);
    let MemoryParams { regions, stay, .. } = asked.memory;
    let mut small = asked;
    small.memory.blocks = REGION * regions;
    small.walk.units = (REGION / 2 / stay.max(1) / 64 * 64).max(64);
    small.alu.units = 64;
    small.check().context("the sizes of the load")
}

/// Seconds of processor time of all threads but those of the load, which have this thread's name.
fn server_seconds() -> anyhow::Result<f64> {
    let own = std::fs::read_to_string("/proc/thread-self/comm")?;
    let mut ticks = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let folder = task?.path();
        let Ok(stat) = std::fs::read_to_string(folder.join("stat")) else { continue };
        let Ok(name) = std::fs::read_to_string(folder.join("comm")) else { continue };
        if name == own {
            continue;
        }
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        ticks += fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
    }
    // A tick is a hundredth of a second on every Linux.
    Ok(ticks as f64 / 100.0)
}

struct Machine {
    key: SigningKey,
    gpus: Vec<GpuId>,
}

struct Answer {
    proof: ProofId,
    key: GpuKey,
    challenge: Challenge,
    commitment: Commitment,
    prover: CpuProver,
}

async fn machine(net: &net::Net, n: usize) -> Machine {
    let supplier = net.invite("supplier", &format!("Supplier {n}")).await;
    let key = net.enrol(&supplier, KeyKind::Machine).await;
    let mut inventory = net::inventory("llvmpipe", AdapterKind::Software);
    let claim = inventory.gpus[0].clone();
    inventory.gpus = (0..GPUS).map(|slot| GpuClaim { slot: Hash([slot + 1; 32]), ..claim.clone() }).collect();
    let registered: Registered = net.call(&key, "PUT", "/api/v1/machine/inventory", &inventory).await.json();
    let gpus: Vec<GpuId> = registered.gpus.iter().map(|gpu| gpu.gpu).collect();
    for gpu in &gpus {
        for _ in 0..3 {
            net.prove_once(&key, *gpu).await;
        }
    }
    Machine { key, gpus }
}

/// One bell of a machine's own, answered to the roots; openings are kept back.
async fn begin(net: &net::Net, machine: &Machine) -> anyhow::Result<Vec<Answer>> {
    let keys = machine.gpus.iter().map(|gpu| (*gpu, GpuKey::derive(&machine.key.seed(), *gpu)));
    let asked = keys.clone().map(|(gpu, key)| BellGpu { gpu, key: key.public() }).collect();
    let begun: EpochChallenges =
        net.call(&machine.key, "POST", BEGIN, &BellRequest { gpus: asked, unable: vec![] }).await.json();
    let mut answers = vec![];
    for (given, (_, key)) in begun.challenges.into_iter().zip(keys) {
        let mut prover = CpuProver::new();
        let commitment = prover.commit(&given.challenge, &mut |_| ControlFlow::Continue(()))?;
        answers.push(Answer { proof: given.proof, key, challenge: given.challenge, commitment, prover });
    }
    Ok(answers)
}

async fn end(net: &net::Net, machine: &Machine, answer: &mut Answer) -> anyhow::Result<(Hash, Opening)> {
    let roots = EpochCommit { commitment: answer.commitment.clone() };
    let path = format!("{BEGIN}/{}", answer.proof);
    let receipt: EpochReceipt =
        net.call(&machine.key, "POST", &format!("{path}/commit"), &roots).await.json();
    let opening = answer.prover.open(&receipt.nonce)?;
    let signature = answer.key.sign(&answer.challenge, &answer.commitment, &receipt.nonce, &opening);
    let with = EpochOpen { opening: opening.clone(), signature };
    let verdict: EpochVerdict = net.call(&machine.key, "POST", &format!("{path}/open"), &with).await.json();
    ensure!(verdict.accepted, "an honest epoch was refused: {}", verdict.finding);
    Ok((receipt.nonce, opening))
}

fn main() -> anyhow::Result<()> {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse::<usize>());
    let machines = numbers.next().transpose()?.unwrap_or(3);
    // A GPU has three bells of its own.
    let rounds = numbers.next().transpose()?.unwrap_or(3).clamp(1, 3);
    let servers = tokio::runtime::Builder::new_multi_thread().thread_name("server").enable_all().build()?;
    let load = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let config = Config { software_epoch: params()?, ..net::quick_config(folder.path()) };
    let net = servers.block_on(net::Net::start_in(folder, config));
    let all: Vec<Machine> = load.block_on(async {
        let mut all = vec![];
        for n in 0..machines {
            all.push(machine(&net, n).await);
        }
        all
    });
    let (mut count, mut spent, mut verifying, mut bytes) = (0usize, 0.0, 0.0, 0usize);
    for round in 1..=rounds {
        for machine in &all {
            let mut answers = load.block_on(begin(&net, machine))?;
            let before = server_seconds()?;
            for answer in &mut answers {
                let (nonce, opening) = load.block_on(end(&net, machine, answer))?;
                count += 1;
                let start = Instant::now();
                gangline_proof::epoch::verify(&answer.challenge, &answer.commitment, &nonce, &opening)?;
                verifying += start.elapsed().as_secs_f64();
            }
            // Until all of it is public.
            for gpu in &machine.gpus {
                let path = format!("/api/v1/public/gpus/{gpu}/epochs");
                let listed: Vec<PublicEpoch> =
                    load.block_on(net.until(&path, |all: &Vec<PublicEpoch>| all.len() == round));
                let transcript = load.block_on(net.get(&format!("/api/v1/public/epochs/{}", listed[0].id)));
                bytes += transcript.body.len();
            }
            spent += server_seconds()? - before;
        }
    }
    load.block_on(net.stop());
    let (each, verify) = (spent / count as f64, verifying / count as f64);
    println!("{count} epochs, {} bytes of transcript each", bytes / count);
    println!("verifying alone: {verify:.4} s by the clock of one core");
    println!("the server's processor time: {each:.4} s an epoch, {:.4} s beside verifying", each - verify);
    println!(
        "600,000 epochs an hour: {:.1} cores on average, {:.1} while openings come within fifteen minutes",
        each * 600_000.0 / 3_600.0,
        each * 600_000.0 / 900.0
    );
    Ok(())
}
