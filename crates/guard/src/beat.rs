//! Beats on the hot path. Policy is asked once an epoch, when a machine opens it; what came of it is written
//! down as a [`Grant`]. From then on a right MAC under the grant's alias is all that a beat needs, so nothing
//! that befalls policy, database or pages can stop one.
//!
//! Knows no socket and no storage. The only way into the journal is a [`Batch`], and only a verified frame with its
//! grant, or a permit, gets into one.

use gangline_types::{AccountId, GpuId, Hour, KeyId, MachineId, Minute, UnixSeconds, UptimeHour};
use gangline_wire::beat::{
    Alias, Beat, BeatKey, ClaimedBeat, ClaimedOpening, Epoch, EpochMaster, Link, Malformed, NONCE_BYTES,
    OPENED_BYTES, Opened, Opening, OpeningOutcome, Preimage, Under, Unsealed, WrongMac,
};

use crate::{Permit, act};

/// Why a frame is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthentic {
    /// Not a frame.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Its MAC is wrong.
    #[error(transparent)]
    WrongMac(#[from] WrongMac),
    /// Its epoch is neither the running one nor a neighbour: no key is derived for it.
    #[error("the frame's epoch {0} does not count any more")]
    Epoch(Epoch),
}

/// A beat whose MAC was found right.
#[derive(Clone, Debug)]
pub struct Verified {
    beat: Beat,
    key: BeatKey,
}

impl Verified {
    /// What it says.
    pub fn beat(&self) -> &Beat {
        &self.beat
    }
    /// What its answer is sealed with.
    pub fn key(&self) -> &BeatKey {
        &self.key
    }
}

/// A question for an epoch whose seal was found right: somebody asks to whom this network gave a lane. Who that is its
/// own signature proves, and nothing but that.
#[derive(Clone, Debug)]
pub struct Admitted {
    epoch: Epoch,
    alias: Alias,
    key: BeatKey,
    unsealed: Unsealed,
}

impl Admitted {
    /// The alias of the lane that vouches.
    pub fn alias(&self) -> Alias {
        self.alias
    }
    /// What is asked.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn opening(&self) -> Result<Opening, Malformed> {
        self.unsealed.opening()
    }
    /// The answer's datagram; `nonce` is fresh and random.
    pub fn answer(
        &self,
        outcome: OpeningOutcome,
        server_time: UnixSeconds,
        nonce: &[u8; NONCE_BYTES],
    ) -> [u8; OPENED_BYTES] {
        let under = Under { epoch: self.epoch, alias: self.alias, key: &self.key };
        Opened { sequence: self.unsealed.sequence(), outcome, server_time }.seal(under, nonce)
    }
}

/// Checks frames: holds the network's beat secret and the masters of the epochs that count.
pub struct Gate {
    secret: [u8; 32],
    masters: Vec<(Epoch, EpochMaster)>,
}

impl Gate {
    /// The gate of a network with this beat secret.
    pub fn new(secret: [u8; 32]) -> Self {
        Self { secret, masters: Vec::new() }
    }

    fn master(&mut self, epoch: Epoch) -> &EpochMaster {
        if let Some(at) = self.masters.iter().position(|(known, _)| *known == epoch) {
            return &self.masters[at].1;
        }
        // An epoch and its neighbours, and no more.
        self.masters.retain(|(known, _)| known.0.abs_diff(epoch.0) <= 2);
        self.masters.push((epoch, EpochMaster::of(&self.secret, epoch)));
        &self.masters[self.masters.len() - 1].1
    }

    /// The beat in `bytes`, if it is authentic; `now` is the running epoch. Costs 0.2 us and looks nothing up.
    pub fn check(&mut self, bytes: &[u8], now: Epoch) -> Result<Verified, Unauthentic> {
        let claimed = ClaimedBeat::read(bytes)?;
        let epoch = claimed.epoch();
        if !epoch.counts_in(now) {
            return Err(Unauthentic::Epoch(epoch));
        }
        let key = self.master(epoch).key(claimed.alias());
        let beat = claimed.verify(&key)??;
        Ok(Verified { beat, key })
    }

    /// The question for an epoch in `bytes`, if its seal is that of a lane of this network; `now` is the running epoch.
    /// Costs 2 us and looks nothing up.
    ///
    /// # Errors
    /// When it is none, or vouched for by nothing that counts.
    pub fn admit(&mut self, bytes: &[u8], now: Epoch) -> Result<Admitted, Unauthentic> {
        let claimed = ClaimedOpening::read(bytes)?;
        let (epoch, alias) = (claimed.epoch(), claimed.alias());
        if !epoch.vouches_in(now) {
            return Err(Unauthentic::Epoch(epoch));
        }
        let key = self.master(epoch).key(alias);
        let unsealed = claimed.unseal(&key)?;
        Ok(Admitted { epoch, alias, key, unsealed })
    }

    /// Opens an epoch for the permit's machine, whose first chain begins with `tip`.
    pub fn open(
        &mut self,
        permit: &Permit<act::Beat>,
        epoch: Epoch,
        tip: Preimage,
    ) -> Option<(Grant, BeatKey)> {
        let key = permit.principal().key()?;
        let on = permit.on();
        let master = self.master(epoch);
        let alias = master.alias(on.machine, tip);
        Some((Grant { alias, epoch, machine: on.machine, account: on.account, key }, master.key(alias)))
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate([redacted])")
    }
}

/// Policy's word, for one epoch, that a machine may beat under an alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    alias: Alias,
    epoch: Epoch,
    machine: MachineId,
    account: AccountId,
    key: KeyId,
}

impl Grant {
    /// A grant that the store kept since the epoch was opened. To be called with what it wrote down then, and
    /// with nothing else.
    pub fn kept(alias: Alias, epoch: Epoch, machine: MachineId, account: AccountId, key: KeyId) -> Self {
        Self { alias, epoch, machine, account, key }
    }
    /// As much of it as a beat needs.
    pub fn granted(&self) -> Granted {
        Granted { alias: self.alias, epoch: self.epoch }
    }
    /// The alias.
    pub fn alias(&self) -> Alias {
        self.alias
    }
    /// The epoch it was given in.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
    /// Whose.
    pub fn machine(&self) -> MachineId {
        self.machine
    }
    /// Its owner.
    pub fn account(&self) -> AccountId {
        self.account
    }
    /// The key that opened it; when that ends, the grant does.
    pub fn key(&self) -> KeyId {
        self.key
    }
}

/// As much of a [`Grant`] as a beat needs: what is kept in memory for each lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    alias: Alias,
    epoch: Epoch,
}

impl Granted {
    /// The epoch it was given in.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

/// One line of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// A frame: these GPUs of an alias in a minute, and what it showed of a chain.
    Frame {
        /// Whose.
        alias: Alias,
        /// When.
        minute: Minute,
        /// Which GPUs, by their places.
        gpus: u64,
        /// The chain's value; none where it was an older one than is known.
        link: Option<Link>,
    },
    /// Minutes of one GPU from a report that its machine signed as a whole, without a chain.
    Report {
        /// Which.
        gpu: GpuId,
        /// Of which hour.
        hour: Hour,
        /// The minutes.
        bits: UptimeHour,
    },
    /// The intake took beats throughout this minute.
    Up(Minute),
}

/// Lines for the journal, each with somebody's right to be there.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    lines: Vec<Line>,
}

impl Batch {
    /// A verified beat under its own grant; `false` if the grant is another's.
    #[must_use]
    pub fn frame(&mut self, verified: &Verified, granted: Granted) -> bool {
        let beat = verified.beat();
        if (beat.alias, beat.epoch) != (granted.alias, granted.epoch) {
            return false;
        }
        let Beat { alias, minute, gpus, link, .. } = *beat;
        self.lines.push(Line::Frame { alias, minute, gpus, link: Some(link) });
        true
    }
    /// Minutes that the permit's machine reported of its `gpu`.
    pub fn report(&mut self, _: &Permit<act::Beat>, gpu: GpuId, hour: Hour, bits: UptimeHour) {
        self.lines.push(Line::Report { gpu, hour, bits });
    }
    /// The intake's own record of a minute in which it was up; about nobody.
    pub fn up(&mut self, minute: Minute) {
        self.lines.push(Line::Up(minute));
    }
    /// What is in it.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }
    /// Adds another batch's lines.
    pub fn append(&mut self, other: &mut Batch) {
        self.lines.append(&mut other.lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gangline_wire::beat::{Chain, WorkerVersion};

    fn grant(gate: &mut Gate, epoch: Epoch) -> (Grant, BeatKey) {
        let tip = Chain::from_seed([1; 32]).tip();
        let machine = MachineId::from_bytes([1; 16]);
        let master = gate.master(epoch);
        let alias = master.alias(machine, tip);
        let key = master.key(alias);
        (Grant::kept(alias, epoch, machine, AccountId::from_bytes([2; 16]), KeyId::from_bytes([3; 16])), key)
    }

    #[test]
    fn a_frame_passes_by_its_mac_in_an_epoch_that_counts() {
        let mut gate = Gate::new([5; 32]);
        let (granted, key) = grant(&mut gate, Epoch(100));
        let beat = Beat {
            epoch: granted.epoch(),
            alias: granted.alias(),
            minute: Minute(100 * 1440),
            worker: WorkerVersion(0),
            gpus: 1,
            link: Link { slot: 0, count: 1, preimage: Chain::from_seed([1; 32]).value(1) },
        };
        let frame = beat.seal(&key);
        for now in [99, 100, 101] {
            assert_eq!(gate.check(&frame, Epoch(now)).unwrap().beat(), &beat);
        }
        assert_eq!(gate.check(&frame, Epoch(102)).unwrap_err(), Unauthentic::Epoch(Epoch(100)));
        assert_eq!(Gate::new([6; 32]).check(&frame, Epoch(100)).unwrap_err(), WrongMac.into());
        assert!(matches!(gate.check(&frame[1..], Epoch(100)), Err(Unauthentic::Malformed(_))));
        let verified = gate.check(&frame, Epoch(100)).unwrap();
        let mut batch = Batch::default();
        assert!(batch.frame(&verified, granted.granted()));
        let (other, _) = grant(&mut gate, Epoch(101));
        assert!(!batch.frame(&verified, other.granted()), "a beat got in under another's grant");
        assert_eq!(batch.lines().len(), 1);
    }
}
