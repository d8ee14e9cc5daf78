//! Both ends of a proxy that is measured: an origin, and a load that goes to it through the proxy, in
//! one thread, so that on two CPUs the proxy has one to itself.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;

use crate::clock::monotonic_ns;
use crate::load::drive;
use crate::poll::Poller;
use crate::process::Accounts;
use crate::protocol::{Attended, Exchanged, HttpLoad};
use crate::serve::Origin;

/// An origin that answers only while it is driven.
pub(super) struct Exchange {
    poller: Poller,
    origin: Origin,
}

impl Exchange {
    /// An origin that listens at an address; gives the one it has.
    pub(super) fn listen(at: SocketAddr, body_bytes: usize) -> anyhow::Result<(Self, SocketAddr)> {
        let poller = Poller::new().context("cannot set up polling")?;
        let mut origin = Origin::new(body_bytes, None);
        let address = origin
            .listen(at, &poller)
            .with_context(|| format!("cannot listen at {at}"))?;
        Ok((Self { poller, origin }, address))
    }

    /// Drives the origin and a load.
    pub(super) fn run(&mut self, load: &HttpLoad) -> anyhow::Result<Exchanged> {
        let origin = Some(&mut self.origin);
        let poller = &mut self.poller;
        let (report, bill) = drive(&load.options, load.to, poller, origin, &load.watched)?;
        Ok(Exchanged { report, bill })
    }

    /// Drives the origin alone, for a load of others; counts after `warm_up_ms`, for `for_ms`.
    pub(super) fn attend(
        &mut self,
        warm_up_ms: u64,
        for_ms: u64,
        watched: &[u32],
    ) -> anyhow::Result<Attended> {
        self.pass(warm_up_ms)?;
        let mut accounts = Accounts::open(watched)?;
        let before = self.origin.report().requests;
        self.pass(for_ms)?;
        accounts.close()?;
        Ok(Attended {
            requests: self.origin.report().requests - before,
            bill: accounts.bill(),
        })
    }

    fn pass(&mut self, for_ms: u64) -> anyhow::Result<()> {
        let end_ns = monotonic_ns() + Duration::from_millis(for_ms).as_nanos() as u64;
        let mut ready = Vec::new();
        while monotonic_ns() < end_ns {
            self.poller.wait(Some(end_ns), &mut ready)?;
            for ready in &ready {
                if Origin::owns(ready.token) {
                    self.origin.on_ready(*ready, &self.poller)?;
                }
            }
            self.origin.answer()?;
        }
        Ok(())
    }
}
