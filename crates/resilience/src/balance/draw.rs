//! Drawing by weight in constant time.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use selvedge_model::Rng;

/// Draws numbers below a bound, each as often as its weight says: the alias method in whole numbers
/// (M. D. Vose, "A linear algorithm for generating random numbers with a given distribution", 1991).
#[derive(Debug)]
pub(crate) struct Draw {
    columns: Box<[Column]>,
    /// The height of every column: the sum of the weights.
    height: u32,
    are_equal: bool,
}

/// Below `cut` a column stands for itself, above for its alias.
#[derive(Clone, Copy, Debug)]
struct Column {
    cut: u32,
    alias: u32,
}

impl Draw {
    /// For at most 65,537 weights, none of which is 0, so that their sum is below 2^32.
    pub(crate) fn new(weights: &[u16]) -> Self {
        let height: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let height = u32::try_from(height).unwrap_or(u32::MAX);
        let are_equal = weights.windows(2).all(|pair| pair[0] == pair[1]);
        Self {
            columns: columns(weights, u64::from(height)),
            height,
            are_equal,
        }
    }

    /// Two numbers, the first by weight. Where all weights are equal the second is another one;
    /// otherwise it is drawn alike and may be the same, since a light endpoint that was the second
    /// choice of every request would get far more than its weight.
    pub(crate) fn two(&self, rng: &mut Rng) -> Option<(usize, usize)> {
        let count = self.columns.len();
        match (count, self.are_equal) {
            (0, _) => None,
            (1, _) => Some((0, 0)),
            (_, true) => {
                let first = rng.below(count as u32) as usize;
                let step = 1 + rng.below(count as u32 - 1) as usize;
                Some((first, (first + step) % count))
            }
            (_, false) => Some((self.one(rng), self.one(rng))),
        }
    }

    fn one(&self, rng: &mut Rng) -> usize {
        let index = rng.below(self.columns.len() as u32);
        let column = self.columns[index as usize];
        let is_own = rng.below(self.height) < column.cut;
        (if is_own { index } else { column.alias }) as usize
    }
}

/// Weights are scaled so that their mean is `height`; what a column lacks is filled from one that has
/// more.
fn columns(weights: &[u16], height: u64) -> Box<[Column]> {
    let count = weights.len() as u64;
    let mut rests: Vec<u64> = weights.iter().map(|w| u64::from(*w) * count).collect();
    let (mut low, mut high): (Vec<usize>, Vec<usize>) =
        (0..weights.len()).partition(|index| rests[*index] < height);
    let full = Column {
        cut: u32::MAX,
        alias: 0,
    };
    let mut columns = vec![full; weights.len()].into_boxed_slice();
    while let (Some(small), Some(&large)) = (low.pop(), high.last()) {
        columns[small] = Column {
            cut: rests[small] as u32,
            alias: large as u32,
        };
        rests[large] -= height - rests[small];
        if rests[large] < height {
            high.pop();
            low.push(large);
        }
    }
    columns
}
