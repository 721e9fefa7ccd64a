//! What `verify uptime --save` writes and reads again: all that was published of GPUs' uptime, as one list of JSON, one GPU at a time.
//!
//! Judges nothing. A file is there when all of it is, and what was there before stays until then.

use std::{
    fs::{self, File, Permissions},
    io::{BufReader, BufWriter, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::{
    Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use tempfile::NamedTempFile;

use super::uptime::Published;
use crate::problem::Problem;

/// Where it goes meanwhile.
enum To {
    /// Beside the file that it becomes.
    Beside(NamedTempFile),
    /// Into what is no file, a pipe for example.
    Through(File),
}

/// A list on its way into a file.
pub struct Saving {
    path: PathBuf,
    to: BufWriter<To>,
    is_first: bool,
}

impl Write for To {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Beside(file) => file.write(bytes),
            Self::Through(file) => file.write(bytes),
        }
    }
    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Beside(file) => file.flush(),
            Self::Through(file) => file.flush(),
        }
    }
}

fn could_not(path: &Path) -> String {
    format!("could not write {}", path.display())
}

impl Saving {
    /// Begins a list that will be at `path`.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub fn begin(path: &Path) -> anyhow::Result<Self> {
        // Where a link leads to, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let to = match fs::metadata(&path) {
            Ok(what) if !what.is_file() => File::options().write(true).open(&path).map(To::Through),
            was => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                // As readable as files are made here: it is public.
                let readable = was.map_or_else(|_| Permissions::from_mode(0o666), |was| was.permissions());
                tempfile::Builder::new()
                    .permissions(readable)
                    .tempfile_in(folder.unwrap_or(Path::new(".")))
                    .map(To::Beside)
            }
        };
        let mut to = BufWriter::new(to.with_context(|| could_not(&path))?);
        to.write_all(b"[").with_context(|| could_not(&path))?;
        Ok(Self { path, to, is_first: true })
    }

    /// Adds a GPU.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, published: &Published) -> anyhow::Result<()> {
        let comma: &[u8] = if std::mem::take(&mut self.is_first) { b"" } else { b"," };
        self.to.write_all(comma).with_context(|| could_not(&self.path))?;
        serde_json::to_writer(&mut self.to, published).with_context(|| could_not(&self.path))
    }

    /// Ends the list, which is at its place then.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end(self) -> anyhow::Result<()> {
        let Self { path, mut to, .. } = self;
        let doing = || could_not(&path);
        to.write_all(b"]").with_context(doing)?;
        if let To::Beside(file) = to.into_inner().map_err(|why| why.into_error()).with_context(doing)? {
            file.persist(&path).map_err(|why| why.error).with_context(doing)?;
        }
        Ok(())
    }
}

/// A list that is read one GPU at a time.
struct Reading<'a> {
    take: &'a mut dyn FnMut(Published) -> anyhow::Result<()>,
    failed: &'a mut Option<anyhow::Error>,
}

impl<'de> Visitor<'de> for Reading<'_> {
    type Value = ();
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of GPUs")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(published) = list.next_element()? {
            if let Err(why) = (self.take)(published) {
                *self.failed = Some(why);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

/// Reads the list at `path`, each GPU given to `take` before the next is read.
///
/// # Errors
/// What `take` says; or when the file cannot be read, or is no such list (exit code 2).
pub fn read(path: &Path, take: &mut dyn FnMut(Published) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let unread = || Problem::usage(format!("{} cannot be read, and is no URL", path.display()));
    let file = File::open(path).with_context(unread)?;
    let mut list = serde_json::Deserializer::from_reader(BufReader::new(file));
    let mut failed = None;
    let whole = list.deserialize_seq(Reading { take, failed: &mut failed }).and_then(|()| list.end());
    match (failed, whole) {
        (Some(why), _) => Err(why),
        (None, Err(why)) if why.is_io() => Err(why).with_context(unread),
        (None, whole) => {
            whole.with_context(|| Problem::usage(format!("{} is not what --save writes", path.display())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gangline_types::GpuId;

    fn published(n: u8) -> Published {
        Published { gpu: GpuId::from_bytes([n; 16]), hours: vec![], chains: vec![] }
    }

    fn read_all(path: &Path) -> anyhow::Result<Vec<GpuId>> {
        let mut all = Vec::new();
        read(path, &mut |one| {
            all.push(one.gpu);
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn what_is_saved_is_one_list_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("saved.json");
        fs::write(&path, "before").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        for many in [0, 1, 3] {
            let mut saving = Saving::begin(&path).unwrap();
            (0..many).for_each(|n| saving.add(&published(n)).unwrap());
            saving.end().unwrap();
            let all: Vec<Published> = (0..many).map(published).collect();
            assert_eq!(fs::read(&path).unwrap(), serde_json::to_vec(&all).unwrap());
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
            assert_eq!(read_all(&path).unwrap(), all.iter().map(|one| one.gpu).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_breaks_off_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("saved.json");
        fs::write(&path, "[]").unwrap();
        let mut saving = Saving::begin(&path).unwrap();
        saving.add(&published(1)).unwrap();
        drop(saving);
        assert_eq!(fs::read(&path).unwrap(), b"[]");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(Saving::begin(&folder.path().join("no/such/folder")).is_err());
    }

    #[test]
    fn what_is_no_such_list_is_refused_wherever_it_goes_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("saved.json");
        let one = serde_json::to_string(&published(1)).unwrap();
        for text in
            ["", "{}", "[", "[]]", &format!("[{one}"), &format!("[{one},{{}}]"), &format!("[{one}] 1")]
        {
            fs::write(&path, text).unwrap();
            let why = read_all(&path).unwrap_err();
            assert!(format!("{why:#}").contains("is not what --save writes"), "{text}: {why:#}");
        }
        assert!(
            format!("{:#}", read_all(folder.path()).unwrap_err()).contains("cannot be read, and is no URL")
        );
        // What the taker says is said.
        fs::write(&path, format!("[{one}]")).unwrap();
        let why = read(&path, &mut |_| anyhow::bail!("enough")).unwrap_err();
        assert_eq!(why.to_string(), "enough");
    }
}
