//! The mesh's resolver: answers mesh names itself and sends everything else on, untouched.
//!
//! `respond` decides on one message and is pure, `responder` counts what it decided. Datagrams have
//! threads of their own (`datagram`, with `socket` towards programs and `forward` towards other
//! servers), connections are the worker's (`tcp`). The resolver keeps no cache, so that what a program
//! is told is what its own server said, and never starts a query of its own. Read next: `respond`,
//! then `zone`.

pub(crate) mod datagram;
mod forward;
mod message;
mod name;
mod respond;
mod responder;
mod socket;
mod tcp;
pub(crate) mod worker;
mod writer;
mod zone;

pub(crate) use name::Name;
pub use respond::{Action, Transport, respond};
pub(crate) use responder::Responder;
pub(crate) use socket::QuerySocket;
pub(crate) use tcp::{Connections, serve as serve_tcp};
pub use zone::shadowed_name;

/// Largest datagram and largest message there is.
const MAX_MESSAGE_BYTES: usize = 65_535;
