//! Detectors on load that was recorded at a real server (`recorded/README.md` says how), without and with a recorded
//! breach in it.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, path::Path};

use gangline_guard::{
    detect::{What, distinct::Salt},
    notice::{
        Outcome, Subject,
        replay::{Shown, Told, on_load, replay, with_breach},
    },
};
use gangline_types::KeyId;

/// Places of the load at which the breach is put.
const PLACES: u64 = 12;

fn recorded(name: &str) -> Vec<Shown> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded").join(name);
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut shown: Vec<Shown> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    shown.sort_by_key(Shown::at);
    shown
}

fn salt() -> Salt {
    Salt::new([7; 32])
}

/// Of half an hour one thing is told, and is what the rule says: thirty machines that one place enrols within twenty
/// minutes are a flood until somebody has looked. It tells people and freezes nothing.
#[test]
fn load_in_which_nothing_is_wrong_raises_no_alarm_however_clumsy_its_people_are() {
    let load = recorded("load.jsonl");
    let counted = on_load(&load, salt());
    let told: Vec<_> = replay(&load, salt()).into_iter().map(|told| told.raised).collect();
    let whats: Vec<_> = told.iter().map(|told| (told.alarm.what, told.subject.to_string())).collect();
    assert_eq!(whats, [(What::EnrolmentFlood, "198.18.7.0/24".to_owned())], "{told:#?}");
    assert!(told[0].freeze().is_none());
    // More than a tenth of the askers' minutes have a mistake in them, which is what is taken for usual at first.
    let askers: BTreeSet<_> = load.iter().filter_map(asker).map(|(who, _)| who).collect();
    let refused: BTreeSet<_> =
        load.iter().filter_map(asker).filter(|(_, refused)| *refused).map(|(who, _)| who).collect();
    assert!(refused.len() * 10 > askers.len(), "{} of {}", refused.len(), askers.len());
    // It is load: each detector that requests feed was fed.
    for what in [What::ForeignTouch, What::Breadth, What::Refusals, What::Enumeration, What::EnrolmentFlood] {
        assert!(counted[&what].trials > 100, "{what:?}: {:?}", counted[&what]);
    }
}

/// Somebody in one minute.
type Asker = (Option<KeyId>, String, u64);

/// Who asked, and whether they were refused.
fn asker(shown: &Shown) -> Option<(Asker, bool)> {
    let Shown::Seen { seen, .. } = shown else { return None };
    let refused = matches!(seen.outcome, Outcome::Refused | Outcome::NotFound);
    seen.by_somebody.then(|| ((seen.key, seen.block.to_string(), seen.at.0 / 60), refused))
}

#[test]
fn a_breach_in_the_midst_of_it_is_noticed_at_its_first_touch_and_by_more_than_one_detector() {
    let (load, breach) = (recorded("load.jsonl"), recorded("breach.jsonl"));
    let takes = breach.last().unwrap().at().since(breach[0].at());
    let (first, last) = (load[0].at(), load.last().unwrap().at());
    let alone: Vec<_> =
        replay(&load, salt()).into_iter().map(|told| (told.raised.alarm.what, told.raised.subject)).collect();
    for place in 0..PLACES {
        let from = first.plus((last.since(first) - takes) * place / PLACES);
        let mut told = replay(&with_breach(&load, &breach, from), salt());
        told.retain(|told| !alone.contains(&(told.raised.alarm.what, told.raised.subject.clone())));
        let touch = told.iter().find(|told| told.raised.alarm.what == What::ForeignTouch).expect("the touch");
        assert!(touch.raised.alarm.at.since(from) <= 5, "place {place}: {touch:?}");
        for what in [What::ForeignTouch, What::Breadth, What::Enumeration, What::EnrolmentFlood] {
            assert!(told.iter().any(|told| told.raised.alarm.what == what), "place {place}: no {what:?}");
        }
        // And nobody else is: every alarm about somebody is about who did it, from where they did it.
        for Told { raised, .. } in &told {
            let is_about = match &raised.subject {
                Subject::Key(key) => Some(*key) == touch.raised.key,
                Subject::Account(account) => Some(*account) == touch.raised.account,
                _ => true,
            };
            // What is about the whole network comes with whoever was the last of many.
            let of_all = matches!(raised.subject, Subject::Network | Subject::Route(_) | Subject::Landed(_));
            let is_from = of_all || raised.block.is_none_or(|b| b.to_string() == "198.51.100.0/24");
            assert!(is_about && is_from, "place {place}: {raised:?}");
        }
    }
}
