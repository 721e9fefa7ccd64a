//! The owner's word on each order: pure, and each refusal in words a renter may read.
//!
//! Knows no server: an order that the network made wrongly is refused like any other.

use gangline_types::{ClusterId, GpuId, UnixSeconds};
use gangline_wire::api::machine::NodeOrder;

use super::settings::{RentSettings, Share};

/// The machine as it is when an order comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation<'a> {
    /// The owner's terms.
    pub rent: &'a RentSettings,
    /// What one cluster may have.
    pub share: Share,
    /// The owner paused it.
    pub paused: bool,
    /// Why no sandbox can be made; none: it can.
    pub no_isolation: Option<&'a str>,
    /// This machine's GPUs.
    pub gpus: &'a [GpuId],
    /// Which of them are taken, and by which cluster.
    pub taken: &'a [(GpuId, ClusterId)],
    /// The clock.
    pub now: UnixSeconds,
}

/// Why the owner does not allow it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PolicyRefusal {
    #[error("the owner does not rent this machine out")]
    RentOff,
    #[error("the owner paused this machine")]
    Paused,
    #[error("this machine cannot isolate a renter's program: {0}")]
    NoIsolation(String),
    #[error("this machine has no GPU {0}")]
    NoSuchGpu(GpuId),
    #[error("the GPU {0} already runs another cluster")]
    Taken(GpuId),
    #[error("the cluster asks for {asked} bytes of memory; the owner gives at most {most}")]
    Memory { asked: u64, most: u64 },
    #[error("the cluster asks for {asked} thousandths of a core; the owner gives at most {most}")]
    Cpus { asked: u32, most: u32 },
    #[error("the hire is for {asked} more seconds; the owner allows at most {most}")]
    TooLong { asked: u64, most: u64 },
    #[error("the hire ended before it began")]
    Over,
}

/// Clocks may differ by this much before a hire counts as longer than allowed.
const SKEW_SECONDS: u64 = 120;

/// Whether the owner allows this order.
pub(crate) fn check(order: &NodeOrder, situation: &Situation<'_>) -> Result<(), PolicyRefusal> {
    use PolicyRefusal::*;
    let Situation { rent, share, paused, no_isolation, gpus, taken, now } = *situation;
    if !rent.enabled {
        return Err(RentOff);
    }
    if paused {
        return Err(Paused);
    }
    if let Some(why) = no_isolation {
        return Err(NoIsolation(why.to_owned()));
    }
    if !gpus.contains(&order.gpu) {
        return Err(NoSuchGpu(order.gpu));
    }
    if taken.iter().any(|(gpu, _)| *gpu == order.gpu) {
        return Err(Taken(order.gpu));
    }
    if order.memory_bytes > share.memory_bytes {
        return Err(Memory { asked: order.memory_bytes, most: share.memory_bytes });
    }
    if order.cpus_millis > share.cpus_millis {
        return Err(Cpus { asked: order.cpus_millis, most: share.cpus_millis });
    }
    if order.until <= now {
        return Err(Over);
    }
    let (asked, most) = (order.until.since(now), rent.hours_max as u64 * 3600 + SKEW_SECONDS);
    if asked > most {
        return Err(TooLong { asked, most });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(n: u8) -> GpuId {
        GpuId::from_bytes([n; 16])
    }

    #[test]
    fn what_the_owner_gives_is_taken_and_everything_beyond_is_refused_in_words() {
        let order = NodeOrder {
            gpu: gpu(1),
            token: "0123456789abcdef".into(),
            memory_bytes: 2 << 30,
            cpus_millis: 2000,
            until: UnixSeconds(1000 + 3600),
        };
        let rent = RentSettings { hours_max: 1, ..RentSettings::default() };
        let gpus = [gpu(1), gpu(2)];
        let fine = Situation {
            rent: &rent,
            share: Share { memory_bytes: 2 << 30, cpus_millis: 2000 },
            paused: false,
            no_isolation: None,
            gpus: &gpus,
            taken: &[(gpu(2), ClusterId::from_bytes([9; 16]))],
            now: UnixSeconds(1000),
        };
        assert_eq!(check(&order, &fine), Ok(()));

        let off = RentSettings { enabled: false, ..rent.clone() };
        let small = |memory_bytes, cpus_millis| Share { memory_bytes, cpus_millis };
        let long = NodeOrder { until: UnixSeconds(1000 + 3600 + 121), ..order.clone() };
        let over = NodeOrder { until: UnixSeconds(1000), ..order.clone() };
        let foreign = NodeOrder { gpu: gpu(3), ..order.clone() };
        let taken = NodeOrder { gpu: gpu(2), ..order.clone() };
        for (order, situation, words) in [
            (&order, Situation { rent: &off, ..fine }, "does not rent"),
            (&order, Situation { paused: true, ..fine }, "paused"),
            (&order, Situation { no_isolation: Some("no podman"), ..fine }, "no podman"),
            (&order, Situation { share: small(1 << 30, 2000), ..fine }, "at most 1073741824"),
            (&order, Situation { share: small(2 << 30, 1999), ..fine }, "at most 1999"),
            (&long, fine, "3721 more seconds"),
            (&over, fine, "ended before it began"),
            (&foreign, fine, "has no GPU"),
            (&taken, fine, "already runs another"),
        ] {
            let refused = check(order, &situation).unwrap_err().to_string();
            assert!(refused.contains(words), "{words:?} is not in {refused:?}");
        }
    }
}
