//! The power of two choices (M. Mitzenmacher, "The power of two choices in randomized load balancing",
//! 2001), by requests in flight.

/// How busy an endpoint is for its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) in_flight: u32,
    /// Not 0.
    pub(crate) weight: u16,
}

/// Whether `one` has fewer requests in flight for its weight than `other`.
pub(crate) fn lighter(one: Load, other: Load) -> bool {
    let scaled = |load: Load, by: Load| u64::from(load.in_flight) * u64::from(by.weight);
    scaled(one, other) < scaled(other, one)
}
