//! Bells and tables of calibration that were changed in one place each: what is said of them.

use gangline_rules::bells::Salts;
use gangline_types::{Text, UnixSeconds};
use gangline_wire::api::epoch::{CalibrationEntry, CalibrationTable};

use super::*;

fn root(leaves: &[Hash]) -> Hash {
    let mut edge = Edge::default();
    leaves.iter().for_each(|leaf| edge.push(*leaf, &mut |_| {}));
    edge.root()
}

/// Ten entries.
fn leaves() -> Vec<Hash> {
    (0..10).map(|n| Hash([n; 32])).collect()
}

/// The bells of three hours among them, one of which was missed, each with its place.
fn bells() -> Vec<(u64, Bell)> {
    let salts = Salts::new(&[7; 32]);
    let bell = |hour: u32, size: u64| {
        let (hour, salt) = (Hour(hour), salts.of(Hour(hour)));
        Bell { hour, at: bells::moment(hour, &salt), size, root: root(&leaves()[..size as usize]), salt }
    };
    vec![(3, bell(699_000, 2)), (5, bell(699_001, 5)), (9, bell(699_003, 7))]
}

/// What is said of a log with these bells.
fn read(bells: &[(u64, Bell)]) -> Result<Logged, Difference> {
    let mut logged = Logged::default();
    for (at, leaf) in (0..).zip(leaves()) {
        logged.leaves.push_back(leaf);
        for (_, bell) in bells.iter().filter(|(place, _)| *place == at) {
            logged.check_bell(at, *bell)?;
        }
    }
    Ok(logged)
}

#[test]
fn bells_are_made_again_and_each_part_of_them_is_checked() {
    let honest = read(&bells()).unwrap();
    assert_eq!(honest.beacons.len(), 3);
    // Of the entries those are kept that a later bell may be made of.
    assert_eq!(Vec::from(honest.leaves), leaves()[7..]);
    let check = |change: fn(&mut Bell), says: &str| {
        let mut changed = bells();
        change(&mut changed[1].1);
        let found = read(&changed).err().expect(says);
        assert!(found.name.contains("bell of hour 69900") && found.name.ends_with(says), "{}", found.name);
    };
    check(|bell| bell.root.0[0] ^= 1, "root");
    check(|bell| bell.size = 4, "root");
    check(|bell| bell.size = 6, "size");
    check(|bell| bell.size = 1, "size");
    check(|bell| bell.at.0 += 1, "moment");
    // Another salt has another moment; one whose moment was made to fit is not what the hour before promised.
    check(|bell| bell.salt.0[0] ^= 1, "moment");
    check(
        |bell| {
            bell.salt.0[0] ^= 1;
            bell.at = bells::moment(bell.hour, &bell.salt);
        },
        "salt",
    );
    check(
        |bell| {
            bell.hour = Hour(699_000);
            bell.salt = Salts::new(&[7; 32]).of(bell.hour);
            bell.at = bells::moment(bell.hour, &bell.salt);
        },
        "hour",
    );
}

#[test]
fn deadlines_are_those_of_tables_that_the_log_saw_promoted() {
    let entry = CalibrationEntry {
        model: Text::lossy("card"),
        backend: gangline_types::Backend::Vulkan,
        build: Text::lossy("550"),
        work: Hash([3; 32]),
        accounts: 5,
        median_millis: 1_000,
    };
    let table = CalibrationTable { version: 4, entries: vec![entry] };
    let public = |table: &CalibrationTable| PublicCalibration {
        table: table.clone(),
        state: Text::lossy("promoted"),
        digest: crate::calibration::meant(table).digest(),
        signer: Hash::default(),
        signature: Text::default(),
        made_at: UnixSeconds(0),
        judged: 60,
        failed: 0,
    };
    let promoted = HashMap::from([(4, crate::calibration::meant(&table).digest())]);
    let logged = || Logged { promoted: promoted.clone(), ..Logged::default() };
    let mut honest = logged();
    honest.set_deadlines(&[public(&table)]).unwrap();
    assert_eq!(honest.deadlines, Some(HashSet::from([(Hash([3; 32]), 1_400)])));
    // Another table under the same version.
    let mut other = table.clone();
    other.entries[0].median_millis = 2_000;
    assert!(logged().set_deadlines(&[public(&other)]).is_err());
    // One that was promoted and is published no more: nobody can say.
    let mut gone = logged();
    gone.set_deadlines(&[]).unwrap();
    assert_eq!(gone.deadlines, None);
}
