//! How much a peer may send before it has said anything whole.

/// Bounds of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, its start line and the empty line included.
    pub head_bytes: usize,
    /// Field lines of a head or of a trailer section; at most [`Limits::MOST_FIELDS`].
    pub fields: usize,
    /// Bytes of a chunk's extensions.
    pub chunk_extension_bytes: usize,
    /// Bytes of a trailer section.
    pub trailer_bytes: usize,
}

impl Limits {
    /// Most field lines that can be allowed.
    pub const MOST_FIELDS: usize = 128;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // RFC 9112, section 3, wants request lines of 8000 bytes to be taken; cookies come on top.
            head_bytes: 32 << 10,
            fields: 100,
            // Nobody sends any; some attacks do.
            chunk_extension_bytes: 64,
            trailer_bytes: 4 << 10,
        }
    }
}
