//! The subcommands, one module each.

pub(crate) mod apply;
pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod delete;
pub(crate) mod demo;
pub(crate) mod down;
pub(crate) mod enter;
pub(crate) mod get;
pub(crate) mod graph;
pub(crate) mod proxy;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod up;

/// Prints a line; a reader that is gone is no error of ours.
pub(crate) fn print_line(line: &str) -> anyhow::Result<()> {
    use std::io::{ErrorKind, Write};
    let mut out = std::io::stdout();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
