//! Waiting, in a way that Ctrl-C ends.
//!
//! The demo never sleeps but here, so that an interrupt is noticed at once and everything that was
//! started is ended in order by the values that own it. Read next: `stage.rs`.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

/// How often a condition is looked at.
pub(super) const GLANCE: Duration = Duration::from_millis(20);

/// Tells when the user, or the system, wants the demo to end.
pub(super) struct Interrupt {
    told: Receiver<()>,
}

/// The demo is to end.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(super) struct Interrupted;

impl Interrupt {
    /// From now on SIGINT, SIGTERM and SIGHUP no longer end this process.
    pub(super) fn watch() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("cannot watch for signals")?;
        let (tell, told) = sync_channel(1);
        let (mut interrupt, mut terminate, mut hang_up) = {
            let _inside = runtime.enter();
            (
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            )
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                        _ = hang_up.recv() => {}
                    }
                });
                // Nobody to tell: the demo is over already.
                let _over = tell.send(());
            })
            .context("cannot start a thread")?;
        Ok(Self { told })
    }

    /// Waits for `duration`.
    pub(super) fn pause(&self, duration: Duration) -> Result<(), Interrupted> {
        match self.told.recv_timeout(duration) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Err(Interrupted),
        }
    }

    /// Waits until `holds`, at most for `patience`; whether it came to hold.
    pub(super) fn until(
        &self,
        patience: Duration,
        mut holds: impl FnMut() -> bool,
    ) -> Result<bool, Interrupted> {
        let end = Instant::now() + patience;
        while !holds() {
            if Instant::now() >= end {
                return Ok(false);
            }
            self.pause(GLANCE)?;
        }
        Ok(true)
    }

    /// Waits until the user wants the end.
    pub(super) fn wait(&self) {
        // Told, or never to be told again: the end either way.
        let _the_end = self.told.recv();
    }
}
