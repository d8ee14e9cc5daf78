//! Least, middle and greatest of a few figures: what a dozen rounds can honestly say.

use serde::Serialize;

/// The spread of a figure over the rounds of one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
    /// The figures behind it, in the order of the rounds.
    pub(crate) figures: Vec<f64>,
}

impl Spread {
    /// The spread of `figures`; `None` of none. A figure that is not a number counts as the largest,
    /// so that it is seen.
    pub(crate) fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            min: *sorted.first()?,
            median: middle(&sorted),
            max: *sorted.last()?,
            figures: figures.to_vec(),
        })
    }

    /// The spread of `treated[i] / base[i]`: both figures of a ratio are of the same round.
    pub(crate) fn of_ratios(treated: &[f64], base: &[f64]) -> Option<Self> {
        debug_assert_eq!(treated.len(), base.len());
        let ratios = treated
            .iter()
            .zip(base)
            .map(|(treated, base)| treated / base);
        Self::of(&ratios.collect::<Vec<_>>())
    }
}

/// The middle of sorted figures, the mean of both where there are two. There is at least one.
fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[half]
    } else {
        f64::midpoint(sorted[half - 1], sorted[half])
    }
}

/// The smallest sample that `numerator / denominator` of all do not exceed; 0 of none. Reorders.
pub(crate) fn quantile(samples: &mut [u32], numerator: usize, denominator: usize) -> u32 {
    let rank = (samples.len() * numerator).div_ceil(denominator).max(1);
    match samples.len() {
        0 => 0,
        _ => *samples.select_nth_unstable(rank - 1).1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let spread = Spread::of_ratios(&[2.0, 30.0, 4.0], &[1.0, 10.0, 4.0]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.0, 3.0));
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[1.0, 4.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert!(Spread::of(&[1.0, f64::NAN]).unwrap().max.is_nan());
    }

    #[test]
    fn quantiles_of_known_samples() {
        let mut samples: Vec<u32> = (1..=100).rev().collect();
        assert_eq!(quantile(&mut samples, 1, 2), 50);
        assert_eq!(quantile(&mut samples, 99, 100), 99);
        assert_eq!(quantile(&mut samples, 0, 1), 1);
        assert_eq!(quantile(&mut [], 1, 2), 0);
    }
}
