//! The folders of one sandbox on the host: an almost empty root tree whose holes are filled by
//! read-only binds, and the small files a backend needs. Everything lives under one run folder
//! per state folder, so that what a killed worker left can be found and removed.
//!
//! Holds no secret: the cluster's token never touches a disk.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, umount2};

use super::{IsolationError, cgroup};

/// User and group of every program inside a sandbox.
pub const INSIDE_ID: u32 = 1000;
/// Where the sandbox has the node's executable.
pub const NODE_PATH: &str = "/gangline";
/// Where the sandbox has the Ray environment.
pub const RAY_PATH: &str = "/opt/ray";

/// How often the shared folders are made again when a sandbox that ends took them.
const MAKE_TRIES: u32 = 1000;

/// Where a state folder's sandboxes live, and the name all their parts carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    /// The folder; made on first use, gone when no sandbox is left.
    pub path: PathBuf,
    /// `gangline-` and eight hex digits of the state folder's path.
    pub prefix: String,
}

impl RunFolder {
    /// The run folder of `state`: below `/run/gangline` for root, else below the user's runtime
    /// folder, else in the state folder itself.
    pub fn of(state: &Path) -> Self {
        let full = fs::canonicalize(state).unwrap_or_else(|_| state.to_owned());
        let hash = blake3::hash(full.as_os_str().as_encoded_bytes()).to_hex();
        let short = &hash[..8];
        let base = if nix::unistd::geteuid().is_root() {
            PathBuf::from("/run/gangline")
        } else {
            match std::env::var_os("XDG_RUNTIME_DIR") {
                Some(folder) => PathBuf::from(folder).join("gangline"),
                None => full.join("run"),
            }
        };
        Self { path: base.join(short), prefix: format!("gangline-{short}-") }
    }
}

fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IsolationError {
    let path = path.to_owned();
    move |source| IsolationError::Files { doing, path, source }
}

/// Makes a folder that others may pass through but not list: the mapped user must reach the tree.
fn passage(path: &Path) -> Result<(), IsolationError> {
    fs::create_dir_all(path).map_err(at("make the folder", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o711)).map_err(at("set the mode of", path))
}

/// Makes `path` and the shared folders above it. Another sandbox that ends, of this worker or of
/// another on this host, takes the shared folders with it while they are empty: made anew then.
fn make_below(run: &RunFolder, path: &Path) -> Result<(), IsolationError> {
    use io::ErrorKind::{AlreadyExists, NotFound};

    let mut left = MAKE_TRIES;
    loop {
        let shared = run.path.parent().map_or(Ok(()), passage).and_then(|()| passage(&run.path));
        let (made, taken): (_, &[_]) = match shared {
            Ok(()) => (fs::create_dir(path).map_err(at("make the folder", path)), &[NotFound]),
            // A folder that was in the way, and gone when looked at, reads as a file in the way.
            failed => (failed, &[NotFound, AlreadyExists]),
        };
        match made {
            Err(IsolationError::Files { ref source, .. }) if left > 0 && taken.contains(&source.kind()) => {
                left -= 1;
            }
            done => return done,
        }
    }
}

/// One sandbox's folder.
#[derive(Debug, Clone)]
pub struct Folder {
    /// Everything of this sandbox on the host's disk.
    pub path: PathBuf,
}

impl Folder {
    /// Makes the folder and the root tree in it.
    ///
    /// # Errors
    /// When a file cannot be made, for example on a full disk.
    pub fn make(run: &RunFolder, name: &str) -> Result<Self, IsolationError> {
        let path = run.path.join(name);
        make_below(run, &path)?;
        let folder = Self { path };
        let made = passage(&folder.path).and_then(|()| folder.fill());
        if made.is_err() {
            let _ = folder.remove();
        }
        made.map(|()| folder)
    }

    /// The root tree.
    pub fn root(&self) -> PathBuf {
        self.path.join("root")
    }

    fn fill(&self) -> Result<(), IsolationError> {
        let root = self.root();
        let folders = [
            "usr",
            "proc",
            "dev",
            "sys",
            "tmp",
            "var/tmp",
            "run/secrets",
            "home/ray",
            "opt/ray",
            "etc/alternatives",
        ];
        for name in folders {
            let folder = root.join(name);
            fs::create_dir_all(&folder).map_err(at("make the folder", &folder))?;
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            if Path::new("/usr").join(name).exists() {
                let link = root.join(name);
                symlink(Path::new("usr").join(name), &link).map_err(at("make the link", &link))?;
            }
        }
        let id = INSIDE_ID;
        let files = [
            ("gangline", String::new()),
            ("run/.containerenv", String::new()),
            ("etc/ld.so.cache", String::new()),
            ("etc/resolv.conf", String::new()),
            ("etc/hostname", "node\n".to_owned()),
            ("etc/hosts", "127.0.0.1 localhost node\n::1 localhost node\n".to_owned()),
            (
                "etc/passwd",
                format!("ray:x:{id}:{id}::/home/ray:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"),
            ),
            ("etc/group", format!("ray:x:{id}:\nnogroup:x:65534:\n")),
            ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n".to_owned()),
        ];
        for (name, text) in files {
            self.write(&Path::new("root").join(name), text.as_bytes())?;
        }
        let link = root.join("etc/mtab");
        symlink("/proc/mounts", &link).map_err(at("make the link", &link))?;
        // A umask of the worker's must not shut the mapped user out.
        open_up(&root)?;
        // Some runtimes give a fresh file system the mode of the folder it covers.
        for name in ["tmp", "home/ray"] {
            let folder = root.join(name);
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777))
                .map_err(at("set the mode of", &folder))?;
        }
        Ok(())
    }

    /// Writes a small file into the sandbox's folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &Path, bytes: &[u8]) -> Result<PathBuf, IsolationError> {
        let path = self.path.join(name);
        fs::write(&path, bytes).map_err(at("write", &path))?;
        Ok(path)
    }

    /// Unmounts what is mounted below and removes the folder; nothing there is success.
    ///
    /// # Errors
    /// When a mount or file cannot be removed.
    pub fn remove(&self) -> Result<(), IsolationError> {
        remove_tree(&self.path)
    }
}

fn open_up(folder: &Path) -> Result<(), IsolationError> {
    for entry in fs::read_dir(folder).map_err(at("read", folder))?.flatten() {
        let (path, kind) = (entry.path(), entry.file_type().map_err(at("read", &entry.path()))?);
        if kind.is_dir() {
            open_up(&path)?;
        } else if kind.is_file() {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
                .map_err(at("set the mode of", &path))?;
        }
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(at("set the mode of", folder))
}

/// Unmounts everything below `path`, then removes it. Never follows a link and never removes
/// through a mount: what could not be unmounted stops it.
pub(super) fn remove_tree(path: &Path) -> Result<(), IsolationError> {
    let table = Path::new("/proc/self/mountinfo");
    let mountinfo = fs::read_to_string(table).map_err(at("read", table))?;
    let mut below: Vec<_> = cgroup::mounts(&mountinfo)
        .into_iter()
        .map(|(point, ..)| point)
        .filter(|p| p.starts_with(path))
        .collect();
    below.reverse();
    for point in below {
        umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
            .map_err(|e| at("unmount", &point)(e.into()))?;
    }
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(at("remove", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::running::remove_patiently;

    /// Sixteen sandboxes of two workers come and go below one shared folder: whoever ends last
    /// takes the shared folders along, and whoever begins meanwhile makes them anew.
    #[test]
    fn sandboxes_that_end_take_no_folder_from_those_that_begin() {
        let host = tempfile::tempdir().unwrap();
        let base = host.path().join("gangline");
        std::thread::scope(|scope| {
            for one in 0..16 {
                let run =
                    RunFolder { path: base.join(format!("gangline-{}", one % 2)), prefix: String::new() };
                scope.spawn(move || {
                    for _ in 0..50 {
                        let path = run.path.join(one.to_string());
                        make_below(&run, &path).unwrap();
                        remove_patiently(&path).unwrap();
                    }
                });
            }
        });
        assert!(!base.exists(), "the shared folders are left");
    }
}
