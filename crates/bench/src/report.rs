//! What was found: text for a reader, JSON for a program, from the same values.
//!
//! A finding with a bar is judged here and nowhere else. What could not be measured is a finding
//! too, with its reason. Figures of a quick run are shown but not judged, unless they are about
//! what must never happen.

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;

use crate::program_time::ProgramCost;
use crate::provenance::Provenance;
use crate::spread::Spread;

/// Everything one run found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) provenance: Provenance,
    pub(crate) sections: Vec<Section>,
}

/// What one measure found.
#[derive(Debug, Serialize)]
pub(crate) struct Section {
    /// The measure's word on the command line.
    pub(crate) measure: &'static str,
    /// What is compared with what, and how.
    pub(crate) title: String,
    pub(crate) findings: Vec<Finding>,
    /// Time of each kernel program.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) programs: Vec<ProgramCost>,
    /// What a reader must know to believe the figures.
    pub(crate) notes: Vec<String>,
    #[serde(skip)]
    quick: bool,
}

/// One figure, and what it should have been.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) name: String,
    pub(crate) figure: Figure,
    /// The figure (of a ratio, its median) should be at most this.
    pub(crate) at_most: Option<f64>,
    pub(crate) verdict: Verdict,
}

/// What was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub(crate) enum Figure {
    /// Two figures of each round, and their ratio.
    Ratio {
        unit: Unit,
        base: Spread,
        treated: Spread,
        ratio: Spread,
    },
    /// One figure of each round.
    Rounds { unit: Unit, spread: Spread },
    /// One figure of the whole run.
    Amount { unit: Unit, value: f64 },
    /// There is none.
    NotHad { reason: String },
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    Nanoseconds,
    Seconds,
    PerSecond,
    Bytes,
    Count,
}

/// How a figure stands to its bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Met,
    Missed,
    /// It has no bar, or the run was too short to judge by.
    Stated,
    /// It has a bar and could not be measured.
    NotHad,
}

impl Section {
    pub(crate) fn new(measure: &'static str, title: impl Into<String>, quick: bool) -> Self {
        Self {
            measure,
            title: title.into(),
            findings: Vec::new(),
            programs: Vec::new(),
            notes: Vec::new(),
            quick,
        }
    }

    /// A comparison round by round; judged by the median of its ratios.
    pub(crate) fn ratio(
        &mut self,
        name: &str,
        unit: Unit,
        (treated, base): (&[f64], &[f64]),
        at_most: Option<f64>,
    ) {
        let spreads = Spread::of(base)
            .zip(Spread::of(treated))
            .zip(Spread::of_ratios(treated, base));
        let Some(((base, treated), ratio)) = spreads else {
            return self.not_had(name, "no round was completed", at_most);
        };
        let verdict = self.judge(ratio.median, at_most.filter(|_| !self.quick));
        let figure = Figure::Ratio {
            unit,
            base,
            treated,
            ratio,
        };
        self.push(name, figure, at_most, verdict);
    }

    /// A figure of each round, for a reader to compare with others.
    pub(crate) fn rounds(&mut self, name: &str, unit: Unit, figures: &[f64]) {
        match Spread::of(figures) {
            Some(spread) => {
                let figure = Figure::Rounds { unit, spread };
                self.push(name, figure, None, Verdict::Stated);
            }
            None => self.not_had(name, "no round was completed", None),
        }
    }

    /// A figure that a short run blurs: judged in a full run only.
    pub(crate) fn amount(&mut self, name: &str, unit: Unit, value: f64, at_most: Option<f64>) {
        let verdict = self.judge(value, at_most.filter(|_| !self.quick));
        self.push(name, Figure::Amount { unit, value }, at_most, verdict);
    }

    /// A count of what must not happen, however short the run: judged always.
    pub(crate) fn count(&mut self, name: &str, value: u64, at_most: Option<u64>) {
        let at_most = at_most.map(|bar| bar as f64);
        let value = value as f64;
        let verdict = self.judge(value, at_most);
        let unit = Unit::Count;
        self.push(name, Figure::Amount { unit, value }, at_most, verdict);
    }

    /// A figure that could not be had.
    pub(crate) fn not_had(&mut self, name: &str, reason: impl Into<String>, at_most: Option<f64>) {
        let verdict = match at_most {
            Some(_) => Verdict::NotHad,
            None => Verdict::Stated,
        };
        let reason = reason.into();
        self.push(name, Figure::NotHad { reason }, at_most, verdict);
    }

    /// The measure ended before its time.
    pub(crate) fn incomplete(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        let figure = Figure::NotHad { reason };
        self.push("the rest of this measure", figure, None, Verdict::NotHad);
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    fn judge(&self, value: f64, at_most: Option<f64>) -> Verdict {
        match at_most {
            None => Verdict::Stated,
            Some(bar) if value <= bar => Verdict::Met,
            Some(_) => Verdict::Missed,
        }
    }

    fn push(&mut self, name: &str, figure: Figure, at_most: Option<f64>, verdict: Verdict) {
        self.findings.push(Finding {
            name: name.to_owned(),
            figure,
            at_most,
            verdict,
        });
    }
}

impl Report {
    /// How many findings have this verdict.
    pub(crate) fn count(&self, verdict: Verdict) -> usize {
        let findings = self.sections.iter().flat_map(|section| &section.findings);
        findings
            .filter(|finding| finding.verdict == verdict)
            .count()
    }
}

/// Writes a section as soon as it is there.
pub(crate) fn write_section(section: &Section, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}: {}", section.measure, section.title)?;
    for finding in &section.findings {
        writeln!(out, "  {finding}")?;
    }
    for program in &section.programs {
        writeln!(out, "  {program}")?;
    }
    for note in &section.notes {
        writeln!(out, "  note: {note}")?;
    }
    writeln!(out)?;
    out.flush()
}

/// Writes the closing line.
pub(crate) fn write_totals(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let met = report.count(Verdict::Met);
    let missed = report.count(Verdict::Missed);
    let not_had = report.count(Verdict::NotHad);
    writeln!(
        out,
        "bars: {met} met, {missed} missed, {not_had} could not be measured"
    )
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figure = match &self.figure {
            Figure::Ratio {
                unit,
                base,
                treated,
                ratio,
            } => {
                let (base, treated) = (unit.show(base.median), unit.show(treated.median));
                let (min, median, max) = (ratio.min, ratio.median, ratio.max);
                format!("{base:>10} -> {treated:<10} {min:.3}/{median:.3}/{max:.3}x")
            }
            Figure::Rounds { unit, spread } => {
                let [min, median, max] =
                    [spread.min, spread.median, spread.max].map(|value| unit.show(value));
                format!("{median:>10} ({min} - {max})")
            }
            Figure::Amount { unit, value } => format!("{:>10}", unit.show(*value)),
            Figure::NotHad { reason } => format!("not had: {reason}"),
        };
        let unit = match &self.figure {
            Figure::Amount { unit, .. } => Some(*unit),
            Figure::Ratio { .. } | Figure::Rounds { .. } | Figure::NotHad { .. } => None,
        };
        let bar = self.at_most.map(|bar| match unit {
            Some(unit) => format!("bar {}: ", unit.show(bar)),
            None => format!("bar {bar}: "),
        });
        let is_judged = self.at_most.is_some() || self.verdict == Verdict::NotHad;
        match is_judged {
            true => {
                let bar = bar.unwrap_or_default();
                write!(f, "{:<40} {figure:<43} {bar}{}", self.name, self.verdict)
            }
            false => write!(f, "{:<40} {figure}", self.name),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::Stated => "not judged",
            Self::NotHad => "NOT MEASURED",
        })
    }
}

impl Unit {
    /// The figure as a reader takes it in: three or four digits and a unit.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Nanoseconds if value.abs() >= 1e6 => format!("{:.2} ms", value / 1e6),
            Self::Nanoseconds if value.abs() >= 1e3 => format!("{:.2} us", value / 1e3),
            Self::Nanoseconds => format!("{value:.0} ns"),
            Self::Seconds => format!("{value:.2} s"),
            Self::PerSecond => format!("{value:.1}/s"),
            Self::Bytes if value >= 1024.0 * 1024.0 => format!("{:.2} MiB", value / 1048576.0),
            Self::Bytes => format!("{:.0} KiB", value / 1024.0),
            Self::Count => format!("{value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(section: &Section) -> String {
        let mut out = Vec::new();
        write_section(section, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_ratio_is_judged_by_its_median() {
        let mut section = Section::new("direct", "a against b", false);
        let base = [1000.0, 1000.0, 1000.0];
        section.ratio(
            "good",
            Unit::Nanoseconds,
            (&[1000.0, 1020.0, 1500.0], &base),
            Some(1.03),
        );
        section.ratio(
            "bad",
            Unit::Nanoseconds,
            (&[1000.0, 1040.0, 1050.0], &base),
            Some(1.03),
        );
        section.ratio("none", Unit::Nanoseconds, (&[], &[]), Some(1.03));
        let verdicts: Vec<_> = section.findings.iter().map(|it| it.verdict).collect();
        assert_eq!(verdicts, [Verdict::Met, Verdict::Missed, Verdict::NotHad]);
        let text = text(&section);
        let line = "1.00 us -> 1.02 us    1.000/1.020/1.500x bar 1.03: met";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn a_quick_run_judges_only_what_must_never_happen() {
        let mut section = Section::new("limit", "abuse", true);
        section.amount("apply", Unit::Seconds, 9.0, Some(5.0));
        section.count("most at once", 17, Some(16));
        let verdicts: Vec<_> = section.findings.iter().map(|it| it.verdict).collect();
        assert_eq!(verdicts, [Verdict::Stated, Verdict::Missed]);
        assert!(text(&section).contains("bar 5.00 s: not judged"));
    }

    #[test]
    fn a_figure_that_is_not_a_number_is_missed() {
        let mut section = Section::new("direct", "a against b", false);
        section.ratio(
            "nothing",
            Unit::Nanoseconds,
            (&[f64::NAN], &[1.0]),
            Some(1.1),
        );
        assert_eq!(section.findings[0].verdict, Verdict::Missed);
    }
}
