//! Which endpoint a request goes to, whether it may go at all, and whether it is sent again.
//!
//! A [`Node`] is asked by the proxy's workers, and by whoever simulates them: [`Node::admit`], then
//! [`Admission::attempt`] and [`Admission::on_answer`] or [`Admission::on_outcome`] until the verdict
//! is to deliver. What is asked per request is the *gate*: it takes no lock and allocates nothing, and
//! its settings are atomics. What sets these is a [`Controller`], which sees summaries of windows and
//! never a request; [`Controllers`] are those of a node. Time and chance are handed in; the crate performs no IO and reads no clock. Read next:
//! [`Node`], then `admission.rs`; [`planner`] is what sets objectives for these.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod admission;
mod attempt;
mod balance;
mod budget;
mod callers;
mod controller;
mod counter;
mod doubt;
mod eject;
mod entry;
mod estimate;
mod gate;
mod in_flight;
mod latency;
mod limit;
mod limiter;
mod memory;
mod node;
mod outcome;
mod plan;
pub mod planner;
mod reading;
mod rejection;
mod replay;
mod reserve;
mod rest;
mod retry;
mod seat;
mod slots;
mod tables;
mod throttle;
mod trace;
mod tree;
mod upstream;
mod window;
mod workload;

pub use admission::{Admission, Call};
pub use attempt::Attempt;
pub use balance::BalanceLaw;
pub use controller::{Controllers, Record};
pub use counter::Counter;
pub use eject::Circuit;
pub use latency::Latency;
pub use limit::{Controller, GradientSettings, LimitLaw, Terms};
pub use node::Node;
pub use outcome::{Ending, Outcome, OutcomeKind, Verdict};
pub use plan::{EndpointPlan, NodePlan, RoutePlan, UpstreamPlan, WorkloadPlan};
pub use reading::{EndpointReading, NodeReading, RouteReading, UpstreamReading, WorkloadReading};
pub use rejection::{Gate, Rejection};
pub use replay::{Replay, Replayed};
pub use retry::RetryLaw;
pub use seat::Seat;
pub use selvedge_model::Withheld;
pub use window::Totals;
