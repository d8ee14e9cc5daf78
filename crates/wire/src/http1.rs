//! HTTP/1.1 and 1.0 (RFC 9112).
//!
//! A [`Decoder`] reads one direction of a connection: requests or responses, one after the other.
//! A [`Head`] is where the parts of a message lie in the bytes it was read from; what leaves is
//! [written](mod@write) by copying ranges of them. Read next: `decoder`, then `framing`, which decides
//! where a message ends.

mod chunk;
mod decoder;
mod fault;
mod field;
mod framing;
mod head;
mod message;
mod target;
pub mod write;

pub use decoder::{Decoder, Event, Step};
pub use field::FieldName;
pub use framing::{Answers, Framing};
pub use head::{Head, Version};
pub use message::{Field, Message, Start};
pub use target::Target;
