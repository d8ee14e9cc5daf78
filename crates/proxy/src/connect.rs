//! New connections to endpoints.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use selvedge_model::Place;
use tokio::net::TcpStream;

use crate::buffer::{Buffers, Inbox};
use crate::pool::{Destination, Upstream};

/// Connects to an endpoint. Takes as long as the kernel tries: whoever waits has a deadline.
pub(crate) async fn connect(
    destination: &Destination,
    buffers: &Rc<Buffers>,
) -> io::Result<Upstream> {
    let stream = TcpStream::connect(address(destination)).await?;
    // A head and what follows it leave in one call: waiting for more would only delay them.
    stream.set_nodelay(true)?;
    Ok(Upstream {
        stream,
        inbox: Inbox::new(buffers.clone()),
        reused: false,
    })
}

/// The address to connect to. A workload's is one that the kernel's programs understand: they know
/// which port it really has.
fn address((place, port): &Destination) -> SocketAddr {
    match place {
        Place::Local(_) => SocketAddr::new(std::net::Ipv4Addr::LOCALHOST.into(), port.get()),
        Place::Outside(address) => SocketAddr::new(*address, port.get()),
    }
}
