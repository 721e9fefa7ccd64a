//! The bill of materials of the program: every crate that is built into it, in which version, from where, by which
//! checksum and under which licence, as CycloneDX 1.6 in JSON. All of it is Cargo's own word for this checkout.

use crate::{process::cargo, workspace};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

/// The program's package.
const PROGRAM: &str = "gangline";

/// `cargo xtask sbom [FILE]`
pub fn run(args: &[String]) -> Result<ExitCode> {
    let root = workspace::root();
    let text = serde_json::to_string_pretty(&made(&root)?)? + "\n";
    match args {
        [] => print!("{text}"),
        [file] => std::fs::write(file, text).with_context(|| format!("cannot write {file}"))?,
        [_, extra, ..] => bail!("unexpected argument `{extra}`"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The bill for this checkout on this kind of machine.
fn made(root: &Path) -> Result<Value> {
    let host = workspace::host(root)?;
    let mut command = cargo(root);
    command.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &host]);
    let output = command.output().context("cannot start `cargo metadata`")?;
    if !output.status.success() {
        bail!("`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata =
        serde_json::from_slice(&output.stdout).context("cannot read what `cargo metadata` printed")?;
    let lock = std::fs::read_to_string(root.join("Cargo.lock")).context("cannot read Cargo.lock")?;
    of(&metadata, &lock)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// SHA-256 of each crate as its registry has it, by name and version.
fn checksums(lock: &str) -> Result<BTreeMap<(String, String), String>> {
    let lock: toml::Table = lock.parse().context("Cargo.lock cannot be read")?;
    let packages =
        lock.get("package").and_then(|all| all.as_array()).context("Cargo.lock has no packages")?;
    let text = |package: &toml::Value, name: &str| package.get(name)?.as_str().map(str::to_owned);
    Ok(packages
        .iter()
        .filter_map(|p| Some(((text(p, "name")?, text(p, "version")?), text(p, "checksum")?)))
        .collect())
}

/// The packages that the program is built from, with what each is built from: what only tests see is left out.
fn built_in(metadata: &Value) -> Result<BTreeMap<&str, BTreeSet<&str>>> {
    let nodes: BTreeMap<&str, &Value> = list(&metadata["resolve"]["nodes"])
        .iter()
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let program = list(&metadata["packages"]).iter().find(|package| package["name"] == PROGRAM);
    let program =
        program.and_then(|package| package["id"].as_str()).context("there is no package of the program")?;
    let (mut found, mut next) = (BTreeMap::new(), vec![program]);
    while let Some(id) = next.pop() {
        if found.contains_key(id) {
            continue;
        }
        let node = nodes.get(id).with_context(|| format!("Cargo does not say what {id} is built from"))?;
        let needs: BTreeSet<&str> = list(&node["deps"])
            .iter()
            .filter(|dep| list(&dep["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev"))
            .filter_map(|dep| dep["pkg"].as_str())
            .collect();
        next.extend(&needs);
        found.insert(id, needs);
    }
    Ok(found)
}

fn of(metadata: &Value, lock: &str) -> Result<Value> {
    let checksums = checksums(lock)?;
    let built_in = built_in(metadata)?;
    let packages: BTreeMap<&str, &Value> =
        list(&metadata["packages"]).iter().filter_map(|p| Some((p["id"].as_str()?, p))).collect();
    let reference = |id: &str| -> Result<String> {
        let package = packages.get(id).with_context(|| format!("Cargo does not describe {id}"))?;
        let name = package["name"].as_str().context("a package without a name")?;
        Ok(format!(
            "pkg:cargo/{name}@{}",
            package["version"].as_str().context("a package without a version")?
        ))
    };
    let (mut components, mut dependencies, mut program) = (Vec::new(), Vec::new(), Value::Null);
    for (id, needs) in &built_in {
        let (purl, package) = (reference(id)?, packages[id]);
        let needs = needs.iter().map(|need| reference(need)).collect::<Result<BTreeSet<_>>>()?;
        dependencies.push(json!({"ref": purl, "dependsOn": needs}));
        let name = package["name"].as_str().unwrap_or_default();
        let version = package["version"].as_str().unwrap_or_default();
        let licence =
            package["license"].as_str().with_context(|| format!("{name} {version} states no licence"))?;
        let mut component = json!({
            "type": if name == PROGRAM { "application" } else { "library" },
            "bom-ref": purl,
            "name": name,
            "version": version,
            "purl": purl,
            "licenses": [{"expression": licence.replace('/', " OR ")}],
        });
        if let Some(source) = package["source"].as_str() {
            let checksum = checksums.get(&(name.to_owned(), version.to_owned()));
            let checksum =
                checksum.with_context(|| format!("Cargo.lock has no checksum of {name} {version}"))?;
            component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
            let registry = json!({"type": "distribution", "url": source.trim_start_matches("registry+")});
            component["externalReferences"] = json!([registry]);
        }
        if name == PROGRAM { program = component } else { components.push(component) }
    }
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": program},
        "components": components,
        "dependencies": dependencies,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crate_of_the_program_is_in_the_bill_with_licence_and_checksum() {
        let bill = made(&workspace::root()).unwrap();
        let components = list(&bill["components"]);
        let names: BTreeSet<&str> = components.iter().filter_map(|c| c["name"].as_str()).collect();
        for there in ["gangline-guard", "gangline-types", "ed25519-dalek", "rustls", "sqlx-postgres", "wgpu"]
        {
            assert!(names.contains(there), "{there} is missing");
        }
        // What only tests see is not built into the program, and xtask neither.
        for absent in ["fantoccini", "proptest", "cedar-policy-symcc", "xtask", "openssl-sys"] {
            assert!(!names.contains(absent), "{absent} is not built into the program");
        }
        let refs: BTreeSet<&str> = components
            .iter()
            .chain([&bill["metadata"]["component"]])
            .filter_map(|component| component["bom-ref"].as_str())
            .collect();
        assert_eq!(refs.len(), components.len() + 1, "two are called alike");
        for component in components.iter().filter(|c| !c["name"].as_str().unwrap().starts_with("gangline")) {
            assert_eq!(component["hashes"][0]["content"].as_str().map(str::len), Some(64), "{component}");
            assert!(component["licenses"][0]["expression"].is_string(), "{component}");
        }
        for dependency in list(&bill["dependencies"]) {
            let all = list(&dependency["dependsOn"]).iter().chain([&dependency["ref"]]);
            for name in all.filter_map(Value::as_str) {
                assert!(refs.contains(name), "{name} is needed and not described");
            }
        }
        assert_eq!(bill["metadata"]["component"]["name"], PROGRAM);
    }

    #[test]
    fn what_cannot_be_accounted_for_is_an_error() {
        let package = |id: &str, name: &str, licence: Value, source: Value| json!({"id": id, "name": name, "version": "1.0.0", "license": licence, "source": source});
        let metadata = |licence: Value| {
            json!({
                "packages": [
                    package("a", PROGRAM, "Apache-2.0".into(), Value::Null),
                    package("b", "b", licence, "registry+https://registry.example".into()),
                ],
                "resolve": {"nodes": [
                    {"id": "a", "deps": [{"pkg": "b", "dep_kinds": [{"kind": null}]}]},
                    {"id": "b", "deps": []},
                ]},
            })
        };
        let lock = "[[package]]\nname = \"b\"\nversion = \"1.0.0\"\nchecksum = \"00\"\n";
        assert!(of(&metadata("MIT/Apache-2.0".into()), lock).is_ok());
        assert!(of(&metadata(Value::Null), lock).is_err(), "a crate without a licence");
        assert!(of(&metadata("MIT".into()), "package = []").is_err(), "a crate without a checksum");
    }
}
