//! The plan in words: as it is shown, and as it is kept in the folder of the journal.

use std::fs;
use std::path::Path;
use std::time::Duration;

use selvedge_model::{Objective, PilotMode, ServiceName};
use selvedge_resilience::planner::{Plan, Share};
use selvedge_telemetry::warn;

use crate::wire::ShareReport;

const FILE: &str = "plan";
const UNFINISHED: &str = "plan.unfinished";
/// Longest stored plan.
const MOST: u64 = 16 << 20;

/// A plan as it is shown and stored.
pub(crate) fn report(plan: &Plan) -> Vec<ShareReport> {
    let shares = plan.shares.iter();
    let share = |(service, share): (&ServiceName, &Share)| ShareReport {
        service: service.to_string(),
        latency_us: u64::try_from(share.objective.latency.as_micros()).unwrap_or(u64::MAX),
        of: share.of.to_string(),
        is_measured: share.is_measured,
        slack_per_mille: share.slack_per_mille,
    };
    shares.map(share).collect()
}

/// The mode is that of the objective, which may be another by now.
fn read_share(report: &ShareReport) -> Option<(ServiceName, Share)> {
    if report.latency_us == 0 {
        return None;
    }
    let share = Share {
        objective: Objective {
            latency: Duration::from_micros(report.latency_us),
            mode: PilotMode::Observe,
        },
        of: report.of.parse().ok()?,
        is_measured: report.is_measured,
        slack_per_mille: report.slack_per_mille.clamp(1000, 1_000_000),
    };
    Some((report.service.parse().ok()?, share))
}

/// The plan that an earlier agent left in the folder of its journal; none where there is none.
pub fn read(folder: &Path) -> Plan {
    let path = folder.join(FILE);
    let taken = || -> std::io::Result<Plan> {
        if fs::metadata(&path)?.len() > MOST {
            return Err(std::io::Error::other("it is longer than any"));
        }
        let shares: Vec<ShareReport> = serde_json::from_slice(&fs::read(&path)?)?;
        let shares: Option<_> = shares.iter().map(read_share).collect();
        let shares = shares.ok_or(std::io::Error::other(
            "it names what is no service, or no time",
        ))?;
        Ok(Plan { shares })
    };
    match taken() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Plan::default(),
        Err(error) => {
            warn!("the plan in {} is not taken: {error}", path.display());
            Plan::default()
        }
        Ok(plan) => plan,
    }
}

/// Removes what was stored of plans.
pub(crate) fn remove(folder: &Path) {
    for name in [FILE, UNFINISHED] {
        let _absent = fs::remove_file(folder.join(name));
    }
}

/// After a crash there is this plan or the one before. A power loss may cost it: it is soon made again.
pub(crate) fn write(folder: &Path, plan: &Plan) -> std::io::Result<()> {
    let beside = folder.join(UNFINISHED);
    fs::write(&beside, serde_json::to_vec(&report(plan))?)?;
    fs::rename(&beside, folder.join(FILE))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn name(name: &str) -> ServiceName {
        name.parse().unwrap()
    }

    pub(crate) fn share(of: &str, millis: u64) -> Share {
        Share {
            objective: Objective {
                latency: Duration::from_millis(millis),
                mode: PilotMode::Observe,
            },
            of: name(of),
            is_measured: true,
            slack_per_mille: 1250,
        }
    }

    #[test]
    fn a_plan_is_stored_as_it_is_and_a_damaged_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()), Plan::default());
        let plan = Plan {
            shares: [
                (name("cart"), share("front", 75)),
                (name("front"), share("front", 40)),
            ]
            .into(),
        };
        write(folder.path(), &plan).unwrap();
        assert_eq!(read(folder.path()), plan);
        for damaged in [
            "[",
            "[{\"service\": 3}]",
            "[{\"service\": \"a.b.c\", \"latencyUs\": 1, \"of\": \"x\", \"isMeasured\": true}]",
        ] {
            fs::write(folder.path().join(FILE), damaged).unwrap();
            assert_eq!(read(folder.path()), Plan::default(), "{damaged}");
        }
        remove(folder.path());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
