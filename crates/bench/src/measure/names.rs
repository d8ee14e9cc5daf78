//! Look-ups: what forwarding one costs, against dnsmasq; what answering for a service costs, against
//! unbound.
//!
//! All resolvers run on the measured CPU, in front of the same upstream. Added time is the middle
//! time of a look-up less that of one straight to the upstream in the same round. A look-up in the
//! mesh takes the whole way: the kernel leads it to the proxy, the proxy learns who asks.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context;

use super::{Bench, every_address, full_name};
use crate::crew::Worker;
use crate::interrupt;
use crate::mesh::Mesh;
use crate::process::{self, Usage};
use crate::protocol::{Batch, Names, Served, Task};
use crate::report::{Section, Unit};
use crate::rivals::Rival;

const DNS: u16 = 53;
/// The service that is looked up, and a port for it to have.
const SERVICE: &str = "cart";
const PORT: u16 = 7010;
/// Queries in flight at once: one shows time, many show CPU.
const WINDOWS: [usize; 2] = [1, 16];

/// The ways of a look-up, by their place in [`Stage::ways`].
const STRAIGHT: usize = 0;
const DNSMASQ: usize = 1;
const FORWARDED: usize = 2;
const UNBOUND: usize = 3;
const MESH_NAME: usize = 4;
const WAYS: usize = 5;

/// One way of a look-up.
struct Way {
    in_mesh: bool,
    server: SocketAddr,
    names: Names,
    /// The process that resolves, if any stands between.
    resolver: Option<u32>,
}

/// What one batch gave.
#[derive(Clone, Copy)]
struct Sample {
    p50_ns: f64,
    /// CPU of the resolver alone, a query.
    resolver_ns: f64,
    /// CPU of client, resolver and upstream, a query.
    all_ns: f64,
}

/// Samples by window and way, one for each round.
type Samples = [[Vec<Sample>; WAYS]; WINDOWS.len()];

pub(super) fn measure(bench: &mut Bench<'_>, section: &mut Section) -> anyhow::Result<()> {
    let mesh = bench.mesh()?;
    let mut stage = Stage::set(bench, &mesh)?;
    let mut samples = Samples::default();
    let mut lost = 0;
    for _ in 0..bench.rounds() {
        let mut order: Vec<(usize, usize)> = (0..WINDOWS.len())
            .flat_map(|it| (0..WAYS).map(move |way| (it, way)))
            .collect();
        bench.random.shuffle(&mut order);
        for (window, way) in order {
            interrupt::check()?;
            let (sample, batch) = stage.batch(way, WINDOWS[window], bench.batch_ms())?;
            samples[window][way].push(sample);
            lost += batch.lost;
        }
    }
    let cpus = bench.cpus.clone();
    process::unpin(mesh.proxy_pid()?, &cpus)?;
    drop(stage);
    mesh.down()?;
    judge(&samples, section);
    section.count("queries without a good answer", lost, Some(0));
    section
        .note("forwarded: dnsmasq -> mesh; mesh name: unbound -> mesh; one query in flight or 16");
    section.note("CPU of the resolver is of its process alone; 'all' adds client and upstream");
    section.note("dnsmasq: cache off; unbound: one thread, local-data; others by their defaults");
    Ok(())
}

fn judge(samples: &Samples, section: &mut Section) {
    let ns = Unit::Nanoseconds;
    let of = |window: usize, way: usize, figure: fn(&Sample) -> f64| -> Vec<f64> {
        samples[window][way].iter().map(figure).collect()
    };
    let added = |way: usize| -> Vec<f64> {
        let straight = of(0, STRAIGHT, |it| it.p50_ns);
        let through = of(0, way, |it| it.p50_ns);
        through
            .iter()
            .zip(straight)
            .map(|(through, straight)| through - straight)
            .collect()
    };
    let bar = Some(1.0);
    let pair = (&*added(FORWARDED), &*added(DNSMASQ));
    section.ratio("forwarded: added time", ns, pair, bar);
    for (number, window) in WINDOWS.iter().enumerate() {
        let mut compare = |name: &str, (way, rival), figure: fn(&Sample) -> f64| {
            let name = format!("{name}, {window} in flight");
            let pair = (&*of(number, way, figure), &*of(number, rival, figure));
            section.ratio(&name, ns, pair, bar);
        };
        let forwarded = (FORWARDED, DNSMASQ);
        compare("forwarded: resolver CPU", forwarded, |it| it.resolver_ns);
        compare("forwarded: CPU of all", forwarded, |it| it.all_ns);
        let local = (MESH_NAME, UNBOUND);
        compare("mesh name: time", local, |it| it.p50_ns);
        compare("mesh name: resolver CPU", local, |it| it.resolver_ns);
    }
}

/// Everything that takes part.
struct Stage {
    plain: Worker,
    meshed: Worker,
    upstream: Worker,
    ways: [Way; WAYS],
    /// Held: dropping them ends them.
    _parties: (Worker, Rival, Rival),
}

impl Stage {
    fn set(bench: &mut Bench<'_>, mesh: &Mesh) -> anyhow::Result<Self> {
        let cpu = Task::Pin(bench.cpu());
        let mut upstream = bench.plain("upstream")?;
        upstream.order(&cpu)?;
        let upstream_at = upstream.serve(Served::Names, bench.own_address(53, DNS))?;
        let mut service = mesh.run(&mut bench.crew, SERVICE, &[&PORT.to_string()])?;
        service.serve(Served::Greeting, every_address(PORT))?;
        let mut plain = bench.plain("plain-client")?;
        let mut meshed = mesh.run(&mut bench.crew, "client", &[])?;
        plain.order(&cpu)?;
        meshed.order(&cpu)?;
        let name = full_name(SERVICE);
        let address = resolve(&mut meshed, &name)?;
        let crew = bench.folder.join("crew");
        let dnsmasq = Rival::dnsmasq(bench.own_address(54, DNS), upstream_at, &crew)?;
        let unbound = Rival::unbound(bench.own_address(55, DNS), (&name, address), &crew)?;
        let proxy = mesh.proxy_pid()?;
        for rival in [dnsmasq.pid(), unbound.pid()] {
            bench.slice.place(rival)?;
        }
        for resolver in [dnsmasq.pid(), unbound.pid(), proxy] {
            process::pin(resolver, bench.cpu())?;
        }
        let foreign = || Names::Fresh("bench.example".to_owned());
        let way = |in_mesh, server, names, resolver| Way {
            in_mesh,
            server,
            names,
            resolver,
        };
        let ways = [
            way(false, upstream_at, foreign(), None),
            way(false, dnsmasq.address, foreign(), Some(dnsmasq.pid())),
            way(true, upstream_at, foreign(), Some(proxy)),
            way(
                false,
                unbound.address,
                Names::One(name.clone()),
                Some(unbound.pid()),
            ),
            way(true, upstream_at, Names::One(name), Some(proxy)),
        ];
        Ok(Self {
            plain,
            meshed,
            upstream,
            ways,
            _parties: (service, dnsmasq, unbound),
        })
    }

    fn batch(&mut self, way: usize, window: usize, for_ms: u64) -> anyhow::Result<(Sample, Batch)> {
        let way = &self.ways[way];
        let task = Task::Queries {
            server: way.server,
            names: way.names.clone(),
            window,
            for_ms,
        };
        let resolver = || way.resolver.map(Usage::read).transpose();
        let (upstream_before, resolver_before) = (self.upstream.cpu_ns()?, resolver()?);
        let client = if way.in_mesh {
            &mut self.meshed
        } else {
            &mut self.plain
        };
        let batch: Batch = client
            .ask(&task)
            .with_context(|| format!("look-ups at {}", way.server))?;
        let used = resolver()?.zip(resolver_before);
        let resolver_ns = used.map_or(0, |(after, before)| after.since(&before).cpu_ns);
        let upstream_ns = self.upstream.cpu_ns()? - upstream_before;
        let sample = Sample {
            p50_ns: f64::from(batch.p50_ns),
            resolver_ns: resolver_ns as f64 / batch.operations as f64,
            all_ns: batch.cpu_per_operation(resolver_ns + upstream_ns),
        };
        Ok((sample, batch))
    }
}

fn resolve(client: &mut Worker, name: &str) -> anyhow::Result<IpAddr> {
    let task = Task::Resolve {
        name: name.to_owned(),
        port: PORT,
    };
    Ok(client.ask::<SocketAddr>(&task)?.ip())
}
