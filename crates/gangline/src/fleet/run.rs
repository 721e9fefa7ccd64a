//! `gangline fleet run`: drives simulated machines against a server, and tells how it held.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use gangline_server::simulate::{MACHINES_MAX, Seed};
use gangline_types::{Minute, UnixSeconds};
use gangline_worker::client::now;
use serde_json::json;

use super::{
    book::Book,
    crew::Crew,
    http, percentile,
    udp::{Pump, Round},
    weather::{Share, Weather},
};
use crate::problem::Problem;

/// What `fleet run` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server, as http://host:port; it runs on books that `fleet seed` filled.
    #[arg(value_name = "URL")]
    url: String,
    /// How many of its simulated machines beat.
    #[arg(long, value_name = "COUNT")]
    machines: u32,
    /// The text that `fleet seed` was given.
    #[arg(long, value_name = "TEXT", default_value = "gangline")]
    seed: String,
    /// Minutes to beat for, each machine once a minute; 0 for the opening alone.
    #[arg(long, value_name = "MINUTES", default_value_t = 3)]
    minutes: u16,
    /// Seconds of each minute over which the beats are spread; 0 for all at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 50)]
    spread: u64,
    /// Connections over which machines prove their keys, and over which those beat that do so by HTTP.
    #[arg(long, value_name = "COUNT", default_value_t = 256)]
    connections: usize,
    /// Every machine proves its key a second time, by datagram, as after a day or when a server comes back.
    #[arg(long)]
    again: bool,
    /// Machines that beat by HTTP, of a thousand; the others do by UDP.
    #[arg(long, value_name = "THOUSANDTHS", default_value_t = 0)]
    http: u32,
    /// Connections that send their requests in small pieces, of a thousand.
    #[arg(long, value_name = "THOUSANDTHS", default_value_t = 0)]
    slow: u32,
    /// Datagrams that are lost, of a thousand, each way.
    #[arg(long, value_name = "THOUSANDTHS", default_value_t = 0)]
    lost: u32,
    /// Machines whose clock is wrong, of a thousand.
    #[arg(long, value_name = "THOUSANDTHS", default_value_t = 0)]
    wrong_clocks: u32,
    /// By how many minutes it is.
    #[arg(long, value_name = "MINUTES", default_value_t = -30, allow_hyphen_values = true)]
    clock_minutes: i32,
    /// Machines that send what is no beat of theirs, of a thousand.
    #[arg(long, value_name = "THOUSANDTHS", default_value_t = 0)]
    hostile: u32,
    /// Write every acknowledged beat to this file, for `fleet audit`.
    #[arg(long, value_name = "FILE")]
    account: Option<PathBuf>,
    /// Tell the result as one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Drives the fleet.
///
/// # Errors
/// When the server refuses it or cannot be reached, or something that should have no answer got one.
pub fn main(args: &Args) -> anyhow::Result<()> {
    let parts = [args.http, args.slow, args.lost, args.wrong_clocks, args.hostile];
    if !(1..=MACHINES_MAX).contains(&args.machines) || parts.iter().any(|parts| *parts > 1000) {
        return Err(Problem::usage("such a fleet cannot be")
            .hint(format!("choose 1 to {MACHINES_MAX} machines, and parts of a thousand from 0 to 1000"))
            .into());
    }
    let mut crew = Crew::new(Seed::of(&args.seed), args.machines, args.minutes.clamp(1, 1440) + 4);
    let minute_now = || UnixSeconds(now().0 / 1000).minute();
    let mut book = match &args.account {
        Some(path) => Book::open(path)?,
        None => Book::Nowhere,
    };
    // As far back as a wrong clock reaches, within what a chain may stand for.
    let back = args.clock_minutes.min(0).unsigned_abs().min(350) * u32::from(args.wrong_clocks > 0);
    let (joined, doors) = crew.join(&args.url, Minute(minute_now().0 - back), args.connections)?;
    if !args.json {
        println!(
            "{} machines proved their keys in {:.1} s, each within {:.0} ms (99 of 100)",
            joined.machines, joined.seconds, joined.p99_millis
        );
    }
    let mut again = None;
    if args.again {
        let joined = crew.come_back(&args.url, &doors, Minute(minute_now().0 - back), args.connections)?;
        if !args.json {
            println!(
                "{} proved them again by datagram in {:.1} s, each within {:.0} ms (99 of 100)",
                joined.machines, joined.seconds, joined.p99_millis
            );
        }
        again = Some(joined);
    }
    let by_http = if doors.udp.is_some() {
        args.machines / 1000 * args.http + args.machines % 1000 * args.http / 1000
    } else {
        args.machines
    };
    let by_udp = args.machines - by_http;
    let mut weather = Weather {
        lost: Share(args.lost),
        wrong_clocks: Share(args.wrong_clocks),
        clock_minutes: args.clock_minutes,
        hostile: Share(args.hostile),
        ..Weather::new(0x6761_6e67)
    };
    let mut pump = doors.udp.as_deref().map(|door| Pump::new(door, &crew)).transpose()?;
    let (mut total, began) = (Round::default(), Instant::now());
    for n in 0..args.minutes {
        let minute = minute_now();
        if let Some(pump) = &mut pump {
            let over = Duration::from_secs(args.spread.min(58));
            total.add(pump.round(
                &mut crew,
                0..by_udp,
                minute,
                over,
                1 << 16,
                None,
                &mut weather,
                &mut book,
            )?);
        }
        if by_http > 0 {
            let machines = by_udp..args.machines;
            total.add(http::round(
                &mut crew,
                &doors.http,
                machines,
                minute,
                args.connections,
                None,
                args.slow,
                &mut book,
            )?);
        }
        let next = minute.start().plus(60).0 * 1000;
        if n + 1 < args.minutes {
            std::thread::sleep(Duration::from_millis(next.saturating_sub(now().0)));
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let (p50, p99) = (percentile(&mut total.waits, 50), percentile(&mut total.waits, 99));
    let millis = |wait: Duration| wait.as_secs_f64() * 1000.0;
    if args.json {
        let told = json!({
            "machines": args.machines, "proved": joined.machines, "prove_seconds": joined.seconds,
            "proved_again": again.map(|joined| joined.machines), "durable": total.durable,
            "sent": total.sent, "refused": total.refused, "unanswered": total.unanswered,
            "answered_hostile": total.answered_hostile, "seconds": seconds, "p50_millis": millis(p50), "p99_millis": millis(p99),
        });
        println!("{told}");
    } else {
        println!(
            "{} beats durable of {} sent in {seconds:.0} s; {} refused, {} unanswered; answers within {:.1} ms (half) and {:.1} ms (99 of 100)",
            total.durable,
            total.sent,
            total.refused,
            total.unanswered,
            millis(p50),
            millis(p99)
        );
    }
    if total.answered_hostile > 0 {
        return Err(
            Problem::new(format!("{} answers of a size that no answer has", total.answered_hostile)).into()
        );
    }
    Ok(())
}
