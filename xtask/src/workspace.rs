//! Where things are: the checkout, the cache folder, and what Cargo says of the workspace.

use crate::process::{cargo, program};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The root of the checkout that this program was started from.
pub fn root() -> PathBuf {
    let manifest =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let mut root = PathBuf::from(manifest);
    root.pop();
    root
}

/// Folder for what is expensive to make and safe to delete: `$XDG_CACHE_HOME/gangline` or `~/.cache/gangline`.
pub fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute()) {
        Some(path) => path,
        None => Path::new(&std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    Ok(base.join("gangline"))
}

/// Held by whoever installs something or makes a tool: groups that run side by side do it one after the other. It ends
/// with the value.
pub fn one_at_a_time() -> Result<File> {
    let folder = cache()?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make folder {}", folder.display()))?;
    lock(&folder.join("tools.lock"))
}

/// Waits for a file that one process holds at a time; held until the value is dropped.
pub fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot open {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// This machine's kind, as Rust calls it.
pub fn host(root: &Path) -> Result<String> {
    let output = program("rustc", root).arg("-vV").output();
    let output = output.context("cannot ask rustc what machine this is")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say what machine this is")
}

/// One dependency as a manifest states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The package's name in its registry or workspace.
    pub name: String,
    /// Whether only tests, examples and benchmarks see it.
    pub dev: bool,
}

/// One package of the workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// Its name, for example `gangline-wire`.
    pub name: String,
    /// Its folder, relative to the root, with forward slashes.
    pub dir: String,
    /// Its direct dependencies.
    pub dependencies: Vec<Dependency>,
    /// Names of its integration test targets.
    pub tests: Vec<String>,
}

/// Asks Cargo for the workspace's packages.
pub fn packages(root: &Path) -> Result<Vec<Package>> {
    let output = cargo(root)
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot start `cargo metadata`")?;
    if !output.status.success() {
        bail!("`cargo metadata` failed ({})", output.status);
    }
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("cannot read what `cargo metadata` printed")?;
    parse(&metadata, root)
}

fn parse(metadata: &Value, root: &Path) -> Result<Vec<Package>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    list(&metadata["packages"])
        .iter()
        .map(|package| {
            let name = text(&package["name"]).context("a package without a name in Cargo's metadata")?;
            let manifest =
                PathBuf::from(text(&package["manifest_path"]).context("a package without a manifest")?);
            let dir = manifest.parent().and_then(|dir| dir.strip_prefix(root).ok());
            let dir = dir.with_context(|| format!("package {name} lies outside the checkout"))?;
            let is_test = |target: &&Value| list(&target["kind"]).iter().any(|kind| kind == "test");
            let targets = list(&package["targets"]);
            Ok(Package {
                dir: dir.to_string_lossy().replace('\\', "/"),
                dependencies: list(&package["dependencies"])
                    .iter()
                    .filter_map(|dep| {
                        Some(Dependency { name: text(&dep["name"])?, dev: dep["kind"] == "dev" })
                    })
                    .collect(),
                tests: targets.iter().filter(is_test).filter_map(|target| text(&target["name"])).collect(),
                name,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_becomes_packages() {
        let metadata = serde_json::json!({"packages": [{
            "name": "gangline-wire", "manifest_path": "/src/tree/crates/wire/Cargo.toml",
            "dependencies": [{"name": "http", "kind": null}, {"name": "proptest", "kind": "dev"}],
            "targets": [{"name": "gangline_wire", "kind": ["lib"]}, {"name": "vectors", "kind": ["test"]}],
        }]});
        let packages = parse(&metadata, Path::new("/src/tree")).unwrap();
        assert_eq!(packages[0].dir, "crates/wire");
        assert_eq!(packages[0].tests, ["vectors"]);
        let dev: Vec<_> = packages[0].dependencies.iter().map(|dep| (dep.name.as_str(), dep.dev)).collect();
        assert_eq!(dev, [("http", false), ("proptest", true)]);
        assert!(parse(&metadata, Path::new("/elsewhere")).is_err());
    }
}
