//! Choosing among endpoints.

mod draw;
mod least_request;
mod least_time;

pub(crate) use draw::Draw;
pub(crate) use least_request::{Load, lighter};
pub(crate) use least_time::{Pace, Standing, sooner};

/// Which of two endpoints a request goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BalanceLaw {
    /// The one with fewer requests in flight for its weight.
    #[default]
    LeastRequest,
    /// The one that is likely to have it answered well sooner, by how long its answers took of late and how many of
    /// them were good: half as much counts after 1.4 s.
    LeastTime,
}
