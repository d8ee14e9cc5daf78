//! Metrics and log lines, for agent and proxy alike.
//!
//! Metrics are values read at the moment of a scrape and written as Prometheus text ([`Exposition`]);
//! events between scrapes are counted in a [`Counter`]. Log lines go to standard error, one line an
//! event ([`log`]). Nothing here opens a socket or a file. Read next: `exposition.rs`.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod counter;
mod exposition;
pub mod log;

pub use counter::Counter;
pub use exposition::{Exposition, Family, Kind};
pub use log::Level;
