//! Claim: what policies do to the scenarios that come with the binary is known, to the figure.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod agent;
mod tables;
