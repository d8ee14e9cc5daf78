//! Numbers by chance. The functions are those of `libm`, written out in Rust, so that each machine and each
//! compiler gives the same bits; the standard library's are the platform's.

use core::time::Duration;

use selvedge_model::Rng;

/// Evenly from above 0 up to and with 1: its logarithm is finite.
pub(crate) fn unit(rng: &mut Rng) -> f64 {
    const BITS: u32 = 53;
    ((rng.next_u64() >> (u64::BITS - BITS)) + 1) as f64 / (1u64 << BITS) as f64
}

/// Exponentially distributed with mean 1, by inversion (L. Devroye, "Non-Uniform Random Variate
/// Generation", 1986, section II.2).
pub(crate) fn exponential(rng: &mut Rng) -> f64 {
    -libm::log(unit(rng))
}

/// Normally distributed with mean 0 and deviation 1 (G. E. P. Box, M. E. Muller, "A Note on the Generation
/// of Random Normal Deviates", 1958).
pub(crate) fn normal(rng: &mut Rng) -> f64 {
    let radius = libm::sqrt(2.0 * exponential(rng));
    radius * libm::cos(core::f64::consts::TAU * unit(rng))
}

/// So many seconds, to the nanosecond; what is too long for one is the longest there is.
pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

/// Whether something with this probability happens.
pub fn happens(share: f64, rng: &mut Rng) -> bool {
    unit(rng) <= share
}
