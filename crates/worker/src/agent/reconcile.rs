//! What to do about clusters: pure, from what is wanted and what is there. Level-triggered, so that a
//! lost answer, a restart and a first try are one path.
//!
//! Knows no sandbox and no network.

use std::collections::BTreeMap;

use gangline_types::{ClusterId, GpuId, MicroCredits, UnixSeconds, receipt::Receipt};
use gangline_wire::api::machine::{NodeOrder, Observed, Order, Want};
use serde::{Deserialize, Serialize};

/// One cluster as this machine knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// Where it runs; none: this machine never started it.
    pub gpu: Option<GpuId>,
    /// How it is.
    pub phase: Phase,
    /// The owner's price of an hour when it was started.
    pub price_per_hour: MicroCredits,
    /// Ray answered.
    pub started_at: Option<UnixSeconds>,
    /// It was stopped, or it fell over.
    pub ended_at: Option<UnixSeconds>,
}

/// How a cluster is on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// Being made.
    Starting,
    /// Ray answers.
    Running,
    /// Being taken down.
    Stopping,
    /// It did not start, or fell over; nothing of it is left.
    Failed,
    /// The owner did not allow it.
    Refused,
    /// Nothing of it is left.
    Gone,
}

impl Phase {
    /// Whether something of it is there.
    pub(crate) fn is_live(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Stopping)
    }
    /// The word for the server. What is being taken down is still there.
    pub(crate) fn observed(self, started: bool) -> Observed {
        match self {
            Self::Starting => Observed::Starting,
            Self::Stopping if !started => Observed::Starting,
            Self::Running | Self::Stopping => Observed::Running,
            Self::Failed => Observed::Failed,
            Self::Refused => Observed::RefusedByOwner,
            Self::Gone => Observed::Gone,
        }
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make it.
    Start(ClusterId, Box<NodeOrder>),
    /// The owner does not allow it: why.
    Refuse(ClusterId, String),
    /// Take it down: why.
    Stop(ClusterId, &'static str),
    /// Nothing of it is here, and that is what was wanted.
    MarkGone(ClusterId),
    /// Sign its receipt.
    Sign(ClusterId, Box<Receipt>),
    /// It is settled: remember nothing.
    Forget(ClusterId),
}

/// Decides; `allowed` is the owner's word on an order. Every action leads to a state in which it is not
/// decided again.
pub(crate) fn decide(
    orders: &[Order],
    known: &BTreeMap<ClusterId, Known>,
    mut allowed: impl FnMut(&NodeOrder) -> Result<(), String>,
) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut started: Vec<GpuId> = Vec::new();
    for order in orders {
        let id = order.cluster;
        let phase = known.get(&id).map(|k| k.phase);
        match (&order.want, phase) {
            (Want::Run(node), None) => {
                // Two orders of one answer cannot both have the GPU.
                let free = if started.contains(&node.gpu) {
                    Err("its GPU is taken".to_owned())
                } else {
                    allowed(node)
                };
                actions.push(match free {
                    Ok(()) => {
                        started.push(node.gpu);
                        Action::Start(id, node.clone())
                    }
                    Err(why) => Action::Refuse(id, why),
                });
            }
            // It runs, or it ended and the server will hear of that with the next report.
            (Want::Run(_), Some(_)) => {}
            (Want::Gone | Want::Sign(_), Some(Phase::Starting | Phase::Running)) => {
                actions.push(Action::Stop(id, "the network ended it"));
            }
            (Want::Gone | Want::Sign(_), Some(Phase::Stopping)) => {}
            (Want::Gone, Some(Phase::Gone)) => {}
            (Want::Gone, Some(Phase::Failed | Phase::Refused) | None) => actions.push(Action::MarkGone(id)),
            (Want::Sign(receipt), _) => actions.push(Action::Sign(id, receipt.clone())),
        }
    }
    for (id, k) in known {
        if orders.iter().any(|o| o.cluster == *id) {
            continue;
        }
        match k.phase {
            Phase::Starting | Phase::Running => {
                actions.push(Action::Stop(*id, "the network does not know it any more"))
            }
            Phase::Stopping => {}
            Phase::Failed | Phase::Refused | Phase::Gone => actions.push(Action::Forget(*id)),
        }
    }
    actions
}

/// Clocks of one machine read at two places may round apart by this much.
const ROUNDING_SECONDS: u64 = 2;

/// Whether this machine can put its name under a receipt: it is about a cluster that ran here, for no
/// longer than was seen, at no less than the owner's price, and the sum is right.
pub(crate) fn check_receipt(id: ClusterId, receipt: &Receipt, known: Option<&Known>) -> Result<(), String> {
    if receipt.cluster != id {
        return Err(format!("the receipt is for {}, not {id}", receipt.cluster));
    }
    let (price, used, cost) =
        (receipt.price_per_hour.0 as u128, receipt.used.0 as u128, receipt.cost.0 as u128);
    // Rounded to whole millionths, whichever way.
    if (cost * 3600).abs_diff(price * used) >= 3600 {
        return Err(format!(
            "{} seconds at {} an hour are not {}",
            receipt.used, receipt.price_per_hour, receipt.cost
        ));
    }
    let Some(known) = known else {
        // Nothing ran here as far as this machine remembers, so it agrees to nothing but zero.
        return if receipt.used.0 == 0 {
            Ok(())
        } else {
            Err("this machine saw nothing of that cluster".to_owned())
        };
    };
    if known.gpu.is_some_and(|gpu| gpu != receipt.gpu) {
        return Err(format!("it ran on another GPU than {}", receipt.gpu));
    }
    let seen = match (known.started_at, known.ended_at) {
        (Some(started), Some(ended)) => ended.since(started) + ROUNDING_SECONDS,
        _ => 0,
    };
    if receipt.used.0 > seen {
        return Err(format!("the receipt is for {} seconds; this machine saw {seen}", receipt.used));
    }
    if receipt.used.0 > 0 && receipt.price_per_hour < known.price_per_hour {
        return Err(format!(
            "{} an hour is less than the owner's {}",
            receipt.price_per_hour, known.price_per_hour
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use gangline_types::{Seconds, receipt::EndedBecause};

    use super::*;

    fn id(n: u8) -> ClusterId {
        ClusterId::from_bytes([n; 16])
    }
    fn gpu(n: u8) -> GpuId {
        GpuId::from_bytes([n; 16])
    }
    fn node(n: u8) -> Box<NodeOrder> {
        Box::new(NodeOrder {
            gpu: gpu(n),
            token: "t".into(),
            memory_bytes: 1,
            cpus_millis: 1,
            until: UnixSeconds(9),
        })
    }
    fn receipt(used: u64) -> Box<Receipt> {
        Box::new(Receipt {
            cluster: id(1),
            gpu: gpu(1),
            started_at: Some(UnixSeconds(100)),
            ended_at: UnixSeconds(100 + used),
            used: Seconds(used),
            price_per_hour: MicroCredits(3600),
            cost: MicroCredits(used),
            because: EndedBecause::Released,
        })
    }
    fn known(phase: Phase) -> Known {
        Known {
            gpu: Some(gpu(1)),
            phase,
            price_per_hour: MicroCredits(3600),
            started_at: Some(UnixSeconds(100)),
            ended_at: Some(UnixSeconds(160)),
        }
    }

    /// What is decided about cluster 1, wanted so and known so.
    fn check(want: Option<Want>, phase: Option<Phase>, allowed: bool, expected: &[Action]) {
        let orders: Vec<Order> =
            want.clone().into_iter().map(|want| Order { cluster: id(1), want }).collect();
        let there: BTreeMap<_, _> = phase.into_iter().map(|p| (id(1), known(p))).collect();
        let word = |_: &NodeOrder| if allowed { Ok(()) } else { Err("no".to_owned()) };
        assert_eq!(decide(&orders, &there, word), expected, "wanted {want:?}, is {phase:?}");
    }

    #[test]
    fn every_wish_meets_every_state() {
        use Phase::*;
        let run = || Some(Want::Run(node(1)));
        let sign = || Some(Want::Sign(receipt(60)));
        let ended = || Action::Stop(id(1), "the network ended it");
        check(run(), None, true, &[Action::Start(id(1), node(1))]);
        check(run(), None, false, &[Action::Refuse(id(1), "no".into())]);
        for phase in [Starting, Running, Stopping, Failed, Refused, Gone] {
            // What ended is not begun anew, whatever the owner says by now.
            check(run(), Some(phase), false, &[]);
        }
        check(Some(Want::Gone), None, true, &[Action::MarkGone(id(1))]);
        check(Some(Want::Gone), Some(Starting), true, &[ended()]);
        check(Some(Want::Gone), Some(Running), true, &[ended()]);
        check(Some(Want::Gone), Some(Stopping), true, &[]);
        check(Some(Want::Gone), Some(Failed), true, &[Action::MarkGone(id(1))]);
        check(Some(Want::Gone), Some(Refused), true, &[Action::MarkGone(id(1))]);
        check(Some(Want::Gone), Some(Gone), true, &[]);
        check(sign(), Some(Running), true, &[ended()]);
        check(sign(), Some(Stopping), true, &[]);
        for phase in [None, Some(Failed), Some(Refused), Some(Gone)] {
            check(sign(), phase, true, &[Action::Sign(id(1), receipt(60))]);
        }
        let unknown = || Action::Stop(id(1), "the network does not know it any more");
        check(None, Some(Starting), true, &[unknown()]);
        check(None, Some(Running), true, &[unknown()]);
        check(None, Some(Stopping), true, &[]);
        for phase in [Failed, Refused, Gone] {
            check(None, Some(phase), true, &[Action::Forget(id(1))]);
        }
    }

    #[test]
    fn one_gpu_is_not_given_twice_in_one_answer() {
        let orders = [1, 2].map(|n| Order { cluster: id(n), want: Want::Run(node(7)) });
        let decided = decide(&orders, &BTreeMap::new(), |_| Ok(()));
        assert_eq!(
            decided,
            [Action::Start(id(1), node(7)), Action::Refuse(id(2), "its GPU is taken".into())]
        );
    }

    #[test]
    fn only_what_was_seen_is_signed() {
        let ran = known(Phase::Gone);
        assert_eq!(check_receipt(id(1), &receipt(60), Some(&ran)), Ok(()));
        assert_eq!(check_receipt(id(1), &receipt(62), Some(&ran)), Ok(()));
        assert_eq!(check_receipt(id(1), &receipt(0), None), Ok(()));
        let never = Known { started_at: None, ended_at: None, ..ran.clone() };
        assert_eq!(check_receipt(id(1), &receipt(0), Some(&never)), Ok(()));
        let dearer = Known { price_per_hour: MicroCredits(3601), ..ran.clone() };
        let wrong_sum = Box::new(Receipt { cost: MicroCredits(62), ..*receipt(60) });
        let other_gpu = Box::new(Receipt { gpu: gpu(2), ..*receipt(60) });
        for (cluster, receipt, known, words) in [
            (id(2), receipt(60), Some(&ran), "not clu_"),
            (id(1), receipt(63), Some(&ran), "saw 62"),
            (id(1), receipt(1), None, "saw nothing"),
            (id(1), receipt(1), Some(&never), "saw 0"),
            (id(1), receipt(60), Some(&dearer), "less than the owner's"),
            (id(1), wrong_sum, Some(&ran), "are not"),
            (id(1), other_gpu, Some(&ran), "another GPU"),
        ] {
            let refused = check_receipt(cluster, &receipt, known).unwrap_err();
            assert!(refused.contains(words), "{words:?} is not in {refused:?}");
        }
    }
}
