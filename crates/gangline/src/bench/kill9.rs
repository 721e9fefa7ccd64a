//! A server that is killed over and over while its fleet beats: what it acknowledged is in its books, or lost.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use gangline_server::simulate::{Grown, Seed};
use gangline_types::Minute;

use super::{
    Found, Size,
    beats::{MINUTES_BACK, this_minute},
    procs::Gangline,
};
use crate::fleet::{
    audit::compare,
    book::Book,
    crew::Crew,
    seed,
    udp::{Pump, Round},
    weather::Weather,
};

/// Beats a second that are sent.
const BEATS_PER_SECOND: u32 = 10_000;
/// From the server's first answer to its end, at least and at most, in milliseconds.
const LIFE_MILLIS: (u64, u64) = (300, 900);

/// Kills and counts.
///
/// # Errors
/// When a server does not start again.
pub fn measure(work: &Path, size: Size, found: &mut Found) -> anyhow::Result<()> {
    let (data, account) = (work.join("killed"), work.join("killed.account"));
    let who = Seed::of("kill9");
    seed::fill_folder(&data, &who, Grown { machines: size.small, ..Grown::default() })?;
    let starts = Minute(this_minute().0 - MINUTES_BACK);
    let mut crew = Crew::new(who.clone(), size.small, MINUTES_BACK as u16 + 60);
    let mut gangline = Gangline::serve(&data)?;
    let (_, doors) = crew.join(&gangline.url, starts, 256)?;
    let door = doors.udp.unwrap_or(doors.http);
    let mut book = Book::open(&account)?;
    let (mut minute, mut at, mut total) = (starts, 0u32, Round::default());
    for kill in 0..size.kills {
        let life = LIFE_MILLIS.0 + (u64::from(kill) * 7919) % (LIFE_MILLIS.1 - LIFE_MILLIS.0);
        // Killed in the midst of it, by somebody who does not look.
        let server = gangline.server;
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(life));
            server.kill();
        });
        let mut pump = Pump::new(&door, &crew)?;
        let until = Instant::now() + Duration::from_millis(life + 50);
        while Instant::now() < until {
            let machines = at..crew.len();
            let over = Duration::from_secs_f64(
                f64::from(machines.end - machines.start) / f64::from(BEATS_PER_SECOND),
            );
            let round = pump.round(
                &mut crew,
                machines,
                minute,
                over,
                4096,
                Some(until),
                &mut Weather::fine(),
                &mut book,
            )?;
            at += (round.durable + round.refused + round.unanswered) as u32;
            if at >= crew.len() {
                (at, minute) = (0, Minute((minute.0 + 1).min(this_minute().0)));
            }
            total.add(round);
        }
        let _ = killer.join();
        gangline = Gangline::serve_at(&data, Some(&door))?;
    }
    gangline.server.kill();
    drop(book);
    let compared = compare(&account, &data, None, &who)?;
    found.figure("beats acknowledged over the kills", compared.acknowledged as f64, "beats");
    let note = format!("{} SIGKILLs, {} beats acknowledged", size.kills, compared.acknowledged);
    // Without an acknowledged beat nothing was tried.
    found.row("kill9_lost", (compared.acknowledged > 0).then_some(compared.lost as f64), note);
    Ok(())
}
