//! Rows of `gangline proof roc` that are measured in the run: on this machine's first graphics adapter where
//! there is one (a software device such as Mesa's lavapipe counts), else on the processor.
//!
//! Small samples say little about small chances: each row says how many were tried.

use std::{
    ops::ControlFlow,
    sync::{Arc, Barrier},
    time::Instant,
};

use anyhow::Context;
use gangline_proof::{
    self as matrix, MatrixParams,
    epoch::{
        ChainParams, Challenge, Commitment, CpuProver, GpuKey, MemoryParams, Opening, Params, Prover,
        ProverError, Transcript, verify,
    },
    gpu::{EpochProver, adapters},
};
use gangline_rules::{
    classify::TOLERANCE,
    robust::{Seeded, median, times},
    roc::SEED,
};
use gangline_types::{GpuId, Hash};

use super::roc::Row;

/// Pairs of identities on one device, and proofs alone beside them that the median is taken of.
const PAIRS: usize = 6;
/// Nonces that a prover who skipped a tenth of its rows is tried with.
const NONCES: u64 = 100_000;
/// The matrices in which that is tried: as many steps and opened rows as in the epoch that opens the fewest, on a side
/// whose tenth is whole.
const SKIPPED: MatrixParams = MatrixParams { n: 320, ..Params::MATRIX_LARGE };
/// The largest matrix step that the verifier's goal is about.
const LARGE: MatrixParams = MatrixParams { n: 4096, steps: 1, rows: 24 };

fn on() -> (String, bool) {
    match adapters().first() {
        Some(adapter) => (format!("{} ({})", adapter.name, adapter.kind.words()), true),
        None => ("this processor, no graphics adapter".to_owned(), false),
    }
}

fn prover(device: bool) -> anyhow::Result<Box<dyn Prover + Send>> {
    Ok(match device {
        true => Box::new(EpochProver::open(0).context("opening the first adapter")?),
        false => Box::new(CpuProver::new()),
    })
}

/// Goes on, whatever was done.
pub fn go_on(_: matrix::epoch::Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The challenge number `n` to the GPU number `n`, and that GPU's key.
pub fn challenge(params: Params, n: u8) -> (GpuKey, Challenge) {
    let key = GpuKey::derive(&[n; 32], GpuId::from_bytes([n; 16]));
    let binding = key.binding();
    (key, Challenge { params, beacon: Hash([n; 32]), binding })
}

/// Seconds of processor time that `work` took, all threads together.
pub fn cpu_seconds<T>(work: impl FnOnce() -> T) -> anyhow::Result<(f64, T)> {
    use nix::sys::resource::{UsageWho, getrusage};
    let used = || {
        let usage = getrusage(UsageWho::RUSAGE_SELF).context("asking the system for this process's time")?;
        let seconds =
            |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1_000_000.0;
        Ok::<_, anyhow::Error>(seconds(usage.user_time()) + seconds(usage.system_time()))
    };
    let before = used()?;
    let done = work();
    Ok((used()? - before, done))
}

struct Whole {
    key: GpuKey,
    challenge: Challenge,
    commitment: Commitment,
    nonce: Hash,
    opening: Opening,
    seconds: f64,
}

fn whole(prover: &mut dyn Prover, params: Params, n: u8) -> Result<Whole, ProverError> {
    let (key, challenge) = challenge(params, n);
    prover.warm_up(&params, &mut go_on)?;
    let began = Instant::now();
    let commitment = prover.commit(&challenge, &mut go_on)?;
    let seconds = began.elapsed().as_secs_f64();
    let nonce = Hash([n ^ 0x55; 32]);
    let opening = prover.open(&nonce)?;
    Ok(Whole { key, challenge, commitment, nonce, opening, seconds })
}

impl Whole {
    fn holds(&self) -> bool {
        verify(&self.challenge, &self.commitment, &self.nonce, &self.opening).is_ok()
    }
}

/// Bytes of a signed transcript as JSON, after a check of it.
pub fn transcript_bytes(
    key: &GpuKey,
    challenge: Challenge,
    commitment: Commitment,
    nonce: Hash,
    opening: Opening,
) -> anyhow::Result<usize> {
    let signature = key.sign(&challenge, &commitment, &nonce, &opening);
    // The number of the GPU is that of its beacon.
    let gpu = GpuId::from_bytes([challenge.beacon.0[0]; 16]);
    let whole = Transcript::new(gpu, key.public(), challenge, commitment, nonce, opening, signature);
    whole.check().context("a transcript made here does not hold")?;
    Ok(serde_json::to_vec(&whole).context("writing a transcript")?.len())
}

/// Everything that is measured; `say` is told what is being done.
pub fn rows(say: &dyn Fn(&str)) -> anyhow::Result<Vec<Row>> {
    let (name, device) = on();
    let here = |words: &str| format!("measured on {name}: {words}");
    let mut rows = vec![];

    say("two identities on one device");
    let (shared, alone_millis) = shared(device)?;
    rows.push(Row::new(
        "shared_device_accepted",
        shared as f64 / PAIRS as f64,
        Some(0.001),
        &here(&format!(
            "{shared} of {PAIRS} pairs where both answered within 1.15 x the median of {PAIRS} alone ({alone_millis} ms)"
        )),
    ));

    say("skipped rows");
    let accepted = skipped()?;
    rows.push(Row::new(
        "skip10_accepted",
        accepted as f64 / NONCES as f64,
        Some(0.0012),
        &format!(
            "measured: {accepted} of {NONCES} nonces missed every skipped row of {} steps with {} opened each, the fewest of an epoch; seed {SEED}",
            SKIPPED.steps, SKIPPED.rows
        ),
    ));

    say("shortcuts");
    let (tried, accepted) = shortcuts()?;
    rows.push(Row::new(
        "shortcuts_accepted",
        accepted as f64,
        Some(0.0),
        &format!("measured: {accepted} of {tried} replays, other keys, other beacons, other nonces, rows without a product and flipped bits"),
    ));

    say("an epoch, and its verification");
    let mut one = prover(device)?;
    let epoch = whole(one.as_mut(), Params::SOFTWARE, 7)?;
    rows.push(Row::new(
        "gpu_seconds_per_hour",
        epoch.seconds,
        Some(10.0),
        &here("one epoch an hour, from challenge to the last root"),
    ));
    let (seconds, holds) = cpu_seconds(|| epoch.holds())?;
    anyhow::ensure!(holds, "an honest epoch was refused");
    rows.push(Row::new(
        "verify_cpu_s",
        seconds,
        Some(0.1),
        "measured on this processor: one epoch without matrices",
    ));
    let joined = whole(one.as_mut(), Params::SOFTWARE.with_matrix(Params::MATRIX), 8)?;
    rows.push(Row::new(
        "transcript_bytes",
        transcript_bytes(&joined.key, joined.challenge, joined.commitment, joined.nonce, joined.opening)?
            as f64,
        Some(1_200_000.0),
        "measured: an epoch with a matrix chain, as JSON",
    ));

    say("a product of 4,096, and its verification");
    let mut params = Params::SOFTWARE;
    params.memory = MemoryParams::whole(1024, 8);
    params.walk = ChainParams { units: 64, segments: 1, steps: 64, opened: 8 };
    let large = whole(one.as_mut(), params.with_matrix(LARGE), 9)?;
    let small = whole(one.as_mut(), params, 9)?;
    let (with, holds) = cpu_seconds(|| large.holds())?;
    anyhow::ensure!(holds, "an honest product was refused");
    let (without, _) = cpu_seconds(|| small.holds())?;
    rows.push(Row::new(
        "verify_cpu_matrix_s",
        seconds + (with - without).max(0.0),
        Some(0.5),
        "measured on this processor: the epoch above with one matrix step of n = 4096",
    ));
    Ok(rows)
}

/// Pairs of identities on one device that both passed, and the median alone in milliseconds.
fn shared(device: bool) -> anyhow::Result<(usize, u64)> {
    // Alone and shared take turns, so that whatever else this machine does slows both alike.
    let (mut alone, mut slower_of_pair) = (vec![], vec![]);
    for pair in 0..PAIRS {
        let mut one = prover(device)?;
        alone.push((whole(one.as_mut(), Params::SOFTWARE, pair as u8 + 1)?.seconds * 1000.0) as u64);
        drop(one);
        let bell = Arc::new(Barrier::new(2));
        let identities: Vec<_> = (0..2)
            .map(|which| {
                let bell = Arc::clone(&bell);
                std::thread::spawn(move || -> anyhow::Result<u64> {
                    let opened = prover(device);
                    let (_, challenge) = challenge(Params::SOFTWARE, (2 * pair + which) as u8);
                    let ready = opened.and_then(|mut one| {
                        one.warm_up(&challenge.params, &mut go_on)?;
                        Ok(one)
                    });
                    // Both come to the bell, whatever happened, or the other would wait for ever.
                    bell.wait();
                    let began = Instant::now();
                    ready?.commit(&challenge, &mut go_on)?;
                    Ok(began.elapsed().as_millis() as u64)
                })
            })
            .collect();
        let mut slower = 0;
        for identity in identities {
            let took = identity.join().map_err(|_| anyhow::anyhow!("an identity's prover panicked"))??;
            slower = took.max(slower);
        }
        slower_of_pair.push(slower);
    }
    // There is no way to a server and back here, so nothing is allowed for it.
    let median_millis = median(&alone).unwrap_or(0);
    let deadline = times(median_millis, TOLERANCE);
    Ok((slower_of_pair.iter().filter(|took| **took <= deadline).count(), median_millis))
}

/// Nonces that would let a prover pass who skipped a tenth of the rows of every step.
fn skipped() -> anyhow::Result<u64> {
    use matrix::Prover as _;
    let challenge = matrix::Challenge { params: SKIPPED, beacon: Hash([3; 32]), binding: Hash([4; 32]) };
    let mut prover = matrix::CpuProver::new();
    let commitment = prover.commit(&challenge, &mut |_| ())?;
    // Rows are drawn from the nonce, the roots and y. One y will do: which rows a nonce draws follows from none of them alone.
    let opening = prover.open(&Hash([5; 32]))?;
    let mut rng = Seeded(SEED);
    let mut rows: Vec<u32> = (0..SKIPPED.n).collect();
    let mut accepted = 0;
    for _ in 0..NONCES {
        let mut nonce = Hash::default();
        for eight in nonce.0.chunks_exact_mut(8) {
            eight.copy_from_slice(&rng.bits().to_le_bytes());
        }
        let drawn = matrix::drawn_rows(&challenge, &commitment, &nonce, &opening);
        // Others each time.
        rng.shuffle(&mut rows);
        let skipped = &rows[..SKIPPED.n as usize / 10];
        accepted += u64::from(!drawn.iter().flatten().any(|row| skipped.contains(row)));
    }
    Ok(accepted)
}

/// How many false transcripts were tried, and how many were accepted.
fn shortcuts() -> anyhow::Result<(usize, usize)> {
    let chain = ChainParams { units: 64, segments: 2, steps: 32, opened: 8 };
    let memory = MemoryParams::whole(1024, 8);
    let params =
        Params { memory, walk: chain, alu: chain, matrix: Some(MatrixParams { n: 64, steps: 2, rows: 8 }) };
    let mut prover = CpuProver::new();
    let (own, other) = (whole(&mut prover, params, 1)?, whole(&mut prover, params, 2)?);
    anyhow::ensure!(own.holds() && other.holds(), "an honest transcript was refused");
    let (mut tried, mut accepted) = (0, 0);
    let mut attempt = |challenge: &Challenge, commitment: &Commitment, nonce: &Hash, opening: &Opening| {
        tried += 1;
        accepted += usize::from(verify(challenge, commitment, nonce, opening).is_ok());
    };
    // A replay under another beacon, another key, another nonce; another's commitment or opening.
    let replayed = Challenge { beacon: other.challenge.beacon, ..own.challenge };
    let taken = Challenge { binding: other.challenge.binding, ..own.challenge };
    for challenge in [&replayed, &taken, &other.challenge] {
        attempt(challenge, &own.commitment, &own.nonce, &own.opening);
    }
    attempt(&own.challenge, &own.commitment, &other.nonce, &own.opening);
    attempt(&own.challenge, &other.commitment, &own.nonce, &own.opening);
    attempt(&own.challenge, &own.commitment, &own.nonce, &other.opening);
    // `y = A(B r)` costs no product; the rows that should be there are not.
    let mut empty = own.opening.clone();
    for step in &mut empty.matrix {
        step.rows.fill(0);
    }
    attempt(&own.challenge, &own.commitment, &own.nonce, &empty);
    let mut rng = Seeded(SEED);
    for _ in 0..400 {
        let mut forged = own.opening.clone();
        let chain = match rng.below(3) {
            0 => &mut forged.walk,
            1 => &mut forged.alu,
            _ => &mut forged.last_walk,
        };
        let at = rng.below(chain.states.len());
        chain.states[at] ^= 1 << rng.below(32);
        attempt(&own.challenge, &own.commitment, &own.nonce, &forged);
        let mut forged = own.opening.clone();
        let step = rng.below(forged.matrix.len());
        let rows = &mut forged.matrix[step].rows;
        let at = rng.below(rows.len());
        rows[at] ^= 1 << rng.below(32);
        attempt(&own.challenge, &own.commitment, &own.nonce, &forged);
    }
    Ok((tried, accepted))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the run must not flatter: the arithmetic of the fewest rows that an epoch opens, which are drawn without
    /// replacement and so come to a little less than `0.9^65`.
    #[test]
    fn a_tenth_skipped_passes_as_often_as_the_arithmetic_says() {
        let opened = |of: MatrixParams| of.steps * of.rows;
        assert!(opened(Params::MATRIX) >= opened(SKIPPED));
        let (n, skipped) = (f64::from(SKIPPED.n), f64::from(SKIPPED.n / 10));
        let missed: f64 = (0..SKIPPED.rows).map(f64::from).map(|i| (n - skipped - i) / (n - i)).product();
        let exact = missed.powi(SKIPPED.steps as i32);
        let got = super::skipped().unwrap() as f64 / NONCES as f64;
        let sigma = (exact * (1.0 - exact) / NONCES as f64).sqrt();
        assert!((got - exact).abs() <= 5.0 * sigma, "{got} against {exact}");
    }

    #[test]
    fn no_shortcut_passes() {
        let (tried, accepted) = shortcuts().unwrap();
        assert!(tried > 800);
        assert_eq!(accepted, 0);
    }
}
