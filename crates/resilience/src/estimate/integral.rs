//! A number over time, where nobody writes but at its changes.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use selvedge_model::Instant;

/// Nanoseconds times a number, less what it is now times the present moment: each change takes its moment off
/// a sum, so that changes may come in any order. It wraps, and only differences mean something.
#[derive(Debug, Default)]
pub(crate) struct Integral(AtomicU64);

impl Integral {
    /// From now on the number is so much greater.
    pub(crate) fn change(&self, by: i32, now: Instant) {
        if by != 0 {
            let moment = (i64::from(by) as u64).wrapping_mul(now.as_nanos());
            self.0.fetch_sub(moment, Relaxed);
        }
    }

    /// The integral so far of what is this number now.
    pub(crate) fn until(&self, now: Instant, number: u64) -> u64 {
        let sum = self.0.load(Relaxed);
        sum.wrapping_add(number.wrapping_mul(now.as_nanos()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_may_come_in_any_order() {
        let at = Instant::from_nanos;
        let integral = Integral::default();
        let before = integral.until(at(5), 0);
        // Two from 10 to 20 and one of them on to 30, told backwards.
        for (by, moment) in [(-1, 30), (-1, 20), (2, 10)] {
            integral.change(by, at(moment));
        }
        assert_eq!(integral.until(at(40), 0).wrapping_sub(before), 2 * 10 + 10);
        integral.change(3, at(40));
        assert_eq!(integral.until(at(50), 3).wrapping_sub(before), 60);
    }
}
