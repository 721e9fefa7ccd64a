//! Epochs verified again: every transcript from its bits, every beacon against the log, every verdict against what the log
//! holds of it, and the standing that follows.
//!
//! How long an answer took is the network's word; that it wrote it down at once is the log's. Which model a GPU claimed then is not public, so
//! a deadline need only be one that a table which the log saw promoted has for this work.

use std::collections::HashMap;

use gangline_proof::epoch::Transcript;
use gangline_rules::{
    epochs::{DECIDING, Follows, follows},
    relabel::{self, Answer},
};
use gangline_types::{GpuId, Hash, ProofId, Standing, UnixMillis, UnixSeconds};
use gangline_wire::{api::epoch::PublicEpoch, endpoints::PublicGpuEpochs};

use super::{
    Counts, Difference, Stopped, Which,
    fetch::{Gpu, Public},
    logged::{Logged, Verdict},
    proofs::Proven,
};

/// What was seen of all epochs so far: to find one piece of work that counted twice. What suppliers did, and the network did not
/// count, makes no network disagree with itself: roots copied from others and refused, or one key for several GPUs of an owner.
#[derive(Default)]
pub struct Seen {
    /// Of epochs that were accepted.
    roots: HashMap<Hash, (ProofId, GpuId)>,
    /// Moments at which a beacon was given.
    beacons: HashMap<Hash, UnixMillis>,
}

impl Seen {
    /// Takes note of a transcript: several GPUs may share a beacon at one bell, and nothing else may be shared.
    fn take(&mut self, one: &PublicEpoch, transcript: &Transcript) -> Result<(), Difference> {
        let name = |field: &str| format!("epoch {} of {}, {field}", one.id, one.gpu);
        let root = transcript.commitment.walk;
        let before = if one.accepted { self.roots.insert(root, (one.id, one.gpu)) } else { None };
        if let Some((other, gpu)) = before.filter(|(other, _)| *other != one.id) {
            return Err(Difference::new(
                name("roots"),
                "work of its own",
                format!("those of {other} of {gpu}"),
            ));
        }
        let beacon = transcript.challenge.beacon;
        if let Some(bell) = self.beacons.insert(beacon, one.bell).filter(|bell| *bell != one.bell) {
            let found = format!("that of the bell at {} ms", bell.0);
            return Err(Difference::new(
                name("beacon"),
                format!("that of its bell at {} ms", one.bell.0),
                found,
            ));
        }
        Ok(())
    }
}

/// A GPU's epochs as published, newest first.
pub async fn listed(public: &Public, gpu: &Gpu) -> Result<Vec<PublicEpoch>, Stopped> {
    let none = Default::default();
    let mut listed = public.ask::<PublicGpuEpochs>(&[&gpu.public.id], &none, &Default::default()).await?;
    listed.sort_by_key(|one| std::cmp::Reverse((one.bell, one.id)));
    Ok(listed)
}

/// Verifies a GPU's listed epochs and the standing that follows from the last of them, and notes what they say of its rate.
pub async fn check_gpu(
    (public, which): (&Public, Which),
    logged: &Logged,
    gpu: &Gpu,
    listed: &[PublicEpoch],
    seen: &mut Seen,
    proven: &mut Proven,
    counts: &mut Counts,
) -> Result<(), Stopped> {
    let most = match which {
        Which::All => usize::MAX,
        Which::Newest => DECIDING,
        Which::None => return Ok(()),
    };
    for one in listed.iter().take(most) {
        let transcript = match one.transcript {
            true => public.epoch_transcript(one.id).await?,
            false => None,
        };
        check_one(one, gpu.public.id, transcript.as_ref(), logged, seen, counts)?;
    }
    if let Some(rates) = Rates::of(gpu, listed, logged) {
        proven.rates.insert(gpu.public.id, rates);
    }
    check_standing(gpu, listed, logged).map_err(Stopped::from)
}

fn check_one(
    one: &PublicEpoch,
    gpu: GpuId,
    transcript: Option<&Transcript>,
    logged: &Logged,
    seen: &mut Seen,
    counts: &mut Counts,
) -> Result<(), Difference> {
    let name = |field: &str| format!("epoch {} of {gpu}, {field}", one.id);
    logged.check_verdict("epoch", one.id, Verdict::published(one.gpu, one.accepted, transcript))?;
    let Some(transcript) = transcript else {
        if one.accepted {
            return Err(Difference::new(name("transcript"), "one, for it was accepted", "none"));
        }
        counts.epochs_missed += 1;
        return Ok(());
    };
    if transcript.gpu != gpu {
        return Err(Difference::new(name("gpu"), gpu, transcript.gpu));
    }
    if let (Some(deadline), Some(set)) = (one.deadline_millis, &logged.deadlines)
        && !set.contains(&(transcript.challenge.params.work(), deadline))
    {
        let expected = "one that a promoted table of calibration has for this work";
        return Err(Difference::new(name("deadline_millis"), expected, deadline));
    }
    let right = transcript.check();
    let late = one.deadline_millis.zip(one.elapsed_millis).is_some_and(|(deadline, took)| took > deadline);
    let follows = right.is_ok() && !late;
    if follows != one.accepted {
        let why = match &right {
            Err(fault) => format!(", for {fault}"),
            Ok(_) if late => ", for it came after its deadline".to_owned(),
            Ok(_) => String::new(),
        };
        return Err(Difference::new(name("accepted"), format!("{follows}{why}"), one.accepted));
    }
    if let Some(shown) = right.ok().filter(|_| one.accepted)
        && shown.memory_bytes != one.memory_bytes
    {
        return Err(Difference::new(name("memory_bytes"), shown.memory_bytes, one.memory_bytes));
    }
    match logged.beacons.get(&one.bell) {
        Some(beacon) if *beacon != transcript.challenge.beacon => {
            return Err(Difference::new(
                name("beacon"),
                format!("{beacon}, as the log says"),
                transcript.challenge.beacon,
            ));
        }
        Some(_) => {}
        None => counts.epochs_own_bell += 1,
    }
    counts.epochs += 1;
    seen.take(one, transcript)
}

/// How a bell was answered, as its published line says, and whether it was one of the network's.
fn heard(one: &PublicEpoch, logged: &Logged) -> (Answer, bool) {
    let late = one.elapsed_millis.zip(one.deadline_millis).filter(|_| one.transcript);
    let answer = match (one.accepted, late) {
        (true, _) => Answer::InTime,
        (false, Some((elapsed_millis, deadline_millis))) if elapsed_millis > deadline_millis => {
            Answer::Late { elapsed_millis, deadline_millis }
        }
        (false, _) => Answer::Missing,
    };
    (answer, logged.beacons.contains_key(&one.bell))
}

/// Epochs of one GPU that a network publishes, at most.
const LISTED_EPOCHS: usize = 100;

/// What follows from a GPU's published epochs for the rate that it is paid for.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    /// Answers to the network's bells, oldest first, and when each was judged.
    answers: Vec<(UnixSeconds, Answer)>,
    /// When a series of proofs may have begun: with it, answers before count no more.
    begins: Vec<UnixSeconds>,
    /// Whether older ones may be missing, because no more are published.
    older: bool,
}

impl Rates {
    /// Of one GPU; none where every answer that there is carries all of its rate.
    fn of(gpu: &Gpu, listed: &[PublicEpoch], logged: &Logged) -> Option<Self> {
        let answers = listed.iter().rev().filter_map(|one| {
            let (answer, network) = heard(one, logged);
            network.then_some((one.judged_at, answer))
        });
        let mut begins: Vec<UnixSeconds> = gpu.proofs.iter().map(|proof| proof.judged_at).collect();
        begins.push(UnixSeconds(0));
        let mut rates = Self { answers: answers.collect(), begins, older: listed.len() >= LISTED_EPOCHS };
        let misses = rates.answers.iter().filter(|(_, answer)| *answer != Answer::InTime).count();
        if misses < relabel::MISSES {
            // From whichever of them a rate followed, nothing was taken off. All that is left to say is where older ones decided.
            rates.begins.clear();
            rates.answers.truncate(if rates.older { relabel::BELLS } else { 0 });
            rates.answers.shrink_to_fit();
        }
        (rates.older || misses >= relabel::MISSES).then_some(rates)
    }

    /// Whether `found` can be what a GPU that showed `rate` at joining was paid for in a snapshot taken then.
    pub fn carry(&self, rate: u64, found: u64, taken_at: UnixSeconds) -> bool {
        if found >= rate {
            return found == rate;
        }
        let until = |at: UnixSeconds| self.answers.iter().filter(move |(judged_at, _)| *judged_at <= at);
        if self.older && until(taken_at).count() < relabel::BELLS {
            return true;
        }
        // A verdict is written down just before what follows from it: one or several may not have counted yet.
        (0..=2).map(|before| UnixSeconds(taken_at.0.saturating_sub(before))).any(|at| {
            self.begins.iter().any(|begin| {
                let answers: Vec<Answer> = until(at)
                    .filter(|(judged_at, _)| judged_at >= begin)
                    .map(|(_, answer)| *answer)
                    .collect();
                relabel::cut(rate, relabel::part(&answers)) == found
            })
        })
    }
}

/// Whether a standing can be what its last epochs lead to. `listed` is newest first.
fn check_standing(gpu: &Gpu, listed: &[PublicEpoch], logged: &Logged) -> Result<(), Difference> {
    let name = format!("{}, standing", gpu.public.id);
    let standing = gpu.public.standing;
    // Epochs before its last joining proof may be those of another claim.
    let joined = gpu.proofs.iter().map(|proof| proof.judged_at).max().unwrap_or_default();
    let last: Vec<&PublicEpoch> =
        listed.iter().filter(|one| one.judged_at >= joined).take(DECIDING).collect();
    let forged = last.iter().any(|one| one.finding.as_str().starts_with("wrong bits"));
    if forged && !matches!(standing, Standing::Quarantined | Standing::Retired) {
        return Err(Difference::new(name, Standing::Quarantined, standing));
    }
    let suspect = |since: UnixSeconds| {
        let since: Vec<(Answer, bool)> =
            listed.iter().rev().filter(|one| one.judged_at >= since).map(|one| heard(one, logged)).collect();
        follows(&since).0 == Follows::Suspect
    };
    if standing == Standing::Proven && suspect(joined) && suspect(UnixSeconds(0)) {
        let misses = last.iter().filter(|one| !one.accepted).count();
        let expected =
            format!("{}, for {misses} of its last {} epochs were missed", Standing::Suspect, last.len());
        return Err(Difference::new(name, expected, standing));
    }
    Ok(())
}

#[cfg(test)]
#[path = "epochs_tests.rs"]
mod tests;
