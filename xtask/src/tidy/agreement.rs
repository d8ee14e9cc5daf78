//! What is said in two places agrees: generated pages with the code, numbers in scripts with the manifest.

use super::Finding;
use crate::codegen;
use crate::tree::Tree;

pub(crate) fn findings(tree: &Tree) -> Vec<Finding> {
    let stale = codegen::pages()
        .into_iter()
        .filter(|(path, page)| tree.text(path) != Some(page));
    let mut found: Vec<Finding> = stale
        .map(|(path, _)| Finding::in_file(path, "is stale: run `cargo xtask codegen`"))
        .collect();
    found.extend(rust_version(tree));
    found
}

/// `scripts/setup` must ask for the Rust that the manifest asks for.
fn rust_version(tree: &Tree) -> Option<Finding> {
    let manifest = value_after(tree.text("Cargo.toml")?, "rust-version = ")?;
    let setup = value_after(tree.text("scripts/setup")?, "rust_wanted=");
    let message = format!("rust_wanted is {setup:?}, but Cargo.toml says {manifest}");
    (setup != Some(manifest)).then(|| Finding::in_file("scripts/setup", message))
}

/// The word after a key at the start of a line, without its quotes.
fn value_after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(rest.split_whitespace().next()?.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_page_is_found() {
        let (path, page) = codegen::pages().remove(0);
        assert!(findings(&Tree::of(&[(path, &page)])).is_empty());
        assert_eq!(findings(&Tree::of(&[(path, "old")])).len(), 1);
    }

    #[test]
    fn two_versions_of_rust_are_found() {
        let manifest = ("Cargo.toml", "rust-version = \"1.89\"\n");
        assert!(
            rust_version(&Tree::of(&[
                manifest,
                ("scripts/setup", "rust_wanted=1.89 # why\n")
            ]))
            .is_none()
        );
        assert!(
            rust_version(&Tree::of(&[
                manifest,
                ("scripts/setup", "rust_wanted=1.85\n")
            ]))
            .is_some()
        );
    }
}
