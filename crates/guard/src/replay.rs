//! No request counts twice. Each key numbers its requests; the 64 greatest accepted numbers are
//! remembered, and a number is fresh if it is not among them and greater than the least of them. State
//! is constant, and requests of one key may overtake one another by up to 63.

/// Remembered numbers of a key.
pub const REMEMBERED: usize = 64;

/// The greatest accepted sequence numbers of one key, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecentSequences(Vec<u64>);

/// Proof that a number was fresh when it was taken; only [`RecentSequences::take`] makes one.
#[derive(Debug)]
pub struct Fresh(());

impl RecentSequences {
    /// Takes `sequence` if it is fresh; otherwise gives back the greatest number seen.
    pub fn take(&mut self, sequence: u64) -> Result<Fresh, u64> {
        let newest = self.newest();
        match self.0.binary_search(&sequence) {
            Ok(_) => Err(newest),
            Err(0) if self.0.len() == REMEMBERED => Err(newest),
            Err(place) => {
                self.0.insert(place, sequence);
                if self.0.len() > REMEMBERED {
                    self.0.remove(0);
                }
                Ok(Fresh(()))
            }
        }
    }
    /// The greatest number seen; 0 if none.
    pub fn newest(&self) -> u64 {
        self.0.last().copied().unwrap_or(0)
    }
    /// As stored: eight big-endian bytes a number.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|n| n.to_be_bytes()).collect()
    }
    /// From stored bytes; `None` if they are not what [`Self::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (chunks, rest) = bytes.as_chunks::<8>();
        let numbers: Vec<u64> = chunks.iter().map(|c| u64::from_be_bytes(*c)).collect();
        let ok = rest.is_empty() && numbers.len() <= REMEMBERED && numbers.is_sorted_by(|a, b| a < b);
        ok.then_some(Self(numbers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_counts_once() {
        let mut seen = RecentSequences::default();
        for n in [5, 3, 9, 4] {
            assert!(seen.take(n).is_ok(), "{n} is fresh");
        }
        for n in [5, 3, 9, 4] {
            assert_eq!(seen.take(n).err(), Some(9), "{n} was taken twice");
        }
        assert_eq!(RecentSequences::from_bytes(&seen.to_bytes()), Some(seen));
    }

    #[test]
    fn numbers_too_old_to_tell_are_refused() {
        let mut seen = RecentSequences::default();
        for n in 0..1000 {
            assert!(seen.take(n * 2).is_ok());
        }
        assert!(seen.take(1).is_err());
        assert!(seen.take(1998 - 126).is_err());
        assert!(seen.take(1998 - 127).is_err(), "less than the least remembered");
        assert!(seen.take(1998 - 125).is_ok(), "greater than the least remembered and never seen");
        assert_eq!(seen.to_bytes().len(), 8 * REMEMBERED);
    }

    #[test]
    fn stored_bytes_that_are_not_ours_are_refused() {
        assert_eq!(RecentSequences::from_bytes(&[1; 7]), None);
        assert_eq!(RecentSequences::from_bytes(&[1; 16]), None, "not ascending");
    }
}
