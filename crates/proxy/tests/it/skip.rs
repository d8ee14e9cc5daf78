//! Tests that cannot run here.

use std::fs::OpenOptions;
use std::io::Write;

/// Says so where a reader, and `scripts/test`, will see it.
pub(crate) fn skip(test: &str, reason: &str) {
    let line = format!("SKIPPED: {test}: {reason}");
    eprintln!("{line}");
    if let Some(log) = std::env::var_os("SELVEDGE_SKIP_LOG") {
        let log = OpenOptions::new().create(true).append(true).open(log);
        writeln!(log.unwrap(), "{line}").unwrap();
    }
}
