//! The kernel programs as built, one object per feature, so that one refused program takes only its
//! own feature down.

/// One feature of the kernel path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Feature {
    /// Public name.
    pub(crate) name: &'static str,
    /// The compiled object.
    pub(crate) object: &'static [u8],
    /// Where its programs are attached.
    pub(crate) scopes: &'static [Scope],
    /// Whether nothing works without it.
    pub(crate) essential: bool,
    /// What users lose where it cannot be had.
    pub(crate) without: &'static str,
}

/// A place programs are attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// The cgroup above all workloads that `run` makes.
    Workloads,
    /// A cgroup that a Workload object names.
    Joined,
    /// The proxy's cgroup.
    Proxy,
    /// The network namespace of the node.
    Network,
}

macro_rules! object {
    ($name:literal) => {{
        // Aligned, since libbpf reads ELF headers in place.
        #[repr(align(8))]
        struct Aligned<T: ?Sized>(T);
        static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(
            env!("OUT_DIR"),
            "/",
            $name,
            ".bpf.o"
        )));
        &OBJECT.0
    }};
}

/// Tells the proxy whom it serves.
pub(crate) const ORIGIN: &str = "origin";
/// Leads the proxy's own connections to workloads.
pub(crate) const UPSTREAM: &str = "upstream";

/// Says which connections still go directly.
pub(crate) const PINNED: &str = "pinned";
/// Leads callers from outside.
pub(crate) const INBOUND: &str = "inbound";

/// Every feature, in the order in which their programs are to run at a shared hook: name look-ups
/// are led before services are.
pub(crate) static FEATURES: &[Feature] = &[
    Feature {
        name: "resolver",
        object: object!("resolver"),
        scopes: &[Scope::Workloads, Scope::Joined],
        essential: false,
        without: "programs do not resolve the names of services",
    },
    Feature {
        name: "connect",
        object: object!("connect"),
        scopes: &[Scope::Workloads, Scope::Joined],
        essential: true,
        without: "no connection reaches a service",
    },
    Feature {
        name: "ports",
        object: object!("ports"),
        scopes: &[Scope::Workloads, Scope::Joined],
        essential: true,
        without: "replicas cannot share a port",
    },
    Feature {
        name: "sockops",
        object: object!("sockops"),
        scopes: &[Scope::Workloads, Scope::Joined, Scope::Proxy],
        essential: true,
        without: "no endpoint is seen to listen",
    },
    Feature {
        name: "datagram",
        object: object!("datagram"),
        scopes: &[Scope::Workloads, Scope::Joined],
        essential: false,
        without: "UDP sockets that do not connect reach no service",
    },
    Feature {
        name: "multipath",
        object: object!("multipath"),
        scopes: &[Scope::Workloads],
        essential: false,
        without: "programs that use multipath TCP see private ports and replaced addresses",
    },
    Feature {
        name: ORIGIN,
        object: object!("origin"),
        scopes: &[Scope::Proxy],
        essential: false,
        without: "the proxy does not learn whom it serves, and answers nobody",
    },
    Feature {
        name: UPSTREAM,
        object: object!("upstream"),
        scopes: &[Scope::Proxy],
        essential: false,
        without: "the proxy reaches no workload; services that need it go without, or refuse where a rule would not be kept",
    },
    Feature {
        name: INBOUND,
        object: object!("inbound"),
        scopes: &[Scope::Network],
        essential: false,
        without: "private ports are reachable from off the host, and no TCP port can be published or be a Gateway's",
    },
    Feature {
        name: PINNED,
        object: object!("pinned"),
        scopes: &[],
        essential: false,
        without: "status does not say which direct connections are left on ports that go through the proxy",
    },
    Feature {
        name: "seed",
        object: object!("seed"),
        scopes: &[],
        essential: false,
        without: "programs that listened before their cgroup joined are no endpoints until started anew",
    },
];
