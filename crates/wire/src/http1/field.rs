//! Field names that mean something to a proxy.

/// A field's name, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldName {
    /// `Connection`
    Connection,
    /// `Content-Length`
    ContentLength,
    /// `Expect`
    Expect,
    /// `Grpc-Timeout` ("gRPC over HTTP2")
    GrpcTimeout,
    /// `Host`
    Host,
    /// `Idempotency-Key`
    IdempotencyKey,
    /// `Keep-Alive`
    KeepAlive,
    /// `Priority` (RFC 9218)
    Priority,
    /// `Proxy-Authenticate`
    ProxyAuthenticate,
    /// `Proxy-Authorization`
    ProxyAuthorization,
    /// `Proxy-Connection`, which no standard has
    ProxyConnection,
    /// `TE`
    Te,
    /// `Traceparent` (W3C Trace Context)
    Traceparent,
    /// `Tracestate` (W3C Trace Context)
    Tracestate,
    /// `Trailer`
    Trailer,
    /// `Transfer-Encoding`
    TransferEncoding,
    /// `Upgrade`
    Upgrade,
    /// `X-Request-Id`, which no standard has
    XRequestId,
    /// Any other.
    Other,
}

impl FieldName {
    /// Recognises a name in whatever case.
    pub fn of(name: &[u8]) -> Self {
        let Some(first) = name.first() else {
            return Self::Other;
        };
        // Length and first letter leave one candidate at most.
        let (known, this): (&[u8], Self) = match (name.len(), first.to_ascii_lowercase()) {
            (2, b't') => (b"te", Self::Te),
            (4, b'h') => (b"host", Self::Host),
            (6, b'e') => (b"expect", Self::Expect),
            (7, b't') => (b"trailer", Self::Trailer),
            (7, b'u') => (b"upgrade", Self::Upgrade),
            (8, b'p') => (b"priority", Self::Priority),
            (10, b'c') => (b"connection", Self::Connection),
            (10, b't') => (b"tracestate", Self::Tracestate),
            (10, b'k') => (b"keep-alive", Self::KeepAlive),
            (11, b't') => (b"traceparent", Self::Traceparent),
            (12, b'g') => (b"grpc-timeout", Self::GrpcTimeout),
            (12, b'x') => (b"x-request-id", Self::XRequestId),
            (14, b'c') => (b"content-length", Self::ContentLength),
            (15, b'i') => (b"idempotency-key", Self::IdempotencyKey),
            (16, b'p') => (b"proxy-connection", Self::ProxyConnection),
            (17, b't') => (b"transfer-encoding", Self::TransferEncoding),
            (18, b'p') => (b"proxy-authenticate", Self::ProxyAuthenticate),
            (19, b'p') => (b"proxy-authorization", Self::ProxyAuthorization),
            _ => return Self::Other,
        };
        match known.eq_ignore_ascii_case(name) {
            true => this,
            false => Self::Other,
        }
    }

    /// A bit of its own.
    pub(super) const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Whether it is between two neighbours and never passed on (RFC 9110, section 7.6.1).
    pub const fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
                | Self::ProxyConnection
                | Self::Te
                | Self::TransferEncoding
                | Self::Upgrade
        )
    }
}

/// Fields that must not come after the body, since they change how a message is framed, routed,
/// authorised or understood (RFC 9110, section 6.5.1).
pub(super) fn is_forbidden_in_trailers(name: &[u8]) -> bool {
    const FORBIDDEN: [&[u8]; 14] = [
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"cookie",
        b"forwarded",
        b"if-match",
        b"if-none-match",
        b"location",
        b"max-forwards",
        b"range",
        b"set-cookie",
        b"x-forwarded-for",
    ];
    FieldName::of(name) != FieldName::Other
        || FORBIDDEN
            .iter()
            .any(|forbidden| forbidden.eq_ignore_ascii_case(name))
}
