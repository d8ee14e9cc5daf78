//! Chores of the house: `cargo xtask codegen` writes the generated pages, `cargo xtask tidy` holds the rules.
//!
//! The same rules run as tests (`cargo test -p xtask`). Nothing here is part of the product, and nothing
//! here touches the network or the kernel. Read next: `tidy.rs`, then the rule you fell over.
#![forbid(unsafe_code)]

mod codegen;
mod tidy;
mod tree;

use anyhow::{Context, bail};
use tree::Tree;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["codegen"] => codegen::write(&tree::root()),
        ["tidy"] => tidy(),
        _ => bail!("usage: cargo xtask codegen | tidy"),
    }
}

fn tidy() -> anyhow::Result<()> {
    let tree = Tree::read(&tree::root()).context("cannot read the source tree")?;
    let findings = tidy::findings(&tree)?;
    for finding in &findings {
        tell(finding);
    }
    if findings.is_empty() {
        return Ok(());
    }
    bail!("{} findings", findings.len())
}

#[expect(clippy::print_stdout, reason = "findings are what the command is for")]
fn tell(finding: &tidy::Finding) {
    println!("{finding}");
}
