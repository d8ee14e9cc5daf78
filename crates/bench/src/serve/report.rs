//! What came to an origin.

use std::fmt;

use serde::Serialize;

/// What an origin had to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OriginReport {
    /// Whole requests.
    pub requests: u64,
    /// Those of them that were safe (GET and HEAD).
    pub safe: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Connections closed because what came was no HTTP.
    pub malformed: u64,
    /// Connections that ended amid a request.
    pub truncated: u64,
    /// Connections that broke.
    pub broken: u64,
    /// Connections that there was no room or no descriptor for.
    pub turned_away: u64,
    /// Requests that the record had no room for.
    pub unrecorded: u64,
}

impl fmt::Display for OriginReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others = self.requests - self.safe;
        writeln!(
            f,
            "{} requests ({} GET or HEAD, {others} others) on {} connections",
            self.requests, self.safe, self.connections
        )?;
        write!(
            f,
            "malformed {}, truncated {}, broken {}, turned away {}, not recorded {}",
            self.malformed, self.truncated, self.broken, self.turned_away, self.unrecorded
        )
    }
}
