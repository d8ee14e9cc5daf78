//! Protocols as bytes in, events out, bytes out.
//!
//! Nothing here performs IO, reads a clock or copies a body: a decoder is shown the bytes that have
//! come so far and says how many of them it has taken and what they mean. Everything is strict: what
//! two programs could read in two ways is refused, with the section of the RFC that forbids it. Read
//! next: [`http1`].
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod error;
pub mod http1;
mod limits;

pub use error::ProtocolError;
pub use limits::Limits;
