//! Who takes part: one worker that is clients and origin, and the proxies between.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::calls::CallCount;
use super::instructions::Counter;
use super::{OURS, RATE, STEERED, Shape, ours};
use crate::crew::Worker;
use crate::interrupt;
use crate::load::{Arrivals, LoadOptions, Pace, Target};
use crate::measure::Bench;
use crate::mesh::Mesh;
use crate::process::{Process, find, pin, start_pinned};
use crate::protocol::{Attended, Exchanged, HttpLoad, Task};
use crate::report::Section;
use crate::rivals::{Contender, Spot, host};

/// Bytes of each answer's body.
const BODY_BYTES: usize = 1024;
/// How long a proxy may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);
/// The host that is asked for; it is not the first to be found.
pub(super) const MEASURED: u32 = 25;
/// The longest that requests whose instructions are counted may take.
const LONG: Duration = Duration::from_secs(50);
/// The name of the way without a proxy, which shows what the load itself can do.
const STRAIGHT: &str = "no proxy";

/// Everything that takes part.
pub(super) struct Stage {
    worker: Worker,
    /// Ours.
    mesh: Mesh,
    ways: Vec<Way>,
    folder: PathBuf,
    warm_up: Duration,
    window: Duration,
    generator_cpu: usize,
    program: PathBuf,
    /// Requests of a short and of a longer count of instructions.
    counted: (u64, u64),
}

/// What our own code takes for a request, in instructions outside the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instructions {
    pub(super) request: f64,
    /// The gate's part of it.
    pub(super) gate: f64,
}

/// A way from the clients to the origin.
struct Way {
    name: String,
    address: SocketAddr,
    proxy: Option<Contender>,
    pids: Vec<u32>,
}

/// What one run gave. Times are of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) cpu_ns: f64,
    pub(super) user_ns: f64,
    pub(super) per_second: f64,
    pub(super) p50_ns: f64,
    pub(super) p90_ns: f64,
    /// Requests without an answer of class 2xx.
    pub(super) failed: u64,
    /// CPUs that neither the proxy nor the worker used, on average, and that were not idle.
    pub(super) foreign_cpus: f64,
}

impl Stage {
    pub(super) fn set(bench: &mut Bench<'_>, section: &mut Section) -> anyhow::Result<Self> {
        let [proxy_cpu, .., generator_cpu] = bench.cpus[..] else {
            bail!("it takes two CPUs: one for the proxy, one for clients and origin");
        };
        let folder = bench.folder.join("proxy");
        fs::create_dir_all(&folder)?;
        // The clients are a workload: the kernel leads them to ours, and lets them pass to the others.
        let mesh = bench.mesh_on(Some(proxy_cpu))?;
        let mut worker = mesh.run(&mut bench.crew, "clients", &[])?;
        worker.order(&Task::Pin(generator_cpu))?;
        let origin = Task::Origin {
            at: bench.own_address(60, 0),
            body_bytes: BODY_BYTES,
        };
        let backend: SocketAddr = worker.ask(&origin)?;
        let mut stage = Self {
            worker,
            mesh,
            ways: Vec::new(),
            folder,
            warm_up: bench.sized(Duration::from_secs(1), Duration::from_millis(50)),
            window: bench.sized(Duration::from_secs(3), Duration::from_millis(150)),
            generator_cpu,
            program: bench.program.clone(),
            counted: bench.sized((2000, 12_000), (100, 300)),
        };
        stage.add(STRAIGHT, backend, None, proxy_cpu)?;
        stage.add_ours(backend)?;
        stage.add_rivals(bench, backend, proxy_cpu, section)?;
        Ok(stage)
    }

    /// Ours serves as many services and routes as the others are asked to be compared with.
    fn add_ours(&mut self, backend: SocketAddr) -> anyhow::Result<()> {
        self.mesh.apply(&ours::documents(backend))?;
        let addresses = self.mesh.virtual_addresses()?;
        let pid = self.mesh.proxy_pid()?;
        for (name, service) in [(OURS, MEASURED), (STEERED, ours::STEERED)] {
            let address = addresses
                .get(&ours::service(service))
                .context("no virtual address")?;
            let address = SocketAddr::new(address.parse()?, ours::PORT);
            self.await_answer(name, address, &mut None)?;
            self.ways.push(Way {
                name: name.to_owned(),
                address,
                proxy: None,
                pids: vec![pid],
            });
        }
        Ok(())
    }

    /// A rival that is not there is told of, and the others are measured.
    fn add_rivals(
        &mut self,
        bench: &Bench<'_>,
        backend: SocketAddr,
        cpu: usize,
        section: &mut Section,
    ) -> anyhow::Result<()> {
        for (number, rival) in (62..).zip(&bench.options.proxies) {
            let spot = Spot::new(bench.own_address(number, 0), backend, &self.folder)?;
            match Contender::rival(*rival, &spot, &bench.program) {
                Ok(proxy) => self.add(rival.name(), spot.listen, Some(proxy), cpu)?,
                Err(error) => section.not_had(rival.name(), format!("{error:#}"), None),
            }
        }
        Ok(())
    }

    /// Takes a way in once it leads to the origin, with its proxy on the proxies' CPU.
    fn add(
        &mut self,
        name: &str,
        address: SocketAddr,
        mut proxy: Option<Contender>,
        cpu: usize,
    ) -> anyhow::Result<()> {
        self.await_answer(name, address, &mut proxy)?;
        // Only now: what answers has started all it consists of.
        let pids = proxy.as_ref().map(Contender::pids).transpose()?;
        let pids = pids.unwrap_or_default();
        for pid in &pids {
            pin(*pid, cpu)?;
        }
        self.ways.push(Way {
            name: name.to_owned(),
            address,
            proxy,
            pids,
        });
        Ok(())
    }

    fn await_answer(
        &mut self,
        name: &str,
        address: SocketAddr,
        proxy: &mut Option<Contender>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut one = options(address);
        (one.connections, one.requests) = (1, 1);
        (one.warm_up, one.timeout) = (Duration::ZERO, Duration::from_secs(1));
        one.duration = Duration::from_millis(100);
        loop {
            interrupt::check()?;
            proxy.as_mut().map_or(Ok(()), Contender::check)?;
            let found = self.exchange(one.clone(), address, &[])?;
            if found.report.measured.answered() == 1 {
                return Ok(());
            }
            if Instant::now() > deadline {
                let words = proxy.as_ref().map(Contender::last_words);
                let words = words.unwrap_or_default();
                bail!("{name} does not answer at {address}{words}");
            }
        }
    }

    /// Every way, in its order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.ways.iter().map(|way| way.name.as_str())
    }

    /// Those through a proxy.
    pub(super) fn proxies(&self) -> impl Iterator<Item = &str> {
        let ways = self.ways.iter().filter(|way| !way.pids.is_empty());
        ways.map(|way| way.name.as_str())
    }

    /// Runs a load over one way; the same seed makes the same requests due at the same instants.
    pub(super) fn sample(&mut self, way: usize, shape: Shape, seed: u64) -> anyhow::Result<Sample> {
        let (address, pids) = (self.ways[way].address, self.ways[way].pids.clone());
        let mut load = options(address);
        (load.warm_up, load.duration, load.seed) = (self.warm_up, self.window, seed);
        if shape == Shape::Steady {
            load.pace = Pace::Open {
                rate: RATE,
                arrivals: Arrivals::Poisson,
                queue: LoadOptions::QUEUE,
            };
        }
        let name = self.ways[way].name.clone();
        let found = self.exchange(load, address, &pids);
        let Exchanged { report, bill } =
            found.with_context(|| format!("a load over {name}{}", self.last_words(way)))?;
        let cpu_ns = bill.cpu_ns as f64 / report.completed.max(1) as f64;
        let good = report.measured.answers.get("2xx").copied().unwrap_or(0);
        Ok(Sample {
            cpu_ns,
            user_ns: cpu_ns * bill.user_share,
            per_second: report.per_second,
            p50_ns: report.latency.p50_us * 1000.0,
            p90_ns: report.latency.p90_us * 1000.0,
            failed: report.measured.requests - good,
            foreign_cpus: (bill.host_busy_ns.saturating_sub(bill.cpu_ns) as f64 / 1e9
                - report.cpu_s)
                .max(0.0)
                / report.window_s,
        })
    }

    /// CPU time of a proxy for a request of wrk; `None` where wrk is not installed.
    pub(super) fn cpu_under_wrk(&mut self, name: &str) -> anyhow::Result<Option<f64>> {
        let Some(wrk) = find("wrk") else {
            return Ok(None);
        };
        let way = self.way(name)?;
        let all = self.warm_up + self.window + PATIENCE;
        let mut command = match name {
            OURS | STEERED => self.mesh.run_command("wrk", &[]),
            _ => Command::new("env"),
        };
        command
            .arg(wrk)
            .args(["--threads", "1", "--connections", "64", "--duration"])
            .arg(format!("{}s", all.as_secs()))
            .arg("--header")
            .arg(format!("Host: {}", host(MEASURED)))
            .arg(format!("http://{}/items", way.address));
        let task = Task::Attend {
            warm_up_ms: self.warm_up.as_millis() as u64,
            for_ms: self.window.as_millis() as u64,
            watched: way.pids.clone(),
        };
        let log = self.folder.join("wrk.log");
        let start = || Process::start("wrk", &mut command, log);
        let mut wrk = start_pinned(self.generator_cpu, start)?;
        let attended: Attended = self.worker.ask(&task)?;
        // `selvedge run` takes its program along, and nobody may load the origin beside the next.
        wrk.terminate();
        let _killed = wrk.wait()?;
        let requests = attended.requests.max(1) as f64;
        Ok(Some(attended.bill.cpu_ns as f64 / requests))
    }

    /// System calls of a proxy for a request.
    pub(super) fn calls(&mut self, name: &str) -> anyhow::Result<f64> {
        let way = self.way(name)?;
        let (address, pids) = (way.address, way.pids.clone());
        let mut load = options(address);
        (load.warm_up, load.duration) = (Duration::ZERO, self.window);
        let count = CallCount::begin(&pids, &self.folder)?;
        let report = self.exchange(load, address, &pids)?.report;
        Ok(count.end()? as f64 / report.measured.answered().max(1) as f64)
    }

    /// Instructions of ours for a request.
    pub(super) fn instructions(&mut self) -> anyhow::Result<Instructions> {
        let counter = Counter::new(&self.program, &self.folder)?;
        let origin = self.way(STRAIGHT)?.address;
        let counted = self.counted;
        let request = counter.of_proxy(origin, counted, |address, requests| {
            let mut load = options(address);
            load.requests = requests;
            // It ends with the last request; under callgrind that takes as long as it takes.
            (load.warm_up, load.duration) = (Duration::ZERO, LONG);
            let report = self.exchange(load, address, &[])?.report;
            let answered = report.measured.answered();
            ensure!(
                answered == requests,
                "of {requests} requests {answered} were answered"
            );
            Ok(())
        })?;
        let gate = counter.of_gate()?;
        Ok(Instructions { request, gate })
    }

    fn last_words(&self, way: usize) -> String {
        let proxy = self.ways[way].proxy.as_ref();
        proxy.map(Contender::last_words).unwrap_or_default()
    }

    fn way(&self, name: &str) -> anyhow::Result<&Way> {
        let way = self.ways.iter().find(|way| way.name == name);
        way.with_context(|| format!("{name} takes no part"))
    }

    fn exchange(
        &mut self,
        options: LoadOptions,
        to: SocketAddr,
        watched: &[u32],
    ) -> anyhow::Result<Exchanged> {
        let watched = watched.to_vec();
        self.worker.ask(&Task::Exchange(HttpLoad {
            options,
            to,
            watched,
        }))
    }
}

/// Requests for a host in the midst of those that are served.
fn options(address: SocketAddr) -> LoadOptions {
    let mut options = LoadOptions::new(Target {
        authority: address.to_string(),
        path: "/items?colour=red".to_owned(),
    });
    options.fields = vec![("Host".to_owned(), host(MEASURED))];
    options
}
