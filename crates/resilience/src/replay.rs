//! Does what a journal says the controllers did, and tells whether they did so.

use alloc::collections::BTreeMap;

use selvedge_model::{Decision, JournalEntry, JournalEvent, Limited, Rng};

use crate::limit::{Controller, LimitLaw};

/// Controllers in the states that a journal has led to so far.
#[derive(Debug, Default)]
pub struct Replay {
    controllers: BTreeMap<Limited, Controller>,
}

/// What an entry of a journal came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Replayed {
    /// The window leads to the decision that is written down, bit for bit.
    Equal,
    /// It leads to this one.
    Differs(Decision),
    /// Nothing says in which state the controller was: that was before the journal begins, was lost, or is not
    /// of a law that this version knows.
    Unfounded,
    /// Nothing was decided.
    Undecided,
}

impl Replay {
    /// Takes the next entry.
    pub fn on_entry(&mut self, entry: &JournalEntry) -> Replayed {
        match &entry.event {
            JournalEvent::State(state) => {
                let law = LimitLaw::of(&entry.about, state.objective);
                match Controller::restored(law, &state.memory) {
                    Some(controller) => self.controllers.insert(entry.about.clone(), controller),
                    None => self.controllers.remove(&entry.about),
                };
                Replayed::Undecided
            }
            JournalEvent::Decided { window, decision } => {
                let Some(controller) = self.controllers.get_mut(&entry.about) else {
                    return Replayed::Unfounded;
                };
                // The laws of the proxy leave nothing to chance.
                let replayed = controller.on_window(window, &mut Rng::seeded(0));
                match is_same(&replayed, decision) {
                    true => Replayed::Equal,
                    false => Replayed::Differs(replayed),
                }
            }
            JournalEvent::Held { .. } => Replayed::Undecided,
            JournalEvent::Gone => {
                self.controllers.remove(&entry.about);
                Replayed::Undecided
            }
        }
    }

    /// Entries are missing here: what follows of any limit is unfounded until its next state.
    pub fn on_gap(&mut self) {
        self.controllers.clear();
    }
}

fn is_same(one: &Decision, other: &Decision) -> bool {
    let bits = |it: &Decision| (it.limit, it.is_fresh, it.why, it.floor.to_bits());
    bits(one) == bits(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use selvedge_model::{ControllerState, Fates, Instant, Tail, WindowSummary};

    fn limited(is_entry: bool) -> Limited {
        let service: selvedge_model::ServiceName = "cart".parse().unwrap();
        match is_entry {
            true => Limited::Entry {
                service,
                route: "r".into(),
            },
            false => Limited::Endpoint {
                backend: selvedge_model::Backend {
                    service,
                    port: selvedge_model::Port::MIN,
                },
                place: selvedge_model::Place::Local(selvedge_model::CgroupId(1)),
                port: selvedge_model::Port::MIN,
            },
        }
    }

    /// A window as wild as any that may come.
    fn window(rng: &mut Rng, began: Instant, limit: u32) -> WindowSummary {
        let samples = 10 + rng.below(500);
        let q95 = f64::from(1 + rng.below(400_000));
        let peak = rng.below(2 * limit + 2);
        WindowSummary {
            began,
            ended: began + Duration::from_millis(200 + u64::from(rng.below(2000))),
            limit,
            is_applied: rng.below(4) > 0,
            peak,
            times: Tail {
                samples,
                mean: 0.5 * q95,
                median: 0.4 * q95,
                q95,
                q95_low: 0.9 * q95,
                q95_high: 1.1 * q95,
            },
            refused: u64::from(rng.below(3) / 2 * 100),
            refused_share: f64::from(rng.below(1000)) / 1000.0,
            fates: Fates {
                ended: 100,
                refused: u64::from(rng.below(40)),
                wasted: u64::from(rng.below(20)),
                late: u64::from(rng.below(200)),
            },
        }
    }

    /// From wherever a journal begins, and each state holds all that matters.
    #[test]
    fn recorded_windows_lead_to_the_recorded_decisions_from_any_state() {
        for seed in 0..64 {
            let mut rng = Rng::seeded(seed);
            let about = limited(seed % 2 == 0);
            let objective = Duration::from_millis(100);
            let law = LimitLaw::of(&about, objective);
            let mut controller = Controller::new(law).unwrap();
            let mut replays: alloc::vec::Vec<Replay> = alloc::vec![];
            let (mut now, mut limit) = (Instant::default(), controller.limit());
            for round in 0..200 {
                if round % 20 == 0 {
                    let memory = controller.memory();
                    assert!(memory.len() <= ControllerState::MAX_MEMORY);
                    let state = ControllerState {
                        at: now,
                        objective,
                        fixed: None,
                        is_applied: true,
                        limit,
                        memory,
                    };
                    let (about, event) = (about.clone(), JournalEvent::State(state));
                    let mut replay = Replay::default();
                    replay.on_entry(&JournalEntry { about, event });
                    replays.push(replay);
                }
                let window = window(&mut rng, now, limit);
                let decision = controller.on_window(&window, &mut Rng::seeded(1));
                let entry = JournalEntry {
                    about: about.clone(),
                    event: JournalEvent::Decided { window, decision },
                };
                for replay in &mut replays {
                    assert_eq!(replay.on_entry(&entry), Replayed::Equal, "{seed} {round}");
                }
                (now, limit) = (window.ended, decision.limit);
            }
        }
    }

    #[test]
    fn what_differs_or_has_no_ground_is_told() {
        let about = limited(false);
        let objective = Duration::from_millis(100);
        let mut controller = Controller::new(LimitLaw::of(&about, objective)).unwrap();
        let memory = controller.memory();
        let window = window(&mut Rng::seeded(1), Instant::default(), controller.limit());
        let decision = controller.on_window(&window, &mut Rng::seeded(1));
        let entry = |event| JournalEntry {
            about: about.clone(),
            event,
        };
        let decided = |limit| {
            let decision = Decision { limit, ..decision };
            entry(JournalEvent::Decided { window, decision })
        };
        let state = |memory: &[u8]| {
            entry(JournalEvent::State(ControllerState {
                at: Instant::default(),
                objective,
                fixed: None,
                is_applied: true,
                limit: 8,
                memory: memory.into(),
            }))
        };
        let mut replay = Replay::default();
        let right = decided(decision.limit);
        assert_eq!(replay.on_entry(&right), Replayed::Unfounded);
        replay.on_entry(&state(&memory));
        let wrong = decided(decision.limit + 1);
        assert_eq!(replay.on_entry(&wrong), Replayed::Differs(decision));
        for cut in 0..memory.len() {
            replay.on_entry(&state(&memory[..cut]));
            assert_eq!(replay.on_entry(&right), Replayed::Unfounded, "cut at {cut}");
        }
        for event in [JournalEvent::Gone, JournalEvent::Gone] {
            replay.on_entry(&state(&memory));
            replay.on_entry(&entry(event));
            assert_eq!(replay.on_entry(&right), Replayed::Unfounded);
        }
        replay.on_entry(&state(&memory));
        replay.on_gap();
        assert_eq!(replay.on_entry(&right), Replayed::Unfounded);
    }

    /// Whatever a memory holds, it is read or not, and no window makes what it led to panic.
    #[test]
    fn no_memory_makes_a_controller_panic() {
        let about = limited(false);
        let law = LimitLaw::of(&about, Duration::from_millis(100));
        for seed in 0..2000 {
            let mut rng = Rng::seeded(seed);
            let mut controller = Controller::new(law).unwrap();
            let mut now = Instant::default();
            for _ in 0..rng.below(40) {
                let window = window(&mut rng, now, controller.limit());
                controller.on_window(&window, &mut Rng::seeded(1));
                now = window.ended;
            }
            let mut memory = controller.memory();
            for _ in 0..1 + rng.below(4) {
                let place = rng.below(u32::try_from(memory.len()).unwrap());
                memory[place as usize] = rng.below(256) as u8;
            }
            if let Some(mut controller) = Controller::restored(law, &memory) {
                for _ in 0..20 {
                    let window = window(&mut rng, now, controller.limit().clamp(1, 4096));
                    controller.on_window(&window, &mut Rng::seeded(1));
                    now = window.ended;
                }
            }
        }
    }
}
