//! The owner's settings, `worker.toml`: what this machine is called, and whether, how and for how
//! much it is for hire. Written once with comments; from then on it is the owner's file.

use std::{collections::BTreeMap, path::PathBuf};

use gangline_types::{GpuId, Label, MicroCredits};
use serde::Deserialize;

use super::data::{DataDir, DataError, SETTINGS};

/// Which sandbox renters' programs run in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// The first that works on this host.
    #[default]
    Auto,
    /// Containers by podman.
    Podman,
    /// Namespaces by bubblewrap.
    Bubblewrap,
    /// None: this machine takes no renter work.
    None,
}

/// What is for hire and on which terms.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RentSettings {
    /// Whether anything is for hire.
    pub enabled: bool,
    /// Price of one GPU for an hour, in millionths of a credit.
    pub price_per_hour_micro: u64,
    /// Other prices for some GPUs, in millionths of a credit an hour.
    pub gpu_prices_per_hour_micro: BTreeMap<GpuId, u64>,
    /// Longest hire in hours, 1 to 168.
    pub hours_max: u32,
    /// Most memory of one cluster, in bytes; 0: half of the machine's, divided by its GPUs.
    pub memory_bytes_max: u64,
    /// Most cores of one cluster; 0: the machine's, divided by its GPUs.
    pub cpus_max: u32,
    /// Which sandbox.
    pub isolation: Isolation,
    /// Folder of the Ray environment; empty: `ray` in the data directory.
    pub ray_home: PathBuf,
}

impl Default for RentSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            price_per_hour_micro: 100_000,
            gpu_prices_per_hour_micro: BTreeMap::new(),
            hours_max: 24,
            memory_bytes_max: 0,
            cpus_max: 0,
            isolation: Isolation::Auto,
            ray_home: PathBuf::new(),
        }
    }
}

/// How the machine's key is kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeySettings {
    /// A key older than this many days gets a new one in its place, 0 to 3650; 0: never by itself.
    pub rotate_after_days: u32,
}

impl Default for KeySettings {
    fn default() -> Self {
        Self { rotate_after_days: 90 }
    }
}

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What the machine is called; empty: its host name.
    pub name: Label,
    /// What is for hire.
    pub rent: RentSettings,
    /// How the machine's key is kept.
    pub key: KeySettings,
}

/// Each setting with its default and what it means.
const TEMPLATE: &str = r#"# Settings of this Gangline worker. Restart the worker after a change.

# What this machine is called in your console; empty: its host name. The public never sees it.
name = ""

[key]
# A key older than this many days gets a new one in its place by itself, without anybody's approval and without
# a pause; 0: never. `gangline worker rotate` does it at any time.
rotate_after_days = 90

[rent]
# Whether renters may hire this machine's GPUs. Without it the machine still proves, beats and earns.
enabled = true

# Price of one GPU for an hour, in millionths of a credit, and other prices for some GPUs, for example
# gpu_prices_per_hour_micro = { gpu_01h2xcejqtf2nbrexx3vqjhp41 = 250000 }
price_per_hour_micro = 100000
gpu_prices_per_hour_micro = {}

# Longest hire in hours, 1 to 168.
hours_max = 24

# Most that one cluster may have. 0: half of the memory, and all cores, divided by the number of GPUs.
memory_bytes_max = 0
cpus_max = 0

# What keeps a renter's program in: "auto" (the first that works), "podman", "bubblewrap",
# or "none" (takes no renter work; nothing ever runs without isolation).
isolation = "auto"

# Folder of the Ray environment (made by /usr/bin/python3 -m venv); empty: what GANGLINE_RAY_HOME says, else
# "ray" beside this file if it is there, else gangline/ray-2.60 in the user's cache folder.
ray_home = ""
"#;

impl Settings {
    /// The owner's settings; the defaults if there is no file.
    ///
    /// # Errors
    /// If the file cannot be read, or says something that is not understood: nothing is guessed.
    pub(crate) fn load(data: &DataDir) -> Result<Self, DataError> {
        let Some(text) = data.read(SETTINGS)? else { return Ok(Self::default()) };
        Self::parse(&text).map_err(|why| DataError::Malformed {
            path: data.file(SETTINGS),
            why,
            hint: "correct that line; remove the file and join again to get the commented defaults",
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let settings: Self = toml::from_str(text).map_err(|e| {
            let line =
                e.span().and_then(|s| text.get(..s.start)).map(|before| before.matches('\n').count() + 1);
            format!("{}{}", line.map(|l| format!("line {l}: ")).unwrap_or_default(), e.message())
        })?;
        if settings.key.rotate_after_days > 3650 {
            return Err(format!(
                "key.rotate_after_days is {}; it must be 0 to 3650",
                settings.key.rotate_after_days
            ));
        }
        if !(1..=168).contains(&settings.rent.hours_max) {
            return Err(format!("rent.hours_max is {}; it must be 1 to 168", settings.rent.hours_max));
        }
        Ok(settings)
    }

    /// Writes the commented defaults if there is no file yet.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn write_defaults(data: &DataDir) -> Result<(), DataError> {
        if data.read(SETTINGS)?.is_none() { data.write(SETTINGS, TEMPLATE.as_bytes(), true) } else { Ok(()) }
    }

    /// The folder of the Ray environment.
    pub(crate) fn ray_home(&self, data: &DataDir) -> PathBuf {
        if !self.rent.ray_home.as_os_str().is_empty() {
            return data.path().join(&self.rent.ray_home);
        }
        let own = data.file("ray");
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let shared = || {
            let cache =
                absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
            Some(cache.join("gangline/ray-2.60"))
        };
        absolute("GANGLINE_RAY_HOME")
            .or_else(|| own.exists().then(|| own.clone()))
            .or_else(|| shared().filter(|folder| folder.exists()))
            .unwrap_or(own)
    }
}

/// What one cluster may have on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Processor time in thousandths of a core.
    pub cpus_millis: u32,
}

impl RentSettings {
    /// Price of an hour of this GPU.
    pub(crate) fn price(&self, gpu: GpuId) -> MicroCredits {
        MicroCredits(self.gpu_prices_per_hour_micro.get(&gpu).copied().unwrap_or(self.price_per_hour_micro))
    }

    /// What one of `gpus` GPUs' clusters may have on a machine of this size.
    pub(crate) fn share(&self, memory_bytes: u64, cores: u32, gpus: usize) -> Share {
        let gpus = gpus.max(1);
        let memory = match self.memory_bytes_max {
            0 => memory_bytes / 2 / gpus as u64,
            most => most.min(memory_bytes),
        };
        let cpus = match self.cpus_max {
            0 => (cores / gpus as u32).max(1),
            most => most.min(cores.max(1)),
        };
        Share { memory_bytes: memory, cpus_millis: cpus.saturating_mul(1000) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_file_is_the_defaults() {
        assert_eq!(Settings::parse(TEMPLATE), Ok(Settings::default()));
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        for (text, expected) in [
            ("name = 'x'\n[rent]\nenabeld = false", "line 3: unknown field `enabeld`"),
            ("[key]\nrotate_after_days = 3651", "key.rotate_after_days is 3651"),
            ("[rent]\nhours_max = 0", "rent.hours_max is 0"),
            ("[rent]\nisolation = 'docker'", "line 2: unknown variant `docker`"),
            ("[rent]\nprice_per_hour_micro = -1", "line 2"),
        ] {
            let refused = Settings::parse(text).unwrap_err();
            assert!(refused.contains(expected), "{text:?}: {refused}");
        }
    }

    #[test]
    fn a_machine_is_shared_by_its_gpus_unless_told() {
        let mut rent = RentSettings::default();
        assert_eq!(rent.share(64 << 30, 16, 4), Share { memory_bytes: 8 << 30, cpus_millis: 4000 });
        assert_eq!(rent.share(8 << 30, 2, 4), Share { memory_bytes: 1 << 30, cpus_millis: 1000 });
        rent.memory_bytes_max = 3 << 30;
        rent.cpus_max = 99;
        assert_eq!(rent.share(64 << 30, 16, 4), Share { memory_bytes: 3 << 30, cpus_millis: 16_000 });
    }
}
