//! The mesh's resolver: answers mesh names itself and sends everything else on, untouched.
//!
//! `respond` decides on one message and is pure; `server` runs the sockets of programs, `forward`
//! those towards other servers. The resolver keeps no cache, so that what a program is told is what
//! its own server said, and never starts a query of its own. Read next: `respond`, then `zone`.

mod forward;
mod message;
mod name;
mod respond;
pub(crate) mod server;
mod tcp;
mod udp;
mod writer;
mod zone;

pub(crate) use name::Name;
pub use respond::{Action, Transport, respond};
pub(crate) use server::Server;
pub(crate) use tcp::serve as serve_tcp;
pub(crate) use udp::serve as serve_udp;
pub use zone::shadowed_name;
