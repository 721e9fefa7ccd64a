//! Passwords that were breached elsewhere: a file that the operator got, with the SHA-1 of each in rising order, as Have I
//! Been Pwned publishes them (`HASH:COUNT`, 40 hex digits, one a line). Looked up in the file as it lies: thirty-odd
//! reads and no memory, however large it is. Nobody outside is asked.
//!
//! SHA-1 is how such lists are published, and used here for nothing else.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use sha1::{Digest, Sha1};

/// Longest line: a hash, a colon, a count, and how a line ends.
const LINE_BYTES_MAX: u64 = 64;
/// Lines that are looked at when a file is opened.
const LOOKED_AT: u64 = 1_000;

/// A list.
#[derive(Debug)]
pub struct Breached {
    file: File,
    bytes: u64,
}

/// A line: the hash, and where the next line begins.
struct Line {
    hash: [u8; 20],
    at: u64,
    next: u64,
}

fn malformed(at: u64, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("at byte {at} there is {why}"))
}

/// The hash of one line without its end.
fn hash(line: &[u8], at: u64) -> io::Result<[u8; 20]> {
    let no_hash = || malformed(at, "no SHA-1 of 40 hex digits and a colon with a count after it");
    let text = std::str::from_utf8(line).map_err(|_| no_hash())?;
    let (digits, count) = text.trim_end_matches('\r').split_once(':').ok_or_else(no_hash)?;
    let is_count = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
    if digits.len() != 40 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) || !is_count {
        return Err(no_hash());
    }
    let mut hash = [0; 20];
    for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| no_hash())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| no_hash())?;
    }
    Ok(hash)
}

impl Breached {
    /// Opens a list, and looks at its ends and at a thousand places in between.
    ///
    /// # Errors
    /// When it cannot be read, or there is no such list in it.
    pub fn open(file: &Path) -> io::Result<Self> {
        let file = File::open(file)?;
        let bytes = file.metadata()?.len();
        let list = Self { file, bytes };
        let mut last: Option<Line> = None;
        let places =
            (0..=LOOKED_AT).map(|n| (u128::from(bytes) * u128::from(n) / u128::from(LOOKED_AT)) as u64);
        for place in places.chain([bytes.saturating_sub(LINE_BYTES_MAX)]) {
            let Some(line) = list.line_from(place)? else { continue };
            if last.as_ref().is_some_and(|last| line.at > last.at && line.hash <= last.hash) {
                return Err(malformed(line.at, "a hash that is not greater than those before it"));
            }
            last = Some(line);
        }
        // Its last line, which no other place may have met.
        let mut end = last.ok_or_else(|| malformed(0, "no line"))?;
        while let Some(line) = list.line_from(end.next)? {
            if line.hash <= end.hash {
                return Err(malformed(line.at, "a hash that is not greater than those before it"));
            }
            end = line;
        }
        Ok(list)
    }

    /// Up to so many bytes from a place on.
    fn read(&self, at: u64, bytes: u64) -> io::Result<Vec<u8>> {
        let mut read = vec![0; bytes.min(self.bytes.saturating_sub(at)) as usize];
        self.file.read_exact_at(&mut read, at)?;
        Ok(read)
    }

    /// The first line that begins at a place or after it.
    fn line_from(&self, place: u64) -> io::Result<Option<Line>> {
        let at = match place.checked_sub(1) {
            None => 0,
            Some(before) => {
                let read = self.read(before, LINE_BYTES_MAX + 1)?;
                match read.iter().position(|byte| *byte == b'\n') {
                    Some(end) => before + end as u64 + 1,
                    None if before + read.len() as u64 >= self.bytes => return Ok(None),
                    None => return Err(malformed(place, "a line that is too long")),
                }
            }
        };
        let read = self.read(at, LINE_BYTES_MAX)?;
        if read.is_empty() {
            return Ok(None);
        }
        let (line, next) = match read.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&read[..end], at + end as u64 + 1),
            None if at + read.len() as u64 >= self.bytes => (&read[..], self.bytes),
            None => return Err(malformed(at, "a line that is too long")),
        };
        Ok(Some(Line { hash: hash(line, at)?, at, next }))
    }

    /// Whether a password is in the list.
    ///
    /// # Errors
    /// When the file cannot be read or is none any more: that is not a no.
    pub fn has(&self, password: &str) -> io::Result<bool> {
        let wanted: [u8; 20] = Sha1::digest(password.as_bytes()).into();
        // Its line, if it has one, begins from `low` on and before `high`.
        let (mut low, mut high) = (0, self.bytes);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.line_from(middle)?.filter(|line| line.at < high) {
                None => high = middle,
                Some(line) if line.hash == wanted => return Ok(true),
                Some(line) if line.hash > wanted => high = middle,
                Some(line) => low = line.next,
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(password: &str) -> String {
        Sha1::digest(password.as_bytes()).iter().map(|byte| format!("{byte:02X}")).collect()
    }

    fn opened(text: &str) -> io::Result<Breached> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list");
        std::fs::write(&file, text).unwrap();
        Breached::open(&file)
    }

    #[test]
    fn a_password_is_found_wherever_it_stands_and_no_other() {
        // SHA-1 of the empty text and of "abc" (FIPS 180-4).
        assert_eq!(hex("abc"), "A9993E364706816ABA3E25717850C26C9CD0D89D");
        for (count, end, is_closed) in [
            (1, "\r\n", true),
            (1, "\n", false),
            (2, "\n", true),
            (3, "\r\n", false),
            (1_000, "\r\n", true),
            (1_501, "\n", false),
        ] {
            let passwords: Vec<String> = (0..count).map(|n| format!("breached number {n}")).collect();
            let mut lines: Vec<String> =
                passwords.iter().map(|p| format!("{}:{}", hex(p), p.len() * count)).collect();
            lines.sort();
            let text = lines.join(end) + if is_closed { end } else { "" };
            let list = opened(&text).unwrap();
            for password in &passwords {
                assert!(list.has(password).unwrap(), "{password} of {count} was not found");
            }
            for n in 0..200 {
                assert!(!list.has(&format!("kestrel obelisk {n}")).unwrap(), "{n} of {count} was found");
            }
            // Small letters are hex as well.
            assert!(opened(&text.to_lowercase()).unwrap().has(&passwords[0]).unwrap());
        }
    }

    #[test]
    fn what_is_no_such_list_is_not_used() {
        let mut sorted = [hex("one"), hex("two"), hex("three")];
        sorted.sort();
        let [a, b, c] = sorted;
        assert!(opened(&format!("{a}:1\n{b}:2\n{c}:3\n")).is_ok());
        for (what, text) in [
            ("nothing", String::new()),
            ("no count", format!("{a}\n{b}\n")),
            ("an empty count", format!("{a}:\n")),
            ("words", "password\n123456\n".to_owned()),
            ("NTLM", format!("{}:1\n", &a[..32])),
            ("not in order", format!("{b}:1\n{a}:2\n")),
            ("not in order at the end", format!("{a}:1\n{c}:2\n{b}:3\n")),
            ("twice", format!("{a}:1\n{a}:2\n")),
            ("a line without end", "A".repeat(500)),
            ("an empty line", format!("{a}:1\n\n{b}:2\n")),
        ] {
            assert!(opened(&text).is_err(), "{what} was taken");
        }
        assert!(Breached::open(Path::new("/nowhere/list")).is_err());
        // A fault that only a search meets is no "no".
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list");
        std::fs::write(&file, format!("{a}:1\n")).unwrap();
        let list = Breached::open(&file).unwrap();
        std::fs::write(&file, "x".repeat(200)).unwrap();
        assert!(list.has("one").is_err());
    }
}
