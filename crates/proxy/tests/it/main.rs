//! The proxy through its boundary: messages in, messages out, and as a process of its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod abuse;
mod access_log;
mod agent;
mod answers;
mod cart;
mod corpus;
mod crowds;
mod dialect;
mod faults;
mod judges;
mod lies;
mod lifetime;
mod malformed;
mod mesh;
mod metrics;
mod origin;
mod outside;
mod path;
mod pilot;
mod requests;
mod resolver;
mod skip;
mod streams;
#[path = "../../../wire/tests/it/table.rs"]
mod table;
mod traffic;
mod upstream;
