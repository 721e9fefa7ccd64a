//! What one beat costs the server, ours and its peers by turns.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use gangline_server::simulate::{Grown, Seed};
use gangline_types::{Minute, UnixSeconds};
use gangline_worker::client::now;

use super::{
    Found, Size, median,
    peers::{Echo, Etcd, Redis, WINDOW},
    procs::{Gangline, Server, bytes_in},
};
use crate::fleet::{
    book::Book,
    crew::{Crew, Doors},
    http, seed,
    udp::{Pump, Round},
    weather::Weather,
};

/// Minutes back that a beat may be for: within six hours.
pub const MINUTES_BACK: u32 = 340;

/// A server with a fleet that has joined it.
pub struct Ours {
    /// The server.
    pub server: Server,
    /// Its fleet.
    pub crew: Crew,
    /// Where beats go.
    pub doors: Doors,
    pump: Pump,
    minute: Minute,
    at: u32,
}

/// The running minute.
pub fn this_minute() -> Minute {
    UnixSeconds(now().0 / 1000).minute()
}

impl Ours {
    /// Fills a folder, serves it, and lets every machine prove its key.
    ///
    /// # Errors
    /// When any of it fails.
    pub fn start(data: &Path, machines: u32) -> anyhow::Result<Self> {
        let who = Seed::of("bench");
        seed::fill_folder(data, &who, Grown { machines, ..Grown::default() })?;
        let gangline = Gangline::serve(data)?;
        let mut crew = Crew::new(who, machines, MINUTES_BACK as u16 + 60);
        let (_, doors) = crew.join(&gangline.url, Minute(this_minute().0 - MINUTES_BACK), WINDOW)?;
        let pump = Pump::new(doors.udp.as_deref().unwrap_or(&doors.http), &crew)?;
        Ok(Self {
            server: gangline.server,
            crew,
            doors,
            pump,
            minute: Minute(this_minute().0 - MINUTES_BACK),
            at: 0,
        })
    }

    /// Every beat is a machine and a minute that was not beaten before: minute by minute through all machines.
    fn next(&mut self, until: Instant, by: By, book: &mut Book) -> anyhow::Result<Round> {
        let machines = self.at..self.crew.len();
        let (minute, before) = (self.minute, machines.start);
        let round = match by {
            By::Udp => self.pump.round(
                &mut self.crew,
                machines,
                minute,
                Duration::ZERO,
                WINDOW,
                Some(until),
                &mut Weather::fine(),
                book,
            )?,
            By::Http => {
                http::round(&mut self.crew, &self.doors.http, machines, minute, WINDOW, Some(until), 0, book)?
            }
        };
        // By HTTP the connections go through all machines side by side; what was begun is not gone on with.
        let done = match by {
            By::Udp => before + (round.durable + round.refused + round.unanswered) as u32,
            By::Http => self.crew.len(),
        };
        self.at = done;
        if self.at >= self.crew.len() {
            (self.at, self.minute) = (0, Minute(self.minute.0 + 1));
        }
        Ok(round)
    }

    /// Beats for so long as fast as so many under way allow.
    ///
    /// # Errors
    /// When the account cannot be written.
    pub fn drive(&mut self, seconds: f64, by: By, book: &mut Book) -> anyhow::Result<Round> {
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        let mut total = Round::default();
        while Instant::now() < until {
            total.add(self.next(until, by, book)?);
        }
        Ok(total)
    }
}

/// Which way beats go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Datagrams.
    Udp,
    /// Kept connections.
    Http,
}

/// Processor time of a server for each of what it did meanwhile.
fn cost(server: &Server, drive: impl FnOnce() -> anyhow::Result<u64>) -> anyhow::Result<(f64, u64)> {
    let before = server.live_micros();
    let done = drive()?;
    Ok(((server.live_micros() - before) / done.max(1) as f64, done))
}

/// Measures the rows of single beats.
///
/// # Errors
/// When ours cannot run.
pub fn measure(work: &Path, size: Size, found: &mut Found) -> anyhow::Result<()> {
    let data = work.join("small");
    let mut ours = Ours::start(&data, size.small)?;
    let echo = Echo::start()?;
    let redis = Redis::start()?;
    let etcd = Etcd::start(work)?;
    let names = ["ours by UDP", "ours by HTTP", "bare UDP echo", "Redis SETEX", "etcd put"];
    let mut costs: [Vec<f64>; 5] = Default::default();
    let (mut journal, mut beats, mut all) = (0.0, 0u64, 0u64);
    let (whole, intake) = (ours.server.cpu_micros(), ours.server.intake_micros());
    for round in 0..size.rounds {
        // Each round begins with another contender.
        for turn in 0..names.len() {
            let which = (turn + round) % names.len();
            let seconds = size.round_seconds;
            let (cost, done) = match which {
                0 | 1 => {
                    let by = if which == 0 { By::Udp } else { By::Http };
                    let (on_disk, before) = (bytes_in(&data, "journal-"), ours.server.intake_micros());
                    let done = ours.drive(seconds, by, &mut Book::Nowhere)?.durable;
                    let grown = bytes_in(&data, "journal-").saturating_sub(on_disk);
                    if which == 0 {
                        journal += grown as f64;
                        beats += done;
                    }
                    all += done;
                    ((ours.server.intake_micros() - before) / done.max(1) as f64, done)
                }
                2 => cost(&echo.server, || echo.drive(seconds))?,
                3 => match &redis {
                    Some(redis) => cost(&redis.server, || redis.drive(seconds))?,
                    None => continue,
                },
                _ => match &etcd {
                    Some(etcd) => cost(&etcd.server, || etcd.drive(seconds))?,
                    None => continue,
                },
            };
            if done > 0 {
                costs[which].push(cost);
            }
        }
    }
    let [udp, http, echo, redis, etcd] = costs.map(median);
    for (name, cost) in names.into_iter().zip([udp, http, echo, redis, etcd]) {
        if let Some(cost) = cost {
            found.figure(format!("CPU of one: {name}"), cost, "us");
        }
    }
    // What the rest of the server did with them: the books and the projection are brought up to date meanwhile, some
    // hundred times as often for each beat as with one beat a minute.
    let rest = (ours.server.cpu_micros() - whole) - (ours.server.intake_micros() - intake);
    found.figure("CPU of one: the rest of ours meanwhile, books and pages", rest / all.max(1) as f64, "us");
    let ratio = |ours: Option<f64>, peer: Option<f64>| ours.zip(peer).map(|(ours, peer)| ours / peer);
    let note = |peer: Option<f64>, program: &str| match peer {
        Some(_) => "threads of the intake, from the socket to the disk and back".to_owned(),
        None => format!("peer not found: {program}"),
    };
    found.row("beat_udp_vs_redis", ratio(udp, redis), note(redis, "redis-server"));
    found.row("beat_udp_vs_echo", ratio(udp, echo), note(echo, "the echo"));
    found.row("beat_http_vs_redis", ratio(http, redis), note(redis, "redis-server"));
    found.row("beat_vs_etcd", ratio(udp, etcd), note(etcd, "etcd"));
    let per_beat = (beats > 0).then(|| journal / beats as f64);
    found.row(
        "disk_bytes_per_beat",
        per_beat,
        "growth of the journal's files over beats by UDP; what its log holds twice until a checkpoint counts twice",
    );
    ours.server.stop()
}
