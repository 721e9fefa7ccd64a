//! What the intake keeps in memory: lanes, the minutes that are on disk, and which of them the books do not have
//! yet. Decides what becomes of a beat; knows no socket, no thread and no storage.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use gangline_guard::beat::{Granted, Line, Verified};
use gangline_rules::uptime::{self, Refusal};
use gangline_store::{Fold, FoldedHour, FoldedLink, LaneRow};
use gangline_types::{GpuId, Hour, Minute, UnixSeconds, UptimeHour};
use gangline_wire::beat::{Alias, Beat, Epoch, Link, Outcome, Preimage};

/// Beats a machine may send at once: a whole late window of them, and some again.
const BURST: u16 = 480;
/// And from then on, in a second. One a minute is what is needed.
const PER_SECOND: u64 = 2;
/// How many values a chain may go on at once: as many as a day has minutes. Each costs 0.1 us.
const STEPS_MAX: u16 = 1440;
/// A lane whose machine beats on a later one is forgotten so long after it was last used, in seconds.
const LEFT_SECONDS: u32 = 120;
/// And when those are one of so many, or at an hour's beginning.
const LEFT_PART: usize = 8;
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

/// The deepest value that an hour's beats have shown of each slot's chain and that the books lack, by the slots' places; none
/// where a count is 0. Of everybody it is a third of what a map would take, and of few no more than their pages.
#[derive(Default)]
struct Links {
    pages: Vec<Option<Box<[Shown; Self::PAGE]>>>,
    held: usize,
}

impl Links {
    /// Slots of one page.
    const PAGE: usize = 512;

    /// Takes in a value; whether it is the first of its slot.
    fn show(&mut self, slot: u32, shown: Shown) -> bool {
        let (page, at) = (slot as usize / Self::PAGE, slot as usize % Self::PAGE);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page].get_or_insert_with(|| Box::new([Shown::default(); Self::PAGE]));
        let deepest = &mut page[at];
        let is_first = deepest.0 == 0;
        if shown.0 <= deepest.0 {
            return false;
        }
        self.held += usize::from(is_first);
        *deepest = shown;
        is_first
    }
    /// The slot's value.
    fn get(&self, slot: u32) -> Option<Shown> {
        let page = self.pages.get(slot as usize / Self::PAGE)?.as_ref()?;
        Some(page[slot as usize % Self::PAGE]).filter(|shown| shown.0 > 0)
    }
    /// Takes the slot's value out.
    fn take(&mut self, slot: u32) -> Option<Shown> {
        let page = self.pages.get_mut(slot as usize / Self::PAGE)?.as_mut()?;
        let shown = std::mem::take(&mut page[slot as usize % Self::PAGE]);
        self.held -= usize::from(shown.0 > 0);
        Some(shown).filter(|shown| shown.0 > 0)
    }
}

/// GPUs are folded in so many parts, by the first byte of their ids: neighbours in the books are of one part, and parts of a
/// large network are some thousand GPUs.
pub const PARTS: usize = 256;

/// Which part a GPU is of.
pub(super) fn part_of(gpu: GpuId) -> usize {
    usize::from(gpu.as_bytes()[0])
}

/// What the books do not have of a part.
#[derive(Default)]
pub(super) struct Part {
    hours: Vec<(Hour, u32)>,
    /// Slots that have a value in [`Ledger::links`].
    pub(super) links: Vec<(Hour, u32)>,
    /// The books have what came before this; none until somebody asked.
    told_at: Option<Instant>,
}

/// What was given out to be folded, and is not confirmed yet.
#[derive(Default)]
struct Out {
    /// From this part on, up to the ledger's next.
    first: usize,
    hours: Vec<(Hour, u32)>,
    links: Vec<(Hour, u32, Shown)>,
    up: Vec<Hour>,
    taken_at: Option<Instant>,
}

impl Out {
    fn is_empty(&self) -> bool {
        self.hours.is_empty() && self.links.is_empty() && self.up.is_empty()
    }
}

/// What is to be folded.
#[derive(Debug, Default)]
pub struct Taken {
    /// The rows.
    pub fold: Fold,
    /// Of how many parts.
    pub parts: usize,
    /// Whether the first part is among them.
    pub is_first: bool,
    /// Whether the last part is: all were taken since the first was.
    pub is_last: bool,
}

/// The intake's memory.
pub struct Ledger {
    /// By a hash that is quick and no more than that: an alias is one already, keyed with a secret of the server's, so whoever
    /// would have many fall together cannot choose them.
    lanes: HashMap<Alias, Lane, foldhash::fast::RandomState>,
    /// In the order in which their lanes were opened, but for the first `loaded`: of these only the epochs tell.
    pub(super) slots: Vec<Slot>,
    loaded: u32,
    /// Chains that were begun since lanes were last looked through for those that their machines have left.
    begun: usize,
    pub(super) gpus: Vec<GpuId>,
    places: HashMap<GpuId, u32>,
    pub(super) hours: BTreeMap<Hour, Minutes>,
    up: BTreeMap<Hour, u64>,
    /// What the books do not have: values of chains, GPUs' hours part by part, hours of the intake itself.
    links: BTreeMap<Hour, Links>,
    pub(super) parts: Vec<Part>,
    up_waits: HashSet<Hour>,
    /// The part that is folded next.
    next: usize,
    out: Out,
    /// Whom the books know as connected.
    pub(super) known: super::turned::Known,
    unknown: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            lanes: HashMap::default(),
            slots: Vec::new(),
            loaded: 0,
            begun: 0,
            gpus: Vec::new(),
            places: HashMap::new(),
            hours: BTreeMap::new(),
            up: BTreeMap::new(),
            links: BTreeMap::new(),
            parts: std::iter::repeat_with(Part::default).take(PARTS).collect(),
            up_waits: HashSet::new(),
            next: 0,
            out: Out::default(),
            known: Default::default(),
            unknown: 0,
        }
    }
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

    /// What is there now was opened in nobody knows which order.
    pub fn loaded(&mut self) {
        self.loaded = self.slots.len() as u32;
    }

    /// Drops lanes of epochs that do not count any more and those that their machines have left for a later one, but for those
    /// that `kept` names, and their slots unless a value of theirs waits to be folded.
    pub fn forget(&mut self, now: UnixSeconds, kept: &HashSet<Alias>) {
        let (before, epoch) = (self.lanes.len(), Epoch::of(now));
        self.lanes.retain(|alias, lane| lane.granted.epoch().counts_in(epoch) || kept.contains(alias));
        if self.begun > 0 && (now.minute().of_hour() == 0 || self.begun > before / LEFT_PART) {
            self.leave(now.0 as u32, kept);
        }
        if self.lanes.len() == before {
            return;
        }
        self.lanes.shrink_to(self.lanes.len() * 5 / 4);
        // Where a slot is now; none where it is nobody's any more. Their order stays.
        const GONE: u32 = u32::MAX;
        let mut moved = vec![GONE; self.slots.len()];
        self.lanes.values().for_each(|lane| moved[lane.slots()].fill(0));
        let waiting = self.parts.iter().flat_map(|part| &part.links).map(|(_, slot)| *slot);
        let out = self.out.links.iter().map(|(_, slot, _)| *slot);
        waiting.chain(out).for_each(|slot| moved[slot as usize] = 0);
        let mut kept = Vec::with_capacity(self.slots.len() - moved.iter().filter(|to| **to == GONE).count());
        let loaded = self.loaded as usize;
        for (from, (slot, to)) in self.slots.iter().zip(&mut moved).enumerate() {
            if *to != GONE {
                *to = kept.len() as u32;
                kept.push(*slot);
            } else if from < loaded {
                self.loaded -= 1;
            }
        }
        for lane in self.lanes.values_mut() {
            lane.first = moved.get(lane.first as usize).copied().unwrap_or(0);
        }
        let mut before = std::mem::take(&mut self.links);
        for (hour, slot) in self.parts.iter_mut().flat_map(|part| &mut part.links) {
            let shown = before.get_mut(hour).and_then(|links| links.take(*slot));
            *slot = moved[*slot as usize];
            if let Some(shown) = shown {
                self.links.entry(*hour).or_default().show(*slot, shown);
            }
        }
        self.out.links.iter_mut().for_each(|(_, slot, _)| *slot = moved[*slot as usize]);
        self.slots = kept;
    }

    /// Drops lanes of which all GPUs have shown a value of a later one.
    fn leave(&mut self, second: u32, kept: &HashSet<Alias>) {
        // By the GPUs' places.
        let mut newest = vec![(Epoch(0), 0); self.gpus.len()];
        for lane in self.lanes.values() {
            for slot in &self.slots[lane.slots()] {
                let known = &mut newest[slot.gpu as usize];
                if slot.count > 0 {
                    *known = (lane.granted.epoch(), lane.first).max(*known);
                }
            }
        }
        let (slots, loaded) = (&self.slots, self.loaded);
        let mut waiting = 0;
        self.lanes.retain(|alias, lane| {
            let is_left = slots[lane.slots()].iter().all(|slot| {
                let (epoch, first) = newest[slot.gpu as usize];
                epoch > lane.granted.epoch() || (first > lane.first && first >= loaded)
            });
            let is_quiet = second.wrapping_sub(lane.filled_at) >= LEFT_SECONDS;
            waiting += usize::from(is_left && !is_quiet);
            !(is_left && is_quiet) || kept.contains(alias)
        });
        self.begun = waiting;
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
            self.begun += usize::from(known.count == 0);
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
                        self.parts[part_of(self.gpus[slot.gpu as usize])].hours.push((hour, slot.gpu));
                    }
                }
                let Some(Link { slot, count, preimage }) = link else { return };
                if slot >= lane.gpus {
                    return;
                }
                let at = lane.first + u32::from(slot);
                let slot = &mut self.slots[at as usize];
                if count > slot.count {
                    self.begun += usize::from(slot.count == 0);
                    (slot.count, slot.preimage) = (count, preimage);
                }
                let place = slot.gpu as usize;
                if self.links.entry(hour).or_default().show(at, (count, preimage)) {
                    self.parts[part_of(self.gpus[place])].links.push((hour, at));
                }
            }
            Line::Report { gpu, hour, bits } => {
                let place = self.place(gpu);
                let minutes = self.hours.entry(hour).or_default();
                if minutes.add(place, self.gpus.len(), bits.0, false) {
                    self.parts[part_of(gpu)].hours.push((hour, place));
                }
            }
            Line::Up(minute) => {
                *self.up.entry(minute.hour()).or_default() |= 1 << minute.of_hour();
                self.up_waits.insert(minute.hour());
            }
        }
    }

    /// How much waits to be folded, counted as hours of GPUs.
    pub fn waiting(&self) -> usize {
        self.parts.iter().map(|part| part.hours.len()).sum::<usize>()
            + self.up_waits.len()
            + self.out.hours.len()
            + self.out.up.len()
    }

    /// The parts that were taken last.
    fn parts_out(&self) -> std::ops::Range<usize> {
        self.out.first..if self.next == 0 { PARTS } else { self.next }
    }

    /// How long the oldest of what waits may have waited; none where nothing does.
    pub fn waits_for(&mut self, at: Instant) -> Option<Duration> {
        let out = if self.out.is_empty() { 0..0 } else { self.parts_out() };
        let waits = self.parts.iter_mut().enumerate().filter_map(|(n, part)| {
            if part.hours.is_empty() && part.links.is_empty() && !out.contains(&n) {
                part.told_at = Some(at);
                return None;
            }
            Some(at.saturating_duration_since(*part.told_at.get_or_insert(at)))
        });
        waits.max()
    }

    /// What the books do not have yet of the next parts: of one, and of more until these are so many hours. It is given again
    /// until [`Self::folded`] says that the books have it. Who is in it is known to be told.
    pub fn take(&mut self, at_most: usize, now: UnixSeconds, at: Instant) -> Taken {
        self.give_back();
        let out = &mut self.out;
        (out.first, out.taken_at) = (self.next, Some(at));
        let mut parts = 0;
        while self.next < PARTS && (parts == 0 || out.hours.len() < at_most) {
            let part = &mut self.parts[self.next];
            out.hours.extend(taken(&mut part.hours));
            for (hour, slot) in taken(&mut part.links) {
                let shown = self.links.get_mut(&hour).and_then(|links| links.take(slot));
                out.links.extend(shown.map(|shown| (hour, slot, shown)));
            }
            self.next += 1;
            parts += 1;
        }
        let (is_first, is_last) = (out.first == 0, self.next == PARTS);
        self.next %= PARTS;
        out.up.extend(self.up_waits.drain());

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
        fold.links.reserve_exact(out.links.len());
        fold.links.extend(out.links.iter().map(|(hour, slot, (count, preimage))| {
            let slot = &self.slots[*slot as usize];
            let (gpu, tip) = (self.gpus[slot.gpu as usize], slot.tip);
            FoldedLink { gpu, hour: *hour, tip, count: *count, preimage: *preimage }
        }));
        for hour in &out.up {
            fold.up.push((*hour, UptimeHour(self.up.get(hour).copied().unwrap_or(0))));
        }
        let places: Vec<u32> = out.hours.iter().map(|(_, place)| *place).collect();
        self.told(&places, now);
        Taken { fold, parts, is_first, is_last }
    }

    /// What was given out and not confirmed waits again.
    fn give_back(&mut self) {
        if self.out.is_empty() {
            return;
        }
        let Out { first, hours, links, up, .. } = std::mem::take(&mut self.out);
        for (hour, place) in hours {
            let word = self.hours.get_mut(&hour).and_then(|minutes| minutes.all.get_mut(place as usize));
            // Where it changed since, it waits already.
            if let Some(word) = word.filter(|word| **word & DIRTY == 0) {
                *word |= DIRTY;
                self.parts[part_of(self.gpus[place as usize])].hours.push((hour, place));
            }
        }
        for (hour, slot, shown) in links {
            if self.links.entry(hour).or_default().show(slot, shown) {
                let gpu = self.gpus[self.slots[slot as usize].gpu as usize];
                self.parts[part_of(gpu)].links.push((hour, slot));
            }
        }
        self.up_waits.extend(up);
        self.next = first;
    }

    /// The books have what was taken last. Hours long past are dropped from memory.
    pub fn folded(&mut self, now: Minute) {
        let parts = self.parts_out();
        let Out { taken_at, .. } = std::mem::take(&mut self.out);
        self.parts[parts].iter_mut().for_each(|part| part.told_at = taken_at);
        let keep = Hour(now.hour().0.saturating_sub(HOURS_KEPT));
        self.links.retain(|_, links| links.held > 0);
        if self.hours.keys().any(|hour| *hour < keep) {
            let waiting: HashSet<Hour> =
                self.parts.iter().flat_map(|part| part.hours.iter().map(|(hour, _)| *hour)).collect();
            self.hours.retain(|hour, _| *hour >= keep || waiting.contains(hour));
        }
        self.up.retain(|hour, _| *hour >= keep || self.up_waits.contains(hour));
    }

    /// What waits of these GPUs' chains, or is on its way to the books.
    pub(super) fn links_of(&self, places: &HashSet<u32>) -> Vec<FoldedLink> {
        let parts: HashSet<usize> = places.iter().map(|place| part_of(self.gpus[*place as usize])).collect();
        let waits = parts
            .iter()
            .flat_map(|part| &self.parts[*part].links)
            .filter_map(|(hour, slot)| Some((*hour, *slot, self.links.get(hour)?.get(*slot)?)));
        let all = waits.chain(self.out.links.iter().copied());
        let folded = all.filter_map(|(hour, slot, (count, preimage))| {
            let slot = &self.slots[slot as usize];
            let gpu = places.contains(&slot.gpu).then(|| self.gpus[slot.gpu as usize])?;
            Some(FoldedLink { gpu, hour, tip: slot.tip, count, preimage })
        });
        folded.collect()
    }
}

/// Takes all, and leaves room for as many again, not for the next power of two: of a large network such lists are megabytes.
fn taken<T>(rows: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(rows.len() + rows.len() / 16);
    std::mem::replace(rows, room)
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
