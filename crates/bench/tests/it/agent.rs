//! Claim: nothing that an agent does is needed while there is trouble.

use std::ops::Range;
use std::time::Duration;

use selvedge_sim::NamedPolicy;

const SEEDS: Range<u64> = 1..7;
/// Goodput may differ by so much from that with an agent.
const ALIKE: f64 = 0.03;

#[test]
fn an_agent_may_be_killed_at_any_moment() {
    let policy = NamedPolicy::find("adaptive").unwrap().policy();
    for name in ["step", "capacity-loss", "chain-trigger", "fan-out"] {
        let mut scenario = selvedge_bench::scenario(name).unwrap();
        let mut goodput = |away| {
            scenario.agent_away = away;
            let of_seed = |seed| {
                let report = selvedge_sim::run(&scenario, &policy, seed).unwrap();
                report.verdict(&scenario).goodput_disturbed.unwrap()
            };
            SEEDS.map(of_seed).sum::<f64>() / SEEDS.count() as f64
        };
        let with = goodput(None);
        // After the first plan, as the trouble begins, and while it lasts.
        for killed_s in [11, 30, 33] {
            let killed = Duration::from_secs(killed_s);
            let without = goodput(Some(killed..Duration::from_secs(120)));
            assert!(
                (without - with).abs() < ALIKE,
                "{name}, killed at {killed_s} s: {without:.3}, and {with:.3} with an agent"
            );
        }
    }
}
