//! Proofs verified again, one by one, from their published transcripts.
//!
//! Says whether the bits are right and which rate they show. Whether that rate carries what a GPU
//! claimed at the time is not checked: past claims are not public.

use std::collections::BTreeMap;

use gangline_proof::Rejection;
use gangline_rules::standing::{JOINING_PASSES, Shown};
use gangline_types::{
    GpuId, Hash, Profile, ProofId, Standing, UnixSeconds,
    public::{PublicEntry, PublicProof, PublicSnapshot},
};
use gangline_wire::api::proof::Transcript;

use super::{
    Counts, Difference, Stopped, Which,
    epochs::Rates,
    fetch::{Gpu, Public},
    logged::{Logged, Verdict},
};

/// A network publishes at least this many proofs of a GPU; where fewer are listed, these are all.
const LISTED_PROOFS_MIN: usize = 50;

/// What one verified transcript shows.
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Whose it is.
    pub gpu: GpuId,
    /// Whether the network accepted it.
    pub accepted: bool,
    /// When it was judged.
    pub judged_at: UnixSeconds,
    /// Its profile where its bits are right.
    pub profile: Option<Profile>,
}

/// All verified transcripts.
#[derive(Debug, Default)]
pub struct Proven {
    /// By proof.
    pub checked: BTreeMap<ProofId, Checked>,
    of_gpu: BTreeMap<GpuId, Vec<ProofId>>,
    beacons: BTreeMap<Hash, ProofId>,
    /// What GPUs' epochs say of the rate that each is paid for, where that is anything.
    pub rates: BTreeMap<GpuId, Rates>,
    /// Of these GPUs every proof was verified.
    complete: std::collections::BTreeSet<GpuId>,
}

/// How many of a GPU's listed proofs are verified, the newest first.
pub fn most(which: Which) -> usize {
    match which {
        Which::All => usize::MAX,
        Which::Newest => 1,
        Which::None => 0,
    }
}

/// Verifies the proofs listed of one GPU.
pub async fn check_gpu(
    (public, which): (&Public, Which),
    logged: &Logged,
    gpu: &Gpu,
    proven: &mut Proven,
    counts: &mut Counts,
) -> Result<(), Stopped> {
    for listed in gpu.proofs.iter().take(most(which)) {
        let transcript = public.transcript(listed.id).await?;
        let published = Verdict::published(gpu.public.id, listed.accepted, transcript.as_ref());
        logged.check_verdict("proof", listed.id, published)?;
        let Some(transcript) = transcript else {
            if listed.accepted {
                let name = format!("proof {} of {}, transcript", listed.id, gpu.public.id);
                return Err(Difference::new(name, "a transcript, for it was accepted", "none").into());
            }
            counts.proofs_unanswered += 1;
            continue;
        };
        agrees_with_list(listed, &transcript)?;
        check_transcript(listed.id, &transcript, proven, counts)?;
    }
    if which == Which::All && gpu.proofs.len() < LISTED_PROOFS_MIN {
        proven.complete.insert(gpu.public.id);
    }
    Ok(())
}

/// Verifies a proof that a snapshot's entry of this GPU names, and that is not among those listed. One that was never answered has
/// nothing to verify: it can decide a standing too.
pub async fn check_older(
    public: &Public,
    logged: &Logged,
    (gpu, proof): (GpuId, ProofId),
    proven: &mut Proven,
    counts: &mut Counts,
) -> Result<(), Stopped> {
    let transcript = public.transcript(proof).await?;
    let accepted = transcript.as_ref().is_some_and(|whole| whole.accepted);
    logged.check_verdict("proof", proof, Verdict::published(gpu, accepted, transcript.as_ref()))?;
    if let Some(transcript) = transcript {
        check_transcript(proof, &transcript, proven, counts)?;
    }
    Ok(())
}

/// Whether the proof that an entry of a snapshot names carries the entry.
pub fn check_entry(
    head: &PublicSnapshot,
    entry: &PublicEntry,
    which: Which,
    proven: &Proven,
) -> Result<(), Difference> {
    let name =
        |field: &str| format!("snapshot {} of season {}, {}, {field}", head.period, head.season, entry.gpu);
    if which == Which::None {
        return Ok(());
    }
    let Some(proof) = entry.proof else {
        if entry.standing == Standing::Proven {
            return Err(Difference::new(name("proof"), "the proof it stands on", "none"));
        }
        return Ok(());
    };
    let Some(checked) = proven.checked.get(&proof) else {
        if which == Which::All && entry.standing == Standing::Proven {
            return Err(Difference::new(name("proof"), format!("the transcript of {proof}"), "none"));
        }
        return Ok(());
    };
    if checked.gpu != entry.gpu {
        return Err(Difference::new(
            name("proof"),
            format!("a proof of {}", entry.gpu),
            format!("one of {}", checked.gpu),
        ));
    }
    if checked.judged_at > head.taken_at {
        let found = format!("{proof}, judged at {}", checked.judged_at);
        return Err(Difference::new(name("proof"), format!("one judged by {}", head.taken_at), found));
    }
    if entry.standing == Standing::Proven || entry.weight > 0 {
        carries(head, entry, checked, proven)
            .map_err(|(field, expected, found)| Difference::new(name(field), expected, found))?;
    }
    Ok(())
}

/// Whether what was verified carries a proven entry: its own proof, and as many as joining asks for.
fn carries(
    head: &PublicSnapshot,
    entry: &PublicEntry,
    own: &Checked,
    proven: &Proven,
) -> Result<(), (&'static str, String, String)> {
    let of_gpu = || {
        let proofs = proven.of_gpu.get(&entry.gpu).into_iter().flatten();
        proofs
            .filter_map(|proof| proven.checked.get(proof))
            .filter(|checked| checked.judged_at <= head.taken_at)
    };
    let rate = own.profile.map_or(0, |profile| profile.matrix_mmacs);
    if !own.accepted || own.profile.is_none() {
        return Err(("standing", "not proven, for its proof was refused".into(), entry.standing.to_string()));
    }
    let carried = match proven.rates.get(&entry.gpu) {
        Some(rates) => rates.carry(rate, entry.matrix_mmacs, head.taken_at),
        None => entry.matrix_mmacs == rate,
    };
    if !carried {
        let expected = format!("{rate}, or the part of it that the network's bells have shown");
        return Err(("matrix_mmacs", expected, entry.matrix_mmacs.to_string()));
    }
    if of_gpu().any(|checked| checked.profile.is_none()) {
        return Err(("standing", Standing::Quarantined.to_string(), entry.standing.to_string()));
    }
    // The entry's proof is the slowest of those that passed.
    let passes = of_gpu()
        .filter(|checked| {
            checked.accepted && checked.profile.is_some_and(|profile| profile.matrix_mmacs >= rate)
        })
        .count();
    if passes < JOINING_PASSES && proven.complete.contains(&entry.gpu) {
        let expected =
            format!("{} while only {passes} of {JOINING_PASSES} proofs passed", Standing::Unproven);
        return Err(("standing", expected, entry.standing.to_string()));
    }
    Ok(())
}

fn agrees_with_list(listed: &PublicProof, transcript: &Transcript) -> Result<(), Difference> {
    let name = |field: &str| format!("proof {}, {field}", listed.id);
    let same = |field: &str, listed: String, transcript: String| {
        if listed == transcript { Ok(()) } else { Err(Difference::new(name(field), transcript, listed)) }
    };
    same("gpu", listed.gpu.to_string(), transcript.gpu.to_string())?;
    same("judged_at", listed.judged_at.to_string(), transcript.judged_at.to_string())?;
    same("accepted", listed.accepted.to_string(), transcript.accepted.to_string())?;
    same("elapsed_millis", listed.elapsed_millis.to_string(), transcript.elapsed_millis.to_string())?;
    if !listed.accepted {
        return Ok(());
    }
    let profile = shown(transcript).profile();
    same("matrix_mmacs", listed.profile.matrix_mmacs.to_string(), profile.matrix_mmacs.to_string())?;
    same("memory_bytes", listed.profile.memory_bytes.to_string(), profile.memory_bytes.to_string())
}

/// What a transcript shows if its bits are right.
fn shown(transcript: &Transcript) -> Shown {
    let params = &transcript.challenge.params;
    Shown {
        macs: params.macs(),
        memory_bytes: params.memory_bytes(),
        elapsed_millis: transcript.elapsed_millis,
    }
}

fn check_transcript(
    asked: ProofId,
    transcript: &Transcript,
    proven: &mut Proven,
    counts: &mut Counts,
) -> Result<(), Difference> {
    let name = |field: &str| format!("proof {asked}, {field}");
    if transcript.proof != asked {
        return Err(Difference::new(name("id"), asked, transcript.proof));
    }
    if let Some(other) =
        proven.beacons.insert(transcript.challenge.beacon, asked).filter(|other| *other != asked)
    {
        return Err(Difference::new(name("beacon"), "a fresh one", format!("that of {other}")));
    }
    match transcript.check_signature() {
        Ok(is_signed) => counts.proofs_signed += usize::from(is_signed),
        Err(why) => {
            return Err(Difference::new(name("signature"), "that of the GPU's key over the proof", why));
        }
    }
    let verified = gangline_proof::verify(
        &transcript.challenge,
        &transcript.commitment,
        &transcript.nonce,
        &transcript.opening,
    );
    let profile = match verified {
        Ok(_) => Some(shown(transcript).profile()),
        Err(rejection) if transcript.accepted => {
            return Err(Difference::new(name("accepted"), format!("false, for {}", why(&rejection)), true));
        }
        Err(_) => None,
    };
    counts.proofs += 1;
    let (gpu, accepted, judged_at) = (transcript.gpu, transcript.accepted, transcript.judged_at);
    if proven.checked.insert(asked, Checked { gpu, accepted, judged_at, profile }).is_none() {
        proven.of_gpu.entry(gpu).or_default().push(asked);
    }
    Ok(())
}

fn why(rejection: &Rejection) -> String {
    format!("{rejection} ({})", rejection.code())
}
