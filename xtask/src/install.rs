//! System packages: says what is missing, installs it where this program may, and otherwise says exactly
//! what to install and goes on with what is there.

use crate::process::find;
use std::path::Path;
use std::process::{Command, Stdio};

/// A Debian or Ubuntu package, why it is wanted, and how to tell that its work is already done by something.
pub struct SystemPackage {
    name: &'static str,
    why: &'static str,
    present: fn() -> bool,
}

/// What the binary is built with beside Rust and its linker.
pub const BUILD: &[SystemPackage] = &[SystemPackage {
    name: "make",
    why: "builds the allocator of memory",
    present: || find("make").is_some(),
}];

/// A Vulkan loader, and a driver (lavapipe, in software) where the machine has none.
pub const VULKAN: &[SystemPackage] = &[
    SystemPackage { name: "libvulkan1", why: "finds GPUs", present: has_vulkan_loader },
    SystemPackage {
        name: "mesa-vulkan-drivers",
        why: "a GPU in software where there is no other",
        present: has_vulkan_driver,
    },
];

/// What the Ray environment is made with.
pub const RAY: &[SystemPackage] =
    &[SystemPackage { name: "python3-venv", why: "makes the Ray environment", present: has_python_venv }];

/// What isolates a renter's program.
pub const ISOLATION: &[SystemPackage] = &[
    SystemPackage { name: "podman", why: "runs a renter's container", present: || find("podman").is_some() },
    SystemPackage {
        name: "runc",
        why: "starts the container's processes",
        present: || find("runc").is_some() || find("crun").is_some(),
    },
    SystemPackage {
        name: "uidmap",
        why: "lets a container have users of its own",
        present: || find("newuidmap").is_some(),
    },
    SystemPackage {
        name: "bubblewrap",
        why: "isolates where containers cannot",
        present: || find("bwrap").is_some(),
    },
];

/// Solvers that prove the policy's bounds: this one, and a second version of it from an environment of its own.
pub const SOLVER: &[SystemPackage] = &[
    SystemPackage { name: "cvc5", why: "proves what the policies allow", present: || find("cvc5").is_some() },
    SystemPackage {
        name: "python3-venv",
        why: "makes the second solver's environment",
        present: has_python_venv,
    },
];

/// What makes an environment of Python programs for tests.
pub const PYTHON: &[SystemPackage] = &[SystemPackage {
    name: "python3-venv",
    why: "makes the scanners' environment",
    present: has_python_venv,
}];

/// What builds the fuzzer's own library.
pub const FUZZER: &[SystemPackage] = &[SystemPackage {
    name: "g++",
    why: "builds libFuzzer",
    present: || find("g++").is_some() || find("clang++").is_some(),
}];

/// A real ACME authority for tests, and the names it looks up.
pub const ACME: &[SystemPackage] = &[SystemPackage {
    name: "pebble",
    why: "signs certificates for tests",
    present: || find("pebble").is_some() && find("pebble-challtestsrv").is_some(),
}];

/// What the bench is compared with; DuckDB comes into an environment of its own.
pub const PEERS: &[SystemPackage] = &[
    SystemPackage {
        name: "redis-server",
        why: "keeps signs of life in memory, as others do",
        present: || find("redis-server").is_some(),
    },
    SystemPackage {
        name: "etcd-server",
        why: "keeps them on disk, as others do",
        present: || find("etcd").is_some(),
    },
    SystemPackage { name: "python3-venv", why: "makes DuckDB's environment", present: has_python_venv },
];

/// What makes clocks wrong and disks slow under processes of ours.
pub const FAULTS: &[SystemPackage] = &[
    SystemPackage {
        name: "libfaketime",
        why: "steps a clock",
        present: || {
            ["x86_64", "aarch64"].iter().any(|arch| {
                Path::new(&format!("/usr/lib/{arch}-linux-gnu/faketime/libfaketime.so.1")).is_file()
            })
        },
    },
    SystemPackage { name: "strace", why: "slows a disk", present: || find("strace").is_some() },
];

/// What runs the identity provider of the sign-in tests.
pub const NODE: &[SystemPackage] = &[
    SystemPackage { name: "nodejs", why: "runs the identity provider", present: || find("node").is_some() },
    SystemPackage { name: "npm", why: "fetches the identity provider", present: || find("npm").is_some() },
];

/// A database for several servers. Tests start their own; the one that the package starts is not used.
pub const POSTGRES: &[SystemPackage] = &[SystemPackage {
    name: "postgresql",
    why: "holds the books of several servers",
    present: || Path::new("/usr/lib/postgresql").is_dir() || find("initdb").is_some(),
}];

/// A real browser and its driver.
pub const BROWSER: &[SystemPackage] = &[
    SystemPackage { name: "chromium", why: "shows the pages", present: || find("chromium").is_some() },
    SystemPackage {
        name: "chromium-driver",
        why: "drives the browser",
        present: || find("chromedriver").is_some(),
    },
    SystemPackage { name: "npm", why: "fetches the accessibility rules", present: || find("npm").is_some() },
];

fn has_vulkan_loader() -> bool {
    let dirs =
        ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"];
    let more = ["/usr/lib/aarch64-linux-gnu", "/lib/aarch64-linux-gnu"];
    cfg!(not(target_os = "linux"))
        || dirs.iter().chain(&more).any(|dir| Path::new(dir).join("libvulkan.so.1").exists())
}

fn has_vulkan_driver() -> bool {
    let dirs = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
    let named = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].iter().any(|name| std::env::var_os(name).is_some());
    let lists =
        |dir: &&str| std::fs::read_dir(dir).is_ok_and(|mut entries| entries.any(|entry| entry.is_ok()));
    cfg!(not(target_os = "linux")) || named || dirs.iter().any(lists)
}

fn has_python_venv() -> bool {
    crate::ray::python()
        .is_some_and(|python| quiet(Command::new(python).args(["-c", "import ensurepip, venv"])))
}

fn quiet(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// Makes sure of `wanted` as far as this program may. It never stops anything: whoever needs what could not
/// be had says so itself, more exactly than could be said here.
pub fn ensure(wanted: &[SystemPackage]) {
    if lacking(wanted).is_empty() {
        return;
    }
    // Somebody beside us may be installing the same; without the lock it is tried all the same.
    let _alone = crate::workspace::one_at_a_time();
    let mut missing = lacking(wanted);
    if missing.is_empty() {
        return;
    }
    let names: Vec<&str> = missing.iter().map(|p| p.name).collect();
    let debian = find("apt-get").is_some() && find("dpkg-query").is_some();
    if debian && is_root() {
        println!("Installing {} (a minute or two)", names.join(", "));
        // A list that could not be renewed may still name what is wanted, and one package that cannot be
        // installed must not keep the others away.
        apt(&["update"]);
        if !install(&names) && names.len() > 1 {
            for name in &names {
                install(&[name]);
            }
        }
        missing.retain(|package| !installed(package.name));
        if missing.is_empty() {
            return;
        }
    }
    eprint!("{}", advice(&missing, debian));
}

/// Those whose work nothing does yet.
fn lacking(wanted: &[SystemPackage]) -> Vec<&SystemPackage> {
    wanted.iter().filter(|p| !(p.present)() && !installed(p.name)).collect()
}

/// What a person is told to install, and that we go on without it.
fn advice(missing: &[&SystemPackage], debian: bool) -> String {
    let mut text = String::from("Missing here; what needs it will say so:\n");
    for package in missing {
        text.push_str(&format!("  {:<20} {}\n", package.name, package.why));
    }
    let names: Vec<&str> = missing.iter().map(|p| p.name).collect();
    if debian {
        text.push_str(&format!(
            "To install: sudo apt-get install --no-install-recommends {}\n",
            names.join(" ")
        ));
    } else {
        text.push_str("These are Debian's names; install what your system calls them.\n");
    }
    text
}

fn installed(name: &str) -> bool {
    let query = Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status}", name])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    query.is_ok_and(|output| output.status.success() && output.stdout == b"installed")
}

fn install(names: &[&str]) -> bool {
    apt(&[&["install", "-y", "--no-install-recommends"], names].concat())
}

fn apt(args: &[&str]) -> bool {
    let mut command = Command::new("apt-get");
    command
        .args(["-q", "-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Use-Pty=0"])
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null());
    // Hundreds of lines that nobody needs, unless it fails.
    let output = command.output();
    let done = output.as_ref().is_ok_and(|output| output.status.success());
    if !done {
        eprintln!("`{}` failed", crate::process::shown(&command));
        match output {
            Ok(output) => {
                eprint!(
                    "{}{}",
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr)
                );
            }
            Err(error) => eprintln!("{error}"),
        }
    }
    done
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_names_every_package_and_the_command() {
        let wanted: Vec<&SystemPackage> = ISOLATION.iter().collect();
        let text = advice(&wanted, true);
        for package in ISOLATION {
            assert!(text.contains(package.name) && text.contains(package.why), "{text}");
        }
        assert!(text.contains("apt-get install --no-install-recommends podman runc uidmap bubblewrap"));
        assert!(!advice(&wanted, false).contains("apt-get"));
    }

    #[test]
    fn what_is_not_installed_is_not_said_to_be() {
        assert!(!installed("gangline-no-such-package"));
    }
}
