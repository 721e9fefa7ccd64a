//! What ties the repository to somebody's machine or network: absolute paths of a home or a checkout, and
//! hosts that what we ship would talk to.

use super::Finding;
use super::source::Source;
use super::tree::Tree;

/// This file holds what it looks for; the lock file is Cargo's, and `deny` checks its sources.
fn excepted(path: &str) -> bool {
    path == "xtask/src/tidy/places.rs" || path == "Cargo.lock" || path == "fuzz/Cargo.lock"
}

/// Refuses paths that exist on somebody's machine only.
pub fn machine_paths(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| !excepted(path)) {
        for (number, line) in text.lines().enumerate() {
            if let Some(place) = machine_path(line, &tree.private_places) {
                let cure = "make it relative, or take it from the environment";
                let problem = format!("names {place}, a place on somebody's machine");
                findings.push(Finding::new(path, number + 1, problem, cure));
            }
        }
    }
    findings
}

/// Homes that we make inside a sandbox, where they are the same on every machine.
const SANDBOX_HOMES: [&str; 1] = ["/home/ray"];

fn machine_path(line: &str, private: &[String]) -> Option<String> {
    let part_of_longer = |at: usize| {
        line[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || "._-~})>*/".contains(c))
    };
    // A home, with somebody's name in it; the administrator's, with something in it.
    for start in ["/home/", "/Users/", "/root/"] {
        for (at, _) in line.match_indices(start) {
            let name: String = line[at + start.len()..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || "._-".contains(*c))
                .collect();
            let place = format!("{start}{name}");
            if !part_of_longer(at) && !name.is_empty() && !SANDBOX_HOMES.contains(&place.as_str()) {
                return Some(place);
            }
        }
    }
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-');
    private.iter().find_map(|place| {
        let mut hits = line.match_indices(place.as_str());
        hits.any(|(at, hit)| !part_of_longer(at) && ends(&line[at + hit.len()..])).then(|| place.clone())
    })
}

/// Hosts whose names are only names: they identify a format and are never asked for anything.
const NAMES_ONLY: &[&str] = &[
    "www.w3.org",
    "schemas.openid.net",
    "json-schema.org",
    "spec.openapis.org",
    "sqlite.org",
    "www.sqlite.org",
];

/// Refuses addresses of hosts that are not ours. What we ship talks to the operator's own server only, and
/// installs through each tool's own settings. Comments, documents and tables of data may cite; but no text names a mirror.
pub fn foreign_hosts(tree: &Tree) -> Vec<Finding> {
    let cure =
        "serve it ourselves, take the address as an argument, or use a reserved name such as example.org";
    let mut findings = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| !excepted(path)) {
        let rust = path.ends_with(".rs");
        let cites = [".md", ".txt", ".tsv", ".csv"].iter().any(|end| path.ends_with(end));
        let seen = if rust { Source::with_tests(text).with_strings } else { text.to_owned() };
        for (number, line) in seen.lines().enumerate() {
            for host in hosts(line) {
                let refused =
                    if cites { is_mirror(host) } else { !is_reserved(host) && !NAMES_ONLY.contains(&host) };
                if refused {
                    findings.push(Finding::new(path, number + 1, format!("names the host {host}"), cure));
                }
            }
        }
    }
    findings
}

/// Hosts in a line's addresses; a host that is filled in at run time (`{host}`) is nobody's.
fn hosts(line: &str) -> impl Iterator<Item = &str> {
    let starts = ["https://", "http://", "wss://", "ws://"];
    let found =
        starts.into_iter().flat_map(|start| line.match_indices(start).map(|(at, hit)| at + hit.len()));
    found.filter_map(|at| {
        let authority =
            line[at..].split(|c: char| !(c.is_alphanumeric() || "-._:[]@{}%".contains(c))).next()?;
        let host = authority.rsplit('@').next()?;
        let host = if host.starts_with('[') { host.split(']').next()? } else { host.split(':').next()? };
        let host = host.trim_start_matches('[').trim_end_matches('.');
        (!host.is_empty() && !host.contains(['{', '%'])).then_some(host)
    })
}

/// This machine, the networks of no one, and names that nobody can own (RFC 2606, 5737, 6761).
fn is_reserved(host: &str) -> bool {
    let ends = ["localhost", "example", "example.com", "example.net", "example.org", "test", "invalid"];
    ends.iter().any(|end| host == *end || host.strip_suffix(end).is_some_and(|rest| rest.ends_with('.')))
        || ["127.", "10.", "192.0.2.", "198.51.100.", "203.0.113.", "2001:db8:"].iter().any(|start| host.starts_with(start))
        || ["::1", "::", "0.0.0.0", "2001"].contains(&host)
        // A name without a dot is one inside a test's or a cluster's own network.
        || !host.contains(['.', ':'])
}

/// A host that packages come from: which one is a setting of whoever installs.
fn is_mirror(host: &str) -> bool {
    let first = host.split('.').next().unwrap_or_default();
    ["registry", "index", "mirror", "mirrors", "proxy", "packages", "artifactory", "nexus", "deb", "static"]
        .contains(&first)
        && !is_reserved(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_paths(line: &str, refused: bool) {
        let mut tree = Tree::of(&[("docs/a.md", line)]);
        tree.private_places = vec!["/srv/build/checkout".into()];
        assert_eq!(machine_paths(&tree).len(), usize::from(refused), "{line}");
    }

    #[test]
    fn places_on_a_machine_are_refused() {
        for refused in [
            "see /home/ada/x",
            "/home/rayleigh",
            "cd /root/x",
            "\"/Users/ada\"",
            "in /srv/build/checkout.",
            "(/srv/build/checkout/a)",
        ] {
            check_paths(refused, true);
        }
        for fine in [
            "~/x",
            "/home/",
            "HOME=/home/ray",
            "$ROOT/root/x",
            "crates/root/src",
            "/srv/build/checkouts",
            "/usr/bin/python3",
        ] {
            check_paths(fine, false);
        }
    }

    fn count(path: &str, text: &str) -> usize {
        foreign_hosts(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn what_ships_names_no_host() {
        let script = "<script src=\"https://cdn.somewhere.net/x.js\"></script>";
        assert_eq!(count("crates/pages/templates/a.html", script), 1);
        assert_eq!(count("crates/a/src/b.rs", "get(\"http://api.somewhere.net:80/x\")"), 1);
        assert_eq!(count("crates/a/src/b.rs", "/// As in https://www.rfc-editor.org/rfc/rfc9421\n"), 0);
        assert_eq!(count("deploy/x.sh", "# https://somewhere.net/x"), 1);
        for fine in [
            "<svg xmlns=\"http://www.w3.org/2000/svg\">",
            "http://127.0.0.1:80/x",
            "https://[::1]:80/",
            "https://gangline.example.org/x",
            "http://{address}/x",
            "https://user@localhost/",
        ] {
            assert_eq!(count("crates/pages/templates/a.html", fine), 0, "{fine}");
        }
    }

    #[test]
    fn documents_cite_but_name_no_mirror() {
        assert_eq!(count("README.md", "[RFC](https://www.rfc-editor.org/rfc/rfc9421)"), 0);
        assert_eq!(count("README.md", "--index-url https://registry.somewhere.net/simple"), 1);
        assert_eq!(count("xtask/a.txt", "--index-url https://mirror.somewhere.net/simple"), 1);
    }
}
