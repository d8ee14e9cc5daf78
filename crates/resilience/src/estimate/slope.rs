//! How the logarithm of one thing follows from that of another.

use crate::memory::{Reader, Writer};

/// Points of the last windows, the oldest of which goes first.
const POINTS: usize = 12;

/// A line through the last points by least squares: its slope is the elasticity of `y` where both are
/// logarithms.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Slope {
    points: [Point; POINTS],
    count: usize,
    next: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Point {
    x: f64,
    y: f64,
    /// Variance of `y` by chance.
    noise: f64,
}

/// What the points say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Line {
    /// By how much `y` rises with `x`.
    pub(crate) slope: f64,
    /// The standard error of that, from the noise of the points.
    pub(crate) error: f64,
    /// The sum of squares of `x` about its mean: how much there was to see.
    pub(crate) spread: f64,
}

impl Slope {
    pub(crate) fn add(&mut self, x: f64, y: f64, noise: f64) {
        self.points[self.next] = Point { x, y, noise };
        self.next = (self.next + 1) % POINTS;
        self.count = (self.count + 1).min(POINTS);
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn write(&self, memory: &mut Writer) {
        memory.list(&self.points[..self.count], |memory, point| {
            memory.number(point.x);
            memory.number(point.y);
            memory.number(point.noise);
        });
        memory.count(self.next as u64);
    }

    /// The points are where they were, since sums of them depend on their order.
    pub(crate) fn read(memory: &mut Reader<'_>) -> Option<Self> {
        let mut slope = Self::default();
        slope.count = memory.list(&mut slope.points, |memory| {
            Some(Point {
                x: memory.number()?,
                y: memory.number()?,
                noise: memory.number()?,
            })
        })?;
        slope.next = memory.place(POINTS)?;
        Some(slope)
    }

    /// The mean of `y` where `x` is below its mean; `None` without points.
    pub(crate) fn mean_of_lower_half(&self) -> Option<f64> {
        let points = &self.points[..self.count];
        let middle = points.iter().map(|it| it.x).sum::<f64>() / points.len() as f64;
        let low = points.iter().filter(|it| it.x <= middle);
        let count = low.clone().count();
        (count > 0).then(|| low.map(|it| it.y).sum::<f64>() / count as f64)
    }

    /// The line; `None` where there are fewer than three points, or all have the same `x`.
    pub(crate) fn line(&self) -> Option<Line> {
        let points = &self.points[..self.count];
        let count = points.len() as f64;
        let mean = |of: fn(&Point) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (x, y, noise) = (mean(|it| it.x), mean(|it| it.y), mean(|it| it.noise));
        let spread: f64 = points.iter().map(|it| (it.x - x) * (it.x - x)).sum();
        let both: f64 = points.iter().map(|it| (it.x - x) * (it.y - y)).sum();
        (points.len() >= 3 && spread > 1e-9).then(|| Line {
            slope: both / spread,
            error: libm::sqrt(noise / spread),
            spread,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_of_the_last_points() {
        let mut slope = Slope::default();
        slope.add(0.0, 100.0, 0.1);
        slope.add(1.0, -5.0, 0.1);
        assert_eq!(slope.line(), None, "two points are always on a line");
        for x in 0..12 {
            slope.add(f64::from(x), 3.0 - 0.5 * f64::from(x), 0.04);
        }
        let line = slope.line().unwrap();
        assert!((line.slope + 0.5).abs() < 1e-12);
        assert!((line.spread - 143.0).abs() < 1e-9);
        assert!((line.error - libm::sqrt(0.04 / 143.0)).abs() < 1e-12);
        slope.clear();
        for _ in 0..5 {
            slope.add(2.0, 1.0, 0.1);
        }
        assert_eq!(slope.line(), None, "nothing was varied");
    }
}
