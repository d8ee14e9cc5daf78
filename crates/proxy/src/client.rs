//! A connection that somebody made to a service.

use std::net::Ipv4Addr;

use selvedge_model::{CgroupId, Port};
use tokio::net::TcpStream;

use crate::buffer::Inbox;
use crate::deadline::Deadline;

/// An accepted connection, and what the kernel says of it.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) inbox: Inbox,
    pub(crate) deadline: Deadline,
    /// The workload that connected; `None` is outside the mesh.
    pub(crate) source: Option<CgroupId>,
    /// The virtual address and port it asked for.
    pub(crate) asked: (Ipv4Addr, Port),
}
