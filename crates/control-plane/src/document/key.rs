//! What identifies an object: kind, namespace and name.

use std::fmt;

use selvedge_model::Label;

/// The kinds of object there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1/Service`.
    Service,
    /// `discovery.k8s.io/v1/EndpointSlice`.
    EndpointSlice,
    /// `selvedge.dev/v1alpha1/Workload`.
    Workload,
    /// `gateway.networking.k8s.io/v1/Gateway`.
    Gateway,
    /// `gateway.networking.k8s.io/v1/HTTPRoute`.
    HttpRoute,
    /// `gateway.networking.k8s.io/v1/TCPRoute`.
    TcpRoute,
    /// `selvedge.dev/v1alpha1/TrafficPolicy`.
    TrafficPolicy,
    /// `selvedge.dev/v1alpha1/ServiceObjective`.
    ServiceObjective,
    /// `selvedge.dev/v1alpha1/RunPermission`.
    RunPermission,
}

impl Kind {
    /// Every kind, in the order they are listed.
    pub const ALL: [Self; 9] = [
        Self::Service,
        Self::EndpointSlice,
        Self::Workload,
        Self::Gateway,
        Self::HttpRoute,
        Self::TcpRoute,
        Self::TrafficPolicy,
        Self::ServiceObjective,
        Self::RunPermission,
    ];

    /// The word in a document's `kind`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Workload => "Workload",
            Self::Gateway => "Gateway",
            Self::HttpRoute => "HTTPRoute",
            Self::TcpRoute => "TCPRoute",
            Self::TrafficPolicy => "TrafficPolicy",
            Self::ServiceObjective => "ServiceObjective",
            Self::RunPermission => "RunPermission",
        }
    }

    /// The text in a document's `apiVersion`, as it is written.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::Service => "v1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
            Self::Gateway | Self::HttpRoute | Self::TcpRoute => "gateway.networking.k8s.io/v1",
            Self::Workload | Self::TrafficPolicy | Self::ServiceObjective | Self::RunPermission => {
                "selvedge.dev/v1alpha1"
            }
        }
    }

    /// Earlier texts of `apiVersion` that mean the same and are read too.
    pub const fn earlier_api_versions(self) -> &'static [&'static str] {
        match self {
            Self::Gateway | Self::HttpRoute => &["gateway.networking.k8s.io/v1beta1"],
            Self::TcpRoute => &["gateway.networking.k8s.io/v1alpha2"],
            _ => &[],
        }
    }

    /// Reads the word, its plural or lower case, or a usual short form, as people type it.
    pub fn from_typed(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let singular = match lower.as_str() {
            "svc" => "service",
            "wl" => "workload",
            "eps" => "endpointslice",
            "trafficpolicies" => "trafficpolicy",
            other => other.strip_suffix('s').unwrap_or(other),
        };
        Self::ALL
            .into_iter()
            .find(|kind| kind.word().to_ascii_lowercase() == singular)
    }

    /// Whether objects of this kind live in a namespace.
    pub const fn is_namespaced(self) -> bool {
        !matches!(self, Self::RunPermission)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What identifies an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; `None` for kinds that have none.
    pub namespace: Option<Label>,
    /// Its name.
    pub name: String,
}

impl ObjectKey {
    /// The key of an object in a namespace.
    pub fn new(kind: Kind, namespace: &Label, name: impl Into<String>) -> Self {
        let namespace = kind.is_namespaced().then(|| namespace.clone());
        Self {
            kind,
            namespace,
            name: name.into(),
        }
    }

    /// The namespace; `default` for kinds that have none.
    pub fn namespace_or_default(&self) -> Label {
        self.namespace
            .clone()
            .unwrap_or_else(Label::default_namespace)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}
