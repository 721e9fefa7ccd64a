//! What the intake keeps in memory: lanes, the minutes that are on disk, and which of them the books do not have
//! yet. Decides what becomes of a beat; knows no socket, no thread and no storage.

use std::collections::{BTreeMap, HashMap, HashSet, btree_map::Entry};

use gangline_guard::beat::{Granted, Line, Verified};
use gangline_rules::uptime::{self, Refusal};
use gangline_store::{Fold, FoldedHour, FoldedLink, LaneRow};
use gangline_types::{GpuId, Hour, Minute, UnixSeconds, UptimeHour};
use gangline_wire::beat::{Alias, Beat, Link, Outcome, Preimage};

/// Beats a machine may send at once: a whole late window of them, and some again.
const BURST: u16 = 480;
/// And from then on, in a second. One a minute is what is needed.
const PER_SECOND: u64 = 2;
/// How many values a chain may go on at once: as many as a day has minutes. Each costs 0.1 us.
const STEPS_MAX: u16 = 1440;
/// Minutes stay in memory for so many hours after they were folded, so that repeats cost no commit.
const HOURS_KEPT: u32 = 1;

/// One GPU's place in a lane, and how deep its chain was shown: 40 bytes.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) gpu: u32,
    pub(super) tip: Preimage,
    count: u16,
    preimage: Preimage,
}

/// A lane's slots are one after the other in [`Ledger::slots`]: 32 bytes for the lane itself.
#[derive(Clone, Copy)]
struct Lane {
    granted: Granted,
    first: u32,
    filled_at: u32,
    told_at: u32,
    tokens: u16,
    /// How many slots, at most 64.
    gpus: u8,
    ended: bool,
}

impl Lane {
    fn slots(&self) -> std::ops::Range<usize> {
        self.first as usize..self.first as usize + usize::from(self.gpus)
    }
}

/// In a word of minutes: not folded since it changed.
const DIRTY: u64 = 1 << 63;

/// An hour's minutes of all GPUs by their places. What was never written takes no memory.
#[derive(Default)]
pub(super) struct Minutes {
    pub(super) all: Vec<u64>,
    /// Of those, the ones without a chain; empty while there are none.
    pub(super) unchained: Vec<u64>,
}

impl Minutes {
    /// The word at `place`, with room for so many places.
    fn word(words: &mut Vec<u64>, place: u32, places: usize) -> &mut u64 {
        if words.len() <= place as usize {
            // Zeroed memory is not touched until it is written; that of a vector that grows is.
            let mut more = vec![0; (places + places / 8).max(place as usize + 1)];
            more[..words.len()].copy_from_slice(words);
            *words = more;
        }
        &mut words[place as usize]
    }
    pub(super) fn get(words: &[u64], place: u32) -> u64 {
        words.get(place as usize).copied().unwrap_or(0) & !DIRTY
    }
    /// Adds minutes; whether that is news, and the first since it was folded.
    fn add(&mut self, place: u32, places: usize, bits: u64, is_chained: bool) -> bool {
        let bits = bits & UptimeHour::FULL.0;
        let unchained = Self::get(&self.unchained, place);
        let all = Self::word(&mut self.all, place, places);
        let new = bits & !*all;
        let proven = if is_chained { unchained & bits } else { 0 };
        if new == 0 && proven == 0 {
            return false;
        }
        let was_dirty = *all & DIRTY != 0;
        *all |= bits | DIRTY;
        let unchained = if is_chained { unchained & !bits } else { unchained | new };
        if unchained != 0 || proven != 0 {
            *Self::word(&mut self.unchained, place, places) = unchained;
        }
        !was_dirty
    }
    fn is_durable(&self, place: u32, bit: u64) -> bool {
        Self::get(&self.all, place) & !Self::get(&self.unchained, place) & bit != 0
    }
}

/// What is to be done about a verified beat.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// Write it down under this, then answer.
    Write(Granted),
    /// Answer at once.
    Say(Outcome, u16),
    /// Say nothing: the machine was told to wait this very second.
    Drop,
}

/// How deep a chain was shown, and the value there.
pub(super) type Shown = (u16, Preimage);

/// The deepest value that an hour's beats have shown of each slot's chain, by the slots' places; none where a count is 0. Of
/// everybody it is a third of what a map would take, and of few no more than their pages.
#[derive(Default)]
pub(super) struct Links {
    pages: Vec<Option<Box<[Shown; Self::PAGE]>>>,
    held: usize,
}

impl Links {
    /// Slots of one page.
    const PAGE: usize = 512;

    fn show(&mut self, slot: u32, shown: Shown) {
        let (page, at) = (slot as usize / Self::PAGE, slot as usize % Self::PAGE);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page].get_or_insert_with(|| Box::new([Shown::default(); Self::PAGE]));
        let deepest = &mut page[at];
        if shown.0 > deepest.0 {
            self.held += usize::from(deepest.0 == 0);
            *deepest = shown;
        }
    }
    /// Slots of which something was shown, in their order.
    pub(super) fn each(&self) -> impl Iterator<Item = (u32, Shown)> {
        let pages = self.pages.iter().enumerate().filter_map(|(n, page)| Some((n, page.as_ref()?)));
        let all = pages.flat_map(|(n, page)| (n * Self::PAGE..).zip(page.iter()));
        all.filter(|(_, shown)| shown.0 > 0).map(|(slot, shown)| (slot as u32, *shown))
    }
}

/// What the books do not have.
#[derive(Default)]
pub(super) struct Waiting {
    hours: Vec<(Hour, u32)>,
    pub(super) links: BTreeMap<Hour, Links>,
    up: HashSet<Hour>,
}

/// The intake's memory.
#[derive(Default)]
pub struct Ledger {
    /// By a hash that is quick and no more than that: an alias is one already, keyed with a secret of the server's, so whoever
    /// would have many fall together cannot choose them.
    lanes: HashMap<Alias, Lane, foldhash::fast::RandomState>,
    pub(super) slots: Vec<Slot>,
    pub(super) gpus: Vec<GpuId>,
    places: HashMap<GpuId, u32>,
    pub(super) hours: BTreeMap<Hour, Minutes>,
    up: BTreeMap<Hour, u64>,
    pub(super) dirty: Waiting,
    /// Given out to be folded, and not confirmed yet.
    pub(super) out: Waiting,
    /// Whom the books know as connected.
    pub(super) known: super::turned::Known,
    unknown: u64,
}

impl Ledger {
    fn place(&mut self, gpu: GpuId) -> u32 {
        *self.places.entry(gpu).or_insert_with(|| {
            self.gpus.push(gpu);
            self.gpus.len() as u32 - 1
        })
    }

    /// Room for so many lanes, so that it need not grow by doubling.
    pub fn reserve(&mut self, lanes: usize) {
        self.lanes.reserve(lanes);
        self.slots.reserve(lanes);
        self.gpus.reserve(lanes);
        self.places.reserve(lanes);
    }

    /// A machine opened an epoch. `deepest` has the values that were shown before, where some were.
    pub fn open(&mut self, lane: &LaneRow, deepest: &HashMap<Preimage, (u16, Preimage)>, now: UnixSeconds) {
        let alias = lane.grant.alias();
        let known = self.lanes.get(&alias).map(Lane::slots);
        let mut slots: Vec<Slot> = Vec::with_capacity(lane.gpus.len());
        for (gpu, tip) in &lane.gpus {
            let (mut count, mut preimage) = deepest.get(tip).copied().unwrap_or((0, *tip));
            let before = known.clone().map(|known| &self.slots[known]).unwrap_or_default();
            if let Some(slot) = before.iter().find(|slot| slot.tip == *tip && slot.count > count) {
                (count, preimage) = (slot.count, slot.preimage);
            }
            slots.push(Slot { gpu: self.place(*gpu), tip: *tip, count, preimage });
        }
        let chains = |slots: &[Slot]| slots.iter().map(|slot| (slot.gpu, slot.tip)).collect::<Vec<_>>();
        let first = match known {
            // The same chains again stay where they are: what waits names them by their places.
            Some(known) if chains(&self.slots[known.clone()]) == chains(&slots) => {
                self.slots[known.clone()].copy_from_slice(&slots);
                known.start
            }
            _ => {
                self.slots.extend_from_slice(&slots);
                self.slots.len() - slots.len()
            }
        };
        let lane = Lane {
            granted: lane.grant.granted(),
            first: first as u32,
            filled_at: now.0 as u32,
            told_at: 0,
            tokens: BURST,
            gpus: slots.len().min(64) as u8,
            ended: false,
        };
        self.lanes.insert(alias, lane);
    }

    /// Whether an alias has a lane.
    pub fn knows(&self, alias: Alias) -> bool {
        self.lanes.contains_key(&alias)
    }

    /// These aliases' keys have ended.
    pub fn end(&mut self, aliases: &[Alias]) {
        for alias in aliases {
            if let Some(lane) = self.lanes.get_mut(alias) {
                lane.ended = true;
            }
        }
    }

    /// Drops lanes of epochs that do not count any more, but for those that `kept` names, and their slots unless a value of
    /// theirs waits to be folded.
    pub fn forget(&mut self, now: gangline_wire::beat::Epoch, kept: &HashSet<Alias>) {
        let before = self.lanes.len();
        self.lanes.retain(|alias, lane| lane.granted.epoch().counts_in(now) || kept.contains(alias));
        if self.lanes.len() == before {
            return;
        }
        self.lanes.shrink_to(self.lanes.len() * 5 / 4);
        // Where a slot is now; none yet where no lane has it.
        let mut moved: Vec<Option<u32>> = vec![None; self.slots.len()];
        let mut kept = Vec::with_capacity(self.lanes.len());
        for lane in self.lanes.values_mut() {
            let range = lane.slots();
            lane.first = kept.len() as u32;
            (range.clone().zip(lane.first..)).for_each(|(from, to)| moved[from] = Some(to));
            kept.extend_from_slice(&self.slots[range]);
        }
        for waiting in [&mut self.dirty, &mut self.out] {
            for links in waiting.links.values_mut() {
                for (slot, shown) in std::mem::take(links).each() {
                    let to = moved[slot as usize].get_or_insert_with(|| {
                        kept.push(self.slots[slot as usize]);
                        kept.len() as u32 - 1
                    });
                    links.show(*to, shown);
                }
            }
        }
        self.slots = kept;
    }

    /// How many lanes are open.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Lines of the journal whose lane nobody knew.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// What is to be done about a verified beat. The machine's own share is counted first: one that sends a
    /// thousand a second gets no further than here.
    pub fn decide(&mut self, verified: &Verified, now: UnixSeconds) -> Decision {
        let beat = *verified.beat();
        let Some(lane) = self.lanes.get_mut(&beat.alias) else {
            return Decision::Say(Outcome::OpenAgain, 0);
        };
        let second = now.0 as u32;
        let passed = u64::from(second.wrapping_sub(lane.filled_at));
        if passed > 0 && passed < u64::from(u32::MAX) / 2 {
            lane.tokens = (u64::from(lane.tokens) + passed * PER_SECOND).min(u64::from(BURST)) as u16;
            lane.filled_at = second;
        } else if passed != 0 {
            // The clock went back.
            lane.filled_at = second;
        }
        if lane.tokens == 0 {
            if lane.told_at == second {
                return Decision::Drop;
            }
            lane.told_at = second;
            return Decision::Say(Outcome::Busy, 60);
        }
        lane.tokens -= 1;
        let places = u32::from(lane.gpus);
        if lane.ended || beat.gpus.leading_zeros() < 64 - places || u32::from(beat.link.slot) >= places {
            return Decision::Say(Outcome::OpenAgain, 0);
        }
        match uptime::credit(now, beat.minute) {
            Ok(_) => {}
            Err(Refusal::Late { .. }) => return Decision::Say(Outcome::TooLate, 0),
            Err(Refusal::Future { .. }) => return Decision::Say(Outcome::TooEarly, 0),
        }
        let slots = &mut self.slots[lane.slots()];
        let Link { slot, count, preimage } = beat.link;
        let known = slots[usize::from(slot)];
        let goes_on = count > known.count;
        let (deeper, steps) = if goes_on {
            (preimage, count - known.count)
        } else {
            // A repeat costs no hash. A value that says more is written even for a minute that is on disk.
            if is_durable(slots, &self.hours, &beat) {
                return Decision::Say(Outcome::Durable, 0);
            }
            (known.preimage, known.count - count)
        };
        // Beats overtake each other on their way: one for an hour that is over shows less than is known by then, and
        // its value is kept too, or that hour would have more minutes than beats were shown.
        let fits =
            steps <= STEPS_MAX && deeper.back(steps) == if goes_on { known.preimage } else { preimage };
        if !fits {
            return Decision::Say(Outcome::OpenAgain, 0);
        }
        if goes_on {
            slots[usize::from(slot)] = Slot { count, preimage, ..known };
        }
        Decision::Write(lane.granted)
    }

    /// Takes in a line that is on disk. Doing so twice changes nothing.
    pub fn apply(&mut self, line: &Line) {
        match *line {
            Line::Frame { alias, minute, gpus, link } => {
                let Some(lane) = self.lanes.get(&alias) else {
                    self.unknown += 1;
                    return;
                };
                let (hour, bit) = (minute.hour(), 1u64 << minute.of_hour());
                let minutes = self.hours.entry(hour).or_default();
                for (place, slot) in self.slots[lane.slots()].iter().enumerate() {
                    if gpus >> place & 1 == 1 && minutes.add(slot.gpu, self.gpus.len(), bit, true) {
                        self.dirty.hours.push((hour, slot.gpu));
                    }
                }
                let Some(Link { slot, count, preimage }) = link else { return };
                if slot >= lane.gpus {
                    return;
                }
                let at = lane.first + u32::from(slot);
                let slot = &mut self.slots[at as usize];
                if count > slot.count {
                    (slot.count, slot.preimage) = (count, preimage);
                }
                self.dirty.links.entry(hour).or_default().show(at, (count, preimage));
            }
            Line::Report { gpu, hour, bits } => {
                let place = self.place(gpu);
                let minutes = self.hours.entry(hour).or_default();
                if minutes.add(place, self.gpus.len(), bits.0, false) {
                    self.dirty.hours.push((hour, place));
                }
            }
            Line::Up(minute) => {
                *self.up.entry(minute.hour()).or_default() |= 1 << minute.of_hour();
                self.dirty.up.insert(minute.hour());
            }
        }
    }

    /// How much waits to be folded, counted as hours of GPUs.
    pub fn waiting(&self) -> usize {
        self.dirty.hours.len() + self.dirty.up.len() + self.out.hours.len()
    }

    /// Everything that the books do not have yet. It is given again until [`Self::folded`] says that they do.
    pub fn take(&mut self) -> Fold {
        let (out, dirty) = (&mut self.out, &mut self.dirty);
        out.hours.append(&mut dirty.hours);
        for (hour, links) in std::mem::take(&mut dirty.links) {
            match out.links.entry(hour) {
                Entry::Vacant(none) => drop(none.insert(links)),
                Entry::Occupied(mut some) => {
                    links.each().for_each(|(slot, shown)| some.get_mut().show(slot, shown));
                }
            }
        }
        out.up.extend(dirty.up.drain());
        let mut fold = Fold::default();
        fold.hours.reserve_exact(out.hours.len());
        for (hour, place) in &out.hours {
            let Some(minutes) = self.hours.get_mut(hour) else { continue };
            if let Some(word) = minutes.all.get_mut(*place as usize) {
                *word &= !DIRTY;
            }
            fold.hours.push(FoldedHour {
                gpu: self.gpus[*place as usize],
                hour: *hour,
                bits: UptimeHour(Minutes::get(&minutes.all, *place)),
                unchained: UptimeHour(Minutes::get(&minutes.unchained, *place)),
            });
        }
        fold.links.reserve_exact(out.links.values().map(|links| links.held).sum());
        for (hour, links) in &out.links {
            fold.links.extend(links.each().map(|(slot, (count, preimage))| {
                let slot = &self.slots[slot as usize];
                let (gpu, tip) = (self.gpus[slot.gpu as usize], slot.tip);
                FoldedLink { gpu, hour: *hour, tip, count, preimage }
            }));
        }
        for hour in &out.up {
            fold.up.push((*hour, UptimeHour(self.up.get(hour).copied().unwrap_or(0))));
        }
        fold
    }

    /// The books have what was taken last. Hours long past are dropped from memory.
    pub fn folded(&mut self, now: Minute) {
        self.out = Waiting::default();
        let keep = Hour(now.hour().0.saturating_sub(HOURS_KEPT));
        let waiting: HashSet<Hour> = self.dirty.hours.iter().map(|(hour, _)| *hour).collect();
        self.hours.retain(|hour, _| *hour >= keep || waiting.contains(hour));
        let waiting = &self.dirty.up;
        self.up.retain(|hour, _| *hour >= keep || waiting.contains(hour));
    }
}

fn is_durable(slots: &[Slot], hours: &BTreeMap<Hour, Minutes>, beat: &Beat) -> bool {
    let Some(minutes) = hours.get(&beat.minute.hour()) else { return false };
    let bit = 1u64 << beat.minute.of_hour();
    slots
        .iter()
        .enumerate()
        .all(|(place, slot)| beat.gpus >> place & 1 == 0 || minutes.is_durable(slot.gpu, bit))
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
