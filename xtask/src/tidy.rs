//! The rules of the house that matter enough to be tests. One file per family; each rule is a function from
//! the tree to findings, and each family shows on small bad examples that its rules do find something.
//!
//! A rule says what to do about it in its message. Taste is not held here, only what would rot the house:
//! arrows between crates, purity, the absence of `unsafe`, reasons for exceptions, and links that lead nowhere.

mod agreement;
mod floors;
mod layout;
mod links;
mod source;

use std::fmt;

use crate::tree::Tree;

/// A breach of a rule: where, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    path: String,
    /// 1-based; nothing when the file as a whole is meant.
    line: Option<usize>,
    message: String,
}

impl Finding {
    fn in_file(path: &str, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line: None,
            message: message.into(),
        }
    }

    fn at(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            line: Some(line),
            ..Self::in_file(path, message)
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.message),
            None => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

/// All breaches of all rules.
pub(crate) fn findings(tree: &Tree) -> anyhow::Result<Vec<Finding>> {
    let mut found = floors::findings(&floors::read_crates(&tree.root)?, tree);
    found.extend(source::findings(tree));
    found.extend(layout::findings(tree));
    found.extend(links::findings(tree));
    found.extend(agreement::findings(tree));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        Tree::read(&crate::tree::root()).unwrap()
    }

    fn assert_none(findings: Vec<Finding>) {
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(
            lines.is_empty(),
            "{} findings:\n{}",
            lines.len(),
            lines.join("\n")
        );
    }

    #[test]
    fn arrows_point_down_and_pure_crates_are_pure() {
        let tree = tree();
        assert_none(floors::findings(
            &floors::read_crates(&tree.root).unwrap(),
            &tree,
        ));
    }

    #[test]
    fn source_files_keep_the_rules() {
        assert_none(source::findings(&tree()));
    }

    #[test]
    fn files_lie_where_they_belong() {
        assert_none(layout::findings(&tree()));
    }

    #[test]
    fn links_and_paths_lead_somewhere() {
        assert_none(links::findings(&tree()));
    }

    #[test]
    fn what_is_said_twice_agrees() {
        assert_none(agreement::findings(&tree()));
    }
}
