//! Routes as they are said: which requests to a service go where. `RouteTable` makes one table of
//! them all.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::{GatewayParent, Hostname, Label, Pattern, Port, RetryPolicy, ServiceName};

/// The full name of a route. Text form: `cart-canary.default`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteName {
    /// Its namespace.
    pub namespace: Label,
    /// Its own name.
    pub name: Label,
}

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

/// A HTTPRoute (Gateway API, `gateway.networking.k8s.io/v1`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRoute {
    /// Its name.
    pub name: RouteName,
    /// The services whose requests it is about.
    pub parents: Vec<RouteParent>,
    /// The Gateways whose requests it is about.
    pub gateways: Vec<GatewayParent>,
    /// The hosts that it is about where requests come in at a Gateway; none is all of the listener's.
    pub hostnames: Vec<Hostname>,
    /// Its rules, in their order.
    pub rules: Vec<HttpRule>,
}

impl HttpRoute {
    /// Most rules of a route, as Gateway API has it.
    pub const MAX_RULES: usize = 16;
    /// Most matches of all rules of a route.
    pub const MAX_MATCHES: usize = 128;
}

/// A TCPRoute (`gateway.networking.k8s.io/v1`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpRoute {
    /// Its name.
    pub name: RouteName,
    /// Whose connections it is about.
    pub parents: Vec<RouteParent>,
    /// Where connections go.
    pub backends: Vec<WeightedBackend>,
}

/// What a route is about: what is sent to a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteParent {
    /// The service.
    pub service: ServiceName,
    /// One port of it; `None` is all.
    pub port: Option<Port>,
}

impl RouteParent {
    /// Most of one route.
    pub const MAX: usize = 32;
}

/// One rule of a HTTPRoute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRule {
    /// Its name, unique in the route. Not all digits: it would read as a rule's number.
    pub name: Option<Label>,
    /// The requests it is about are those of any of these.
    pub matches: Vec<HttpMatch>,
    /// What is done to them.
    pub filters: HttpFilters,
    /// Where they go; nowhere where a filter answers them.
    pub backends: Vec<WeightedBackend>,
    /// How long a request may take, retries included; zero is for ever, `None` what the service's
    /// policy says.
    pub request_timeout: Option<Duration>,
    /// How long one attempt may take; zero and `None` as above.
    pub backend_request_timeout: Option<Duration>,
    /// Which failed requests are sent again (GEP-1731).
    pub retry: Option<RetryPolicy>,
}

impl HttpRule {
    /// Most matches of a rule, as Gateway API has it.
    pub const MAX_MATCHES: usize = 64;
}

/// Requests of a kind: those for which everything here holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpMatch {
    /// The path, without the query.
    pub path: PathMatch,
    /// Fields that must be there.
    pub headers: Vec<ValueMatch>,
    /// Parameters of the query that must be there; of several with one name the first counts.
    pub query: Vec<ValueMatch>,
    /// The method, as it is sent.
    pub method: Option<String>,
}

impl HttpMatch {
    /// Most fields, and most parameters, of one match, as Gateway API has it.
    pub const MAX_VALUES: usize = 16;
}

/// Which paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathMatch {
    /// This one.
    Exact(String),
    /// This one and those below it, element by element: `/a` and `/a/b`, but not `/ab`. Without a
    /// slash at its end, unless it is `/`.
    Prefix(String),
    /// Those that an expression matches from beginning to end.
    Regex(Pattern),
}

/// A name and what stands beside it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ValueMatch {
    /// In lower case where it is a field's.
    pub name: String,
    /// What must stand there.
    pub value: TextMatch,
}

/// Which texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TextMatch {
    /// This one.
    Exact(String),
    /// Those that an expression matches from beginning to end.
    Regex(Pattern),
}

/// A place that requests or connections may go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedBackend {
    /// Which.
    pub backend: Backend,
    /// Share relative to its siblings; 0 gets none.
    pub weight: u32,
}

impl WeightedBackend {
    /// Most backends of one rule, as Gateway API has it.
    pub const MAX: usize = 16;
    /// Largest weight.
    pub const MAX_WEIGHT: u32 = 1_000_000;
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backend {
    /// The service.
    pub service: ServiceName,
    /// Its port.
    pub port: Port,
}

/// The place of a backend in [`crate::RouteTable::backends`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendIndex(pub u32);

/// The place of a rule in [`crate::RouteTable::rules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteIndex(pub u32);

/// What is done to the requests of a rule, and to their responses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpFilters {
    /// To fields of requests.
    pub request: FieldChanges,
    /// To fields of responses.
    pub response: FieldChanges,
    /// What else.
    pub action: Option<HttpAction>,
}

/// Changes to the fields of a head, in the order of this structure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldChanges {
    /// Name, in lower case, and the value that replaces all that are there.
    pub set: Vec<(String, String)>,
    /// Name and a value that comes beside those that are there.
    pub add: Vec<(String, String)>,
    /// Names, in lower case, of which none stays.
    pub remove: Vec<String>,
}

impl FieldChanges {
    /// Most fields set, added, or removed, as Gateway API has it.
    pub const MAX: usize = 16;

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    /// Whether a field of this name, which is in lower case, is set, added or removed.
    pub fn are_about(&self, name: &str) -> bool {
        let put = self.set.iter().chain(&self.add).map(|(name, _)| name);
        put.chain(&self.remove)
            .any(|changed| changed.eq_ignore_ascii_case(name))
    }
}

/// What a rule does beside changing fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpAction {
    /// Answers with another address.
    Redirect(Redirect),
    /// Sends on with another host or path.
    Rewrite(Rewrite),
}

/// Another address that a request is answered with; what is not said stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// Host name.
    pub host: Option<String>,
    /// Path.
    pub path: Option<PathChange>,
    /// Port; `None` is that of `scheme` where that is said, else a Gateway's own, or at a service the
    /// one that the client names in Host.
    pub port: Option<Port>,
    /// One of [`Redirect::STATUSES`].
    pub status: u16,
}

impl Redirect {
    /// Statuses that it may answer with.
    pub const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];
}

/// Another host or path that a request is sent on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The Host field.
    pub host: Option<String>,
    /// The path.
    pub path: Option<PathChange>,
}

/// Another path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathChange {
    /// This one.
    Full(String),
    /// This one in the place of the prefix that was matched. Without a slash at its end, so that it
    /// is empty for `/`; where nothing is left of the whole path, that is `/`.
    Prefix(String),
}
