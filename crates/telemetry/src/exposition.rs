//! The text that Prometheus reads (exposition format 0.0.4).
//!
//! Families come in the order they are written, each with its help and type once. Names are
//! `selvedge_*` with the unit last, counters end in `_total`; a debug build checks that.

use std::fmt::{Display, Write as _};

use selvedge_model::Histogram;

/// What a family's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative counts by upper bound.
    Histogram,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A growing text of metric families.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// The content type of the text.
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// An empty text.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a family. Without samples it is left out.
    pub fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &'a str) -> Family<'a> {
        debug_assert!(name.starts_with("selvedge_"), "{name}");
        debug_assert_eq!(kind == Kind::Counter, name.ends_with("_total"), "{name}");
        Family {
            text: &mut self.text,
            name,
            kind,
            help,
            is_begun: false,
        }
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help).sample(&[], value);
    }

    /// The text so far.
    pub fn into_text(self) -> String {
        self.text
    }
}

/// One family being written.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
    kind: Kind,
    help: &'a str,
    is_begun: bool,
}

impl Family<'_> {
    /// Writes one value. Labels come in the given order.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        debug_assert_ne!(self.kind, Kind::Histogram);
        self.begin();
        self.line("", labels, None, value);
    }

    /// Writes one histogram, its bounds given in the histogram's own unit; `scale` of these units
    /// are one unit of the metric (1,000,000 for microseconds in a metric in seconds).
    pub fn histogram(
        &mut self,
        labels: &[(&str, &str)],
        histogram: &Histogram,
        bounds: &[u64],
        scale: u32,
    ) {
        debug_assert_eq!(self.kind, Kind::Histogram);
        self.begin();
        let scaled = |value: u64| value as f64 / f64::from(scale);
        for bound in bounds {
            let limit = scaled(*bound).to_string();
            self.line(
                "_bucket",
                labels,
                Some(&limit),
                histogram.count_up_to(*bound),
            );
        }
        self.line("_bucket", labels, Some("+Inf"), histogram.count());
        self.line("_sum", labels, None, scaled(histogram.sum()));
        self.line("_count", labels, None, histogram.count());
    }

    fn begin(&mut self) {
        if !self.is_begun {
            self.is_begun = true;
            let Self {
                name, kind, help, ..
            } = self;
            let kind = kind.word();
            let help = help.replace('\\', "\\\\").replace('\n', "\\n");
            self.text
                .push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        }
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        bound: Option<&str>,
        value: impl Display,
    ) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        let bound = bound.map(|bound| ("le", bound));
        let mut separator = '{';
        for (name, value) in labels.iter().copied().chain(bound) {
            self.text.push(separator);
            self.text.push_str(name);
            self.text.push_str("=\"");
            push_escaped(self.text, value);
            self.text.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.text.push('}');
        }
        // Writing to a String does not fail.
        let _ = writeln!(self.text, " {value}");
    }
}

fn push_escaped(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> String {
        let mut text = Exposition::new();
        text.single(
            "selvedge_generation",
            Kind::Gauge,
            "Generation in force.",
            7,
        );
        let help = "Connections led to an endpoint.";
        let mut family = text.family("selvedge_connections_total", Kind::Counter, help);
        family.sample(&[("source", "a\"\\\n"), ("destination", "b")], 3u64);
        text.family("selvedge_unused_total", Kind::Counter, "No samples.");
        let mut histogram = Histogram::new();
        histogram.record_many(100, 2);
        histogram.record(3_000_000);
        let help = "Time from SYN to established.";
        let mut family = text.family("selvedge_connect_seconds", Kind::Histogram, help);
        family.histogram(&[("edge", "x")], &histogram, &[99, 1023], 1_000_000);
        text.into_text()
    }

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let want = "\
# HELP selvedge_generation Generation in force.
# TYPE selvedge_generation gauge
selvedge_generation 7
# HELP selvedge_connections_total Connections led to an endpoint.
# TYPE selvedge_connections_total counter
selvedge_connections_total{source=\"a\\\"\\\\\\n\",destination=\"b\"} 3
# HELP selvedge_connect_seconds Time from SYN to established.
# TYPE selvedge_connect_seconds histogram
selvedge_connect_seconds_bucket{edge=\"x\",le=\"0.000099\"} 0
selvedge_connect_seconds_bucket{edge=\"x\",le=\"0.001023\"} 2
selvedge_connect_seconds_bucket{edge=\"x\",le=\"+Inf\"} 3
selvedge_connect_seconds_sum{edge=\"x\"} 3.0002
selvedge_connect_seconds_count{edge=\"x\"} 3
";
        assert_eq!(example(), want);
    }

    /// Prometheus's own judge, where it is installed.
    #[test]
    fn promtool_accepts_the_text() {
        use std::io::Write as _;
        use std::process::{Command, Stdio};
        let mut promtool = Command::new("promtool");
        promtool
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped());
        let Ok(mut child) = promtool.stdout(Stdio::piped()).spawn() else {
            let line = "SKIPPED: promtool_accepts_the_text: promtool is not installed\n";
            eprint!("{line}");
            if let Some(log) = std::env::var_os("SELVEDGE_SKIP_LOG") {
                let file = std::fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(log);
                file.unwrap().write_all(line.as_bytes()).unwrap();
            }
            return;
        };
        child
            .stdin
            .take()
            .unwrap()
            .write_all(example().as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}
