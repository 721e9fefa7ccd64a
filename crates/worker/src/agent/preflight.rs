//! Everything that would go wrong, gathered before joining, each with its cure.
//!
//! Two halves: looking at the machine and the server, and judging what was seen, which is pure.

use std::{path::Path, time::Duration};

use gangline_types::UnixMillis;

use super::{
    child::{self, ChildError, Executable, Probe},
    data::{BEATS, CLUSTERS, DataDir, DataError, INTENT, Joined, REGISTERED},
    host, sandbox,
    settings::{Isolation, Settings},
};
use crate::client::{self, Client, ClientError};

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing works until it is cured.
    Error,
    /// Something will not work, or not well.
    Warning,
}

/// One thing that is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub cure: String,
}

/// What was seen of machine and server.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Each problem of the data directory and its files.
    pub data: Vec<DataError>,
    /// Free bytes where the data directory is.
    pub free_bytes: Option<u64>,
    /// How many files this process may have open.
    pub files_max: Option<u64>,
    /// The adapters, or why they could not be listed.
    pub probe: Option<Result<Probe, ChildError>>,
    /// Vendors of display controllers on the PCI bus.
    pub display_vendors: Vec<u32>,
    /// Whether cures can name Debian's packages.
    pub apt: bool,
    /// Why nothing can be isolated; none: something can, or the owner does not want it.
    pub no_isolation: Option<String>,
    /// Whether the Ray environment is missing.
    pub no_ray: Option<String>,
    /// Milliseconds by which this clock is ahead of the server's, or why the server could not be asked.
    pub server: Option<Result<Option<i64>, ClientError>>,
}

const NVIDIA: u32 = 0x10de;
/// Below this the worker cannot keep its own files.
const FREE_BYTES_MIN: u64 = 16 << 20;
/// Below this a renter's job soon fails.
const FREE_BYTES_LOW: u64 = 1 << 30;
/// Streams of a few busy clusters and their pipes.
const FILES_MIN: u64 = 1024;
/// The network refuses beats of minutes that begin later than this from now.
const SKEW_MILLIS_MAX: i64 = 60_000;
const SKEW_MILLIS_LOW: i64 = 5_000;

/// Looks at this machine, and at the server if there is a URL; makes the data directory, nothing else.
pub async fn preflight(data: &DataDir, url: Option<&str>, executable: &Executable) -> Vec<Problem> {
    judge(&look(data, url, executable).await.0)
}

/// As [`preflight`], with what was seen.
pub(crate) async fn look(data: &DataDir, url: Option<&str>, executable: &Executable) -> (Seen, Settings) {
    let mut seen = Seen { apt: host::has_apt(), ..Seen::default() };
    seen.display_vendors = host::display_vendors(Path::new("/sys/bus/pci/devices"));
    seen.files_max = files_max();
    let mut settings = Settings::default();
    match data.prepare() {
        Err(e) => seen.data.push(e),
        Ok(()) => {
            seen.free_bytes = free_bytes(data.path());
            seen.data.extend(data.key().err());
            seen.data.extend(Joined::load(data).err());
            for file in [BEATS, CLUSTERS, INTENT, REGISTERED] {
                seen.data.extend(data.read_json::<serde_json::Value>(file).err());
            }
            match Settings::load(data) {
                Ok(found) => settings = found,
                Err(e) => seen.data.push(e),
            }
        }
    }
    let isolation = async {
        if !settings.rent.enabled || settings.rent.isolation == Isolation::None {
            return (None, None);
        }
        let no_isolation = sandbox::choose(data, settings.rent.isolation).await.err();
        let ray_home = settings.ray_home(data);
        let no_ray = (!ray_home.join("bin/python").exists()).then(|| ray_home.display().to_string());
        (no_isolation, no_ray)
    };
    let server = async {
        match url {
            Some(url) => Some(ask_clock(url).await),
            None => None,
        }
    };
    let (probe, (no_isolation, no_ray), server) = tokio::join!(child::probe(executable), isolation, server);
    seen.probe = Some(probe);
    seen.no_isolation = no_isolation;
    seen.no_ray = no_ray;
    seen.server = server;
    (seen, settings)
}

/// What is wrong with what was seen, the worst first.
pub(crate) fn judge(seen: &Seen) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut add = |severity, what: String, cure: String| problems.push(Problem { severity, what, cure });
    use Severity::*;
    for e in &seen.data {
        let text = chain(e);
        // Errors of ours end in "(hint: ...)", the cure.
        let (what, cure) = match text.rsplit_once(" (hint: ") {
            Some((what, hint)) if hint.ends_with(')') => {
                (what.to_owned(), hint.trim_end_matches(')').to_owned())
            }
            _ => (
                text,
                "make it readable and writable for the user that runs the worker, or choose another --data"
                    .to_owned(),
            ),
        };
        add(Error, what, cure);
    }
    match seen.free_bytes {
        Some(free) if free < FREE_BYTES_MIN => add(
            Error,
            format!("only {} KiB are free where the data directory is", free >> 10),
            "free some space, or choose another --data".into(),
        ),
        Some(free) if free < FREE_BYTES_LOW => add(
            Warning,
            format!("only {} MiB are free where the data directory is", free >> 20),
            "free some space: renters' jobs need more".into(),
        ),
        _ => {}
    }
    if let Some(files) = seen.files_max.filter(|n| *n < FILES_MIN) {
        add(
            Warning,
            format!("this process may open only {files} files"),
            format!("raise it: `ulimit -n {}` or LimitNOFILE= of its service", FILES_MIN * 4),
        );
    }
    match &seen.probe {
        Some(Err(e)) => add(
            Error,
            format!("the graphics adapters could not be listed: {}", chain(e)),
            "reinstall or update the graphics driver; `vulkaninfo --summary` shows which one fails".into(),
        ),
        Some(Ok(probe)) => {
            let nvidia_card = seen.display_vendors.contains(&NVIDIA);
            if probe.adapters.is_empty() {
                add(
                    Error,
                    "no graphics adapter was found".into(),
                    adapter_cure(&seen.display_vendors, seen.apt),
                );
            } else if nvidia_card && probe.nvidia_driver.is_none() {
                let why = probe.nvidia_problem.as_deref().unwrap_or("it is not installed");
                add(
                    Warning,
                    format!("there is an NVIDIA card but its driver does not answer ({why})"),
                    adapter_cure(&[NVIDIA], seen.apt),
                );
            }
        }
        None => {}
    }
    if let Some(why) = &seen.no_isolation {
        add(
            Warning,
            format!("no renter's program can be isolated here: {why}"),
            "the machine joins and proves, but takes no renter work; for that install podman or bubblewrap and run the worker as root".into(),
        );
    } else if let Some(home) = &seen.no_ray {
        add(
            Warning,
            format!("there is no Ray environment in {home}"),
            format!(
                "the machine joins and proves, but takes no renter work; make it with `/usr/bin/python3 -m venv {home} && {home}/bin/pip install 'ray[default]'`, or set rent.ray_home in worker.toml"
            ),
        );
    }
    match &seen.server {
        Some(Err(e)) => add(
            Error,
            chain(e),
            "check the address, that the server runs, and that a firewall lets this machine reach it".into(),
        ),
        Some(Ok(Some(skew))) => {
            let (seconds, side) = (skew.unsigned_abs() / 1000, if *skew > 0 { "ahead of" } else { "behind" });
            let what = format!("this machine's clock is {seconds} s {side} the server's");
            let cure = "set the clock by NTP: `timedatectl set-ntp true`".to_owned();
            if skew.abs() > SKEW_MILLIS_MAX {
                add(Error, what, cure);
            } else if skew.abs() > SKEW_MILLIS_LOW {
                add(Warning, what, cure);
            }
        }
        _ => {}
    }
    problems.sort_by_key(|p| p.severity);
    problems
}

/// Which package brings an adapter.
fn adapter_cure(vendors: &[u32], apt: bool) -> String {
    let nvidia = vendors.contains(&NVIDIA);
    match (nvidia, vendors.is_empty(), apt) {
        (true, _, true) => "install NVIDIA's driver with its Vulkan part: `apt install nvidia-driver nvidia-vulkan-icd libvulkan1` (from non-free)".into(),
        (true, _, false) => "install NVIDIA's driver with its Vulkan part, and the Vulkan loader".into(),
        (false, false, true) => "install Mesa's Vulkan drivers: `apt install mesa-vulkan-drivers libvulkan1`, and let this user open /dev/dri (group render)".into(),
        (false, false, false) => "install the card's Vulkan driver and the Vulkan loader, and let this user open /dev/dri (group render)".into(),
        (false, true, true) => "no graphics card is on the PCI bus; `apt install mesa-vulkan-drivers libvulkan1` gives a software device, shown as such".into(),
        (false, true, false) => "no graphics card is on the PCI bus; Mesa's Vulkan drivers and the Vulkan loader give a software device, shown as such".into(),
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut hint = String::new();
    if let Some(at) = text.find(" (hint: ") {
        hint = text.split_off(at);
    }
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text + &hint
}

/// The problems as lines for a person.
pub fn words(problems: &[Problem]) -> Vec<String> {
    let line = |p: &Problem| {
        let word = match p.severity {
            Severity::Error => "problem",
            Severity::Warning => "warning",
        };
        [format!("{word}: {}", p.what), format!("    cure: {}", p.cure)]
    };
    problems.iter().flat_map(line).collect()
}

/// Milliseconds by which our clock is ahead of the server's; none if the server does not tell the time.
async fn ask_clock(url: &str) -> Result<Option<i64>, ClientError> {
    let client = Client::new(url, None)?;
    let response = client.raw("GET", "/healthz", "", &[], Vec::new(), Some(Duration::from_secs(10))).await?;
    let date = response.headers().get("date").and_then(|d| d.to_str().ok()).and_then(http_date);
    Ok(date.map(|date| skew_millis(client::now(), date)))
}

/// The server's second began at `date`; up to 999 ms after it the clocks agree.
fn skew_millis(now: UnixMillis, date: UnixMillis) -> i64 {
    let difference = now.0 as i64 - date.0 as i64;
    if (0..1000).contains(&difference) { 0 } else { difference }
}

/// A date as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
fn http_date(text: &str) -> Option<UnixMillis> {
    let (_, rest) = text.split_once(", ")?;
    let mut parts = rest.strip_suffix(" GMT")?.split(' ');
    let day: i64 = parts.next()?.parse().ok()?;
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let name = parts.next()?;
    let month = months.iter().position(|m| *m == name)? as i64 + 1;
    let year: i64 = parts.next()?.parse().ok()?;
    let mut clock = parts.next()?.split(':').map(|n| n.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // Days since 1970 in the Gregorian calendar, years beginning in March so that leap days come last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day
        - 1
        - 719_468;
    u64::try_from(((days * 24 + hour) * 60 + minute) * 60 + second).ok().map(|s| UnixMillis(s * 1000))
}

#[cfg(unix)]
fn files_max() -> Option<u64> {
    nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft)
}
#[cfg(not(unix))]
fn files_max() -> Option<u64> {
    None
}

#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let facts = nix::sys::statvfs::statvfs(path).ok()?;
    Some(facts.blocks_available() as u64 * facts.fragment_size() as u64)
}
#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter() -> child::FoundAdapter {
        child::FoundAdapter {
            index: 0,
            name: "llvmpipe".into(),
            backend: gangline_types::Backend::Vulkan,
            kind: gangline_types::AdapterKind::Software,
            driver: String::new(),
            pci_vendor: 0,
            pci_device: 0,
            pci_address: String::new(),
        }
    }

    #[test]
    fn a_sound_machine_has_no_problem() {
        let seen = Seen {
            free_bytes: Some(50 << 30),
            files_max: Some(20_000),
            probe: Some(Ok(Probe { adapters: vec![adapter()], ..Probe::default() })),
            server: Some(Ok(Some(-4_999))),
            ..Seen::default()
        };
        assert_eq!(judge(&seen), []);
    }

    #[test]
    fn every_missing_thing_is_told_at_once_with_its_cure() {
        let mut seen = Seen {
            data: vec![DataError::Open { path: "/k".into(), mode: 0o644, cure: 0o600 }],
            free_bytes: Some(1 << 20),
            files_max: Some(256),
            probe: Some(Ok(Probe::default())),
            display_vendors: vec![NVIDIA],
            apt: true,
            no_isolation: Some("podman: not installed".into()),
            no_ray: Some("/r".into()),
            server: Some(Ok(Some(120_500))),
        };
        let problems = judge(&seen);
        let text = words(&problems).join("\n");
        for expected in [
            "chmod 600 /k",
            "1024 KiB are free",
            "only 256 files",
            "no graphics adapter",
            "apt install nvidia-driver",
            "podman: not installed",
            "takes no renter work",
            "120 s ahead of the server's",
            "timedatectl",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
        }
        assert!(problems.is_sorted_by_key(|p| p.severity));
        assert_eq!(problems.iter().filter(|p| p.severity == Severity::Error).count(), 4);

        // A software device beside an NVIDIA card without a driver is only a warning.
        seen.probe = Some(Ok(Probe {
            adapters: vec![adapter()],
            nvidia_problem: Some("no library".into()),
            ..Probe::default()
        }));
        assert!(
            words(&judge(&seen))
                .join("\n")
                .contains("warning: there is an NVIDIA card but its driver does not answer (no library)")
        );
    }

    #[tokio::test]
    async fn a_server_that_is_away_and_a_program_that_is_not_there_are_both_told() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::resolve(Some(dir.path())).unwrap();
        Settings::write_defaults(&data).unwrap();
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = format!("http://{nobody}");
        let problems = preflight(&data, Some(&url), &Executable::at("/nonexistent".into())).await;
        let text = words(&problems).join("\n");
        assert!(text.contains(&format!("the server at {url} could not be reached")), "{text}");
        assert!(text.contains("adapters could not be listed"), "{text}");
    }

    #[test]
    fn dates_of_http_are_read() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(UnixMillis(784_111_777_000)));
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(UnixMillis(0)));
        assert_eq!(http_date("Thu, 29 Feb 2024 23:59:59 GMT"), Some(UnixMillis(1_709_251_199_000)));
        assert_eq!(http_date("Sunday, 06-Nov-94 08:49:37 GMT"), None);
        assert_eq!(skew_millis(UnixMillis(5_900), UnixMillis(5_000)), 0);
        assert_eq!(skew_millis(UnixMillis(4_900), UnixMillis(5_000)), -100);
    }
}
