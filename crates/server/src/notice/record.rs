//! Writing down what detectors are shown, line by line as JSON, for `gangline guard score`. The file names keys,
//! accounts and blocks of addresses; only this user may read it.

use std::{
    io::{BufWriter, Write},
    path::Path,
};

use gangline_guard::notice::replay::Shown;

/// Bytes of a recording at most; then it ends, and the server goes on without.
const BYTES_MAX: u64 = 1 << 30;

/// A recording that is being made.
pub(super) struct Recording {
    out: BufWriter<std::fs::File>,
    bytes: u64,
}

impl Recording {
    /// A new file; one that is there is not touched.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn start(file: &Path) -> std::io::Result<Self> {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Self { out: BufWriter::new(options.open(file)?), bytes: 0 })
    }

    /// Writes one thing down; `false` if the recording is over.
    pub(super) fn add(&mut self, shown: &Shown) -> bool {
        let Ok(line) = serde_json::to_string(shown) else { return true };
        self.bytes += line.len() as u64 + 1;
        let written = self.bytes <= BYTES_MAX && writeln!(self.out, "{line}").is_ok();
        if !written {
            let _ = self.out.flush();
            tracing::warn!("the recording of what detectors are shown is over: it is full, or its disk is");
        }
        written
    }

    /// Brings what was written to the file.
    pub(super) fn flush(&mut self) {
        let _ = self.out.flush();
    }
}
