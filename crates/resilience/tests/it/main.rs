//! What the gate promises to those who send requests through it, shown from outside.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod balance;
mod callers;
mod client_timeout;
mod controller;
mod ejection;
mod entry;
mod headroom;
mod hedge;
mod leak;
mod limit;
mod retry;
mod rig;
mod totals;
mod trace;
mod urgency;
