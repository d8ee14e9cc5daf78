//! What laws know of the world: how long things take, and how that depends on what they set.

mod floor;
mod integral;
mod samples;
mod slope;

pub(crate) use floor::Floor;
pub(crate) use integral::Integral;
pub(crate) use samples::{Baseline, Samples};
pub(crate) use slope::Slope;
