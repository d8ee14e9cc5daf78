//! The route table through its boundary.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod cases;
mod hosts;
mod one_by_one;
mod said;
