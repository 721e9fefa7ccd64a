//! What the intake's memory holds to: beats count once, for the right GPU, by a chain that fits.

use std::collections::HashMap;

use gangline_guard::beat::{Gate, Grant};
use gangline_types::{AccountId, KeyId, MachineId};
use gangline_wire::beat::{BeatKey, Chain, Epoch, EpochMaster, WorkerVersion};
use proptest::prelude::*;

use super::*;

const SECRET: [u8; 32] = [5; 32];
const EPOCH: Epoch = Epoch(20_000);
/// Some minutes into the epoch.
const NOW: UnixSeconds = UnixSeconds(20_000 * 86_400 + 3 * 3600 + 600);

struct World {
    ledger: Ledger,
    gate: Gate,
    chains: Vec<Chain>,
    lane: LaneRow,
    key: BeatKey,
}

impl World {
    /// A machine of `gpus` GPUs that has opened the epoch.
    fn new(gpus: u8) -> Self {
        let chains: Vec<Chain> = (0..gpus).map(|n| Chain::from_seed([n; 32])).collect();
        let machine = MachineId::from_bytes([9; 16]);
        let master = EpochMaster::of(&SECRET, EPOCH);
        let alias = master.alias(machine, chains[0].tip());
        let grant =
            Grant::kept(alias, EPOCH, machine, AccountId::from_bytes([8; 16]), KeyId::from_bytes([7; 16]));
        let gpus = chains.iter().enumerate().map(|(n, c)| (GpuId::from_bytes([n as u8; 16]), c.tip()));
        let lane = LaneRow { grant, gpus: gpus.collect() };
        let mut ledger = Ledger::default();
        ledger.open(&lane, &HashMap::new(), NOW);
        Self { ledger, gate: Gate::new(SECRET), chains, lane, key: master.key(alias) }
    }

    fn beat(&self, minute: Minute, gpus: u64, slot: u8, count: u16) -> Beat {
        let preimage = self.chains[usize::from(slot) % self.chains.len()].value(count);
        let link = Link { slot, count, preimage };
        Beat { epoch: EPOCH, alias: self.lane.grant.alias(), minute, worker: WorkerVersion(0), gpus, link }
    }

    /// What is decided; what is to be written is.
    fn send(&mut self, beat: &Beat, now: UnixSeconds) -> Option<(Outcome, u16)> {
        let verified = self.gate.check(&beat.seal(&self.key), EPOCH).unwrap();
        let mut batch = gangline_guard::beat::Batch::default();
        match self.ledger.decide(&verified, now) {
            Decision::Say(outcome, wait) => return Some((outcome, wait)),
            Decision::Drop => return None,
            Decision::Write(granted) => assert!(batch.frame(&verified, granted)),
        }
        batch.lines().iter().for_each(|line| self.ledger.apply(line));
        Some((Outcome::Durable, 0))
    }

    /// What the books do not have.
    fn take(&mut self) -> Fold {
        self.ledger.take(usize::MAX, NOW, Instant::now()).fold
    }

    fn outcome(&mut self, beat: &Beat) -> Outcome {
        self.send(beat, NOW).unwrap().0
    }
}

const DURABLE: Option<(Outcome, u16)> = Some((Outcome::Durable, 0));

#[test]
fn a_beat_counts_once_and_for_its_own_gpus() {
    let mut world = World::new(3);
    let minute = NOW.minute();
    let beat = world.beat(minute, 0b101, 0, 1);
    assert_eq!(world.send(&beat, NOW), DURABLE);
    assert_eq!(world.send(&beat, NOW), DURABLE);
    let fold = world.take();
    let gpus: Vec<u8> = fold.hours.iter().map(|h| h.gpu.as_bytes()[0]).collect();
    assert_eq!(gpus, [0, 2], "the second GPU was not alive");
    assert!(fold.hours.iter().all(|h| h.bits.minutes() == 1 && h.unchained.minutes() == 0));
    assert_eq!((fold.links.len(), fold.links[0].count), (1, 1));
    // What is not confirmed is given again; what is, is not.
    assert_eq!(world.take().hours, fold.hours);
    world.ledger.folded(minute);
    assert!(world.take().hours.is_empty());
    assert_eq!(world.send(&beat, NOW), DURABLE);
    assert!(world.take().hours.is_empty(), "a repeat became news");
}

#[test]
fn what_does_not_fit_is_told_so() {
    let mut world = World::new(2);
    let minute = NOW.minute();
    assert_eq!(world.outcome(&world.beat(Minute(minute.0 - 362), 1, 0, 1)), Outcome::TooLate);
    assert_eq!(world.outcome(&world.beat(Minute(minute.0 + 2), 1, 0, 1)), Outcome::TooEarly);
    assert_eq!(world.outcome(&world.beat(minute, 0b100, 0, 1)), Outcome::OpenAgain, "a GPU it does not have");
    assert_eq!(world.outcome(&world.beat(minute, 1, 2, 1)), Outcome::OpenAgain, "a chain it does not have");
    let mut forged = world.beat(minute, 1, 0, 2);
    forged.link.preimage.0[0] ^= 1;
    assert_eq!(world.outcome(&forged), Outcome::OpenAgain, "a value of no chain");
    assert!(world.take().hours.is_empty());
    assert_eq!(world.outcome(&world.beat(minute, 1, 0, 2)), Outcome::Durable);
    let alias = world.lane.grant.alias();
    world.ledger.end(&[alias]);
    assert_eq!(world.outcome(&world.beat(minute, 1, 0, 3)), Outcome::OpenAgain, "its key has ended");
    let later = NOW.plus(2 * 86_400);
    world.ledger.forget(later, &[alias].into());
    assert!(world.ledger.knows(alias), "it was to be kept");
    world.ledger.forget(later, &HashSet::new());
    assert!(!world.ledger.knows(alias));
    assert_eq!(world.outcome(&world.beat(minute, 1, 0, 3)), Outcome::OpenAgain);
}

#[test]
fn an_hour_s_beats_are_on_its_chain_in_whatever_order_they_come() {
    let mut world = World::new(2);
    let minute = NOW.minute();
    let (last, next) = (Minute(minute.hour().start().0 - 1), Minute(minute.hour().start().0));
    // The newer hour's beat overtook that of the hour before, which shows less than is known by then.
    assert_eq!(world.outcome(&world.beat(next, 1, 0, 5)), Outcome::Durable);
    let mut forged = world.beat(last, 1, 0, 4);
    forged.link.preimage.0[0] ^= 1;
    assert_eq!(world.outcome(&forged), Outcome::OpenAgain, "a value of no chain");
    assert_eq!(world.outcome(&world.beat(last, 1, 0, 4)), Outcome::Durable);
    let mut links: Vec<_> = world.take().links.iter().map(|l| (l.hour, l.count)).collect();
    links.sort_unstable();
    assert_eq!(links, [(last.hour(), 4), (next.hour(), 5)]);
    // A minute that is on disk: a deeper value is news, the same or an older one is not.
    world.ledger.folded(minute);
    for count in [4, 5] {
        assert_eq!(world.outcome(&world.beat(next, 1, 0, count)), Outcome::Durable);
    }
    assert!(world.take().links.is_empty(), "a repeat became news");
    assert_eq!(world.outcome(&world.beat(next, 1, 0, 6)), Outcome::Durable);
    assert_eq!(world.take().links[0].count, 6);
}

#[test]
fn what_waits_stays_when_lanes_before_and_after_it_are_forgotten() {
    // Of many lanes of this epoch, one of the next amid them: its slot moves, and those without a lane follow behind.
    let mut world = World::new(1);
    let (count, kept) = (1_300u32, 700u32);
    let tip = |n: u32| Preimage(std::array::from_fn(|at| (n >> (8 * (at % 4))) as u8));
    for n in 1..=count {
        let epoch = if n == kept { Epoch(EPOCH.0 + 2) } else { EPOCH };
        let (machine, account) = (MachineId::from_bytes([1; 16]), AccountId::from_bytes([8; 16]));
        let grant = Grant::kept(Alias(n.into()), epoch, machine, account, KeyId::from_bytes([7; 16]));
        let gpu = GpuId::from_bytes(tip(n).0);
        world.ledger.open(&LaneRow { grant, gpus: vec![(gpu, tip(n))] }, &HashMap::new(), NOW);
    }
    let minute = NOW.minute();
    let beats = [3, kept, 1_200];
    let apply = |world: &mut World, minute| {
        for n in beats {
            let link = Some(Link { slot: 0, count: n as u16, preimage: tip(n) });
            world.ledger.apply(&Line::Frame { alias: Alias(n.into()), minute, gpus: 1, link });
        }
    };
    apply(&mut world, minute);
    // Given out to be folded, and not confirmed.
    let before = world.take();
    apply(&mut world, Minute(minute.0 + 60));
    world.ledger.forget(NOW.plus(2 * 86_400), &HashSet::new());
    assert_eq!((world.ledger.lanes(), world.ledger.slots.len()), (1, 3), "more was kept than what waits");
    let told = |fold: &Fold| {
        let mut told: Vec<_> = fold.links.iter().map(|l| (l.hour, l.gpu, l.tip, l.count)).collect();
        told.sort_unstable_by_key(|link| (link.0, link.3));
        told
    };
    let after = told(&world.take());
    assert_eq!(after[..3], told(&before));
    for (n, (hour, gpu, chain, count)) in beats.iter().zip(&after[3..]) {
        let expected = (Hour(minute.hour().0 + 1), GpuId::from_bytes(tip(*n).0), tip(*n), *n as u16);
        assert_eq!((*hour, *gpu, *chain, *count), expected);
    }
}

#[test]
fn the_books_are_told_part_by_part_and_what_is_not_confirmed_again() {
    let mut world = World::new(64);
    let (minute, began) = (NOW.minute(), Instant::now());
    let at = |seconds| began + Duration::from_secs(seconds);
    let told = |taken: &Taken| taken.fold.hours.iter().map(|hour| hour.gpu.as_bytes()[0]).collect::<Vec<_>>();
    let all: Vec<u8> = (0..64).collect();
    assert_eq!(world.outcome(&world.beat(minute, u64::MAX, 5, 1)), Outcome::Durable);
    assert_eq!(world.ledger.waits_for(at(0)), Some(Duration::ZERO));

    // Each part is one GPU here. The first eight, in two times.
    let first = world.ledger.take(4, NOW, at(10));
    assert_eq!((told(&first), first.is_first, first.is_last), (all[..4].to_vec(), true, false));
    world.ledger.folded(minute);
    let second = world.ledger.take(4, NOW, at(11));
    assert_eq!((told(&second), second.is_first), (all[4..8].to_vec(), false));
    assert_eq!(second.fold.links.iter().map(|link| link.gpu.as_bytes()[0]).collect::<Vec<_>>(), [5]);
    // They never came to the books, and one GPU beat again meanwhile.
    assert_eq!(world.outcome(&world.beat(Minute(minute.0 - 1), 1 << 5, 5, 2)), Outcome::Durable);
    assert_eq!(world.ledger.waiting(), 56 + 4 + 1);
    let again = world.ledger.take(4, NOW, at(12));
    assert_eq!((told(&again), again.parts), (all[4..8].to_vec(), 4));
    let five = &again.fold.hours[1];
    assert_eq!((five.bits.minutes(), again.fold.links[0].count, again.fold.links.len()), (2, 2, 1));
    assert_eq!(world.ledger.waits_for(at(20)), Some(Duration::from_secs(20)));
    world.ledger.folded(minute);

    // The rest, up to the round's end; then the oldest that waits is the one that came since its part was told.
    assert_eq!(world.outcome(&world.beat(Minute(minute.0 - 2), 0b11 << 4, 4, 3)), Outcome::Durable);
    let rest = world.ledger.take(usize::MAX, NOW, at(30));
    assert_eq!((told(&rest), rest.parts, rest.is_last), (all[8..].to_vec(), PARTS - 8, true));
    world.ledger.folded(minute);
    assert_eq!((world.ledger.waiting(), world.ledger.waits_for(at(40))), (2, Some(Duration::from_secs(28))));
    assert_eq!(told(&world.ledger.take(usize::MAX, NOW, at(41))), [4, 5]);
    world.ledger.folded(minute);
    assert_eq!((world.ledger.waiting(), world.ledger.waits_for(at(50))), (0, None));
}

#[test]
fn a_lane_is_forgotten_once_its_machine_beats_on_the_next() {
    let mut world = World::new(2);
    let opened = |world: &mut World, n: u64, epoch: Epoch, at: UnixSeconds| {
        let grant = &world.lane.grant;
        let grant = Grant::kept(Alias(n), epoch, grant.machine(), grant.account(), grant.key());
        let tip = |at: u8| Preimage([n as u8 * 2 + at; 16]);
        let gpus = world.lane.gpus.iter().zip(0..).map(|((gpu, _), at)| (*gpu, tip(at))).collect();
        world.ledger.open(&LaneRow { grant, gpus }, &HashMap::new(), at);
    };
    let show = |world: &mut World, n: u64, slot: u8| {
        let link = Some(Link { slot, count: 1, preimage: Preimage([n as u8; 16]) });
        world.ledger.apply(&Line::Frame { alias: Alias(n), minute: NOW.minute(), gpus: 3, link });
    };
    let forget = |world: &mut World, after: u64| {
        world.ledger.forget(NOW.plus(after), &HashSet::new());
        (world.ledger.lanes(), world.ledger.slots.len())
    };
    opened(&mut world, 1, EPOCH, NOW);
    show(&mut world, 1, 0);
    assert_eq!(forget(&mut world, 600), (2, 4), "one GPU has shown no value of the later lane");
    show(&mut world, 1, 1);
    assert_eq!(forget(&mut world, 60), (2, 4), "it was used just now");
    assert_eq!(forget(&mut world, 120), (1, 2));
    assert!(world.ledger.knows(Alias(1)), "the one that it beats on was forgotten");

    // Of two that were there at the start only the epochs tell which is later.
    opened(&mut world, 2, EPOCH, NOW);
    opened(&mut world, 3, Epoch(EPOCH.0 - 1), NOW);
    world.ledger.loaded();
    for (n, slot) in [(2, 0), (2, 1), (3, 0), (3, 1)] {
        show(&mut world, n, slot);
    }
    assert_eq!(forget(&mut world, 120).0, 2);
    assert!(!world.ledger.knows(Alias(3)), "the epoch before was kept");
    opened(&mut world, 4, EPOCH, NOW);
    (0..2).for_each(|slot| show(&mut world, 4, slot));
    assert_eq!(forget(&mut world, 120).0, 1);
    assert!(world.ledger.knows(Alias(4)));
    // What waited of the lanes that are gone is told all the same.
    assert_eq!(world.take().links.len(), 8);
}

#[test]
fn one_machine_s_flood_is_its_own_affair() {
    let mut world = World::new(1);
    let minute = NOW.minute();
    let mut told = [0; 3];
    for n in 0..5_000u16 {
        let beat = world.beat(minute, 1, 0, n % 1000 + 1);
        match world.send(&beat, NOW) {
            Some((Outcome::Durable, _)) => told[0] += 1,
            Some((Outcome::Busy, wait)) => {
                assert!(wait > 0);
                told[1] += 1;
            }
            None => told[2] += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told, [usize::from(BURST), 1, 5_000 - usize::from(BURST) - 1]);
    // A minute later it may beat again; a clock that goes back neither gives nor takes.
    let beat = world.beat(minute, 1, 0, 1000);
    assert_eq!(world.send(&beat, NOW.plus(60)), DURABLE);
    assert_eq!(world.send(&beat, UnixSeconds(NOW.0 - 60)), DURABLE);
}

#[test]
fn a_report_without_a_chain_says_so_until_a_frame_comes() {
    let mut world = World::new(1);
    let (gpu, hour) = (GpuId::from_bytes([0; 16]), NOW.minute().hour());
    let bit = UptimeHour::default().with(NOW.minute().of_hour());
    world.ledger.apply(&Line::Report { gpu, hour, bits: bit });
    let fold = world.take();
    assert_eq!((fold.hours[0].bits, fold.hours[0].unchained), (bit, bit));
    let beat = world.beat(NOW.minute(), 1, 0, 1);
    assert_eq!(world.send(&beat, NOW), DURABLE);
    let fold = world.take();
    let last = fold.hours.last().unwrap();
    assert_eq!((last.bits, last.unchained), (bit, UptimeHour::default()));
}

#[test]
fn what_the_journal_held_is_there_again() {
    let mut world = World::new(2);
    let minute = NOW.minute();
    let lines = [
        Line::Frame {
            alias: world.lane.grant.alias(),
            minute,
            gpus: 3,
            link: Some(world.beat(minute, 3, 1, 7).link),
        },
        Line::Up(minute),
        Line::Frame { alias: Alias(1), minute, gpus: 1, link: None },
    ];
    for line in lines.iter().chain(&lines) {
        world.ledger.apply(line);
    }
    let fold = world.take();
    assert_eq!((fold.hours.len(), fold.links.len(), fold.up.len()), (2, 1, 1));
    assert_eq!(world.ledger.unknown(), 2, "a lane that nobody knows was passed over in silence");
    // The chain goes on where it was, also for a lane that is opened again.
    let lane = world.lane.clone();
    world.ledger.open(&lane, &HashMap::new(), NOW);
    assert_eq!(world.outcome(&world.beat(Minute(minute.0 - 1), 1, 1, 8)), Outcome::Durable);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the order and however often: the same minutes, each once.
    #[test]
    fn order_and_repeats_change_nothing(sent in proptest::collection::vec((0u32..90, 1u64..4), 1..60), seed: u64) {
        let mut straight = World::new(2);
        let mut shuffled = World::new(2);
        let beat = |world: &World, n: usize, (back, gpus): (u32, u64)| {
            let count = n as u16 + 1;
            world.beat(Minute(NOW.minute().0 - back), gpus, 0, count)
        };
        for (n, one) in sent.iter().enumerate() {
            prop_assert_eq!(straight.send(&beat(&straight, n, *one), NOW), DURABLE);
        }
        let mut order: Vec<usize> = (0..sent.len()).chain(0..sent.len()).collect();
        let mut state = seed | 1;
        for at in (1..order.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            order.swap(at, (state >> 33) as usize % (at + 1));
        }
        for n in order {
            prop_assert_eq!(shuffled.send(&beat(&shuffled, n, sent[n]), NOW), DURABLE);
        }
        let sorted = |world: &mut World| {
            let mut hours = world.take().hours;
            hours.sort_by_key(|h| (h.gpu, h.hour));
            hours
        };
        prop_assert_eq!(sorted(&mut straight), sorted(&mut shuffled));
    }
}
