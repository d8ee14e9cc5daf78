//! What the acts found, printed.

use super::acts::Pace;
use super::footprint::{ENDPOINTS, Footprint, SERVICES};
use super::load::Figures;
use super::say;

/// What the acts found.
pub(super) struct Findings {
    /// Requests through the mesh.
    pub(super) meshed: Figures,
    /// As many bursts to the same programs without it.
    pub(super) plain: Figures,
    /// Requests while a replica was killed.
    pub(super) replica_killed: Figures,
    /// Requests while agent and proxy were killed.
    pub(super) mesh_killed: Figures,
    /// What the mesh costs while nothing happens.
    pub(super) footprint: Footprint,
}

impl Findings {
    pub(super) fn print(&self, pace: &Pace) {
        say!("Summary");
        self.print_comparison(pace);
        print_fault("a replica killed", &self.replica_killed);
        print_fault("agent and proxy killed", &self.mesh_killed);
        let idle = &self.footprint;
        print(
            "agent and proxy, idle",
            &format!(
                "{:.1} MiB (PSS), {:.1} wake-ups per second,",
                mebibytes(idle.pss_kib << 10),
                idle.wakeups_per_s
            ),
        );
        print(
            "",
            &format!("with {SERVICES} services and {ENDPOINTS} endpoints"),
        );
        print(
            "maps in the kernel",
            &format!("{:.1} MiB", mebibytes(idle.map_bytes)),
        );
    }

    fn print_comparison(&self, pace: &Pace) {
        let row = |what: &str, of: fn(&Figures) -> String| {
            print(
                what,
                &format!("{:>14} {:>14}", of(&self.meshed), of(&self.plain)),
            );
        };
        print("", &format!("{:>14} {:>14}", "with the mesh", "without"));
        row("requests", |it| it.requests.to_string());
        row("failures", |it| it.failures.to_string());
        row("latency, median", |it| milliseconds(it.p50_us));
        row("latency, 99th percentile", |it| milliseconds(it.p99_us));
        let Pace { rounds, burst, .. } = pace;
        say!("   (latency: the middle one of {rounds} turns of {burst:?})\n");
    }
}

fn print(what: &str, figures: &str) {
    say!("   {what:<28} {figures}");
}

fn print_fault(what: &str, figures: &Figures) {
    let Figures {
        failures, requests, ..
    } = figures;
    print(what, &format!("{failures} of {requests} requests failed"));
}

fn milliseconds(us: u64) -> String {
    format!("{}.{:02} ms", us / 1000, us % 1000 / 10)
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
