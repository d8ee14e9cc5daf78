//! What of a request decides its route.

/// The head of a request, as far as routes look at it.
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    /// The method; methods are case-sensitive (RFC 9110, section 9.1).
    pub method: &'a [u8],
    /// The path as it was sent, without the query.
    pub path: &'a [u8],
    /// What stands behind the `?`, if one is there.
    pub query: Option<&'a [u8]>,
    /// The fields.
    pub fields: &'a dyn Fields,
}

/// The fields of a head.
pub trait Fields {
    /// The value of the first field line called `name`, which is given in lower case; names are
    /// compared without regard to case.
    ///
    /// Gateway API leaves open what counts where a field is repeated. The first line does, as it
    /// does for parameters of the query.
    fn value(&self, name: &str) -> Option<&[u8]>;
}

impl RequestHead<'_> {
    /// The value of the first parameter called `name`, as it was sent: nothing is decoded, as Envoy
    /// has it, so that what is compared here is what the program behind gets. A parameter without
    /// `=` has the empty value.
    pub(super) fn parameter(&self, name: &[u8]) -> Option<&[u8]> {
        let parameters = self.query?.split(|byte| *byte == b'&');
        let mut values = parameters.filter_map(|parameter| {
            let rest = parameter.strip_prefix(name)?;
            match rest.split_first() {
                None => Some(rest),
                Some((b'=', value)) => Some(value),
                Some(_) => None,
            }
        });
        values.next()
    }
}
