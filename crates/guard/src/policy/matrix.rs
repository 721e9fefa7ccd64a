//! Every actor, action and resource with the answer, as text that people review.

use gangline_types::{
    AccountId, ApprovalId, ClusterId, EnrolmentId, FreezeId, GpuId, Hash, KeyId, Label, MachineId,
    UnixSeconds,
};
use gangline_wire::{
    Action,
    api::{
        account::Role,
        enrol::KeyKind,
        operate::{Approver, Doer},
    },
};

use super::{Resource, decide, on};
use crate::{
    Job, Principal, Refusal,
    care::{Care, care, takes_one_factor},
    freeze::Target,
};

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
    let (freeze, approval) = (FreezeId::from_bytes([13; 16]), ApprovalId::from_bytes([14; 16]));
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
        (
            "invitation",
            on::Invitation { account: None, role: Role::Operator, name: Label::lossy("Ada") }.into(),
        ),
        ("freeze to be made", on::Halt { target: Target::Fleet, seconds: None }.into()),
        ("freeze", on::Freeze { freeze, target: Target::Fleet }.into()),
        ("restoration", on::Restoration { doer: Doer::Key(key), since: UnixSeconds(7) }.into()),
        ("calibration", on::Calibration { version: 1, table: Hash([12; 32]), promote: true }.into()),
        ("own act, to confirm", on::Approval { approval, asked_by: a, approver: Approver::Oneself }.into()),
        ("own act, for another", on::Approval { approval, asked_by: a, approver: Approver::Another }.into()),
        ("own act, nobody else", on::Approval { approval, asked_by: a, approver: Approver::Alone }.into()),
        (
            "other's act, to confirm",
            on::Approval { approval, asked_by: b, approver: Approver::Oneself }.into(),
        ),
        (
            "other's act, for another",
            on::Approval { approval, asked_by: b, approver: Approver::Another }.into(),
        ),
        (
            "other's act, nobody else",
            on::Approval { approval, asked_by: b, approver: Approver::Alone }.into(),
        ),
    ]
}

/// What an act takes beyond policy's yes.
fn more(who: &Principal, action: Action, what: &Resource) -> String {
    let care = match care(who, action, what) {
        Care::Plain => "",
        Care::Fresh => ", freshly signed in",
        Care::Confirmed => ", confirmed in a browser",
        Care::Approved => ", approved by another",
    };
    let is_person = matches!(who, Principal::Person { .. });
    let factors = if is_person && takes_one_factor(action) { ", with one factor too" } else { "" };
    format!("{care}{factors}")
}

/// The whole matrix as text, one line a case: for people to review and for a test to hold.
pub fn matrix() -> String {
    use std::fmt::Write;
    let mut out = String::from(
        "# actor | action | resource | allowed (what it takes beyond policy) by, or refused as\n",
    );
    let what = resources();
    for (name, principal) in &actors() {
        for action in Action::ALL {
            for (kind, resource) in &what {
                match decide(principal, *action, resource) {
                    Ok(reason) => {
                        let more = more(principal, *action, resource);
                        writeln!(out, "{name} | {action} | {kind} | yes{more}: {reason}")
                    }
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
