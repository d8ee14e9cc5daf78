//! Static controllers keep what the policy says, and see what every window held.

use std::time::Duration;

use selvedge_model::RequestPolicy;
use selvedge_resilience::{Controller, Controllers, Settings, Totals, WindowSummary};

use crate::rig::{ERROR, OK, Rig, limited};

#[test]
fn static_settings_follow_the_policy_and_nothing_else() {
    let rig = Rig::new(&[1], RequestPolicy::default());
    for (policy, limit) in [(limited(7), 7), (RequestPolicy::default(), u32::MAX)] {
        let mut controller = Controller::of_upstream(&policy);
        for in_flight in [0, 1000] {
            let window = WindowSummary {
                began: rig.now,
                totals: Totals::default(),
                in_flight,
            };
            let settings = controller.on_window(rig.now + Duration::from_secs(1), &window);
            assert_eq!(settings, Settings { limit });
        }
    }
}

#[test]
fn windows_leave_the_limits_of_the_policy() {
    let mut rig = Rig::new(&[1], limited(2));
    let mut controllers = Controllers::default();
    for limit in [2, 5] {
        rig.plan.upstreams[0].policy = limited(limit);
        rig.reconfigure();
        for kind in [OK, ERROR] {
            rig.ask(kind);
            rig.wait(Duration::from_secs(1));
            controllers.on_window(rig.now, &rig.node);
            let reading = rig.node.reading(rig.now);
            assert_eq!(reading.upstreams[0].limit, Some(limit));
            assert_eq!(reading.routes[0].limit, None);
        }
    }
}
