//! What was found, for a reader.

use std::fmt::Write;

use super::{Findings, Run};

/// A run in a line.
pub(super) fn line(run: &Run) -> String {
    let mut text = format!("goodput {:.3}", run.goodput);
    // Writing to a string does not fail.
    if let Some(disturbed) = run.goodput_disturbed {
        let _ = write!(text, ", while disturbed {disturbed:.3}");
    }
    if let Some(live) = &run.live {
        let _ = write!(
            text,
            "; processors {:.0} % and {:.0} % busy, requests up to {:.1} ms late",
            100.0 * live.busy[0],
            100.0 * live.busy[1],
            f64::from(live.lag_p99_us) / 1e3
        );
        if let Some(why) = &live.unsound {
            let _ = write!(text, "; does not count: {why}");
        }
    }
    text
}

/// A row for each scenario and policy, in the order in which they were met first.
pub(super) fn text(findings: &Findings) -> String {
    let mut keys: Vec<(&str, &str)> = Vec::new();
    for run in findings.simulated.iter().chain(&findings.runs) {
        let key = (&*run.scenario, run.policy);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let mut text = format!(
        "{:<17} {:<20} {:>4}  {:<21} {:>5}  {:<21} {:>5}  {:>6} {:>6}  {:>5}\n",
        "SCENARIO",
        "POLICY",
        "RUNS",
        "GOODPUT",
        "SIM",
        "WHILE DISTURBED",
        "SIM",
        "P95",
        "SIM",
        "BUSY"
    );
    for key in keys {
        let of = |run: &&Run| (&*run.scenario, run.policy) == key;
        let runs: Vec<&Run> = findings.runs.iter().filter(of).collect();
        let sound: Vec<&Run> = runs.iter().copied().filter(|it| !it.is_unsound()).collect();
        let simulated: Vec<&Run> = findings.simulated.iter().filter(of).collect();
        let busy: Vec<f64> = sound
            .iter()
            .filter_map(|run| run.live.as_ref())
            .map(|live| live.busy[1])
            .collect();
        let count = match runs.len() - sound.len() {
            0 => runs.len().to_string(),
            unsound => format!("{}-{unsound}", runs.len()),
        };
        let goodput = |run: &&Run| Some(run.goodput);
        let disturbed = |run: &&Run| run.goodput_disturbed;
        let p95 = |run: &&Run| run.p95_ms;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:<17} {:<20} {:>4}  {:<21} {:>5}  {:<21} {:>5}  {:>6} {:>6}  {:>5}",
            key.0,
            key.1,
            count,
            spread(&sound, goodput),
            mean(&simulated, goodput, 3),
            spread(&sound, disturbed),
            mean(&simulated, disturbed, 3),
            mean(&sound, p95, 0),
            mean(&simulated, p95, 0),
            mean(&busy, |busy| Some(*busy), 2),
        );
    }
    text + "GOODPUT: answers within the objective, of those that were possible: mean (least-most). SIM: the \
            simulator's mean of the same schedule.\nP95: of good and late answers, in ms. BUSY: share of its \
            processor that the mesh or Envoy took. RUNS: 5-1 are five, one of which does not count.\n"
}

fn figures<T>(of: &[T], figure: impl Fn(&T) -> Option<f64>) -> Vec<f64> {
    of.iter().filter_map(figure).collect()
}

fn mean<T>(of: &[T], figure: impl Fn(&T) -> Option<f64>, digits: usize) -> String {
    let figures = figures(of, figure);
    match figures.len() {
        0 => "-".to_owned(),
        count => format!("{:.digits$}", figures.iter().sum::<f64>() / count as f64),
    }
}

fn spread<T>(of: &[T], figure: impl Fn(&T) -> Option<f64>) -> String {
    let figures = figures(of, figure);
    let Some(least) = figures.iter().copied().reduce(f64::min) else {
        return "-".to_owned();
    };
    let most = figures.iter().copied().fold(least, f64::max);
    let mean = figures.iter().sum::<f64>() / figures.len() as f64;
    format!("{mean:.3} ({least:.3}-{most:.3})")
}
