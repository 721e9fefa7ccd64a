//! What people outside are told of incidents, by which outlet, how often, and when a message that did not arrive
//! is sent again. Pure: the time and the dice come in as arguments, and nothing here knows a socket.
//!
//! An outlet is told when an incident opens, when it has come ten times as often as it was told last, and when it
//! is closed; what is only to be looked at some time ([`Severity::Notice`]) stands in the console alone. A flood
//! of incidents is told in few messages: single ones up to a number an hour, and from then on one that names
//! many, each ten minutes at most.

use gangline_types::{IncidentId, UnixSeconds};
use serde::{Deserialize, Serialize};

use super::Severity;

/// What becomes of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentState {
    /// Nobody has said anything.
    Open,
    /// Somebody is on it.
    Acknowledged,
    /// It is over. What happens from now on is another one.
    Closed,
}

/// A way by which people outside are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outlet {
    /// A signed HTTPS request to the operator's own program.
    Webhook,
    /// A mail.
    Mail,
}

impl Outlet {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Webhook, Self::Mail];
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Mail => "mail",
        }
    }
    /// Messages about one incident each that it takes in an hour. A program sorts more than a person reads.
    pub const fn singles_an_hour(self) -> u64 {
        match self {
            Self::Webhook => 120,
            Self::Mail => 12,
        }
    }
}

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// An incident was opened.
    Opened,
    /// It came ten times as often as was told last.
    Grew,
    /// It was closed.
    Closed,
    /// Too many to be told one by one.
    Many,
}

impl Event {
    /// Its name for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "incident.opened",
            Self::Grew => "incident.grew",
            Self::Closed => "incident.closed",
            Self::Many => "incident.many",
        }
    }
}

/// How many times as often an incident has to come before it is told again.
pub const GROWS_BY: u64 = 10;
/// A message that names many follows another after so many seconds at the earliest: ten minutes.
pub const MANY_EACH_SECONDS: u64 = 600;
/// Incidents that one message spells out; the others are counted.
pub const SPELLED_OUT_MAX: usize = 20;

/// An incident of which an outlet was not told yet as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsaid {
    /// Which.
    pub incident: IncidentId,
    /// How bad.
    pub severity: Severity,
    /// When it was opened.
    pub opened_at: UnixSeconds,
    /// What became of it.
    pub state: IncidentState,
    /// How often it came.
    pub count: u64,
    /// How often it had come when it was told last; none if never.
    pub told_count: Option<u64>,
}

impl Unsaid {
    /// What there is to say, if anything.
    pub fn event(&self) -> Option<Event> {
        match (self.told_count, self.state) {
            // It was over before anybody could be told.
            (None, IncidentState::Closed) => None,
            (None, _) => (self.severity > Severity::Notice).then_some(Event::Opened),
            (Some(_), IncidentState::Closed) => Some(Event::Closed),
            (Some(told), _) => (self.count >= told.saturating_mul(GROWS_BY)).then_some(Event::Grew),
        }
    }
}

/// What an outlet was sent lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentLately {
    /// Messages about one incident each, within the hour.
    pub singles: u64,
    /// The last one that named many.
    pub many_at: Option<UnixSeconds>,
}

/// A message to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What it is about.
    pub event: Event,
    /// Its incidents, the worst first, each with what there is to say of it: one, unless it names many.
    pub about: Vec<(IncidentId, Event)>,
}

/// What to tell now: the worst first, and of the same severity those that are open longest. What does not fit the
/// limits is not in it and stays unsaid until the next look.
pub fn plan(now: UnixSeconds, outlet: Outlet, unsaid: &[Unsaid], sent: SentLately) -> Vec<Planned> {
    let mut say: Vec<(Unsaid, Event)> = unsaid.iter().filter_map(|u| u.event().map(|e| (*u, e))).collect();
    say.sort_by_key(|(u, _)| (std::cmp::Reverse(u.severity), u.opened_at, u.incident));
    let mut room = outlet.singles_an_hour().saturating_sub(sent.singles) as usize;
    // The last place of the hour is no use to somebody who is sent a message that names all anyway.
    if say.len() > room {
        room = room.saturating_sub(1);
    }
    let rest = say.split_off(room.min(say.len()));
    let mut planned: Vec<Planned> =
        say.into_iter().map(|(u, event)| Planned { event, about: vec![(u.incident, event)] }).collect();
    let may_many = sent.many_at.is_none_or(|at| now.since(at) >= MANY_EACH_SECONDS);
    if may_many && !rest.is_empty() {
        let about = rest.into_iter().map(|(u, event)| (u.incident, event)).collect();
        planned.push(Planned { event: Event::Many, about });
    }
    planned
}

/// How often a message is tried, and how long is waited in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The wait after the first try, in milliseconds; each is four times the one before.
    pub first_millis: u64,
    /// No wait is longer than this, in milliseconds.
    pub longest_millis: u64,
    /// After so many tries a message is a dead letter.
    pub tries_max: u32,
}

impl Default for Retry {
    /// 5 s, 20 s, 80 s, 5 min, 21 min, 85 min, then 4 h each: the tenth and last try comes about 14 hours after the
    /// first.
    fn default() -> Self {
        Self { first_millis: 5_000, longest_millis: 4 * 3_600_000, tries_max: 10 }
    }
}

impl Retry {
    /// How long to wait after the `tries`-th try failed, in milliseconds; none if it was the last. `dice` is random
    /// and moves it by up to a half both ways, so that what failed together does not come back together.
    pub fn wait_millis(&self, tries: u32, dice: u32) -> Option<u64> {
        if tries >= self.tries_max {
            return None;
        }
        let whole = self
            .first_millis
            .saturating_mul(4u64.saturating_pow(tries.saturating_sub(1)))
            .min(self.longest_millis);
        Some(whole / 2 + ((u128::from(whole) * u128::from(dice)) >> 32) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn unsaid(n: u8, severity: Severity, state: IncidentState, count: u64, told: Option<u64>) -> Unsaid {
        Unsaid {
            incident: IncidentId::from_bytes([n; 16]),
            severity,
            opened_at: UnixSeconds(NOW.0 - u64::from(n)),
            state,
            count,
            told_count: told,
        }
    }

    #[test]
    fn an_incident_is_told_when_it_opens_grows_tenfold_and_closes() {
        use IncidentState::*;
        let check = |severity, state, count, told, expected| {
            assert_eq!(unsaid(1, severity, state, count, told).event(), expected);
        };
        check(Severity::Urgent, Open, 1, None, Some(Event::Opened));
        check(Severity::Urgent, Acknowledged, 1, None, Some(Event::Opened));
        check(Severity::Notice, Open, 1, None, None);
        check(Severity::Urgent, Closed, 1, None, None);
        check(Severity::Urgent, Open, 9, Some(1), None);
        check(Severity::Urgent, Acknowledged, 10, Some(1), Some(Event::Grew));
        check(Severity::Urgent, Open, 99, Some(10), None);
        check(Severity::Warning, Closed, 1, Some(1), Some(Event::Closed));
    }

    #[test]
    fn the_worst_is_said_first_and_a_flood_in_one_message_each_ten_minutes() {
        let open = |n, severity| unsaid(n, severity, IncidentState::Open, 1, None);
        let two = [open(1, Severity::Warning), open(2, Severity::Urgent)];
        let said = plan(NOW, Outlet::Mail, &two, SentLately::default());
        let ids: Vec<u8> = said.iter().map(|p| p.about[0].0.as_bytes()[0]).collect();
        assert_eq!((ids, said[0].event), (vec![2, 1], Event::Opened));

        let flood: Vec<Unsaid> = (1..=200).map(|n| open(n, Severity::Warning)).collect();
        let said = plan(NOW, Outlet::Mail, &flood, SentLately::default());
        assert_eq!(said.len(), 12, "eleven one by one, and one of the rest");
        assert_eq!((said[11].event, said[11].about.len()), (Event::Many, 189));
        let full = |many_ago| SentLately { singles: 12, many_at: Some(UnixSeconds(NOW.0 - many_ago)) };
        assert!(plan(NOW, Outlet::Mail, &flood, full(MANY_EACH_SECONDS - 1)).is_empty());
        let said = plan(NOW, Outlet::Mail, &flood, full(MANY_EACH_SECONDS));
        assert_eq!((said.len(), said[0].about.len()), (1, 200));
        assert!(plan(NOW, Outlet::Mail, &[], SentLately::default()).is_empty());
        assert_eq!(plan(NOW, Outlet::Webhook, &flood[..100], SentLately::default()).len(), 100);
    }

    #[test]
    fn waits_grow_are_spread_and_end() {
        let retry = Retry::default();
        let mut last = 0;
        for tries in 1..retry.tries_max {
            let (low, high) =
                (retry.wait_millis(tries, 0).unwrap(), retry.wait_millis(tries, u32::MAX).unwrap());
            // The longest wait is spread as well, over thrice its least.
            assert!(low >= last / 3 && low * 2 <= high + 1 && high < 3 * low + 3, "{tries}: {low} {high}");
            assert!(high <= retry.longest_millis * 3 / 2);
            last = high;
        }
        assert_eq!(retry.wait_millis(1, 0), Some(2_500));
        assert_eq!(retry.wait_millis(retry.tries_max, 7), None);
        let whole: u64 = (1..retry.tries_max).map(|n| retry.wait_millis(n, 1 << 31).unwrap()).sum();
        assert!((13..16).contains(&(whole / 3_600_000)), "{whole}");
    }
}
