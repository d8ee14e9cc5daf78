//! The programs a user would pick instead, each configured for the one thing it is compared in.

mod http;
mod names;

pub(crate) use http::{Contender, Spot, host};
pub(crate) use names::Rival;
