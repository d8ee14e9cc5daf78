//! Claims about the histogram for all values: what is counted is never lost, a bucket is never wider
//! than an eighth of its values, adding up two histograms is counting both.
use proptest::collection::vec;
use proptest::prelude::*;
use selvedge_model::Histogram;

/// Values of every size, not only the large ones that plain `u64`s mostly are.
fn value() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64u32).prop_map(|(value, shift)| value >> shift)
}

fn counted(values: &[u64]) -> Histogram {
    let mut histogram = Histogram::new();
    values.iter().for_each(|value| histogram.record(*value));
    histogram
}

proptest! {
    #[test]
    fn a_bucket_holds_its_values_within_an_eighth(value in value()) {
        let index = Histogram::index(value);
        prop_assert!(index < Histogram::BUCKETS);
        let bounds = Histogram::bounds(index);
        prop_assert!(bounds.contains(&value));
        prop_assert!(bounds.end() - bounds.start() <= value / 8);
    }

    #[test]
    fn indices_rise_with_values(one in value(), other in value()) {
        let (low, high) = (one.min(other), one.max(other));
        prop_assert!(Histogram::index(low) <= Histogram::index(high));
    }

    #[test]
    fn nothing_is_lost(values in vec(value(), 0..200)) {
        let histogram = counted(&values);
        prop_assert_eq!(histogram.count(), values.len() as u64);
        let sum = values.iter().fold(0u64, |sum, value| sum.saturating_add(*value));
        prop_assert_eq!(histogram.sum(), sum);
        let in_buckets: u64 = histogram.buckets().map(|(_, count)| count).sum();
        prop_assert_eq!(in_buckets, histogram.count());
        prop_assert_eq!(histogram.count_up_to(u64::MAX), histogram.count());
    }

    #[test]
    fn adding_up_is_counting_both(one in vec(value(), 0..100), other in vec(value(), 0..100)) {
        let mut merged = counted(&one);
        merged.merge(&counted(&other));
        prop_assert_eq!(merged, counted(&[one, other].concat()));
    }

    #[test]
    fn a_quantile_is_the_end_of_the_right_value_s_bucket(
        mut values in vec(value(), 1..200),
        percent in 0..=100u32,
    ) {
        let histogram = counted(&values);
        values.sort_unstable();
        let rank = (values.len() * percent as usize).div_ceil(100).max(1);
        let end = *Histogram::bounds(Histogram::index(values[rank - 1])).end();
        prop_assert_eq!(histogram.quantile(percent, 100), Some(end));
    }

    #[test]
    fn counts_up_to_a_value_are_never_too_many(values in vec(value(), 0..200), at in value()) {
        let up_to = values.iter().filter(|value| **value <= at).count() as u64;
        prop_assert!(counted(&values).count_up_to(at) <= up_to);
    }

    #[test]
    fn counts_of_a_kernel_table_are_taken_over(values in vec(value(), 0..100)) {
        let mut table = [0u64; Histogram::BUCKETS];
        values.iter().for_each(|value| table[Histogram::index(*value)] += 1);
        let sum = values.iter().fold(0u64, |sum, value| sum.saturating_add(*value));
        prop_assert_eq!(Histogram::from_counts(&table, sum), counted(&values));
    }
}
