//! HTTP/1.1 through a proxy: what a request costs it, and how long a request takes, for ours and for
//! the proxies a user would pick instead.
//!
//! Every proxy runs all the time, alone on the first CPU when it is its turn; on the last, one thread
//! is both the clients and the origin. Rounds go through all proxies, each round beginning with
//! another. Read next: `proxy/stage.rs`.

mod calls;
mod instructions;
mod ours;
mod stage;

use super::Bench;
use crate::interrupt;
use crate::options::Proxy;
use crate::report::{Section, Unit};
use stage::{Instructions, Sample, Stage};

/// The name of ours among the proxies.
const OURS: &str = "ours";
/// The name of a service of ours with limits that move.
const STEERED: &str = "ours with an objective";
/// What all laws may cost, as a share of what ours takes for a request with fixed values.
const LAWS: f64 = 1.05;
/// Requests each second of the open loop.
const RATE: f64 = 5000.0;

/// What a proxy is put under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// As many requests as it can take.
    Saturated,
    /// [`RATE`] of them each second, whatever it does.
    Steady,
}

/// Samples of one proxy, one for each round.
#[derive(Debug, Default)]
struct Samples {
    saturated: Vec<Sample>,
    steady: Vec<Sample>,
}

pub(super) fn measure(bench: &mut Bench<'_>, section: &mut Section) -> anyhow::Result<()> {
    let mut stage = Stage::set(bench, section)?;
    let mut samples: Vec<Samples> = stage.names().map(|_| Samples::default()).collect();
    let steered = stage.names().position(|name| name == STEERED);
    // A limit that moves is low where little is in flight, and refuses what comes all at once.
    let (mut failed, mut shed) = (0, 0);
    for shape in [Shape::Saturated, Shape::Steady] {
        for round in 0..bench.long_rounds() {
            let seed = bench.random.next();
            for turn in 0..samples.len() {
                interrupt::check()?;
                let number = (turn + round) % samples.len();
                let sample = stage.sample(number, shape, seed)?;
                match Some(number) == steered {
                    true => shed += sample.failed,
                    false => failed += sample.failed,
                }
                samples[number].of_mut(shape).push(sample);
            }
        }
    }
    let names: Vec<String> = stage.names().map(str::to_owned).collect();
    table(&names, &samples, section);
    compare(&names, &samples, section);
    compare_laws(&names, &samples, section);
    section.count("requests without a good answer", failed, Some(0));
    section.count("and of ours with an objective", shed, None);
    neighbours(&samples, section);
    second_client(&mut stage, section)?;
    system_calls(&mut stage, section)?;
    instructions(&mut stage, section)?;
    section
        .note("closed loop: as much as each can take; open loop: 5,000/s, Poisson, from when due");
    section
        .note("CPU is of all processes of the proxy while requests counted; user CPU within ticks");
    section.note(
        "each serves 50 hosts with ten routes, makes request ids and has a limit; ours also keeps",
    );
    section.note("times and counts by caller, route and backend, and ejects what fails; with an");
    section.note("objective it has one that nothing comes near, and controllers that look");
    section.note("middle (least - most) of the rounds; ratios are of two figures of one round");
    Ok(())
}

impl Samples {
    fn of(&self, shape: Shape) -> &[Sample] {
        match shape {
            Shape::Saturated => &self.saturated,
            Shape::Steady => &self.steady,
        }
    }

    fn of_mut(&mut self, shape: Shape) -> &mut Vec<Sample> {
        match shape {
            Shape::Saturated => &mut self.saturated,
            Shape::Steady => &mut self.steady,
        }
    }

    fn figures(&self, shape: Shape, figure: fn(&Sample) -> f64) -> Vec<f64> {
        self.of(shape).iter().map(figure).collect()
    }
}

/// A figure of a sample.
type Figure = (&'static str, Unit, Shape, fn(&Sample) -> f64);

/// What is told of each proxy.
const FIGURES: [Figure; 8] = [
    ("closed: CPU", Unit::Nanoseconds, Shape::Saturated, |it| {
        it.cpu_ns
    }),
    (
        "closed: user CPU",
        Unit::Nanoseconds,
        Shape::Saturated,
        |it| it.user_ns,
    ),
    (
        "closed: requests",
        Unit::PerSecond,
        Shape::Saturated,
        |it| it.per_second,
    ),
    ("closed: p50", Unit::Nanoseconds, Shape::Saturated, |it| {
        it.p50_ns
    }),
    ("open: CPU", Unit::Nanoseconds, Shape::Steady, |it| {
        it.cpu_ns
    }),
    ("open: user CPU", Unit::Nanoseconds, Shape::Steady, |it| {
        it.user_ns
    }),
    ("open: p50", Unit::Nanoseconds, Shape::Steady, |it| {
        it.p50_ns
    }),
    ("open: p90", Unit::Nanoseconds, Shape::Steady, |it| {
        it.p90_ns
    }),
];

fn table(names: &[String], samples: &[Samples], section: &mut Section) {
    for (figure, unit, shape, of) in FIGURES {
        for (name, samples) in names.iter().zip(samples) {
            let has_cpu = samples.of(shape).iter().all(|it| it.cpu_ns > 0.0);
            if has_cpu || !figure.contains("CPU") {
                let name = format!("{figure}, {name}");
                section.rounds(&name, unit, &samples.figures(shape, of));
            }
        }
    }
}

/// On a busy machine caches are cold and CPUs are shared: a reader must know.
fn neighbours(samples: &[Samples], section: &mut Section) {
    let all = samples
        .iter()
        .flat_map(|it| it.saturated.iter().chain(&it.steady));
    let percent = all.map(|sample| (sample.foreign_cpus * 100.0).round());
    let percent: Vec<f64> = percent.collect();
    section.rounds("per cent of a CPU used by others", Unit::Count, &percent);
}

/// Ours against each rival; without ours, the first rival against the others.
fn compare(names: &[String], samples: &[Samples], section: &mut Section) {
    let place = |wanted: &str| names.iter().position(|name| name == wanted);
    let rivals = Proxy::ALL
        .into_iter()
        .filter_map(|proxy| Some((proxy, place(proxy.name())?)));
    let rivals: Vec<(Proxy, usize)> = rivals.collect();
    let ours = place(OURS);
    let Some(first) = ours.or(rivals.first().map(|(_, place)| *place)) else {
        return section.not_had("ratios", "there is no proxy to compare", None);
    };
    for (figure, unit, shape, of) in FIGURES {
        for (proxy, rival) in rivals.iter().filter(|(_, rival)| *rival != first) {
            let bar = ours.and_then(|_| bar(figure, *proxy));
            if ["closed: CPU", "open: CPU", "open: p50", "open: p90"].contains(&figure) {
                let name = format!("{figure}, {} -> {}", proxy.name(), names[first]);
                let treated = samples[first].figures(shape, of);
                let base = samples[*rival].figures(shape, of);
                section.ratio(&name, unit, (&treated, &base), bar);
            }
        }
    }
}

/// What limits that move cost, against ours with fixed ones.
fn compare_laws(names: &[String], samples: &[Samples], section: &mut Section) {
    let place = |wanted: &str| names.iter().position(|name| name == wanted);
    let (Some(fixed), Some(steered)) = (place(OURS), place(STEERED)) else {
        return;
    };
    for (figure, unit, shape, of) in FIGURES {
        if ["closed: CPU", "open: CPU"].contains(&figure) {
            let name = format!("{figure}, {OURS} -> {STEERED}");
            let treated = samples[steered].figures(shape, of);
            let base = samples[fixed].figures(shape, of);
            section.ratio(&name, unit, (&treated, &base), Some(LAWS));
        }
    }
}

/// What ours is to stay below, as a share of a rival's figure.
fn bar(figure: &str, rival: Proxy) -> Option<f64> {
    match (figure, rival) {
        ("closed: CPU", Proxy::Nginx) => Some(0.95),
        ("closed: CPU", Proxy::Haproxy) => Some(0.90),
        ("closed: CPU", Proxy::Envoy) => Some(0.27),
        ("open: CPU", Proxy::Nginx) => Some(1.0),
        ("open: p50" | "open: p90", Proxy::Nginx) => Some(1.05),
        _ => None,
    }
}

/// Once more with a client that nobody here wrote: the order must be the same.
fn second_client(stage: &mut Stage, section: &mut Section) -> anyhow::Result<()> {
    let names: Vec<String> = stage.proxies().map(str::to_owned).collect();
    for name in names {
        interrupt::check()?;
        let label = format!("wrk: CPU, {name}");
        match stage.cpu_under_wrk(&name)? {
            Some(cpu_ns) => section.amount(&label, Unit::Nanoseconds, cpu_ns, None),
            None => {
                section.not_had("wrk as second client", "wrk is not installed", None);
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Counted in runs of their own: counting costs.
fn system_calls(stage: &mut Stage, section: &mut Section) -> anyhow::Result<()> {
    let names: Vec<String> = stage.proxies().map(str::to_owned).collect();
    for name in names {
        interrupt::check()?;
        match stage.calls(&name) {
            Ok(calls) => {
                let calls = (calls * 100.0).round() / 100.0;
                let bar = (name == OURS).then_some(4.3);
                section.amount(&format!("system calls, {name}"), Unit::Count, calls, bar);
            }
            Err(error) => {
                section.not_had("system calls", format!("{error:#}"), None);
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Of ours alone, for comparison with itself on another day.
fn instructions(stage: &mut Stage, section: &mut Section) -> anyhow::Result<()> {
    interrupt::check()?;
    match stage.instructions() {
        Ok(Instructions { request, gate }) => {
            let (request, gate) = (request.round(), gate.round());
            section.amount(
                "instructions of a request, ours",
                Unit::Count,
                request,
                None,
            );
            section.amount("instructions of the gate for it", Unit::Count, gate, None);
            section.note("instructions outside the kernel, by callgrind, without a mesh around");
        }
        Err(error) => {
            interrupt::check()?;
            section.not_had(
                "instructions of a request, ours",
                format!("{error:#}"),
                None,
            );
        }
    }
    Ok(())
}
