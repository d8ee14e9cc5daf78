//! What sets the gates: per window, never per request.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};

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
        let mut before = core::mem::take(&mut self.upstreams);
        for upstream in &node.tables.upstreams {
            let backend = &upstream.shared.backend;
            let controller = Controller::of_upstream(&upstream.policy);
            let mut steered = Steered::after(before.remove(backend), controller, now);
            let in_flight = upstream.in_flight();
            let settings = steered.on_window(now, upstream.shared.totals(), in_flight);
            upstream.shared.apply(settings);
            self.upstreams.insert(backend.clone(), steered);
        }
        let mut before = core::mem::take(&mut self.entries);
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
        let window = WindowSummary {
            began: self.began,
            totals: totals.since(&self.seen),
            in_flight,
        };
        self.began = now;
        self.seen = totals;
        self.controller.on_window(now, &window)
    }
}
