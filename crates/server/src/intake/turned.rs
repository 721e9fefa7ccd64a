//! Who came and who fell silent since the books were told. In a large network the books hear of minutes only every so often;
//! of these GPUs they hear at once, so that nobody looks connected who is not, nor the other way round.

use std::collections::HashSet;

use gangline_rules::uptime::CONNECTED_SECONDS;
use gangline_store::{Fold, FoldedHour};
use gangline_types::{GpuId, Hour, UnixSeconds, UptimeHour};

use super::ledger::{Ledger, Minutes};

/// What the books are told early.
#[derive(Debug, Default)]
pub struct Turned {
    /// The minutes and values of these GPUs that the books may lack. They stay in what waits: folding twice changes nothing.
    pub fold: Fold,
    /// Who came.
    pub came: Vec<GpuId>,
    /// Who fell silent: nothing later of theirs came in here.
    pub silent: Vec<GpuId>,
    /// More came than may be told at once.
    pub many_came: bool,
}

impl Turned {
    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.came.is_empty() && self.silent.is_empty()
    }
}

/// One bit a GPU, by places: whether the books know it as connected.
#[derive(Default)]
pub(super) struct Known(Vec<u64>);

impl Known {
    fn is(&self, place: usize) -> bool {
        self.0.get(place / 64).is_some_and(|word| word >> (place % 64) & 1 == 1)
    }
    fn set(&mut self, place: usize, is: bool) {
        if self.0.len() <= place / 64 {
            self.0.resize(place / 64 + 1, 0);
        }
        let bit = 1u64 << (place % 64);
        let word = &mut self.0[place / 64];
        *word = if is { *word | bit } else { *word & !bit };
    }
}

impl Ledger {
    /// Hours that a sign of life now can be of, the newest first.
    fn lately(&self, now: UnixSeconds) -> Vec<(Hour, &Minutes)> {
        let from = Hour(now.minute().hour().0.saturating_sub(1));
        self.hours.range(from..).rev().map(|(hour, minutes)| (*hour, minutes)).collect()
    }

    /// Whether the GPU at this place beat within the time that one counts as connected for.
    fn is_here(lately: &[(Hour, &Minutes)], place: u32, now: UnixSeconds) -> bool {
        let newest = lately.iter().find_map(|(hour, minutes)| {
            let bits = Minutes::get(&minutes.all, place);
            (bits != 0).then(|| hour.start().0 + 63 - bits.leading_zeros())
        });
        newest.is_some_and(|minute| {
            now.since(gangline_types::Minute(minute).start().plus(59)) <= CONNECTED_SECONDS
        })
    }

    /// The books are being told of these.
    pub(super) fn told(&mut self, places: &[u32], now: UnixSeconds) {
        let lately = self.lately(now);
        let here: Vec<bool> = places.iter().map(|place| Self::is_here(&lately, *place, now)).collect();
        for (place, is_here) in places.iter().zip(here) {
            self.known.set(*place as usize, is_here);
        }
    }

    /// Who came and who fell silent since the books were told, at most so many; the rest come with the next question. When
    /// more than that came, a fleet is coming back: the books are to be told of everybody, which costs less.
    pub fn turned(&mut self, now: UnixSeconds, at_most: usize) -> Turned {
        let lately = self.lately(now);
        let (mut turned, mut came): (Vec<usize>, Vec<usize>) = (0..self.gpus.len())
            .filter(|place| Self::is_here(&lately, *place as u32, now) != self.known.is(*place))
            .partition(|place| self.known.is(*place));
        let many_came = came.len() > at_most;
        if !many_came {
            turned.append(&mut came);
        }
        turned.truncate(at_most);
        let mut told = Turned { many_came, ..Default::default() };
        for place in &turned {
            let gpu = self.gpus[*place];
            let of = if self.known.is(*place) { &mut told.silent } else { &mut told.came };
            of.push(gpu);
            let hours = lately.iter().map(|(hour, minutes)| FoldedHour {
                gpu,
                hour: *hour,
                bits: UptimeHour(Minutes::get(&minutes.all, *place as u32)),
                unchained: UptimeHour(Minutes::get(&minutes.unchained, *place as u32)),
            });
            told.fold.hours.extend(hours.filter(|hour| hour.bits.0 != 0));
        }
        drop(lately);
        let places: HashSet<u32> = turned.iter().map(|place| *place as u32).collect();
        if !places.is_empty() {
            told.fold.links = self.links_of(&places);
        }
        for place in turned {
            self.known.set(place, !self.known.is(place));
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use gangline_guard::beat::Line;
    use gangline_types::Minute;

    use super::*;

    const HOUR: Hour = Hour(490_000);

    fn at(minute: u32) -> UnixSeconds {
        Minute(HOUR.start().0 + minute).start()
    }
    fn gpu(n: u8) -> GpuId {
        GpuId::from_bytes([n; 16])
    }
    fn beat(ledger: &mut Ledger, n: u8, minute: u32) {
        let minute = Minute(HOUR.start().0 + minute);
        ledger.apply(&Line::Report {
            gpu: gpu(n),
            hour: minute.hour(),
            bits: UptimeHour::default().with(minute.of_hour()),
        });
    }

    #[test]
    fn who_came_and_who_fell_silent_is_told_once() {
        let mut ledger = Ledger::default();
        let check = |ledger: &mut Ledger, now: UnixSeconds, came: &[u8], silent: &[u8]| {
            let turned = ledger.turned(now, 10);
            let gpus = |of: &[u8]| of.iter().map(|n| gpu(*n)).collect::<Vec<_>>();
            assert_eq!((&turned.came, &turned.silent), (&gpus(came), &gpus(silent)), "at {now}");
            let folded: HashSet<GpuId> = turned.fold.hours.iter().map(|hour| hour.gpu).collect();
            assert_eq!(folded, gpus(came).into_iter().chain(gpus(silent)).collect());
        };
        check(&mut ledger, at(30), &[], &[]);
        beat(&mut ledger, 1, 28);
        beat(&mut ledger, 2, 20);
        check(&mut ledger, at(30), &[1], &[]);
        check(&mut ledger, at(31), &[], &[]);
        beat(&mut ledger, 2, 31);
        check(&mut ledger, at(32), &[2], &[1]);
        // A late minute is no sign of life.
        beat(&mut ledger, 1, 25);
        check(&mut ledger, at(32), &[], &[]);
        // Over the turn of an hour.
        beat(&mut ledger, 1, 59);
        beat(&mut ledger, 2, 60);
        check(&mut ledger, at(62), &[1], &[]);
        check(&mut ledger, at(64), &[], &[1, 2]);
        // What the books are told with everybody is not told again.
        beat(&mut ledger, 1, 64);
        ledger.take(usize::MAX, at(65), Instant::now());
        check(&mut ledger, at(65), &[], &[]);
        check(&mut ledger, at(69), &[], &[1]);
    }

    #[test]
    fn of_many_who_fall_silent_some_are_told_at_a_time_and_many_who_come_wait_for_everybody() {
        let mut ledger = Ledger::default();
        let told = |ledger: &mut Ledger, now| {
            let turned = ledger.turned(now, 4);
            (turned.came.len(), turned.silent.len())
        };
        (0..10).for_each(|n| beat(&mut ledger, n, 5));
        assert_eq!(told(&mut ledger, at(6)), (0, 0), "a fleet that comes back was told bit by bit");
        assert_eq!(ledger.take(usize::MAX, at(6), Instant::now()).fold.hours.len(), 10);
        beat(&mut ledger, 10, 6);
        assert_eq!(told(&mut ledger, at(6)), (1, 0));
        let silent: Vec<_> = (0..4).map(|_| told(&mut ledger, at(20))).collect();
        assert_eq!(silent, [(0, 4), (0, 4), (0, 3), (0, 0)]);
        assert_eq!(ledger.take(usize::MAX, at(20), Instant::now()).fold.hours.len(), 11);
    }
}
