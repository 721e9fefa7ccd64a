//! Bells: when an hour's epoch begins, what its beacon is made of, and what anybody can make of it afterwards.
//!
//! Every hour has a salt, and hashing one gives that of the hour before, so that the salt of an hour that has been
//! promises those of all hours before it and gives away none to come. The salt decides the moment; salt, moment and
//! the log's root give the beacon; the beacon and a GPU's binding say whether that GPU is asked for matrices too.

use std::sync::Mutex;

use gangline_types::{Hash, Hour, UnixMillis};

/// The bell rings within the first so many seconds of an hour: every epoch ends before the next one's begins.
pub const WITHIN_SECONDS: u64 = 2_400;
/// The chain of salts begins here and is hashed towards the past: the year 2049. Later hours have salts of their own
/// that promise nothing.
pub const LAST_HOUR: Hour = Hour(700_000);
/// So many of 256 epochs of a GPU have a matrix chain.
pub const MATRIX_OF_256: u16 = 32;

fn hashed(context: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut h = blake3::Hasher::new_derive_key(context);
    for part in parts {
        h.update(part);
    }
    *h.finalize().as_bytes()
}

/// The salt of the hour before the one with this salt.
fn before(salt: &[u8; 32]) -> [u8; 32] {
    hashed("gangline 2026 salt of the hour before", &[salt])
}

/// The salts of a network, which only it knows before their hours.
pub struct Salts {
    seed: [u8; 32],
    /// One of the chain that was asked for lately.
    near: Mutex<(Hour, [u8; 32])>,
}

impl Salts {
    /// Those of the network with this secret.
    pub fn new(secret: &[u8; 32]) -> Self {
        let seed = hashed("gangline 2026 salts of epochs", &[secret]);
        Self { seed, near: Mutex::new((LAST_HOUR, seed)) }
    }

    /// The salt of an hour. The first for an hour takes up to 50 ms, those for hours shortly before it none.
    pub fn of(&self, hour: Hour) -> Hash {
        if hour >= LAST_HOUR {
            return Hash(hashed("gangline 2026 salt of a late hour", &[&self.seed, &hour.0.to_le_bytes()]));
        }
        let mut near = self.near.lock().unwrap_or_else(|e| e.into_inner());
        // An hour later than the one at hand, which will be asked for next.
        let wanted = Hour((hour.0 + 2).min(LAST_HOUR.0));
        if near.0 < hour || near.0 > wanted {
            let start = if near.0 >= wanted { *near } else { (LAST_HOUR, self.seed) };
            let salt = (wanted.0..start.0.0).fold(start.1, |salt, _| before(&salt));
            *near = (wanted, salt);
        }
        Hash((hour.0..near.0.0).fold(near.1, |salt, _| before(&salt)))
    }
}

/// Whether the salt of a later hour promises that of an earlier one. Takes a hash an hour between them.
pub fn promises(later: (Hour, &Hash), earlier: (Hour, &Hash)) -> bool {
    earlier.0 <= later.0
        && later.0 <= LAST_HOUR
        && (earlier.0.0..later.0.0).fold(later.1.0, |salt, _| before(&salt)) == earlier.1.0
}

/// The moment at which the bell of an hour rings, the same for the whole network, so that one GPU cannot serve two
/// identities. Nobody who lacks the salt knows it before.
pub fn moment(hour: Hour, salt: &Hash) -> UnixMillis {
    let whole = hashed("gangline 2026 moment of an epoch", &[&salt.0, &hour.0.to_le_bytes()]);
    UnixMillis(u64::from(hour.0) * 3_600_000 + first(&whole) % (WITHIN_SECONDS * 1000))
}

/// A bell that rang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bell {
    /// The hour.
    pub hour: Hour,
    /// When.
    pub at: UnixMillis,
    /// Entries that the network's log had then.
    pub size: u64,
    /// Its root over them; zeros of none.
    pub root: Hash,
    /// The hour's salt.
    pub salt: Hash,
}

impl Bell {
    /// The beacon of every challenge of this bell.
    pub fn beacon(&self) -> Hash {
        beacon(&self.salt, &self.root, self.at)
    }
}

/// A beacon: nobody can foresee it who lacks the salt, and nobody can say it was chosen to please anybody, for the
/// log's root is in it. A machine's own bells have a salt of fresh randomness.
pub fn beacon(salt: &Hash, log_root: &Hash, moment: UnixMillis) -> Hash {
    Hash(hashed("gangline 2026 beacon of an epoch", &[&salt.0, &log_root.0, &moment.0.to_le_bytes()]))
}

/// Whether the GPU with this binding is asked for a matrix chain under this beacon, in `of_256` of 256 epochs: nobody can
/// know before the bell.
pub fn has_matrix(beacon: &Hash, binding: &Hash, of_256: u16) -> bool {
    let drawn = hashed("gangline 2026 matrices of an epoch", &[&beacon.0, &binding.0]);
    u16::from(drawn[0]) < of_256
}

fn first(bytes: &[u8; 32]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Hour = Hour(LAST_HOUR.0 - 2_000);

    #[test]
    fn a_salt_promises_every_one_before_it_and_none_after() {
        let salts = Salts::new(&[7; 32]);
        let (one, two) = (salts.of(NOW), salts.of(Hour(NOW.0 + 1)));
        assert!(promises((Hour(NOW.0 + 1), &two), (NOW, &one)));
        assert!(promises((Hour(NOW.0 + 900), &salts.of(Hour(NOW.0 + 900))), (NOW, &one)));
        assert!(!promises((NOW, &one), (Hour(NOW.0 + 1), &two)));
        assert!(!promises((Hour(NOW.0 + 1), &two), (NOW, &two)));
        assert!(!promises((Hour(NOW.0 + 2), &two), (NOW, &one)));
        let other = Salts::new(&[8; 32]).of(Hour(NOW.0 + 1));
        assert!(!promises((Hour(NOW.0 + 1), &other), (NOW, &one)));
        // In whichever order they are asked for.
        for salts in [&salts, &Salts::new(&[7; 32])] {
            for hour in [NOW.0 + 5, NOW.0, NOW.0 + 1, NOW.0 - 40, NOW.0 + 5] {
                let fresh = Salts::new(&[7; 32]).of(Hour(hour));
                assert_eq!(salts.of(Hour(hour)), fresh, "{hour}");
            }
        }
        assert_ne!(salts.of(LAST_HOUR), salts.of(Hour(LAST_HOUR.0 + 1)));
    }

    #[test]
    fn the_moment_is_in_its_hour_and_the_beacon_hangs_on_every_part() {
        let salts = Salts::new(&[7; 32]);
        let moments: Vec<u64> = (0..1000)
            .map(|n| Hour(NOW.0 + n))
            .map(|hour| moment(hour, &salts.of(hour)).0 - u64::from(hour.0) * 3_600_000)
            .collect();
        assert!(moments.iter().all(|moment| *moment < WITHIN_SECONDS * 1000));
        assert!(moments.iter().any(|m| *m < 300_000) && moments.iter().any(|m| *m > 2_100_000));
        let bell = Bell { hour: NOW, at: UnixMillis(5), size: 9, root: Hash([1; 32]), salt: Hash([2; 32]) };
        for other in [
            Bell { at: UnixMillis(6), ..bell },
            Bell { root: Hash([3; 32]), ..bell },
            Bell { salt: Hash([3; 32]), ..bell },
        ] {
            assert_ne!(other.beacon(), bell.beacon());
        }
    }

    #[test]
    fn an_eighth_of_the_epochs_has_matrices_drawn_from_beacon_and_binding() {
        let drawn = |beacon: u8| {
            (0..=255u8).filter(move |n| has_matrix(&Hash([beacon; 32]), &Hash([*n; 32]), MATRIX_OF_256))
        };
        let of_all: usize = (0..64).map(|beacon| drawn(beacon).count()).sum();
        // 2,048 of 16,384 are expected, with a deviation of 42.
        assert!((1_850..2_250).contains(&of_all), "{of_all}");
        assert_ne!(drawn(1).collect::<Vec<_>>(), drawn(2).collect::<Vec<_>>());
        assert!((0..=255u8).all(|n| !has_matrix(&Hash([n; 32]), &Hash::default(), 0)));
        assert!((0..=255u8).all(|n| has_matrix(&Hash([n; 32]), &Hash::default(), 256)));
    }
}
