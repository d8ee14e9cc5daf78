//! The feed through its boundary: messages in, messages out.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod corpus;
mod properties;
mod routes;
mod script;
mod traffic;
