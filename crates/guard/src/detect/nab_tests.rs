//! The rule against examples computed by hand, and against its own definition.

use proptest::prelude::*;

use super::*;

fn series(points: usize, alarms: &[usize], windows: &[(usize, usize)]) -> Scored {
    let mut scores = vec![0.0; points];
    alarms.iter().for_each(|at| scores[*at] = 1.0);
    let windows = windows.iter().map(|(first, last)| Window { first: *first, last: *last }).collect();
    Scored::new(scores, windows).expect("ordered windows")
}

fn check(name: &str, one: &Scored, expected: f64) {
    let score = one.at(STANDARD, 0.5).score;
    assert!((score - expected).abs() < 1e-4, "{name}: {score}, not {expected}");
}

#[test]
fn the_curve_has_the_values_of_the_definition() {
    for (position, expected) in
        [(-1.0, 0.98661), (-0.5, 0.84828), (0.0, 0.0), (1.0, -0.98661), (3.1, -1.0), (-3.0, 1.0)]
    {
        assert!((scaled_sigmoid(position) - expected).abs() < 1e-5, "{position}");
    }
}

#[test]
fn hand_computed_series() {
    // 100 points, the first 15 not scored, a window of 10 points from 40 to 49.
    let of = |alarms: &[usize]| series(100, alarms, &[(40, 49)]);
    check("silence misses the window", &of(&[]), -1.0);
    check("the first point is a full hit", &of(&[40]), 1.0);
    // Position -(49 - 45 + 1) / 10 = -0.5: 0.84828 / 0.98661.
    check("half way", &of(&[45]), 0.85979);
    // Position -1 / 10: 2 / (1 + e^-0.5) - 1 = 0.24492; / 0.98661.
    check("the last point", &of(&[49]), 0.24824);
    check("only the earliest of a window counts", &of(&[40, 41, 45, 49]), 1.0);
    check("before any window an alarm costs the full weight", &of(&[20, 40]), 1.0 - 0.11);
    // One behind: position 1 / 9, 2 / (1 + e^(5/9)) - 1 = -0.27085, times 0.11.
    check("just behind a window it costs less", &of(&[40, 50]), 1.0 - 0.029794);
    // 50 behind: position 5.6, the full weight.
    check("far behind it costs the full weight", &of(&[40, 99]), 1.0 - 0.11);
    check("probation is not scored", &of(&[0, 14, 40]), 1.0);
    check("and ends at 15 %", &of(&[15, 40]), 1.0 - 0.11);
}

#[test]
fn the_counts_are_of_points() {
    let one = series(100, &[20, 42, 43, 60], &[(40, 49)]);
    let outcome = one.at(STANDARD, 0.5);
    let counts = (outcome.hits, outcome.quiet, outcome.false_alarms, outcome.misses);
    assert_eq!(counts, (2, 85 - 10 - 2, 2, 8));
}

#[test]
fn profiles_weigh_as_published() {
    let one = series(100, &[20], &[(40, 49)]);
    assert!((one.at(LOW_FALSE_ALARMS, 0.5).score + 1.22).abs() < 1e-12);
    assert!((one.at(LOW_MISSES, 0.5).score + 2.11).abs() < 1e-12);
}

#[test]
fn silence_is_0_and_perfection_100() {
    for profile in PROFILES {
        let silence = series(100, &[], &[(40, 49), (60, 69)]);
        let perfect = series(100, &[40, 60], &[(40, 49), (60, 69)]);
        let of = |one: &Scored| normalised(one.at(profile, 0.5).score, 2, profile).expect("two windows");
        assert!(of(&silence).abs() < 1e-9, "{}", profile.name);
        assert!((of(&perfect) - 100.0).abs() < 1e-9, "{}", profile.name);
    }
    assert_eq!(normalised(0.0, 0, STANDARD), None);
}

#[test]
fn long_series_learn_on_750_points() {
    assert_eq!(probation_points(4_032), 604);
    assert_eq!(probation_points(22_000), 750);
    assert_eq!(probation_points(0), 0);
}

#[test]
fn one_threshold_serves_all() {
    // The first series hits at 0.9 and errs at 0.3; the second hits only at 0.3.
    let mut first = series(100, &[], &[(40, 49)]);
    first.scores[40] = 0.9;
    first.scores[80] = 0.3;
    let mut second = series(100, &[], &[(40, 49)]);
    second.scores[40] = 0.3;
    let best = best_threshold(&[&first, &second], STANDARD);
    assert_eq!(best.threshold, 0.3);
    assert!((best.score - (2.0 - 0.11)).abs() < 1e-9, "{best:?}");
    // With many false alarms at 0.3, missing the second is cheaper: 20 x 0.11 > 2.
    first.scores[70..90].fill(0.3);
    assert_eq!(best_threshold(&[&first, &second], STANDARD).threshold, 0.9);
    // And if nothing helps, silence does.
    let noise = series(100, &(15..100).collect::<Vec<_>>(), &[]);
    assert!(best_threshold(&[&noise], STANDARD).threshold > 1.0);
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let window = |first, last| vec![Window { first, last }];
    assert!(matches!(Scored::new(vec![0.0; 9], window(3, 9)), Err(NabError::Window { index: 0, .. })));
    assert!(matches!(Scored::new(vec![0.0; 9], window(4, 3)), Err(NabError::Window { .. })));
    let overlapping = vec![Window { first: 1, last: 4 }, Window { first: 4, last: 5 }];
    assert!(matches!(Scored::new(vec![0.0; 9], overlapping), Err(NabError::Window { index: 1, .. })));
    assert_eq!(Scored::new(vec![0.0, 1.5], vec![]), Err(NabError::Score { point: 1 }));
    assert_eq!(Scored::new(vec![f64::NAN], vec![]), Err(NabError::Score { point: 0 }));
}

#[test]
fn folds_are_scored_with_the_threshold_of_the_others() {
    // In fold 0 of 2 alarms are at 0.9, in fold 1 at 0.3: each threshold fits only its own.
    let mut high = series(100, &[], &[(40, 49)]);
    high.scores[40] = 0.9;
    let mut low = series(100, &[], &[(40, 49)]);
    low.scores[40] = 0.3;
    // Threshold 0.3 finds the window at 0.9; threshold 0.9 misses the one at 0.3: (1 - 1 + 2) / 4.
    let held = held_out(&[&high, &low], STANDARD, 2).expect("two windows");
    assert!((held - 50.0).abs() < 1e-9, "{held}");
}

proptest! {
    #[test]
    fn the_best_threshold_is_no_worse_than_any(
        ranks in prop::collection::vec(0u8..8, 60..120), start in 10usize..40, length in 1usize..15, tried in 0u8..9,
    ) {
        let scores = ranks.iter().map(|rank| f64::from(*rank) / 8.0).collect();
        let one = Scored::new(scores, vec![Window { first: start, last: start + length - 1 }]).expect("fits");
        for profile in PROFILES {
            let best = best_threshold(&[&one], profile);
            prop_assert!((one.at(profile, best.threshold).score - best.score).abs() < 1e-9);
            let other = one.at(profile, f64::from(tried) / 8.0).score;
            prop_assert!(best.score + 1e-9 >= other, "{} < {other}", best.score);
            let normal = normalised(best.score, 1, profile).expect("one window");
            prop_assert!((-1e-9..=100.0 + 1e-9).contains(&normal));
        }
    }
}
