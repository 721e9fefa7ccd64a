//! The large fleet: start-up, everybody's return at once, minutes of steady beats, and pages meanwhile.

use std::{
    io::{BufReader, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use gangline_types::{Minute, public::NetworkTotals};
use gangline_wire::{Endpoint, endpoints::PublicNetwork};

use super::{
    Found, Size,
    beats::this_minute,
    local::{placed, tell_placed},
    median,
    pages::{grown, look},
};
use crate::fleet::{
    book::Book,
    crew::{Crew, Joined, connect, read_answer},
    percentile,
    udp::{Pump, Round},
    weather::Weather,
};

/// Beats a second while pages are asked for.
const BEATS_PER_SECOND: f64 = 10_000.0;
/// Machines of a storm that wait for an answer at once, each over a socket of its own; over HTTP half as many.
const AT_ONCE: usize = 1024;
/// Seconds of beats that are handed to the fleet at once meanwhile.
const TURN_SECONDS: f64 = 2.0;
/// Pause between two pages of one visitor, in milliseconds.
const PAGE_PAUSE_MILLIS: u64 = 5;
/// The fleet's turns that are not measured, at most: until then the books may still be told who came back.
const SETTLING_TURNS: u32 = 3;

/// Measures the rows of the large fleet.
///
/// # Errors
/// When the server does not hold.
pub fn measure(work: &Path, size: Size, found: &mut Found) -> anyhow::Result<()> {
    let (who, gangline) = grown(&work.join("large"), size, found)?;
    let door = gangline.url.trim_start_matches("http://").to_owned();
    // Before the first beat: afterwards the server is busy with beats for some minutes after the last. The best of its rounds
    // counts, for it looks its files through at the start.
    let mut without = f64::INFINITY;
    for _ in 0..size.rounds {
        without = without.min(p99_millis(pages(&door, size.pages)?));
    }
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
    // As many beats as the run can ask of one machine; each is a step along its chain, which the fleet walks.
    let links = (80 + 800_000 / size.machines).min(800) as u16;
    let mut crew = Crew::new(who.clone(), size.machines, links);
    let mut storm = |way: &str, come: &mut dyn FnMut(Minute) -> anyhow::Result<Joined>, back| {
        let before = gangline.server.cpu_micros();
        let joined = come(Minute(this_minute().0 - back))?;
        let storm = (gangline.server.cpu_micros() - before) / 1e6;
        found.figure(format!("storm by {way}: until everybody is back"), joined.seconds, "s");
        found.figure(format!("storm by {way}: 99 of 100 machines wait at most"), joined.p99_millis, "ms");
        found.figure(
            format!("storm by {way}: CPU of one machine"),
            storm * 1e6 / f64::from(size.machines),
            "us",
        );
        anyhow::Ok(storm)
    };
    // The first time each comes by HTTP; who had a lane before comes by datagram.
    let mut doors = None;
    let first = &mut |starts| {
        let (joined, opened) = crew.join(&gangline.url, starts, AT_ONCE / 2)?;
        doors = Some(opened);
        Ok(joined)
    };
    storm("HTTP", first, 3)?;
    let doors = doors.context("no machine got an address to beat at")?;
    let back = storm("datagram", &mut |starts| crew.come_back(&gangline.url, &doors, starts, AT_ONCE), 2)?;
    found.row(
        "storm_cpu_seconds",
        Some(back),
        note("by datagram, each proves its Ed25519 key and signs a chain"),
    );

    let mut pump = Pump::new(doors.udp.as_deref().unwrap_or(&doors.http), &crew)?;
    // Not measured are the first turn and those until the books show everybody's return: what that costs is told apart.
    let mut steady = Round::default();
    let (mut cpu, mut seconds, mut minutes) = (0.0, 0.0, 0);
    let (mut settling, mut unsettled, mut settled, mut unmeasured) = (0.0, 0u32, false, 0.0);
    // Placement is asked for while the fleet beats, in the turns that are not measured.
    let placing = std::thread::spawn(placed);
    while minutes < size.minutes {
        let (minute, left, machines) = turn(size, settled);
        let (before, began) = (gangline.server.cpu_micros(), Instant::now());
        let over = Duration::from_secs_f64((left - 3.0).max(2.0));
        let round = pump.round(
            &mut crew,
            0..machines,
            minute,
            over,
            1 << 16,
            None,
            &mut Weather::fine(),
            &mut Book::Nowhere,
        )?;
        std::thread::sleep(Duration::from_secs_f64(left).saturating_sub(began.elapsed()));
        let spent = gangline.server.cpu_micros() - before;
        if settled {
            cpu += spent;
            seconds += began.elapsed().as_secs_f64();
            steady.add(round);
            minutes += 1;
        } else {
            settling += spent;
            unmeasured += began.elapsed().as_secs_f64();
            unsettled += 1;
            settled = unsettled == SETTLING_TURNS || connected(&door)? == u64::from(size.machines);
        }
    }
    found.figure(
        "after the storm, until the books show everybody: CPU of one machine",
        settling / f64::from(size.machines),
        "us",
    );
    found.figure("after the storm, until the books show everybody", unmeasured, "s");
    let placed = placing.join().map_err(|_| anyhow::anyhow!("placement broke off"))?;
    tell_placed(&placed, "while the fleet beats", found)?;
    let rss = gangline.server.rss_mib();
    let beats = format!("{} beats durable, {} unanswered", steady.durable, steady.unanswered);
    found.row("fleet_600k_core_percent", Some(cpu / 1e6 / seconds * 100.0), note(&beats));
    found.row("fleet_600k_rss_mib", Some(rss), note("the whole server"));
    let p50 = percentile(&mut steady.waits, 50).as_secs_f64() * 1000.0;
    found.figure("steady: half of the answers within", p50, "ms");
    found.row(
        "fleet_600k_ack_p99_ms",
        (steady.durable > 0).then_some(p99_millis(steady.waits)),
        note("from the beat's first datagram"),
    );

    // The same pages while ten thousand beats a second come.
    let (mut with, mut rates, mut at) = (Vec::new(), Vec::new(), 0);
    for _ in 0..size.rounds {
        let (waits, rate) = beside_beats(&mut pump, &mut crew, &mut at, || pages(&door, size.pages))?;
        with.push(p99_millis(waits));
        rates.push(rate);
    }
    let [with, rate] = [with, rates].map(|of| median(of).unwrap_or(f64::NAN));
    found.figure("explorer: p99 before the first beat", without, "ms");
    found.figure("explorer: p99 with beats", with, "ms");
    found.figure("explorer: beats a second meanwhile", rate, "beats/s");
    found.row(
        "explorer_p99_ratio",
        Some(with / without),
        note(
            "the fleet, which gives way, and the visitor share the machine with the server; the median of rounds over the best without",
        ),
    );
    look(&gangline, &who, size, found)?;
    gangline.server.stop()
}

/// The fleet's next turn: which minute it beats for, how many seconds it lasts, and how many machines beat. Everybody does, in what
/// is left of a minute; in a quick run for the minute before this until the books show it, and then as many as would in such a
/// part of a minute.
fn turn(size: Size, settled: bool) -> (Minute, f64, u32) {
    let minute = this_minute();
    match size.turn {
        None => {
            let now = gangline_worker::client::now().0 as f64 / 1000.0;
            (minute, minute.start().plus(60).0 as f64 - now, size.machines)
        }
        Some(seconds) if settled => (minute, f64::from(seconds), size.machines * seconds / 60),
        Some(seconds) => (Minute(minute.0 - 1), f64::from(seconds), size.machines),
    }
}

/// The 99th percentile, in milliseconds.
fn p99_millis(mut waits: Vec<Duration>) -> f64 {
    percentile(&mut waits, 99).as_secs_f64() * 1000.0
}

/// Lets every other thread of this machine go first, as if the fleet had processors of its own: otherwise what is measured is
/// how long the system lets the fleet keep one that a visitor and the server wait for. Whether that could be done.
fn give_way() -> bool {
    let thread = std::fs::read_link("/proc/thread-self").ok();
    let asked = thread.as_deref().and_then(Path::file_name).map(|thread| {
        Command::new("chrt").args(["--idle", "--pid", "0"]).arg(thread).stdout(Stdio::null()).status()
    });
    asked.is_some_and(|asked| asked.is_ok_and(|status| status.success()))
}

/// Does something while the fleet beats, which gives way to everything else. It begins a second before and goes on with the
/// machine at place `at`, so that none repeats its minute before all have had a turn: what came of it, and the beats a second
/// meanwhile.
fn beside_beats<T>(
    pump: &mut Pump,
    crew: &mut Crew,
    at: &mut u32,
    act: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(T, f64)> {
    let done = AtomicBool::new(false);
    let (acted, beaten) = std::thread::scope(|scope| {
        let beats = scope.spawn(|| -> anyhow::Result<f64> {
            ensure!(give_way(), "chrt, of util-linux, could not let the fleet give way to the server");
            let (mut durable, began) = (0, Instant::now());
            let some = ((BEATS_PER_SECOND * TURN_SECONDS) as u32).min(crew.len());
            while !done.load(Ordering::Relaxed) {
                let (back, from) = (*at / crew.len() % 2, *at % crew.len());
                let machines = from..(from + some).min(crew.len());
                let over = Duration::from_secs_f64(machines.len() as f64 / BEATS_PER_SECOND);
                *at += machines.len() as u32;
                let minute = Minute(this_minute().0 - back);
                let (fine, book) = (&mut Weather::fine(), &mut Book::Nowhere);
                durable += pump.round(crew, machines, minute, over, 1 << 16, None, fine, book)?.durable;
            }
            Ok(durable as f64 / began.elapsed().as_secs_f64())
        });
        std::thread::sleep(Duration::from_secs(1));
        let acted = act();
        done.store(true, Ordering::Relaxed);
        (acted, beats.join())
    });
    let rate = beaten.map_err(|_| anyhow::anyhow!("the fleet broke off"))??;
    Ok((acted?, rate))
}

/// One answer over a kept connection, in a coding.
fn get(stream: &mut BufReader<TcpStream>, door: &str, path: &str, coding: &str) -> anyhow::Result<Vec<u8>> {
    write!(stream.get_mut(), "GET {path} HTTP/1.1\r\nhost: {door}\r\naccept-encoding: {coding}\r\n\r\n")?;
    let (status, body) = read_answer(stream)?;
    ensure!(status == 200, "{path} is answered {status}");
    Ok(body)
}

/// How many GPUs the explorer shows as connected.
fn connected(door: &str) -> anyhow::Result<u64> {
    let body = get(&mut BufReader::new(connect(door)?), door, PublicNetwork::SPEC.path, "identity")?;
    Ok(serde_json::from_slice::<NetworkTotals>(&body).context("totals that are none")?.connected)
}

/// The front page, one after the other on one connection: how long each took.
fn pages(door: &str, count: usize) -> anyhow::Result<Vec<Duration>> {
    let mut stream = BufReader::new(connect(door)?);
    let mut waits = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        get(&mut stream, door, "/", "br")?;
        waits.push(began.elapsed());
        std::thread::sleep(Duration::from_millis(PAGE_PAUSE_MILLIS));
    }
    Ok(waits)
}
