//! New connections to endpoints.

use std::io;
use std::rc::Rc;

use tokio::net::TcpStream;

use crate::buffer::{Buffers, Inbox};
use crate::pool::{Destination, Upstream};

/// Connects to an endpoint. Takes as long as the kernel tries: whoever waits has a deadline.
pub(crate) async fn connect(
    (place, port): &Destination,
    buffers: &Rc<Buffers>,
) -> io::Result<Upstream> {
    let stream = TcpStream::connect(place.upstream_address(*port)).await?;
    // A head and what follows it leave in one call: waiting for more would only delay them.
    stream.set_nodelay(true)?;
    Ok(Upstream {
        stream,
        inbox: Inbox::new(buffers.clone()),
        reused: false,
    })
}
