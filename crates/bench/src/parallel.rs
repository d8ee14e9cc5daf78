//! Many runs on all processors.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::interrupt;

/// Does `work` for each number below `count`, and tells `progress` after each how many are done. After SIGINT,
/// SIGTERM or SIGHUP none is begun any more; what is done is given, in the order of its numbers.
///
/// # Errors
/// Where signals cannot be watched.
pub(crate) fn each<T: Send>(
    count: usize,
    progress: impl Fn(usize) + Sync,
    work: impl Fn(usize) -> T + Sync,
) -> anyhow::Result<Vec<T>> {
    interrupt::watch()?;
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work_on = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count || interrupt::check().is_err() {
                return;
            }
            let result = work(number);
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.insert(number, result);
            progress(done.len());
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads.min(count) {
            scope.spawn(work_on);
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(done.into_values().collect())
}
