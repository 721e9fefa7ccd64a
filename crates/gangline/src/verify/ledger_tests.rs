//! Tests of the ledger's check: what agrees, and that each way to differ is named.

use gangline_types::{
    AdapterKind, Backend, Hour, Label, Minute, Profile, Text, UnixSeconds, UptimeHour, public::PublicGpu,
};
use gangline_wire::api::public::SnapshotWithEntries;

use super::*;

fn gpu(n: u8) -> GpuId {
    GpuId::from_bytes([n; 16])
}

fn season() -> PublicSeason {
    PublicSeason {
        number: 1,
        starts: Minute(600),
        ends: Minute(6000),
        period_minutes: 60,
        period_budget: MicroCredits(1_000_000),
    }
}

fn public(n: u8, share: u64) -> PublicGpu {
    PublicGpu {
        id: gpu(n),
        label: Label::default(),
        model: Text::default(),
        kind: AdapterKind::Software,
        backend: Backend::Vulkan,
        memory_bytes: 0,
        standing: Standing::Unproven,
        standing_reason: Text::default(),
        profile: Profile::default(),
        connected: true,
        rentable: false,
        hired: false,
        simulated: false,
        registered_at: UnixSeconds(0),
        last_beat_at: UnixSeconds(0),
        last_proof_at: UnixSeconds(0),
        uptime_minutes_day: 0,
        season_share: MicroCredits(share),
        season_held: MicroCredits(0),
        claimed_model: Text::default(),
    }
}

/// What a network publishes.
struct Everything {
    season: PublicSeason,
    snapshots: Vec<SnapshotWithEntries>,
    gpus: Vec<Gpu>,
    settled: bool,
}

/// Two GPUs over two periods: one up all the time, one in half of the first.
fn seen() -> Everything {
    let hours = |n: u8| match n {
        1 => vec![(Hour(10), UptimeHour::FULL), (Hour(11), UptimeHour::FULL)],
        _ => vec![(Hour(10), UptimeHour((1 << 30) - 1))],
    };
    let mut snapshots: Vec<SnapshotWithEntries> = Vec::new();
    let mut sums = BTreeMap::<GpuId, u64>::new();
    for period in 0..2 {
        let (starts, ends) = snapshot::period_span(&season(), period);
        let input = |n: u8| PeriodInput {
            gpu: gpu(n),
            standing: Standing::Proven,
            matrix_mmacs: 1000,
            proof: None,
            minutes: uptime::minutes_in(starts, ends, hours(n)),
        };
        let previous = snapshots.last().map_or(Hash::default(), |taken| taken.snapshot.root);
        let taken_at = ends.start().plus(90);
        let (snapshot, entries) =
            snapshot::take(&season(), period, taken_at, previous, vec![input(1), input(2)]);
        entries.iter().for_each(|entry| *sums.entry(entry.gpu).or_default() += entry.share.0);
        snapshots.push(SnapshotWithEntries { snapshot, entries, next: None });
    }
    let published = |(hour, bits)| PublicUptime {
        hour,
        bits,
        late: UptimeHour::default(),
        unchained: UptimeHour::default(),
    };
    let gpus = [1, 2].map(|n| Gpu {
        public: public(n, sums[&gpu(n)]),
        hours: hours(n).into_iter().map(published).collect(),
        proofs: Vec::new(),
    });
    Everything { season: season(), snapshots, gpus: gpus.into(), settled: true }
}

fn checked(seen: &Everything) -> (Result<(), Difference>, Counts, Vec<String>) {
    let (mut counts, mut notes) = (Counts::default(), Vec::new());
    let sums = |gpu: &Gpu| {
        let (share, held) = (gpu.public.season_share, gpu.public.season_held);
        Sums { gpu: gpu.public.id, share, held }
    };
    let frame = Frame {
        season: seen.season.clone(),
        heads: seen.snapshots.iter().map(|taken| taken.snapshot.clone()).collect(),
        sums: seen.gpus.iter().map(sums).collect(),
        settled: seen.settled,
    };
    let mut ledger = Ledger::new(&frame);
    seen.gpus.iter().for_each(|gpu| ledger.add(gpu, &mut counts));
    let mut taken = seen.snapshots.iter();
    let proven = Proven::default();
    let result = taken
        .try_for_each(|taken| ledger.snapshot(taken, &proven, &mut counts))
        .and_then(|()| ledger.end(&frame, &counts, &mut notes));
    (result, counts, notes)
}

#[test]
fn an_honest_ledger_agrees() {
    let (result, counts, notes) = checked(&seen());
    assert_eq!(result, Ok(()));
    assert_eq!((counts.snapshots, counts.entries, counts.minutes, counts.minutes_late), (2, 4, 150, 0));
    assert_eq!(counts.shared, 2_000_000);
    assert!(notes.is_empty());
}

#[test]
fn the_first_difference_is_named() {
    let check = |change: fn(&mut Everything), name: &str| {
        let mut changed = seen();
        change(&mut changed);
        let difference = checked(&changed).0.unwrap_err();
        assert!(difference.name.contains(name), "{difference:?}");
    };
    check(|s| s.snapshots[1].entries[0].share.0 += 1, "snapshot 1 of season 1, gpu_");
    check(|s| s.snapshots[0].snapshot.root.0[0] ^= 1, "snapshot 0 of season 1, root");
    check(|s| s.snapshots[1].snapshot.previous_root.0[0] ^= 1, "snapshot 1 of season 1, previous_root");
    check(|s| drop(s.snapshots.remove(0)), "snapshots of season 1, period");
    check(|s| s.gpus[0].public.season_share.0 += 1, "season_share");
    check(|s| s.gpus[0].hours[1].bits = UptimeHour::default(), "minutes");
    check(|s| s.gpus[1].hours[0].bits = UptimeHour::FULL, "minutes");
    check(|s| s.gpus[0].hours[0].late = UptimeHour(1), "minutes");
    check(|s| drop(s.gpus.remove(1)), "minutes");
    check(|s| s.snapshots[0].entries.truncate(1), "entry");
}

#[test]
fn what_was_credited_late_is_told_apart() {
    let mut late = seen();
    let hour = &mut late.gpus[1].hours[0];
    (hour.bits, hour.late) = (hour.bits.with(40), hour.late.with(40));
    let (result, counts, notes) = checked(&late);
    assert_eq!(result, Ok(()));
    assert_eq!((counts.minutes, counts.minutes_late), (150, 1));
    assert!(notes[0].contains("1 minutes came after"), "{notes:?}");
}

#[test]
fn sums_are_not_compared_while_they_move() {
    let mut moving = seen();
    moving.settled = false;
    moving.gpus[0].public.season_share.0 += 1;
    let (result, _, notes) = checked(&moving);
    assert_eq!(result, Ok(()));
    assert!(notes[0].contains("not compared"), "{notes:?}");
}

#[test]
fn numbers_come_back_from_their_runs_and_steady_ones_take_two_bytes() {
    let check = |numbers: &[u32], bytes: usize| {
        let mut runs = Runs::of(numbers.iter().copied());
        assert_eq!(runs.bytes.len(), bytes);
        let back: Vec<u32> = numbers.iter().map(|_| runs.next()).collect();
        assert_eq!(back, numbers);
        assert_eq!([runs.next(), runs.next()], [0, 0], "after the last");
    };
    check(&[], 0);
    check(&[60; 100], 2);
    check(&[60; 2_160], 3);
    check(&[60, 60, 0, 0, 17, 60], 8);
    check(&[0, 127, 128, 1_440, u32::MAX], 2 + 2 + 3 + 3 + 6);
}

#[test]
fn hours_out_of_order_are_counted_all_the_same() {
    let mut turned = seen();
    turned.gpus[0].hours.reverse();
    assert_eq!(checked(&turned).0, Ok(()));
}
