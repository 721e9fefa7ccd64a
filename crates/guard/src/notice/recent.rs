//! What was done in the last minutes, so that a freeze can say beforehand what it would stop.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use gangline_types::{AccountId, KeyId, MachineId, UnixSeconds};

use crate::freeze::{Freezable, Target};

/// How far back is remembered, in minutes.
pub const MINUTES: u64 = 15;
/// Doers told apart in one minute; more than these are counted as one.
const DOERS_MAX: usize = 8_192;

type Doer = (Option<KeyId>, Option<AccountId>, Option<MachineId>, Freezable);

/// Changes of the last minutes by doer.
#[derive(Clone, Debug, Default)]
pub struct Recent(VecDeque<(u64, BTreeMap<Doer, u64>)>);

/// What a freeze would have stopped in the last minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// Keys.
    pub keys: u64,
    /// Accounts.
    pub accounts: u64,
    /// Machines; all of them go on beating.
    pub machines: u64,
    /// Changes.
    pub requests: u64,
}

impl Recent {
    /// Somebody was allowed to change something.
    pub fn add(
        &mut self,
        at: UnixSeconds,
        key: Option<KeyId>,
        account: Option<AccountId>,
        machine: Option<MachineId>,
        what: Freezable,
    ) {
        let minute = at.0 / 60;
        if self.0.back().is_none_or(|(last, _)| *last < minute) {
            self.0.push_back((minute, BTreeMap::new()));
        }
        while self.0.front().is_some_and(|(first, _)| first + MINUTES <= minute) {
            self.0.pop_front();
        }
        let Some((_, doers)) = self.0.back_mut() else { return };
        let doer = (key, account, machine, what);
        let doer = if doers.len() < DOERS_MAX || doers.contains_key(&doer) {
            doer
        } else {
            (None, None, None, what)
        };
        *doers.entry(doer).or_default() += 1;
    }

    /// What a freeze of `target` would have stopped in the [`MINUTES`] before `at`.
    pub fn preview(&self, target: &Target, at: UnixSeconds) -> Preview {
        let mut keys: BTreeSet<KeyId> = BTreeSet::new();
        let mut accounts: BTreeSet<AccountId> = BTreeSet::new();
        let mut machines: BTreeSet<MachineId> = BTreeSet::new();
        let mut requests = 0;
        let minutes = self.0.iter().filter(|(minute, _)| minute + MINUTES > at.0 / 60);
        for ((key, account, machine, what), count) in minutes.flat_map(|(_, doers)| doers) {
            let stops = match target {
                Target::Key(stopped) => *key == Some(*stopped),
                Target::Account(stopped) => *account == Some(*stopped),
                Target::Action(stopped) => what == stopped,
                Target::Fleet => true,
            };
            if stops {
                keys.extend(key);
                accounts.extend(account);
                machines.extend(machine);
                requests += count;
            }
        }
        let count = |n: usize| n as u64;
        Preview {
            keys: count(keys.len()),
            accounts: count(accounts.len()),
            machines: count(machines.len()),
            requests,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_counts_what_would_have_been_stopped() {
        let mut recent = Recent::default();
        let id = |n: u8| (Some(KeyId::from_bytes([n; 16])), Some(AccountId::from_bytes([n / 2; 16])));
        for n in 0..4 {
            let (key, account) = id(n);
            let machine = Some(MachineId::from_bytes([n; 16]));
            recent.add(UnixSeconds(600), key, account, machine, Freezable::LabelGpu);
        }
        for n in 0..4 {
            let (key, account) = id(n);
            recent.add(UnixSeconds(660), key, account, None, Freezable::Hire);
        }
        let check = |target, at, expected: (u64, u64, u64, u64)| {
            let found = recent.preview(&target, UnixSeconds(at));
            assert_eq!((found.keys, found.accounts, found.machines, found.requests), expected, "{target}");
        };
        check(Target::Fleet, 700, (4, 2, 4, 8));
        check(Target::Action(Freezable::LabelGpu), 700, (4, 2, 4, 4));
        check(Target::Key(KeyId::from_bytes([1; 16])), 700, (1, 1, 1, 2));
        check(Target::Account(AccountId::from_bytes([1; 16])), 700, (2, 1, 2, 4));
        check(Target::Action(Freezable::Invite), 700, (0, 0, 0, 0));
        check(Target::Fleet, 600 + 15 * 60, (4, 2, 0, 4));
        check(Target::Fleet, 600 + 16 * 60, (0, 0, 0, 0));
    }
}
