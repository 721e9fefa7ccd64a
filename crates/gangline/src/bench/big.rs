//! The large fleet: start-up, everybody's return at once, minutes of steady beats, and pages meanwhile.

use std::{
    io::{BufReader, Write},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::ensure;
use gangline_server::simulate::Seed;
use gangline_types::Minute;

use super::{
    Found, Size,
    beats::this_minute,
    local::{placed, tell_placed},
    procs::Gangline,
};
use crate::fleet::{
    book::Book,
    crew::{Crew, connect, read_answer},
    percentile, seed,
    udp::{Pump, Round},
    weather::Weather,
};

/// Beats a second while pages are asked for.
const BEATS_PER_SECOND: f64 = 10_000.0;
/// Pause between two pages of one visitor, in milliseconds.
const PAGE_PAUSE_MILLIS: u64 = 5;

/// Measures the rows of the large fleet.
///
/// # Errors
/// When the server does not hold.
pub fn measure(work: &Path, size: Size, found: &mut Found) -> anyhow::Result<()> {
    let data = work.join("large");
    let who = Seed::of("bench");
    let began = Instant::now();
    seed::fill_folder(&data, &who, size.machines)?;
    found.figure("filling the books", began.elapsed().as_secs_f64(), "s");
    let gangline = Gangline::serve(&data)?;
    found.figure("start-up until it answers", gangline.took.as_secs_f64(), "s");
    let scaled = (size.machines != 600_000).then(|| format!("{} machines instead of 600000", size.machines));
    let note = |more: &str| {
        [scaled.as_deref().unwrap_or(""), more]
            .iter()
            .filter(|p| !p.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join("; ")
    };

    // Everybody at once, each with a signature of its own.
    let mut crew = Crew::new(who, size.machines, 400);
    let before = gangline.server.cpu_micros();
    let (joined, doors) = crew.join(&gangline.url, Minute(this_minute().0 - 2), 512)?;
    let storm = (gangline.server.cpu_micros() - before) / 1e6;
    found.figure("storm: until everybody is back", joined.seconds, "s");
    found.figure("storm: 99 of 100 machines wait at most", joined.p99_millis, "ms");
    found.figure("storm: CPU of one machine", storm * 1e6 / f64::from(size.machines), "us");
    found.row("storm_cpu_seconds", Some(storm), note("each proves its Ed25519 key and signs a chain"));

    let mut pump = Pump::new(doors.udp.as_deref().unwrap_or(&doors.http), &crew)?;
    // The first minute is not measured: caches and books settle.
    let mut steady = Round::default();
    let (mut cpu, mut seconds) = (0.0, 0.0);
    // Placement is asked for while the fleet beats, in the minute that is not measured.
    let placing = std::thread::spawn(placed);
    for n in 0..=size.minutes {
        let minute = this_minute();
        let left = minute.start().plus(60).0 as f64 - gangline_worker::client::now().0 as f64 / 1000.0;
        let (before, began) = (gangline.server.cpu_micros(), Instant::now());
        let over = Duration::from_secs_f64((left - 3.0).max(2.0));
        let round = pump.round(
            &mut crew,
            0..size.machines,
            minute,
            over,
            1 << 16,
            None,
            &mut Weather::fine(),
            &mut Book::Nowhere,
        )?;
        std::thread::sleep(Duration::from_secs_f64(left).saturating_sub(began.elapsed()));
        if n > 0 {
            cpu += gangline.server.cpu_micros() - before;
            seconds += began.elapsed().as_secs_f64();
            steady.add(round);
        }
    }
    let placed = placing.join().map_err(|_| anyhow::anyhow!("placement broke off"))?;
    tell_placed(&placed, "while the fleet beats", found)?;
    let rss = gangline.server.rss_mib();
    let beats = format!("{} beats durable, {} unanswered", steady.durable, steady.unanswered);
    found.row("fleet_600k_core_percent", Some(cpu / 1e6 / seconds * 100.0), note(&beats));
    found.row("fleet_600k_rss_mib", Some(rss), note("the whole server"));
    let p99 = percentile(&mut steady.waits, 99).as_secs_f64() * 1000.0;
    let p50 = percentile(&mut steady.waits, 50).as_secs_f64() * 1000.0;
    found.figure("steady: half of the answers within", p50, "ms");
    found.row(
        "fleet_600k_ack_p99_ms",
        (steady.durable > 0).then_some(p99),
        note("from the beat's first datagram"),
    );

    // The same pages without a beat and with ten thousand a second.
    let door = gangline.url.trim_start_matches("http://").to_owned();
    let mut quiet = pages(&door, size.pages)?;
    let done = AtomicBool::new(false);
    let (loaded, beating) = std::thread::scope(|scope| {
        let beats = scope.spawn(|| -> anyhow::Result<(Round, f64)> {
            let (mut total, began) = (Round::default(), Instant::now());
            let over = Duration::from_secs_f64(f64::from(size.machines) / BEATS_PER_SECOND);
            let mut back = 1;
            while !done.load(Ordering::Relaxed) {
                let minute = Minute(this_minute().0 - back % 2);
                back += 1;
                let until = Instant::now() + Duration::from_secs(2).max(over.min(Duration::from_secs(5)));
                total.add(pump.round(
                    &mut crew,
                    0..size.machines,
                    minute,
                    over,
                    1 << 16,
                    Some(until),
                    &mut Weather::fine(),
                    &mut Book::Nowhere,
                )?);
            }
            Ok((total, began.elapsed().as_secs_f64()))
        });
        std::thread::sleep(Duration::from_secs(1));
        let loaded = pages(&door, size.pages);
        done.store(true, Ordering::Relaxed);
        (loaded, beats.join())
    });
    let mut loaded = loaded?;
    let (beaten, took) = beating.map_err(|_| anyhow::anyhow!("the fleet broke off"))??;
    let (without, with) = (percentile(&mut quiet, 99), percentile(&mut loaded, 99));
    found.figure("explorer: p99 without beats", without.as_secs_f64() * 1000.0, "ms");
    found.figure("explorer: p99 with beats", with.as_secs_f64() * 1000.0, "ms");
    found.figure("explorer: beats a second meanwhile", beaten.durable as f64 / took, "beats/s");
    let ratio = with.as_secs_f64() / without.as_secs_f64().max(1e-9);
    found.row(
        "explorer_p99_ratio",
        Some(ratio),
        note("the fleet and the visitor share the machine with the server"),
    );
    gangline.server.stop()
}

/// The front page, one after the other on one connection: how long each took.
fn pages(door: &str, count: usize) -> anyhow::Result<Vec<Duration>> {
    let mut stream = BufReader::new(connect(door)?);
    let mut waits = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        write!(stream.get_mut(), "GET / HTTP/1.1\r\nhost: {door}\r\naccept-encoding: br\r\n\r\n")?;
        let (status, _) = read_answer(&mut stream)?;
        waits.push(began.elapsed());
        ensure!(status == 200, "the explorer answered {status}");
        std::thread::sleep(Duration::from_millis(PAGE_PAUSE_MILLIS));
    }
    Ok(waits)
}
