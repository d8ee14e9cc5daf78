//! Hosts that a Gateway's listeners and HTTPRoutes are about.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;

use crate::http_text::is_host_name;

/// A host, or all below one, as Gateway API writes it: `shop.example.com`, `*.example.com`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hostname {
    /// This one.
    Exact(String),
    /// Every one below this, at any depth, but not this one itself.
    Below(String),
}

impl Hostname {
    /// Most hostnames of one route, as Gateway API has it.
    pub const MAX: usize = 16;

    /// Reads the text form; `None` where it is no name of a host in lower case.
    pub fn new(text: &str) -> Option<Self> {
        let (host, make): (_, fn(String) -> Self) = match text.strip_prefix("*.") {
            Some(above) => (above, Self::Below),
            None => (text, Self::Exact),
        };
        is_host_name(host).then(|| make(host.to_owned()))
    }

    /// The hosts that are among both; `None` where there is none.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let is_below = |host: &str, above: &str| {
            let rest = host.strip_suffix(above);
            rest.is_some_and(|rest| rest.ends_with('.'))
        };
        let (one, two) = (self, other);
        match (one, two) {
            (Self::Exact(host), Self::Exact(same)) if host == same => Some(one.clone()),
            (Self::Exact(host), Self::Below(above)) if is_below(host, above) => Some(one.clone()),
            (Self::Below(above), Self::Exact(host)) if is_below(host, above) => Some(two.clone()),
            (Self::Below(deep), Self::Below(above)) if deep == above || is_below(deep, above) => {
                Some(one.clone())
            }
            (Self::Below(above), Self::Below(deep)) if is_below(deep, above) => Some(two.clone()),
            _ => None,
        }
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Below(above) => write!(f, "*.{above}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    /// The examples of Gateway API's text on `hostnames` among them.
    #[test]
    fn hosts_in_common() {
        for (one, other, common) in [
            ("a.example.com", "a.example.com", Some("a.example.com")),
            ("a.example.com", "b.example.com", None),
            (
                "*.example.com",
                "test.example.com",
                Some("test.example.com"),
            ),
            (
                "*.example.com",
                "foo.test.example.com",
                Some("foo.test.example.com"),
            ),
            ("*.example.com", "example.com", None),
            ("*.example.com", "badexample.com", None),
            ("*.example.com", "*.example.com", Some("*.example.com")),
            ("*.example.com", "*.a.example.com", Some("*.a.example.com")),
            ("*.a.example.com", "*.b.example.com", None),
        ] {
            let [one, other] = [one, other].map(|text| Hostname::new(text).unwrap());
            let common = common.map(ToString::to_string);
            for (one, other) in [(&one, &other), (&other, &one)] {
                let found = one.intersect(other).map(|host| host.to_string());
                assert_eq!(found, common, "{one} and {other}");
            }
        }
    }

    #[test]
    fn what_is_no_hostname() {
        for text in [
            "",
            "*",
            "*.",
            "a.*.b",
            "A.example.com",
            "10.0.0.1",
            "a:80",
            "**.a",
        ] {
            assert_eq!(Hostname::new(text), None, "{text}");
        }
    }
}
