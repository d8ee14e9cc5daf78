//! What the mesh itself costs while nothing happens: memory and wake-ups of its two processes.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::Context;

use super::stage::Stage;

/// How many services there are while the mesh is watched.
pub(super) const SERVICES: usize = 20;
/// How many endpoints they have, all together.
pub(super) const ENDPOINTS: usize = 60;

/// Idle figures of agent and proxy together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Footprint {
    /// Memory, shared pages counted in proportion (proc_pid_smaps(5)), in KiB.
    pub(super) pss_kib: u64,
    /// Times a thread went to sleep and was woken, per second.
    pub(super) wakeups_per_s: f64,
    /// Memory of the kernel's maps, in bytes.
    pub(super) map_bytes: u64,
}

impl Footprint {
    /// Watches the mesh for `duration`.
    pub(super) fn measure(stage: &Stage, duration: Duration) -> anyhow::Result<Self> {
        let processes = stage.processes()?;
        let before = waits(&processes)?;
        stage.interrupt.pause(duration)?;
        let after = waits(&processes)?;
        // A thread that ended meanwhile is in neither sum, one that is new counts from its start.
        let since = |(thread, count): (&i32, &u64)| {
            count.saturating_sub(before.get(thread).copied().unwrap_or(0))
        };
        let wakeups: u64 = after.iter().map(since).sum();
        let pss_kib: anyhow::Result<u64> = processes.iter().map(|pid| pss_kib(*pid)).sum();
        let maps = stage.status()?.kernel.maps;
        Ok(Self {
            pss_kib: pss_kib?,
            wakeups_per_s: wakeups as f64 / duration.as_secs_f64(),
            map_bytes: maps.iter().map(|map| map.bytes).sum(),
        })
    }
}

/// Adds services with addresses outside, until there are [`SERVICES`] and [`ENDPOINTS`].
pub(super) fn fill_up(stage: &Stage) -> anyhow::Result<()> {
    let services = stage.status()?.services;
    let ports = services.iter().flat_map(|service| &service.ports);
    let endpoints: usize = ports.map(|port| port.endpoints.len()).sum();
    let text = more_services(
        SERVICES.saturating_sub(services.len()),
        ENDPOINTS.saturating_sub(endpoints),
    );
    fs::write(stage.folder().join("more.yaml"), text).context("cannot write more services")?;
    stage.ask(&["apply", "-f", "more.yaml"]).map(drop)
}

/// YAML of `services` more services, among which `endpoints` addresses outside are dealt out.
fn more_services(services: usize, endpoints: usize) -> String {
    let mut text = String::new();
    for service in 0..services {
        let addresses = (0..endpoints).filter(|endpoint| endpoint % services == service);
        // Addresses that RFC 5737 keeps for examples.
        let addresses: String = addresses
            .map(|endpoint| format!("- addresses: [192.0.2.{}]\n", endpoint + 1))
            .collect();
        text.push_str(&format!(
            "---\n\
             apiVersion: v1\n\
             kind: Service\n\
             metadata: {{name: other-{service}}}\n\
             spec: {{ports: [{{port: 80}}]}}\n\
             ---\n\
             apiVersion: discovery.k8s.io/v1\n\
             kind: EndpointSlice\n\
             metadata: {{name: other-{service}, labels: {{kubernetes.io/service-name: other-{service}}}}}\n\
             addressType: IPv4\n\
             ports: [{{port: 80}}]\n\
             endpoints:\n\
             {addresses}"
        ));
    }
    text
}

fn pss_kib(pid: i32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    field(&text, "Pss:").with_context(|| format!("{path} has no Pss"))
}

/// Voluntary context switches of every thread: each is a wait that a wake-up ends.
fn waits(processes: &[i32]) -> anyhow::Result<BTreeMap<i32, u64>> {
    let mut waits = BTreeMap::new();
    for pid in processes {
        let path = format!("/proc/{pid}/task");
        let threads = fs::read_dir(&path).with_context(|| format!("cannot list {path}"))?;
        // A thread may end between the listing and the reading.
        waits.extend(threads.flatten().filter_map(|thread| {
            let text = fs::read_to_string(thread.path().join("status")).ok()?;
            let number = thread.file_name().to_str()?.parse().ok()?;
            Some((number, field(&text, "voluntary_ctxt_switches:")?))
        }));
    }
    Ok(waits)
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_dealt_out_to_all_services() {
        let text = more_services(3, 7);
        assert_eq!(text.matches("kind: Service\n").count(), 3);
        assert_eq!(text.matches("addresses:").count(), 7);
        assert_eq!(more_services(0, 7), "");
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "Pss:   12 kB\nPss_Anon: 3 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t9\n";
        assert_eq!(field(text, "Pss:"), Some(12));
        assert_eq!(field(text, "voluntary_ctxt_switches:"), Some(7));
        assert_eq!(field(text, "Rss:"), None);
    }
}
