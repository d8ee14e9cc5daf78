//! What is measured, and the run as a whole. One module each; each gives a section of the report.
//!
//! A measure that cannot be completed is told as such and the others go on; only the user's wish ends
//! the run early.

mod direct;
mod idle;
mod limit;
mod live;
mod losses;
mod names;
mod proxy;
mod replicas;
mod restart;
mod scale;

use std::fs;
use std::io::{self, IsTerminal};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::thread::sched_getaffinity;

use crate::cgroup::Slice;
use crate::crew::{Crew, Launcher, Worker};
use crate::interrupt::{self, Interrupted};
use crate::mesh::{Mesh, Plan};
use crate::options::{BenchOptions, Measure};
use crate::protocol::Batch;
use crate::provenance::Provenance;
use crate::random::Random;
use crate::report::{self, Report, Section};

pub use live::{LIVE_POLICIES, LiveOptions, LivePolicy, live};

/// Measures, prints as it goes, and writes JSON where asked to.
///
/// # Errors
/// It is not run as root, was interrupted, or a measure could not be completed. A missed bar is no
/// error: it is in the report.
pub fn run(options: &BenchOptions) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the bench needs root: it starts meshes of its own.\nTry: sudo selvedge bench");
    }
    interrupt::watch()?;
    let folder = run_folder()?;
    let mut bench = Bench::new(options, folder.path())?;
    let provenance = Provenance::collect(options, &bench.program, bench.seed);
    let mut out = io::stdout();
    provenance.write(&mut out)?;
    let mut report = Report {
        provenance,
        sections: Vec::new(),
    };
    let mut incomplete = 0;
    for measure in chosen(options) {
        let (section, is_complete) = bench.section(measure)?;
        report::write_section(&section, &mut out)?;
        incomplete += u32::from(!is_complete);
        report.sections.push(section);
        write_json(options, &report)?;
    }
    report::write_totals(&report, &mut out)?;
    if incomplete > 0 {
        bail!("{incomplete} measures could not be completed");
    }
    Ok(())
}

/// A folder of its own, which programs of other users can enter.
fn run_folder() -> anyhow::Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("selvedge-bench-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .context("cannot create a folder for the run")
}

fn chosen(options: &BenchOptions) -> Vec<Measure> {
    let is_chosen =
        |measure: &Measure| options.measures.is_empty() || options.measures.contains(measure);
    Measure::ALL.into_iter().filter(is_chosen).collect()
}

fn write_json(options: &BenchOptions, report: &Report) -> anyhow::Result<()> {
    let Some(path) = &options.json else {
        return Ok(());
    };
    let mut text = serde_json::to_vec_pretty(report)?;
    text.push(b'\n');
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// What every measure works with.
struct Bench<'a> {
    options: &'a BenchOptions,
    program: PathBuf,
    copy: PathBuf,
    folder: PathBuf,
    crew: Crew,
    random: Random,
    seed: u64,
    /// CPUs this process may use; the last of them is the one that is measured on.
    cpus: Vec<usize>,
    meshes: u16,
    /// Where processes without a mesh are.
    slice: Slice,
}

/// Private ports of each mesh of a run.
const PRIVATE_PORTS: u16 = 300;
/// Where those of the first begin: behind those of a mesh with default settings. Not at a full hundred: a
/// mesh takes the resolver's port from the end of its range, and one that is killed for a while must find
/// it free, whoever else starts meanwhile.
const FIRST_PRIVATE_PORT: u16 = 62_050;
/// Most meshes of one run.
const MAX_MESHES: u16 = 11;

impl<'a> Bench<'a> {
    fn new(options: &'a BenchOptions, folder: &Path) -> anyhow::Result<Self> {
        let program = match &options.program {
            Some(program) => program.clone(),
            None => std::env::current_exe().context("cannot find the running binary")?,
        };
        let copy = folder.join("selvedge");
        fs::copy(&program, &copy).with_context(|| format!("cannot copy {}", program.display()))?;
        let launcher = Launcher {
            program: copy.clone(),
            arguments: vec!["bench-worker".to_owned()],
        };
        let seed = options.seed.unwrap_or_else(crate::clock::monotonic_ns);
        let allowed = sched_getaffinity(None).context("cannot read the allowed CPUs")?;
        let cpus = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        Ok(Self {
            options,
            program,
            copy,
            folder: folder.to_owned(),
            crew: Crew::new(&folder.join("crew"), launcher)?,
            random: Random::new(seed),
            seed,
            cpus: cpus.collect(),
            meshes: 0,
            slice: Slice::make(&format!("selvedge-bench-{}-plain", std::process::id()))?,
        })
    }

    /// Measures one thing; says whether that could be completed.
    fn section(&mut self, measure: Measure) -> Result<(Section, bool), Interrupted> {
        if io::stderr().is_terminal() {
            eprintln!("measuring {measure} ...");
        }
        let mut section = Section::new(measure.name(), title(measure), self.options.quick);
        let done = match measure {
            Measure::Direct => direct::measure(self, &mut section),
            Measure::Names => names::measure(self, &mut section),
            Measure::Replicas => replicas::measure(self, &mut section),
            Measure::Restart => restart::measure(self, &mut section),
            Measure::Limit => limit::measure(self, &mut section),
            Measure::Scale => scale::measure(self, &mut section),
            Measure::Idle => idle::measure(self, &mut section),
            Measure::Proxy => proxy::measure(self, &mut section),
            Measure::Losses => losses::measure(self, &mut section),
        };
        interrupt::check()?;
        if let Err(error) = &done {
            section.incomplete(format!("{error:#}"));
        }
        Ok((section, done.is_ok()))
    }

    /// A mesh of its own for a measure.
    fn mesh(&mut self) -> anyhow::Result<Mesh> {
        self.mesh_on(None)
    }

    /// A mesh whose agent and proxy run on one CPU.
    fn mesh_on(&mut self, cpu: Option<usize>) -> anyhow::Result<Mesh> {
        let number = self.meshes % MAX_MESHES;
        self.meshes += 1;
        let first = FIRST_PRIVATE_PORT + number * PRIVATE_PORTS;
        Mesh::start(Plan {
            program: self.program.clone(),
            copy: self.copy.clone(),
            folder: self.folder.join(format!("mesh-{}", self.meshes)),
            cgroup: format!("selvedge-bench-{}-{}", std::process::id(), self.meshes),
            private_ports: (first, first + PRIVATE_PORTS - 1),
            cpu,
        })
    }

    /// A worker without a mesh, in a cgroup of its own as a service manager puts services.
    fn plain(&mut self, role: &str) -> anyhow::Result<Worker> {
        let worker = self.crew.start(role)?;
        self.slice.place(worker.pid)?;
        Ok(worker)
    }

    /// The CPU that everything which is compared runs on.
    fn cpu(&self) -> usize {
        self.cpus.last().copied().unwrap_or(0)
    }

    /// Another one for what is not compared, or the same where there is none.
    fn other_cpu(&self) -> usize {
        self.cpus.first().copied().unwrap_or(0)
    }

    fn rounds(&self) -> usize {
        match self.options.quick {
            true => 2,
            false => self.rounds_or(BenchOptions::ROUNDS),
        }
    }

    /// Rounds where each takes many seconds.
    fn long_rounds(&self) -> usize {
        match self.options.quick {
            true => 1,
            false => self.rounds_or(BenchOptions::LONG_ROUNDS),
        }
    }

    fn rounds_or(&self, otherwise: u32) -> usize {
        self.options.rounds.unwrap_or(otherwise).max(1) as usize
    }

    /// Length of one batch.
    fn batch_ms(&self) -> u64 {
        if self.options.quick { 20 } else { 150 }
    }

    /// The smaller figure in a quick run.
    fn sized<T>(&self, full: T, quick: T) -> T {
        if self.options.quick { quick } else { full }
    }

    /// A loopback address of this run alone, for a server that needs a well-known port.
    fn own_address(&self, number: u8, port: u16) -> SocketAddr {
        let own = std::process::id();
        // Out of the mesh's 127.96.0.0/12 and of the low numbers that hosts use.
        let second = 128 + (own % 100) as u8;
        let third = (own / 100 % 250) as u8;
        (Ipv4Addr::new(127, second, third, number), port).into()
    }
}

/// Any free port on loopback.
fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// This port of whatever address; for workloads, whose ports are the mesh's business.
fn every_address(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

/// The whole name of a service in the default namespace.
fn full_name(service: &str) -> String {
    format!("{service}.default.svc.cluster.local")
}

/// A Service document.
fn service_document(name: &str, ports: &[(u16, &str)]) -> String {
    let ports = ports.iter().map(|(port, protocol)| {
        format!("  - {{name: p{port}, port: {port}, protocol: {protocol}}}\n")
    });
    let ports: String = ports.collect();
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  ports:\n{ports}"
    )
}

/// A TrafficPolicy document about one service; `rest` is what it says.
fn policy_document(name: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: selvedge.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: {name}}}\n\
         spec:\n  targetRefs: [{{kind: Service, name: {name}}}]\n  {rest}\n"
    )
}

impl Batch {
    fn per_second(&self) -> f64 {
        self.timed as f64 * 1e9 / self.wall_ns as f64
    }

    /// CPU time of one operation, where others than the asking worker used `others_ns` for it.
    fn cpu_per_operation(&self, others_ns: u64) -> f64 {
        (self.cpu_ns + others_ns) as f64 / self.operations as f64
    }
}

fn title(measure: Measure) -> &'static str {
    match measure {
        Measure::Direct => "kernel path against no mesh, same CPU, interleaved",
        Measure::Names => "look-ups against dnsmasq and unbound, same CPU, interleaved",
        Measure::Replicas => "connections while one of three replicas is killed every second",
        Measure::Restart => "agent and proxy killed under load, and started again",
        Measure::Limit => "72 threads of abuse against a limit of 16 connections",
        Measure::Scale => "5,000 services with 20,000 endpoints against 10 with 40",
        Measure::Idle => "20 services with 60 endpoints and nothing to do",
        Measure::Proxy => "HTTP/1.1 through a proxy: 64 connections kept, answers of 1 KiB",
        Measure::Losses => "requests while a replica is killed every second, and the proxy once",
    }
}
