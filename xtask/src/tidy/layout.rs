//! Files: a module is a noun of the field in a file of its own name, and no file is a blob.

use super::Finding;
use crate::tree::Tree;

/// Names that say nothing about what a module holds.
const SAYS_NOTHING: [&str; 9] = [
    "common", "handler", "helper", "helpers", "manager", "misc", "shared", "util", "utils",
];

/// A larger file belongs beside the source, not in it.
const LARGEST_BYTES: u64 = 256 * 1024;

pub(crate) fn findings(tree: &Tree) -> Vec<Finding> {
    let large = tree
        .files
        .iter()
        .filter(|file| file.bytes > LARGEST_BYTES)
        .map(|file| {
            Finding::in_file(
                &file.path,
                format!("{} bytes: more than {LARGEST_BYTES}", file.bytes),
            )
        });
    let misnamed = tree.files.iter().filter_map(|file| misnamed(&file.path));
    large.chain(misnamed).collect()
}

fn misnamed(path: &str) -> Option<Finding> {
    let stem = path.strip_suffix(".rs")?;
    if stem.ends_with("/mod") {
        return Some(Finding::in_file(
            path,
            "name the file after its module: `foo.rs` beside `foo/`",
        ));
    }
    let vague = stem.split('/').find(|part| SAYS_NOTHING.contains(part))?;
    Some(Finding::in_file(
        path,
        format!("`{vague}` says nothing: name what it holds"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_nothing_are_found() {
        let bad = [
            "crates/a/src/foo/mod.rs",
            "crates/a/src/utils.rs",
            "crates/a/tests/it/common/dns.rs",
        ];
        for path in bad {
            assert_eq!(findings(&Tree::of(&[(path, "")])).len(), 1, "{path}");
        }
        assert!(findings(&Tree::of(&[("crates/a/src/module.rs", "")])).is_empty());
    }

    #[test]
    fn a_blob_is_found() {
        let blob = "x".repeat(256 * 1024 + 1);
        assert_eq!(findings(&Tree::of(&[("docs/picture.svg", &blob)])).len(), 1);
    }
}
