//! The machine's lane into the network for one epoch: alias, beat key, the chains of its GPUs, and the frames it
//! has made. Kept on disk, so that a frame made before a restart is the same after it.
//!
//! Knows no socket; what the server says comes in as values.

use std::collections::{BTreeMap, BTreeSet};

use gangline_types::{GpuId, Hash, Minute, Text, UnixSeconds};
use gangline_wire::{
    SigningKey,
    api::machine::{ChainStart, EpochGrant, EpochRequest, UdpAddress},
    beat::{
        Alias, BEAT_BYTES, Beat, BeatKey, Chain, Epoch, Link, Under, WorkerVersion, addresses_check, chain,
    },
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::data::{DataDir, DataError, LANE};

/// The server takes beats up to six hours late; a chain that stands for a little less is never refused for it.
const LATE_MINUTES: u32 = 350;
/// A machine proves its key anew some time within this after an epoch's beginning, each at its own place: the epoch
/// before still counts, and a fleet does not come at once.
const SPREAD_SECONDS: u64 = 20 * 3600;

/// A frame as it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    /// Which GPUs it says were alive.
    gpus: u64,
    /// What it shows of a chain.
    slot: u8,
    count: u16,
}

/// One GPU in the agreed order.
#[derive(Clone, Serialize, Deserialize)]
struct Place {
    gpu: GpuId,
    seed: Hash,
    /// Beats made.
    count: u16,
    /// Of those, shown.
    shown: u16,
}

/// What is kept of a lane. Holds secrets: its file is its owner's alone.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Lane {
    epoch: Epoch,
    alias: Alias,
    key: Hash,
    places: Vec<Place>,
    made: BTreeMap<u32, Made>,
    /// Where frames may go.
    pub udp: Option<UdpAddress>,
    /// Where they may be posted.
    pub http: Option<Text<256>>,
}

/// The seeds of chains that a machine asked to beat with, until the server has answered.
pub(crate) struct Opening {
    seeds: BTreeMap<GpuId, Hash>,
}

/// Asks for a lane for `gpus`; `oldest` is the oldest minute that waits. `seeds` are fresh and random.
pub(crate) fn ask(
    key: &SigningKey,
    gpus: &[GpuId],
    oldest: Minute,
    now: UnixSeconds,
    mut seed: impl FnMut() -> [u8; 32],
) -> (EpochRequest, Opening) {
    let starts = oldest.max(Minute(now.minute().0.saturating_sub(LATE_MINUTES))).min(now.minute());
    let seeds: BTreeMap<GpuId, Hash> = gpus.iter().map(|gpu| (*gpu, Hash(seed()))).collect();
    let machine = key.seed();
    let chains = seeds.iter().map(|(gpu, seed)| {
        let tip = Chain::from_seed(seed.0).tip();
        let uptime_key = SigningKey::from_seed(&chain::uptime_seed(&machine, *gpu));
        let signature = uptime_key.sign(&chain::signed_bytes(*gpu, starts, tip));
        let hex: String = signature.iter().map(|b| format!("{b:02x}")).collect();
        ChainStart { gpu: *gpu, tip, uptime_key: uptime_key.public(), signature: Text::lossy(&hex) }
    });
    (EpochRequest { starts, chains: chains.collect() }, Opening { seeds })
}

impl Opening {
    /// The lane, as the server granted it; none if it names a GPU that was not asked for.
    pub(crate) fn granted(self, grant: EpochGrant) -> Option<Lane> {
        let places = grant.gpus.iter().map(|gpu| {
            let seed = *self.seeds.get(gpu)?;
            Some(Place { gpu: *gpu, seed, count: 0, shown: 0 })
        });
        let places = places.collect::<Option<Vec<_>>>().filter(|p| (1..=64).contains(&p.len()))?;
        let EpochGrant { epoch, alias, key, udp, http, .. } = grant;
        Some(Lane { epoch, alias, key, places, made: BTreeMap::new(), udp, http })
    }
}

/// A frame to send, and what it says.
pub(crate) struct Frame {
    pub beat: Beat,
    pub bytes: [u8; BEAT_BYTES],
}

impl Lane {
    pub(crate) fn load(data: &DataDir) -> Result<Option<Self>, DataError> {
        data.read_json(LANE)
    }
    pub(crate) fn store(&self, data: &DataDir) -> Result<(), DataError> {
        data.write_json(LANE, self, true)
    }
    /// What its frames and their answers are sealed with.
    pub(crate) fn key(&self) -> BeatKey {
        BeatKey::from_bytes(*Zeroizing::new(self.key.0))
    }
    /// What vouches for a question for another lane.
    pub(crate) fn under<'a>(&self, key: &'a BeatKey) -> Under<'a> {
        Under { epoch: self.epoch, alias: self.alias, key }
    }
    /// A check of the addresses that it knows.
    pub(crate) fn addresses_check(&self) -> u16 {
        addresses_check(self.udp.as_ref(), self.http.as_ref().map(|url| url.as_str()))
    }
    /// Whether a question that it vouches for is heard.
    pub(crate) fn vouches(&self, now: UnixSeconds) -> bool {
        self.epoch.vouches_in(Epoch::of(now))
    }
    /// Whether it can say that all of `gpus` were alive.
    pub(crate) fn has(&self, gpus: &BTreeSet<GpuId>) -> bool {
        gpus.iter().all(|gpu| self.places.iter().any(|p| p.gpu == *gpu))
    }
    /// Whether it is time for another, for a machine whose place in the epoch is `place`: any number that stays
    /// its own.
    pub(crate) fn is_over(&self, now: UnixSeconds, place: u64) -> bool {
        let late = UnixSeconds(now.0.saturating_sub(place % SPREAD_SECONDS));
        Epoch::of(late) > self.epoch
            || !self.epoch.counts_in(Epoch::of(now))
            || self.places.iter().any(|p| p.count >= chain::LINKS_MAX)
    }
    /// Whether its epoch counts.
    pub(crate) fn counts(&self, now: UnixSeconds) -> bool {
        self.epoch.counts_in(Epoch::of(now))
    }
    /// Which of `gpus` it knows.
    pub(crate) fn known(&self, gpus: &BTreeSet<GpuId>) -> BTreeSet<GpuId> {
        gpus.iter().filter(|gpu| self.places.iter().any(|p| p.gpu == **gpu)).copied().collect()
    }
    /// The GPUs of a frame.
    pub(crate) fn gpus(&self, mask: u64) -> BTreeSet<GpuId> {
        self.places.iter().enumerate().filter(|(n, _)| mask >> n & 1 == 1).map(|(_, p)| p.gpu).collect()
    }

    /// The frame for a minute: the one made before, if it says the same. To be stored before it is sent, so that no
    /// count is used for two minutes.
    pub(crate) fn frame(
        &mut self,
        minute: Minute,
        gpus: &BTreeSet<GpuId>,
        worker: WorkerVersion,
    ) -> Option<Frame> {
        let mask = self
            .places
            .iter()
            .enumerate()
            .filter(|(_, place)| gpus.contains(&place.gpu))
            .fold(0u64, |mask, (n, _)| mask | 1 << n);
        let before = self.made.get(&minute.0).cloned();
        let made = match before {
            Some(made) if made.gpus == mask => made,
            before => {
                let counted = before.map_or(0, |made| made.gpus);
                for (n, place) in self.places.iter_mut().enumerate() {
                    if (mask & !counted) >> n & 1 == 1 {
                        place.count = place.count.saturating_add(1);
                    }
                }
                // The one whose chain was shown longest ago, by beats.
                let (slot, place) = self
                    .places
                    .iter_mut()
                    .enumerate()
                    .filter(|(n, _)| mask >> n & 1 == 1)
                    .max_by_key(|(n, place)| (place.count - place.shown, std::cmp::Reverse(*n)))?;
                if place.count > chain::LINKS_MAX {
                    return None;
                }
                place.shown = place.count;
                let made = Made { gpus: mask, slot: slot as u8, count: place.count };
                self.made.insert(minute.0, made.clone());
                made
            }
        };
        let chain = Chain::from_seed(self.places.get(usize::from(made.slot))?.seed.0);
        let link = Link { slot: made.slot, count: made.count, preimage: chain.value(made.count) };
        let beat = Beat { epoch: self.epoch, alias: self.alias, minute, worker, gpus: mask, link };
        Some(Frame { beat, bytes: beat.seal(&self.key()) })
    }

    /// Further frames for a minute whose frame was made: each shows the chain of one more of its GPUs that beat since it
    /// was shown last, at most `most` of them, and names that GPU alone, so that its answer is its own. They credit nothing
    /// new, and are made again until [`Self::shown`].
    pub(crate) fn closing(&self, minute: Minute, worker: WorkerVersion, most: usize) -> Vec<Frame> {
        let Some(made) = self.made.get(&minute.0) else { return Vec::new() };
        let (epoch, alias, key) = (self.epoch, self.alias, self.key());
        let behind = self
            .places
            .iter()
            .enumerate()
            .filter(|(n, place)| made.gpus >> n & 1 == 1 && place.shown < place.count);
        behind
            .take(most)
            .map(|(n, place)| {
                let preimage = Chain::from_seed(place.seed.0).value(place.count);
                let link = Link { slot: n as u8, count: place.count, preimage };
                let beat = Beat { epoch, alias, minute, worker, gpus: 1 << n, link };
                Frame { beat, bytes: beat.seal(&key) }
            })
            .collect()
    }

    /// The server has written this value down.
    pub(crate) fn shown(&mut self, link: Link) {
        if let Some(place) = self.places.get_mut(usize::from(link.slot)) {
            place.shown = place.shown.max(link.count);
        }
    }

    /// Frames of minutes that do not wait any more are forgotten.
    pub(crate) fn keep(&mut self, waits: impl Fn(u32) -> bool) {
        self.made.retain(|minute, _| waits(*minute));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gangline_types::UnixMillis;

    fn gpu(n: u8) -> GpuId {
        GpuId::from_bytes([n; 16])
    }

    fn lane(gpus: u8) -> Lane {
        let key = SigningKey::from_seed(&Zeroizing::new([1; 32]));
        let ids: Vec<GpuId> = (0..gpus).map(gpu).collect();
        let mut next = 0;
        let (request, opening) = ask(&key, &ids, Minute(7), UnixSeconds(600), || {
            next += 1;
            [next; 32]
        });
        assert_eq!(request.starts, Minute(7));
        for chain in &request.chains {
            let signature: Vec<u8> = (0..64)
                .map(|i| u8::from_str_radix(&chain.signature.as_str()[2 * i..2 * i + 2], 16).unwrap())
                .collect();
            assert!(
                chain.uptime_key.verifies(&chain::signed_bytes(chain.gpu, Minute(7), chain.tip), &signature)
            );
        }
        let grant = EpochGrant {
            epoch: Epoch(0),
            alias: Alias(5),
            key: Hash([3; 32]),
            gpus: ids,
            udp: None,
            http: None,
            server_time: UnixMillis(0),
        };
        opening.granted(grant).unwrap()
    }

    #[test]
    fn a_frame_made_is_the_same_until_its_minute_says_more() {
        let mut lane = lane(2);
        let version = WorkerVersion(1);
        let one: BTreeSet<GpuId> = [gpu(0)].into();
        let both: BTreeSet<GpuId> = [gpu(0), gpu(1)].into();
        let first = lane.frame(Minute(7), &one, version).unwrap();
        assert_eq!((first.beat.gpus, first.beat.link.slot, first.beat.link.count), (1, 0, 1));
        // Also after a restart.
        let kept = serde_json::to_string(&lane).unwrap();
        let mut lane: Lane = serde_json::from_str(&kept).unwrap();
        assert_eq!(lane.frame(Minute(7), &one, version).unwrap().bytes, first.bytes);
        let more = lane.frame(Minute(7), &both, version).unwrap();
        assert_eq!((more.beat.gpus, more.beat.link.slot, more.beat.link.count), (3, 1, 1));
        // In turn: each GPU's count is its own.
        let shown: Vec<_> = (8..12)
            .map(|minute| lane.frame(Minute(minute), &both, version).unwrap().beat.link)
            .map(|link| (link.slot, link.count))
            .collect();
        assert_eq!(shown, [(0, 2), (1, 3), (0, 4), (1, 5)]);
        let closing: Vec<_> = lane.closing(Minute(11), version, 64).iter().map(|f| f.beat.link).collect();
        assert_eq!(closing.iter().map(|link| (link.slot, link.count)).collect::<Vec<_>>(), [(0, 5)]);
        // Until it is known to have arrived.
        let again = lane.closing(Minute(11), version, 64);
        assert_eq!(again.iter().map(|f| (f.beat.gpus, f.beat.link)).collect::<Vec<_>>(), [(1, closing[0])]);
        lane.shown(closing[0]);
        assert!(lane.closing(Minute(11), version, 64).is_empty());
        assert_eq!(lane.gpus(0b10), [gpu(1)].into());
        lane.keep(|minute| minute > 10);
        assert_eq!(lane.made.len(), 1);
    }

    #[test]
    fn a_lane_ends_with_its_epoch_each_machine_at_its_own_time() {
        let lane = lane(1);
        let day = 86_400;
        assert!(!lane.is_over(UnixSeconds(day - 1), 0));
        assert!(lane.is_over(UnixSeconds(day), 0));
        assert!(!lane.is_over(UnixSeconds(day), 3600) && lane.is_over(UnixSeconds(day + 3600), 3600));
        assert!(lane.is_over(UnixSeconds(2 * day), u64::MAX), "it does not count any more");
        assert!(lane.has(&[gpu(0)].into()) && !lane.has(&[gpu(1)].into()));
    }
}
