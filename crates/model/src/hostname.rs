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

    /// Whether any host is among both.
    pub fn meets(&self, other: &Self) -> bool {
        let is_below = |host: &str, above: &str| {
            let rest = host.strip_suffix(above);
            rest.is_some_and(|rest| rest.ends_with('.'))
        };
        match (self, other) {
            (Self::Exact(host), Self::Exact(same)) => host == same,
            (Self::Exact(host), Self::Below(above)) | (Self::Below(above), Self::Exact(host)) => {
                is_below(host, above)
            }
            (Self::Below(one), Self::Below(other)) => {
                one == other || is_below(one, other) || is_below(other, one)
            }
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

    /// The examples of Gateway API's text on `hostnames` among them.
    #[test]
    fn hosts_in_common() {
        for (one, other, any) in [
            ("a.example.com", "a.example.com", true),
            ("a.example.com", "b.example.com", false),
            ("*.example.com", "test.example.com", true),
            ("*.example.com", "foo.test.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "badexample.com", false),
            ("*.example.com", "*.example.com", true),
            ("*.example.com", "*.a.example.com", true),
            ("*.a.example.com", "*.b.example.com", false),
        ] {
            let [one, other] = [one, other].map(|text| Hostname::new(text).unwrap());
            assert_eq!(one.meets(&other), any, "{one} and {other}");
            assert_eq!(other.meets(&one), any, "{other} and {one}");
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
