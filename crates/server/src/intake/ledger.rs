//! What the intake keeps in memory: lanes, the minutes that are on disk, and which of them the books do not have
//! yet. Decides what becomes of a beat; knows no socket, no thread and no storage.

use std::collections::{BTreeMap, HashMap, HashSet};

use gangline_guard::beat::{Grant, Line, Verified};
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

/// One GPU's place in a lane.
#[derive(Clone, Copy)]
struct Slot {
    gpu: u32,
    tip: Preimage,
    count: u16,
    preimage: Preimage,
}

struct Lane {
    grant: Grant,
    ended: bool,
    tokens: u16,
    filled_at: u32,
    told_at: u32,
    slots: Box<[Slot]>,
}

#[derive(Clone, Copy, Default)]
struct Bits {
    all: u64,
    unchained: u64,
    dirty: bool,
}

/// What is to be done about a verified beat.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// Write it down, then answer.
    Write {
        /// Under this.
        grant: &'a Grant,
        /// Its chain's value goes further than what is known.
        fresh: bool,
    },
    /// Answer at once.
    Say(Outcome, u16),
    /// Say nothing: the machine was told to wait this very second.
    Drop,
}

/// A GPU's place and the tip of one of its chains.
type Chain = (u32, Preimage);
/// How deep a chain was shown, and the value there.
type Shown = (u16, Preimage);

/// What the books do not have.
#[derive(Default)]
struct Waiting {
    hours: Vec<(Hour, u32)>,
    links: HashSet<(Hour, Chain)>,
    up: HashSet<Hour>,
}

/// The intake's memory.
#[derive(Default)]
pub struct Ledger {
    lanes: HashMap<Alias, Lane>,
    gpus: Vec<GpuId>,
    places: HashMap<GpuId, u32>,
    hours: BTreeMap<Hour, HashMap<u32, Bits>>,
    links: BTreeMap<Hour, HashMap<Chain, Shown>>,
    up: BTreeMap<Hour, u64>,
    dirty: Waiting,
    /// Given out to be folded, and not confirmed yet.
    out: Waiting,
    unknown: u64,
}

impl Ledger {
    fn place(&mut self, gpu: GpuId) -> u32 {
        *self.places.entry(gpu).or_insert_with(|| {
            self.gpus.push(gpu);
            self.gpus.len() as u32 - 1
        })
    }

    /// A machine opened an epoch. `deepest` has the values that were shown before, where some were.
    pub fn open(&mut self, lane: &LaneRow, deepest: &HashMap<Preimage, (u16, Preimage)>, now: UnixSeconds) {
        let alias = lane.grant.alias();
        let known = self.lanes.get(&alias).map(|lane| lane.slots.clone()).unwrap_or_default();
        let slots = lane
            .gpus
            .iter()
            .map(|(gpu, tip)| {
                let (mut count, mut preimage) = deepest.get(tip).copied().unwrap_or((0, *tip));
                if let Some(slot) = known.iter().find(|slot| slot.tip == *tip && slot.count > count) {
                    (count, preimage) = (slot.count, slot.preimage);
                }
                Slot { gpu: self.place(*gpu), tip: *tip, count, preimage }
            })
            .collect();
        let filled_at = now.0 as u32;
        let lane = Lane { grant: lane.grant, ended: false, tokens: BURST, filled_at, told_at: 0, slots };
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

    /// Drops lanes of epochs that do not count any more.
    pub fn forget(&mut self, now: gangline_wire::beat::Epoch) {
        self.lanes.retain(|_, lane| lane.grant.epoch().counts_in(now));
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
    pub fn decide(&mut self, verified: &Verified, now: UnixSeconds) -> Decision<'_> {
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
        let places = lane.slots.len() as u32;
        if lane.ended || beat.gpus.leading_zeros() < 64 - places || u32::from(beat.link.slot) >= places {
            return Decision::Say(Outcome::OpenAgain, 0);
        }
        match uptime::credit(now, beat.minute) {
            Ok(_) => {}
            Err(Refusal::Late { .. }) => return Decision::Say(Outcome::TooLate, 0),
            Err(Refusal::Future { .. }) => return Decision::Say(Outcome::TooEarly, 0),
        }
        let slot = &mut lane.slots[usize::from(beat.link.slot)];
        // A value shown again is written again: its first commit may have failed.
        let fresh = beat.link.count >= slot.count;
        if fresh {
            let steps = beat.link.count - slot.count;
            if steps > STEPS_MAX || beat.link.preimage.back(steps) != slot.preimage {
                return Decision::Say(Outcome::OpenAgain, 0);
            }
            (slot.count, slot.preimage) = (beat.link.count, beat.link.preimage);
        }
        let (slots, hours) = (&lane.slots, &self.hours);
        if is_durable(slots, hours, &beat) {
            return Decision::Say(Outcome::Durable, 0);
        }
        Decision::Write { grant: &lane.grant, fresh }
    }

    /// Takes in a line that is on disk. Doing so twice changes nothing.
    pub fn apply(&mut self, line: &Line) {
        match *line {
            Line::Frame { alias, minute, gpus, link } => {
                let Some(lane) = self.lanes.get_mut(&alias) else {
                    self.unknown += 1;
                    return;
                };
                let hour = minute.hour();
                let bit = 1u64 << minute.of_hour();
                let records = self.hours.entry(hour).or_default();
                for (place, slot) in lane.slots.iter().enumerate() {
                    if gpus >> place & 1 == 1 {
                        let bits = records.entry(slot.gpu).or_default();
                        let before = (bits.all, bits.unchained);
                        bits.all |= bit;
                        bits.unchained &= !bit;
                        if before != (bits.all, bits.unchained) && !std::mem::replace(&mut bits.dirty, true) {
                            self.dirty.hours.push((hour, slot.gpu));
                        }
                    }
                }
                let Some(Link { slot, count, preimage }) = link else { return };
                let Some(slot) = lane.slots.get_mut(usize::from(slot)) else { return };
                if count > slot.count {
                    (slot.count, slot.preimage) = (count, preimage);
                }
                let deepest = self.links.entry(hour).or_default().entry((slot.gpu, slot.tip)).or_default();
                if count > deepest.0 {
                    *deepest = (count, preimage);
                    self.dirty.links.insert((hour, (slot.gpu, slot.tip)));
                }
            }
            Line::Report { gpu, hour, bits } => {
                let place = self.place(gpu);
                let known = self.hours.entry(hour).or_default().entry(place).or_default();
                let new = bits.0 & UptimeHour::FULL.0 & !known.all;
                known.all |= new;
                known.unchained |= new;
                if new != 0 && !std::mem::replace(&mut known.dirty, true) {
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
        out.links.extend(dirty.links.drain());
        out.up.extend(dirty.up.drain());
        let mut fold = Fold::default();
        for (hour, place) in &out.hours {
            let Some(bits) = self.hours.get_mut(hour).and_then(|h| h.get_mut(place)) else { continue };
            bits.dirty = false;
            fold.hours.push(FoldedHour {
                gpu: self.gpus[*place as usize],
                hour: *hour,
                bits: UptimeHour(bits.all),
                unchained: UptimeHour(bits.unchained),
            });
        }
        for (hour, chain) in &out.links {
            let Some((count, preimage)) = self.links.get(hour).and_then(|h| h.get(chain)) else { continue };
            let (gpu, tip) = (self.gpus[chain.0 as usize], chain.1);
            fold.links.push(FoldedLink { gpu, hour: *hour, tip, count: *count, preimage: *preimage });
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
        let waiting: HashSet<Hour> = self.dirty.links.iter().map(|(hour, _)| *hour).collect();
        self.links.retain(|hour, _| *hour >= keep || waiting.contains(hour));
        let waiting = &self.dirty.up;
        self.up.retain(|hour, _| *hour >= keep || waiting.contains(hour));
    }
}

fn is_durable(slots: &[Slot], hours: &BTreeMap<Hour, HashMap<u32, Bits>>, beat: &Beat) -> bool {
    let Some(records) = hours.get(&beat.minute.hour()) else { return false };
    let bit = 1u64 << beat.minute.of_hour();
    slots.iter().enumerate().all(|(place, slot)| {
        beat.gpus >> place & 1 == 0
            || records.get(&slot.gpu).is_some_and(|bits| bits.all & !bits.unchained & bit != 0)
    })
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
