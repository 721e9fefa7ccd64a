//! What this machine offers the demonstration: this very program, software adapters, a Ray environment.
//!
//! Installs nothing.

use std::{ffi::OsString, path::PathBuf};

use anyhow::Context;

/// Where things are.
#[derive(Clone, Debug)]
pub struct Scene {
    /// This very program.
    pub program: PathBuf,
    /// Mesa's software Vulkan driver, by its description file.
    pub software_driver: Option<PathBuf>,
    /// The Ray environment's folder, whether it is there or not.
    pub ray_home: PathBuf,
    /// The machine's memory in bytes; 0 unknown.
    pub memory_bytes: u64,
}

impl Scene {
    /// Looks around.
    ///
    /// # Errors
    /// When this program's own file cannot be found.
    pub fn look() -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("could not find this program's own file")?;
        let folders = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
        let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
        let software = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("lvp_icd"))
        };
        let software_driver = files.map(|file| file.path()).find(software);
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = meminfo
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
        Ok(Self { program, software_driver, ray_home: ray_home(), memory_bytes: kib.unwrap_or(0u64) * 1024 })
    }

    /// Environment that makes a worker see Mesa's software adapter and no other; empty where there is none.
    pub fn software_only(&self) -> Vec<(String, OsString)> {
        let Some(driver) = &self.software_driver else { return Vec::new() };
        // The second name is the one that newer loaders read.
        let pairs = [
            ("VK_ICD_FILENAMES", driver.into()),
            ("VK_DRIVER_FILES", driver.into()),
            ("NODEVICE_SELECT", "1".into()),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Whether the Ray environment is there.
    pub fn has_ray(&self) -> bool {
        self.ray_home.join("bin/ray").is_file()
    }
}

/// As `cargo xtask demo` makes it: `$GANGLINE_RAY_HOME`, or `gangline/ray-2.60` in the cache folder.
fn ray_home() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || {
        let xdg = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        xdg.or_else(|| variable("HOME").map(|home| home.join(".cache")))
            .unwrap_or_else(|| "/var/cache".into())
    };
    variable("GANGLINE_RAY_HOME").unwrap_or_else(|| cache().join("gangline/ray-2.60"))
}
