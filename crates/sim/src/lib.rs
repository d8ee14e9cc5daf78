//! Runs a scenario in simulated time against the same gates and controllers that the proxy asks.
//!
//! A run is a loop over an agenda of events: each is taken in the order of its moment, moves the world and
//! puts further ones in. Nothing reads a clock, and chance comes from the seed: the same seed gives the same
//! bytes. Read next: `engine.rs`.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod agenda;
mod arena;
mod door;
mod engine;
mod fit;
mod mesh;
mod objective;
mod planning;
mod policy;
mod report;
mod retuning;
mod station;
mod verdict;

pub use door::Doorman;
pub use engine::{run, run_and_tell};
pub use fit::{Fit, Recorded, Sightings, Unfit};
pub use policy::{FIXED_RETRIES, NamedPolicy, PARTIAL, POLICIES, Policy, Shares, Stands, Steering};
pub use report::{ClientShare, Report, Second};
pub use selvedge_resilience::Record;
pub use station::Station;
pub use verdict::Verdict;
