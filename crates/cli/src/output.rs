//! What commands print: tables, JSON, YAML, errors.
//!
//! Colour only where a person looks: standard output is a terminal and NO_COLOR is not set. A reader
//! that has gone away (`selvedge get | head`) ends nothing and is no error.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};

use anyhow::Context as _;
use selvedge_control_plane::{Finding, Problem};
use serde::Serialize;

/// How to print what was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
    /// For people and programs.
    Yaml,
}

/// `-o`, as every command that lists has it.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct OutputArgs {
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

impl OutputArgs {
    /// Prints a value as it is, or as the text that `to_text` makes of it.
    pub(crate) fn print<T: Serialize>(
        self,
        value: &T,
        to_text: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        match self.output {
            Format::Text => print(&to_text(value)),
            Format::Json => print(&format!("{}\n", serde_json::to_string_pretty(value)?)),
            Format::Yaml => print(&serde_saphyr::to_string(value)?),
        }
    }
}

/// Prints to standard output; a reader that is gone is no error of ours.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("could not write to standard output"),
    }
}

/// Prints an error: what, where, the likely cause, what to do next.
pub(crate) fn print_error(error: &anyhow::Error) {
    let text = match error.downcast_ref::<Problem>() {
        Some(problem) => problem_text(problem),
        None => format!("selvedge: {error:#}\n"),
    };
    let _reader_has_gone = io::stderr().lock().write_all(text.as_bytes());
}

fn problem_text(problem: &Problem) -> String {
    let mut text = findings_text(&problem.diagnostics);
    // Writing to a String does not fail.
    let _ = writeln!(text, "selvedge: {}", problem.what);
    for (title, part) in [
        ("where", &problem.place),
        ("cause", &problem.cause),
        ("next", &problem.next),
    ] {
        if !part.is_empty() {
            let _ = writeln!(text, "  {title:<6} {part}");
        }
    }
    text
}

/// What was accepted but has no effect, a line each.
pub(crate) fn warnings_text(warnings: &[Finding]) -> String {
    findings_text(warnings)
        .lines()
        .map(|line| format!("warning: {line}\n"))
        .collect()
}

/// One finding a line, as compilers write them.
pub(crate) fn findings_text(findings: &[Finding]) -> String {
    findings
        .iter()
        .map(|finding| format!("{finding}\n"))
        .collect()
}

/// How a cell looks to a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it is.
    Plain,
    /// All is well.
    Good,
    /// Worth a look.
    Poor,
    /// Broken.
    Bad,
    /// A heading.
    Title,
}

impl Tone {
    /// What a state's word is like.
    pub(crate) fn of(state: &str) -> Self {
        match state {
            "active" | "serving" | "listening" | "ready" => Self::Good,
            "degraded" | "starting" | "silent" | "not ready" | "unknown" => Self::Poor,
            "missing" | "away" => Self::Bad,
            _ => Self::Plain,
        }
    }

    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\x1b[32m",
            Self::Poor => "\x1b[33m",
            Self::Bad => "\x1b[31m",
            Self::Title => "\x1b[1m",
        }
    }
}

/// Whether to use colour.
fn is_coloured() -> bool {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !no_colour
}

/// The text in a tone, where colour is used.
pub(crate) fn toned(text: &str, tone: Tone) -> String {
    if tone == Tone::Plain || !is_coloured() {
        return text.to_owned();
    }
    format!("{}{text}\x1b[0m", tone.code())
}

/// Rows under a heading, in columns as wide as they need to be.
#[derive(Debug)]
pub(crate) struct Table {
    indent: usize,
    rows: Vec<Vec<(String, Tone)>>,
}

impl Table {
    /// A table of these columns.
    pub(crate) fn new(heading: &[&str]) -> Self {
        let heading = heading
            .iter()
            .map(|title| ((*title).to_owned(), Tone::Title));
        Self {
            indent: 0,
            rows: vec![heading.collect()],
        }
    }

    /// Moves the table to the right.
    pub(crate) fn indented(mut self, columns: usize) -> Self {
        self.indent = columns;
        self
    }

    /// Adds a row. Cells that are a state's word get its tone.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let toned = |cell: String| {
            let tone = Tone::of(&cell);
            (cell, tone)
        };
        self.rows.push(cells.into_iter().map(toned).collect());
    }

    /// Whether there is nothing under the heading.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// The table as text; nothing where it is empty.
    pub(crate) fn into_text(self) -> String {
        if self.is_empty() {
            return String::new();
        }
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|(cell, _)| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = " ".repeat(self.indent);
            let mut gap = 0;
            for ((cell, tone), width) in row.iter().zip(&widths) {
                line.push_str(&" ".repeat(gap));
                line.push_str(&toned(cell, *tone));
                gap = width - cell.chars().count() + 2;
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A number of things: `1 error`, `3 errors`.
pub(crate) fn count(number: usize, thing: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{ending}")
}

/// An age as people say it: `340ms`, `12s`, `5m`, `3h`, `9d`.
pub(crate) fn age(seconds: f64) -> String {
    // Ages are positive and small enough for any integer.
    let whole = seconds.max(0.0) as u64;
    match whole {
        0 => format!("{}ms", (seconds.max(0.0) * 1000.0) as u64),
        1..=119 => format!("{whole}s"),
        120..=7_199 => format!("{}m", whole / 60),
        7_200..=172_799 => format!("{}h", whole / 3600),
        _ => format!("{}d", whole / 86_400),
    }
}

/// A size as people say it.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvedge_control_plane::ProblemKind;

    #[test]
    fn tables_are_aligned() {
        let mut table = Table::new(&["NAME", "STATE", "NOTE"]).indented(2);
        table.row(["a".to_owned(), "listening".to_owned(), String::new()]);
        table.row(["longer-ä".to_owned(), "x".to_owned(), "y".to_owned()]);
        let want = "  NAME      STATE      NOTE\n  a         listening\n  longer-ä  x          y\n";
        assert_eq!(table.into_text(), want);
        assert_eq!(Table::new(&["NAME"]).into_text(), "");
    }

    #[test]
    fn figures_are_said_as_people_say_them() {
        assert_eq!(
            [count(1, "error"), count(0, "error")],
            ["1 error", "0 errors"]
        );
        let ages = [0.25, 1.0, 119.0, 120.0, 7200.0, 200_000.0].map(age);
        assert_eq!(ages, ["250ms", "1s", "119s", "2m", "2h", "2d"]);
        assert_eq!(
            [0, 1023, 1024, 1 << 30].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "1.0 GiB"]
        );
    }

    #[test]
    fn problems_say_what_to_do() {
        let problem = Problem::new(ProblemKind::Unavailable, "no agent is running")
            .at("/run/selvedge/api.sock")
            .try_next("sudo selvedge up");
        let want = "selvedge: no agent is running\n  where  /run/selvedge/api.sock\n  \
                    next   sudo selvedge up\n";
        assert_eq!(problem_text(&problem), want);
    }
}
