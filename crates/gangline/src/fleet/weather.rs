//! What goes wrong on the way: datagrams that are lost, clocks that are wrong, and senders who are not what they
//! seem. Drawn from a seed, so that a run can be had again.

use gangline_types::Minute;
use gangline_wire::beat::BEAT_BYTES;

/// Parts of a thousand of the machines or datagrams.
#[derive(Clone, Copy, Debug, Default)]
pub struct Share(pub u32);

/// What goes wrong.
#[derive(Clone, Debug, Default)]
pub struct Weather {
    /// Datagrams that are lost, each way.
    pub lost: Share,
    /// Machines whose clock is wrong, by `clock_minutes`.
    pub wrong_clocks: Share,
    /// How wrong.
    pub clock_minutes: i32,
    /// Machines that send what is no beat of theirs.
    pub hostile: Share,
    /// What is drawn from; not 0.
    pub state: u64,
}

impl Weather {
    /// Weather that follows from a number.
    pub fn new(seed: u64) -> Self {
        Self { state: seed | 1, ..Self::default() }
    }
    /// Fine weather.
    pub fn fine() -> Self {
        Self::new(1)
    }

    fn dice(&mut self) -> u64 {
        // xorshift64: even enough for losing one in a hundred.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }
    /// Whether a datagram arrives.
    pub fn lets_through(&mut self) -> bool {
        self.lost.0 == 0 || self.dice() % 1000 >= u64::from(self.lost.0)
    }
    /// Whether machine `n` is one of a share: the same machines every time.
    fn is_one(share: Share, n: u32, salt: u32) -> bool {
        share.0 > 0 && (n ^ salt).wrapping_mul(0x9e37_79b9) >> 8 < ((1 << 24) / 1000) * share.0
    }
    /// The minute that machine `n` takes it to be.
    pub fn minute_of(&self, n: u32, minute: Minute) -> Minute {
        if Self::is_one(self.wrong_clocks, n, 0x5bd1) {
            Minute(minute.0.saturating_add_signed(self.clock_minutes))
        } else {
            minute
        }
    }
    /// Whether machine `n` is hostile.
    pub fn sends_garbage(&self, n: u32) -> bool {
        Self::is_one(self.hostile, n, 0xc2b2)
    }
    /// A beat with something wrong about it: its MAC, its length, or everything.
    pub fn garbage(&mut self, beat: &[u8; BEAT_BYTES]) -> Vec<u8> {
        let mut bytes = beat.to_vec();
        let dice = self.dice();
        match dice % 4 {
            0 => bytes[48 + (dice >> 8) as usize % 16] ^= 1 << (dice >> 16 & 7),
            1 => bytes.truncate((dice >> 8) as usize % BEAT_BYTES),
            2 => bytes.iter_mut().for_each(|byte| *byte ^= (dice >> 24) as u8 | 1),
            _ => bytes.resize(1200, 0xaa),
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_about_as_large_as_asked_and_always_the_same_machines() {
        let weather =
            Weather { hostile: Share(50), wrong_clocks: Share(100), clock_minutes: -3, ..Weather::new(7) };
        let hostile = (0..10_000).filter(|n| weather.sends_garbage(*n)).count();
        assert!((300..700).contains(&hostile), "{hostile} of 500");
        let off = (0..10_000).filter(|n| weather.minute_of(*n, Minute(100)) == Minute(97)).count();
        assert!((700..1300).contains(&off), "{off} of 1000");
        let again = (0..10_000).filter(|n| weather.sends_garbage(*n)).count();
        assert_eq!(hostile, again);
        let mut fine = Weather::fine();
        assert!((0..1000).all(|n| fine.lets_through() && !fine.sends_garbage(n)));
    }

    #[test]
    fn garbage_is_never_the_beat_itself() {
        let (mut weather, beat) = (Weather::new(9), [7; BEAT_BYTES]);
        for _ in 0..1000 {
            assert_ne!(weather.garbage(&beat), beat);
        }
    }
}
