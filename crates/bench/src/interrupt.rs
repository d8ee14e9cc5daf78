//! Ctrl-C: what runs is told to end, so that everything is cleaned up on the way out.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

/// Set once a signal asked for the end.
static ASKED: AtomicBool = AtomicBool::new(false);

/// How long the longest wait is without a look at [`check`].
pub(crate) const GLANCE: Duration = Duration::from_millis(50);

/// The run was ended by a signal.
#[derive(Debug)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted; everything that was started has been ended")
    }
}

impl std::error::Error for Interrupted {}

/// Notes SIGINT, SIGTERM and SIGHUP from now on.
pub(crate) fn watch() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("cannot set up the watch for signals")?;
    let inside = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    drop(inside);
    let watch = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
        });
        ASKED.store(true, Ordering::Relaxed);
    };
    thread::Builder::new().name("signals".into()).spawn(watch)?;
    Ok(())
}

/// An error once the end was asked for.
pub(crate) fn check() -> Result<(), Interrupted> {
    if ASKED.load(Ordering::Relaxed) {
        return Err(Interrupted);
    }
    Ok(())
}

/// Lets `time` pass: load runs meanwhile. Ends early, with an error, when the end is asked for.
pub(crate) fn pass(time: Duration) -> Result<(), Interrupted> {
    let mut left = time;
    while !left.is_zero() {
        check()?;
        let step = left.min(GLANCE);
        thread::sleep(step);
        left -= step;
    }
    check()
}
