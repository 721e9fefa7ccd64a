//! A folder as Ray takes it: one zip file, named by what is in it. The same files give the same bytes
//! on every machine, so that a package that is there already is not sent again.
//!
//! Knows no cluster. Follows no link out of the folder.

use std::{
    fs,
    io::{Cursor, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

use crate::problem::Problem;

/// Largest package, in bytes: what Ray's dashboard takes.
pub const PACKAGE_BYTES_MAX: u64 = 100 << 20;
/// Most files in a package.
const FILES_MAX: usize = 20_000;
/// Folders that are never part of a program.
const LEFT_OUT: [&str; 2] = [".git", "__pycache__"];

/// A folder, packed.
#[derive(Debug)]
pub struct Package {
    /// The zip file.
    pub zip: Vec<u8>,
    /// Files in it.
    pub files: usize,
    /// Links that lead out of the folder, or to nothing, and were left out.
    pub links_left_out: usize,
}

impl Package {
    /// The name Ray knows it by: `_ray_pkg_`, a hash of its bytes, `.zip`.
    pub fn name(&self) -> String {
        let hash = blake3::hash(&self.zip).to_hex();
        format!("_ray_pkg_{}.zip", &hash[..32])
    }
}

/// One file on its way into the package.
struct Member {
    /// Path inside the package, with `/`.
    name: String,
    path: PathBuf,
    executable: bool,
}

/// Packs `folder`.
///
/// # Errors
/// When it cannot be read, a name is no UTF-8, or the package would be too large.
pub fn pack(folder: &Path) -> anyhow::Result<Package> {
    pack_within(folder, PACKAGE_BYTES_MAX)
}

fn pack_within(folder: &Path, bytes_max: u64) -> anyhow::Result<Package> {
    let root =
        folder.canonicalize().with_context(|| format!("could not find the folder {}", folder.display()))?;
    if !root.is_dir() {
        return Err(Problem::usage(format!("{} is not a folder", folder.display())).into());
    }
    let mut members = Vec::new();
    let mut links_left_out = 0;
    collect(&root, &root, &mut members, &mut links_left_out)?;
    members.sort_by(|a, b| a.name.cmp(&b.name));

    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for member in &members {
        add(&mut zip, member, folder, bytes_max)
            .with_context(|| format!("could not pack {}", member.path.display()))?;
    }
    let zip = zip.finish().context("could not finish the package")?.into_inner();
    if zip.len() as u64 > bytes_max {
        return Err(too_large(folder, bytes_max));
    }
    Ok(Package { zip, files: members.len(), links_left_out })
}

fn too_large(folder: &Path, bytes_max: u64) -> anyhow::Error {
    Problem::new(format!("the package of {} is larger than {} MiB", folder.display(), bytes_max >> 20))
        .hint("choose a folder with the program only (--working-dir DIR), and let the program fetch its data")
        .into()
}

fn collect(
    root: &Path,
    folder: &Path,
    members: &mut Vec<Member>,
    links_left_out: &mut usize,
) -> anyhow::Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("could not read {}", folder.display()))?.path();
        let facts =
            fs::symlink_metadata(&path).with_context(|| format!("could not look at {}", path.display()))?;
        if facts.is_dir() {
            let left_out =
                path.file_name().is_some_and(|name| LEFT_OUT.iter().any(|left_out| name == *left_out));
            if !left_out {
                collect(root, &path, members, links_left_out)?;
            }
            continue;
        }
        let (source, facts) = if facts.is_symlink() {
            // A link to a file of the same folder stands for that file; any other is left out.
            let target = path.canonicalize().ok().filter(|target| target.starts_with(root));
            match target.and_then(|target| Some((fs::metadata(&target).ok()?, target))) {
                Some((facts, target)) if facts.is_file() => (target, facts),
                _ => {
                    *links_left_out += 1;
                    continue;
                }
            }
        } else {
            (path.clone(), facts)
        };
        if !facts.is_file() {
            continue;
        }
        if members.len() == FILES_MAX {
            return Err(Problem::new(format!("{} holds more than {FILES_MAX} files", root.display()))
                .hint("choose a folder with the program only (--working-dir DIR)")
                .into());
        }
        let name = path.strip_prefix(root).ok().and_then(Path::to_str).with_context(|| {
            format!("the name of {} is not UTF-8; Ray could not unpack it", path.display())
        })?;
        members.push(Member {
            name: name.to_owned(),
            path: source,
            executable: facts.permissions().mode() & 0o111 != 0,
        });
    }
    Ok(())
}

fn add(
    zip: &mut ZipWriter<Cursor<Vec<u8>>>,
    member: &Member,
    folder: &Path,
    bytes_max: u64,
) -> anyhow::Result<()> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default())
        .unix_permissions(if member.executable { 0o755 } else { 0o644 });
    zip.start_file(&*member.name, options)?;
    let mut file = fs::File::open(&member.path)?;
    let mut block = vec![0; 1 << 16];
    // A file of zeros packs to almost nothing; what is read is bounded as well: 8 times the package.
    let mut read = 0u64;
    loop {
        let bytes = file.read(&mut block)?;
        if bytes == 0 {
            return Ok(());
        }
        read += bytes as u64;
        zip.write_all(&block[..bytes])?;
        let packed = zip.get_ref().map_or(0, |zip| zip.get_ref().len() as u64);
        if packed > bytes_max || read > bytes_max.saturating_mul(8) {
            return Err(too_large(folder, bytes_max));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (name, content) in [
            ("job.py", "print('hello')\n"),
            ("lib/util.py", "x = 1\n"),
            ("lib/__pycache__/util.pyc", "no"),
            (".git/config", "no"),
        ] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), content).unwrap();
        }
        folder
    }

    fn names(package: &Package) -> Vec<String> {
        let mut zip = zip::ZipArchive::new(Cursor::new(package.zip.clone())).unwrap();
        (0..zip.len()).map(|i| zip.by_index(i).unwrap().name().unwrap().into_owned()).collect()
    }

    #[test]
    fn the_same_files_are_the_same_package() {
        let (one, two) = (folder(), folder());
        // Order of creation and times do not matter.
        fs::remove_file(two.path().join("job.py")).unwrap();
        fs::write(two.path().join("job.py"), "print('hello')\n").unwrap();
        fs::File::open(two.path().join("lib/util.py")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        let (one, packed) = (pack(one.path()).unwrap(), pack(two.path()).unwrap());
        assert_eq!(names(&one), ["job.py", "lib/util.py"]);
        assert_eq!(one.name(), packed.name());
        assert!(one.zip == packed.zip);

        fs::write(two.path().join("job.py"), "print('other')\n").unwrap();
        assert_ne!(pack(two.path()).unwrap().name(), one.name());
    }

    #[test]
    fn links_out_of_the_folder_are_left_out() {
        let folder = folder();
        symlink("/etc/passwd", folder.path().join("passwd")).unwrap();
        symlink("../..", folder.path().join("lib/up")).unwrap();
        symlink("gone", folder.path().join("dangling")).unwrap();
        symlink("job.py", folder.path().join("alias.py")).unwrap();
        let package = pack(folder.path()).unwrap();
        assert_eq!(names(&package), ["alias.py", "job.py", "lib/util.py"]);
        assert_eq!(package.links_left_out, 3);
    }

    #[test]
    fn a_package_that_is_too_large_is_refused_before_it_is_sent() {
        let folder = folder();
        let mut noise = vec![0; 1 << 20];
        getrandom::fill(&mut noise).unwrap();
        fs::write(folder.path().join("data"), noise).unwrap();
        assert!(pack(folder.path()).is_ok());
        let error = pack_within(folder.path(), 1 << 19).unwrap_err();
        assert!(format!("{error:#}").contains("larger than"), "{error:#}");
        assert!(pack(&folder.path().join("job.py")).is_err());
        assert!(pack(&folder.path().join("missing")).is_err());
    }
}
