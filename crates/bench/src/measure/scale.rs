//! Many services: how long a set of them takes to be in force, and whether a connect then costs more.
//!
//! Two meshes stand side by side, one small and one large. All endpoints are addresses of one real
//! server, so that every connection is really made. Time of the kernel programs is compared over ten
//! services of each mesh, and over all services of the large one in turn, where no cache is warm.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::{Bench, every_address};
use crate::crew::Worker;
use crate::interrupt;
use crate::mesh::Mesh;
use crate::process;
use crate::program_time::{Counting, Programs, map_bytes};
use crate::protocol::{Batch, Served, Task};
use crate::report::{Section, Unit};

const FEW: u32 = 10;
const ENDPOINTS: u32 = 4;
const PORT: u16 = 80;
/// How long the last service of a set may take until it is served.
const PATIENCE: Duration = Duration::from_secs(60);
/// Batches of connects need not be long: time of programs is counted, not sampled.
const BATCH_MS: u64 = 100;

/// A mesh with so many services, and a client in it.
struct Side {
    mesh: Mesh,
    client: Worker,
    addresses: Vec<SocketAddr>,
    programs: anyhow::Result<Programs>,
}

pub(super) fn measure(bench: &mut Bench<'_>, section: &mut Section) -> anyhow::Result<()> {
    let many = bench.sized(5000, 200);
    let mut server = bench.plain("server")?;
    server.order(&Task::Pin(bench.cpu()))?;
    let port = server.serve(Served::Greeting, every_address(0))?.port();
    let small = Side::start(bench, FEW, port, section)?;
    let large = Side::start(bench, many, port, section)?;
    let mut sides = [small, large];
    compare(bench, &mut sides, section)?;
    for (side, services) in sides.iter().zip([FEW, many]) {
        memory(&side.mesh, services, section);
    }
    for side in sides {
        drop(side.client);
        side.mesh.down()?;
    }
    section.note("the bar is for tables of any size: ten services of each mesh, all in the caches");
    section
        .note("time of programs is of all that are attached to the workloads' cgroup or sockets");
    Ok(())
}

impl Side {
    fn start(
        bench: &mut Bench<'_>,
        services: u32,
        port: u16,
        section: &mut Section,
    ) -> anyhow::Result<Self> {
        let mut mesh = bench.mesh()?;
        let mut client = mesh.run(&mut bench.crew, "client", &[])?;
        client.order(&Task::Pin(bench.cpu()))?;
        let text = documents(services, port);
        let began = Instant::now();
        let took = mesh.apply(&text)?;
        let bar = (services > FEW).then_some(5.0);
        let name = format!("apply of {services} services");
        section.amount(&name, Unit::Seconds, took.as_secs_f64(), bar);
        let addresses = addresses(&mesh, services)?;
        let last = *addresses.last().context("no service has an address")?;
        await_service(&mut client, last)?;
        let served = began.elapsed().as_secs_f64();
        let name = format!("until the last of {services} was served");
        section.amount(&name, Unit::Seconds, served, None);
        Ok(Self {
            programs: Programs::of_mesh(&mesh.run_dir()),
            mesh,
            client,
            addresses,
        })
    }

    /// Time of all programs for one connect, over these services in turn.
    fn connect_ns(&mut self, services: usize) -> anyhow::Result<f64> {
        let programs = match &self.programs {
            Ok(programs) => programs,
            Err(error) => anyhow::bail!("{error:#}"),
        };
        let before = programs.read()?;
        let batch: Batch = self.client.ask(&Task::Connects {
            to: self.addresses[..services].to_vec(),
            for_ms: BATCH_MS,
        })?;
        let total = programs.read()?.total_ns_since(&before);
        Ok(total as f64 / batch.operations as f64)
    }
}

/// Services, each with a slice of endpoints that no other has.
fn documents(services: u32, port: u16) -> String {
    let mut text = String::new();
    for service in 0..services {
        let first = service * ENDPOINTS;
        let endpoints = (first..first + ENDPOINTS).map(|number| {
            let [_, _, third, fourth] = number.to_be_bytes();
            format!("{{addresses: [127.1.{third}.{fourth}]}}")
        });
        let endpoints: Vec<String> = endpoints.collect();
        // Writing to a string does not fail.
        let _infallible = write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{service}}}\n\
             spec: {{ports: [{{name: web, port: {PORT}}}]}}\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: s{service}, labels: {{kubernetes.io/service-name: s{service}}}}}\n\
             addressType: IPv4\nports: [{{name: web, port: {port}}}]\nendpoints: [{}]\n",
            endpoints.join(", ")
        );
    }
    text
}

/// Where the services are, in their order.
fn addresses(mesh: &Mesh, services: u32) -> anyhow::Result<Vec<SocketAddr>> {
    let found = mesh.virtual_addresses()?;
    let address = |service: u32| {
        let address = found
            .get(&format!("s{service}"))
            .context("a service has no address")?;
        Ok((address.parse::<Ipv4Addr>()?, PORT).into())
    };
    (0..services).map(address).collect()
}

fn await_service(client: &mut Worker, address: SocketAddr) -> anyhow::Result<()> {
    let began = Instant::now();
    let task = Task::Connects {
        to: vec![address],
        for_ms: 1,
    };
    loop {
        match client.ask::<Batch>(&task) {
            Ok(_) => return Ok(()),
            Err(error) => ensure!(began.elapsed() < PATIENCE, "never served: {error:#}"),
        }
        interrupt::pass(Duration::from_millis(10))?;
    }
}

fn compare(
    bench: &mut Bench<'_>,
    sides: &mut [Side; 2],
    section: &mut Section,
) -> anyhow::Result<()> {
    let (few, all) = (FEW as usize, sides[1].addresses.len());
    let mut times: [Vec<f64>; 3] = Default::default();
    let counting = Counting::start()?;
    for _ in 0..bench.rounds() {
        let mut order = [(0, 0, few), (1, 1, few), (2, 1, all)];
        bench.random.shuffle(&mut order);
        for (kind, side, services) in order {
            interrupt::check()?;
            match sides[side].connect_ns(services) {
                Ok(time) => times[kind].push(time),
                Err(error) => {
                    let name = "time of programs per connect";
                    section.not_had(name, format!("{error:#}"), Some(1.1));
                    return Ok(());
                }
            }
        }
    }
    drop(counting);
    let [small, same, whole] = &times;
    let ns = Unit::Nanoseconds;
    let name = format!("programs per connect: 10 of {all} services");
    section.ratio(&name, ns, (same, small), Some(1.1));
    let name = format!("programs per connect: all {all} in turn");
    section.ratio(&name, ns, (whole, small), None);
    Ok(())
}

fn memory(mesh: &Mesh, services: u32, section: &mut Section) {
    let parts = [
        (
            "agent",
            mesh.agent_pid().and_then(process::proportional_bytes),
        ),
        (
            "proxy",
            mesh.proxy_pid().and_then(process::proportional_bytes),
        ),
        ("kernel maps", map_bytes(&mesh.run_dir())),
    ];
    for (part, bytes) in parts {
        let name = format!("memory of {part}, {services} services");
        match bytes {
            Ok(bytes) => section.amount(&name, Unit::Bytes, bytes as f64, None),
            Err(error) => section.not_had(&name, format!("{error:#}"), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_of_all_services_differ() {
        let text = documents(5000, 8080);
        let mut addresses: Vec<&str> = text
            .split("addresses: [")
            .skip(1)
            .filter_map(|rest| rest.split(']').next())
            .collect();
        assert_eq!(addresses.len(), 20_000);
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), 20_000);
    }
}
