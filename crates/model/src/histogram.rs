//! A log-linear histogram in integers: the same values give the same buckets on every machine, in
//! the kernel and here.
//!
//! It never rounds through floating point and never allocates for a value it has room for. A table
//! that counts by the same law elsewhere, in a kernel map say, is taken over by
//! [`Histogram::from_counts`].

use alloc::vec::Vec;
use core::ops::RangeInclusive;

/// The law of a log-linear histogram: each power of two is cut into `2^SUB_BITS` buckets of equal width, so
/// that a value is known within `2^-SUB_BITS` of itself, and exactly below `2^(SUB_BITS + 1)`.
#[derive(Clone, Copy, Debug)]
pub struct LogLinear<const SUB_BITS: u32>;

impl<const SUB_BITS: u32> LogLinear<SUB_BITS> {
    /// The bucket that `value` belongs to.
    pub const fn index(value: u64) -> usize {
        if value < 1 << SUB_BITS {
            return value as usize;
        }
        let shift = value.ilog2() - SUB_BITS;
        ((shift as u64) << SUB_BITS) as usize + (value >> shift) as usize
    }

    /// The values that belong to bucket `index`, which is that of some value.
    pub const fn bounds(index: usize) -> RangeInclusive<u64> {
        if index < 2 << SUB_BITS {
            return index as u64..=index as u64;
        }
        let shift = (index >> SUB_BITS) - 1;
        let mantissa = (index - (shift << SUB_BITS)) as u64;
        let lowest = mantissa << shift;
        lowest..=lowest + ((1 << shift) - 1)
    }
}

/// Eight buckets for each power of two.
type Law = LogLinear<3>;

/// How often values of each size were seen. The unit is the user's: say it in the name
/// (`connect_time_us`).
///
/// Values up to 15 are kept exactly; any other is known within one eighth of itself. Counts
/// saturate. At most [`Histogram::BUCKETS`] counts are held, allocated up to the highest seen.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    sum: u64,
}

impl Histogram {
    /// Buckets that cover every `u64`.
    pub const BUCKETS: usize = 496;

    /// A histogram of nothing.
    pub const fn new() -> Self {
        Self {
            counts: Vec::new(),
            sum: 0,
        }
    }

    /// Takes over counts made elsewhere by the same law, bucket 0 first, with the sum of the values
    /// behind them. Buckets above [`Self::BUCKETS`] cannot be and are left out.
    pub fn from_counts(counts: &[u64], sum: u64) -> Self {
        let counts = &counts[..counts.len().min(Self::BUCKETS)];
        Self {
            counts: counts.to_vec(),
            sum,
        }
    }

    /// The bucket that `value` belongs to.
    pub const fn index(value: u64) -> usize {
        Law::index(value)
    }

    /// The values that belong to bucket `index`, which is below [`Self::BUCKETS`].
    pub const fn bounds(index: usize) -> RangeInclusive<u64> {
        debug_assert!(index < Self::BUCKETS);
        Law::bounds(index)
    }

    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        self.record_many(value, 1);
    }

    /// Counts `value` `times` times.
    pub fn record_many(&mut self, value: u64, times: u64) {
        let index = Self::index(value);
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] = self.counts[index].saturating_add(times);
        self.sum = self.sum.saturating_add(value.saturating_mul(times));
    }

    /// Adds everything `other` saw.
    pub fn merge(&mut self, other: &Self) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.saturating_add(*theirs);
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.counts
            .iter()
            .fold(0, |total, count| total.saturating_add(*count))
    }

    /// The sum of all values counted.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// How many values were at most `value`; exact where `value` is the last of its bucket, and
    /// never too many otherwise.
    pub fn count_up_to(&self, value: u64) -> u64 {
        let index = Self::index(value);
        let whole = if *Self::bounds(index).end() == value {
            index + 1
        } else {
            index
        };
        let counted = self.counts.iter().take(whole);
        counted.fold(0, |total, count| total.saturating_add(*count))
    }

    /// The smallest bucket end that at least `numerator / denominator` of the values do not exceed;
    /// `None` of an empty histogram. `denominator` is not 0.
    pub fn quantile(&self, numerator: u32, denominator: u32) -> Option<u64> {
        debug_assert!(numerator <= denominator && denominator > 0);
        let count = u128::from(self.count());
        let rank = (count * u128::from(numerator))
            .div_ceil(u128::from(denominator))
            .max(1);
        let mut seen = 0u128;
        for (index, bucket) in self.counts.iter().enumerate() {
            seen += u128::from(*bucket);
            if seen >= rank {
                return Some(*Self::bounds(index).end());
            }
        }
        None
    }

    /// Counts of the buckets that are not empty, in rising order of their values.
    pub fn buckets(&self) -> impl Iterator<Item = (RangeInclusive<u64>, u64)> {
        let filled = self
            .counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0);
        filled.map(|(index, count)| (Self::bounds(index), *count))
    }
}

impl PartialEq for Histogram {
    /// Trailing empty buckets say nothing.
    fn eq(&self, other: &Self) -> bool {
        self.sum == other.sum && self.buckets().eq(other.buckets())
    }
}

impl Eq for Histogram {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_tile_every_value() {
        let mut next = 0u128;
        for index in 0..Histogram::BUCKETS {
            let bounds = Histogram::bounds(index);
            assert_eq!(u128::from(*bounds.start()), next, "bucket {index}");
            assert_eq!(Histogram::index(*bounds.start()), index);
            assert_eq!(Histogram::index(*bounds.end()), index);
            next = u128::from(*bounds.end()) + 1;
        }
        assert_eq!(next, 1 << 64);
    }

    #[test]
    fn quantiles_of_known_values() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(1, 2), None);
        for value in 1..=10 {
            histogram.record(value);
        }
        assert_eq!(histogram.quantile(0, 1), Some(1));
        assert_eq!(histogram.quantile(1, 2), Some(5));
        assert_eq!(histogram.quantile(99, 100), Some(10));
        assert_eq!(histogram.count_up_to(7), 7);
        assert_eq!((histogram.count(), histogram.sum()), (10, 55));
    }
}
