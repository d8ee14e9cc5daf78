//! The codec through its boundary: bytes in, events out.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod cuts;
mod hyper_agrees;
mod node_agrees;
mod pieces;
mod refused;
mod script;
mod seen;
mod table;
mod taken;
mod written;
