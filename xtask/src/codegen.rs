//! Pages generated from the code, so that they cannot disagree with it. `cargo xtask codegen` writes them,
//! the `agreement` rule of tidy compares them. Read next: `crates/model/src/reason.rs`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context;
use selvedge_model::Reason;

/// Each generated page: where it lies and what it says.
pub(crate) fn pages() -> Vec<(&'static str, String)> {
    vec![("docs/reason-codes.md", reason_codes())]
}

pub(crate) fn write(root: &Path) -> anyhow::Result<()> {
    for (path, text) in pages() {
        fs::write(root.join(path), text).with_context(|| format!("cannot write {path}"))?;
    }
    Ok(())
}

const REASON_CODES_HEAD: &str = "\
# Reason codes

<!-- Generated from `crates/model/src/reason.rs` by `cargo xtask codegen`; do not edit. -->

Every connection, request or look-up that Selvedge refuses, or sends another way than asked, has one of
these reasons. `status` and the metrics carry the word, and so does the field `selvedge-reason` of responses
that the mesh itself gives; kernel programs count under the number.

| word | number | the program sees | meaning |
|---|---|---|---|
";

fn reason_codes() -> String {
    let mut page = REASON_CODES_HEAD.to_owned();
    for reason in Reason::ALL {
        // Writing to a String does not fail.
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            reason.word(),
            *reason as u8,
            reason.seen_as(),
            reason.explanation().trim(),
        );
    }
    page
}
