//! `gangline verify uptime`: follows the hash-chain behind every GPU's uptime to its signed tip and counts the
//! credited minutes against it. More minutes than beats were shown is uptime that somebody made up, the network's
//! operator included. Works from a network or, with no network at all, from a file saved from one; of either it holds one GPU at a time.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use gangline_types::{
    GpuId, Hour, Minute, UptimeHour,
    public::{PublicChain, PublicUptime},
};
use gangline_wire::{
    PublicKey,
    api::public::UptimeQuery,
    beat::{Preimage, chain},
    endpoints::{PublicGpuChains, PublicGpuUptime},
};
use serde::{Deserialize, Serialize};

use super::{
    Difference, Stopped,
    fetch::Public,
    saved::{self, Saving},
};
use crate::{
    inert::inert_line,
    problem::{Problem, USAGE},
};

/// What `verify uptime` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server, for example `http://127.0.0.1:7700`, or a file saved with --save.
    #[arg(value_name = "URL|FILE")]
    from: String,
    /// Only this GPU.
    #[arg(long, value_name = "GPU")]
    gpu: Option<GpuId>,
    /// Save what was published to this file, to be checked anywhere and later.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Print the result as JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// All that is published of one GPU's uptime.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Published {
    /// The GPU.
    pub gpu: GpuId,
    /// Its hours.
    pub hours: Vec<PublicUptime>,
    /// The chains behind them.
    pub chains: Vec<PublicChain>,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// GPUs.
    pub gpus: usize,
    /// Chains followed to their tips.
    pub chains: usize,
    /// Minutes that stand on a chain.
    pub minutes: u64,
    /// Of those, minutes that no value has shown yet: a machine of several GPUs shows their chains in turn.
    pub minutes_unshown: u64,
    /// Minutes that stand on a signed report alone, or on nothing from before there were chains.
    pub minutes_unchained: u64,
    /// GPUs whose uptime key changed.
    pub keys_changed: usize,
}

/// Minutes that a turn of 64 GPUs may be behind, at the end of any hour: a machine that went off had no time to show the
/// others. So much, over its whole life, a GPU may be credited with nobody beating for it, and it is told.
const TURN_MAX: u64 = 63;

fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    if hex.len() != 2 * N || !hex.is_ascii() {
        return None;
    }
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(out)
}

/// Follows one chain; gives how many beats it had shown by the end of each hour.
fn follow(gpu: GpuId, chain: &PublicChain) -> Result<BTreeMap<Hour, u64>, Difference> {
    let name = |what: &str| format!("{gpu}, chain from minute {}, {what}", chain.starts);
    let differs = |what: &str, expected: &str, found: &str| Difference::new(name(what), expected, found);
    let tip = bytes(&chain.tip).map(Preimage).ok_or_else(|| differs("tip", "16 bytes in hex", &chain.tip))?;
    let key = PublicKey::from_bytes(&chain.public_key.0)
        .map_err(|e| differs("public_key", "an Ed25519 key", &e.to_string()))?;
    let signature: Option<[u8; 64]> = bytes(&chain.signature);
    if !signature.is_some_and(|s| key.verifies_alike(&chain::signed_bytes(gpu, chain.starts, tip), &s)) {
        return Err(differs("signature", "that of its uptime key", "another"));
    }
    let (mut value, mut count, mut hour) = (tip, 0, None);
    let mut shown = BTreeMap::new();
    for link in &chain.links {
        let what = format!("hour {}", link.hour);
        if hour.is_some_and(|before| link.hour <= before) || link.count > chain::LINKS_MAX {
            return Err(differs(&what, "hours in order, each once", "another order"));
        }
        let next = bytes(&link.preimage)
            .map(Preimage)
            .ok_or_else(|| differs(&what, "16 bytes in hex", &link.preimage))?;
        // Beats for an hour's minutes may come after those for the next hour's: then that one has shown more.
        let fits = if link.count >= count {
            next.back(link.count - count) == value
        } else {
            value.back(count - link.count) == next
        };
        if !fits {
            let expected =
                format!("a value that leads to the one before it in {} steps", link.count.abs_diff(count));
            return Err(differs(&what, &expected, "one that does not"));
        }
        if link.count >= count {
            (value, count) = (next, link.count);
        }
        hour = Some(link.hour);
        shown.insert(link.hour, u64::from(count));
    }
    Ok(shown)
}

/// Checks one GPU's uptime against its chains.
///
/// # Errors
/// The first place where more is credited than was shown, or a chain does not hold.
pub fn check(published: &Published, counted: &mut Counted) -> Result<(), Difference> {
    let Published { gpu, hours, chains } = published;
    counted.gpus += 1;
    let mut shown: Vec<BTreeMap<Hour, u64>> = Vec::with_capacity(chains.len());
    for chain in chains {
        shown.push(follow(*gpu, chain)?);
        counted.chains += 1;
    }
    counted.keys_changed +=
        usize::from(chains.windows(2).any(|pair| pair[0].public_key != pair[1].public_key));
    let starts = chains.iter().map(|c| c.starts).min().unwrap_or(Minute(u32::MAX));
    let mut ordered: Vec<&PublicUptime> = hours.iter().collect();
    ordered.sort_unstable_by_key(|h| h.hour);
    let mut sum = 0u64;
    let mut unshown = 0;
    for hour in ordered {
        let all = hour.bits.minutes();
        let chained = UptimeHour(hour.bits.0 & !hour.unchained.0);
        let on_chain = chained.minutes_within(hour.hour, starts, Minute(u32::MAX));
        counted.minutes_unchained += u64::from(all - on_chain);
        counted.minutes += u64::from(on_chain);
        sum += u64::from(on_chain);
        let capacity: u64 =
            shown.iter().map(|s| s.range(..=hour.hour).next_back().map_or(0, |(_, count)| *count)).sum();
        unshown = sum.saturating_sub(capacity);
        if unshown > TURN_MAX {
            return Err(Difference::new(
                format!("{gpu}, minutes on a chain up to hour {}", hour.hour),
                format!("at most {capacity}, for so many beats were shown, and a turn of {TURN_MAX}"),
                sum,
            ));
        }
    }
    counted.minutes_unshown += unshown;
    Ok(())
}

/// GPUs as they come: each is saved where that is asked, and checked until one differs.
struct Check {
    only: Option<GpuId>,
    counted: Counted,
    difference: Option<Difference>,
    saving: Option<Saving>,
}

impl Check {
    fn wants(&self, gpu: GpuId) -> bool {
        self.only.is_none_or(|only| only == gpu)
    }

    fn take(&mut self, published: &Published) -> anyhow::Result<()> {
        if let Some(saving) = &mut self.saving {
            saving.add(published)?;
        }
        if self.difference.is_none() {
            self.difference = check(published, &mut self.counted).err();
        }
        Ok(())
    }

    /// Whether no other GPU would change what is said.
    fn is_over(&self) -> bool {
        self.saving.is_none() && self.difference.is_some() || self.only.is_some() && self.counted.gpus > 0
    }
}

/// Asks for one GPU after another.
async fn fetch(public: &Public, check: &mut Check) -> anyhow::Result<()> {
    let mut after = None;
    loop {
        let page = public.gpus(after).await.map_err(not_asked)?;
        for gpu in page.gpus.iter().map(|gpu| gpu.id) {
            if check.wants(gpu) {
                check.take(&published(public, gpu).await.map_err(not_asked)?)?;
            }
            if check.is_over() {
                return Ok(());
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

async fn published(public: &Public, gpu: GpuId) -> Result<Published, Stopped> {
    let span = UptimeQuery::default();
    // Chains last: what they have shown by then covers the minutes read before.
    let hours = public.ask::<PublicGpuUptime>(&[&gpu], &span, &Default::default()).await?.hours;
    let chains = public.ask::<PublicGpuChains>(&[&gpu], &span, &Default::default()).await?;
    Ok(Published { gpu, hours, chains })
}

fn not_asked(stopped: Stopped) -> anyhow::Error {
    match stopped {
        Stopped::CouldNotAsk(why) => {
            let what = "could not ask for everything, so nothing is said about the network";
            why.context(Problem::new(what).code(USAGE))
        }
        Stopped::Differs(found) => Problem::new(inert_line(&found.name)).into(),
    }
}

/// Checks uptime.
///
/// # Errors
/// When it differs (exit code 1) or could not be asked or read (exit code 2).
pub fn main(args: &Args) -> anyhow::Result<()> {
    let saving = args.save.as_deref().map(Saving::begin).transpose()?;
    let mut check = Check { only: args.gpu, counted: Counted::default(), difference: None, saving };
    if args.from.starts_with("http://") || args.from.starts_with("https://") {
        let public = Public::new(&args.from)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(fetch(&public, &mut check))?;
    } else {
        // To its end, whatever it says first: half a file is none.
        saved::read(Path::new(&args.from), &mut |one| {
            if check.wants(one.gpu) { check.take(&one) } else { Ok(()) }
        })?;
    }
    let Check { counted, difference, saving, .. } = check;
    saving.map_or(Ok(()), Saving::end)?;
    if args.json {
        let report = serde_json::json!({"from": args.from, "agrees": difference.is_none(), "difference": difference, "checked": counted});
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!(
            "{} minutes of {} GPUs stand on {} chains, {} of them not shown yet; {} stand on no chain",
            counted.minutes, counted.gpus, counted.chains, counted.minutes_unshown, counted.minutes_unchained
        );
        if counted.keys_changed > 0 {
            println!("note: the uptime key of {} GPUs changed", counted.keys_changed);
        }
    }
    match difference {
        None => Ok(()),
        Some(found) => Err(Problem::new(format!(
            "uptime was credited that nobody beat for: {}: expected {}, found {}",
            inert_line(&found.name),
            inert_line(&found.expected),
            inert_line(&found.found)
        ))
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gangline_types::{Hash, public::PublicLink};
    use gangline_wire::{SigningKey, beat::Chain};
    use zeroize::Zeroizing;

    const START: u32 = 600;

    fn gpu() -> GpuId {
        GpuId::from_bytes([1; 16])
    }

    /// A chain that has shown so many beats by the end of each hour.
    fn chain(seed: u8, starts: u32, shown: &[(u32, u16)]) -> PublicChain {
        let key = SigningKey::from_seed(&Zeroizing::new([9; 32]));
        let chain = Chain::from_seed([seed; 32]);
        let signature = key.sign(&chain::signed_bytes(gpu(), Minute(starts), chain.tip()));
        PublicChain {
            starts: Minute(starts),
            tip: chain.tip().to_string(),
            public_key: Hash(*key.public().as_bytes()),
            signature: signature.iter().map(|b| format!("{b:02x}")).collect(),
            links: shown
                .iter()
                .map(|(hour, count)| PublicLink {
                    hour: Hour(*hour),
                    count: *count,
                    preimage: chain.value(*count).to_string(),
                })
                .collect(),
        }
    }

    fn hour(hour: u32, minutes: u32) -> PublicUptime {
        let bits = UptimeHour((1u64 << minutes) - 1);
        PublicUptime { hour: Hour(hour), bits, late: UptimeHour::default(), unchained: UptimeHour::default() }
    }

    fn checked(hours: Vec<PublicUptime>, chains: Vec<PublicChain>) -> Result<Counted, Difference> {
        let mut counted = Counted::default();
        check(&Published { gpu: gpu(), hours, chains }, &mut counted).map(|()| counted)
    }

    #[test]
    fn as_many_minutes_as_beats_and_not_one_more() {
        let chains = vec![chain(1, START, &[(10, 60), (11, 90), (12, 120)])];
        let counted = checked(vec![hour(10, 60), hour(11, 30), hour(12, 30)], chains.clone()).unwrap();
        assert_eq!((counted.minutes, counted.chains, counted.minutes_unshown), (120, 1, 0));
        // A turn may be behind, and is told; it is so much in all, not so much again.
        let behind = vec![hour(10, 60), hour(11, 60), hour(12, 60), hour(13, 3)];
        assert_eq!(checked(behind, chains.clone()).unwrap().minutes_unshown, 63);
        // Fewer is no lie: a beat may have been lost on its way.
        assert!(checked(vec![hour(10, 10), hour(12, 30)], chains.clone()).is_ok());
        let found =
            checked(vec![hour(10, 60), hour(11, 60), hour(12, 60), hour(13, 4)], chains.clone()).unwrap_err();
        assert!(found.name.contains("hour 13") && found.found == "184", "{found:?}");
        // Without a chain nothing may be said to stand on one.
        assert_eq!(checked(vec![hour(10, 60)], vec![]).unwrap().minutes_unchained, 60);
    }

    #[test]
    fn a_second_chain_adds_its_own() {
        let chains = vec![chain(1, START, &[(10, 30)]), chain(2, START + 30, &[(10, 30), (11, 60)])];
        assert!(checked(vec![hour(10, 60), hour(11, 30)], chains.clone()).is_ok());
        assert!(checked(vec![hour(10, 60), hour(11, 60), hour(12, 34)], chains).is_err());
    }

    #[test]
    fn a_chain_that_does_not_hold_is_named() {
        let good = chain(1, START, &[(10, 60), (11, 90)]);
        let check = |spoil: fn(&mut PublicChain), what: &str| {
            let mut bad = good.clone();
            spoil(&mut bad);
            let found = checked(vec![hour(10, 60)], vec![bad]).unwrap_err();
            assert!(found.name.contains(what), "{found:?}");
        };
        check(|c| c.links[1].count += 1, "hour 11");
        check(|c| c.links[1].preimage = c.links[0].preimage.clone(), "hour 11");
        check(|c| c.links[0].preimage = "zz".into(), "hour 10");
        check(|c| c.links.swap(0, 1), "hour 10");
        check(|c| c.starts = Minute(START - 1), "signature");
        check(|c| c.tip = "00".repeat(16), "signature");
        check(|c| c.signature.clear(), "signature");
        check(|c| c.public_key = Hash([2; 32]), "chain from minute");
    }

    #[test]
    fn minutes_without_a_chain_are_counted_apart() {
        let mut reported = hour(10, 60);
        reported.unchained = UptimeHour(reported.bits.0 & !1);
        let counted = checked(vec![reported], vec![chain(1, START, &[(10, 1)])]).unwrap();
        assert_eq!((counted.minutes, counted.minutes_unchained), (1, 59));
    }
}
