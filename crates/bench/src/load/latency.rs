//! Latencies, within 1 % of themselves.
//!
//! The mesh's own histogram (`model::Histogram`) knows a value within an eighth, which is what a
//! metric can afford. Bars of a few per cent cannot be judged by it, so that the bench counts by the
//! same law with 16 times the buckets: 59 KiB, of which a run touches a few lines.

/// Buckets per power of two, as a power of two.
const SUB_BITS: u32 = 7;
const BUCKETS: usize = ((64 - SUB_BITS as usize) << SUB_BITS) + (1 << SUB_BITS);

/// How often latencies of each size were seen, in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Latencies {
    counts: Box<[u64]>,
    count: u64,
    sum_ns: u64,
    most_ns: u64,
}

impl Latencies {
    pub(super) fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS].into(),
            count: 0,
            sum_ns: 0,
            most_ns: 0,
        }
    }

    pub(super) fn record(&mut self, latency_ns: u64) {
        self.counts[index(latency_ns)] += 1;
        self.count += 1;
        self.sum_ns = self.sum_ns.saturating_add(latency_ns);
        self.most_ns = self.most_ns.max(latency_ns);
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn most_ns(&self) -> u64 {
        self.most_ns
    }

    /// 0 of none.
    pub(super) fn mean_ns(&self) -> u64 {
        self.sum_ns / self.count.max(1)
    }

    /// What `share`, from 0 to 1, of all do not exceed, to a bucket's end; 0 of none.
    pub(super) fn quantile_ns(&self, share: f64) -> u64 {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return last_of(index).min(self.most_ns);
            }
        }
        0
    }
}

fn index(value: u64) -> usize {
    if value < 1 << SUB_BITS {
        return value as usize;
    }
    let shift = value.ilog2() - SUB_BITS;
    ((shift as usize) << SUB_BITS) + (value >> shift) as usize
}

/// The largest value of a bucket.
fn last_of(index: usize) -> u64 {
    if index < 2 << SUB_BITS {
        return index as u64;
    }
    let shift = (index >> SUB_BITS) - 1;
    let mantissa = (index - (shift << SUB_BITS)) as u64;
    (mantissa << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_known_within_one_per_cent() {
        let mut value = 1_u64;
        while value < u64::MAX / 3 {
            for value in [value - 1, value, value + value / 3] {
                let last = last_of(index(value));
                assert!(
                    last >= value && last - value <= value / 100,
                    "{value} {last}"
                );
            }
            value *= 2;
        }
        assert_eq!(index(u64::MAX), BUCKETS - 1);
        assert_eq!(last_of(BUCKETS - 1), u64::MAX);
    }

    #[test]
    fn quantiles_of_known_latencies() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.quantile_ns(0.5), 0);
        (1..=1000).for_each(|latency| latencies.record(latency * 1000));
        for (share, want) in [(0.5, 500_000), (0.99, 990_000), (1.0, 1_000_000)] {
            let found = latencies.quantile_ns(share);
            assert!(found >= want && found <= want + want / 100, "{found}");
        }
        assert_eq!((latencies.count(), latencies.mean_ns()), (1000, 500_500));
    }
}
