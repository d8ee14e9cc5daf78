//! Crates: arrows point down the floors only, pure crates stay pure, each crate keeps the shared lints.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::Finding;
use crate::tree::Tree;

/// The floor of each crate: one may name only what lies on a lower floor.
const FLOORS: [(&str, u8); 12] = [
    ("selvedge-model", 0),
    ("selvedge-feed", 1),
    ("selvedge-wire", 1),
    ("selvedge-resilience", 1),
    ("selvedge-scenario", 1),
    ("selvedge-sim", 2),
    ("selvedge-telemetry", 2),
    ("selvedge-proxy", 3),
    ("selvedge-node", 3),
    ("selvedge-control-plane", 3),
    ("selvedge-bench", 3),
    ("selvedge-cli", 4),
];

/// Crates that perform no IO and read no clock: without std, so that the compiler holds it.
const PURE: [&str; 6] = [
    "selvedge-model",
    "selvedge-feed",
    "selvedge-wire",
    "selvedge-resilience",
    "selvedge-scenario",
    "selvedge-sim",
];

/// What a pure crate may depend on beside pure crates: nothing that does IO. `hashbrown` is what
/// std's own maps are, and `regex` matches paths; both are no_std as we take them.
const PURE_MAY_NAME: [&str; 8] = [
    "bytes",
    "hashbrown",
    "httparse",
    "libm",
    "memchr",
    "prost",
    "regex",
    "thiserror",
];

/// A crate of the workspace as its manifest tells.
#[derive(Debug, Default)]
pub(crate) struct Crate {
    name: String,
    /// Its manifest, relative to the root.
    manifest: String,
    /// Root files of its library and binaries, relative to the root.
    roots: Vec<String>,
    /// Names of what it depends on in any way.
    names: Vec<String>,
    /// Names of what its shipped code depends on: no tests, no build script.
    links: Vec<String>,
}

/// Asks cargo for the workspace's crates. Needs no network and no lock file.
pub(crate) fn read_crates(root: &Path) -> anyhow::Result<Vec<Crate>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let crates: Option<Vec<Crate>> = array(&metadata["packages"])
        .map(|package| read_crate(root, package))
        .collect();
    crates.context("cargo metadata has another form than expected")
}

fn read_crate(root: &Path, package: &Value) -> Option<Crate> {
    let relative = |path: &Value| {
        let path = Path::new(path.as_str()?).strip_prefix(root).ok()?;
        Some(path.to_string_lossy().into_owned())
    };
    let is_shipped = |target: &&Value| {
        array(&target["kind"])
            .any(|kind| kind.as_str() == Some("lib") || kind.as_str() == Some("bin"))
    };
    let name_of = |dependency: &Value| Some(dependency["name"].as_str()?.to_owned());
    let links = array(&package["dependencies"]).filter(|dependency| dependency["kind"].is_null());
    Some(Crate {
        name: package["name"].as_str()?.to_owned(),
        manifest: relative(&package["manifest_path"])?,
        roots: array(&package["targets"])
            .filter(is_shipped)
            .map(|target| relative(&target["src_path"]))
            .collect::<Option<_>>()?,
        names: array(&package["dependencies"])
            .map(name_of)
            .collect::<Option<_>>()?,
        links: links.map(name_of).collect::<Option<_>>()?,
    })
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub(crate) fn findings(crates: &[Crate], tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for this in crates {
        found.extend(arrows(this));
        found.extend(lints(this, tree));
        if PURE.contains(&this.name.as_str()) {
            found.extend(impurities(this, tree));
        }
        found.extend(missing_attribute(this, tree, "#![forbid(unsafe_code)]"));
    }
    found
}

fn floor(name: &str) -> Option<u8> {
    FLOORS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, floor)| *floor)
}

fn arrows(this: &Crate) -> Vec<Finding> {
    if this.name == "xtask" {
        return Vec::new(); // a tool beside the house: nothing can depend on a binary
    }
    let Some(own) = floor(&this.name) else {
        return vec![Finding::in_file(
            &this.manifest,
            "this crate has no floor in xtask/src/tidy/floors.rs",
        )];
    };
    let upwards = |name: &&String| floor(name).is_some_and(|other| other >= own);
    let tell = |name: &String| {
        let message = format!(
            "{} (floor {own}) names {name}, which lies on no lower floor",
            this.name
        );
        Finding::in_file(&this.manifest, message)
    };
    this.names.iter().filter(upwards).map(tell).collect()
}

fn lints(this: &Crate, tree: &Tree) -> Option<Finding> {
    let manifest = tree.text(&this.manifest).unwrap_or_default();
    let inherits = manifest.contains("[lints]\nworkspace = true");
    (!inherits).then(|| Finding::in_file(&this.manifest, "add `[lints]` with `workspace = true`"))
}

fn impurities(this: &Crate, tree: &Tree) -> Vec<Finding> {
    let pure = |name: &str| PURE_MAY_NAME.contains(&name) || PURE.contains(&name);
    let tell = |name: &String| {
        let message = format!("{} is pure and must not depend on {name}", this.name);
        Finding::in_file(&this.manifest, message)
    };
    let mut found: Vec<Finding> = this
        .links
        .iter()
        .filter(|name| !pure(name))
        .map(tell)
        .collect();
    found.extend(missing_attribute(this, tree, "#![no_std]"));
    found
}

fn missing_attribute(this: &Crate, tree: &Tree, attribute: &str) -> Vec<Finding> {
    let lacks = |root: &&String| {
        let text = tree.text(root).unwrap_or_default();
        !text.lines().any(|line| line == attribute)
    };
    let tell =
        |root: &String| Finding::in_file(root, format!("the crate's root lacks `{attribute}`"));
    this.roots.iter().filter(lacks).map(tell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, names: &[&str], root: &str) -> Vec<String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let tree = Tree::of(&[
            ("Cargo.toml", "[lints]\nworkspace = true\n"),
            ("lib.rs", root),
        ]);
        let this = Crate {
            name: name.to_owned(),
            manifest: "Cargo.toml".to_owned(),
            roots: vec!["lib.rs".to_owned()],
            links: names.clone(),
            names,
        };
        findings(&[this], &tree)
            .into_iter()
            .map(|finding| finding.message)
            .collect()
    }

    #[test]
    fn an_arrow_sideways_or_upwards_is_found() {
        let root = "#![forbid(unsafe_code)]\n";
        assert!(check("selvedge-proxy", &["selvedge-feed", "tokio"], root).is_empty());
        assert_eq!(check("selvedge-proxy", &["selvedge-node"], root).len(), 1);
        assert_eq!(
            check("selvedge-telemetry", &["selvedge-cli"], root).len(),
            1
        );
        assert_eq!(check("selvedge-surprise", &[], root).len(), 1);
    }

    #[test]
    fn impurity_is_found() {
        let pure = "#![no_std]\n#![forbid(unsafe_code)]\n";
        assert!(check("selvedge-feed", &["selvedge-model", "prost"], pure).is_empty());
        assert_eq!(check("selvedge-feed", &["tokio"], pure).len(), 1);
        assert_eq!(
            check("selvedge-feed", &[], "#![forbid(unsafe_code)]\n").len(),
            1
        );
    }

    #[test]
    fn a_crate_that_does_not_forbid_unsafe_is_found() {
        assert_eq!(check("selvedge-node", &[], "").len(), 1);
    }

    #[test]
    fn a_manifest_without_the_shared_lints_is_found() {
        let tree = Tree::of(&[("Cargo.toml", "[package]\n")]);
        let this = Crate {
            manifest: "Cargo.toml".to_owned(),
            ..Crate::default()
        };
        assert!(lints(&this, &tree).is_some());
    }
}
