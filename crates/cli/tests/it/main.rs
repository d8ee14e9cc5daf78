//! The whole of Selvedge from outside: the real binary, real programs, real kernel.
//!
//! Needs root, BPF and cgroup2; elsewhere each test says SKIPPED and why. Every test has a mesh of
//! its own: its own folders, cgroup and addresses. Read next: `mesh.rs`.
#![allow(
    clippy::unwrap_used,
    reason = "everything in here is a test; clippy's exemption knows only test functions"
)]
#![forbid(unsafe_code)]

mod bench;
mod clients;
mod configuration;
mod confinement;
mod demo;
mod faults;
mod gateway;
mod life;
mod mesh;
mod metrics;
mod names;
mod outside;
mod pilot;
mod process;
mod requests;
mod run;
mod runtimes;
mod simulation;
