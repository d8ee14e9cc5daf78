//! What the user may choose.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// The kernel path against no mesh: latency, CPU per connect, datagrams.
    Direct,
    /// Look-ups against dnsmasq and unbound.
    Names,
    /// Connections while a replica is killed every second.
    Replicas,
    /// Connections and look-ups while agent and proxy are killed and come back.
    Restart,
    /// A connection limit under abuse.
    Limit,
    /// 5,000 services with 20,000 endpoints.
    Scale,
    /// Memory and wake-ups of a mesh that has nothing to do.
    Idle,
    /// HTTP requests against nginx, HAProxy and Envoy.
    Proxy,
    /// HTTP requests while replicas, and the proxy, are killed.
    Losses,
}

impl Measure {
    /// Every measure, in the order in which they run.
    pub const ALL: [Self; 9] = [
        Self::Direct,
        Self::Names,
        Self::Replicas,
        Self::Restart,
        Self::Limit,
        Self::Scale,
        Self::Idle,
        Self::Proxy,
        Self::Losses,
    ];

    /// The word for it on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Names => "names",
            Self::Replicas => "replicas",
            Self::Restart => "restart",
            Self::Limit => "limit",
            Self::Scale => "scale",
            Self::Idle => "idle",
            Self::Proxy => "proxy",
            Self::Losses => "losses",
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownMeasure(String);

impl fmt::Display for UnknownMeasure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Measure::ALL.map(Measure::name).join(", ");
        write!(f, "no measure is called `{}`; there are {known}", self.0)
    }
}

impl std::error::Error for UnknownMeasure {}

impl FromStr for Measure {
    type Err = UnknownMeasure;

    fn from_str(text: &str) -> Result<Self, UnknownMeasure> {
        let found = Self::ALL.into_iter().find(|measure| measure.name() == text);
        found.ok_or_else(|| UnknownMeasure(text.to_owned()))
    }
}

/// A proxy of others that ours is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// nginx
    Nginx,
    /// HAProxy
    Haproxy,
    /// Envoy
    Envoy,
}

impl Proxy {
    /// Every one, from the cheapest to the dearest as a rule.
    pub const ALL: [Self; 3] = [Self::Nginx, Self::Haproxy, Self::Envoy];

    /// The word for it on the command line, which is also its program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
        }
    }
}

impl FromStr for Proxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|proxy| proxy.name() == text);
        let known = Self::ALL.map(Self::name).join(", ");
        found.ok_or_else(|| format!("no proxy is called `{text}` here; there are {known}"))
    }
}

/// What to measure, and how long.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// What to measure; empty means everything.
    pub measures: Vec<Measure>,
    /// Interleaved rounds of each comparison, at least 1; [`Self::ROUNDS`] where absent, and of
    /// `proxy`, whose rounds are long, [`Self::LONG_ROUNDS`].
    pub rounds: Option<u32>,
    /// What `proxy` compares with.
    pub proxies: Vec<Proxy>,
    /// Only show in seconds that each measure works; its figures mean nothing then.
    pub quick: bool,
    /// Where to write the same figures as JSON.
    pub json: Option<PathBuf>,
    /// Decides every random order; drawn from the clock where absent. It is part of the report.
    pub seed: Option<u64>,
    /// The `selvedge` binary to measure; the running one where absent.
    pub program: Option<PathBuf>,
}

impl BenchOptions {
    /// Rounds unless told otherwise.
    pub const ROUNDS: u32 = 24;
    /// Rounds of `proxy` unless told otherwise.
    pub const LONG_ROUNDS: u32 = 5;
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self {
            measures: Vec::new(),
            rounds: None,
            proxies: Proxy::ALL.to_vec(),
            quick: false,
            json: None,
            seed: None,
            program: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measure_is_found_by_its_name() {
        for measure in Measure::ALL {
            assert_eq!(measure.name().parse(), Ok(measure));
        }
        let error = "latency".parse::<Measure>().unwrap_err().to_string();
        assert!(error.contains("`latency`") && error.contains("direct, names"));
    }
}
