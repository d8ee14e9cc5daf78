//! Has the controllers look at what came, and set the gates.

use std::time::Duration;

use selvedge_model::Rng;
use selvedge_resilience::Controllers;

use crate::clock::Clock;
use crate::routing::SharedRouting;

/// How often it is looked whether there is anything to control.
const IDLE: Duration = Duration::from_secs(1);

/// Runs as long as the thread that it is on. No request waits for it, and without it the limits stay as they are.
pub(crate) async fn steer(routing: SharedRouting, clock: Clock, seed: u64) {
    let mut controllers = Controllers::new(Rng::seeded(seed));
    loop {
        if let Some(routing) = &*routing.load() {
            controllers.tick(clock.now(), &routing.node, &mut |_, _| {});
        }
        let pause = match controllers.is_idle() {
            true => IDLE,
            false => Controllers::TICK,
        };
        tokio::time::sleep(pause).await;
    }
}
