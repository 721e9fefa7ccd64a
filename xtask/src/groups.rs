//! The groups of tests: what each one runs and what it needs. A test target belongs to `fast` unless the one
//! table here says that it is heavy, so that no test can be left out by forgetting it.

use crate::process::{cargo, find, program, succeeds, tests};
use crate::workspace::{self, Package};
use crate::{deny, fuzz, install, python, ray, tidy};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// When a group runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// By itself, before all that run side by side: it builds, or answers at once.
    Alone,
    /// After those, one after another with the others of its lane, beside the other lane: most groups wait for a
    /// program, a browser or a clock half of their time. All that use containers and Ray are in this one.
    Left,
    /// The other lane.
    Right,
}

/// One group of tests.
pub struct Group {
    /// What `--only` takes.
    pub name: &'static str,
    /// When it runs.
    pub lane: Lane,
    /// What it checks, for `--list`.
    pub checks: &'static str,
    /// Runs it; `false` if anything in it failed.
    pub run: fn(&Path) -> Result<bool>,
}

/// Every group, those that answer soonest first; each lane in this order.
pub const GROUPS: &[Group] = &[
    Group { name: "tidy", lane: Lane::Alone, checks: "the repository's own rules", run: |_| tidy::run() },
    Group { name: "fmt", lane: Lane::Alone, checks: "formatting", run: fmt },
    Group { name: "build", lane: Lane::Alone, checks: "that the program and every test compile", run: build },
    Group { name: "clippy", lane: Lane::Alone, checks: "lints, with warnings as errors", run: clippy },
    Group {
        name: "deny",
        lane: Lane::Alone,
        checks: "banned crates, licences and sources of dependencies",
        run: deny::bans,
    },
    Group {
        name: "fast",
        lane: Lane::Left,
        checks: "every test that is not in a group of its own",
        run: fast,
    },
    Group {
        name: "isolation",
        lane: Lane::Left,
        checks: "that a renter's program is shut in (podman, bubblewrap)",
        run: isolation,
    },
    Group {
        name: "browser",
        lane: Lane::Right,
        checks: "pages in a real Chromium: layout and accessibility",
        run: browser,
    },
    Group {
        name: "oidc",
        lane: Lane::Right,
        checks: "sign-in with a real OpenID Connect provider",
        run: oidc,
    },
    Group {
        name: "acme",
        lane: Lane::Right,
        checks: "certificates from a real ACME authority (pebble)",
        run: acme,
    },
    Group {
        name: "mail",
        lane: Lane::Right,
        checks: "mails through a real mail server (aiosmtpd)",
        run: mail,
    },
    Group {
        name: "scanners",
        lane: Lane::Right,
        checks: "sqlmap, schemathesis and wapiti, here and on a twin with holes",
        run: scanners,
    },
    Group {
        name: "postgres",
        lane: Lane::Right,
        checks: "the same cases of the books in SQLite and in PostgreSQL, what its roles can see, and servers on one database",
        run: postgres,
    },
    Group {
        name: "symbolic",
        lane: Lane::Right,
        checks: "that two solvers prove the policy's bounds",
        run: symbolic,
    },
    Group {
        name: "proof",
        lane: Lane::Left,
        checks: "what cheats of the proof pay who are only too slow, and that its specification suffices",
        run: proof,
    },
    Group {
        name: "bench",
        lane: Lane::Right,
        checks: "that the bench measures every row, beside its peers",
        run: bench,
    },
    Group {
        name: "faults",
        lane: Lane::Left,
        checks: "that a worker killed under a renter's job costs nobody",
        run: faulty,
    },
    Group {
        name: "beats",
        lane: Lane::Right,
        checks: "that no acknowledged beat is lost, whatever befalls the server",
        run: beats,
    },
    Group {
        name: "drill",
        lane: Lane::Left,
        checks: "that a replay of the breach is stopped at each of its links",
        run: drill,
    },
    Group {
        name: "fuzz",
        lane: Lane::Right,
        checks: "what comes from outside, with made-up bytes, for a minute",
        run: fuzz::brief,
    },
    Group {
        name: "demo",
        lane: Lane::Left,
        checks: "the whole network on this machine, with Ray",
        run: demo,
    },
];

/// The group without which the others cannot run.
pub const FIRST_NEEDED: &str = "build";

/// A test target with a group of its own: it needs more of the machine, or minutes.
struct Heavy {
    group: &'static str,
    package: &'static str,
    /// The target's name, or its start when it ends with `*`.
    target: &'static str,
}

const HEAVY: &[Heavy] = &[
    Heavy { group: "isolation", package: "gangline-worker", target: "isolation*" },
    Heavy { group: "browser", package: "gangline", target: "browser*" },
    Heavy { group: "oidc", package: "gangline-server", target: "oidc" },
    Heavy { group: "acme", package: "gangline-server", target: "acme" },
    Heavy { group: "mail", package: "gangline-server", target: "mail" },
    Heavy { group: "scanners", package: "gangline-server", target: "scanners" },
    Heavy { group: "postgres", package: "gangline-store", target: "books" },
    Heavy { group: "postgres", package: "gangline", target: "replicas" },
    Heavy { group: "postgres", package: "gangline-server", target: "on_postgres" },
    Heavy { group: "symbolic", package: "gangline-guard", target: "symbolic" },
    Heavy { group: "proof", package: "gangline-proof", target: "heavy_proof_*" },
    Heavy { group: "faults", package: "gangline", target: "heavy_killed" },
    Heavy { group: "beats", package: "gangline", target: "heavy_beats*" },
    Heavy { group: "bench", package: "gangline", target: "heavy_bench" },
];

impl Heavy {
    fn matches(&self, package: &str, target: &str) -> bool {
        let name = match self.target.strip_suffix('*') {
            Some(start) => target.starts_with(start),
            None => target == self.target,
        };
        name && package == self.package
    }
}

/// Every build uses the same packages and features, so that one build serves all groups.
const EVERYTHING: [&str; 2] = ["--workspace", "--all-features"];

fn fmt(root: &Path) -> Result<bool> {
    let mut command = cargo(root);
    command.args(["fmt", "--all", "--check"]);
    succeeds(command, 5)
}

/// Builds the program, and the examples that tests start as programs. Examples see what tests see, so Cargo
/// picks the same features of every dependency here as for the tests, and builds none of them twice.
fn programs(root: &Path) -> Result<bool> {
    let mut command = cargo(root);
    command.arg("build").args(EVERYTHING).args(["--bins", "--examples"]);
    succeeds(command, 40)
}

fn build(root: &Path) -> Result<bool> {
    install::ensure(install::BUILD);
    let mut all = cargo(root);
    all.arg("test").args(EVERYTHING).arg("--no-run");
    Ok(programs(root)? && succeeds(all, 40)?)
}

fn clippy(root: &Path) -> Result<bool> {
    let mut command = cargo(root);
    command.arg("clippy").args(EVERYTHING).args(["--all-targets", "--", "-D", "warnings"]);
    succeeds(command, 40)
}

fn fast(root: &Path) -> Result<bool> {
    install::ensure(install::VULKAN);
    let names = fast_targets(&workspace::packages(root)?)?;
    let mut units = cargo(root);
    units.arg("test").args(EVERYTHING).args(["--no-fail-fast", "--lib", "--bins"]);
    units.args(names.iter().flat_map(|name| ["--test", name.as_str()]));
    let mut examples = cargo(root);
    examples.arg("test").args(EVERYTHING).args(["--no-fail-fast", "--doc"]);
    let units = tests(units, 30);
    let examples = tests(examples, 15);
    units.and(examples).map(|()| true)
}

/// Names of the test targets that are not heavy. Cargo picks a target by name in every package, so a heavy
/// one must not share its name.
fn fast_targets(packages: &[Package]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut heavy = Vec::new();
    for package in packages {
        for target in &package.tests {
            let of_group = HEAVY.iter().any(|entry| entry.matches(&package.name, target));
            if of_group { heavy.push(target.clone()) } else { names.push(target.clone()) }
        }
    }
    names.sort();
    names.dedup();
    if let Some(both) = names.iter().find(|name| heavy.contains(name)) {
        bail!(
            "two packages have a test target `{both}`, and one of them is in a group of its own: rename one"
        );
    }
    Ok(names)
}

/// Names of the test targets of a group. None at all is an error: a group that runs nothing must not pass.
fn heavy_targets(packages: &[Package], group: &str) -> Result<Vec<String>> {
    let entries: Vec<&Heavy> = HEAVY.iter().filter(|entry| entry.group == group).collect();
    let mut names = Vec::new();
    for entry in entries {
        let package = packages.iter().find(|package| package.name == entry.package);
        let found = package.into_iter().flat_map(|package| &package.tests);
        let found: Vec<String> =
            found.filter(|target| entry.matches(entry.package, target)).cloned().collect();
        if found.is_empty() {
            bail!(
                "package {} has no test target `{}`, so group {group} would test nothing",
                entry.package,
                entry.target
            );
        }
        names.extend(found);
    }
    Ok(names)
}

fn heavy(root: &Path, group: &str, minutes: u32, environment: &[(&str, PathBuf)]) -> Result<bool> {
    let names = heavy_targets(&workspace::packages(root)?, group)?;
    if !programs(root)? {
        return Ok(false);
    }
    let mut command = cargo(root);
    command.arg("test").args(EVERYTHING).arg("--no-fail-fast");
    command.args(names.iter().flat_map(|name| ["--test", name.as_str()]));
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    tests(command, minutes).map(|()| true)
}

fn isolation(root: &Path) -> Result<bool> {
    install::ensure(install::ISOLATION);
    install::ensure(install::RAY);
    heavy(root, "isolation", 20, &[("GANGLINE_RAY_HOME", ray::ensure()?)])
}

fn faulty(root: &Path) -> Result<bool> {
    for packages in [install::VULKAN, install::ISOLATION, install::RAY] {
        install::ensure(packages);
    }
    heavy(root, "faults", 20, &[("GANGLINE_RAY_HOME", ray::ensure()?)])
}

fn beats(root: &Path) -> Result<bool> {
    install::ensure(install::VULKAN);
    install::ensure(install::FAULTS);
    heavy(root, "beats", 20, &[])
}

/// The version of DuckDB that the bench is compared with.
const DUCKDB: &str = "2.0.1";

fn bench(root: &Path) -> Result<bool> {
    install::ensure(install::PEERS);
    let python = python::with(root, "duckdb", DUCKDB)?;
    heavy(root, "bench", 15, &[("GANGLINE_BENCH_PYTHON", python)])
}

fn oidc(root: &Path) -> Result<bool> {
    install::ensure(install::NODE);
    heavy(root, "oidc", 15, &[("GANGLINE_OIDC_HOME", identity_provider(root)?)])
}

fn acme(root: &Path) -> Result<bool> {
    install::ensure(install::ACME);
    heavy(root, "acme", 15, &[])
}

/// The mail server that mails are tested with; for tests only.
const AIOSMTPD: &str = "1.4.6";

fn mail(root: &Path) -> Result<bool> {
    install::ensure(install::PYTHON);
    let python = python::with(root, "aiosmtpd", AIOSMTPD)?;
    heavy(root, "mail", 15, &[("GANGLINE_MAIL_PYTHON", python)])
}

/// The scanners, what wapiti asks its own database with, and what the twin asks PostgreSQL with; for tests only.
const SCANNERS: [&str; 5] =
    ["sqlmap==1.10.10", "schemathesis==4.32.5", "wapiti3==3.1.8", "greenlet==3.5.6", "pg8000==1.31.5"];

fn scanners(root: &Path) -> Result<bool> {
    install::ensure(install::PYTHON);
    install::ensure(install::POSTGRES);
    let home = python::environment(root, "scanners", &SCANNERS)?;
    heavy(root, "scanners", 30, &[("GANGLINE_SCANNERS_BIN", home.join("bin"))])
}

/// The identity provider that sign-in is tested against, from its locked list of packages. For tests only.
fn identity_provider(root: &Path) -> Result<PathBuf> {
    let lists = root.join("crates/server/tests/oidc");
    let dir = workspace::cache()?.join("tools/oidc-provider");
    let _alone = workspace::one_at_a_time()?;
    let lock =
        fs::read(lists.join("package-lock.json")).context("cannot read the provider's package-lock.json")?;
    let complete = dir.join("complete");
    if fs::read(&complete).is_ok_and(|made_from| made_from == lock) {
        return Ok(dir);
    }
    let npm = find("npm").context("there is no npm to fetch the identity provider with; install npm")?;
    fs::create_dir_all(&dir).with_context(|| format!("cannot make folder {}", dir.display()))?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(lists.join(name), dir.join(name)).with_context(|| format!("cannot copy {name}"))?;
    }
    let mut command = program(npm, root);
    command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]).arg(&dir);
    if !succeeds(command, 10)? {
        bail!("npm did not bring the identity provider");
    }
    fs::write(&complete, lock).context("cannot mark the identity provider complete")?;
    Ok(dir)
}

/// What the second verifier of epoch proofs is run with: the hash and the signature; everything else is in the script.
const SECOND_VERIFIER: [&str; 2] = ["blake3==1.0.11", "cryptography==50.0.2"];

fn proof(root: &Path) -> Result<bool> {
    install::ensure(install::VULKAN);
    install::ensure(install::RAY);
    let home = python::environment(root, "second-verifier", &SECOND_VERIFIER)?;
    heavy(root, "proof", 10, &[("GANGLINE_SECOND_VERIFIER_PYTHON", home.join("bin/python"))])
}

/// The second solver; the first is Debian's package of the same name, in an older version.
const CVC5: &str = "1.4.2";

fn symbolic(root: &Path) -> Result<bool> {
    install::ensure(install::SOLVER);
    let python = python::with(root, "cvc5", CVC5)?;
    heavy(root, "symbolic", 20, &[("GANGLINE_CVC5_PYTHON", python)])
}

fn postgres(root: &Path) -> Result<bool> {
    install::ensure(install::POSTGRES);
    heavy(root, "postgres", 15, &[])
}

fn browser(root: &Path) -> Result<bool> {
    install::ensure(install::BROWSER);
    install::ensure(install::VULKAN);
    heavy(root, "browser", 20, &[("GANGLINE_AXE_JS", axe(root)?)])
}

/// The accessibility rules that the browser tests run in each page. They are for tests only and ship nowhere.
const AXE_CORE: &str = "4.14.1";

fn axe(root: &Path) -> Result<PathBuf> {
    let dir = workspace::cache()?.join(format!("tools/axe-core-{AXE_CORE}"));
    let script = dir.join("node_modules/axe-core/axe.min.js");
    let _alone = workspace::one_at_a_time()?;
    if !script.is_file() {
        let npm = find("npm").context("there is no npm to fetch axe-core with; install npm")?;
        fs::create_dir_all(&dir).with_context(|| format!("cannot make folder {}", dir.display()))?;
        let mut command = program(npm, root);
        command.args([
            "install",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--no-package-lock",
            "--prefix",
        ]);
        command.arg(&dir).arg(format!("axe-core@{AXE_CORE}"));
        if !succeeds(command, 10)? || !script.is_file() {
            bail!("npm did not bring {}", script.display());
        }
    }
    Ok(script)
}

/// The steps of the demo, in the order in which they run.
const STEPS: [&str; 13] = [
    "serve",
    "join",
    "inventory",
    "prove",
    "beat",
    "snapshot",
    "verify",
    "explore",
    "rent",
    "job",
    "receipt",
    "attack",
    "restart",
];

/// The links that the report must have, each held.
const LINKS: [&str; 14] = [
    "explorer_leak",
    "enumeration",
    "shared_token",
    "header_owner",
    "stolen_request",
    "injection",
    "metadata_status",
    "surge",
    "breadth",
    "containment",
    "restore",
    "heartbeats_during_freeze",
    "revocation",
    "log_tamper",
];

fn drill(root: &Path) -> Result<bool> {
    if !programs(root)? {
        return Ok(false);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let report = std::env::temp_dir().join(format!("gangline-drill-{}.json", std::process::id()));
    let mut command = program(target.join("debug/gangline"), root);
    command.args(["drill", "--local", "--report"]).arg(&report);
    let held = succeeds(command, 15)?;
    let text = fs::read_to_string(&report).context("the drill wrote no report")?;
    let _ = fs::remove_file(&report);
    let value: Value = serde_json::from_str(&text).context("the drill's report is no JSON")?;
    let rows = value["rows"].as_array().context("the drill's report has no rows")?;
    let all = LINKS.iter().all(|name| rows.iter().any(|row| row["name"] == *name && row["ok"] == true));
    Ok(held && all && rows.len() == LINKS.len())
}

fn demo(root: &Path) -> Result<bool> {
    for packages in [install::VULKAN, install::ISOLATION, install::RAY] {
        install::ensure(packages);
    }
    let ray = ray::ensure()?;
    if !programs(root)? {
        return Ok(false);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let report = std::env::temp_dir().join(format!("gangline-demo-{}.json", std::process::id()));
    let mut command = program(target.join("debug/gangline"), root);
    command.arg("demo").arg("--report").arg(&report).env("GANGLINE_RAY_HOME", ray);
    let succeeded = succeeds(command, 15)?;
    let text = fs::read_to_string(&report)
        .with_context(|| format!("the demo left no report {}", report.display()))?;
    let _ = fs::remove_file(&report);
    let faults = faults(&text)?;
    for fault in &faults {
        println!("demo: {fault}");
    }
    Ok(succeeded && faults.is_empty())
}

/// What a report of the demo lacks: a step that is missing, out of place or failed, or the whole not held.
fn faults(report: &str) -> Result<Vec<String>> {
    let report: Value = serde_json::from_str(report).context("the demo's report is not JSON")?;
    let empty = Vec::new();
    let steps = report["steps"].as_array().unwrap_or(&empty);
    let names: Vec<&str> = steps.iter().map(|step| step["name"].as_str().unwrap_or("?")).collect();
    let mut faults = Vec::new();
    if names != STEPS {
        faults.push(format!("the steps are {}, not {}", names.join(", "), STEPS.join(", ")));
    }
    for step in steps {
        let name = step["name"].as_str().unwrap_or("?");
        if step["ok"] != true {
            faults.push(format!("step {name} failed: {}", step["evidence"]));
        }
        if !step["seconds"].is_number() || step["evidence"].as_str().is_some_and(str::is_empty) {
            faults.push(format!("step {name} says nothing of its seconds or evidence"));
        }
    }
    if report["ok"] != true {
        faults.push("the report as a whole is not ok".into());
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, tests: &[&str]) -> Package {
        Package {
            name: name.into(),
            tests: tests.iter().map(|t| t.to_string()).collect(),
            ..Package::default()
        }
    }

    #[test]
    fn every_test_target_is_in_exactly_one_group() {
        let packages = [
            package("gangline-worker", &["isolation_podman", "isolation", "join"]),
            package("gangline", &["browser", "bad_input"]),
            package("gangline-store", &["join", "conformance"]),
        ];
        assert_eq!(fast_targets(&packages).unwrap(), ["bad_input", "conformance", "join"]);
        assert_eq!(heavy_targets(&packages, "isolation").unwrap(), ["isolation_podman", "isolation"]);
        assert_eq!(heavy_targets(&packages, "browser").unwrap(), ["browser"]);
    }

    #[test]
    fn a_group_that_would_test_nothing_fails() {
        let error = heavy_targets(&[package("gangline", &["join"])], "browser").unwrap_err();
        assert!(error.to_string().contains("would test nothing"), "{error}");
    }

    #[test]
    fn a_heavy_name_that_another_package_shares_is_refused() {
        let packages = [package("gangline", &["browser"]), package("gangline-pages", &["browser"])];
        assert!(fast_targets(&packages).unwrap_err().to_string().contains("rename one"));
    }

    #[test]
    fn every_heavy_target_has_a_group() {
        for entry in HEAVY {
            assert!(GROUPS.iter().any(|group| group.name == entry.group), "{}", entry.group);
        }
    }

    #[test]
    fn a_report_holds_only_if_every_step_does() {
        let step = |name: &str| json!({"name": name, "ok": true, "seconds": 1.5, "evidence": "seen"});
        let mut report = json!({"steps": STEPS.map(step), "ok": true});
        assert!(faults(&report.to_string()).unwrap().is_empty());
        report["steps"][3]["ok"] = false.into();
        assert_eq!(faults(&report.to_string()).unwrap(), ["step prove failed: \"seen\""]);
        report["steps"][3] = step("prove");
        report["ok"] = "true".into();
        assert_eq!(faults(&report.to_string()).unwrap().len(), 1);
        report["steps"].as_array_mut().unwrap().pop();
        assert_eq!(faults(&report.to_string()).unwrap().len(), 2, "a step left out is a fault");
        assert!(!faults("{}").unwrap().is_empty());
        assert!(faults("").is_err());
    }
}
