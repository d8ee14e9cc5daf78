//! The time in which requests count.

use super::client::Client;
use crate::clock::{monotonic_ns, process_cpu_ns};
use crate::process::{Accounts, Bill};

/// Opened and closed once each, as the load comes to it.
#[derive(Debug)]
pub(super) struct Window<'a> {
    watched: &'a [u32],
    accounts: Option<Accounts>,
    opened: Option<Reading>,
    closed: Option<Reading>,
}

/// What a window had in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// At least 1.
    pub(super) wall_ns: u64,
    /// CPU time of the load.
    pub(super) cpu_ns: u64,
    /// Answers that came.
    pub(super) completed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    at_ns: u64,
    cpu_ns: u64,
    completed: u64,
}

impl Reading {
    fn take(client: &Client<'_>) -> Self {
        Self {
            at_ns: monotonic_ns(),
            cpu_ns: process_cpu_ns(),
            completed: client.completed,
        }
    }
}

impl<'a> Window<'a> {
    /// One in which the CPU time of `watched` processes is taken too.
    pub(super) fn new(watched: &'a [u32]) -> Self {
        Self {
            watched,
            accounts: None,
            opened: None,
            closed: None,
        }
    }

    /// Opens or closes it where that is due.
    pub(super) fn look(&mut self, client: &Client<'_>, now_ns: u64) -> anyhow::Result<()> {
        if self.opened.is_none() && client.has_started(now_ns) {
            self.accounts = Some(Accounts::open(self.watched)?);
            self.opened = Some(Reading::take(client));
        }
        if self.closed.is_none() && client.is_over(now_ns) {
            self.closed = Some(Reading::take(client));
            self.accounts.as_mut().map_or(Ok(()), Accounts::close)?;
        }
        Ok(())
    }

    /// What was in it; nothing where it was never opened.
    pub(super) fn span(&self) -> Span {
        let (opened, closed) = match (self.opened, self.closed) {
            (Some(opened), Some(closed)) => (opened, closed),
            _ => {
                return Span {
                    wall_ns: 1,
                    cpu_ns: 0,
                    completed: 0,
                };
            }
        };
        Span {
            wall_ns: (closed.at_ns - opened.at_ns).max(1),
            cpu_ns: closed.cpu_ns - opened.cpu_ns,
            completed: closed.completed - opened.completed,
        }
    }

    /// What the watched processes used meanwhile.
    pub(super) fn bill(&self) -> Bill {
        self.accounts
            .as_ref()
            .map(Accounts::bill)
            .unwrap_or_default()
    }
}
