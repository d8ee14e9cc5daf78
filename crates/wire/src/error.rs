//! Why bytes are no message that may be passed on.

macro_rules! protocol_errors {
    ($($(#[doc = $doc:literal])+ $variant:ident = $status:literal, $section:literal;)+) => {
        /// Why bytes are no message that may be passed on. One cause, one sentence, one place in the
        /// standard.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ProtocolError { $($(#[doc = $doc])+ $variant,)+ }

        impl ProtocolError {
            /// Every cause there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// What a request with this fault is answered. A response with it is a 502 to the client.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// Where the standard says so: RFC and section.
            pub const fn section(self) -> &'static str {
                match self { $(Self::$variant => $section,)+ }
            }

            const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

protocol_errors! {
    /// The head is longer than is allowed.
    HeadTooLarge = 431, "RFC 6585, 5";
    /// The head has more field lines than are allowed.
    TooManyFields = 431, "RFC 6585, 5";
    /// The start line is none of this protocol.
    StartLine = 400, "RFC 9112, 3";
    /// The message has a version other than HTTP/1.0 and HTTP/1.1.
    Version = 505, "RFC 9110, 15.6.6";
    /// The request target has none of the four forms, or one that the method does not go with.
    Target = 400, "RFC 9112, 3.2";
    /// A line ends with a lone LF, or holds a lone CR.
    LineEnding = 400, "RFC 9112, 2.2";
    /// A field is continued on the next line.
    Folding = 400, "RFC 9112, 5.2";
    /// There is white space between a field's name and the colon, or before the first field.
    SpaceInName = 400, "RFC 9112, 5.1";
    /// A field's name or value has bytes that none may have.
    Field = 400, "RFC 9110, 5.5";
    /// The request has no Host field, or more than one.
    HostCount = 400, "RFC 9112, 3.2";
    /// The Host field holds no host.
    Host = 400, "RFC 9110, 7.2";
    /// Content-Length is no number, or several that differ.
    ContentLength = 400, "RFC 9112, 6.3";
    /// Both Content-Length and Transfer-Encoding are there.
    LengthAndCoding = 400, "RFC 9112, 6.3";
    /// The transfer coding is not one that is understood.
    CodingUnknown = 501, "RFC 9112, 6.1";
    /// The transfer codings do not end in chunked, or have it more than once.
    CodingNotLast = 400, "RFC 9112, 6.3";
    /// A message of HTTP/1.0 has a transfer coding.
    CodingInOldVersion = 400, "RFC 9112, 6.1";
    /// Connection names a field that is for every recipient.
    ConnectionOption = 400, "RFC 9110, 7.6.1";
    /// A chunk's size is no hexadecimal number, or too large.
    ChunkSize = 400, "RFC 9112, 7.1";
    /// A chunk's extensions are malformed or longer than is allowed.
    ChunkExtension = 400, "RFC 9112, 7.1.1";
    /// A chunk does not end where its size says.
    ChunkEnd = 400, "RFC 9112, 7.1";
    /// The trailer section is longer than is allowed.
    TrailersTooLarge = 431, "RFC 6585, 5";
    /// A trailer field is one that changes how a message is framed, routed or understood.
    Trailer = 400, "RFC 9110, 6.5.1";
    /// The connection ended amid a message.
    Truncated = 400, "RFC 9112, 8";
}

impl core::fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let sentence = self.sentence().trim().trim_end_matches('.');
        write!(f, "{sentence} ({})", self.section())
    }
}

impl core::error::Error for ProtocolError {}
