//! Words about the tree: links of pages lead to something, and so do paths named in pages and comments.
//!
//! A path is a word that begins with a folder of the root. What lies on the web is not asked for: a test must
//! not depend on it.

use super::Finding;
use crate::tree::Tree;

/// Source files whose comments may name paths.
const COMMENTED: [(&str, &str); 6] = [
    (".rs", "//"),
    (".c", "*"),
    (".h", "*"),
    ("Makefile", "#"),
    (".toml", "#"),
    ("scripts/setup", "#"),
];

pub(crate) fn findings(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, text) in tree.texts(".md") {
        for (line, words) in prose(text) {
            let dead_links = links(words).filter(|link| !leads_somewhere(tree, path, link));
            found.extend(
                dead_links.map(|link| Finding::at(path, line, format!("dead link: {link}"))),
            );
            found.extend(dead_paths(tree, words).map(|dead| Finding::at(path, line, dead)));
        }
    }
    for (ending, mark) in COMMENTED {
        for (path, text) in tree
            .texts(ending)
            .filter(|(path, _)| !path.starts_with("xtask/src/tidy"))
        {
            let comments = text
                .lines()
                .enumerate()
                .filter(|(_, line)| line.trim_start().starts_with(mark));
            found.extend(comments.flat_map(|(index, line)| {
                dead_paths(tree, line).map(move |dead| Finding::at(path, index + 1, dead))
            }));
        }
    }
    found
}

/// The lines of a page outside its fenced blocks, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((index + 1, line))
    })
}

/// The targets of `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
}

fn leads_somewhere(tree: &Tree, page: &str, link: &str) -> bool {
    if link.starts_with("https://") || link.starts_with("http://") {
        return true;
    }
    let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
    let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
    let target = match target {
        "" => Some(page.to_owned()),
        target => join(folder, target),
    };
    let Some(target) = target else { return false };
    let anchored = || {
        tree.text(&target)
            .is_some_and(|text| headings(text).any(|heading| heading == anchor))
    };
    tree.has(&target) && (anchor.is_empty() || anchored())
}

/// A relative link from a folder, as a path from the root; nothing when it leaves the tree.
fn join(folder: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The anchors of a page, by the rule that forges share: lower case, spaces to dashes, no other marks.
fn headings(text: &str) -> impl Iterator<Item = String> {
    prose(text)
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(_, line)| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title
                .chars()
                .filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_');
            kept.collect::<String>().replace(' ', "-")
        })
}

/// Complaints about paths that do not exist. Of a pattern such as `docs/decisions/NNNN-*.md` the folder
/// must exist.
fn dead_paths<'a>(tree: &'a Tree, line: &'a str) -> impl Iterator<Item = String> + 'a {
    let words = line.split(|c: char| c.is_whitespace() || "`\"'()[]|,;:".contains(c));
    let paths = words.map(|word| word.trim_end_matches('.'));
    paths
        .filter(|path| begins_in_root(tree, path))
        .filter(|path| !tree.has(without_pattern(path)))
        .map(|path| format!("no such path: {path}"))
}

fn without_pattern(path: &str) -> &str {
    match path.find(['*', '<', '{']) {
        Some(start) => path[..start]
            .rsplit_once('/')
            .map_or("", |(folder, _)| folder),
        None => path,
    }
}

/// Whether the first part of a path is a folder of the root.
fn begins_in_root(tree: &Tree, path: &str) -> bool {
    let Some((first, _)) = path.split_once('/') else {
        return false;
    };
    let is_folder = |path: &str| {
        path.strip_prefix(first)
            .is_some_and(|rest| rest.starts_with('/'))
    };
    !first.is_empty() && tree.files.iter().any(|file| is_folder(&file.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(page: &str) -> Vec<String> {
        let other = "# The other page\n\n## A part: two\n";
        let tree = Tree::of(&[
            ("docs/a.md", page),
            ("docs/b.md", other),
            ("crates/x/src/lib.rs", ""),
        ]);
        findings(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn links_that_lead_somewhere_pass() {
        let good = "[b](b.md) [up](../crates/x) [part](b.md#a-part-two) [web](https://example.org) [here](#it)\n# It\n";
        assert!(check(good).is_empty(), "{:?}", check(good));
        assert!(check("```\n[nothing](c.md)\n```\n").is_empty());
    }

    #[test]
    fn dead_links_are_found() {
        for dead in [
            "[c](c.md)",
            "[part](b.md#three)",
            "[out](../../a.md)",
            "[root](/docs/b.md)",
        ] {
            assert_eq!(check(dead).len(), 1, "{dead}");
        }
    }

    #[test]
    fn dead_paths_are_found() {
        assert!(
            check("`crates/x/src/lib.rs`, `crates/*/src`, `docs/`, `tcp/udp` and `a / b`")
                .is_empty()
        );
        assert_eq!(check("`crates/y/src/lib.rs`").len(), 1);
        assert_eq!(check("see crates/y/src.").len(), 1);
        assert_eq!(check("`crates/y/*.rs`").len(), 1);
    }

    #[test]
    fn paths_in_comments_are_looked_at() {
        let tree = Tree::of(&[(
            "crates/x/src/lib.rs",
            "//! Read next: crates/x/src/gone.rs.\n",
        )]);
        assert_eq!(findings(&tree).len(), 1);
    }
}
