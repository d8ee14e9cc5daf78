//! Ports of the host that Gateways have.
//!
//! Kernel programs lead what comes to such a port to the proxy (`bpf/inbound.bpf.c`), so that no socket
//! there serves anybody. One listens all the same, for the agent: it finds out whether the port is
//! somebody else's, keeps it from becoming so, and shows whose it is.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use selvedge_model::Port;
use socket2::{Domain, Socket, Type};

/// The ports, each with the socket that holds it, or why it cannot be had.
#[derive(Debug, Default)]
pub(crate) struct Held(BTreeMap<Port, Result<Socket, String>>);

impl Held {
    /// Lets go of the ports that are not among `wanted`, and takes the others. `refuse` may know why
    /// one cannot be had; what could not be had before is tried again.
    pub(crate) fn hold(
        &mut self,
        wanted: impl IntoIterator<Item = Port>,
        refuse: impl Fn(Port) -> Option<String>,
    ) {
        let mut before = std::mem::take(&mut self.0);
        for port in wanted {
            if self.0.contains_key(&port) {
                continue;
            }
            let held = match (refuse(port), before.remove(&port)) {
                (Some(reason), _) => Err(reason),
                (None, Some(Ok(socket))) => Ok(socket),
                (None, _) => listen(port).map_err(|error| said(port, &error)),
            };
            self.0.insert(port, held);
        }
    }

    /// Whether some could not be had.
    pub(crate) fn lacks_any(&self) -> bool {
        self.0.values().any(Result::is_err)
    }

    /// Whether the port is held.
    pub(crate) fn has(&self, port: Port) -> bool {
        self.0.get(&port).is_some_and(Result::is_ok)
    }

    /// Every port, and why it cannot be had where that is so.
    pub(crate) fn states(&self) -> BTreeMap<Port, Result<(), String>> {
        let states = self.0.iter();
        states
            .map(|(port, held)| (*port, held.as_ref().map(drop).map_err(String::clone)))
            .collect()
    }
}

fn said(port: Port, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "the port is in use by somebody else (ss -ltnp 'sport = :{port}'); it is tried again until it is free"
        ),
        _ => format!("the port cannot be had: {error}"),
    }
}

/// On every address of both families, or of IPv4 alone where the host has no IPv6.
fn listen(port: Port) -> io::Result<Socket> {
    match listen_at((Ipv6Addr::UNSPECIFIED, port.get()).into()) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            listen_at((Ipv4Addr::UNSPECIFIED, port.get()).into())
        }
        other => other,
    }
}

fn listen_at(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Connections that the proxy has accepted there are no holders, over a restart of the agent.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(0)?;
    Ok(socket)
}
