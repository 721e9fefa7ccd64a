//! The account of what was acknowledged: eight bytes a beat, machine and minute, written before anything else is
//! done with the answer. `fleet audit` compares it with the server's books.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Read, Write},
    path::Path,
};

use anyhow::{Context, ensure};
use gangline_types::Minute;

/// First bytes of an account, with its version.
const MAGIC: &[u8; 16] = b"gangline fleet 1";

/// Where acknowledgements are written down.
pub enum Book {
    /// In a file.
    File(BufWriter<File>),
    /// Nowhere: only the figures are wanted.
    Nowhere,
}

impl Book {
    /// A new account, or the one that is there, to be gone on with.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let told = || format!("could not write the account {}", path.display());
        let mut file = File::options().append(true).create(true).open(path).with_context(told)?;
        if file.metadata().with_context(told)?.len() == 0 {
            file.write_all(MAGIC).with_context(told)?;
        }
        Ok(Self::File(BufWriter::with_capacity(64 << 10, file)))
    }
    /// Machine `n`'s beat for a minute was acknowledged.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn acknowledged(&mut self, n: u32, minute: Minute) -> std::io::Result<()> {
        let Self::File(out) = self else { return Ok(()) };
        out.write_all(&n.to_le_bytes())?;
        out.write_all(&minute.0.to_le_bytes())
    }
    /// Hands what is gathered to the system.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::File(out) => out.flush(),
            Self::Nowhere => Ok(()),
        }
    }
}

/// Every acknowledgement of an account.
///
/// # Errors
/// When it cannot be read, or is none.
pub fn read(path: &Path) -> anyhow::Result<Vec<(u32, Minute)>> {
    let file = File::open(path).with_context(|| format!("could not read the account {}", path.display()))?;
    let mut bytes = Vec::new();
    BufReader::new(file).read_to_end(&mut bytes)?;
    let rest = bytes.strip_prefix(MAGIC.as_slice());
    let rest = rest.with_context(|| format!("{} is no account of a fleet", path.display()))?;
    // A fleet that was killed may have left half an entry, which no server knows of.
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let entries: Vec<_> = rest.chunks_exact(8).map(|e| (number(&e[..4]), Minute(number(&e[4..])))).collect();
    ensure!(!entries.is_empty(), "nothing was ever acknowledged in {}", path.display());
    Ok(entries)
}
