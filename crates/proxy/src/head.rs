//! Heads as they go further: what came, without what is between two neighbours, changed as the rule
//! says.

use std::io::Write;

use selvedge_model::{FieldChanges, Fields, HttpAction, HttpFilters, PathChange, Port};
use selvedge_wire::http1::{
    Answers, Field, FieldName, Framing, Message, Start, Target, Version, write,
};

use crate::batch::Coding;
use crate::client::Asked;
use crate::request::Next;
use crate::trace::Trace;

/// Fields of the mesh's own begin like this: they never come from programs.
const OWN_PREFIX: &[u8] = b"selvedge-";

/// Whether a field is the mesh's own.
pub(crate) fn is_own(name: &[u8]) -> bool {
    // One letter tells of most that they are not.
    let begins_so = matches!(name, [b's' | b'S', ..]);
    let start = name.get(..OWN_PREFIX.len()).filter(|_| begins_so);
    start.is_some_and(|start| start.eq_ignore_ascii_case(OWN_PREFIX))
}

/// What a request is, as far as its way depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// Repeating it does no more than sending it once (RFC 9110, section 9.2.2).
    pub(crate) is_idempotent: bool,
    /// How answers to it are framed.
    pub(crate) answers: Answers,
    /// It asks for nothing to be changed (RFC 9110, section 9.2.1).
    pub(crate) is_safe: bool,
    /// Its sender sees to that, by an Idempotency-Key that endpoints get too.
    pub(crate) has_key: bool,
    pub(crate) framing: Framing,
    /// Whether its sender goes on using the connection.
    pub(crate) keeps_connection: bool,
    pub(crate) version: Version,
    /// Whether it asks for another protocol on this connection.
    pub(crate) wants_upgrade: bool,
    /// Whether its sender may wait to hear that its body is wanted (RFC 9110, section 10.1.1).
    pub(crate) expects: bool,
}

impl Facts {
    pub(crate) fn of(request: &Message<'_>, framing: Framing) -> Self {
        let version = request.version();
        let method = method(request);
        let lists = |name: &[u8]| {
            let mut options = request.connection_options();
            options.any(|option| option.eq_ignore_ascii_case(name))
        };
        let has_key = request.values(FieldName::IdempotencyKey).next().is_some();
        let mut offers = request.values(FieldName::Upgrade).peekable();
        let offers = offers.peek().is_some() && !offers.any(lists_http2);
        Self {
            is_idempotent: is_idempotent(method),
            answers: Answers::of(method),
            is_safe: matches!(method, b"GET" | b"HEAD" | b"OPTIONS"),
            has_key: has_key && !lists(b"idempotency-key"),
            framing,
            keeps_connection: request.keeps_connection(),
            version,
            expects: framing != Framing::Empty
                && version == Version::Http11
                && request.values(FieldName::Expect).next().is_some(),
            wants_upgrade: offers && version == Version::Http11 && lists(b"upgrade"),
        }
    }

    /// How its body goes to endpoints.
    pub(crate) fn coding(&self) -> Coding {
        match self.framing {
            Framing::Chunked => Coding::Chunked,
            _ => Coding::Plain,
        }
    }
}

/// Whether an Upgrade offers HTTP/2. A server that took it would get requests that nobody here has seen,
/// and RFC 9113 (section 3.1) has done away with it: it is not passed on.
fn lists_http2(offered: &[u8]) -> bool {
    let mut protocols = offered.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    protocols.any(|protocol| {
        let name = protocol
            .split(|byte| *byte == b'/')
            .next()
            .unwrap_or_default();
        name.eq_ignore_ascii_case(b"h2c") || name.eq_ignore_ascii_case(b"h2")
    })
}

/// Methods that are idempotent by definition (RFC 9110, section 9.2.2).
fn is_idempotent(method: &[u8]) -> bool {
    matches!(
        method,
        b"GET" | b"HEAD" | b"PUT" | b"DELETE" | b"OPTIONS" | b"TRACE"
    )
}

pub(crate) fn method<'a>(request: &Message<'a>) -> &'a [u8] {
    match request.start() {
        Start::Request { method, .. } => method,
        Start::Response { .. } => b"",
    }
}

/// The parts of a request's target.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Parts<'a> {
    /// The path; `*` or host and port where the target is no path.
    pub(crate) path: &'a [u8],
    /// What is behind the `?`.
    pub(crate) query: Option<&'a [u8]>,
    /// The authority of a target that has one: it stands above the Host field (RFC 9112, 3.2.2).
    pub(crate) authority: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    /// Of a request whose head was read, so that its target is sound.
    pub(crate) fn of(request: &Message<'a>) -> Self {
        let Start::Request { method, target } = request.start() else {
            return Self::default();
        };
        let (authority, path) = match Target::parse(method, target) {
            Ok(Target::Absolute { authority, path }) => (Some(authority), path),
            Ok(Target::Authority(authority)) => (Some(authority), authority),
            Ok(Target::Origin(_) | Target::Asterisk) | Err(_) => (None, target),
        };
        let (path, query) = match path.iter().position(|byte| *byte == b'?') {
            Some(at) => (&path[..at], Some(&path[at + 1..])),
            None => (path, None),
        };
        let path = match path {
            // A URI without a path is that of the server itself to OPTIONS (RFC 9112, 3.2.4).
            [] if method == b"OPTIONS" && query.is_none() => b"*",
            [] => b"/",
            path => path,
        };
        Self {
            path,
            query,
            authority,
        }
    }

    /// The host that is meant, without its port.
    pub(crate) fn host(&self, request: &Message<'a>) -> &'a [u8] {
        self.host_and_port(request).0
    }

    /// The port that is said beside the host.
    pub(crate) fn port(&self, request: &Message<'a>) -> Option<Port> {
        let digits = self.host_and_port(request).1;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    fn host_and_port(&self, request: &Message<'a>) -> (&'a [u8], &'a [u8]) {
        let host = self
            .authority
            .or_else(|| request.values(FieldName::Host).next());
        let host = host.unwrap_or_default();
        // The colons of an IPv6 address stand in brackets.
        let end = host.iter().position(|byte| *byte == b']').unwrap_or(0);
        match host[end..].iter().position(|byte| *byte == b':') {
            Some(at) => (&host[..end + at], &host[end + at + 1..]),
            None => (host, b""),
        }
    }
}

/// Fields by their names, as routes look at them: none of the mesh's own, which may be forged, and as
/// Host what the request is sent on with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByName<'a> {
    pub(crate) request: Message<'a>,
    pub(crate) authority: Option<&'a [u8]>,
}

impl Fields for ByName<'_> {
    fn value(&self, name: &str) -> Option<&[u8]> {
        if is_own(name.as_bytes()) {
            return None;
        }
        if let Some(authority) = self.authority.filter(|_| name == "host") {
            return Some(authority);
        }
        let mut fields = self.request.fields();
        let found = fields.find(|field| field.name.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|field| field.value)
    }
}

/// Puts the head of a request as it goes to an endpoint, but for the empty line at its end. Its connection
/// was made to what was `asked`, and `says_time` is whether the time that is left is said in it.
pub(crate) fn write_request(
    out: &mut Vec<u8>,
    request: &Message<'_>,
    filters: &HttpFilters,
    prefix_bytes: usize,
    trace: &Trace,
    asked: Asked,
    says_time: bool,
) {
    let parts = Parts::of(request);
    let rewrite = match &filters.action {
        Some(HttpAction::Rewrite(rewrite)) => Some(rewrite),
        _ => None,
    };
    let path = changed_path(
        parts.path,
        rewrite.and_then(|it| it.path.as_ref()),
        prefix_bytes,
    );
    let query = parts.query.map_or([&b""[..], b""], |query| [b"?", query]);
    write::request_line(
        out,
        method(request),
        &[path[0], path[1], query[0], query[1]],
    );
    let host = rewrite.and_then(|it| it.host.as_deref()).map(str::as_bytes);
    let host = host.or(parts.authority);
    if let Some(host) = host {
        write::field(out, b"host", host);
    } else if request.values(FieldName::Host).next().is_none() {
        // HTTP/1.0 lets it be missing, HTTP/1.1 does not; what was asked for is then the connection's
        // address (RFC 9112, sections 3.2 and 3.3). A Gateway has many: then it is empty.
        out.extend_from_slice(b"host: ");
        if let Asked::Service(address, port) = asked {
            match port.get() {
                80 => write!(out, "{address}"),
                port => write!(out, "{address}:{port}"),
            }
            .expect("memory takes everything");
        }
        out.extend_from_slice(b"\r\n");
    }
    let replaced = |field: &Field<'_>| match field.known {
        FieldName::Host => host.is_some(),
        // Another trace has another state (W3C Trace Context, sections 3.3 and 4).
        FieldName::Traceparent | FieldName::Tracestate => !trace.came(),
        // What is left is said anew.
        FieldName::GrpcTimeout => says_time,
        // Who speaks HTTP/1.0 expects nothing (RFC 9110, section 10.1.1).
        FieldName::Expect => request.version() == Version::Http10,
        _ => false,
    };
    write_fields(out, request, &filters.request, replaced);
}

/// The path with its prefix of so many bytes, or all of it, exchanged: in two parts.
pub(crate) fn changed_path<'a>(
    path: &'a [u8],
    change: Option<&'a PathChange>,
    prefix_bytes: usize,
) -> [&'a [u8]; 2] {
    match change {
        None => [path, b""],
        Some(PathChange::Full(full)) => [full.as_bytes(), b""],
        Some(PathChange::Prefix(new)) => {
            // Begins with a slash where it is not empty: prefixes end before one.
            let rest = path.get(prefix_bytes..).unwrap_or_default();
            match (new.as_bytes(), rest) {
                ([], []) => [b"/", b""],
                (new, []) => [new, b""],
                (new, rest) => [new.strip_suffix(b"/").unwrap_or(new), rest],
            }
        }
    }
}

/// Puts the fields of a head that go further, and those that the rule adds.
fn write_fields(
    out: &mut Vec<u8>,
    message: &Message<'_>,
    changes: &FieldChanges,
    replaced: impl Fn(&Field<'_>) -> bool,
) {
    let is_changed = |field: &Field<'_>| {
        let set = changes.set.iter().map(|(name, _)| name);
        set.chain(&changes.remove)
            .any(|name| name.as_bytes().eq_ignore_ascii_case(field.name))
    };
    write::end_to_end_fields(out, message, |field| {
        !replaced(field) && !is_own(field.name) && !is_changed(field)
    });
    let removed = |name: &String| {
        changes
            .remove
            .iter()
            .any(|it| it.eq_ignore_ascii_case(name))
    };
    for (name, value) in changes.set.iter().chain(&changes.add) {
        if !removed(name) {
            write::field(out, name.as_bytes(), value.as_bytes());
        }
    }
}

/// Puts how the body of `message` is framed for a receiver of this version, and says how it goes out.
pub(crate) fn write_framing(
    out: &mut Vec<u8>,
    message: &Message<'_>,
    framing: Framing,
    receiver: Version,
) -> Coding {
    match framing {
        // What it says of a body that is not there means something to POST, HEAD and 304 (RFC 9110,
        // section 8.6). Several lengths are one, or the head would not have been read.
        Framing::Empty if is_no_content(message) => {}
        Framing::Empty => {
            if let Some(length) = message.values(FieldName::ContentLength).next() {
                let length = length.split(|byte| *byte == b',').next();
                write::field(
                    out,
                    b"content-length",
                    length.unwrap_or_default().trim_ascii(),
                );
            }
        }
        Framing::Length(length) => write_length(out, length),
        Framing::Chunked | Framing::UntilClose if receiver == Version::Http11 => {
            write::field(out, b"transfer-encoding", b"chunked");
            return Coding::Chunked;
        }
        Framing::Chunked | Framing::UntilClose | Framing::Tunnel => {}
    }
    Coding::Plain
}

/// 204 never has a length (RFC 9110, section 8.6).
fn is_no_content(message: &Message<'_>) -> bool {
    matches!(message.start(), Start::Response { status: 204, .. })
}

fn write_length(out: &mut Vec<u8>, length: u64) {
    const LONGEST: usize = 20;
    let mut digits = [0; LONGEST];
    let mut start = LONGEST;
    let mut left = length;
    loop {
        start -= 1;
        digits[start] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    write::field(out, b"content-length", &digits[start..]);
}

/// Puts the fields that stay between two neighbours where another protocol is asked for or begins.
pub(crate) fn write_upgrade(out: &mut Vec<u8>, message: &Message<'_>) {
    write::field(out, b"connection", b"upgrade");
    for value in message.values(FieldName::Upgrade) {
        write::field(out, b"upgrade", value);
    }
}

/// What becomes of the client's connection behind a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Keep,
    Close,
}

impl From<After> for Next {
    fn from(after: After) -> Self {
        match after {
            After::Keep => Self::Keep,
            After::Close => Self::Close,
        }
    }
}

/// Puts the head of a final response as it goes to the client, whole. Gives how its body goes out,
/// and what becomes of the connection: it ends with a body whose end nothing else shows.
pub(crate) fn write_response(
    out: &mut Vec<u8>,
    response: &Message<'_>,
    framing: Framing,
    filters: &HttpFilters,
    request: &Facts,
    after: After,
) -> (Coding, After) {
    let Start::Response { status, reason } = response.start() else {
        return (Coding::Plain, After::Close);
    };
    write::status_line(out, status, reason);
    write_fields(out, response, &filters.response, |_| false);
    let coding = write_framing(out, response, framing, request.version);
    let endless = matches!(framing, Framing::Chunked | Framing::UntilClose);
    let after = match endless && coding == Coding::Plain {
        true => After::Close,
        false => after,
    };
    match (framing, after, request.version) {
        (Framing::Tunnel, ..) if status == 101 => write_upgrade(out, response),
        (Framing::Tunnel, ..) | (_, After::Keep, Version::Http11) => {}
        (_, After::Keep, Version::Http10) => write::field(out, b"connection", b"keep-alive"),
        (_, After::Close, _) => write::field(out, b"connection", b"close"),
    }
    out.extend_from_slice(b"\r\n");
    (coding, after)
}

/// Puts an interim response (1xx), whole.
pub(crate) fn write_interim(out: &mut Vec<u8>, response: &Message<'_>) {
    if let Start::Response { status, reason } = response.start() {
        write::status_line(out, status, reason);
        write_fields(out, response, &FieldChanges::default(), |_| false);
        out.extend_from_slice(b"\r\n");
    }
}
