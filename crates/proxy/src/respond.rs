//! The one place where a request is answered by the mesh itself.

use selvedge_model::{Port, Reason, Redirect};
use selvedge_resilience::Rejection;
use selvedge_wire::ProtocolError;
use selvedge_wire::http1::{Message, write};

use crate::client::{Asked, Client};
use crate::head::{self, After, Parts};
use crate::request::Next;
use crate::sending::ClientFault;

/// An answer that no endpoint gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The request is refused.
    Refusal {
        reason: Reason,
        status: u16,
        /// What exactly is wrong with what came.
        fault: Option<ProtocolError>,
    },
    /// The request's rule says where to go instead.
    Redirect { status: u16, location: Vec<u8> },
}

impl From<Reason> for Reply {
    fn from(reason: Reason) -> Self {
        Self::Refusal {
            reason,
            status: reason.status().unwrap_or(503),
            fault: None,
        }
    }
}

impl From<ClientFault> for Result<Next, Reply> {
    fn from(fault: ClientFault) -> Self {
        match fault {
            ClientFault::Gone => Ok(Next::Close),
            ClientFault::Stalled => Err(Reason::RequestStalled.into()),
            ClientFault::Malformed(fault) => Err(fault.into()),
        }
    }
}

impl From<Rejection> for Reply {
    fn from(rejection: Rejection) -> Self {
        rejection.reason.into()
    }
}

impl From<ProtocolError> for Reply {
    fn from(fault: ProtocolError) -> Self {
        let reason = match fault.status() {
            431 => Reason::HeadTooLarge,
            501 => Reason::NotImplemented,
            _ => Reason::MalformedRequest,
        };
        Self::Refusal {
            reason,
            status: fault.status(),
            fault: Some(fault),
        }
    }
}

impl Reply {
    /// What a redirecting rule answers (Gateway API, HTTPRequestRedirectFilter): what it does not say
    /// stays as the client sees it, but for a Gateway's port, which is the listener's.
    pub(crate) fn redirect(
        redirect: &Redirect,
        request: &Message<'_>,
        prefix_bytes: usize,
        client: &Client,
    ) -> Self {
        let asked = client.asked;
        let parts = Parts::of(request);
        let scheme = redirect.scheme.as_deref().unwrap_or("http");
        let host = redirect.host.as_deref().map(str::as_bytes);
        let host = host.unwrap_or(parts.host(request));
        let stays = redirect.scheme.is_none() && redirect.port.is_none();
        let address = (host.is_empty() && !stays)
            .then(|| client.reached())
            .flatten();
        let host = address.as_ref().map_or(host, |address| address.as_bytes());
        let path = head::changed_path(parts.path, redirect.path.as_ref(), prefix_bytes);
        let is_usual = |port: Port| matches!((scheme, port.get()), ("http", 80) | ("https", 443));
        let same = match asked {
            // With another scheme comes its usual port, unless one is said.
            _ if redirect.scheme.is_some() => None,
            Asked::Gateway(port) => Some(port),
            // What it was published as nobody but the client knows.
            Asked::Service(..) => parts.port(request),
        };
        let mut location = Vec::new();
        // Who has sent no host is led to the address it has, and where that stays the same gets a path alone
        // (RFC 9110, section 10.2.2).
        if !host.is_empty() {
            location = [scheme.as_bytes(), b"://", host].concat();
            if let Some(port) = redirect.port.or(same).filter(|port| !is_usual(*port)) {
                location.extend_from_slice(format!(":{port}").as_bytes());
            }
        }
        location.extend(path.concat());
        if let Some(query) = parts.query {
            location.push(b'?');
            location.extend_from_slice(query);
        }
        Self::Redirect {
            status: redirect.status,
            location,
        }
    }

    /// What the client is answered.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Refusal { status, .. } | Self::Redirect { status, .. } => *status,
        }
    }

    /// Why it is refused, in the field, the access log and the metrics.
    pub(crate) fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refusal { reason, .. } => Some(*reason),
            Self::Redirect { .. } => None,
        }
    }

    /// Puts the whole response.
    pub(crate) fn write(&self, out: &mut Vec<u8>, after: After, with_body: bool) {
        let (status, body) = match self {
            Self::Refusal {
                status,
                fault: Some(fault),
                ..
            } => (*status, format!("selvedge: {fault}\n")),
            Self::Refusal { status, reason, .. } => (
                *status,
                format!("selvedge: {}\n", reason.explanation().trim()),
            ),
            Self::Redirect { status, .. } => (*status, String::new()),
        };
        write::status_line(out, status, phrase(status));
        match self {
            Self::Refusal { reason, .. } => {
                write::field(out, REASON, reason.word().as_bytes());
                write::field(out, b"content-type", b"text/plain; charset=utf-8");
            }
            Self::Redirect { location, .. } => write::field(out, b"location", location),
        }
        write::field(out, b"content-length", body.len().to_string().as_bytes());
        if after == After::Close {
            write::field(out, b"connection", b"close");
        }
        out.extend_from_slice(b"\r\n");
        if with_body {
            out.extend_from_slice(body.as_bytes());
        }
    }
}

/// The field that says why, on every refusal; it never comes from a program.
const REASON: &[u8] = b"selvedge-reason";

/// RFC 9110, section 15, and RFC 6585; nobody but people reads it.
const fn phrase(status: u16) -> &'static [u8] {
    match status {
        301 => b"Moved Permanently",
        302 => b"Found",
        303 => b"See Other",
        307 => b"Temporary Redirect",
        308 => b"Permanent Redirect",
        400 => b"Bad Request",
        404 => b"Not Found",
        408 => b"Request Timeout",
        431 => b"Request Header Fields Too Large",
        500 => b"Internal Server Error",
        501 => b"Not Implemented",
        502 => b"Bad Gateway",
        503 => b"Service Unavailable",
        504 => b"Gateway Timeout",
        505 => b"HTTP Version Not Supported",
        _ => b"",
    }
}
