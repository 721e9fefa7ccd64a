//! `gangline guard score`: detectors on recorded load, with a recorded breach in it and without.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use anyhow::Context;
use gangline_guard::{
    detect::{What, distinct::Salt},
    notice::{
        Raised,
        replay::{STATED, Shown, on_load, replay, with_breach},
    },
};
use gangline_types::UnixSeconds;
use serde_json::json;

use crate::problem::Problem;

/// Bytes of a recording that is read, at most.
const BYTES_MAX: u64 = 2 << 30;

/// What `score` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recorded load in which nothing is wrong.
    #[arg(value_name = "LOAD")]
    load: PathBuf,
    /// A recorded breach, to be put into the load.
    #[arg(long, value_name = "FILE")]
    breach: Option<PathBuf>,
    /// At how many places of the load it is put, one at a time.
    #[arg(long, value_name = "PLACES", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
    places: u64,
    /// The same as JSON.
    #[arg(long)]
    json: bool,
}

fn read(file: &Path) -> anyhow::Result<Vec<Shown>> {
    let cannot = || Problem::new(format!("the recording {} cannot be read", file.display()));
    let opened = std::fs::File::open(file).with_context(cannot)?;
    if opened.metadata().with_context(cannot)?.len() > BYTES_MAX {
        return Err(Problem::new(format!("the recording {} is longer than 2 GiB", file.display())).into());
    }
    let mut shown: Vec<Shown> = Vec::new();
    for (number, line) in BufReader::new(opened).lines().enumerate() {
        let line = line.with_context(cannot)?;
        let one = serde_json::from_str(&line).with_context(|| {
            Problem::new(format!("line {} of {} is not of a recording", number + 1, file.display()))
                .hint("make one with `gangline serve --record-shown FILE`")
        })?;
        shown.push(one);
    }
    if shown.is_empty() {
        return Err(Problem::new(format!("the recording {} is empty", file.display())).into());
    }
    // Requests are seen when they end, which is not quite the order in which they came.
    shown.sort_by_key(Shown::at);
    Ok(shown)
}

/// How a detector did on a breach.
#[derive(Default)]
struct OnBreach {
    noticed: u64,
    /// Seconds from the breach's beginning to the alarm, the longest.
    seconds_max: u64,
}

/// Scores.
///
/// # Errors
/// When a recording cannot be read.
pub fn main(args: &Args) -> anyhow::Result<()> {
    let salt = Salt::new(*b"a recording is scored the same. ");
    let load = read(&args.load)?;
    let breach = args.breach.as_deref().map(read).transpose()?;
    let quiet = on_load(&load, salt);
    let cried = replay(&load, salt);
    let (first, last) = (load[0].at().0, load[load.len() - 1].at().0);
    let mut noticed: BTreeMap<What, OnBreach> = BTreeMap::new();
    let mut any_seconds_max = 0;
    let mut missed = 0;
    if let Some(breach) = &breach {
        let known: Vec<_> = cried.iter().map(|t| (t.raised.alarm.what, t.raised.subject.clone())).collect();
        let takes = breach[breach.len() - 1].at().since(breach[0].at());
        let room = last.saturating_sub(first).saturating_sub(takes);
        for place in 0..args.places {
            let from = UnixSeconds(first + room * place / args.places);
            let told = replay(&with_breach(&load, breach, from), salt);
            let mut firsts: BTreeMap<What, u64> = BTreeMap::new();
            for told in told {
                let of = (told.raised.alarm.what, told.raised.subject.clone());
                if told.raised.alarm.at >= from && !known.contains(&of) {
                    firsts.entry(of.0).or_insert(told.raised.alarm.at.since(from));
                }
            }
            match firsts.values().min() {
                Some(seconds) => any_seconds_max = any_seconds_max.max(*seconds),
                None => missed += 1,
            }
            for (what, seconds) in firsts {
                let one = noticed.entry(what).or_default();
                one.noticed += 1;
                one.seconds_max = one.seconds_max.max(seconds);
            }
        }
    }
    let rows: Vec<_> = STATED
        .iter()
        .map(|(what, stated, unit)| {
            let on_load = quiet[what];
            let on_breach = noticed.get(what);
            json!({
                "alarm": what.code(),
                "load": {"trials": on_load.trials, "unit": unit, "alarms": on_load.alarms, "stated_rate": stated,
                    // With none in n, fewer than 3/n at 95 % (the rule of three).
                    "rate_below": (on_load.trials > 0 && on_load.alarms == 0).then(|| 3.0 / on_load.trials as f64)},
                "breach": breach.as_ref().map(|_| json!({
                    "noticed": on_breach.map_or(0, |b| b.noticed), "places": args.places,
                    "seconds_max": on_breach.map(|b| b.seconds_max),
                })),
            })
        })
        .collect();
    let alarms: u64 = quiet.values().map(|o| o.alarms).sum();
    if args.json {
        let whole = json!({
            "load": {"shown": load.len(), "seconds": last - first, "alarms": alarms},
            "breach": breach.as_ref().map(|b| json!({
                "shown": b.len(), "places": args.places, "missed": missed, "first_alarm_seconds_max": any_seconds_max,
            })),
            "rows": rows,
        });
        println!("{whole}");
        return Ok(());
    }
    println!("load: {} things shown in {} s, {alarms} alarms", load.len(), last - first);
    for told in &cried {
        let Raised { alarm, subject, .. } = &told.raised;
        println!(
            "  {} about {subject} after {} s: {:.3}, usually {:.3}",
            alarm.what.code(),
            alarm.at.0 - first,
            alarm.seen,
            alarm.usual
        );
    }
    if let Some(breach) = &breach {
        let of = args.places - missed;
        println!(
            "breach: {} things shown, noticed at {of} of {} places, by its first alarm within {any_seconds_max} s",
            breach.len(),
            args.places
        );
    }
    println!(
        "\n{:<16} {:>9} {:<20} {:>7} {:>10}  {:<36} noticed",
        "alarm", "trials", "", "alarms", "at 95 %", "stated"
    );
    for (row, (what, stated, unit)) in rows.iter().zip(STATED) {
        let below = row["load"]["rate_below"].as_f64().map(|r| format!("< {r:.1e}")).unwrap_or_default();
        let found = match (&breach, noticed.get(what)) {
            (None, _) => String::new(),
            (Some(_), None) => "-".into(),
            (Some(_), Some(b)) => format!("{} of {}, within {} s", b.noticed, args.places, b.seconds_max),
        };
        let counted = quiet[what];
        println!(
            "{:<16} {:>9} {unit:<20} {:>7} {below:>10}  {stated:<36} {found}",
            what.code(),
            counted.trials,
            counted.alarms
        );
    }
    Ok(())
}
