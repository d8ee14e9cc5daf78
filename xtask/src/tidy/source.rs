//! Rust files: each says what it is for, exceptions have reasons, nothing is unsafe.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use super::Finding;
use crate::tree::Tree;

/// Written in two parts, so that this file passes its own rule.
const UNFINISHED: [&str; 3] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
];

pub(crate) fn findings(tree: &Tree) -> Vec<Finding> {
    tree.texts(".rs")
        .flat_map(|(path, text)| check(path, text))
        .collect()
}

fn check(path: &str, text: &str) -> Vec<Finding> {
    let Ok(tokens) = text.parse::<TokenStream>() else {
        return vec![Finding::in_file(path, "this is no Rust")];
    };
    let mut found = unfinished(path, text);
    let (header, body) = split_header(tokens);
    if !header.iter().any(is_doc) {
        found.push(Finding::in_file(
            path,
            "begin with a `//!` header: what for, what never, what next",
        ));
    }
    if holds_nothing(&body) {
        found.push(Finding::in_file(
            path,
            "a placeholder: this file holds nothing yet",
        ));
    }
    header
        .iter()
        .for_each(|attribute| check_attribute(path, attribute, &mut found));
    walk(path, body.into_iter().collect(), &mut found);
    found
}

fn unfinished(path: &str, text: &str) -> Vec<Finding> {
    let marked = |line: &str| UNFINISHED.iter().any(|mark| line.contains(mark));
    let numbered = text.lines().enumerate().filter(|(_, line)| marked(line));
    numbered
        .map(|(index, _)| {
            Finding::at(
                path,
                index + 1,
                "finish it, or file an issue and say it plainly",
            )
        })
        .collect()
}

/// The inner attributes (`#![...]`, `//!`) that a file begins with, and the rest.
fn split_header(tokens: TokenStream) -> (Vec<Group>, Vec<TokenTree>) {
    let mut header = Vec::new();
    let mut rest: Vec<TokenTree> = tokens.into_iter().collect();
    loop {
        match &rest[..] {
            [
                TokenTree::Punct(hash),
                TokenTree::Punct(bang),
                TokenTree::Group(attribute),
                ..,
            ] if hash.as_char() == '#' && bang.as_char() == '!' => {
                header.push(attribute.clone());
                rest.drain(..3);
            }
            _ => return (header, rest),
        }
    }
}

fn first_word(attribute: &Group) -> String {
    attribute
        .stream()
        .into_iter()
        .next()
        .map(|token| token.to_string())
        .unwrap_or_default()
}

fn is_doc(attribute: &Group) -> bool {
    first_word(attribute) == "doc"
}

/// Nothing at all, or a `main` with an empty body.
fn holds_nothing(body: &[TokenTree]) -> bool {
    let words: String = body.iter().map(ToString::to_string).collect();
    let letters: String = words.split_whitespace().collect();
    letters.is_empty() || letters == "fnmain(){}"
}

/// Visits every token, and every attribute as one.
fn walk(path: &str, tokens: TokenStream, found: &mut Vec<Finding>) {
    let mut after_hash = false;
    for token in tokens {
        match token {
            TokenTree::Punct(punct) => {
                after_hash = punct.as_char() == '#' || (after_hash && punct.as_char() == '!');
            }
            TokenTree::Group(group) => {
                if after_hash && group.delimiter() == Delimiter::Bracket {
                    check_attribute(path, &group, found);
                } else {
                    walk(path, group.stream(), found);
                }
                after_hash = false;
            }
            TokenTree::Ident(word) => {
                if word == "unsafe" {
                    let line = word.span().start().line;
                    found.push(Finding::at(
                        path,
                        line,
                        "a library's safe call does this: use that",
                    ));
                }
                after_hash = false;
            }
            TokenTree::Literal(_) => after_hash = false,
        }
    }
}

fn check_attribute(path: &str, attribute: &Group, found: &mut Vec<Finding>) {
    let line = attribute.span_open().start().line;
    let tokens: Vec<String> = attribute
        .stream()
        .into_iter()
        .map(|token| token.to_string())
        .collect();
    let message = match first_word(attribute).as_str() {
        "ignore" if tokens.len() == 1 => "say why it is ignored: `#[ignore = \"...\"]`",
        "allow" | "expect" if !attribute.to_string().contains("reason") => {
            "give the exception a `reason`"
        }
        _ => return,
    };
    found.push(Finding::at(path, line, message));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        check(path, text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_file_passes() {
        let text = "//! What for.\n#![no_std]\n\n/// `unsafe` in words only.\npub fn f() -> &'static str { \"unsafe\" }\n";
        assert!(messages("a.rs", text).is_empty());
    }

    #[test]
    fn a_missing_header_and_a_placeholder_are_found() {
        assert_eq!(messages("a.rs", "pub fn f() {}\n").len(), 1);
        assert_eq!(messages("a.rs", "//! Being written.\n").len(), 1);
        assert_eq!(messages("a.rs", "//! Doc.\nfn main() {}\n").len(), 1);
    }

    #[test]
    fn unsafe_is_found() {
        let text = "//! Doc.\nfn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(
            messages("tests/it/main.rs", text),
            ["tests/it/main.rs:3: a library's safe call does this: use that"]
        );
    }

    #[test]
    fn exceptions_without_reason_are_found_wherever_they_stand() {
        let text = "//! Doc.\n#![allow(dead_code)]\nmod tests {\n    #[test]\n    #[ignore]\n    fn t() {}\n    #[expect(x)]\n    fn u() {}\n}\n";
        assert_eq!(messages("a.rs", text).len(), 3);
        let text = "//! Doc.\n#[ignore = \"slow\"]\n#[allow(x, reason = \"y\")]\nfn t() {}\n";
        assert!(messages("a.rs", text).is_empty());
    }

    #[test]
    fn unfinished_work_is_found() {
        let text = format!("//! Doc.\n// {}: later\nfn f() {{}}\n", UNFINISHED[0]);
        assert_eq!(messages("a.rs", &text).len(), 1);
    }
}
