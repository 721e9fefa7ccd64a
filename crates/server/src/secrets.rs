//! Secrets that come from outside: files that nobody else may read, wherever a store of secrets puts them. Read once, at
//! the start. A named pipe will do, and so will a credential that the service manager hands over.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// Longest secret.
const BYTES_MAX: u64 = 64 * 1024;

/// Why a file's secret is not used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The system does not give it.
    #[error("the file {} cannot be read", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is none any more.
    #[error("others may read the file {}: make it yours alone with chmod 600", .0.display())]
    Open(PathBuf),
    /// It holds none.
    #[error("{} is no file that holds a secret of at most {BYTES_MAX} bytes", .0.display())]
    NoSecret(PathBuf),
}

/// Reads a secret.
///
/// # Errors
/// When it cannot be read, others may read it, or it is empty or too long.
pub fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let failed = |source| SecretError::Read { file: file.to_owned(), source };
    let mut opened = std::fs::File::open(file).map_err(failed)?;
    let facts = opened.metadata().map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let given = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let is_given = given.is_some_and(|folder| file.parent() == Some(&folder));
        if !is_private(facts.mode(), facts.uid(), is_given) {
            return Err(SecretError::Open(file.to_owned()));
        }
    }
    let mut bytes = Zeroizing::new(Vec::new());
    if !facts.is_dir() {
        (&mut opened).take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    }
    if bytes.is_empty() || bytes.len() as u64 > BYTES_MAX {
        return Err(SecretError::NoSecret(file.to_owned()));
    }
    Ok(bytes)
}

/// The same as text of one line, without the line's end.
///
/// # Errors
/// As [`read`], and when it is not that.
pub fn read_line(file: &Path) -> Result<Zeroizing<String>, SecretError> {
    let bytes = read(file)?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default().trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() || text.chars().any(char::is_control) {
        return Err(SecretError::NoSecret(file.to_owned()));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

/// Whether a file of this mode is its owner's alone. A credential is the service manager's (`root`), which shows it to
/// its service by an access list: that list's mask stands where a group's rights would.
#[cfg(unix)]
fn is_private(mode: u32, owner: u32, is_given: bool) -> bool {
    mode & 0o077 == 0 || (is_given && owner == 0 && mode & 0o037 == 0)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_its_owner_s_alone_or_a_service_manager_s() {
        for (mode, owner, is_given, expected) in [
            (0o600, 1000, false, true),
            (0o400, 0, false, true),
            (0o440, 0, true, true),
            (0o440, 0, false, false),
            (0o440, 1000, true, false),
            (0o460, 0, true, false),
            (0o444, 0, true, false),
            (0o640, 1000, false, false),
        ] {
            assert_eq!(is_private(mode, owner, is_given), expected, "{mode:o} of {owner}, {is_given}");
        }
    }

    #[test]
    fn files_and_pipes_are_read_and_others_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        let write = |bytes: &[u8], mode: u32| {
            std::fs::write(&file, bytes).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write(b"hunter2\n", 0o600);
        assert_eq!(*read_line(&file).unwrap(), "hunter2");
        for (bytes, mode) in
            [(b"hunter2" as &[u8], 0o644), (b"", 0o600), (b"two\nlines", 0o600), (&[0xff], 0o600)]
        {
            write(bytes, mode);
            assert!(read_line(&file).is_err(), "{bytes:?} {mode:o}");
        }
        write(&[7; BYTES_MAX as usize + 1], 0o600);
        assert!(matches!(read(&file), Err(SecretError::NoSecret(_))));
        assert!(matches!(read(&folder.path().join("none")), Err(SecretError::Read { .. })));
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let writer = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::write(pipe, "from a store").unwrap()
        });
        assert_eq!(*read_line(&pipe).unwrap(), "from a store");
        writer.join().unwrap();
    }
}
