//! Every actor, action and resource with the answer, as text that people review.

use gangline_types::{AccountId, ClusterId, EnrolmentId, GpuId, Hash, KeyId, MachineId};
use gangline_wire::{
    Action,
    api::{account::Role, enrol::KeyKind},
};

use super::{Resource, decide, on};
use crate::{Job, Principal, Refusal};

const OWN: AccountId = AccountId::from_bytes([1; 16]);
const OWN_MACHINE: MachineId = MachineId::from_bytes([3; 16]);
const KEY: KeyId = KeyId::from_bytes([5; 16]);

/// One actor of every kind, role and job, by name.
pub(crate) fn actors() -> Vec<(String, Principal)> {
    let (a, m, key) = (OWN, OWN_MACHINE, KEY);
    let session = gangline_types::SessionId::from_bytes([6; 16]);
    let mut who: Vec<(String, Principal)> = vec![
        ("nobody".into(), Principal::Nobody),
        ("new key".into(), Principal::NewKey(key)),
        ("machine".into(), Principal::Machine { machine: m, account: a, key }),
        ("vouched for".into(), Principal::Vouched(Hash([10; 32]))),
    ];
    for role in Role::ALL {
        who.push((format!("{role}, browser"), Principal::Person { account: a, role, session }));
        who.push((format!("{role}, command line"), Principal::CommandLine { account: a, role, key }));
    }
    who.extend(Job::ALL.map(|j| (format!("job {}", j.as_str()), Principal::Job(j))));
    who
}

/// Resources of every kind, by name: some are the actors' own, and others are somebody else's.
pub(crate) fn resources() -> Vec<(&'static str, Resource)> {
    let (a, b) = (OWN, AccountId::from_bytes([2; 16]));
    let (m, n) = (OWN_MACHINE, MachineId::from_bytes([4; 16]));
    let key = KEY;
    let cluster = ClusterId::from_bytes([7; 16]);
    let gpu = GpuId::from_bytes([8; 16]);
    let enrolment = EnrolmentId::from_bytes([9; 16]);
    vec![
        ("network", on::Network.into()),
        ("own account", on::Account { account: a }.into()),
        ("other account", on::Account { account: b }.into()),
        ("own machine", on::Machine { machine: m, account: a }.into()),
        ("other machine", on::Machine { machine: n, account: b }.into()),
        ("own gpu", on::Gpu { gpu, machine: m, account: a }.into()),
        ("sibling machine's gpu", on::Gpu { gpu, machine: n, account: a }.into()),
        ("other gpu", on::Gpu { gpu, machine: n, account: b }.into()),
        ("own cluster", on::Cluster { cluster, renter: a, machine: n }.into()),
        ("other cluster", on::Cluster { cluster, renter: b, machine: n }.into()),
        ("machine enrolment", on::Enrolment { enrolment, kind: KeyKind::Machine }.into()),
        ("command-line enrolment", on::Enrolment { enrolment, kind: KeyKind::CommandLine }.into()),
        ("own key", on::Key { key, account: a }.into()),
        ("own account's other key", on::Key { key: KeyId::from_bytes([12; 16]), account: a }.into()),
        ("other key", on::Key { key, account: b }.into()),
        ("own identity", on::Identity { identity: Hash([10; 32]) }.into()),
        ("other identity", on::Identity { identity: Hash([11; 32]) }.into()),
    ]
}

/// The whole matrix as text, one line a case: for people to review and for a test to hold.
pub fn matrix() -> String {
    use std::fmt::Write;
    let mut out = String::from("# actor | action | resource | allowed by, or refused as\n");
    let what = resources();
    for (name, principal) in &actors() {
        for action in Action::ALL {
            for (kind, resource) in &what {
                match decide(principal, *action, resource) {
                    Ok(reason) => writeln!(out, "{name} | {action} | {kind} | yes: {reason}"),
                    Err(Refusal::Hidden) => writeln!(out, "{name} | {action} | {kind} | hidden"),
                    Err(_) => continue, // refused openly: the default, left out so that people can read the rest
                }
                .expect("writing to a string");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    /// Set `GANGLINE_BLESS=1` to write the reviewed file anew, then read what changed.
    #[test]
    fn the_matrix_is_the_reviewed_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/matrix.txt");
        let now = super::matrix();
        if std::env::var_os("GANGLINE_BLESS").is_some() {
            std::fs::write(path, &now).unwrap();
        }
        let reviewed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            now == reviewed,
            "the policy no longer matches crates/guard/matrix.txt; if the change is meant, write it with GANGLINE_BLESS=1 and review the difference"
        );
    }
}
