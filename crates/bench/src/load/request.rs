//! The requests: made once, with an id of its own put into each before it is sent.

use super::LoadOptions;

/// The field that an id travels in.
pub(crate) const ID_FIELD: &str = "x-bench-id";
/// Hexadecimal digits of an id.
pub(super) const ID_DIGITS: usize = 16;

/// A method that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
}

impl Method {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// A request but for its id.
#[derive(Debug)]
pub(super) struct Template {
    bytes: Vec<u8>,
    id_at: usize,
}

impl Template {
    /// Seven fields of some 200 bytes, as a program's client sends them; of a POST two more.
    pub(super) fn new(options: &LoadOptions, method: Method) -> Self {
        let (name, target) = (method.name(), &options.target);
        let begin = format!("{name} {} HTTP/1.1\r\n{ID_FIELD}: ", target.path);
        let id_at = begin.len();
        let mut text = begin + &"0".repeat(ID_DIGITS) + "\r\n";
        let mut field = |name: &str, value: &str| text += &format!("{name}: {value}\r\n");
        let is_host = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("host");
        if !options.fields.iter().any(|field| is_host(&field)) {
            field("host", &target.authority);
        }
        field(
            "user-agent",
            concat!("selvedge-bench/", env!("CARGO_PKG_VERSION")),
        );
        field("accept", "application/json, text/plain;q=0.9");
        field("accept-encoding", "gzip, br");
        field("accept-language", "en-GB, en;q=0.8");
        field("cache-control", "no-cache");
        if method == Method::Post {
            field("content-type", "application/octet-stream");
            field("content-length", &options.body_bytes.to_string());
        }
        for (name, value) in &options.fields {
            field(name, value);
        }
        let mut bytes = (text + "\r\n").into_bytes();
        if method == Method::Post {
            bytes.resize(bytes.len() + options.body_bytes, b'.');
        }
        Self { bytes, id_at }
    }

    /// The request with this id.
    pub(super) fn with_id(&mut self, id: u64) -> &[u8] {
        self.bytes[self.id_at..self.id_at + ID_DIGITS].copy_from_slice(&digits(id));
        &self.bytes
    }
}

/// An id as it is sent.
pub(super) fn digits(id: u64) -> [u8; ID_DIGITS] {
    std::array::from_fn(|place| {
        let digit = id >> (4 * (ID_DIGITS - 1 - place)) & 0xf;
        b"0123456789abcdef"[digit as usize]
    })
}

#[cfg(test)]
mod tests {
    use selvedge_wire::Limits;
    use selvedge_wire::http1::{Decoder, Event, Framing};

    use super::*;

    fn options() -> LoadOptions {
        let mut options = LoadOptions::new("http://cart:80/items".parse().unwrap());
        options.body_bytes = 7;
        options
    }

    #[test]
    fn a_get_is_of_realistic_size() {
        let mut get = Template::new(&options(), Method::Get);
        let bytes = get.with_id(0x0123_4567_89ab_cdef).to_vec();
        let mut decoder = Decoder::requests(Limits::default());
        let step = decoder.step(&bytes).unwrap();
        assert_eq!(
            (step.consumed, step.event.as_ref()),
            (bytes.len(), Some(&Event::Head))
        );
        let fields: Vec<_> = decoder.message(&bytes, &step).fields().collect();
        let of_fields: usize = fields.iter().map(|field| field.line.len()).sum();
        assert_eq!(fields.len(), 7);
        assert!((180..=220).contains(&of_fields), "{of_fields}");
        assert_eq!(fields[0].value, b"0123456789abcdef");
    }

    #[test]
    fn a_post_has_its_body_and_fields_may_replace_the_host() {
        let mut options = options();
        options.fields = vec![("Host".into(), "shop.example".into())];
        let mut post = Template::new(&options, Method::Post);
        let bytes = post.with_id(1).to_vec();
        let mut decoder = Decoder::requests(Limits::default());
        let step = decoder.step(&bytes).unwrap();
        assert_eq!(decoder.framing(), Framing::Length(7));
        assert_eq!(bytes.len() - step.consumed, 7);
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.contains("\r\nHost: shop.example\r\n") && !text.contains("cart"),
            "{text}"
        );
    }
}
