//! Who does not wait any longer is not waited for, and nothing else follows from it.

use std::time::Duration;

use selvedge_model::{Port, Rng};
use selvedge_resilience::{
    BalanceLaw, Call, Circuit, Controllers, Ending, LimitLaw, OutcomeKind, RetryLaw,
};

use crate::rig::{OK, Rig, call, ejecting};

const OBJECTIVE: Duration = Duration::from_millis(250);
const TIMEOUT: Duration = Duration::from_millis(1);

/// Two endpoints that have answered for a while, and what their limits, shares of good answers and circuits are after 300
/// more requests, of which two of three have no answer in `time`.
fn after(client_timeout: Option<Duration>, time: Duration) -> Vec<(Option<u32>, u16, Circuit)> {
    let mut rig = Rig::new(&[1, 1], ejecting(50));
    let upstream = &mut rig.plan.upstreams[0];
    upstream.law = LimitLaw::of_endpoint(OBJECTIVE);
    upstream.retries = RetryLaw::Headroom;
    upstream.balance = BalanceLaw::LeastTime;
    upstream.policy.timeouts.request = Some(Duration::from_secs(1));
    rig.reconfigure();
    let mut controllers = Controllers::new(Rng::seeded(1));
    for nth in 0..900 {
        let fails = nth >= 600 && nth % 3 > 0;
        let call = Call {
            client_timeout: client_timeout.filter(|_| fails),
            ..call()
        };
        let mut admission = rig.admit_as(&call).unwrap();
        let attempt = rig.attempt(&mut admission);
        rig.wait(if fails {
            time
        } else {
            Duration::from_millis(5)
        });
        let kind = if fails { OutcomeKind::TimedOut } else { OK };
        let _ = rig.tell(&mut admission, attempt, kind);
        admission.finish(rig.now, Ending::Complete);
        controllers.tick(rig.now, &rig.node, &mut |_, _| {});
    }
    let mut endpoints = rig.endpoints();
    endpoints.sort_by_key(|it| Port::get(it.port));
    let seen = endpoints.iter().map(|it| {
        let good = it.pace.unwrap().good_per_mille;
        (it.limit, good, it.circuit)
    });
    seen.collect()
}

#[test]
fn nothing_follows_for_an_endpoint_from_that_somebody_does_not_wait() {
    for (limit, good, circuit) in after(Some(TIMEOUT), TIMEOUT) {
        assert!(limit.unwrap() >= 8, "{limit:?}");
        assert_eq!((good, circuit), (1000, Circuit::Closed));
    }
    // That they have no answer in the time that a policy gives does.
    let seen = after(None, Duration::from_secs(1));
    assert!(seen.iter().any(|(_, good, _)| *good < 1000), "{seen:?}");
    let seen = after(Some(Duration::from_secs(2)), Duration::from_secs(1));
    assert!(
        seen.iter().any(|(_, good, _)| *good < 1000),
        "who would have waited longer does not change that: {seen:?}"
    );
}
