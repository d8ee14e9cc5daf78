//! Whether ports of the host can be published: nobody else may have them.
//!
//! What other services of this mesh publish is known before (`run.rs` of the control plane's API).
//! Nothing is reserved: who takes a port between the look and the first bind is not seen.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use selvedge_control_plane::{HostPlacement, Problem, ProblemKind};
use selvedge_model::{Gateway, Port, Protocol, ServiceName, Snapshot};
use selvedge_node::Node;
use socket2::{Domain, Socket, Type};

use super::failed;

/// A published port must be free, or be one that a replica of the same service has.
pub(super) fn check(
    node: &Node,
    snapshot: &Snapshot,
    placement: &HostPlacement<'_>,
) -> Result<(), Problem> {
    let mut ports = placement.publish.iter();
    ports.try_for_each(|(protocol, port)| {
        let wanted = Wanted {
            service: placement.service,
            protocol: *protocol,
            port: *port,
        };
        wanted.check(node, snapshot)
    })
}

/// A port to publish.
struct Wanted<'a> {
    service: &'a ServiceName,
    protocol: Protocol,
    port: Port,
}

impl Wanted<'_> {
    fn check(&self, node: &Node, snapshot: &Snapshot) -> Result<(), Problem> {
        let (protocol, port) = (self.protocol, self.port);
        let is_its = |gateway: &&Gateway| gateway.listeners.iter().any(|it| it.port == port);
        let gateway = snapshot.gateways.values().find(is_its);
        if let Some(gateway) = gateway.filter(|_| protocol == Protocol::Tcp) {
            return Err(self
                .refused(&format!("Gateway {} has it", gateway.name))
                .because("what comes to the port goes where HTTPRoutes of the Gateway say")
                .try_next("publish another port, or attach a HTTPRoute to the Gateway"));
        }
        let elsewhere = node.is_published_elsewhere(protocol, port);
        if elsewhere.map_err(|error| failed(&error))? {
            return Err(self
                .refused("another mesh of this host publishes it")
                .because("both would lead callers of the port, whether or not their agents run")
                .try_next(
                    "publish another port, or end the workload that has it there, or that mesh \
                     (selvedge down)",
                ));
        }
        if is_free(protocol, port) {
            return Ok(());
        }
        let observation = node.observe().map_err(|error| failed(&error))?;
        let holder = observation
            .listening
            .iter()
            .filter(|it| (it.protocol, it.bound) == (protocol, port))
            .find_map(|it| snapshot.workloads.get(&it.cgroup));
        let flags = match protocol {
            Protocol::Tcp => "-ltnp",
            Protocol::Udp => "-lunp",
        };
        let Some(holder) = holder else {
            return Err(self
                .refused("a program outside the mesh has it")
                .because(
                    "published is what nobody else listens on, so that no callers are taken away",
                )
                .try_next(format!(
                    "publish another port, or stop what is there (ss {flags} 'sport = :{port}')"
                )));
        };
        if holder.service != *self.service {
            let fact = format!(
                "workload {} of service {} has it",
                holder.name, holder.service
            );
            return Err(self
                .refused(&fact)
                .because("the first replica to bind a port keeps it, published or not")
                .try_next("publish another port, or end that workload"));
        }
        let service = snapshot.services.get(&holder.service);
        let is_shared = service.is_some_and(|service| service.published_udp.contains(&port));
        if protocol == Protocol::Tcp || is_shared {
            return Ok(());
        }
        let fact = format!(
            "workload {} has it, which runs without --publish",
            holder.name
        );
        Err(self
            .refused(&fact)
            .because("a UDP port is published by replicas that share it from their first bind")
            .try_next(format!(
                "end the replicas of {} that run, then run all of them with --publish",
                self.service
            )))
    }

    fn refused(&self, fact: &str) -> Problem {
        let Self {
            service,
            protocol,
            port,
        } = self;
        let what =
            format!("{protocol} port {port} cannot be published for service {service}: {fact}");
        Problem::new(ProblemKind::Conflict, what).at(format!(
            "{protocol} port {port} in the agent's network namespace"
        ))
    }
}

/// Whether the port can be bound on every address. It is let go at once.
fn is_free(protocol: Protocol, port: Port) -> bool {
    match bind_for_a_moment(protocol, port) {
        Ok(()) => true,
        Err(error) => error.kind() != io::ErrorKind::AddrInUse,
    }
}

fn bind_for_a_moment(protocol: Protocol, port: Port) -> io::Result<()> {
    let kind = match protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
    };
    for address in [
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.get())),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port.get())),
    ] {
        let socket = match Socket::new(Domain::for_address(address), kind, None) {
            // A host without IPv6 has no listeners there.
            Err(_) if address.is_ipv6() => continue,
            other => other?,
        };
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Over TCP past connections are no holders; over UDP it would share the port with one.
        socket.set_reuse_address(protocol == Protocol::Tcp)?;
        socket.bind(&address.into())?;
    }
    Ok(())
}
