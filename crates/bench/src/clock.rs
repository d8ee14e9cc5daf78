//! Time as all processes of one host share it.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds on the clock that never jumps, the same in every process.
pub(crate) fn monotonic_ns() -> u64 {
    read_ns(ClockId::Monotonic)
}

/// CPU time that this process has used, over all its threads, in nanoseconds.
pub(crate) fn process_cpu_ns() -> u64 {
    read_ns(ClockId::ProcessCPUTime)
}

/// A seed where none was given: another one each time.
pub fn fresh_seed() -> u64 {
    monotonic_ns()
}

fn read_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Neither clock is ever negative.
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
