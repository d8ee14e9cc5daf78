//! What an experiment is about, as plain data: services and whom they call, how long their work takes, who
//! asks them and how often, and what goes wrong when. The simulator runs it; nothing here does anything.
//! Chance is handed in: the same seed draws the same numbers on every machine. Read next: [`Scenario`].
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod arrivals;
mod capacity;
mod chance;
mod fault;
mod scenario;
mod service;
mod service_time;

pub use arrivals::{Arrivals, Crowd, Rate};
pub use chance::happens;
pub use fault::{Condition, Fault};
pub use scenario::{Class, Client, Objective, Scenario, ScenarioError};
pub use service::{Forwards, Service, Step};
pub use service_time::ServiceTime;
