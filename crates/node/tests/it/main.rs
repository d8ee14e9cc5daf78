//! The kernel path, driven: real sockets of real processes in real cgroups.
//!
//! Needs root, BPF and cgroup2; elsewhere each test says SKIPPED and why. Every test has a mesh of
//! its own: its own folder, cgroup, virtual range and private ports.
#![allow(
    clippy::unwrap_used,
    reason = "everything in here is a test; clippy's exemption knows only test functions"
)]

mod adopt;
mod child;
mod direct;
mod inbound;
mod joined;
mod outside;
mod placement;
mod ports;
mod proxied;
mod resolver;
mod testbed;
