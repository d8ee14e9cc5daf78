//! Limits that a law moves: what they count, what their controllers see, and that a new configuration keeps
//! what goes on.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use selvedge_model::{
    CgroupId, Doubt, HeldBy, Holds, JournalEntry, JournalEvent, Limited, RequestPolicy, Rng, Why,
};
use selvedge_resilience::{
    Admission, Attempt, Call, Controllers, Ending, LimitLaw, Replay, Replayed,
};

use crate::rig::{ERROR, OK, Rig, call, limited};

const ADAPTIVE: LimitLaw = LimitLaw::of_endpoint(Duration::from_millis(100));

/// Where nothing was seen, an adaptive limit is this.
const START: u32 = 8;

fn adaptive(weights: &[u16]) -> (Rig, Controllers) {
    let mut rig = Rig::new(weights, RequestPolicy::default());
    rig.plan.upstreams[0].law = ADAPTIVE;
    rig.node = selvedge_resilience::Node::new(&rig.plan, None, 1);
    (rig, Controllers::new(Rng::seeded(1)))
}

fn limit(rig: &Rig) -> Option<u32> {
    rig.endpoints()[0].limit
}

/// So many at once, each of which takes this long.
fn burst(rig: &mut Rig, count: usize, time: Duration) {
    let held: Vec<_> = (0..count).map(|_| rig.send()).collect();
    rig.wait(time);
    for (mut admission, attempt) in held {
        let _ = rig.tell(&mut admission, attempt, OK);
        admission.finish(rig.now, Ending::Complete);
    }
}

/// As many at once as there may be, each of which takes this long, until the controller has decided.
fn fill(rig: &mut Rig, controllers: &mut Controllers, time: Duration) {
    let before = limit(rig);
    for _ in 0..100 {
        burst(rig, limit(rig).unwrap() as usize, time);
        controllers.tick(rig.now, &rig.node, &mut |_, _| {});
        if limit(rig) != before {
            return;
        }
    }
    panic!("the limit stays at {before:?}");
}

#[test]
fn static_limits_stay_as_the_policy_says() {
    let mut rig = Rig::new(&[1], limited(2));
    let mut controllers = Controllers::new(Rng::seeded(1));
    for limit in [2, 5] {
        rig.plan.upstreams[0].policy = limited(limit);
        rig.reconfigure();
        for kind in [OK, ERROR] {
            rig.ask(kind);
            rig.wait(Duration::from_secs(1));
            controllers.tick(rig.now, &rig.node, &mut |_, _| {});
            let reading = rig.node.reading(rig.now);
            assert_eq!(reading.upstreams[0].limit, Some(limit));
            assert_eq!(reading.routes[0].limit, None);
            assert!(controllers.is_idle());
        }
    }
}

#[test]
fn a_limit_rises_with_room_and_falls_with_the_tail() {
    let (mut rig, mut controllers) = adaptive(&[1]);
    controllers.tick(rig.now, &rig.node, &mut |_, _| {});
    assert_eq!(limit(&rig), Some(START));
    fill(&mut rig, &mut controllers, Duration::from_millis(20));
    assert_eq!(limit(&rig), Some(16), "the door is opened by doubling");
    fill(&mut rig, &mut controllers, Duration::from_millis(400));
    assert!(limit(&rig) < Some(16));
}

/// A new configuration goes on with the limit and its controller, and another law begins anew.
#[test]
fn what_a_limit_has_come_to_lives_on() {
    let (mut rig, mut controllers) = adaptive(&[1, 1]);
    let short = Duration::from_millis(20);
    rig.plan.upstreams[0].endpoints.truncate(1);
    rig.reconfigure();
    controllers.tick(rig.now, &rig.node, &mut |_, _| {});
    fill(&mut rig, &mut controllers, short);
    rig.plan.upstreams[0].policy.timeouts.request = Some(Duration::from_secs(1));
    rig.reconfigure();
    assert_eq!(limit(&rig), Some(16));
    fill(&mut rig, &mut controllers, short);
    assert_eq!(limit(&rig), Some(32), "it was never cut");
    rig.plan.upstreams[0].law = LimitLaw::Static;
    rig.reconfigure();
    controllers.tick(rig.now, &rig.node, &mut |_, _| {});
    assert_eq!(limit(&rig), None);
    assert!(controllers.is_idle());
    rig.plan.upstreams[0].law = ADAPTIVE;
    rig.reconfigure();
    assert_eq!(limit(&rig), Some(START));
}

/// Who only observes applies nothing, and what is fixed is not crossed.
#[test]
fn decisions_stay_within_what_is_allowed() {
    for (fixed, is_applied, in_force) in [(None, false, None), (Some(12), true, Some(12))] {
        let (mut rig, mut controllers) = adaptive(&[1]);
        let fixed = fixed.and_then(NonZeroU32::new);
        rig.plan.upstreams[0].policy.requests_per_endpoint = fixed;
        rig.plan.upstreams[0].is_applied = is_applied;
        rig.reconfigure();
        let mut decided = START;
        for _ in 0..200 {
            let count = limit(&rig).unwrap_or(decided).min(START);
            burst(&mut rig, count as usize, Duration::from_millis(20));
            controllers.tick(rig.now, &rig.node, &mut |_, event| {
                if let JournalEvent::Decided { decision, .. } = event {
                    decided = decision.limit;
                }
            });
        }
        assert!(decided > START, "{decided}");
        assert_eq!(limit(&rig), in_force);
    }
}

/// A fixed limit is where the way down begins: the law has not run away above it meanwhile.
#[test]
fn a_law_does_not_run_away_above_what_is_fixed() {
    let (mut rig, mut controllers) = adaptive(&[1]);
    rig.plan.upstreams[0].policy.requests_per_endpoint = NonZeroU32::new(12);
    rig.reconfigure();
    let mut decided = START;
    for (rounds, time) in [(200, 20), (40, 400)] {
        for _ in 0..rounds {
            burst(
                &mut rig,
                decided.min(12) as usize,
                Duration::from_millis(time),
            );
            controllers.tick(rig.now, &rig.node, &mut |_, event| {
                if let JournalEvent::Decided { decision, .. } = event {
                    decided = decision.limit;
                }
            });
        }
    }
    assert!(limit(&rig) < Some(12), "{decided}");
}

/// A request into the server, and a call that it makes for it.
fn waiting(rig: &mut Rig, trace: u64) -> ((Admission, Attempt), Admission) {
    let traced = Call { trace, ..call() };
    let mut admission = rig.admit_as(&traced).unwrap();
    let attempt = rig.attempt(&mut admission);
    let source = Some(CgroupId(1));
    let child = rig.admit_as(&Call { source, ..traced }).unwrap();
    ((admission, attempt), child)
}

/// What waits for a call is no load of its endpoint, whether the call is known to be its or not.
#[test]
fn requests_that_wait_leave_room() {
    for is_joined in [true, false] {
        let (mut rig, _) = adaptive(&[1]);
        let trace = |number| if is_joined { number } else { 0 };
        let held: Vec<_> = (1..=20).map(|it| waiting(&mut rig, trace(it))).collect();
        let own: Vec<_> = (0..START).map(|_| rig.send()).collect();
        assert!(rig.admit().attempt(rig.now, &mut rig.seat).is_err());
        let (requests, calls): (Vec<_>, Vec<_>) = held.into_iter().unzip();
        drop(own);
        drop(calls);
        assert!(rig.admit().attempt(rig.now, &mut rig.seat).is_err());
        drop(requests);
        rig.ask(OK);
    }
}

/// What two endpoints of one workload wait is shared among them by what is in flight into each.
#[test]
fn a_workload_behind_two_ports_waits_once() {
    let (mut rig, _) = adaptive(&[1, 1]);
    let server = rig.plan.upstreams[0].endpoints[0].place;
    rig.plan.upstreams[0].endpoints[1].place = server;
    rig.node = selvedge_resilience::Node::new(&rig.plan, None, 1);
    let _held: Vec<_> = (1..=10).map(|it| waiting(&mut rig, it)).collect();
    let mut own = Vec::new();
    let mut admission = rig.admit();
    while let Ok(attempt) = admission.attempt(rig.now, &mut rig.seat) {
        own.push((admission, attempt));
        admission = rig.admit();
    }
    let room = 2 * START as usize;
    assert!((room - 1..=room + 1).contains(&own.len()), "{}", own.len());
}

/// Calls of a program that passes no trace on are taken off in the mean, be some of them dropped.
#[test]
fn calls_of_no_known_request_are_taken_off_in_the_mean() {
    let (mut rig, mut controllers) = adaptive(&[1]);
    let millis = Duration::from_millis;
    let mut seen = Vec::new();
    for _ in 0..60 {
        let (mut admission, attempt) = rig.send();
        let source = Some(CgroupId(1));
        let calls = [(); 2].map(|()| rig.admit_as(&Call { source, ..call() }).unwrap());
        let [child, dropped] = calls;
        drop(dropped);
        rig.wait(millis(80));
        child.finish(rig.now, Ending::Complete);
        rig.wait(millis(20));
        let _ = rig.tell(&mut admission, attempt, OK);
        admission.finish(rig.now, Ending::Complete);
        controllers.tick(rig.now, &rig.node, &mut |_, event| {
            if let JournalEvent::Decided { window, .. } = event {
                seen.push(window);
            }
        });
    }
    // The first window knows nothing of the calls yet.
    assert!(
        (99_000.0..101_000.0).contains(&seen[0].times.mean),
        "{seen:?}"
    );
    let later = seen.last().unwrap();
    assert!(
        (19_000.0..21_000.0).contains(&later.times.mean),
        "{later:?}"
    );
}

/// The time that counts is the server's own, to the moment: of 300 ms two calls at once took 200 and 150, the
/// second of which began 100 later.
#[test]
fn time_in_calls_is_not_the_servers() {
    let (mut rig, mut controllers) = adaptive(&[1]);
    let millis = Duration::from_millis;
    controllers.tick(rig.now, &rig.node, &mut |_, _| {});
    for round in 0..6 {
        let held: Vec<_> = (0..2)
            .map(|it| waiting(&mut rig, 2 * round + it + 1))
            .collect();
        rig.wait(millis(100));
        let source = Some(CgroupId(1));
        let second: Vec<_> = (0..2)
            .map(|it| Call {
                trace: 2 * round + it + 1,
                source,
                ..call()
            })
            .map(|call| rig.admit_as(&call).unwrap())
            .collect();
        rig.wait(millis(100));
        let (requests, first): (Vec<_>, Vec<_>) = held.into_iter().unzip();
        first
            .into_iter()
            .for_each(|it| it.finish(rig.now, Ending::Complete));
        rig.wait(millis(50));
        second
            .into_iter()
            .for_each(|it| it.finish(rig.now, Ending::Complete));
        rig.wait(millis(50));
        for (mut admission, attempt) in requests {
            let _ = rig.tell(&mut admission, attempt, OK);
            admission.finish(rig.now, Ending::Complete);
        }
    }
    let mut seen = None;
    controllers.tick(rig.now, &rig.node, &mut |_, event| {
        if let JournalEvent::Decided { window, .. } = event {
            seen = Some(window);
        }
    });
    let window = seen.unwrap();
    assert_eq!(window.times.samples, 12);
    assert!(
        (49_000.0..51_000.0).contains(&window.times.mean),
        "{window:?}"
    );
}

/// What is frozen goes to the fixed value where no minute has held yet and to the one of the last that did
/// otherwise, what is pinned to the value, and released it goes on from there.
#[test]
fn what_is_held_does_not_move_until_it_is_released() {
    let (mut rig, mut controllers) = adaptive(&[1]);
    rig.plan.upstreams[0].policy.requests_per_endpoint = NonZeroU32::new(100);
    rig.reconfigure();
    let short = Duration::from_millis(20);
    fill(&mut rig, &mut controllers, short);
    let frozen = Arc::new(Holds {
        services: [rig.plan.upstreams[0].backend.service.clone()].into(),
        ..Holds::default()
    });
    let mut told = Vec::new();
    let mut hold = |rig: &mut Rig, controllers: &mut Controllers, holds: &Arc<Holds>| {
        controllers.hold(holds.clone());
        for _ in 0..50 {
            burst(rig, 5, Duration::from_millis(400));
            controllers.tick(rig.now, &rig.node, &mut |about: &Limited, event| {
                let about = about.clone();
                told.push(JournalEntry { about, event });
            });
        }
        (limit(rig), std::mem::take(&mut told))
    };
    let (at, entries) = hold(&mut rig, &mut controllers, &frozen);
    assert_eq!(at, Some(100), "nothing has held for a minute yet");
    let [JournalEntry { about, event }] = &entries[..] else {
        panic!("{entries:?}");
    };
    assert!(matches!(
        event,
        JournalEvent::Held {
            limit: Some(100),
            by: HeldBy::Freeze,
            ..
        }
    ));
    let pinned = Arc::new(Holds {
        pins: [(about.clone(), Some(5))].into(),
        ..Holds::default()
    });
    let (at, entries) = hold(&mut rig, &mut controllers, &pinned);
    assert_eq!((at, entries.len()), (Some(5), 1));
    // Released, it goes on from where it was.
    controllers.hold(Arc::default());
    let mut states = 0;
    controllers.tick(rig.now, &rig.node, &mut |_, event| {
        states += usize::from(matches!(event, JournalEvent::State(state) if state.limit == 5));
    });
    assert_eq!((limit(&rig), states), (Some(5), 1));
    // A minute that holds.
    for _ in 0..4000 {
        let count = limit(&rig).unwrap() as usize;
        burst(&mut rig, count, short);
        controllers.tick(rig.now, &rig.node, &mut |_, _| {});
    }
    let (at, _) = hold(&mut rig, &mut controllers, &frozen);
    assert!((20..=100).contains(&at.unwrap()), "{at:?}");
    assert_eq!(at, hold(&mut rig, &mut controllers, &frozen).0);
    // Who comes later knows nothing of that minute, but where the limit came to rest.
    let rested = Arc::new(Holds {
        rests: [(about.clone(), at)].into(),
        ..Holds::clone(&frozen)
    });
    let (same, entries) = hold(&mut rig, &mut controllers, &rested);
    assert_eq!((same, entries.len()), (at, 0), "it is there already");
    rig.node = selvedge_resilience::Node::new(&rig.plan, None, 1);
    let mut later = Controllers::new(Rng::seeded(2));
    assert_eq!(hold(&mut rig, &mut later, &rested).0, at);
}

/// What happens to limits while time passes so, in steps of 50 ms.
fn pass(rig: &mut Rig, controllers: &mut Controllers, time: Duration) -> Vec<JournalEvent> {
    let mut told = Vec::new();
    let steps = time.as_millis() / Controllers::TICK.as_millis();
    for _ in 0..steps {
        rig.wait(Controllers::TICK);
        controllers.tick(rig.now, &rig.node, &mut |_, event| told.push(event));
    }
    told
}

fn doubts(told: &[JournalEvent]) -> Vec<Doubt> {
    let doubts = told.iter().filter_map(|event| match event {
        JournalEvent::Held {
            by: HeldBy::Doubt(doubt),
            ..
        } => Some(*doubt),
        _ => None,
    });
    doubts.collect()
}

fn goes_on(told: &[JournalEvent]) -> bool {
    matches!(told.last(), Some(JournalEvent::State(_)))
}

/// A process that stood still, or a clock that jumped: the limit stays, and is moved again after a while.
#[test]
fn after_time_that_nobody_saw_a_limit_rests() {
    let (mut rig, mut controllers) = adaptive(&[1]);
    fill(&mut rig, &mut controllers, Duration::from_millis(10));
    let at = limit(&rig);
    assert!(at > Some(START));
    rig.wait(Duration::from_secs(3600));
    let told = pass(&mut rig, &mut controllers, Duration::from_secs(4));
    assert_eq!(
        (doubts(&told), goes_on(&told)),
        (vec![Doubt::Stalled], false)
    );
    assert_eq!(limit(&rig), at, "no minute has held yet");
    let told = pass(&mut rig, &mut controllers, Duration::from_secs(2));
    assert!(doubts(&told).is_empty() && goes_on(&told), "{told:?}");
    assert_eq!(limit(&rig), at);
    fill(&mut rig, &mut controllers, Duration::from_millis(10));
}

/// Where nothing ends any more there is nothing to decide by; an endpoint that nobody asks is not silent.
#[test]
fn where_nothing_ends_a_limit_rests_until_something_does() {
    let (mut rig, mut controllers) = adaptive(&[1]);
    fill(&mut rig, &mut controllers, Duration::from_millis(10));
    let minute = Duration::from_secs(60);
    assert!(pass(&mut rig, &mut controllers, minute).is_empty(), "idle");
    let (mut admission, attempt) = rig.send();
    let told = pass(&mut rig, &mut controllers, Duration::from_secs(9));
    assert!(told.is_empty(), "{told:?}");
    let told = pass(&mut rig, &mut controllers, minute);
    assert_eq!(doubts(&told), [Doubt::Silent], "once: {told:?}");
    let _ = rig.tell(&mut admission, attempt, OK);
    admission.finish(rig.now, Ending::Complete);
    let told = pass(&mut rig, &mut controllers, Duration::from_secs(6));
    assert!(doubts(&told).is_empty() && goes_on(&told), "{told:?}");
}

/// Whoever holds a limit holds it also in doubt, and it is moved again only when released.
#[test]
fn who_freezes_is_obeyed_in_doubt() {
    let (mut rig, mut controllers) = adaptive(&[1]);
    fill(&mut rig, &mut controllers, Duration::from_millis(10));
    rig.wait(Duration::from_secs(10));
    assert_eq!(
        doubts(&pass(&mut rig, &mut controllers, Controllers::TICK)),
        [Doubt::Stalled]
    );
    controllers.hold(Arc::new(Holds {
        everything: true,
        ..Holds::default()
    }));
    let told = pass(&mut rig, &mut controllers, Duration::from_secs(60));
    let [JournalEvent::Held { by, .. }] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(*by, HeldBy::Freeze);
    controllers.hold(Arc::default());
    let told = pass(&mut rig, &mut controllers, Duration::from_secs(1));
    assert!(told.len() == 1 && goes_on(&told), "{told:?}");
}

/// What controllers told of themselves leads, replayed, to what they decided: also where the journal begins
/// later, over a hold, and where what is to be kept moves, which in itself moves no limit.
#[test]
fn what_controllers_tell_can_be_replayed() {
    let (mut rig, mut controllers) = adaptive(&[1, 1]);
    let mut replays = vec![Replay::default()];
    let mut counts = [0; 4];
    for round in 0..2000_u32 {
        if round % 500 == 250 {
            let mut replay = Replay::default();
            controllers.tell(rig.now, &mut |about: &Limited, event| {
                let about = about.clone();
                replay.on_entry(&JournalEntry { about, event });
            });
            replays.push(replay);
        }
        if round % 130 == 90 {
            let objective = Duration::from_millis(u64::from(40 + round % 200));
            let before = limit(&rig);
            rig.plan.upstreams[0].law = LimitLaw::of_endpoint(objective);
            rig.reconfigure();
            assert_eq!(limit(&rig), before);
        }
        controllers.hold(Arc::new(Holds {
            everything: (700..800).contains(&round),
            ..Holds::default()
        }));
        let count = 2 * limit(&rig).unwrap_or(8).min(64) as usize;
        burst(
            &mut rig,
            count,
            Duration::from_millis(u64::from(10 + round % 150)),
        );
        controllers.tick(rig.now, &rig.node, &mut |about: &Limited, event| {
            let about = about.clone();
            let entry = JournalEntry { about, event };
            for replay in &mut replays {
                match replay.on_entry(&entry) {
                    Replayed::Equal => counts[0] += 1,
                    Replayed::Differs(_) => counts[1] += 1,
                    Replayed::Unfounded => counts[2] += 1,
                    Replayed::Undecided => counts[3] += 1,
                }
            }
        });
    }
    let [equal, differing, unfounded, undecided] = counts;
    assert!(equal > 500 && undecided > 30, "{counts:?}");
    assert_eq!((differing, unfounded), (0, 0));
}

/// What an endpoint takes with a limit that moves, its controller included, on two workers: without a request and
/// after many. Neither looking nor deciding takes more.
#[test]
fn a_limit_that_moves_takes_little_memory() {
    const ENDPOINTS: u64 = 100;
    let mut rig = Rig::new(&[1; ENDPOINTS as usize], RequestPolicy::default());
    rig.plan.upstreams[0].law = ADAPTIVE;
    rig.plan.routes.clear();
    let mut built = None;
    let idle = allocation_counter::measure(|| {
        let node = selvedge_resilience::Node::new(&rig.plan, None, 2);
        let mut controllers = Controllers::new(Rng::seeded(1));
        controllers.tick(rig.now, &node, &mut |_, _| {});
        built = Some((node, controllers));
    });
    // The tables of traces and trees are the node's, and there once.
    rig.plan.upstreams.clear();
    let mut empty = None;
    let tables = allocation_counter::measure(|| {
        let node = selvedge_resilience::Node::new(&rig.plan, None, 2);
        empty = Some(node);
    });
    let each = (idle.bytes_current - tables.bytes_current) as u64 / ENDPOINTS;
    assert!(each <= 16 << 10, "{each} bytes for each endpoint");
    let (mut rig, mut controllers) = adaptive(&[1]);
    fill(&mut rig, &mut controllers, Duration::from_millis(20));
    for _ in 0..200 {
        let count = limit(&rig).unwrap() as usize;
        burst(&mut rig, count, Duration::from_millis(20));
        let mut decided = 0;
        let counted = allocation_counter::measure(|| {
            controllers.tick(rig.now, &rig.node, &mut |_, _| decided += 1);
        });
        assert_eq!(counted.count_total, 0, "{decided} decided");
    }
}

/// A limit that is only told of holds nothing back: it says nothing about what less in flight would do, and the way
/// down that is told begins at what is in flight.
#[test]
fn what_is_not_in_force_is_no_evidence() {
    let (mut rig, mut controllers) = adaptive(&[1]);
    rig.plan.upstreams[0].is_applied = false;
    rig.reconfigure();
    let mut whys = Vec::new();
    let mut told = 0;
    for round in 0..300 {
        // 40 at once, whatever is decided, of which each takes twice as long as it may.
        burst(&mut rig, 40, Duration::from_millis(200 + round % 7));
        controllers.tick(rig.now, &rig.node, &mut |_, event| {
            if let JournalEvent::Decided { window, decision } = event {
                assert!(!window.is_applied);
                whys.push(decision.why);
                told = decision.limit;
                assert_eq!(decision.floor, 0.0, "nothing of it was without load");
            }
        });
    }
    assert!(whys.iter().all(|why| *why == Why::Slow), "{whys:?}");
    assert!((20..40).contains(&told), "{told}");
}
