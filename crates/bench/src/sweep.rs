//! Many runs of the simulator: each scenario under each policy with each seed, on all processors.

use std::ops::Range;

use anyhow::{Context, bail, ensure};
use selvedge_scenario::Scenario;
use selvedge_sim::{NamedPolicy, Verdict};

use crate::parallel;

/// What to run.
#[derive(Clone, Debug)]
pub struct SweepOptions {
    /// Scenarios.
    pub scenarios: Vec<Scenario>,
    /// Policies that each of them is run under.
    pub policies: Vec<&'static NamedPolicy>,
    /// Seeds that each of these is run with.
    pub seeds: Range<u64>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Swept {
    /// Finished runs by scenario, policy and seed, in the order they were asked for.
    pub runs: Vec<SweptRun>,
    /// How many were asked for: more than there are where an interrupt came.
    pub asked: usize,
}

/// One run.
#[derive(Clone, Debug)]
pub struct SweptRun {
    /// Its scenario's name.
    pub scenario: String,
    /// Its policy's name.
    pub policy: &'static str,
    /// Its seed.
    pub seed: u64,
    /// What it is worth.
    pub verdict: Verdict,
}

impl SweepOptions {
    /// Most runs of one sweep.
    pub const MOST_RUNS: usize = 100_000;

    /// How many runs that is.
    pub fn runs(&self) -> usize {
        let seeds = self.seeds.end.saturating_sub(self.seeds.start);
        let seeds = usize::try_from(seeds).unwrap_or(usize::MAX);
        let both = self.scenarios.len().saturating_mul(self.policies.len());
        both.saturating_mul(seeds)
    }

    fn nth(&self, run: usize) -> (&Scenario, &'static NamedPolicy, u64) {
        let seeds = self.runs() / self.scenarios.len() / self.policies.len();
        let (pair, seed) = (run / seeds, run % seeds);
        let scenario = &self.scenarios[pair / self.policies.len()];
        let policy = self.policies[pair % self.policies.len()];
        (scenario, policy, self.seeds.start + seed as u64)
    }
}

/// Runs all of it, and tells `progress` after each run how many are finished. After SIGINT, SIGTERM or
/// SIGHUP no run is begun any more; those that are finished are given.
///
/// # Errors
/// Where nothing is to be run, or too much, or a scenario cannot be.
pub fn sweep(options: &SweepOptions, progress: impl Fn(usize) + Sync) -> anyhow::Result<Swept> {
    let asked = options.runs();
    ensure!(
        asked > 0,
        "no run is asked for: give scenarios, policies and seeds"
    );
    let most = SweepOptions::MOST_RUNS;
    ensure!(
        asked <= most,
        "{asked} runs are asked for, more than {most}"
    );
    for scenario in &options.scenarios {
        let checked = scenario.check();
        checked.with_context(|| format!("scenario {} cannot be run", scenario.name))?;
    }
    let mut names: Vec<&str> = options.scenarios.iter().map(|it| &*it.name).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    if let Some([name, _]) = twice {
        bail!("two scenarios are called {name}: their runs could not be told apart");
    }
    let runs = parallel::each(asked, progress, |number| {
        let (scenario, policy, seed) = options.nth(number);
        let report = selvedge_sim::run(scenario, &policy.policy(), seed);
        SweptRun {
            scenario: scenario.name.clone(),
            policy: policy.name,
            seed,
            verdict: report.expect("it was checked").verdict(scenario),
        }
    })?;
    Ok(Swept { runs, asked })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use selvedge_sim::POLICIES;
    use std::time::Duration;

    /// However many threads share the work.
    #[test]
    fn runs_come_in_the_order_they_were_asked_for() {
        let mut scenarios: Vec<_> = crate::scenarios().take(2).collect();
        for scenario in &mut scenarios {
            scenario.length = Duration::from_secs(11);
        }
        let options = SweepOptions {
            scenarios,
            policies: POLICIES.iter().take(3).collect(),
            seeds: 5..9,
        };
        let told = AtomicUsize::new(0);
        let swept = sweep(&options, |_| {
            told.fetch_add(1, Ordering::Relaxed);
        });
        let swept = swept.expect("it can be run");
        assert_eq!(
            (swept.runs.len(), swept.asked, told.into_inner()),
            (24, 24, 24)
        );
        let keys = |run: &SweptRun| (run.scenario.clone(), run.policy, run.seed);
        let found: Vec<_> = swept.runs.iter().map(keys).collect();
        let mut wanted = Vec::new();
        for scenario in ["steady", "step"] {
            for policy in &POLICIES[..3] {
                wanted.extend((5..9).map(|seed| (scenario.to_owned(), policy.name, seed)));
            }
        }
        assert_eq!(found, wanted);
        let nothing = SweepOptions {
            seeds: 9..9,
            ..options.clone()
        };
        assert!(sweep(&nothing, |_| ()).is_err());
        let mut twice = options;
        twice.scenarios[1].name = "steady".to_owned();
        let error = sweep(&twice, |_| ()).unwrap_err().to_string();
        assert!(error.contains("steady"), "{error}");
    }
}
