//! Tests of snapshots: the parts of a period, the root's bindings, and that every change is named.

use proptest::prelude::*;

use super::*;

fn gpu(n: u8) -> GpuId {
    GpuId::from_bytes([n; 16])
}
fn season() -> PublicSeason {
    PublicSeason {
        number: 2,
        starts: Minute(1000),
        ends: Minute(1150),
        period_minutes: 60,
        period_budget: MicroCredits(1_000_000),
    }
}
fn input(n: u8, standing: Standing, matrix_mmacs: u64, minutes: u32) -> PeriodInput {
    let proof = (standing == Standing::Proven).then(|| ProofId::from_bytes([n; 16]));
    PeriodInput { gpu: gpu(n), standing, matrix_mmacs, proof, minutes }
}
fn inputs() -> Vec<PeriodInput> {
    vec![
        input(4, Standing::Suspect, 0, 60),
        input(3, Standing::Proven, 5000, 0),
        input(1, Standing::Proven, 3000, 60),
        input(2, Standing::Proven, 90_000, 58),
        input(5, Standing::Unproven, 0, 60),
    ]
}
const TAKEN_AT: UnixSeconds = UnixSeconds(1060 * 60 + 90);
const PREVIOUS: Hash = Hash([9; 32]);

fn taken() -> (PublicSnapshot, Vec<PublicEntry>) {
    take(&season(), 0, TAKEN_AT, PREVIOUS, inputs())
}

#[test]
fn a_period_is_shared_by_proven_rate_and_uptime() {
    let (head, entries) = taken();
    let shares: Vec<_> = entries.iter().map(|entry| (entry.gpu, entry.weight, entry.share.0)).collect();
    // 180,000 and 5,220,000 of 5,400,000.
    let expected = [
        (gpu(1), 180_000, 33_333),
        (gpu(2), 5_220_000, 966_667),
        (gpu(3), 0, 0),
        (gpu(4), 0, 0),
        (gpu(5), 0, 0),
    ];
    assert_eq!(shares, expected);
    assert_eq!((head.starts, head.ends, head.gpus), (Minute(1000), Minute(1060), 5));
    assert_eq!((head.budget, head.shared), (MicroCredits(1_000_000), MicroCredits(1_000_000)));
    assert_eq!(recompute(&season(), &head, &entries, PREVIOUS, inputs()), Ok(()));
}

#[test]
fn nothing_is_shared_where_nobody_earned() {
    for inputs in [vec![], vec![input(1, Standing::Unproven, 10, 60)]] {
        let (head, entries) = take(&season(), 1, TAKEN_AT.plus(3600), PREVIOUS, inputs.clone());
        assert_eq!(head.shared, MicroCredits(0));
        assert_eq!(recompute(&season(), &head, &entries, PREVIOUS, inputs), Ok(()));
    }
}

#[test]
fn periods_cover_the_season_and_nothing_else() {
    let season = season();
    assert_eq!(periods(&season), 3);
    let spans: Vec<_> = (0..4).map(|period| period_span(&season, period)).map(|(a, b)| (a.0, b.0)).collect();
    assert_eq!(spans, [(1000, 1060), (1060, 1120), (1120, 1150), (1150, 1150)]);
    let check = |minute, period| assert_eq!(period_of(&season, Minute(minute)), period, "{minute}");
    check(999, None);
    check(1000, Some(0));
    check(1059, Some(0));
    check(1060, Some(1));
    check(1149, Some(2));
    check(1150, None);
    let none = PublicSeason { period_minutes: 0, ..season.clone() };
    assert_eq!((periods(&none), period_of(&none, Minute(1001))), (0, None));
    let far = PublicSeason { ends: Minute(u32::MAX), ..season };
    assert_eq!(period_span(&far, u32::MAX), (far.ends, far.ends));
}

#[test]
fn periods_are_taken_in_order_after_their_grace() {
    let season = season();
    let check = |now, last, expected| assert_eq!(due(&season, UnixSeconds(now), 90, last), expected);
    check(1060 * 60 + 89, None, None);
    check(1060 * 60 + 90, None, Some(0));
    check(1060 * 60 + 90, Some(0), None);
    // Two hours late: still one after another.
    check(1180 * 60, None, Some(0));
    check(1180 * 60, Some(0), Some(1));
    check(1180 * 60, Some(1), Some(2));
    check(1180 * 60, Some(2), None);
    check(1180 * 60, Some(u32::MAX), None);
}

#[test]
fn weight_is_rate_times_minutes_of_gpus_that_proved_a_rate() {
    for standing in [Standing::Proven, Standing::Suspect] {
        assert_eq!(weight(standing, 3000, 60), 180_000);
        assert_eq!(weight(standing, u64::MAX, 60), u64::MAX);
    }
    assert_eq!(weight(Standing::Suspect, 0, 60), 0, "one that never proved a rate");
    for standing in [Standing::Unproven, Standing::Quarantined, Standing::Retired] {
        assert_eq!(weight(standing, 3000, 60), 0);
    }
}

#[test]
#[should_panic(expected = "a GPU comes twice")]
fn a_gpu_never_earns_twice() {
    take(&season(), 0, TAKEN_AT, PREVIOUS, vec![input(1, Standing::Proven, 1, 1); 2]);
}

/// A change, and the field that is named for it.
type Change<T> = (&'static str, fn(&mut T));

/// Every way to change one field of an entry.
fn entry_changes() -> Vec<Change<PublicEntry>> {
    vec![
        ("entry", |entry| entry.gpu = GpuId::from_bytes([7; 16])),
        ("standing", |entry| entry.standing = Standing::Retired),
        ("matrix_mmacs", |entry| entry.matrix_mmacs += 1),
        ("proof", |entry| entry.proof = Some(ProofId::from_bytes([200; 16]))),
        ("minutes", |entry| entry.minutes += 1),
        ("weight", |entry| entry.weight += 1),
        ("share", |entry| entry.share.0 += 1),
    ]
}

/// Every way to change one field of a head.
fn head_changes() -> Vec<Change<PublicSnapshot>> {
    vec![
        ("season", |head| head.season += 1),
        ("starts", |head| head.period += 1),
        ("starts", |head| head.starts.0 += 1),
        ("ends", |head| head.ends.0 += 1),
        ("root", |head| head.taken_at.0 += 1),
        ("taken_at", |head| head.taken_at.0 -= 100),
        ("budget", |head| head.budget.0 += 1),
        ("shared", |head| head.shared.0 -= 1),
        ("gpus", |head| head.gpus += 1),
        ("previous_root", |head| head.previous_root.0[0] ^= 1),
        ("root", |head| head.root.0[31] ^= 1),
    ]
}

#[test]
fn an_entry_is_included_as_it_is_and_in_no_other_form() {
    let (head, entries) = taken();
    for entry in &entries {
        let proof = inclusion(&entries, entry.gpu).unwrap();
        assert!(check_inclusion(&head, entry, &proof));
        for (field, change) in entry_changes() {
            let mut changed = entry.clone();
            change(&mut changed);
            assert!(!check_inclusion(&head, &changed, &proof), "{field} of an entry is not bound");
        }
        for (field, change) in head_changes() {
            let mut changed = head.clone();
            change(&mut changed);
            assert!(!check_inclusion(&changed, entry, &proof), "{field} of a head is not bound");
        }
        let other = inclusion(&entries, entries[(proof.index as usize + 1) % 5].gpu).unwrap();
        assert!(!check_inclusion(&head, entry, &other));
        let json = serde_json::to_string(&proof).unwrap();
        assert_eq!(serde_json::from_str::<InclusionProof>(&json).unwrap(), proof);
    }
    assert_eq!(inclusion(&entries, gpu(99)), None);
}

#[test]
fn every_change_is_named() {
    let check = |head: &PublicSnapshot, entries: &[PublicEntry], gpu, field: &str| {
        let difference = recompute(&season(), head, entries, PREVIOUS, inputs()).unwrap_err();
        assert_eq!((difference.gpu, difference.field.as_str()), (gpu, field), "{difference}");
    };
    let (head, entries) = taken();
    for (field, change) in head_changes() {
        let mut changed = head.clone();
        change(&mut changed);
        check(&changed, &entries, None, field);
    }
    for (field, change) in entry_changes().into_iter().skip(1) {
        for at in 0..entries.len() {
            let mut changed = entries.clone();
            change(&mut changed[at]);
            check(&head, &changed, Some(entries[at].gpu), field);
            // Even where the operator makes the root fit.
            let mut fitting = head.clone();
            fitting.root = root(&fitting, &changed);
            check(&fitting, &changed, Some(entries[at].gpu), field);
        }
    }
    for at in 0..entries.len() {
        let mut fewer = entries.clone();
        let gone = fewer.remove(at);
        check(&head, &fewer, Some(gone.gpu), "entry");
    }
    let mut more = entries.clone();
    more.push(PublicEntry { gpu: gpu(6), ..entries[0].clone() });
    check(&head, &more, Some(gpu(6)), "entry");
    more.swap(0, 5);
    check(&head, &more, Some(gpu(2)), "entry");
    let twice = [entries.clone(), vec![entries[4].clone()]].concat();
    check(&head, &twice, Some(gpu(5)), "entry");
}

#[test]
fn a_difference_reads_as_a_sentence() {
    let (head, mut entries) = taken();
    entries[1].minutes = 60;
    let said = |head: &PublicSnapshot, entries: &[PublicEntry]| {
        recompute(&season(), head, entries, PREVIOUS, inputs()).unwrap_err().to_string()
    };
    let expected = format!("snapshot 0 of season 2, {}, minutes: expected 58, found 60", gpu(2));
    assert_eq!(said(&head, &entries), expected);
    let late = PublicSnapshot { budget: MicroCredits(2_000_000), ..head };
    assert_eq!(said(&late, &entries), "snapshot 0 of season 2, budget: expected 1.000000, found 2.000000");
}

fn any_standing() -> impl Strategy<Value = Standing> {
    use Standing::*;
    prop::sample::select(vec![Unproven, Proven, Proven, Proven, Suspect, Quarantined, Retired])
}

proptest! {
    #[test]
    fn what_is_taken_recomputes_whatever_the_order(
        (sorted, shuffled) in prop::collection::btree_map(
            any::<[u8; 16]>(), (any_standing(), any::<u64>(), any::<bool>(), 0..=60u32), 0..30,
        ).prop_flat_map(|gpus| {
            let inputs: Vec<_> = gpus.into_iter().map(|(id, (standing, matrix_mmacs, proof, minutes))| PeriodInput {
                gpu: GpuId::from_bytes(id),
                standing,
                matrix_mmacs,
                proof: proof.then(|| ProofId::from_bytes(id)),
                minutes,
            }).collect();
            (Just(inputs.clone()), Just(inputs).prop_shuffle())
        }),
        budget: u64,
    ) {
        let season = PublicSeason { period_budget: MicroCredits(budget), ..season() };
        let (head, entries) = take(&season, 0, TAKEN_AT, PREVIOUS, shuffled);
        let sum: u128 = entries.iter().map(|entry| entry.share.0 as u128).sum();
        prop_assert_eq!(sum, head.shared.0 as u128);
        prop_assert!(head.shared.0 == budget || head.shared.0 == 0);
        for entry in &entries {
            prop_assert!(check_inclusion(&head, entry, &inclusion(&entries, entry.gpu).unwrap()));
        }
        prop_assert_eq!(recompute(&season, &head, &entries, PREVIOUS, sorted), Ok(()));
    }
}
