//! The kernel path against no mesh.
//!
//! Five pairs of the same client and server: without a mesh, each process in a cgroup of its own as a
//! service manager puts it; the same once more (what differs between these two is noise); without a
//! mesh and in one cgroup, as a shell leaves them; in a mesh; in a mesh with every counter on. Each round takes one batch of
//! each load from each pair, in random order, so that whatever drifts drifts for all; every few
//! rounds all processes are new, so that no lucky placement in memory decides.

use std::net::SocketAddr;

use anyhow::Context;

use super::{Bench, any_port, every_address, full_name, policy_document, service_document};
use crate::crew::Worker;
use crate::interrupt;
use crate::mesh::Mesh;
use crate::program_time::{Counting, ProgramCost, Programs};
use crate::protocol::{Batch, Served, Task};
use crate::report::{Section, Unit};

/// Times that all processes are started anew.
const DEPLOYMENTS: usize = 3;
/// Ports of the servers inside the mesh: echo, greeting, datagrams.
const PORTS: [u16; 3] = [7001, 7002, 7003];
const SERVED: [Served; 3] = [Served::Echo, Served::Greeting, Served::Datagrams];
const MESSAGE_BYTES: usize = 64;

/// The pairs, by their place in [`Deployment::pairs`].
const PLAIN: usize = 0;
const PLAIN_AGAIN: usize = 1;
const TOGETHER: usize = 2;
const MESHED: usize = 3;
const COUNTED: usize = 4;
const PAIRS: usize = 5;

/// What is done with a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    PingPong,
    Connect,
    Connected,
    Unconnected,
}

const LOADS: [Load; 4] = [
    Load::PingPong,
    Load::Connect,
    Load::Connected,
    Load::Unconnected,
];

/// What one batch gave.
#[derive(Clone, Copy, Debug)]
struct Sample {
    p50_ns: f64,
    /// Of client and server together.
    cpu_ns: f64,
    per_second: f64,
    slowest_ns: f64,
}

/// Samples by load and pair, one for each round.
#[derive(Debug, Default)]
struct Samples([[Vec<Sample>; PAIRS]; LOADS.len()]);

pub(super) fn measure(bench: &mut Bench<'_>, section: &mut Section) -> anyhow::Result<()> {
    let mut mesh = bench.mesh()?;
    let ports = [(PORTS[0], "TCP"), (PORTS[1], "TCP"), (PORTS[2], "UDP")];
    let documents = service_document("plain", &ports)
        + &service_document("counted", &ports)
        + &policy_document("counted", "counters: Detailed");
    mesh.apply(&documents)?;
    let rounds = bench.rounds();
    let each = rounds.div_ceil(DEPLOYMENTS);
    let mut samples = Samples::default();
    let mut costs = Vec::new();
    let mut done = 0;
    while done < rounds {
        let mut deployment = Deployment::start(bench, &mesh)?;
        for _ in 0..each.min(rounds - done) {
            deployment.round(bench, &mut samples)?;
            done += 1;
        }
        if done == rounds {
            costs = deployment
                .program_costs(bench, &mesh)
                .unwrap_or_else(|error| {
                    section.not_had("time of each kernel program", format!("{error:#}"), None);
                    Vec::new()
                });
        }
    }
    mesh.down()?;
    judge(&samples, section);
    section.programs = costs;
    section.note(format!(
        "every client and server on CPU {} alone; processes started {} times",
        bench.cpu(),
        rounds.div_ceil(each)
    ));
    section.note("CPU is of client and server together; 'no mesh twice' is the noise of this run");
    section.note(
        "without a mesh each process has a cgroup of its own, as under a service manager; \
         'to one cgroup' compares with client and server in the same",
    );
    Ok(())
}

type Figure = fn(&Sample) -> f64;

fn judge(samples: &Samples, section: &mut Section) {
    let (time, cpu): (Figure, Figure) = (|it| it.p50_ns, |it| it.cpu_ns);
    let (rate, slowest): (Figure, Figure) = (|it| it.per_second, |it| it.slowest_ns);
    let mut compare = |name: &str, unit, load, (treated, base), figure, bar| {
        let treated = samples.of(load, treated, figure);
        let base = samples.of(load, base, figure);
        section.ratio(name, unit, (&treated, &base), bar);
    };
    let ns = Unit::Nanoseconds;
    for (name, load, figure, bar) in [
        ("ping-pong 64 B, p50", Load::PingPong, time, 1.03),
        ("connect, CPU", Load::Connect, cpu, 1.10),
        ("UDP connected 64 B, p50", Load::Connected, time, 1.10),
        ("UDP unconnected 64 B, p50", Load::Unconnected, time, 1.10),
    ] {
        compare(name, ns, load, (MESHED, PLAIN), figure, Some(bar));
        let twice = format!("{name}: no mesh twice");
        compare(&twice, ns, load, (PLAIN_AGAIN, PLAIN), figure, None);
        let together = format!("{name}: to one cgroup");
        compare(&together, ns, load, (MESHED, TOGETHER), figure, None);
    }
    let name = "connect, CPU, every counter on";
    compare(name, ns, Load::Connect, (COUNTED, PLAIN), cpu, Some(1.15));
    let pair = (MESHED, PLAIN);
    compare("connects", Unit::PerSecond, Load::Connect, pair, rate, None);
    compare(
        "slowest connect of a batch",
        ns,
        Load::Connect,
        pair,
        slowest,
        None,
    );
    compare("ping-pong 64 B, CPU", ns, Load::PingPong, pair, cpu, None);
    compare(
        "UDP connected 64 B, CPU",
        ns,
        Load::Connected,
        pair,
        cpu,
        None,
    );
    compare(
        "UDP unconnected 64 B, CPU",
        ns,
        Load::Unconnected,
        pair,
        cpu,
        None,
    );
}

impl Samples {
    fn of(&self, load: Load, pair: usize, figure: Figure) -> Vec<f64> {
        self.0[load as usize][pair].iter().map(figure).collect()
    }
}

/// A client, and the addresses of its server's ports as the client must use them.
struct Pair {
    client: usize,
    server: Worker,
    addresses: [SocketAddr; 3],
}

/// Every process of the comparison. The counted pair shares its client with the meshed one.
struct Deployment {
    clients: Vec<Worker>,
    pairs: Vec<Pair>,
}

impl Deployment {
    fn start(bench: &mut Bench<'_>, mesh: &Mesh) -> anyhow::Result<Self> {
        let cpu = Task::Pin(bench.cpu());
        let mut deployment = Self {
            clients: vec![
                bench.plain("plain-client")?,
                bench.plain("plain-client")?,
                bench.crew.start("plain-client")?,
                mesh.run(&mut bench.crew, "client", &[])?,
            ],
            pairs: Vec::new(),
        };
        for client in [PLAIN, PLAIN_AGAIN, TOGETHER] {
            let server = match client {
                TOGETHER => bench.crew.start("plain-server")?,
                _ => bench.plain("plain-server")?,
            };
            deployment.add(client, server, &cpu, None)?;
        }
        for service in ["plain", "counted"] {
            let server = mesh.run(&mut bench.crew, service, &[])?;
            deployment.add(MESHED, server, &cpu, Some(service))?;
        }
        deployment
            .clients
            .iter_mut()
            .try_for_each(|client| client.order(&cpu))?;
        Ok(deployment)
    }

    fn add(
        &mut self,
        client: usize,
        mut server: Worker,
        cpu: &Task,
        service: Option<&str>,
    ) -> anyhow::Result<()> {
        server.order(cpu)?;
        let mut addresses = [any_port(); 3];
        for (number, address) in addresses.iter_mut().enumerate() {
            let port = PORTS[number];
            *address = match service {
                None => server.serve(SERVED[number], any_port())?,
                Some(service) => {
                    server.serve(SERVED[number], every_address(port))?;
                    let name = full_name(service);
                    self.clients[client].ask(&Task::Resolve { name, port })?
                }
            };
        }
        self.pairs.push(Pair {
            client,
            server,
            addresses,
        });
        Ok(())
    }

    /// One batch of every load from every pair, in random order.
    fn round(&mut self, bench: &mut Bench<'_>, samples: &mut Samples) -> anyhow::Result<()> {
        let mut order: Vec<(Load, usize)> = LOADS
            .into_iter()
            .flat_map(|load| (0..PAIRS).map(move |pair| (load, pair)))
            .filter(|(load, pair)| *pair != COUNTED || *load == Load::Connect)
            .collect();
        bench.random.shuffle(&mut order);
        for (load, pair) in order {
            interrupt::check()?;
            let (batch, server_ns) = self.batch(load, pair, bench.batch_ms())?;
            samples.0[load as usize][pair].push(Sample {
                p50_ns: f64::from(batch.p50_ns),
                cpu_ns: batch.cpu_per_operation(server_ns),
                per_second: batch.per_second(),
                slowest_ns: f64::from(batch.slowest_ns),
            });
        }
        Ok(())
    }

    /// One batch, and the CPU time its server used.
    fn batch(&mut self, load: Load, pair: usize, for_ms: u64) -> anyhow::Result<(Batch, u64)> {
        let pair = &mut self.pairs[pair];
        let [echo, greeting, datagrams] = pair.addresses;
        let bytes = MESSAGE_BYTES;
        let datagrams = |connected| Task::Datagrams {
            to: datagrams,
            connected,
            bytes,
            for_ms,
        };
        let task = match load {
            Load::PingPong => Task::PingPong {
                to: echo,
                bytes,
                for_ms,
            },
            Load::Connect => Task::Connects {
                to: vec![greeting],
                for_ms,
            },
            Load::Connected => datagrams(true),
            Load::Unconnected => datagrams(false),
        };
        let before = pair.server.cpu_ns()?;
        let batch = self.clients[pair.client]
            .ask(&task)
            .with_context(|| format!("{load:?} to {:?}", pair.addresses))?;
        Ok((batch, pair.server.cpu_ns()? - before))
    }

    /// What each kernel program costs in each load, from a pass of its own.
    fn program_costs(
        &mut self,
        bench: &Bench<'_>,
        mesh: &Mesh,
    ) -> anyhow::Result<Vec<ProgramCost>> {
        let programs = Programs::of_mesh(&mesh.run_dir())?;
        let counting = Counting::start()?;
        let mut costs = Vec::new();
        let passes = [
            (Load::PingPong, MESHED, "round trip"),
            (Load::Connect, MESHED, "connect"),
            (Load::Connect, COUNTED, "connect, every counter on"),
            (Load::Connected, MESHED, "datagram and echo, connected"),
            (Load::Unconnected, MESHED, "datagram and echo, unconnected"),
        ];
        for (load, pair, name) in passes {
            let before = programs.read()?;
            let (batch, _) = self.batch(load, pair, bench.batch_ms())?;
            let after = programs.read()?;
            costs.extend(programs.costs((&before, &after), name, batch.operations));
        }
        drop(counting);
        Ok(costs)
    }
}
