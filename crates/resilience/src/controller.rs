//! What sets the gates: per window, never per request.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use core::mem;

use selvedge_model::{Backend, Instant, RequestPolicy};

use crate::node::Node;
use crate::window::{Totals, WindowSummary};

/// What a controller decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Most requests in flight at once, into one endpoint of an upstream or of a route at its entry;
    /// `u32::MAX` is no limit.
    pub limit: u32,
}

/// A law by which settings follow from windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Controller {
    /// Always these.
    Static(Settings),
}

impl Controller {
    /// What a policy says, whatever happens.
    pub fn of_upstream(policy: &RequestPolicy) -> Self {
        let limit = policy.requests_per_endpoint;
        Self::Static(Settings {
            limit: limit.map_or(u32::MAX, |limit| limit.get()),
        })
    }

    /// No limit at the entry, whatever happens.
    pub const fn of_entry() -> Self {
        Self::Static(Settings { limit: u32::MAX })
    }

    /// The settings before any window.
    pub const fn resting(&self) -> Settings {
        match self {
            Self::Static(settings) => *settings,
        }
    }

    /// The settings after the window that ends now.
    pub fn on_window(&mut self, _now: Instant, _window: &WindowSummary) -> Settings {
        match self {
            Self::Static(settings) => *settings,
        }
    }
}

/// The controllers of a node: one for each upstream and one for each route's entry. Whoever has them
/// calls [`Self::on_window`] at the end of each window, with no hurry: no request waits for that.
#[derive(Debug, Default)]
pub struct Controllers {
    upstreams: BTreeMap<Backend, Steered>,
    entries: BTreeMap<String, Steered>,
}

/// A controller and what it knows already.
#[derive(Debug)]
struct Steered {
    controller: Controller,
    began: Instant,
    seen: Totals,
}

impl Controllers {
    /// Shows each controller what came since the last call, and has the gates do what it decides.
    /// What the node has no more is forgotten.
    pub fn on_window(&mut self, now: Instant, node: &Node) {
        let mut before = mem::take(&mut self.upstreams);
        for upstream in &node.tables.upstreams {
            let backend = &upstream.shared.backend;
            let controller = Controller::of_upstream(&upstream.policy);
            let mut steered = Steered::after(before.remove(backend), controller, now);
            let in_flight = upstream.gate.in_flight();
            let settings = steered.on_window(now, upstream.shared.totals(), in_flight);
            upstream.shared.apply(settings);
            self.upstreams.insert(backend.clone(), steered);
        }
        let mut before = mem::take(&mut self.entries);
        for entry in &node.tables.entries {
            let controller = Controller::of_entry();
            let mut steered = Steered::after(before.remove(entry.name()), controller, now);
            let settings = steered.on_window(now, entry.totals(), entry.in_flight());
            entry.apply(settings);
            self.entries.insert(entry.name().to_string(), steered);
        }
    }
}

impl Steered {
    /// What goes on with the controller of now.
    fn after(before: Option<Self>, controller: Controller, now: Instant) -> Self {
        let (began, seen) = match before {
            Some(before) => (before.began, before.seen),
            None => (now, Totals::default()),
        };
        Self {
            controller,
            began,
            seen,
        }
    }

    fn on_window(&mut self, now: Instant, totals: Totals, in_flight: u32) -> Settings {
        let window = self.close(now, totals, in_flight);
        self.controller.on_window(now, &window)
    }

    /// Ends a window, and begins the next.
    fn close(&mut self, now: Instant, totals: Totals, in_flight: u32) -> WindowSummary {
        let began = mem::replace(&mut self.began, now);
        let before = mem::replace(&mut self.seen, totals);
        WindowSummary {
            began,
            totals: self.seen.since(&before),
            in_flight,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one window holds is in no other.
    #[test]
    fn windows_lie_side_by_side() {
        let at = Instant::from_nanos;
        let mut steered = Steered::after(None, Controller::of_entry(), at(1));
        for (number, requests, due) in [(2, 5, 5), (3, 5, 0), (4, 12, 7)] {
            let totals = Totals {
                requests,
                ..Totals::default()
            };
            let window = steered.close(at(number), totals, 1);
            assert_eq!(
                (window.began, window.totals.requests),
                (at(number - 1), due)
            );
            // A new configuration in between changes nothing.
            steered = Steered::after(Some(steered), Controller::of_entry(), at(99));
        }
    }
}
