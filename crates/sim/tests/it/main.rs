//! Claim: the simulator is what it says: queueing theory's closed forms come out of it, the same seed gives the
//! same bytes, and nothing is lost.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod moments;
mod queueing;
mod runs;
mod scenes;
