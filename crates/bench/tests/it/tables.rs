//! The table of policies and scenarios. A law that is changed shows here as figures that are: write it anew
//! with `SELVEDGE_WRITE_TABLES=1 cargo test -p selvedge-bench --test it`, and say in the commit why they are better.

use std::fmt::Write as _;
use std::path::Path;

use selvedge_bench::scenarios;
use selvedge_sim::{POLICIES, run};

const SEED: u64 = 1;

fn table() -> String {
    let mut text = format!(
        "seed {SEED}; goodput: good answers of those possible, in all and while disturbed; carried: late ones too;\n\
         waste: work for others; tail: seconds in time; attempts for a request at all hops; misled: those at the\n\
         bad one of its replicas; urgent: answers to what is; fair: Jain's index of clients' shares; seconds\n\
         until it is well again\n\n\
         {:<22}{:<21}{:>8}{:>11}{:>9}{:>7}{:>7}{:>10}{:>8}{:>8}{:>8}{:>10}\n",
        "scenario",
        "policy",
        "goodput",
        "disturbed",
        "carried",
        "waste",
        "tail",
        "attempts",
        "misled",
        "urgent",
        "fair",
        "recovery"
    );
    for scenario in scenarios() {
        for policy in POLICIES {
            let report = run(&scenario, &policy.policy(), SEED).unwrap();
            let verdict = report.verdict(&scenario);
            let figure = |value: Option<f64>| value.map_or("-".to_owned(), |it| format!("{it:.3}"));
            let recovery = match (scenario.disturbed(), verdict.recovery) {
                (None, _) => "-".to_owned(),
                (_, None) => "never".to_owned(),
                (_, Some(time)) => time.as_secs().to_string(),
            };
            writeln!(
                text,
                "{:<22}{:<21}{:>8.3}{:>11}{:>9.3}{:>7.3}{:>7.3}{:>10.2}{:>8}{:>8}{:>8}{:>10}",
                scenario.name,
                policy.name,
                verdict.goodput,
                figure(verdict.goodput_disturbed),
                verdict.carried,
                verdict.waste,
                verdict.tail,
                verdict.attempts,
                figure(verdict.misled),
                figure(verdict.urgent),
                figure(verdict.fairness),
                recovery
            )
            .unwrap();
        }
    }
    text
}

#[test]
fn policies_by_scenario() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tables/policies.txt");
    let found = table();
    if std::env::var_os("SELVEDGE_WRITE_TABLES").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap();
    for (found, known) in found.lines().zip(known.lines()) {
        assert_eq!(found, known);
    }
    assert_eq!(found.lines().count(), known.lines().count());
}
